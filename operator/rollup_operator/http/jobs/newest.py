"""Shows jobs as earlier calls have left them, whichever replica served those: a call reads its own write.

A call that changed a job was answered once the watch of its replica had brought the leader's status. The watch of
another replica may be later:

| this process | is its view of a job as new as every answer so far? |
| --- | --- |
| is the only one | always: its own watch brought what its calls were answered |
| leads, and is not writing to the job | always: the status that the others have seen is its own |
| otherwise | not surely, so it reads the job at the API server |

If the API server does not answer, the call shows what the watch has brought.
"""

import asyncio
from collections.abc import Iterable, Mapping

from rollup_operator.concurrency.portions import each, in_portions, sorted_by
from rollup_operator.http.access.permits import ALL_JOBS, Permit
from rollup_operator.http.jobs.desired_state import DesiredStates
from rollup_operator.http.ports import Jobs
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.kube.client import KubeError
from rollup_operator.model.job_view import JobView

READ_SECONDS = 3.0
"""How long a call that shows jobs waits for the API server."""

LIST_UP_TO = 500
"""A namespace with more jobs is listed as the watch has brought it: a page of the API server's list holds no more."""

READ_UP_TO = 20
"""The number of jobs of a list that are read again. If more have changed just now, the watch is about to bring them."""


class Newest:
    """Checks whether there is a newer view than this process knows. `alone`: no other process serves."""

    def __init__(self, jobs: Jobs, states: DesiredStates, *, alone: bool) -> None:
        self._jobs, self._states, self._alone = jobs, states, alone

    async def one(self, job: JobView, permit: Permit) -> JobView | None:
        """Return the job with this job's id as it is now; None: there is none any more. Raises ApiError 403, 503."""
        # What was read before the caller's right was reviewed may be older than what is certain by now.
        known = self._jobs.find(job.namespace, job.job_id)
        job = known if known is not None and known.uid == job.uid else job
        if self._alone or (self._jobs.leads and not self._jobs.is_writing(job.uid)):
            return job
        try:
            found = await self._states.now(job, READ_SECONDS)
        except (KubeError, TimeoutError):
            return job
        if found is not None:
            return _newer(found, job)
        other = await self._states.replaced(job)
        if other is not None:
            await permit.require(job.job_id, other)
        return other

    async def all(self, namespace: str, permit: Permit) -> list[JobView]:
        """Return the jobs of a namespace that the caller may see, in order of their ids.

        Nothing is read for callers who may see none. Raises ApiError 503 while the list is not complete.
        """
        known = await self._states.in_namespace(namespace)
        mine = await permit.among(known)
        if self._alone:
            return mine
        if not self._jobs.leads:
            long = len(known) > LIST_UP_TO or not (mine or await permit.may(ALL_JOBS))
            return mine if long else await self._compared(namespace, known, mine, permit)
        # Read each again, with whether it is being written to: the review of rights has taken time.
        pairs = each(lambda job: (job, self._jobs.is_writing(job.uid)), self._jobs.in_namespace(namespace))
        mine_now = {job.uid: (job, writing) for job, writing in await in_portions(pairs)}
        taken = [mine_now.get(job.uid, (job, False)) for job in mine]
        written = [job for job, writing in taken if writing][:READ_UP_TO]
        newer = await self._read((job.namespace, job.name) for job in written) if written else {}
        return [_newer(newer.get(job.uid, job), job) for job, _ in taken]

    async def _compared(
        self, namespace: str, known: list[JobView], mine: list[JobView], permit: Permit
    ) -> list[JobView]:
        try:
            async with asyncio.timeout(READ_SECONDS):
                listed = await self._states.listed(namespace)
        except (KubeError, TimeoutError):
            return mine
        here = {job.uid: job for job in mine if job.uid in listed}
        changed = [job.name for uid, job in here.items() if job.version < listed[uid].version]
        strange = listed.keys() - {job.uid for job in known}
        names = [*changed, *(listed[uid].name for uid in strange)][:READ_UP_TO]
        if names:
            newer = await self._read((namespace, name) for name in names)
            created = await permit.among(job for uid, job in newer.items() if uid in strange)
            here |= {uid: job for uid, job in newer.items() if uid in here} | {job.uid: job for job in created}
        return await in_portions(sorted_by(list(here.values()), lambda job: (job.job_id, job.name)))

    async def _read(self, names: Iterable[tuple[str, str]]) -> Mapping[str, JobView]:
        try:
            async with asyncio.timeout(READ_SECONDS):
                return {job.uid: job for job in await self._states.read_all(names)}
        except (ApiError, TimeoutError):
            return {}


def _newer(one: JobView, other: JobView) -> JobView:
    return one if one.age >= other.age else other
