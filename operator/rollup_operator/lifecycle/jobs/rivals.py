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
"""

import math
from datetime import datetime

from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import State
from rollup_operator.model.times import instant_of

PATIENCE = 300.0
"""Seconds: longer than an operator takes to move to another node, and an API server to restart."""


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
