"""The state of a job in one or two words, as `get`, `status` and waits show it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from rollup_operator.model.conditions import READY, RECONCILING, STALLED, Reason
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import Condition, State


class Mood(StrEnum):
    """How good a state is, for its colour."""

    GOOD = "good"
    RESTING = "resting"
    CHANGING = "changing"
    BAD = "bad"


@dataclass(frozen=True)
class Summary:
    """A job's state in words: `started`, `running 57 %`, `failed: SourceInvalid`, `stopped (SourceNotFound)`."""

    text: str
    mood: Mood


ON_ITS_WAY = frozenset({
    Reason.RUNNING, Reason.WAITING, Reason.RECONCILING, Reason.STOPPED, Reason.STOPPING, Reason.DELETING,
})  # fmt: skip
"""Reasons of a job that is on its way or has arrived. Every other one is a trouble."""

_RESTING: Mapping[State, Mood] = {State.STARTED: Mood.GOOD, State.STOPPED: Mood.RESTING}


def summary(job: JobView) -> Summary:
    """Say where the job is, its trouble first."""
    status = job.status
    if job.deleting:
        return _with_reason("deleting", job)
    if status.observed_generation < job.generation:
        return Summary(
            "changed, not seen yet" if status.observed_generation >= 0 else "new, not seen yet", Mood.CHANGING
        )
    match status.state:
        case State.STOPPING:
            return _with_reason("stopping", job)
        case State.INDEXING if (ready := condition(job, READY)) is not None and ready.reason == Reason.WAITING:
            return Summary("waiting to run", Mood.GOOD)
        case State.INDEXING:
            percent = f" {status.progress.percent} %" if status.progress is not None else ""
            return Summary(f"running{percent}", Mood.GOOD)
    if (stuck := trouble(job)) is not None:
        if stuck.type == STALLED:
            return Summary(f"failed: {stuck.reason}", Mood.BAD)
        return Summary(f"retrying: {stuck.reason}", Mood.CHANGING)
    if status.state is State.STOPPED and job.desired is DesiredState.STOPPED and not job.ever_asked:
        return Summary("never started", Mood.RESTING)
    if condition(job, RECONCILING) is not None:
        return Summary("checking" if status.state is State.STARTED else "starting", Mood.CHANGING)
    if status.state is None:
        return Summary("unknown", Mood.CHANGING)
    if status.state is State.STOPPED and status.failed_check is not None:
        return Summary(f"stopped ({status.failed_check.reason})", Mood.RESTING)
    return Summary(status.state.value, _RESTING.get(status.state, Mood.CHANGING))


def trouble(job: JobView) -> Condition | None:
    """Return the condition that says what keeps the job from what it is asked; None: nothing does."""
    found = condition(job, STALLED) or condition(job, RECONCILING)
    return None if found is None or found.reason in ON_ITS_WAY else found


def condition(job: JobView, type_: str) -> Condition | None:
    """Return the condition of that type; None if it is not shown."""
    return next((c for c in job.status.conditions if c.type == type_), None)


def _with_reason(word: str, job: JobView) -> Summary:
    ready = condition(job, READY)
    told = ready is None or ready.status == "True" or ready.reason in ON_ITS_WAY
    return Summary(word if told or ready is None else f"{word}: {ready.reason}", Mood.CHANGING)
