"""The errors of stopping and starting jobs, with Elasticsearch's texts."""

from collections.abc import Sequence

from rollup_operator.http.protocol.errors import ApiError, Cause

MAX_ROOT_CAUSES = 10
"""The most single causes that an error of all jobs lists."""


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
    """500: the state forbids it. `verb` is start or stop; `new`: the state came about after the job was read."""
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
            "reason": f"It is not known whether the state was recorded: {why}. Check the job before you retry",
        },
        in_doubt=True,
    )


def _update_text(job_id: str, state: str) -> str:
    return f"Error while updating state for rollup job [{job_id}] to [{state.upper()}]."


def stop_timed_out(
    job_id: str,
    timeout: str,
    state: str | None,
    *,
    asked: int | None,
    observed: int,
    held_up: str = "",
    status: int = 500,
) -> ApiError:
    """500 or 429: the wait timed out; the stop is not undone.

    `state` is what to say of it, if anything. `asked` and `observed` are generations; `asked` is None while it is not
    known whether the stop is recorded. `held_up` is a clause that says what the job waits for; empty: nothing is known.
    """
    state_text = "" if state is None else f". State was [{state.upper()}]"
    return ApiError(
        status,
        "timeout_exception",
        f"Timed out after [{timeout}] while waiting for rollup job [{job_id}] to stop{state_text}",
        caused_by=_recorded(asked, observed, held_up),
        in_doubt=True,
    )


def shutting_down(job_id: str, state: str, *, asked: int, observed: int, held_up: str = "") -> ApiError:
    """500: the wait ends because this process ends; the stop is not undone."""
    return ApiError(
        500,
        "timeout_exception",
        f"Shutting down while waiting for rollup job [{job_id}] to stop. State was [{state.upper()}]",
        caused_by=_recorded(asked, observed, held_up),
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


def _recorded(asked: int | None, observed: int, held_up: str) -> Cause:
    reason = (
        "The API server has not answered yet, so it is not known whether the stop is recorded; the write goes on. "
        "Check the job before you retry"
        if asked is None
        else f"The stop is recorded as generation [{asked}] and stands; "
        f"the operator has reported on generation [{observed}]"
    )
    return {"type": "exception", "reason": f"{reason}; {held_up}" if held_up and asked is not None else reason}


def overtaken(job_id: str, *, asked: int, by: int) -> ApiError:
    """409: somebody requested a start after this stop, so waiting for it is pointless."""
    return ApiError(
        409,
        "status_exception",
        f"Stop of rollup job [{job_id}] (generation [{asked}]) was overtaken by a newer start (generation [{by}])",
    )


def repeated(job_id: str, state: str, *, by: int) -> ApiError:
    """409: the call repeats one that has been overtaken. Nothing was changed. `state` is the requested state."""
    verb, newer = ("Stop", "start") if state == "stopped" else ("Start", "stop")
    return ApiError(
        409,
        "status_exception",
        f"{verb} of rollup job [{job_id}] arrived again after a newer {newer} (generation [{by}]); "
        "nothing was changed. If it is meant for the job as it is now, send it again",
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
