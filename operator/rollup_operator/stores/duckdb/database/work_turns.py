"""Turns at the processors, for work on databases.

Threads of DuckDB share the processors by themselves, but each with each: who has ten of them at work has ten times as
much as who has one. So while databases of several namespaces are in use, no namespace has more than its part of the
processors at work, and its further work waits, for a moment.
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

PATIENCE_S = 0.25
"""How long work waits for a turn at most: what goes before it in its namespace may take minutes."""


class WorkTurns:
    """The turns. All methods belong to one event loop."""

    def __init__(self, processors: int, namespaces: Callable[[], int]) -> None:
        """`namespaces` tells of how many the databases are in use now."""
        self._processors, self._namespaces = processors, namespaces
        self._at_work: Counter[str] = Counter()
        self._lines: defaultdict[str, deque[asyncio.Future[None]]] = defaultdict(deque)

    @asynccontextmanager
    async def taking(self, namespace: str, *, at_once: bool = False) -> AsyncIterator[None]:
        """Be at work during a block, once it is the namespace's turn; with `at_once`, wait for none."""
        if not at_once and not self._is_free(namespace):
            await self._wait(namespace)
        self._at_work[namespace] += 1
        try:
            yield
        finally:
            self._at_work[namespace] -= 1
            if not self._at_work[namespace]:
                del self._at_work[namespace]
            self._call(namespace)

    def _is_free(self, namespace: str) -> bool:
        among = self._namespaces()
        return among < 2 or self._at_work[namespace] < -(-self._processors // among)

    async def _wait(self, namespace: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines[namespace].append(turn)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its turn came in the same moment
                self._call(namespace)
            raise
        finally:
            if (line := self._lines.get(namespace)) is not None:
                with suppress(ValueError):
                    line.remove(turn)
                if not line:
                    del self._lines[namespace]

    def _call(self, namespace: str) -> None:
        """Give the turn to the next one who waits."""
        line = self._lines.get(namespace)
        while line and self._is_free(namespace):
            if not (turn := line.popleft()).done():
                turn.set_result(None)
                return
