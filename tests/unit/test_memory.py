"""Answers that are good for seconds."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from rollup_operator.kube.answer_cache import ShortMemory


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Counts who asks; answers when the test lets it."""

    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False

    def answer(self, answer: bool) -> Callable[[], Awaitable[bool]]:
        async def ask() -> bool:
            self.asked += 1
            await self.gate.wait()
            if self.fails:
                raise ConnectionError
            return answer

        return ask


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> ShortMemory[bool]:
    return ShortMemory(lambda good: 10.0 if good else 2.0, size=3, clock=clock)


@pytest.mark.parametrize(("answer", "seconds"), [(True, 10), (False, 2)])
async def test_each_kind_of_answer_is_good_for_its_own_time(
    memory: ShortMemory[bool], clock: Clock, answer: bool, seconds: float
) -> None:
    source = Source()
    for clock.now, asked in ((0, 1), (seconds - 0.1, 1), (seconds, 2), (2 * seconds - 0.1, 2), (2 * seconds, 3)):
        assert await memory.get(b"k", source.answer(answer)) is answer
        assert source.asked == asked


async def test_the_time_counts_from_the_question(memory: ShortMemory[bool], clock: Clock) -> None:
    source = Source()
    source.gate.clear()
    first = asyncio.create_task(memory.get(b"k", source.answer(True)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.now = 10
    source.gate.set()
    assert await first
    await memory.get(b"k", source.answer(True))
    assert source.asked == 2


async def test_an_error_is_not_kept(memory: ShortMemory[bool]) -> None:
    source = Source()
    source.fails = True
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await memory.get(b"k", source.answer(True))
    source.fails = False
    assert await memory.get(b"k", source.answer(True))
    assert source.asked == 3


async def test_those_who_want_the_same_meanwhile_share_one_question(memory: ShortMemory[bool]) -> None:
    source = Source()
    source.gate.clear()
    many = [asyncio.create_task(memory.get(b"k", source.answer(True))) for _ in range(20)]
    other = asyncio.create_task(memory.get(b"other", source.answer(False)))
    await asyncio.sleep(0)
    source.gate.set()
    assert await asyncio.gather(*many) == [True] * 20
    assert await other is False
    assert source.asked == 2


async def test_an_error_reaches_all_who_asked(memory: ShortMemory[bool]) -> None:
    source = Source()
    source.fails = True
    many = [asyncio.create_task(memory.get(b"k", source.answer(True))) for _ in range(3)]
    outcomes = await asyncio.gather(*many, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionError] * 3
    assert source.asked == 1


async def test_who_goes_away_leaves_the_question_to_the_others(memory: ShortMemory[bool]) -> None:
    source = Source()
    source.gate.clear()
    first, second = (asyncio.create_task(memory.get(b"k", source.answer(True))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    source.gate.set()
    assert await second
    assert first.cancelled()
    assert source.asked == 1


async def test_an_error_that_nobody_hears_any_more_is_no_complaint(memory: ShortMemory[bool]) -> None:
    source = Source()
    source.gate.clear()
    source.fails = True
    first = asyncio.create_task(memory.get(b"k", source.answer(True)))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    source.gate.set()
    source.fails = False
    assert await memory.get(b"k", source.answer(True))


async def test_the_one_wanted_least_recently_makes_room(memory: ShortMemory[bool]) -> None:
    source = Source()
    for key in (b"a", b"b", b"c", b"a", b"d"):
        await memory.get(key, source.answer(True))
    assert (source.asked, len(memory)) == (4, 3)
    await memory.get(b"a", source.answer(True))
    assert source.asked == 4
    await memory.get(b"b", source.answer(True))
    assert source.asked == 5


async def test_nobody_makes_answers_of_others_go(clock: Clock) -> None:
    memory: ShortMemory[bool] = ShortMemory(lambda _: 10.0, size=6, share=3, clock=clock)
    source = Source()
    for key in (b"ann-1", b"ann-2"):
        await memory.get(key, source.answer(True), lambda _: "ann")
    for number in range(100):
        await memory.get(b"bob-%d" % number, source.answer(True), lambda _: "bob")
    assert (source.asked, len(memory)) == (102, 5)
    for key in (b"ann-1", b"ann-2", b"bob-97", b"bob-98", b"bob-99"):
        await memory.get(key, source.answer(True), lambda _: "ann")
    assert source.asked == 102
    await memory.get(b"bob-96", source.answer(True), lambda _: "bob")
    assert source.asked == 103


async def test_whoever_has_the_most_makes_room_however_many_they_are(clock: Clock) -> None:
    memory: ShortMemory[bool] = ShortMemory(lambda _: 10.0, size=10, share=5, clock=clock)
    source = Source()
    await memory.get(b"ann-1", source.answer(True), lambda _: "ann")
    for number in range(100):
        for other in ("bob", "eve", "mallory"):
            await memory.get(f"{other}-{number}".encode(), source.answer(True), lambda _, who=other: who)
    assert (source.asked, len(memory)) == (301, 10)
    await memory.get(b"ann-1", source.answer(True), lambda _: "ann")
    assert source.asked == 301


async def test_what_is_over_makes_room_for_its_owner(clock: Clock) -> None:
    memory: ShortMemory[bool] = ShortMemory(lambda _: 10.0, size=6, share=2, clock=clock)
    source = Source()
    for clock.now in (0, 20, 40):
        for key in (b"a", b"b"):
            await memory.get(key, source.answer(True), lambda _: "ann")
            await memory.get(key, source.answer(True), lambda _: "ann")
    assert (source.asked, len(memory)) == (6, 2)
