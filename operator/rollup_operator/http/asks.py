"""What stopping and starting have in common: find the job, let no repeat undo what came after it, write, warn.

Raises ApiError. A 503 promises that the desired state was not changed.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

from rollup_operator.http import errors, state_errors
from rollup_operator.http.access import Permit
from rollup_operator.http.call import Call
from rollup_operator.http.desired_state import LOOKS, DesiredStates
from rollup_operator.http.errors import ApiError
from rollup_operator.http.notices import Notices
from rollup_operator.http.ports import NoWatcher, Watcher
from rollup_operator.http.repeats import Asked, Doubt, Repeats, expected_generation, overtaken
from rollup_operator.kube.client import Conflict, KubeError
from rollup_operator.model.job import DesiredState
from rollup_operator.model.reader import JobView
from rollup_operator.model.status import State
from rollup_operator.portions import in_order, in_portions, sharing

T = TypeVar("T")

Deal = Callable[[JobView], Awaitable[None]]
"""What to do with one job. Raises ApiError, or Conflict when another job has taken its name."""


class Asks:
    """Asks for a state of one job, or of all jobs of a namespace. `managers` are the GitOps field managers."""

    def __init__(
        self,
        states: DesiredStates,
        notices: Notices,
        repeats: Repeats,
        *,
        managers: Collection[str],
        watcher: Watcher | None = None,
    ) -> None:
        self._watcher = watcher or NoWatcher()
        self._states, self._notices, self._repeats = states, notices, repeats
        self._managers = frozenset(managers)

    async def one(self, namespace: str, job_id: str, deal: Deal, permit: Permit, *, by: float | None = None) -> None:
        """Find the job and, if the caller may, deal with it.

        `by` is when to give up looking for it and asking for the right, by the event loop's clock.
        """
        job = await in_time(by, self._states.find(namespace, job_id))
        for _ in range(LOOKS):
            await in_time(by, permit.require(job_id, job))
            if job is None:
                raise state_errors.job_not_found(job_id)
            self._states.refuse_namesakes(job)
            try:
                return await deal(job)
            except Conflict:
                job = await in_time(by, self._states.replaced(job))
        raise errors.unavailable(f"Rollup job [{job_id}] keeps being replaced; nothing was changed")

    async def all(self, namespace: str, permit: Permit, *, by: float | None = None) -> list[JobView]:
        """Return the jobs of the namespace that the caller may deal with, in order of their id.

        Raises ApiError 403 when there is none among those known, 503 when the API server has not listed them until
        `by`, by the event loop's clock.
        """
        return await in_time(by, self._all(namespace, permit))

    async def _all(self, namespace: str, permit: Permit) -> list[JobView]:
        known = await self._states.in_namespace(namespace)
        jobs = await permit.require_some(known)
        if missing := await self._states.missing_from(known, namespace):
            jobs += await permit.among(missing)
            return await in_portions(in_order(jobs, lambda job: (job.job_id, job.name)))
        return jobs

    async def each(self, jobs: Iterable[JobView], deal: Deal) -> None:
        """Deal with all of them. Raises one ApiError for those that failed, once every job has been tried."""
        tasks: list[asyncio.Task[ApiError | None]] = []
        try:
            with sharing() as pause:
                async with asyncio.TaskGroup() as group:
                    for job in jobs:
                        tasks.append(group.create_task(_tried(job, deal)))
                        await pause()  # what all of them do at once would hold the event loop
        except ExceptionGroup as e:
            raise e.exceptions[0] from None
        outcomes = [task.result() for task in tasks]
        if failed := [e for e in outcomes if e is not None]:
            raise state_errors.of_all(failed, len(outcomes))

    @asynccontextmanager
    async def attempt(
        self, job: JobView, state: DesiredState, call: Call, *, until: float = 0.0, by: float | None = None
    ) -> AsyncIterator[None]:
        """Guard what is done for a call: refuse it if it repeats one that the opposite has followed.

        If the caller gets no good answer, the call is remembered until some seconds after `until` (the event loop's
        clock), or after now. Raises ApiError: 409 for a repeat; 503 when nobody can tell, at the latest at `by`.
        """
        asked = Asked(call.permit.caller.name, job.uid, call.text)
        if (doubt := self._repeats.recall(asked)) is not None:
            self._refuse_repeat(asked, doubt, await in_time(by, self._newest(job)))

        def remember() -> None:
            self._repeats.remember(asked, state, expected_generation(job, state), until=until)

        try:
            yield
        except Conflict:
            raise  # nothing was changed; the job is looked up again
        except ApiError as e:
            if e.in_doubt:
                remember()
            else:
                self._repeats.forget(asked)
            raise
        except BaseException:  # the client is gone, or a mistake of ours
            remember()
            raise
        self._repeats.forget(asked)

    async def write(self, job: JobView, state: DesiredState, call: Call) -> JobView:
        """Write the state; durable once this returns. Raises Conflict too. Warns where GitOps may set it back."""
        with self._watcher.step("apply spec.desiredState"):
            answer = await self._states.write(job, state)
        self._watcher.asked(answer)
        owner = ", ".join(name for name in job.owners if name in self._managers)
        if owner and job.desired is not state:
            call.owned.setdefault(owner, []).append(job.job_id)
            self._notices.owned(job, owner, state, answer.generation)
        return answer

    def _refuse_repeat(self, asked: Asked, doubt: Doubt, job: JobView | None) -> None:
        if job is not None and overtaken(doubt, job):
            # This is a good answer: who asks once more after it means it.
            self._repeats.forget(asked)
            raise state_errors.repeated(job.job_id, doubt.state, by=job.generation)

    async def _newest(self, job: JobView) -> JobView | None:
        try:
            return await self._states.now(job)
        except KubeError as e:
            raise errors.unavailable(f"The API server does not answer; nothing was changed: {e.message}") from e


def aborting(job: JobView) -> bool:
    """Whether the job is being deleted: it stops, and never starts again."""
    return job.deleting or job.status.state is State.ABORTING


async def _tried(job: JobView, deal: Deal) -> ApiError | None:
    try:
        await deal(job)
    except Conflict:
        return None  # gone: quiet, and not to be started
    except ApiError as e:
        return None if e.status == 404 else e
    return None


async def in_time(by: float | None, look: Awaitable[T]) -> T:
    """Return what a look at the API server brings by then, by the event loop's clock. Raises ApiError 503."""
    try:
        async with asyncio.timeout_at(by):
            return await look
    except TimeoutError as e:
        raise errors.unavailable("The API server does not answer in time; nothing was changed") from e
