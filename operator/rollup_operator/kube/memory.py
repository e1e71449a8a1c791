"""Answers that are good for seconds: kept until then, and asked for once however many want them at once."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class ShortMemory(Generic[T]):
    """Holds at most `size` answers; the one that was wanted least recently goes first. Errors are never kept.

    `keep` tells for how many seconds an answer is good. They count from when it was asked for: what the answer
    describes is no newer than that. Of one owner's answers no more than `share` are kept, so that nobody makes answers
    of others go by asking for many.
    """

    def __init__(
        self,
        keep: Callable[[T], float],
        *,
        size: int,
        share: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep, self._size, self._share, self._clock = keep, size, share or size, clock
        self._known: OrderedDict[bytes, _Answer[T]] = OrderedDict()
        self._owned: dict[Hashable, OrderedDict[bytes, None]] = {}
        """The keys of each owner's answers, in the same order."""
        self._asked: dict[bytes, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: bytes) -> bool:
        """Whether an answer is known that is still good."""
        return (known := self._known.get(key)) is not None and self._clock() < known.until

    async def get(
        self, key: bytes, ask: Callable[[], Awaitable[T]], owner: Callable[[T], Hashable] = lambda _: None
    ) -> T:
        """Return the answer that is known, or that of `ask`, which all who want the same key meanwhile share.

        `owner` tells whose an answer is. Raises what `ask` raises. A caller that is cancelled leaves the question to
        the others.
        """
        if (known := self._known.get(key)) is not None:
            if self._clock() < known.until:
                self._known.move_to_end(key)
                self._owned[known.owner].move_to_end(key)
                return known.answer
            self._forget(key)
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(self._ask(key, ask, owner))
            task.add_done_callback(_heard)
        return await asyncio.shield(task)

    async def _ask(self, key: bytes, ask: Callable[[], Awaitable[T]], owner: Callable[[T], Hashable]) -> T:
        began = self._clock()
        try:
            answer = await ask()
        finally:
            del self._asked[key]
        if (until := began + self._keep(answer)) > self._clock():
            self._remember(key, _Answer(answer, until, owner(answer)))
        return answer

    def _remember(self, key: bytes, known: "_Answer[T]") -> None:
        self._known[key] = known
        mine = self._owned.setdefault(known.owner, OrderedDict())
        mine[key] = None
        if len(mine) > self._share:
            self._forget(next(iter(mine)))
        if len(self._known) > self._size:
            self._forget(next(iter(self._known)))

    def _forget(self, key: bytes) -> None:
        owner = self._known.pop(key).owner
        del self._owned[owner][key]
        if not self._owned[owner]:
            del self._owned[owner]


@dataclass(frozen=True, slots=True)
class _Answer(Generic[T]):
    answer: T
    until: float
    owner: Hashable


def _heard(task: "asyncio.Task[T]") -> None:
    if not task.cancelled():
        task.exception()  # whoever asked may be gone; asyncio would complain that nobody took the error
