"""An event loop whose clock is turned ahead in place of waiting: hours pass in no time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Turning(selectors.DefaultSelector):
    """Never waits: what it would wait for a timer goes into `ahead`."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is left to wait for")
        ready = super().select(0)
        if not ready:
            self.ahead += max(timeout, 0.0)
        return ready


class TurnedLoop(asyncio.SelectorEventLoop):
    """For tests without I/O."""

    def __init__(self) -> None:
        self._turning = _Turning()
        super().__init__(self._turning)

    def time(self) -> float:
        return super().time() + self._turning.ahead

    def freeze(self, seconds: float) -> None:
        """Let so much time pass in which nothing of this process happens."""
        self._turning.ahead += seconds


def turned(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in a loop of its own."""
    with asyncio.Runner(loop_factory=TurnedLoop) as runner:
        return runner.run(work)
