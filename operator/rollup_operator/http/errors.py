"""Every error that the endpoint answers, in Elasticsearch's envelope and with Elasticsearch's texts."""

from collections.abc import Mapping, Sequence
from typing import Any

from rollup_operator.model.base import GROUP

Cause = Mapping[str, Any]
"""Type and reason of an error, and perhaps what caused it in turn."""

MAX_ROOT_CAUSES = 10
"""An error of all jobs lists no more single causes than this."""


class ApiError(Exception):
    """An answer that is not 200: HTTP status, Elasticsearch's type and reason, what lies behind it, extra headers.

    `in_doubt` marks an answer after which a client may send the same call again, although the state that it asked for
    stands, or may stand.
    """

    def __init__(
        self,
        status: int,
        type_: str,
        reason: str,
        *,
        caused_by: Cause | None = None,
        headers: Mapping[str, str] | None = None,
        root_causes: Sequence[Cause] = (),
        closes: bool = False,
        in_doubt: bool = False,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.type = type_
        self.reason = reason
        self.caused_by = caused_by
        self.headers = dict(headers or {})
        self.closes = closes
        """Whether the connection ends with this answer."""
        self.in_doubt = in_doubt
        self._root_causes = tuple(root_causes)

    @property
    def cause(self) -> Cause:
        """The error as a root cause of another one."""
        return {"type": self.type, "reason": self.reason}

    def envelope(self) -> dict[str, Any]:
        """Return the body of the answer."""
        error: dict[str, Any] = {
            "root_cause": list(self._root_causes or (self.cause,)),
            "type": self.type,
            "reason": self.reason,
        }
        if self.caused_by is not None:
            error["caused_by"] = self.caused_by
        return {"error": error, "status": self.status}


def illegal_argument(reason: str) -> ApiError:
    """400: a parameter, a body or a header that cannot be used."""
    return ApiError(400, "illegal_argument_exception", reason)


def job_not_found(job_id: str) -> ApiError:
    """404 of start and stop."""
    return ApiError(404, "resource_not_found_exception", f"Task for Rollup Job [{job_id}] not found")


def ambiguous(job_id: str, count: int) -> ApiError:
    """500: several jobs have this id, so it is not known which one is meant. Nothing was changed."""
    return ApiError(
        500,
        "failed_node_exception",
        f"Found more than one matching task for rollup job [{job_id}] when there should only be one.",
        caused_by={
            "type": "illegal_state_exception",
            "reason": f"{count} RollupJobs of the namespace have this id; nothing was changed. Stop or start them with "
            "_all or kubectl, delete them with kubectl, and give each an id of its own in spec.jobId",
        },
    )


def cannot(verb: str, job_id: str, state: str, *, new: bool = False) -> ApiError:
    """500: the state forbids it. `verb` is start or stop; `new`: the state came about after the job was looked at."""
    was = "new state was" if new else "state was"
    return ApiError(500, "exception", f"Cannot {verb} task for Rollup Job [{job_id}] because {was} [{state}]")


def update_failed(job_id: str, state: str, why: str) -> ApiError:
    """500: the API server refused to record the desired state. Nothing was changed."""
    return ApiError(
        500, "exception", _update_text(job_id, state), caused_by={"type": "status_exception", "reason": why}
    )


def outcome_unknown(job_id: str, state: str, why: str) -> ApiError:
    """500: whether the state was recorded is not known. Not 503: clients would repeat a write that may stand."""
    return ApiError(
        500,
        "exception",
        _update_text(job_id, state),
        caused_by={
            "type": "timeout_exception",
            "reason": f"It is not known whether the state was recorded: {why}. Look at the job before asking again",
        },
        in_doubt=True,
    )


def _update_text(job_id: str, state: str) -> str:
    return f"Error while updating state for rollup job [{job_id}] to [{state.upper()}]."


def unavailable(why: str, *, closes: bool = False) -> ApiError:
    """503: nothing was changed and asking again is safe."""
    return ApiError(503, "master_not_discovered_exception", why, headers={"Retry-After": "1"}, closes=closes)


def stop_timed_out(
    job_id: str, timeout: str, state: str | None, *, asked: int | None, observed: int, status: int = 500
) -> ApiError:
    """500 or 429: the wait is over, the stop is not undone.

    `state` is what to tell of it, if anything. `asked` and `observed` are generations; `asked` is None while it is not
    known whether the stop is recorded.
    """
    told = "" if state is None else f". State was [{state.upper()}]"
    return ApiError(
        status,
        "timeout_exception",
        f"Timed out after [{timeout}] while waiting for rollup job [{job_id}] to stop{told}",
        caused_by=_recorded(asked, observed),
        in_doubt=True,
    )


def shutting_down(job_id: str, state: str, *, asked: int, observed: int) -> ApiError:
    """500: the wait ends because this process does; the stop is not undone."""
    return ApiError(
        500,
        "timeout_exception",
        f"Shutting down while waiting for rollup job [{job_id}] to stop. State was [{state.upper()}]",
        caused_by=_recorded(asked, observed),
        in_doubt=True,
    )


def waiting_failed(job_id: str, state: str) -> ApiError:
    """500: a mistake of ours while waiting; the stop is not undone."""
    return ApiError(
        500,
        "timeout_exception",
        f"Encountered unexpected error while waiting for rollup job [{job_id}] to stop.  State was [{state.upper()}].",
        in_doubt=True,
    )


def _recorded(asked: int | None, observed: int) -> Cause:
    reason = (
        "The API server has not answered yet, so it is not known whether the stop is recorded; the write goes on. "
        "Look at the job before asking again"
        if asked is None
        else f"The stop is recorded as generation [{asked}] and stands; "
        f"the operator has reported on generation [{observed}]"
    )
    return {"type": "exception", "reason": reason}


def overtaken(job_id: str, *, asked: int, by: int) -> ApiError:
    """409: somebody asked for a start after this stop, so waiting for it is pointless."""
    return ApiError(
        409,
        "status_exception",
        f"Stop of rollup job [{job_id}] (generation [{asked}]) was overtaken by a newer start (generation [{by}])",
    )


def repeated(job_id: str, state: str, *, by: int) -> ApiError:
    """409: the call repeats one that has been overtaken. Nothing was changed. `state` is what it asks for."""
    verb, newer = ("Stop", "start") if state == "stopped" else ("Start", "stop")
    return ApiError(
        409,
        "status_exception",
        f"{verb} of rollup job [{job_id}] arrived again after a newer {newer} (generation [{by}]); "
        "nothing was changed. If it is meant for the job as it is now, send it once more",
    )


def of_all(failed: Sequence[ApiError], total: int) -> ApiError:
    """One error for a call on all jobs of a namespace.

    It is a 503 only when every job failed with one, since only then nothing was changed.
    """
    repeatable = len(failed) == total and all(e.status == 503 for e in failed)
    worst = next((e for e in failed if e.status != 503), failed[0])
    return ApiError(
        worst.status if repeatable or worst.status != 503 else 500,
        worst.type,
        worst.reason
        if len(failed) == 1
        else f"{len(failed)} of {total} rollup jobs failed, the first with: {worst.reason}",
        caused_by=worst.caused_by,
        headers=worst.headers if repeatable else None,
        root_causes=[e.cause for e in failed[:MAX_ROOT_CAUSES]],
    )


def no_such_route(method: str, path: str) -> ApiError:
    """404: no handler under this path."""
    return ApiError(404, "resource_not_found_exception", f"no handler found for uri [{path}] and method [{method}]")


def method_not_allowed(method: str, path: str, allowed: Sequence[str]) -> ApiError:
    """405, with the methods that the path takes."""
    methods = sorted(allowed)
    return ApiError(
        405,
        "method_not_allowed_exception",
        f"Incorrect HTTP method for uri [{path}] and method [{method}], allowed: [{', '.join(methods)}]",
        headers={"Allow": ", ".join(methods)},
    )


def unsupported_type(given: str) -> ApiError:
    """406, as Elasticsearch answers it: a body that says it is no JSON."""
    return ApiError(406, "media_type_header_exception", f"Content-Type header [{given}] is not supported")


def unsupported_encoding(given: str = "") -> ApiError:
    """415: a body that is compressed in a way that is not offered."""
    told = f" [{given}]" if given else ""
    return ApiError(415, "media_type_header_exception", f"Content-Encoding header{told} is not supported; use gzip")


def not_expected(given: str) -> ApiError:
    """417: `Expect` asks for what is not offered."""
    return ApiError(417, "illegal_argument_exception", f"Expect header [{given}] is not supported; use 100-continue")


def not_acceptable(given: str) -> ApiError:
    """406: the client takes no JSON."""
    return ApiError(406, "media_type_header_exception", f"Accept header [{given}] is not supported; take JSON")


def wrong_version(header: str, given: str, version: str, known: Sequence[str]) -> ApiError:
    """400: a header asks for a version that is not spoken."""
    why = f"{header} version must be one of [{', '.join(known)}], but found [{version}]. {header}={given}"
    return ApiError(
        400,
        "media_type_header_exception",
        f"Invalid media-type value on headers [{header}]",
        caused_by={"type": "status_exception", "reason": why},
    )


def unreadable_body(encoding: str) -> ApiError:
    """400: a body that ends early, or is not compressed as it says."""
    told = f" as [{encoding}]" if encoding else ""
    return ApiError(400, "illegal_argument_exception", f"The body cannot be read{told}", closes=True)


def missing_credentials(path: str) -> ApiError:
    """401: the request does not say who sends it."""
    return _unauthenticated(f"missing authentication credentials for REST request [{path}]")


def bad_credentials() -> ApiError:
    """401: the API server does not know the caller by what was sent."""
    return _unauthenticated(
        "unable to authenticate with provided credentials and anonymous access is not allowed for this request"
    )


def _unauthenticated(reason: str) -> ApiError:
    return ApiError(
        401,
        "security_exception",
        f"{reason}; send [Authorization: Bearer <token>] with the token of a Kubernetes user or service account",
        headers={"WWW-Authenticate": 'Bearer realm="rollup-operator"'},
        # Strangers hold no connections.
        closes=True,
    )


def unauthorized(action: str, user: str, rights: str, namespace: str) -> ApiError:
    """403: the caller lacks every one of the rights that would do. The job is not named: it may not even exist."""
    return ApiError(
        403,
        "security_exception",
        f"action [{action}] is unauthorized for user [{user}], this action is granted by the Kubernetes right to "
        f"{rights} in API group [{GROUP}] and namespace [{namespace}]",
    )


def too_many_waits(user: str, most: int) -> ApiError:
    """429: the caller's places to wait in are taken. Nothing was changed."""
    return ApiError(
        429,
        "es_rejected_execution_exception",
        f"[{most}] calls of user [{user}] wait already, which is the limit; nothing was changed. "
        "A stop without [wait_for_completion] needs no place",
    )


def too_large(most: int) -> ApiError:
    """413: nobody reads so much."""
    return ApiError(
        413, "content_too_long_exception", f"the body is larger than the limit of [{most}] bytes", closes=True
    )


def too_slow(seconds: float) -> ApiError:
    """408: the body has not come."""
    return ApiError(408, "timeout_exception", f"the body has not arrived within [{seconds:g}s]", closes=True)


def too_long(line: int, header: int) -> ApiError:
    """400: a request line or a header that nobody reads to its end."""
    return ApiError(
        400,
        "too_long_http_line_exception",
        f"the request line is larger than [{line}] bytes, or a header is larger than [{header}] bytes",
    )


def internal() -> ApiError:
    """500: a mistake of ours. What went wrong is in the log, not in the answer."""
    return ApiError(500, "exception", "Internal error; the log of rollup-operator tells what happened")
