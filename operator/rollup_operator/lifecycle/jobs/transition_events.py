"""The event to post for an accepted write of a job's status, if any. Pure.

An event follows from a write, and only the leader's actor writes, and only if something changed. So each transition
has one event, however many replicas watch it, and there is none at a restart or while nothing happens.
"""

from rollup_operator.model.conditions import READY, STALLED, Reason
from rollup_operator.model.event_reasons import EVENTS
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import Condition, State

_ON = (State.STARTED, State.INDEXING)
_PASSING = (Reason.STOPPING, Reason.DELETING, Reason.DRAIN_TIMEOUT, Reason.RECONCILING)
"""Reasons for which a job is not Ready though nothing is wrong with it, or nothing that the end will not show."""


def transition_event(before: JobView, after: JobView) -> tuple[Reason, str] | None:
    """Return reason and note of the event for the change of status from `before` to `after`; None: there is none.

    A scheduled run goes from `started` to `indexing` and back, and gets no event.
    """
    was, now = before.status.state, after.status.state
    ready = _ready(after)
    if now in (State.STOPPING, State.ABORTING):
        reason = Reason.STOPPING if now is State.STOPPING else Reason.DELETING
        return None if was is now or ready is None else (reason, ready.message)
    if now in _ON and was not in _ON:
        return _hindrance(after, ready) or (Reason.STARTED, _started(after, ready))
    if now is State.STOPPED and was not in (None, State.STOPPED):
        return Reason.STOPPED, f"no queries or writes are running; {_reached(after)}"
    problem = _ready(before)
    if ready is not None and ready.status == "True" and problem is not None and problem.status != "True":
        return None if problem.reason in _PASSING else (Reason.RECOVERED, f"{problem.reason} is over: {ready.message}")
    return None


def _hindrance(job: JobView, ready: Condition | None) -> tuple[Reason, str] | None:
    """Return what is to be warned of: a store that cannot be used. A wrong spec has its own warning."""
    if ready is None or ready.status == "True" or any(c.type == STALLED for c in job.status.conditions):
        return None
    reason = next((known for known in EVENTS if known == ready.reason and known not in _PASSING), None)
    return None if reason is None else (reason, f"the job is started, but cannot run: {ready.message}")


def _started(job: JobView, ready: Condition | None) -> str:
    if ready is not None and ready.status != "True" and ready.reason != Reason.RECONCILING:
        return f"the job is started, but {ready.reason}: {ready.message}"
    if (tick := job.status.next_run_time) is None:
        return "the job is started; spec.cron has no tick to come"
    return f"the job is started and runs next at {tick}"


def _reached(job: JobView) -> str:
    """Say how far it has come."""
    if (watermark := job.status.watermark) is not None:
        return f"everything before {watermark} is rolled up, and the next run goes on from there"
    if job.status.position is not None:
        return "its position is kept, and the next run goes on from there"
    return "nothing is rolled up yet"


def _ready(job: JobView) -> Condition | None:
    return next((c for c in job.status.conditions if c.type == READY), None)
