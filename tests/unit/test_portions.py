"""Long work in the event loop: who has a turn, how often, and what comes of the work."""

import asyncio
import random

import pytest

from rollup_operator.concurrency.portions import (
    AT_ONCE,
    PORTION_SECONDS,
    Spreader,
    Work,
    chosen_of,
    each,
    in_portions,
    sorted_by,
)
from support.portions import result


class Clock:
    """Time that passes only as work takes it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, steps: int, seconds: float) -> Work[int]:
        for _ in range(steps):
            self.now += seconds
            yield
        return steps


async def turns_during(*works: "asyncio.Task[int]") -> int:
    turns = 0
    while not all(work.done() for work in works):
        await asyncio.sleep(0)
        turns += 1
    return turns


async def test_others_have_their_turn_after_each_portion() -> None:
    clock = Clock()
    steps = 100
    work = asyncio.create_task(in_portions(clock.work(steps, PORTION_SECONDS / 10), clock=clock))
    turns = await turns_during(work)
    assert await work == steps
    assert turns >= steps / 10


async def test_short_work_is_done_in_one_turn() -> None:
    clock = Clock()
    work = asyncio.create_task(in_portions(clock.work(9, PORTION_SECONDS / 10), clock=clock))
    assert await turns_during(work) <= 2


async def test_works_at_a_time_share_a_portion() -> None:
    clock = Clock()
    works = [asyncio.create_task(in_portions(clock.work(40, PORTION_SECONDS / 40), clock=clock)) for _ in range(10)]
    await asyncio.sleep(0)  # each has begun, and knows of those before it
    longest = 0.0
    while not all(work.done() for work in works):
        before = clock.now
        await asyncio.sleep(0)
        longest = max(longest, clock.now - before)
    assert longest < 2 * PORTION_SECONDS


async def test_work_that_fails_or_is_cancelled_takes_no_share() -> None:
    clock = Clock()

    def failing() -> Work[None]:
        yield
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        await in_portions(failing())
    cancelled = asyncio.create_task(in_portions(clock.work(1000, PORTION_SECONDS), clock=clock))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    work = asyncio.create_task(in_portions(clock.work(9, PORTION_SECONDS / 10), clock=clock))
    assert await turns_during(work) <= 2


def test_items_are_made_chosen_and_put_in_order() -> None:
    numbers = [random.Random(1).randrange(1000) for _ in range(3000)]
    assert result(each(lambda n: n + 1, numbers)) == [n + 1 for n in numbers]
    assert result(chosen_of(numbers, lambda n: n % 2 == 0)) == [n for n in numbers if n % 2 == 0]
    pairs = [(n // 10, object()) for n in numbers]
    assert result(sorted_by(pairs, lambda pair: pair[0])) == sorted(pairs, key=lambda pair: pair[0])
    assert result(sorted_by([], lambda n: n)) == []


def test_sorting_can_be_interrupted() -> None:
    items = list(range(10_000))
    assert sum(1 for _ in sorted_by(items, lambda n: -n)) > 2 * len(items)


async def test_a_few_hear_of_something_in_one_turn_of_the_loop_however_many_tell() -> None:
    heard: list[tuple[str, int]] = []
    spreader = Spreader()

    async def spread(what: str) -> None:
        await spreader.spread(lambda n: heard.append((what, n)), range(10 * AT_ONCE + 1))

    telling = asyncio.gather(*map(spread, "abc"))
    most = before = 0
    while not telling.done():
        await asyncio.sleep(0)
        most, before = max(most, len(heard) - before), len(heard)
    assert most == AT_ONCE
    for what in "abc":
        assert [n for who, n in heard if who == what] == list(range(10 * AT_ONCE + 1))
