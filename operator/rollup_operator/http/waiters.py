"""Waiting for a stop: the futures that the registry's news resolve.

A waiter costs one future, one timer and one subscription: no thread, no polling. Its time is never over before the
operator has taken the stop in, or does not seem to: `timeout=0` on an idle job sees it stopped.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rollup_operator.http.acceptance import Acceptances
from rollup_operator.http.ports import Jobs
from rollup_operator.model.reader import JobView
from rollup_operator.model.stopping import Progress, Verdict

LONGEST_WAIT = 10 * 365 * 86_400.0
"""Seconds. Timers of an event loop do not take Elasticsearch's longest time values."""


@dataclass(eq=False, slots=True)
class Waiter:
    """One client that waits. Use within `with`: leaving it ends the subscription and the timer."""

    progress: Progress
    _home: "Waiters"
    _done: asyncio.Future[Verdict] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _unsubscribe: Callable[[], None] = field(default_factory=lambda: _nothing)
    _timer: asyncio.TimerHandle | None = None
    _recorded: float = 0.0
    _late: bool = False
    """The client's time is over, and the operator has not taken the stop in yet."""

    def __enter__(self) -> Self:
        # Before the write, so that nothing falls between its answer and the first event.
        self._unsubscribe = self._home.enter(self, self._hear)
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
        """Answer now, unless the answer stands already."""
        if not self._done.done():
            self._done.set_result(verdict)

    def _hear(self, body: JobView | None) -> None:
        verdict = self.progress.hear(body)
        if verdict is not Verdict.WAIT or (self._late and self.progress.accepted):
            self._home.acceptances.noted()
            self.end(verdict)


def _nothing() -> None:
    """Nothing is subscribed."""


class Waiters:
    """All clients that wait in this process."""

    def __init__(self, jobs: Jobs, acceptances: Acceptances | None = None) -> None:
        self._jobs = jobs
        self.acceptances = acceptances or Acceptances(jobs)
        self._waiting: set[Waiter] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.draining = False
        """Whether new waits are to be refused."""
        self.closed = False
        """Whether whoever still waits is answered at once."""

    def __len__(self) -> int:
        return len(self._waiting)

    def waiter(self, uid: str) -> Waiter:
        """Prepare to wait for a stop of this job, which is written within the waiter's `with`."""
        return Waiter(Progress(uid), self)

    def enter(self, waiter: Waiter, listener: Callable[[JobView | None], None]) -> Callable[[], None]:
        """Note that a waiter has come, and subscribe it."""
        self._waiting.add(waiter)
        self._empty.clear()
        return self._jobs.subscribe(waiter.progress.uid, listener)

    def leave(self, waiter: Waiter) -> None:
        """Note that a waiter has gone."""
        self._waiting.discard(waiter)
        if not self._waiting:
            self._empty.set()

    async def drain(self, seconds: float) -> int:
        """Take no new waiters, give those here `seconds` to see their stop, then answer the rest.

        Returns how many had to be sent away.
        """
        self.draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            pass
        self.closed = True
        left = list(self._waiting)
        for waiter in left:
            waiter.end(Verdict.SHUTDOWN)
        return len(left)
