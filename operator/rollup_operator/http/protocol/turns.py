"""Turns for work that only few calls may do at a time: some calls have a turn, some wait, the rest are refused."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from rollup_operator.http.protocol import errors
from rollup_operator.sharing.shares import Held, Shares, TooManyWait


class Turn:
    """A turn that is held."""

    def __init__(self, held: Held) -> None:
        self._held, self._rest = held, 0.0

    def rest(self, seconds: float) -> None:
        """Let nobody have it for so many seconds after the block."""
        self._rest += seconds

    def end(self) -> None:
        """Give it back once it has rested."""
        if self._rest:
            asyncio.get_running_loop().call_later(self._rest, self._held.end)
        else:
            self._held.end()


class Turns:
    """Turns for one kind of work, divided among namespaces or callers."""

    def __init__(self, what: str, shares: Shares, *, seconds: float) -> None:
        """`what` names the work in an answer. A call waits for that many seconds at most."""
        self._what, self._shares, self._seconds = what, shares, seconds

    @asynccontextmanager
    async def turn(self, who: Hashable, amount: int = 1) -> AsyncIterator[Turn]:
        """Hold a turn during a block. Raises ApiError 429 if others of the same kind have all of them."""
        try:
            async with asyncio.timeout(self._seconds):
                turn = Turn(await self._shares.take(who, amount))
        except (TooManyWait, TimeoutError) as e:
            raise errors.too_many(self._what) from e
        try:
            yield turn
        finally:
            turn.end()
