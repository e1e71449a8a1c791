"""Errors in Elasticsearch's envelope: their form, and those that any call may answer, in Elasticsearch's words."""

from collections.abc import Mapping, Sequence
from typing import Any

from rollup_operator.kube.client import KubeError
from rollup_operator.model.base import GROUP

Cause = Mapping[str, Any]
"""Type and reason of an error, and perhaps what caused it in turn."""


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

    def envelope(self, frames: str | None = None) -> dict[str, Any]:
        """Return the body of the answer. With `frames`, it has a stack trace wherever Elasticsearch's has one."""
        root_causes = [traced(cause, frames) for cause in self._root_causes or (self.cause,)]
        error: dict[str, Any] = {"root_cause": root_causes, **self.cause}
        if self.caused_by is not None:
            error["caused_by"] = self.caused_by
        return {"error": traced(error, frames), "status": self.status}


def traced(cause: Cause, frames: str | None) -> dict[str, Any]:
    """Return a cause, and what it was caused by, with their stack traces; without `frames`, as it is."""
    if frames is None:
        return dict(cause)
    shown = dict(cause)
    if "caused_by" in shown:
        shown["caused_by"] = traced(shown["caused_by"], frames)
    return {**shown, "stack_trace": f"{cause['type']}: {cause['reason']}{frames}"}


def illegal_argument(reason: str) -> ApiError:
    """400: a parameter, a body or a header that cannot be used."""
    return ApiError(400, "illegal_argument_exception", reason)


def said(error: KubeError | TimeoutError) -> str:
    """Return what a caller may read of an error of the API server."""
    return error.public_text if isinstance(error, KubeError) else "no answer in time"


def unavailable(why: str, *, closes: bool = False) -> ApiError:
    """503: nothing was changed, and a retry is safe."""
    return ApiError(503, "master_not_discovered_exception", why, headers={"Retry-After": "1"}, closes=closes)


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
    """406, as Elasticsearch answers it: a body whose type is not JSON."""
    return ApiError(406, "media_type_header_exception", f"Content-Type header [{given}] is not supported")


def unsupported_form(wanted: str) -> ApiError:
    """415: a body that is not such a form as the page sends."""
    return ApiError(415, "media_type_header_exception", f"this takes a form: Content-Type [{wanted}], not compressed")


def unsupported_encoding(given: str = "") -> ApiError:
    """415: a body with an unsupported compression."""
    value = f" [{given}]" if given else ""
    return ApiError(415, "media_type_header_exception", f"Content-Encoding header{value} is not supported; use gzip")


def not_expected(given: str) -> ApiError:
    """417: an unsupported `Expect`."""
    return ApiError(417, "illegal_argument_exception", f"Expect header [{given}] is not supported; use 100-continue")


def not_acceptable(given: str) -> ApiError:
    """406: the client does not accept JSON."""
    return ApiError(406, "media_type_header_exception", f"Accept header [{given}] is not supported; take JSON")


def wrong_version(header: str, given: str, version: str, known: Sequence[str]) -> ApiError:
    """400: a header names an unsupported version."""
    why = f"{header} version must be one of [{', '.join(known)}], but found [{version}]. {header}={given}"
    return ApiError(
        400,
        "media_type_header_exception",
        f"Invalid media-type value on headers [{header}]",
        caused_by={"type": "status_exception", "reason": why},
    )


def unreadable_body(encoding: str) -> ApiError:
    """400: a body that ends early, or is not compressed as declared."""
    charset = f" as [{encoding}]" if encoding else ""
    return ApiError(400, "illegal_argument_exception", f"The body cannot be read{charset}", closes=True)


def missing_credentials(path: str) -> ApiError:
    """401: the request has no credentials."""
    return _unauthenticated(f"missing authentication credentials for REST request [{path}]")


def bad_credentials() -> ApiError:
    """401: the API server does not accept the credentials."""
    return _unauthenticated(
        "unable to authenticate with provided credentials and anonymous access is not allowed for this request"
    )


def ambiguous_credentials() -> ApiError:
    """400: the request has several credentials."""
    return ApiError(
        400, "illegal_argument_exception", "there is more than one Authorization header; send one", closes=True
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
    """403: the caller has none of the sufficient rights. The job is not named: it may not even exist."""
    return ApiError(
        403,
        "security_exception",
        f"action [{action}] is unauthorized for user [{user}], this action is granted by the Kubernetes right to "
        f"{rights} in API group [{GROUP}] and namespace [{namespace}]",
    )


def too_many_waits(user: str, most: int, *, taken: int, wanted: int) -> ApiError:
    """429: the call needs more waiting places than the caller has left. Nothing was changed."""
    return ApiError(
        429,
        "es_rejected_execution_exception",
        f"user [{user}] may wait for [{most}] jobs at a time, waits for [{taken}] already, and this call is about "
        f"[{wanted}]; nothing was changed. A stop without [wait_for_completion] needs no place, "
        "and [ROLLUP_HTTP_WAITERS_PER_CALLER] is the limit",
    )


def needless_body(method: str, path: str) -> ApiError:
    """400: a body for a call that accepts none."""
    return illegal_argument(f"request [{method} {path}] does not support having a body")


def too_many(what: str, *, closes: bool = False) -> ApiError:
    """429: the limit of such calls is reached. Nothing was changed."""
    return ApiError(
        429,
        "es_rejected_execution_exception",
        f"{what}; nothing was changed. Try again later",
        headers={"Retry-After": "1"},
        closes=closes,
    )


def too_large(most: int) -> ApiError:
    """413: the body is larger than http_body_bytes."""
    return ApiError(
        413, "content_too_long_exception", f"the body is larger than the limit of [{most}] bytes", closes=True
    )


def too_slow(seconds: float) -> ApiError:
    """408: the body has not arrived in time."""
    return ApiError(408, "timeout_exception", f"the body has not arrived within [{seconds:g}s]", closes=True)


def too_long(line: int, header: int) -> ApiError:
    """400: a request line or a header that is too long."""
    return ApiError(
        400,
        "too_long_http_line_exception",
        f"the request line is larger than [{line}] bytes, or a header is larger than [{header}] bytes",
    )


def internal() -> ApiError:
    """500: a bug in the operator. The details are in the log, not in the answer."""
    return ApiError(500, "exception", "Internal error; see the log of rollup-operator")
