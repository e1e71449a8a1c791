"""The start call: write that the job shall be started. It runs at its next tick; a stopping job starts once quiet."""

import asyncio

from rollup_operator.http import errors
from rollup_operator.http.access import Permit
from rollup_operator.http.desired_state import LOOKS, DesiredStates
from rollup_operator.http.errors import ApiError
from rollup_operator.kube.client import Conflict
from rollup_operator.model.job import DesiredState
from rollup_operator.model.reader import JobView
from rollup_operator.model.status import State


class Starts:
    """Starts one job, or all jobs of a namespace."""

    def __init__(self, states: DesiredStates) -> None:
        self._states = states

    async def start(self, namespace: str, job_id: str, permit: Permit) -> None:
        """Return when the start is durable. Raises ApiError."""
        job = await self._states.find(namespace, job_id)
        for _ in range(LOOKS):
            await permit.require(job_id, job)
            if job is None:
                raise errors.job_not_found(job_id)
            try:
                return await self._start(job)
            except Conflict:
                job = await self._states.replaced(job)
        raise errors.unavailable(f"Rollup job [{job_id}] keeps being replaced; nothing was changed")

    async def start_all(self, namespace: str, permit: Permit) -> None:
        """Start every job of the namespace that the caller may start, but those being deleted.

        Raises ApiError once every job has been tried.
        """
        allowed = await permit.require_some(self._states.in_namespace(namespace))
        jobs = [job for job in allowed if not _aborting(job)]
        outcomes = await asyncio.gather(*(self._start_one_of_all(job) for job in jobs))
        if failed := [e for e in outcomes if e is not None]:
            raise errors.of_all(failed, len(jobs))

    async def _start_one_of_all(self, job: JobView) -> ApiError | None:
        try:
            await self._start(job)
        except Conflict:
            return None
        except ApiError as e:
            return None if e.status == 404 else e
        return None

    async def _start(self, job: JobView) -> None:
        if _aborting(job):
            raise errors.aborting("start", job.job_id)
        if _aborting(await self._states.write(job, DesiredState.STARTED)):
            # Its deletion came first: the field says started, but nothing will run.
            raise errors.aborting("start", job.job_id)


def _aborting(job: JobView) -> bool:
    return job.deleting or job.status.state is State.ABORTING
