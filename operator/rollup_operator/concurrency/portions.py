"""Long work in the event loop, done in portions: between two of them everything else has its turn.

Long work is a generator that yields wherever it may be interrupted, at least once a millisecond, and returns its
result. So it needs no event loop to be written, and none to be tested.
"""

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from operator import itemgetter
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

Work = Generator[None, None, R]
"""Work that yields where it may be interrupted, and returns its result."""

PORTION_SECONDS = 0.005
"""How long all long work together may hold the event loop: the current works share it."""

SORTED_AT_ONCE = 500
"""The number of items that are sorted without an interruption, in about 0.2 ms."""

AT_ONCE = 20
"""Of many that are notified, those that act on it in one turn of the loop: a job takes some 0.2 ms."""

_under_way = 0


@contextmanager
def sharing(clock: Callable[[], float] = time.perf_counter) -> Iterator[Callable[[], Awaitable[None]]]:
    """Share the event loop with other long work, for work that waits in between.

    Gives what to await at least once a millisecond: it lets others have their turn once a portion is over.
    """
    global _under_way  # noqa: PLW0603  # the event loop, which is shared out here, is the process's one and only, too
    _under_way += 1
    end = clock() + PORTION_SECONDS / _under_way

    async def pause() -> None:
        nonlocal end
        if clock() >= end:
            await asyncio.sleep(0)
            end = clock() + PORTION_SECONDS / _under_way

    try:
        yield pause
    finally:
        _under_way -= 1


async def in_portions(work: Work[R], *, clock: Callable[[], float] = time.perf_counter) -> R:
    """Do the work and return its result. `clock` returns seconds. Raises what the work raises."""
    with sharing(clock) as pause, closing(work):
        while True:
            try:
                next(work)
            except StopIteration as e:
                result: R = e.value
                return result
            await pause()


async def unhurried(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items, each of which is made and used within a millisecond. To be read to the end."""
    with sharing() as pause:
        for item in items:
            yield item
            await pause()


def each(function: Callable[[T], R], items: Iterable[T]) -> Work[list[R]]:
    """Return what the function, which may take up to a millisecond, makes of each item."""
    made = []
    for item in items:
        made.append(function(item))
        yield
    return made


def chosen_of(items: Iterable[T], test: Callable[[T], bool]) -> Work[list[T]]:
    """Return those of the items that pass the test."""
    chosen = []
    for item in items:
        if test(item):
            chosen.append(item)
        yield
    return chosen


def sorted_by(items: Iterable[T], key: Callable[[T], Any]) -> Work[list[T]]:
    """Return the items sorted by their keys; of equal ones the first stays first."""
    keyed = yield from each(lambda entry: (key(entry[1]), *entry), enumerate(items))
    runs = []
    for begin in range(0, len(keyed), SORTED_AT_ONCE):
        runs.append(sorted(keyed[begin : begin + SORTED_AT_ONCE]))
        yield
    return (yield from each(itemgetter(2), heapq.merge(*runs)))


class Spreader:
    """Notifies many, each of which acts in the loop's next turn, which takes far longer than the notification.

    However many spread something at a time, AT_ONCE are notified before the loop continues.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def spread(self, tell: Callable[[T], object], listeners: Sequence[T]) -> None:
        """Notify each of the listeners, in this order."""
        for begin in range(0, len(listeners), AT_ONCE):
            async with self._turn:
                for listener in listeners[begin : begin + AT_ONCE]:
                    tell(listener)
                await asyncio.sleep(0)
