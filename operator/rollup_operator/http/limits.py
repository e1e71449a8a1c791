"""How many calls of one caller may wait at a time: nobody takes the room of all."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rollup_operator.http import errors
from rollup_operator.http.access import Caller


class WaitingRoom:
    """Places for calls that wait, `most` for each caller."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def place(self, caller: Caller) -> Iterator[None]:
        """Hold a place. Raises ApiError 429 where the caller's are all taken."""
        key = caller.name, caller.uid
        if self._taken[key] >= self._most:
            raise errors.too_many_waits(caller.name, self._most)
        self._taken[key] += 1
        try:
            yield
        finally:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]
