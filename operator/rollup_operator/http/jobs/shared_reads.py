"""Reads at the API server, shared by all callers who request the same at the same time.

Ten thousand clients whose wait ends together read few jobs. A read is shared only with callers who came before it was
sent, so each caller sees a state that is newer than its call. It is not sent before its turn: where the API server is
slower than callers come, those who come meanwhile join the read that waits, and no second one waits for the same key.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


PATIENCE_SECONDS = 0.2
"""How long a read waits for the previous one: a read whose answer was lost must not hold up later callers."""


class SharedReads(Generic[K, T]):
    """One read of a key is in progress, and one waits for its end; more only if answers take long."""

    def __init__(
        self,
        read: Callable[[K], Awaitable[T]],
        key: Callable[[K], str],
        turn: Callable[[K], AbstractAsyncContextManager[object]] = lambda _: nullcontext(),
    ) -> None:
        """`read` reads a key; `key` says which callers request the same; `turn` is held during a read."""
        self._read, self._key, self._turn = read, key, turn
        self._next: dict[str, asyncio.Task[T]] = {}
        """By key: the read that is not sent yet, which others may join."""
        self._sent: dict[str, asyncio.Task[T]] = {}

    async def read(self, asked: K) -> T:
        """Return what a read that is sent from now on returns. Raises what the read raises."""
        key = self._key(asked)
        task = self._next.get(key)
        if task is None:
            task = self._next[key] = asyncio.create_task(self._after(self._sent.get(key), key, asked))
            task.add_done_callback(_retrieved)
        return await asyncio.shield(task)

    async def _after(self, before: asyncio.Task[T] | None, key: str, asked: K) -> T:
        if before is not None:
            await asyncio.wait({before}, timeout=PATIENCE_SECONDS)
        this = asyncio.current_task()
        try:
            async with self._turn(asked):
                self._sent[key] = self._next.pop(key)
                return await self._read(asked)
        finally:
            for tasks in (self._next, self._sent):  # it has had no turn, or its answer is there
                if tasks.get(key) is this:
                    del tasks[key]


def _retrieved(task: asyncio.Task[T]) -> None:
    if not task.cancelled():
        task.exception()  # all callers may be gone; asyncio would log that nobody took the error
