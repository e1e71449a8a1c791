"""Virtual time: one clock for the whole world, and an event loop for each simulated process.

The clock jumps from one thing that is due to the next, so an hour of virtual time costs as much as what happens in it.
Each process has a loop of its own, because a process can crash or freeze while the world goes on:

    world    ── answers, watch events ──▶  loop of replica 1   (frozen: callbacks pile up, none runs)
    (heap)   ── answers, watch events ──▶  loop of replica 2   (dead: callbacks are dropped)

A loop is a plain queue of callbacks. asyncio's own tasks, futures, locks and timeouts run on it unchanged.
"""

import asyncio
import heapq
import threading
import time
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from unittest.mock import patch

T = TypeVar("T")

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
"""What the clock on the wall shows when a schedule begins."""

STEP = 1e-6
"""Seconds that one round of callbacks takes. Time that never moves would hide a loop that spins."""

MOST_ROUNDS = 200_000
"""A schedule takes a few thousand. One that takes so many spins somewhere."""


class Spins(Exception):
    """Callbacks follow one another without end."""


class Clock:
    """What time it is, and what is due when. Seconds since the schedule began."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rounds = 0
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._count = 0
        self._ready: deque[ProcessLoop] = deque()
        self.running: ProcessLoop | None = None
        """Whose callbacks run now."""

    def at(self, when: float, action: Callable[..., object], *args: Any) -> None:
        """Call `action` at that time, after what was scheduled for the same time before."""
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, action, args))

    def after(self, seconds: float, action: Callable[..., object], *args: Any) -> None:
        """Call `action` so many seconds from now."""
        self.at(self.now + seconds, action, *args)

    def advance(self, until: float) -> None:
        """Let everything happen that is due by then."""
        heap, ready = self._heap, self._ready
        while True:
            if ready:
                self.rounds += 1
                if self.rounds > MOST_ROUNDS:
                    raise Spins(f"{MOST_ROUNDS} rounds of callbacks at {self.now:.3f} s")
                ready.popleft().run_round()
                self.now += STEP
            elif heap and heap[0][0] <= until:
                when, _, action, args = heapq.heappop(heap)
                if when > self.now:
                    self.now = when
                action(*args)
            else:
                self.now = max(self.now, until)
                return

    def has_work(self, loop: "ProcessLoop") -> None:
        """Let a loop run its callbacks in its turn."""
        self._ready.append(loop)

    def wall(self, offset: float = 0.0) -> datetime:
        """Return what a clock on the wall shows that is so many seconds ahead."""
        return BEGIN + timedelta(seconds=self.now + offset)


class ProcessLoop(asyncio.AbstractEventLoop):
    """The event loop of one process."""

    def __init__(self, clock: Clock, fail: Callable[[str], None]) -> None:
        """`fail` is told of exceptions that nobody handles."""
        self.clock, self._fail = clock, fail
        self._callbacks: deque[asyncio.Handle] = deque()
        self._late: list[asyncio.TimerHandle] = []
        """Timers that came due while the process was frozen."""
        self._queued = False
        self.frozen = self.dead = False
        self.wall_offset = 0.0
        """Seconds that this machine's wall clock is ahead."""

    # What the world does to a process

    def run(self, work: Callable[..., T], *args: Any) -> T:
        """Call something as if the process did."""
        before, self.clock.running = self.clock.running, self
        outer = events._get_running_loop()
        events._set_running_loop(self)
        try:
            return work(*args)
        finally:
            events._set_running_loop(outer)
            self.clock.running = before

    def run_round(self) -> None:
        """Run the callbacks that wait now; those that they add wait for the next round."""
        self._queued = False
        if self.frozen or self.dead:
            return
        callbacks, self._callbacks = self._callbacks, deque()
        self.clock.running = self
        events._set_running_loop(self)
        try:
            for handle in callbacks:
                if not handle._cancelled:  # type: ignore[attr-defined]
                    handle._run()  # type: ignore[attr-defined]
        finally:
            events._set_running_loop(None)
            self.clock.running = None

    def freeze(self) -> None:
        """Run nothing from now on, as after SIGSTOP. What arrives waits."""
        self.frozen = True

    def thaw(self) -> None:
        """Go on: first with what has arrived, then with the timers that are late."""
        self.frozen = False
        self._callbacks.extend(self._late)
        self._late.clear()
        self._wake()

    def kill(self) -> None:
        """End the process: none of its code runs any more."""
        self.dead = True

    # What asyncio asks of a loop

    def time(self) -> float:
        return self.clock.now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self._callbacks.append(handle)
        if not self._queued:
            self._wake()
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:  # type: ignore[override]
        return self.call_at(self.clock.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:  # type: ignore[override]
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self.clock.at(when, self._due, timer)
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:  # type: ignore[override]
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.dead

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if "was destroyed but it is pending" not in context["message"]:  # the tasks of a process that was killed
            self._fail(f"{context['message']}: {context.get('exception')!r}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """The clock finds out when the timer comes due."""

    # Inside

    def _due(self, timer: asyncio.TimerHandle) -> None:
        if timer._cancelled or self.dead:  # type: ignore[attr-defined]
            return
        if self.frozen:
            self._late.append(timer)
            return
        self._callbacks.append(timer)
        if not self._queued:
            self._wake()

    def _wake(self) -> None:
        if not (self.frozen or self.dead or self._queued):
            self._queued = True
            self.clock.has_work(self)


@contextmanager
def virtual_time(clock: Clock) -> Iterator[None]:
    """Make the functions of the module `time` show the clock's time to this thread."""
    begin, this = BEGIN.timestamp(), threading.get_ident()

    def wall() -> float:
        offset = clock.running.wall_offset if clock.running is not None else 0.0
        return begin + clock.now + offset

    def instead_of(real: Callable[[], float], virtual: Callable[[], float]) -> Callable[[], float]:
        return lambda: virtual() if threading.get_ident() == this else real()

    with (
        patch.object(time, "time", instead_of(time.time, wall)),
        patch.object(time, "time_ns", instead_of(time.time_ns, lambda: int(wall() * 1e9))),
        patch.object(time, "monotonic", instead_of(time.monotonic, lambda: clock.now)),
        patch.object(time, "perf_counter", instead_of(time.perf_counter, lambda: clock.now)),
    ):
        yield
