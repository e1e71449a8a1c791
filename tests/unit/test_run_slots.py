"""The slots of a store: in order, never more than the size, none lost, whatever is cancelled when."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollup_operator.indexer.run_slots import RunSlots


@dataclass(frozen=True)
class Begin:
    """One more run asks for a slot."""


@dataclass(frozen=True)
class End:
    """The run that has held a slot longest gives it back."""


@dataclass(frozen=True)
class Cancel:
    """A run is cancelled, in whatever state it is."""

    number: int


@dataclass(frozen=True)
class Resize:
    """The limit is edited."""

    size: int


@dataclass(frozen=True)
class Turn:
    """The loop has a turn; without one, steps happen in the same moment."""


Step = Begin | End | Cancel | Resize | Turn


class World:
    """Slots, and the runs that ask for them in order."""

    def __init__(self, size: int) -> None:
        self.slots = RunSlots(size)
        self.largest = size  # since the last moment in which all was settled
        self.runs: list[asyncio.Task[None]] = []
        self.ends: list[asyncio.Event] = []
        self.order: list[int] = []
        self.holding: list[int] = []
        self.most = 0

    async def run(self, number: int) -> None:
        await self.slots.acquire()
        self.order.append(number)
        self.holding.append(number)
        self.most = max(self.most, len(self.holding))
        try:
            await self.ends[number].wait()
        finally:
            self.holding.remove(number)
            self.slots.release()

    def apply(self, step: Step) -> None:
        match step:
            case Begin():
                self.ends.append(asyncio.Event())
                self.runs.append(asyncio.create_task(self.run(len(self.runs))))
            case End() if self.holding:
                self.ends[self.holding[0]].set()
            case Cancel(number) if self.runs:
                self.runs[number % len(self.runs)].cancel()
            case Resize(size):
                self.largest = max(self.largest, size)
                self.slots.resize(size)

    async def settle(self) -> None:
        """Let every task take the steps that it can take: a few turns for each hand-over."""
        for _ in range(4 * len(self.runs) + 4):
            await asyncio.sleep(0)

    def check(self) -> None:
        """What holds whenever nothing moves."""
        assert self.slots.held == len(self.holding)
        waiting = [n for n, run in enumerate(self.runs) if not run.done() and n not in self.order]
        assert self.slots.waiting == len(waiting)
        if waiting:
            assert max(self.order, default=-1) < min(waiting), "a run overtook another"
            assert self.slots.held >= self.slots.size, "a run waits although there is a slot"
        assert self.most <= self.largest, "more slots were handed out than there were"


STEPS = st.lists(
    st.one_of(
        st.builds(Begin),
        st.builds(Begin),
        st.builds(Turn),
        st.builds(End),
        st.builds(Cancel, st.integers(0, 20)),
        st.builds(Resize, st.integers(1, 4)),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=400)
@given(size=st.integers(1, 4), steps=STEPS, settled=st.sets(st.integers(0, 40)))
def test_no_slot_is_lost_or_handed_out_twice(size: int, steps: list[Step], settled: set[int]) -> None:
    async def play() -> None:
        world = World(size)
        for at, step in enumerate(steps):
            world.apply(step)
            if isinstance(step, Turn):
                await asyncio.sleep(0)
            if at in settled:
                await world.settle()
                world.check()
        await world.settle()
        world.check()
        await finish(world)

    asyncio.run(play())


async def finish(world: World) -> None:
    """Whatever went before, every run that was not cancelled gets its turn, and all slots come back."""
    for end in world.ends:
        end.set()
    await asyncio.wait_for(asyncio.gather(*world.runs, return_exceptions=True), 5)
    assert world.slots.held == 0
    assert {n for n, run in enumerate(world.runs) if not run.cancelled()} <= set(world.order)


async def playing(size: int, steps: Iterable[Step]) -> World:
    world = World(size)
    for step in steps:
        world.apply(step)
        if isinstance(step, Turn):
            await world.settle()
            world.check()
    return world


async def test_a_run_that_is_cancelled_as_its_turn_comes_leaves_the_slot_to_the_next() -> None:
    world = await playing(1, [Begin(), Begin(), Begin(), Turn(), End()])
    await asyncio.sleep(0)
    assert (world.slots.held, world.holding) == (1, [])  # handed to the second, which has not run since
    world.runs[1].cancel()
    await world.settle()
    assert world.order == [0, 2]
    await finish(world)


async def test_a_run_that_is_cancelled_before_its_turn_is_passed_over_in_the_same_moment() -> None:
    world = await playing(1, [Begin(), Begin(), Begin(), Turn(), End(), Cancel(1), Turn()])
    assert world.order == [0, 2]
    await finish(world)


async def test_a_smaller_size_hands_out_nothing_until_enough_runs_have_ended() -> None:
    world = await playing(3, [Begin()] * 5 + [Turn(), Resize(1)])
    for holding in (2, 1, 1, 1):
        world.apply(End())
        await world.settle()
        assert len(world.holding) == holding
    await finish(world)


async def test_a_larger_size_wakes_as_many_as_it_has_room_for() -> None:
    world = await playing(1, [Begin()] * 5 + [Turn(), Resize(3), Turn()])
    assert world.order == [0, 1, 2]
    await finish(world)


async def test_who_comes_later_waits_behind_those_who_wait() -> None:
    world = await playing(1, [Begin(), Begin(), Turn()])
    world.apply(End())
    await asyncio.sleep(0)  # the slot is handed over, and its run has not had a turn
    world.apply(Begin())
    await world.settle()
    assert world.order[:2] == [0, 1]
    await finish(world)


def test_a_slot_that_nobody_holds_cannot_be_given_back() -> None:
    with pytest.raises(RuntimeError, match="no slot is held"):
        RunSlots(1).release()
