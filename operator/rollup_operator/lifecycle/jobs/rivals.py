"""Whether another operator acts on a job that this one watches too, and for how long to leave it alone. Pure.

Two installations in one cluster hold two Leases, and each would act on all jobs. So each status names the operator that
wrote it. The API server refuses a status that was decided on an older version, so of two operators that want a job one
is refused, reads the name of the other, and leaves the job alone from then on: it runs nothing and writes nothing.

It takes the job over when the other does not do what is due:

| what the job shows | overdue |
| --- | --- |
| a generation that the operator has not observed | PATIENCE after it was seen here |
| a next run | PATIENCE after that |
| a run, a stop or a deletion under way | PATIENCE after the last news of it |
| anything else | never: nothing is to be done |

Both say so. The one that leaves jobs alone writes its name on one of them, at most once in SAY_AGAIN for each operator
that acts, and that one reads it there.
"""

import math
from datetime import datetime

from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import State
from rollup_operator.model.times import instant_of, rfc3339

PATIENCE = 300.0
"""Seconds: longer than an operator takes to move to another node, and an API server to restart."""

SAY_AGAIN = 3600.0
"""Seconds: the other one may have restarted since."""

RETRY = 10.0
"""Seconds from a note that could not be written to the next one: thousands of jobs may be left to one operator."""

MOST_TOLD = 100
"""Operators that are remembered: users who may write statuses can make up their names."""


class Notes:
    """When this process has told which operator that it leaves jobs to it. Times are the event loop's."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def is_due(self, operator: str | None, now: float) -> bool:
        """Whether to say so now to the operator that acts. If that is not `said` then, it is due again in RETRY."""
        if operator is None or now < self._next.get(operator, now):
            return False
        if operator not in self._next and len(self._next) >= MOST_TOLD:
            self._next = {name: at for name, at in self._next.items() if at > now}
            if len(self._next) >= MOST_TOLD:
                return False
        self._next[operator] = now + RETRY
        return True

    def said(self, operator: str | None, now: float) -> None:
        """It was written: it is due again in SAY_AGAIN seconds, on any of the jobs."""
        if operator is not None:
            self._next[operator] = now + SAY_AGAIN


def note(me: str, now: datetime) -> str:
    """Return what this operator writes on a job that it leaves alone."""
    return f"{me} {rfc3339(now)}"


def rival_in(before: JobView, job: JobView, me: str | None) -> str | None:
    """Return the operator that has just said on a job that it leaves it to this one; None: none has."""
    said = job.also_watched_by
    rival = (said or "").partition(" ")[0]
    return rival if rival and said != before.also_watched_by and rival != me else None


def warning(rival: str) -> str:
    """Say on a job that another operator watches it."""
    return (
        f"the operator {rival} watches this job, too, and leaves it to this one: remove one of the two, or let each "
        "watch namespaces of its own (ROLLUP_NAMESPACES)"
    )


def left_for(job: JobView, me: str | None, now: datetime, age: float) -> float | None:
    """Return the seconds for which to leave a job to another operator; None: this one, named `me`, acts on it.

    `age`: for how long this view has been the newest, in seconds.
    """
    if job.operator is None or job.operator == me:
        return None
    wait = _overdue_in(job, now, age)
    return wait if wait > 0 else None


def _overdue_in(job: JobView, now: datetime, age: float) -> float:
    status = job.status
    if status.observed_generation < job.generation or status.state not in (State.STARTED, State.STOPPED):
        return PATIENCE - age
    following = instant_of(status.next_run_time) if status.state is State.STARTED else None
    return math.inf if following is None else (following - now).total_seconds() + PATIENCE
