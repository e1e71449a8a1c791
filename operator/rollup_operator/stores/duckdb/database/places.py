"""The place of a database among those that may be open at a time."""

import asyncio

from rollup_operator.sharing.shares import Held
from rollup_operator.stores.duckdb.database.budget import Budget


class DatabasePlace:
    """Taken before the file is opened, given back after it was closed. All but `is_wanted` belong to the event loop."""

    def __init__(self, budget: Budget, namespace: str) -> None:
        self._budget, self._namespace = budget, namespace
        self._turn = asyncio.Lock()
        self._place: Held | None = None
        self._spare: Held | None = None
        """In its stead, while the file is open for a moment."""

    async def take(self, *, waits: bool) -> None:
        """Take one, unless it is taken. If too many databases are open, wait; or, unless it `waits`, take a spare."""
        if self._place is not None:
            return
        if waits:
            await self._take()
        elif self._spare is None:
            await self._take_spare()

    async def _take(self) -> None:
        async with self._turn:
            if self._place is not None:
                return
            self._keep(await self._budget.places.take(self._namespace))

    async def _take_spare(self) -> None:
        if (place := self._budget.places.take_now(self._namespace)) is not None:
            self._keep(place)
            return
        spare = await self._budget.spare.take(self._namespace)
        if self._place is None and self._spare is None:
            self._spare = spare
        else:
            spare.end()

    def _keep(self, place: Held) -> None:
        if self._place is None:
            self._place = place
        else:  # another came first
            place.end()
        self._end_spare()

    def _end_spare(self) -> None:
        if self._spare is not None:
            self._spare.end()
            self._spare = None

    def end(self) -> None:
        """Give it back."""
        if self._place is not None:
            self._place.end()
            self._place = None
        self._end_spare()

    def is_wanted(self) -> bool:
        """Whether others wait for it who have fewer places than this namespace, or others of this namespace do."""
        return self._spare is not None or self._budget.places.gives_way(self._namespace)
