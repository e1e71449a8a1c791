"""How many connections there may be, and whose. Input: connections that come, are heard, become known, and go.

```
  accepted ── in the lobby ──▶ unheard ──▶ heard ──▶ known ──▶ gone
              └ nothing is     └───── strangers ────┘ └── a share for each caller
                read of them         a share for each address
```

Strangers have few places, so that they cannot take those of callers who are known, and what they send takes little of
the event loop at a time. The places are divided among the addresses that strangers come from: whoever sends thousands
waits for their own, and those who are never known come at a pace. While others wait, a stranger has to go who came a
while ago and is not being answered.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from rollup_operator.sharing.allowance import Allowance
from rollup_operator.sharing.shares import Held, Shares, TooManyWait

CROWDED_SECONDS = 2.0
"""How long a stranger is waited for while others are in the lobby."""

STRANGERS = 256
"""Places for strangers, half of them for one address; fewer where there are few connections."""
_FEWEST = 16

UNKNOWN_AT_ONCE = 512
UNKNOWN_A_SECOND = 64.0
"""Of the strangers of one address that never become known: each takes a millisecond or two of the event loop, and a
question to the API server. Those that become known do not count."""

MANY, FEW = 256, 128
"""Connections from which on memory is taken so that it can be given back when they go, and below which it is not."""

GENEROSITY = 5.0
"""A single caller may have five of six connections: one who waits for thousands of jobs holds as many."""


@dataclass(eq=False, slots=True)
class Guest:
    """One connection that has a place."""

    room: "Room"
    close: Callable[[], None]
    """Ends it at once."""
    since: float
    crowded: bool
    """It came above the limit."""
    heard: bool = False
    """It has sent a request, so its caller will be known, or answered, soon."""
    _place: Held | None = field(default=None, repr=False)
    _share: Held | None = field(default=None, repr=False)

    def known(self, caller: Hashable) -> bool:
        """Note whose it is. False: this caller has too many for a further one to be answered."""
        if self._share is not None:
            if self._share.who == caller:
                return True
            self._share.end()
        self._share = self.room.shares.take_now(caller)
        if self._share is None:
            return False
        if self._place is not None:
            self.room.unknown.give_back(self._place.who)
        self._no_stranger()
        return True

    def answered(self) -> None:
        """Note that what was asked has its answer. Who is a stranger still, as a probe is, may be sent away."""
        self.heard = False

    def leave(self) -> None:
        """It is over. May be called again."""
        self.room.leave(self)
        if self._share is not None:
            self._share.end()
            self._share = None
        self._no_stranger()

    def _no_stranger(self) -> None:
        self.room.strangers.pop(self, None)
        if self._place is not None:
            self._place.end()
            self._place = None


class Room:
    """The room of one listener."""

    def __init__(
        self,
        size: int,
        *,
        clock: Callable[[], float] | None = None,
        many: Callable[[bool], object] = lambda _: None,
    ) -> None:
        """`many` is called when there are many connections, and when there are few again."""
        self._size = size
        self._many, self._are_many = many, False
        self._places = Shares(max(_FEWEST, min(STRANGERS, size // 4)))
        self._clock = clock or asyncio.get_running_loop().time
        self.unknown = Allowance(UNKNOWN_AT_ONCE, UNKNOWN_A_SECOND, self._clock)
        self.guests: set[Guest] = set()
        self.strangers: OrderedDict[Guest, None] = OrderedDict()
        """Those whose caller is not known, in the order in which they came."""
        self.shares = Shares(size, generosity=GENEROSITY)

    @property
    def waiting(self) -> int:
        """How many are in the lobby."""
        return self._places.waiting

    @property
    def lobby(self) -> int:
        """How many may wait in the lobby: what is left of all places, since all may come at once.

        Half of all at least: an answer of 503 is better than none.
        """
        return max(_FEWEST, self._size // 2, self._size - len(self.guests))

    def may_enter(self, address: Hashable) -> bool:
        """Whether the lobby has room for one more of an address, which may have five sixths of it."""
        lobby = self.lobby
        return self.waiting < lobby and self._places.waiting_of(address) < lobby * 5 // 6

    async def enter(self, address: Hashable, close: Callable[[], None]) -> Guest:
        """Wait in the lobby, and take a place. Raises TooManyWait."""
        if not self.may_enter(address):
            raise TooManyWait
        place = await self._places.take(address)
        if wait := self.unknown.take_ahead(address):
            try:
                await asyncio.sleep(wait)
            except BaseException:
                self.unknown.give_back(address)
                place.end()
                raise
        guest = Guest(self, close, self._clock(), len(self.guests) >= self._size, _place=place)
        self.guests.add(guest)
        self.strangers[guest] = None
        if not self._are_many and len(self.guests) >= MANY:
            self._are_many = True
            self._many(True)
        return guest

    def leave(self, guest: Guest) -> None:
        """Note that a guest has gone."""
        self.guests.discard(guest)
        if self._are_many and len(self.guests) < FEW:
            self._are_many = False
            self._many(False)

    def over(self, margin: int) -> bool:
        """Whether there are more connections than the limit and a margin above it."""
        return len(self.guests) > self._size + margin

    def make_place(self) -> None:
        """Let strangers go who came long ago and are not being answered, as many as others wait for places."""
        latest = self._clock() - CROWDED_SECONDS
        for guest in list(self.strangers)[: self.waiting]:
            if guest.since > latest:
                return
            if not guest.heard:
                guest.close()
                guest.leave()
