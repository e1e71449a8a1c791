"""What is shared: something is left for whoever comes next, turns go round, and nothing is lost by a cancelled wait."""

import asyncio
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollup_operator.sharing.shares import Held, Shares, TooManyWait


def full(shares: Shares, who: str, amount: int = 1) -> int:
    """Take as often as that is possible at once."""
    count = 0
    while shares.take_now(who, amount) is not None:
        count += 1
    return count


def test_whoever_is_alone_has_a_part_and_each_further_one_finds_some_left() -> None:
    shares = Shares(120)
    assert [full(shares, who) for who in "abcde"] == [60, 30, 15, 7, 4]
    assert shares.take_now("new") is not None


def test_generosity_says_how_large_the_part_of_one_may_be() -> None:
    shares = Shares(12_000, generosity=5)
    assert full(shares, "a") == 10_000
    assert full(shares, "b") == 1_666


def test_what_is_forced_counts_and_is_given_back_once() -> None:
    shares = Shares(4)
    held = [shares.take_now("a", force=True) for _ in range(9)]
    assert shares.taken == 9
    assert shares.take_now("b") is None
    for each in held:
        assert each is not None
        each.end()
        each.end()
    assert shares.taken == 0


def test_what_is_held_grows_only_as_far_as_another_would_get_it() -> None:
    shares = Shares(100)
    held = shares.take_now("a", 40)
    assert held is not None
    assert not held.resize(60)
    assert held.amount == shares.taken == 40
    assert held.resize(50)
    assert held.resize(10)
    assert shares.taken == 10
    assert held.resize(90, force=True)
    assert shares.taken == 90


async def test_who_has_more_than_those_who_wait_gives_way() -> None:
    shares = Shares(6)
    assert full(shares, "greedy") == 3
    held = shares.take_now("modest")
    assert held is not None
    assert not shares.gives_way("modest")
    waiting = [asyncio.ensure_future(shares.take("greedy"))]
    await asyncio.sleep(0)
    assert (shares.gives_way("greedy"), shares.gives_way("modest")) == (True, False)
    assert full(shares, "third") == 1
    assert full(shares, "fourth") == 1
    waiting.append(asyncio.ensure_future(shares.take("new")))
    await asyncio.sleep(0)
    assert shares.gives_way("modest")
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert not shares.gives_way("greedy")
    held.end()


async def test_turns_go_round_among_those_who_wait() -> None:
    shares, order = Shares(1), list[str]()
    held = await shares.take("z")

    async def wait(who: str) -> None:
        async with shares.taking(who):
            order.append(who)

    waiting = [asyncio.create_task(wait(who)) for who in ["a"] * 5 + ["b", "c"]]
    await asyncio.sleep(0)
    assert shares.waiting == 7
    held.end()
    await asyncio.gather(*waiting)
    assert order == ["a", "b", "c", "a", "a", "a", "a"]
    assert shares.taken == 0


async def test_who_has_enough_waiting_is_sent_away_and_others_are_not() -> None:
    shares = Shares(1, waiting=2)
    held = await shares.take("a")

    async def wait(who: str) -> None:
        async with shares.taking(who):
            await asyncio.sleep(0)

    waiting = [asyncio.create_task(wait("a")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyWait):
        await shares.take("a")
    other = asyncio.create_task(wait("b"))
    await asyncio.sleep(0)
    held.end()
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting, other)
    assert (shares.taken, shares.waiting) == (0, 0)


async def test_what_one_may_not_have_holds_up_nobody() -> None:
    shares = Shares(100)
    held = await shares.take("a", 50)
    more = asyncio.create_task(shares.take("a", 10))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        (await shares.take("b", 30)).end()
    assert not more.done()
    held.end()
    (await more).end()


class _World:
    """Takers that come, are cancelled and go in any order."""

    def __init__(self) -> None:
        self.shares = Shares(10)
        self.tasks: list[tuple[str, int, asyncio.Task[Held]]] = []

    def check(self) -> None:
        by = Counter[str]()
        for who, amount, task in self.tasks:
            if task.done() and not task.cancelled():
                by[who] += amount
        assert self.shares.taken == by.total() <= self.shares.size
        assert all(self.shares.held(who) == amount for who, amount in by.items())


Steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abc"), st.integers(1, 5)),
        st.tuples(st.just("end"), st.integers(0, 30)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("turn"), st.just(0)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(Steps)
def test_nothing_is_lost_and_nobody_waits_for_what_is_free(steps: list[tuple[str, int]]) -> None:
    async def play() -> None:
        world = _World()
        for kind, number in steps:
            match kind:
                case "turn":
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                    world.check()
                case "end" | "cancel":
                    if not world.tasks:
                        continue
                    who, amount, task = world.tasks.pop(number % len(world.tasks))
                    if kind == "cancel" and not task.done():
                        task.cancel()
                    elif kind == "end" and not task.done():
                        world.tasks.append((who, amount, task))
                        continue
                    with suppress(asyncio.CancelledError):
                        (await task).end()
                case who:
                    world.tasks.append((who, number, asyncio.create_task(world.shares.take(who, number))))
        while world.tasks:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            world.check()
            done = [entry for entry in world.tasks if entry[2].done()]
            assert done, "nobody holds anything, and somebody waits"
            for entry in done:
                world.tasks.remove(entry)
                entry[2].result().end()
        assert (world.shares.taken, world.shares.waiting) == (0, 0)

    asyncio.run(play())
