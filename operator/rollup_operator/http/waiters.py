"""Waiting for a stop: a pure judgement of bodies, and the futures that the registry's news resolve.

A waiter costs one future, one timer and one subscription: no thread, no polling.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self

from rollup_operator.http.ports import Jobs
from rollup_operator.model.job import DesiredState
from rollup_operator.model.reader import JobView
from rollup_operator.model.status import State

LONGEST_WAIT = 10 * 365 * 86_400.0
"""Seconds. Timers of an event loop do not take Elasticsearch's longest time values."""


class Verdict(Enum):
    """What a body says about a stop."""

    WAIT = "wait"
    STOPPED = "stopped"
    OVERTAKEN = "overtaken"
    GONE = "gone"
    SHUTDOWN = "shutdown"
    """No body says this: the process ends."""


def judge(body: JobView, uid: str, generation: int) -> Verdict:
    """Tell whether the stop that `generation` of the job `uid` asks for has been carried out, by this body alone."""
    if body.uid != uid:
        return Verdict.GONE
    if body.desired is DesiredState.STARTED:
        # A body of an earlier generation is older than the stop.
        return Verdict.OVERTAKEN if body.generation > generation else Verdict.WAIT
    if body.status.state is State.STOPPED and body.status.observed_generation >= generation:
        return Verdict.STOPPED
    return Verdict.WAIT


@dataclass(slots=True)
class Progress:
    """The news of one stop, in whatever order it comes. The first verdict other than WAIT is final."""

    uid: str
    generation: int | None = None
    """The generation to wait for; None until the stop is written. Until then news is kept, not judged."""
    newest: JobView | None = None
    gone: bool = False
    verdict: Verdict = Verdict.WAIT

    def hear(self, body: JobView | None) -> Verdict:
        """Take a body, or None for a job that is gone; older bodies than the newest are dropped."""
        if body is None or body.uid != self.uid:
            self.gone = True
        elif self.newest is None or body.age >= self.newest.age:
            self.newest = body
        return self._judge()

    def written(self, answer: JobView) -> Verdict:
        """Take the answer of the write, whose generation is the one to wait for."""
        self.generation = answer.generation
        # Judged by itself first: it may be the only body that shows the stop done, if a start follows at once.
        self.verdict = judge(answer, self.uid, answer.generation)
        return self.hear(answer)

    def _judge(self) -> Verdict:
        if self.verdict is Verdict.WAIT and self.generation is not None:
            if self.newest is not None:
                self.verdict = judge(self.newest, self.uid, self.generation)
            if self.verdict is Verdict.WAIT and self.gone:
                self.verdict = Verdict.GONE
        return self.verdict


@dataclass(eq=False, slots=True)
class Waiter:
    """One client that waits. Use within `with`: leaving it ends the subscription and the timer."""

    progress: Progress
    _home: "Waiters"
    _done: asyncio.Future[Verdict] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _unsubscribe: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        # Before the write, so that nothing falls between its answer and the first event.
        self._unsubscribe = self._home.enter(self, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unsubscribe()
        self._home.leave(self)
        self._done.cancel()

    async def settled(self, answer: JobView, deadline: float) -> Verdict:
        """Wait for a verdict on the write with this answer; WAIT when `deadline` (by the loop's clock) comes first."""
        if (verdict := self.progress.written(answer)) is not Verdict.WAIT:
            return verdict
        if self._home.closed:
            return Verdict.SHUTDOWN
        loop = asyncio.get_running_loop()
        timer = loop.call_at(min(deadline, loop.time() + LONGEST_WAIT), self.end, Verdict.WAIT)
        try:
            return await self._done
        finally:
            timer.cancel()

    def end(self, verdict: Verdict) -> None:
        """Answer now, unless the answer stands already."""
        if not self._done.done():
            self._done.set_result(verdict)

    def _hear(self, body: JobView | None) -> None:
        self._resolve(self.progress.hear(body))

    def _resolve(self, verdict: Verdict) -> None:
        if verdict is not Verdict.WAIT:
            self.end(verdict)


class Waiters:
    """All clients that wait in this process."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
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
