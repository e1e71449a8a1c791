"""The common part of stopping and starting: find the job, keep repeats from undoing newer calls, write, warn.

Raises ApiError. A 503 means that the desired state was not changed.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from typing import TypeVar

from rollup_operator.concurrency.background import side_by_side
from rollup_operator.concurrency.portions import Spreader, in_portions, sorted_by
from rollup_operator.http.access.permits import Permit
from rollup_operator.http.jobs.acceptance import Acceptances
from rollup_operator.http.jobs.desired_state import ATTEMPTS, WRITE_SECONDS, DesiredStates, TurnTooLate
from rollup_operator.http.jobs.lookup import Lookup
from rollup_operator.http.jobs.notices import Notices
from rollup_operator.http.jobs.repeats import Asked, Doubt, Repeats, expected_generation, overtaken
from rollup_operator.http.jobs.request_context import Call
from rollup_operator.http.ports import EndpointTelemetry, NoTelemetry
from rollup_operator.http.protocol import errors, state_errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.kube.client import Conflict, KubeError
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import State

T = TypeVar("T")

CLEAN_SECONDS = 10.0
"""How often expired calls are forgotten. Objects that stay among many freed ones keep memory from being
returned."""

Deal = Callable[[JobView], Awaitable[None]]
"""What to do with one job. Raises ApiError, or Conflict when another job has taken its name."""


class Attempts:
    """Requests a state of one job, or of all jobs of a namespace. `managers` are the GitOps field managers."""

    def __init__(
        self,
        lookup: Lookup,
        states: DesiredStates,
        notices: Notices,
        repeats: Repeats,
        *,
        acceptances: Acceptances,
        managers: Collection[str],
        telemetry: EndpointTelemetry | None = None,
    ) -> None:
        self._telemetry = telemetry or NoTelemetry()
        self._lookup, self._states, self._notices, self._repeats = lookup, states, notices, repeats
        self._acceptances = acceptances
        self._spreader = Spreader()
        self._managers = frozenset(managers)
        self._cleaning: asyncio.TimerHandle | None = None

    async def one(self, namespace: str, job_id: str, deal: Deal, permit: Permit, *, by: float | None = None) -> None:
        """Find the job, authorize the caller, then run `deal`.

        `by` is when to give up finding it and reviewing the right, by the event loop's clock.
        """
        job = await in_time(by, self._lookup.find(namespace, job_id, permit))
        for _ in range(ATTEMPTS):
            if job is None:
                raise state_errors.job_not_found(job_id)
            self._states.refuse_namesakes(job)
            try:
                return await deal(job)
            except Conflict:
                job = await in_time(by, self._states.replaced(job))
                await in_time(by, permit.require(job_id, job))
        raise errors.unavailable(f"Rollup job [{job_id}] keeps being replaced; nothing was changed")

    async def all(self, namespace: str, permit: Permit, *, by: float | None = None) -> list[JobView]:
        """Return the jobs of the namespace on which the caller has the right, in order of their id.

        Raises ApiError 403 when there is none among those known, 503 when the API server has not listed them until
        `by`, by the event loop's clock.
        """
        return await in_time(by, self._all(namespace, permit))

    async def _all(self, namespace: str, permit: Permit) -> list[JobView]:
        known = await self._states.in_namespace(namespace)
        jobs = await permit.require_some(known)
        if missing := await self._states.missing_from(known, namespace):
            jobs += await permit.among(missing)
            return await in_portions(sorted_by(jobs, lambda job: (job.job_id, job.name)))
        return jobs

    async def each(self, jobs: Sequence[JobView], deal: Deal) -> None:
        """Run `deal` on all of them. Raises one ApiError for those that failed, once every job has been tried."""
        failed: dict[int, ApiError] = {}

        async def deal_with(number: int, job: JobView) -> None:
            if (error := await _tried(job, deal)) is not None:
                failed[number] = error

        async with side_by_side() as group:
            numbered = list(enumerate(jobs))
            await self._spreader.spread(lambda one: group.create_task(deal_with(*one)), numbered)
        if failed:
            raise state_errors.of_all([failed[number] for number in sorted(failed)], len(jobs))

    @asynccontextmanager
    async def attempt(
        self, job: JobView, state: DesiredState, call: Call, *, until: float = 0.0, by: float | None = None
    ) -> AsyncIterator[None]:
        """Guard a call: refuse it if it repeats a call that was followed by the opposite one.

        The call is remembered until its end and, if the caller gets no good answer, until some seconds after
        `until` (the event loop's clock), or after its end.

        Raises ApiError: 409 for a repeat; 503 when the outcome is unknown, at the latest at `by`, or after as long as
        the write itself may take: a caller who has time is not refused because the API server is slow.
        """
        asked = Asked(call.permit.caller.name, job.uid, call.text)
        if (doubt := self._repeats.recall(asked)) is not None:
            patience = asyncio.get_running_loop().time() + WRITE_SECONDS
            self._refuse_repeat(asked, doubt, await in_time(patience if by is None else by, self._newest(job)))
        doubt = self._repeats.begin(asked, state, expected_generation(job, state))
        try:
            yield
        except Conflict:
            raise  # nothing was changed; the job is looked up again
        except ApiError as e:
            if e.in_doubt:
                self._remember(asked, doubt, until)
            else:
                self._repeats.forget(asked, doubt)
            raise
        except BaseException:  # the client is gone, or a mistake of ours
            self._remember(asked, doubt, until)
            raise
        else:
            self._repeats.forget(asked, doubt)
        finally:
            self._repeats.end(asked, doubt)

    async def write(self, job: JobView, state: DesiredState, call: Call) -> JobView:
        """Write the state; durable once this returns. Raises Conflict, too. Warns if GitOps may set it back."""
        with self._telemetry.step("apply spec.desiredState"):
            answer = await self._states.write(job, state)
        self._telemetry.asked(answer)
        owner = ", ".join(name for name in job.owners if name in self._managers)
        if owner and job.desired is not state:
            call.owned.setdefault(owner, []).append(job.job_id)
            self._notices.owned(job, owner, state, answer.generation)
        return answer

    async def record(self, job: JobView, state: DesiredState, call: Call) -> JobView:
        """Write likewise, and return once the operator has observed it, or does not seem to: a read then shows it."""
        with self._acceptances.of(job.uid) as acceptance:
            written = await self.write(job, state, call)
            if not aborting(written):
                with self._telemetry.step("wait for acceptance"):
                    await acceptance.wait(written)
            return written

    def _remember(self, asked: Asked, doubt: Doubt, until: float) -> None:
        self._repeats.remember(asked, doubt, until=until)
        if self._cleaning is None:
            self._clean_later()

    def _clean_later(self) -> None:
        self._cleaning = asyncio.get_running_loop().call_later(CLEAN_SECONDS, self._clean, context=Context())

    def _clean(self) -> None:
        self._cleaning = None
        if self._repeats.forget_late():
            self._clean_later()

    def _refuse_repeat(self, asked: Asked, doubt: Doubt, job: JobView | None) -> None:
        if job is not None and overtaken(doubt, job):
            # This is a good answer: a caller who asks again after it means it.
            self._repeats.forget(asked, doubt)
            raise state_errors.repeated(job.job_id, doubt.state, by=job.generation)

    async def _newest(self, job: JobView) -> JobView | None:
        while True:
            try:
                return await self._states.now(job, None)
            except TimeoutError:
                continue  # this read's answer is lost; the caller says how long to go on
            except KubeError as e:
                why = errors.said(e)
                raise errors.unavailable(f"The API server does not answer; nothing was changed: {why}") from e


def aborting(job: JobView) -> bool:
    """Whether the job is being deleted: it stops, and never starts again."""
    return job.deleting or job.status.state is State.ABORTING


async def _tried(job: JobView, deal: Deal) -> ApiError | None:
    try:
        await _dealt_with(job, deal)
    except Conflict:
        return None  # gone: quiet, and not to be started
    except ApiError as e:
        # Without where it was raised, a frame of ours goes with its task, and not all of them at once.
        return None if e.status == 404 else e.with_traceback(None)
    return None


async def _dealt_with(job: JobView, deal: Deal) -> None:
    """Run `deal` on a job in its version at the time of its turn."""
    for _ in range(ATTEMPTS):
        try:
            await deal(job)
        except TurnTooLate as e:
            job = e.newest
        else:
            return
    raise errors.unavailable(f"Rollup job [{job.job_id}] keeps changing; nothing was changed")


async def in_time(by: float | None, work: Awaitable[T]) -> T:
    """Return what a read of the API server brings by then, by the event loop's clock. Raises ApiError 503."""
    try:
        async with asyncio.timeout_at(by):
            return await work
    except TimeoutError as e:
        raise errors.unavailable("The API server does not answer in time; nothing was changed") from e
