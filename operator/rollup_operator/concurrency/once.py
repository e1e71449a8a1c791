"""Results that several tasks need and one of them makes: the first that asks. The others wait for it.

No task of its own makes a result, so nothing of it goes on once all who asked are gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(slots=True)
class _Made(Generic[T]):
    """A result, or why there is none."""

    began: float
    result: T | None = None
    error: Exception | None = None


@dataclass(slots=True)
class _Slot(Generic[T]):
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    made: _Made[T] | None = None


class Once(Generic[K, T]):
    """Results by key, for as long as this exists."""

    def __init__(self, seconds: float | None = None) -> None:
        """`seconds`: how long a result counts from when its making began; None: always. An error always counts."""
        self._seconds = seconds
        self._slots: dict[K, _Slot[T]] = {}

    async def get(self, key: K, make: Callable[[], Awaitable[T]]) -> T:
        """Return what `make` returned, now or for who asked before. Raises what it raised."""
        slot = self._slots.setdefault(key, _Slot())
        async with slot.turn:
            made = slot.made
            if made is None or (made.error is None and self._is_old(made.began)):
                made = slot.made = await self._made(make)
        if made.error is not None:
            raise made.error
        return made.result  # type: ignore[return-value]  # it was made, be it None

    def forget(self, key: K, result: T) -> None:
        """Have the next one who asks make the result, unless another has taken the place of this one."""
        slot = self._slots.get(key)
        if slot is not None and slot.made is not None and slot.made.result is result:
            slot.made = None

    def _is_old(self, began: float) -> bool:
        return self._seconds is not None and asyncio.get_running_loop().time() - began > self._seconds

    @staticmethod
    async def _made(make: Callable[[], Awaitable[T]]) -> _Made[T]:
        began = asyncio.get_running_loop().time()
        try:
            return _Made(began, await make())
        except Exception as e:
            return _Made(began, error=e)
