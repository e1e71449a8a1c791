"""Waits for stops: futures that newer views of the jobs resolve.

A waiter costs one future, one timer and one subscription: no thread, no polling. It never times out before the
operator has observed the stop, or seems not to answer: `timeout=0` on an idle job still sees it stopped.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rollup_operator.http.jobs.acceptance import Acceptances
from rollup_operator.http.ports import Jobs
from rollup_operator.model.job_view import JobView
from rollup_operator.model.stop_verdict import StopProgress, Verdict

LONGEST_WAIT = 10 * 365 * 86_400.0
"""Seconds. Timers of an event loop do not take Elasticsearch's longest time values."""


@dataclass(eq=False, slots=True)
class Waiter:
    """One client that waits. Use within `with`: leaving it ends the subscription and the timer."""

    progress: StopProgress
    _home: "Waiters"
    _done: asyncio.Future[Verdict] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _unsubscribe: Callable[[], None] = field(default_factory=lambda: _nothing)
    _timer: asyncio.TimerHandle | None = None
    _recorded: float = 0.0
    _late: bool = False
    """The client's time is over, and the operator has not observed the stop yet."""

    def __enter__(self) -> Self:
        # Before the write, so that no event is missed between its answer and the subscription.
        self._unsubscribe = self._home.enter(self, self.hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unsubscribe()
        self._unsubscribe = _nothing  # it refers to this waiter, and both would be garbage that only a collection frees
        self._home.leave(self)
        self._done.cancel()

    async def settled(self, answer: JobView, deadline: float) -> Verdict:
        """Wait for a verdict on the write with this answer; WAIT when `deadline` (by the loop's clock) comes first."""
        if (verdict := self.progress.written(answer)) is not Verdict.WAIT:
            return verdict
        if self._home.closed:
            return Verdict.SHUTDOWN
        loop = asyncio.get_running_loop()
        self._recorded = loop.time()
        self._timer = loop.call_at(min(deadline, self._recorded + LONGEST_WAIT), self._time_is_over)
        try:
            return await self._done
        finally:
            self._timer.cancel()
            self._timer = None  # it refers to this waiter

    def _time_is_over(self) -> None:
        loop = asyncio.get_running_loop()
        if self.progress.accepted or loop.time() >= (end := self._home.acceptances.until(self._recorded)):
            self.end(Verdict.WAIT)
        else:
            self._late = True
            self._timer = loop.call_at(end, self._time_is_over)

    def end(self, verdict: Verdict) -> None:
        """Answer now, unless there is an answer already."""
        if not self._done.done():
            self._done.set_result(verdict)

    def hear(self, body: JobView | None) -> None:
        """Take in a body, whoever brought it; None: the job is gone."""
        verdict = self.progress.hear(body)
        if verdict is not Verdict.WAIT or (self._late and self.progress.accepted):
            self._home.acceptances.noted()
            self.end(verdict)


def _nothing() -> None:
    """Nothing is subscribed."""


@dataclass(slots=True)
class _OfJob:
    """Those who wait for one job."""

    waiters: set[Waiter] = field(default_factory=set)
    version: int = -1
    """The version that was read last: many consecutive waits read the same."""


class Waiters:
    """All clients that wait in this process."""

    def __init__(self, jobs: Jobs, acceptances: Acceptances | None = None) -> None:
        self._jobs = jobs
        self.acceptances = acceptances or Acceptances(jobs)
        self._waiting: dict[str, _OfJob] = {}
        """By the job's uid."""
        self._empty = asyncio.Event()
        self._empty.set()
        self.draining = False
        """Whether new waits are to be refused."""
        self.closed = False
        """Whether callers that still wait are answered at once."""

    def __len__(self) -> int:
        return sum(len(of_job.waiters) for of_job in self._waiting.values())

    def waiter(self, uid: str) -> Waiter:
        """Prepare to wait for a stop of this job, which is written within the waiter's `with`."""
        return Waiter(StopProgress(uid), self)

    def enter(self, waiter: Waiter, listener: Callable[[JobView | None], None]) -> Callable[[], None]:
        """Note that a waiter has come, and subscribe it."""
        self._waiting.setdefault(waiter.progress.uid, _OfJob()).waiters.add(waiter)
        self._empty.clear()
        return self._jobs.subscribe(waiter.progress.uid, listener)

    def hear(self, uid: str, body: JobView | None) -> None:
        """Take in a job as one of its waiters, or any other call, has just read it: it counts for all of them."""
        if (of_job := self._waiting.get(uid)) is None or (body is not None and body.version <= of_job.version):
            return
        of_job.version = of_job.version if body is None else body.version
        for waiter in tuple(of_job.waiters):
            waiter.hear(body)

    def leave(self, waiter: Waiter) -> None:
        """Note that a waiter has gone."""
        of_job = self._waiting[waiter.progress.uid]
        of_job.waiters.discard(waiter)
        if not of_job.waiters:
            del self._waiting[waiter.progress.uid]
        if not self._waiting:
            self._empty.set()

    async def drain(self, seconds: float) -> int:
        """Take no new waiters, give the current ones `seconds` to see their stop, then answer the rest.

        Returns the number of the latter.
        """
        self.draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            pass
        self.closed = True
        left = [waiter for of_job in self._waiting.values() for waiter in of_job.waiters]
        for waiter in left:
            waiter.end(Verdict.SHUTDOWN)
        return len(left)
