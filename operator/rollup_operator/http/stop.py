"""The stop call: write that the job shall be stopped, then, if asked, wait until it is.

`stopped` means quiet: no request of the job is in flight, its position is durable, its claim released. The write is
what stops the job; waiting only watches, and a wait that ends early undoes nothing.
"""

import asyncio
import contextlib
from dataclasses import dataclass

from rollup_operator.http import errors
from rollup_operator.http.access import Permit
from rollup_operator.http.desired_state import LOOKS, DesiredStates
from rollup_operator.http.errors import ApiError
from rollup_operator.http.presentation import job_state
from rollup_operator.http.waiters import Verdict, Waiter, Waiters
from rollup_operator.kube.client import Conflict, KubeError
from rollup_operator.model.job import DesiredState
from rollup_operator.model.reader import JobView
from rollup_operator.model.status import State


@dataclass(frozen=True, slots=True)
class Wait:
    """How long to wait: until `deadline` by the event loop's clock. `text` is the timeout as the client wrote it."""

    deadline: float
    text: str


class Stops:
    """Stops one job, or all jobs of a namespace."""

    def __init__(self, states: DesiredStates, waiters: Waiters) -> None:
        self._states = states
        self._waiters = waiters

    async def stop(self, namespace: str, job_id: str, wait: Wait | None, permit: Permit) -> None:
        """Return when the stop is durable, or, with `wait`, when the job is stopped. Raises ApiError."""
        self._refuse_new_waits(wait)
        job = await self._states.find(namespace, job_id)
        for _ in range(LOOKS):
            await permit.require(job_id, job)
            if job is None:
                raise errors.job_not_found(job_id)
            try:
                return await self._stop(job, wait)
            except Conflict:
                job = await self._states.replaced(job)
        raise errors.unavailable(f"Rollup job [{job_id}] keeps being replaced; nothing was changed")

    async def stop_all(self, namespace: str, wait: Wait | None, permit: Permit) -> None:
        """Stop every job of the namespace that the caller may stop.

        One that is being deleted is stopping already and only waited for.

        Returns when all are durable, or stopped. Raises ApiError once every job has been tried.
        """
        self._refuse_new_waits(wait)
        jobs = await permit.require_some(self._states.in_namespace(namespace))
        outcomes = await asyncio.gather(*(self._stop_one_of_all(job, wait) for job in jobs))
        if failed := [e for e in outcomes if e is not None]:
            raise errors.of_all(failed, len(jobs))

    async def _stop_one_of_all(self, job: JobView, wait: Wait | None) -> ApiError | None:
        try:
            if not _aborting(job):
                await self._stop(job, wait)
            elif wait is not None:
                await self._see_gone(job, wait)
        except Conflict:
            return None  # gone, and so quiet
        except ApiError as e:
            return None if e.status == 404 else e
        return None

    async def _stop(self, job: JobView, wait: Wait | None) -> None:
        if _aborting(job):
            raise errors.aborting("stop", job.job_id)
        if wait is None:
            await self._states.write(job, DesiredState.STOPPED)
            return
        with self._waiters.waiter(job.uid) as waiter:
            await self._see_stopped(waiter, await self._states.write(job, DesiredState.STOPPED), wait)

    async def _see_gone(self, job: JobView, wait: Wait) -> None:
        with self._waiters.waiter(job.uid) as waiter:
            # It may have gone between the listing and the subscription.
            with contextlib.suppress(KubeError, TimeoutError):
                waiter.progress.hear(await self._states.now(job))
            await self._see_stopped(waiter, job, wait)

    async def _see_stopped(self, waiter: Waiter, asked: JobView, wait: Wait) -> None:
        """Return once the job is stopped as of the generation of `asked`. Raises ApiError."""
        verdict = await waiter.settled(asked, wait.deadline)
        newest = waiter.progress.newest or asked
        if verdict is Verdict.WAIT:
            # Where the API server does not answer, what the watch has shown last stands.
            with contextlib.suppress(KubeError, TimeoutError):
                verdict = waiter.progress.hear(await self._states.now(asked))
                newest = waiter.progress.newest or asked
        if verdict is Verdict.STOPPED:
            return
        if verdict is Verdict.GONE:
            raise errors.job_not_found(asked.job_id)
        if verdict is Verdict.OVERTAKEN:
            raise errors.overtaken(asked.job_id, asked=asked.generation, by=newest.generation)
        state, observed = job_state(newest), newest.status.observed_generation
        if verdict is Verdict.SHUTDOWN:
            raise errors.shutting_down(asked.job_id, state, asked=asked.generation, observed=observed)
        raise errors.stop_timed_out(asked.job_id, wait.text, state, asked=asked.generation, observed=observed)

    def _refuse_new_waits(self, wait: Wait | None) -> None:
        # Before the write: an answer of 503 promises that nothing was changed.
        if wait is not None and self._waiters.draining:
            raise errors.unavailable("This process shuts down and takes no new waits; nothing was changed")


def _aborting(job: JobView) -> bool:
    return job.deleting or job.status.state is State.ABORTING
