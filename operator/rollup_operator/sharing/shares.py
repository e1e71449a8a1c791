"""Divides places or bytes among many users, so that none can leave nothing to the others.

| a user who | gets more |
| --- | --- |
| holds nothing | if it is free |
| holds some | if it is free, and the user would then hold at most `generosity` times what is still free |

So a single user may have a part of all, half of it with a generosity of 1. The more users there are, the smaller is
the part of each, and some is always left for the next one. A user who may not have more now waits. Those who wait take
turns; the requests of one user stay in order.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass


class TooManyWait(Exception):
    """So much of one user already waits that more would have no turn in time."""


@dataclass(eq=False, slots=True)
class Held:
    """What was taken. Return it with `end`, once or more often."""

    of: "Shares"
    who: Hashable
    amount: int

    def resize(self, amount: int, *, force: bool = False) -> bool:
        """Hold another amount, without waiting. False: that much more is not available, and nothing was changed."""
        more = amount - self.amount
        if more > 0 and not force and not self.of.fits(self.who, more):
            return False
        self.of.add(self.who, more)
        self.amount = amount
        return True

    def end(self) -> None:
        """Give it back."""
        self.resize(0)


_Line = OrderedDict[asyncio.Future[None], int]
"""The waiting requests of one user, in order."""


class Shares:
    """The shared amount. All methods belong to one event loop."""

    def __init__(self, size: int, *, generosity: float = 1.0, waiting: int | None = None) -> None:
        """`waiting`: how many requests of one user may wait; None: any number."""
        self.size, self._generosity, self._waiting = size, generosity, waiting
        self._held: dict[Hashable, int] = {}
        self._lines: OrderedDict[Hashable, _Line] = OrderedDict()
        self.taken = 0
        """How much is held in all; more than `size` if it was forced."""
        self.waiting = 0
        """How many wait."""

    def waiting_of(self, who: Hashable) -> int:
        """Return how many requests of this user wait."""
        return len(self._lines.get(who, ()))

    def held(self, who: Hashable) -> int:
        """Return how much this user holds."""
        return self._held.get(who, 0)

    def gives_way(self, who: Hashable) -> bool:
        """Whether somebody waits who holds less than this user, or this user does. May be called from any thread."""
        held = self.held(who)
        return any(other == who or self.held(other) < held for other in tuple(self._lines))

    def fits(self, who: Hashable, amount: int) -> bool:
        """Whether this user may have that much now."""
        left, held = self.size - self.taken - amount, self.held(who)
        return left >= 0 and (not held or held + amount <= self._generosity * left)

    def take_now(self, who: Hashable, amount: int = 1, *, force: bool = False) -> Held | None:
        """Take without waiting; None: not now. `force`: take it anyway."""
        if not force and (who in self._lines or not self.fits(who, amount)):
            return None
        self.add(who, amount)
        return Held(self, who, amount)

    async def take(self, who: Hashable, amount: int = 1) -> Held:
        """Wait for it. A request that is larger than the whole comes once nothing else is held.

        Raises TooManyWait. A call that is cancelled holds nothing.
        """
        amount = min(amount, self.size)
        if (held := self.take_now(who, amount)) is not None:
            return held
        if self._waiting is not None and self.waiting_of(who) >= self._waiting:
            raise TooManyWait
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(who, OrderedDict())[turn] = amount
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(who, turn)
            else:
                self.add(who, -amount)  # its turn came in the same moment
            raise
        return Held(self, who, amount)

    @asynccontextmanager
    async def taking(self, who: Hashable, amount: int = 1) -> AsyncIterator[Held]:
        """Hold it during a block. Raises TooManyWait."""
        held = await self.take(who, amount)
        try:
            yield held
        finally:
            held.end()

    def add(self, who: Hashable, amount: int) -> None:
        """Note that this user holds that much more or, below zero, less."""
        if not amount:
            return
        self.taken += amount
        if left := self.held(who) + amount:
            self._held[who] = left
        else:
            self._held.pop(who, None)
        if amount < 0:
            self._hand_out()

    def _hand_out(self) -> None:
        """Give turns to waiting users that may have one, one request each in rotation, as long as anything is left."""
        passed_over = 0
        while self._lines and passed_over < len(self._lines) and self.taken < self.size:
            who, line = next(iter(self._lines.items()))
            turn, amount = next(iter(line.items()))
            if not turn.cancelled() and not self.fits(who, amount):
                self._lines.move_to_end(who)
                passed_over += 1
                continue
            del line[turn]
            self.waiting -= 1
            if not turn.cancelled():
                self.add(who, amount)
                turn.set_result(None)
                passed_over = 0
            if line:
                self._lines.move_to_end(who)
            else:
                del self._lines[who]

    def _leave(self, who: Hashable, turn: "asyncio.Future[None]") -> None:
        if (line := self._lines.get(who)) is not None:
            if line.pop(turn, None) is not None:
                self.waiting -= 1
            if not line:
                del self._lines[who]
        self._hand_out()


@dataclass(frozen=True, slots=True)
class Account:
    """One user's part of the shared amount."""

    of: Shares
    who: Hashable

    def take_now(self, amount: int = 1, *, force: bool = False) -> Held | None:
        """See Shares."""
        return self.of.take_now(self.who, amount, force=force)

    async def take(self, amount: int = 1) -> Held:
        """See Shares."""
        return await self.of.take(self.who, amount)


def unbounded() -> Account:
    """Return a separate account that always has enough: for tests and tools."""
    return Account(Shares(2**62), "")
