"""Whose search is next. A store that hangs, and a user who asks for much, leave turns to everybody else.

user ── a place at the store, half of those for one user ── a turn of the process, half of those for one namespace ──▶

The place comes first: a user whose store is busy waits without a turn of the namespace.
"""

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from rollup_operator.http.protocol.turns import Turns
from rollup_operator.sharing.shares import Shares

AT_ONCE = 16
"""Searches under way in this process, half of them of one namespace at most: who may create a store in a namespace may
also create any number of users there."""

STORE_AT_ONCE = 8
"""Of one store, half of them of one user at most."""

WAITING = 256
"""Of one user at one store, for their turn: a dashboard's panels come at once."""

TURN_SECONDS = 30.0
"""How long one waits for each. What its store takes from then on is counted apart."""


@dataclass(slots=True)
class _Store:
    """The places at one store."""

    places: Turns = field(
        default_factory=lambda: Turns(
            "Searches of this user take all of their turns",
            Shares(STORE_AT_ONCE, waiting=WAITING),
            seconds=TURN_SECONDS,
        )
    )
    searches: int = 0
    """Those that hold a place or wait for one."""


class SearchTurns:
    """The turns of all searches of a process."""

    def __init__(self) -> None:
        what = "Searches of this namespace take all of their turns"
        self._namespaces = Turns(what, Shares(AT_ONCE), seconds=TURN_SECONDS)
        self._stores: dict[tuple[str, str], _Store] = {}

    @asynccontextmanager
    async def turn(self, namespace: str, store: str, user: Hashable) -> AsyncIterator[None]:
        """Hold a turn to search a store of a namespace, during a block. Raises ApiError 429."""
        of = self._stores.setdefault((namespace, store), _Store())
        of.searches += 1
        try:
            async with of.places.turn(user), self._namespaces.turn(namespace):
                yield
        finally:
            of.searches -= 1
            if not of.searches:
                del self._stores[namespace, store]
