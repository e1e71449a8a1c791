"""Retries for a while what the cluster could not do just now."""

import asyncio
import random
import time

from rollup_operator.stores.errors import StoreError, StoreUnavailable
from rollup_operator.stores.opensearch.transport.errors import Overloaded

SECONDS = 10.0
"""How long one step is retried; after that the run ends, and its own backoff says when the next one begins."""

_FIRST, _LONGEST = 0.1, 2.0


class Patience:
    """The pauses between the attempts of one step: growing, jittered, and used up after SECONDS."""

    def __init__(self) -> None:
        self._until = time.monotonic() + SECONDS
        self._next = _FIRST
        self.tried = False
        """An attempt has failed, and may have been carried out."""

    @staticmethod
    def helps(error: StoreError) -> bool:
        """Whether the same request can succeed a moment later."""
        return isinstance(error, StoreUnavailable | Overloaded)

    async def pause(self, error: StoreError, *, carried_out: bool = True) -> None:
        """Wait a moment before the next attempt. Raises `error` if a retry cannot help or took too long.

        `carried_out`: the failed attempt may have had its effect nevertheless.
        """
        self.tried |= carried_out
        wait = self._next * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
        if not self.helps(error) or time.monotonic() + wait > self._until:
            raise error
        self._next = min(self._next * 2, _LONGEST)
        await asyncio.sleep(wait)
