"""The stop call: writes that the job is to be stopped and, if requested, waits until it is.

`stopped` means quiet: no request of the job is running, its position is durable, its claim released. The write stops
the job; the wait only observes, and a wait that ends early undoes nothing.

Without a wait, the answer comes once the operator has observed the stop, so that the next read shows `stopping` or
`stopped`.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Self

import structlog

from rollup_operator.http.access.waiting_room import WaitingRoom
from rollup_operator.http.jobs.attempt import Attempts, aborting
from rollup_operator.http.jobs.desired_state import DesiredStates
from rollup_operator.http.jobs.notices import Notices
from rollup_operator.http.jobs.presentation import held_up, job_state
from rollup_operator.http.jobs.request_context import Call
from rollup_operator.http.jobs.waiters import LONGEST_WAIT, Waiter, Waiters
from rollup_operator.http.ports import EndpointTelemetry, NoTelemetry
from rollup_operator.http.protocol import errors, state_errors
from rollup_operator.http.protocol.dialects import Dialect
from rollup_operator.kube.client import KubeError
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.model.stop_verdict import Verdict
from rollup_operator.model.time_values import TimeValue

log = structlog.get_logger(__name__)

SPREAD_SECONDS = 0.001
"""Of a call on all jobs, each job's wait ends by so much later than the one before: what ten thousand waits that end at
once do would hold the event loop, and most of their last reads would come too late."""

LEAST_SECONDS = 1.0
"""What the API server gets for the lookup and the write, however short the timeout, and for the last read."""


@dataclass(frozen=True, slots=True)
class Wait:
    """How long to wait. Times by the event loop's clock."""

    arrived: float
    deadline: float
    write_by: float
    """When to stop waiting for the write: `0` means one check and no waiting, but the write must come before it."""
    text: str
    """The timeout as the client wrote it."""
    in_vain: bool
    """Whether the timeout means no waiting at all."""

    @classmethod
    def of(cls, timeout: TimeValue, arrived: float) -> Self:
        """Return the wait of a request that arrived at that time."""
        seconds = min(timeout.seconds, LONGEST_WAIT)
        return cls(arrived, arrived + seconds, arrived + max(seconds, LEAST_SECONDS), timeout.text, seconds <= 0)

    def later(self, seconds: float) -> Self:
        """Return the same wait with a later end."""
        return replace(self, deadline=self.deadline + seconds, write_by=self.write_by + seconds)

    def waited(self) -> float:
        """Return the seconds since the request arrived."""
        return asyncio.get_running_loop().time() - self.arrived


RESULTS: Mapping[Verdict, str] = {
    Verdict.STOPPED: "stopped",
    Verdict.GONE: "gone",
    Verdict.OVERTAKEN: "overtaken",
    Verdict.SHUTDOWN: "shutdown",
    Verdict.WAIT: "timeout",
}
"""How a wait ended, in a word."""


@dataclass(frozen=True, slots=True)
class StopTimeoutAnswer:
    """How a stop that is not seen in time is answered."""

    dialect: Dialect
    timeout_status: int = 500


