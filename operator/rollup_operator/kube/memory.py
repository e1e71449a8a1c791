"""Answers that are good for seconds: kept until then, and asked for once however many want them at once."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class ShortMemory(Generic[T]):
    """Holds at most `size` answers; the one that was wanted least recently goes first. Errors are never kept.

    `keep` tells for how many seconds an answer is good. They count from when it was asked for: what the answer
    describes is no newer than that.
    """

    def __init__(self, keep: Callable[[T], float], *, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep, self._size, self._clock = keep, size, clock
        self._known: OrderedDict[bytes, tuple[T, float]] = OrderedDict()
        self._asked: dict[bytes, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: bytes) -> bool:
        """Whether an answer is known that is still good."""
        return (known := self._known.get(key)) is not None and self._clock() < known[1]

    async def get(self, key: bytes, ask: Callable[[], Awaitable[T]]) -> T:
        """Return the answer that is known, or that of `ask`, which all who want the same key meanwhile share.

        Raises what `ask` raises. A caller that is cancelled leaves the question to the others.
        """
        if (known := self._known.get(key)) is not None:
            answer, until = known
            if self._clock() < until:
                self._known.move_to_end(key)
                return answer
            del self._known[key]
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(self._ask(key, ask))
            task.add_done_callback(_heard)
        return await asyncio.shield(task)

    async def _ask(self, key: bytes, ask: Callable[[], Awaitable[T]]) -> T:
        began = self._clock()
        try:
            answer = await ask()
        finally:
            del self._asked[key]
        if (until := began + self._keep(answer)) > self._clock():
            self._known[key] = answer, until
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        return answer


def _heard(task: "asyncio.Task[T]") -> None:
    if not task.cancelled():
        task.exception()  # whoever asked may be gone; asyncio would complain that nobody took the error
