"""Limits how many runs use one store at a time: a resizable semaphore. Pure asyncio, no I/O."""

import asyncio
from collections import OrderedDict


class RunSlots:
    """A semaphore that can be resized. All methods belong to one event loop.

    Slots are handed out in the order of the calls. A smaller size takes no slot away: runs that hold one finish, and
    none is handed out until fewer than `size` are held.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held = 0
        self._queue: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    @property
    def size(self) -> int:
        """How many slots may be held at a time."""
        return self._size

    @property
    def held(self) -> int:
        """How many slots are held; more than `size` for a while after `size` was lowered."""
        return self._held

    @property
    def waiting(self) -> int:
        """How many calls wait for a slot."""
        return len(self._queue)

    def resize(self, size: int) -> None:
        """Change the number of slots. Runs that wait start at once where it has grown."""
        self._size = size
        self._hand_out()

    async def acquire(self) -> None:
        """Wait for a slot. A cancelled call holds none, even if its turn came at the same moment."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue[turn] = None
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._queue.pop(turn, None)
            else:
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back. Raises RuntimeError where none is held."""
        if self._held == 0:
            raise RuntimeError("no slot is held: acquire one first")
        self._held -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._queue and self._held < self._size:
            turn, _ = self._queue.popitem(last=False)
            if not turn.done():  # else its call was cancelled, and has not run since
                self._held += 1
                turn.set_result(None)
