"""A cache of answers that hold for seconds: however many callers want one at once, it is requested once."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class ShortMemory(Generic[T]):
    """Holds at most `size` answers. Errors are never kept.

    `keep` says for how many seconds an answer is good. They count from its request on: what the answer
    describes is no newer than that. Of one owner's answers no more than `share` are kept, and where there are too many,
    the owner with the most loses the one that was wanted least recently: so nobody makes answers of others go by asking
    for many.
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

    def knows(self, key: bytes, keep: Callable[[T], float] | None = None) -> bool:
        """Whether an answer is cached that is still good, by another `keep` if one is given."""
        return (known := self._known.get(key)) is not None and self._is_good(known, keep)

    async def get(
        self,
        key: bytes,
        ask: Callable[[], Awaitable[T]],
        owner: Callable[[T], Hashable] = lambda _: None,
        keep: Callable[[T], float] | None = None,
    ) -> T:
        """Return the cached answer, or that of `ask`, which all callers of the same key meanwhile share.

        `owner` says whose an answer is; another `keep` says what is good enough for this caller. Raises what `ask`
        raises. A caller that is cancelled leaves the request to the others.
        """
        if (known := self._known.get(key)) is not None:
            if self._is_good(known, keep):
                self._known.move_to_end(key)
                self._owned[known.owner].move_to_end(key)
                return known.answer
            self._forget(key)
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(self._ask(key, ask, owner, keep))
            task.add_done_callback(_heard)
        return await asyncio.shield(task)

    def _is_good(self, known: "_Answer[T]", keep: Callable[[T], float] | None) -> bool:
        return self._clock() < known.asked + (keep or self._keep)(known.answer)

    async def _ask(
        self,
        key: bytes,
        ask: Callable[[], Awaitable[T]],
        owner: Callable[[T], Hashable],
        keep: Callable[[T], float] | None,
    ) -> T:
        began = self._clock()
        try:
            answer = await ask()
        finally:
            del self._asked[key]
        found = _Answer(answer, began, owner(answer))
        if self._is_good(found, keep):
            self._remember(key, found)
        return answer

    def _remember(self, key: bytes, known: "_Answer[T]") -> None:
        self._known[key] = known
        mine = self._owned.setdefault(known.owner, OrderedDict())
        mine[key] = None
        if len(mine) > self._share:
            self._forget(next(iter(mine)))
        if len(self._known) > self._size:
            most = max(self._owned, key=lambda owner: len(self._owned[owner]))
            self._forget(next(iter(self._owned[most])))

    def _forget(self, key: bytes) -> None:
        owner = self._known.pop(key).owner
        del self._owned[owner][key]
        if not self._owned[owner]:
            del self._owned[owner]


@dataclass(frozen=True, slots=True)
class _Answer(Generic[T]):
    answer: T
    asked: float
    owner: Hashable


def _heard(task: "asyncio.Task[T]") -> None:
    if not task.cancelled():
        task.exception()  # the caller may be gone; asyncio would log that nobody took the error
