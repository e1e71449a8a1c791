"""The start call: writes that the job is to be started. It runs at its next tick; a stopping job starts once quiet."""

from functools import partial

from rollup_operator.concurrency.portions import chosen_of, in_portions
from rollup_operator.http.jobs.attempt import Attempts, aborting
from rollup_operator.http.jobs.newest import Newest
from rollup_operator.http.jobs.presentation import job_state
from rollup_operator.http.jobs.request_context import Call
from rollup_operator.http.protocol import state_errors
from rollup_operator.http.protocol.dialects import Dialect
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import State

RUNNING = (State.STARTED, State.INDEXING)


class Starts:
    """Starts one job, or all jobs of a namespace."""

    def __init__(self, attempts: Attempts, newest: Newest, dialect: Dialect) -> None:
        self._attempts, self._newest, self._dialect = attempts, newest, dialect

    async def start(self, namespace: str, job_id: str, call: Call) -> None:
        """Return when the start is durable and observed. Raises ApiError."""
        await self._attempts.one(namespace, job_id, partial(self._start_one, call=call), call.permit)

    async def start_all(self, namespace: str, call: Call) -> None:
        """Start every job of the namespace that the caller may start, except those being deleted.

        Raises ApiError once every job has been tried.
        """
        allowed = await self._attempts.all(namespace, call.permit)
        jobs = await in_portions(chosen_of(allowed, lambda job: not aborting(job)))  # the status is read for it
        await self._attempts.each(jobs, partial(self._start, call=call))

    async def _start_one(self, job: JobView, call: Call) -> None:
        # A job with a requested stop no longer counts as running here: it starts again once it is quiet.
        if self._dialect.start_needs_stopped and _runs(job):
            newest = await self._newest.one(job, call.permit) or job
            if _runs(newest):
                raise state_errors.cannot("start", job.job_id, job_state(newest).upper())
        await self._start(job, call)

    async def _start(self, job: JobView, call: Call) -> None:
        if aborting(job):
            raise state_errors.cannot("start", job.job_id, "ABORTING")
        async with self._attempts.attempt(job, DesiredState.STARTED, call):
            written = await self._attempts.record(job, DesiredState.STARTED, call)
        if aborting(written):
            # Its deletion came first: the field says started, but nothing will run.
            raise state_errors.cannot("start", job.job_id, "ABORTING", new=not self._dialect.start_needs_stopped)


def _runs(job: JobView) -> bool:
    return job.desired is DesiredState.STARTED and job_state(job) in RUNNING
