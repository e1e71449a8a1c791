"""Limits how many jobs the calls of one caller may wait for, so that one caller cannot use up all waiters."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rollup_operator.http.access.permits import Caller
from rollup_operator.http.protocol import errors


class WaitingRoom:
    """Places to wait in, `most` for each caller. A call that waits for several jobs takes a place for each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def places(self, caller: Caller, count: int = 1) -> Iterator[None]:
        """Hold `count` places. Raises ApiError 429 if the caller has fewer left."""
        key = caller.name, caller.uid
        if self._taken[key] + count > self._most:
            raise errors.too_many_waits(caller.name, self._most, taken=self._taken[key], wanted=count)
        self._taken[key] += count
        try:
            yield
        finally:
            self._taken[key] -= count
            if not self._taken[key]:
                del self._taken[key]