class Stops:
    """Stops one job, or all jobs of a namespace."""

    def __init__(
        self,
        attempts: Attempts,
        states: DesiredStates,
        waiters: Waiters,
        room: WaitingRoom,
        notices: Notices,
        timeout_answer: StopTimeoutAnswer,
        telemetry: EndpointTelemetry | None = None,
    ) -> None:
        self._telemetry = telemetry or NoTelemetry()
        self._attempts, self._states, self._waiters = attempts, states, waiters
        self._notices, self._timeout_answer = notices, timeout_answer
        self._room = room

    async def stop(self, namespace: str, job_id: str, wait: Wait | None, call: Call) -> None:
        """Return when the stop is durable and observed or, with `wait`, when the job is stopped. Raises ApiError."""
        self._refuse_new_waits(wait)
        by = None if wait is None else wait.write_by
        with self._places(wait, call, 1):
            await self._attempts.one(namespace, job_id, partial(self._stop, wait=wait, call=call), call.permit, by=by)

    async def stop_all(self, namespace: str, wait: Wait | None, call: Call) -> None:
        """Stop every job of the namespace that the caller may stop.

        One that is being deleted is stopping already and only waited for.

        Returns when all are durable, or stopped. Raises ApiError once every job has been tried.
        """
        self._refuse_new_waits(wait)
        by = None if wait is None else wait.write_by
        jobs = await self._attempts.all(namespace, call.permit, by=by)
        with self._places(wait, call, len(jobs)):
            number = count()

            async def stop(job: JobView) -> None:
                own = None if wait is None else wait.later(next(number) * SPREAD_SECONDS)
                await self._stop_too(job, own, call)

            await self._attempts.each(jobs, stop)

    def _places(self, wait: Wait | None, call: Call, number: int) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if wait is None else self._room.places(call.permit.caller, number)

    async def _stop_too(self, job: JobView, wait: Wait | None, call: Call) -> None:
        if not aborting(job):
            await self._stop(job, wait, call)
        elif wait is not None:
            await self._see_gone(job, wait)

    async def _stop(self, job: JobView, wait: Wait | None, call: Call) -> None:
        if aborting(job):
            raise state_errors.cannot("stop", job.job_id, "ABORTING")
        if wait is None:
            async with self._attempts.attempt(job, DesiredState.STOPPED, call):
                await self._attempts.record(job, DesiredState.STOPPED, call)
            self._telemetry.stop_answered("recorded", None)
            return
        async with self._attempts.attempt(job, DesiredState.STOPPED, call, until=wait.deadline, by=wait.write_by):
            with self._waiters.waiter(job.uid) as waiter:
                try:
                    async with asyncio.timeout_at(wait.write_by):
                        asked = await self._attempts.write(job, DesiredState.STOPPED, call)
                except TimeoutError:
                    self._telemetry.stop_answered(RESULTS[Verdict.WAIT], wait.waited())
                    raise self._timed_out(waiter.progress.newest or job, wait, None) from None
                await self._see_stopped(waiter, asked, wait)

    async def _see_gone(self, job: JobView, wait: Wait) -> None:
        with self._waiters.waiter(job.uid) as waiter:
            # It may have gone between the listing and the subscription.
            with contextlib.suppress(KubeError, TimeoutError):
                waiter.progress.hear(await self._states.now(job, LEAST_SECONDS))
            await self._see_stopped(waiter, job, wait)

    async def _see_stopped(self, waiter: Waiter, asked: JobView, wait: Wait) -> None:
        """Return once the job is stopped as of the generation of `asked`. Raises ApiError."""
        try:
            with self._telemetry.step("wait for stopped"):
                verdict = await self._verdict(waiter, asked, wait)
        except Exception as e:
            log.exception("waiting failed", namespace=asked.namespace, job=asked.name)
            raise state_errors.waiting_failed(asked.job_id, job_state(waiter.progress.newest or asked)) from e
        self._telemetry.stop_answered(RESULTS[verdict], wait.waited())
        newest = waiter.progress.newest or asked
        if verdict is Verdict.STOPPED:
            return
        if verdict is Verdict.GONE:
            raise state_errors.job_not_found(asked.job_id)
        if verdict is Verdict.OVERTAKEN:
            raise state_errors.overtaken(asked.job_id, asked=asked.generation, by=newest.generation)
        if verdict is Verdict.SHUTDOWN:
            observed = newest.status.observed_generation
            raise state_errors.shutting_down(
                asked.job_id, job_state(newest), asked=asked.generation, observed=observed, held_up=held_up(newest)
            )
        raise self._timed_out(newest, wait, asked.generation)

    async def _verdict(self, waiter: Waiter, asked: JobView, wait: Wait) -> Verdict:
        verdict = await waiter.settled(asked, wait.deadline)
        if verdict is not Verdict.WAIT:
            return verdict
        # Where the API server does not answer, what the watch has shown last stands, during this read too.
        with contextlib.suppress(KubeError, TimeoutError):
            waiter.progress.hear(await self._states.now(asked, LEAST_SECONDS))
        return waiter.progress.verdict

    def _timed_out(self, newest: JobView, wait: Wait, generation: int | None) -> errors.ApiError:
        """Report the timeout, and return the error. `generation` is the stop's; None: its write has no answer yet."""
        if not wait.in_vain:
            self._notices.timed_out(newest, wait.text, generation)
        return state_errors.stop_timed_out(
            newest.job_id,
            wait.text,
            job_state(newest) if self._timeout_answer.dialect.timeout_tells_state else None,
            asked=generation,
            observed=newest.status.observed_generation,
            held_up=held_up(newest),
            status=self._timeout_answer.timeout_status,
        )

    def _refuse_new_waits(self, wait: Wait | None) -> None:
        # Before the write: an answer of 503 promises that nothing was changed.
        if wait is not None and self._waiters.draining:
            raise errors.unavailable("This process shuts down and takes no new waits; nothing was changed")
