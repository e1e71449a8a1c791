"""Who has room on a listener: strangers few places, each address and each caller a share, and the next always some."""

import asyncio

import pytest

from rollup_operator.http.listener.admission import CROWDED_SECONDS, FEW, MANY, UNKNOWN_AT_ONCE, Guest, Room
from rollup_operator.sharing.shares import TooManyWait


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Lobby:
    """A room, and which of its guests were shown the door."""

    def __init__(self, size: int) -> None:
        self.clock = Clock()
        self.told: list[bool] = []
        self.room = Room(size, clock=self.clock, many=self.told.append)
        self.closed: list[str] = []
        self.tasks: list[asyncio.Task[Guest]] = []

    async def come(self, count: int, address: str = "a") -> list[Guest]:
        """Let so many come, and return those who have a place now."""
        first = len(self.tasks)
        for number in range(first, first + count):
            name = f"{address}{number}"
            enter = self.room.enter(address, lambda name=name: self.closed.append(name))
            self.tasks.append(asyncio.create_task(enter))
        await self.turns()
        return [t.result() for t in self.tasks[first:] if t.done() and not t.cancelled() and t.exception() is None]

    async def crowd(self) -> list[Guest]:
        """Let strangers from many addresses take all places, and one more wait."""
        guests = [guest for i in range(16) for guest in await self.come(1, f"{i}.")]
        self.clock.now += CROWDED_SECONDS + 1
        assert not await self.come(1, "last")
        return guests

    async def turns(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_strangers_of_one_address_leave_places_to_others() -> None:
    lobby = Lobby(400)  # a hundred places for strangers
    assert len(await lobby.come(80, "a")) == 50
    assert len(await lobby.come(10, "b")) == 10
    assert lobby.room.waiting == 30
    await lobby.end()
    assert lobby.room.waiting == 0


async def test_all_that_there_are_places_for_may_come_at_once_most_of_them_from_one_address() -> None:
    lobby = Lobby(1200)  # 256 places for strangers
    await lobby.come(1100, "a")
    assert lobby.room.waiting == (1200 - 128) * 5 // 6
    await lobby.come(300, "b")
    assert lobby.room.waiting + len(lobby.room.guests) == 1200
    await lobby.end()


async def leaving(lobby: Lobby, known: bool) -> int:
    """Have a thousand come from one address, each leave as soon as it has a place; return how many had one at once."""
    await lobby.come(1000)
    gone = 0
    while here := list(lobby.room.guests):
        for guest in here:
            assert not known or guest.known("ann")
            guest.leave()
        gone += len(here)
        await lobby.turns()
    return gone


async def test_strangers_who_are_never_known_come_at_a_pace_and_hold_up_no_other_address() -> None:
    lobby = Lobby(2400)
    assert UNKNOWN_AT_ONCE <= await leaving(lobby, known=False) < UNKNOWN_AT_ONCE + 100
    assert len(await lobby.come(10, "b")) == 10
    await lobby.end()
    lobby = Lobby(2400)
    assert await leaving(lobby, known=True) == 1000


async def test_who_is_known_makes_place_for_the_next_of_the_address() -> None:
    lobby = Lobby(400)
    guests = await lobby.come(60)
    assert lobby.room.waiting == 10
    assert all(guest.known("ann") for guest in guests[:10])
    await lobby.turns()
    assert lobby.room.waiting == 0
    assert lobby.closed == []
    await lobby.end()


async def test_who_says_nothing_has_to_go_while_others_wait_the_first_first() -> None:
    lobby = Lobby(400)
    guests = await lobby.come(52)
    guests[0].heard = True  # its caller is being asked for
    lobby.room.make_place()
    assert lobby.closed == []
    lobby.clock.now += CROWDED_SECONDS
    lobby.room.make_place()
    await lobby.turns()
    assert lobby.closed == ["a1"]  # two wait, and one of the first two is being asked for
    lobby.room.make_place()
    await lobby.turns()
    assert lobby.room.waiting <= 1
    await lobby.end()


async def test_the_lobby_of_one_address_has_an_end_too() -> None:
    lobby = Lobby(400)
    await lobby.come(50 + 350 * 5 // 6)
    with pytest.raises(TooManyWait):
        await lobby.room.enter("a", lambda: None)
    assert (await lobby.come(1, "b"))[0].since == 100.0
    await lobby.end()


async def test_each_caller_has_a_share_and_gives_it_back() -> None:
    lobby = Lobby(120)
    known: list[Guest] = []
    while len(known) < 110:
        known += await lobby.come(1, f"host {len(known)}")
        if len(known) <= 105:
            known[-1].known("ann")
        else:
            known[-1].known(f"caller {len(known)}")
    assert lobby.room.shares.held("ann") == 100
    assert known[0].known("ann")  # again, over the same connection
    for guest in known[:105]:
        guest.leave()
        guest.leave()
    assert lobby.room.shares.held("ann") == 0
    assert known[109].known("ann")  # another caller over the same connection
    assert lobby.room.shares.held("caller 110") == 0
    await lobby.end()


async def test_what_comes_above_the_limit_is_crowded() -> None:
    lobby = Lobby(2)
    guests = await lobby.come(4)
    assert [guest.crowded for guest in guests] == [False, False, True, True]
    assert lobby.room.over(1)
    assert not lobby.room.over(2)
    for guest in guests[:3]:
        guest.leave()
    assert not (await lobby.come(1))[0].crowded
    await lobby.end()


async def test_who_was_answered_and_stays_unknown_has_to_go_when_others_wait() -> None:
    lobby = Lobby(64)  # sixteen places for strangers
    for guest in await lobby.crowd():
        guest.heard = True
        guest.answered()
    lobby.room.make_place()
    await lobby.turns()
    assert (lobby.closed, lobby.room.waiting) == (["0.0"], 0)
    await lobby.end()


async def test_it_is_said_when_there_are_many_and_when_there_are_few_again() -> None:
    lobby = Lobby(10_000)
    guests: list[Guest] = []
    for number in range(MANY):
        assert not lobby.told
        guests += await lobby.come(1, f"{number}.")
        guests[-1].known(f"caller {number}")
    assert lobby.told == [True]
    for guest in guests[FEW - 1 :]:
        assert lobby.told == [True]
        guest.leave()
        guest.leave()
    assert lobby.told == [True, False]
    await lobby.end()
