"""What was read of a database, kept for the next search until something is written to it.

An open file is locked, so nobody but this process writes to it, and all that this process writes are transactions:

    read ──▶ kept ──▶ used ──▶ used     a transaction begins ── nothing is kept ── it has ended     read ──▶ kept
                                                                                  the file is closed: nothing is kept
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

MOST = 16
"""So much is kept of one database: what was asked for last."""
MOST_BYTES = 64 << 10
"""Of one thing that is kept, written as JSON: who makes jobs must not fill the memory of all."""


class Kept:
    """What is kept of one database. May be used by any thread."""

    def __init__(self) -> None:
        self._writing = threading.Lock()
        self._lock = threading.Lock()
        self._is_changing = False
        self._age = 0
        """Changes with everything that is written."""
        self._found: OrderedDict[Hashable, Any] = OrderedDict()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the turn to write: transactions of one process never conflict. Nothing is kept meanwhile."""
        with self._writing:
            self._change(is_changing=True)
            try:
                yield
            finally:
                self._change(is_changing=False)

    def forget(self) -> None:
        """Keep nothing: the file is about to be closed, and others may write to it then."""
        with self._lock:
            self._age += 1
            self._found.clear()

    def known(self, what: Hashable) -> Any:
        """Return what is kept under a name; None: nothing is. Never waits for long."""
        with self._lock:
            if (found := self._found.get(what)) is not None:
                self._found.move_to_end(what)
            return found

    def read(self, what: Hashable, read: Callable[[], T], size: Callable[[T], int]) -> T:
        """Return what is kept under a name, or else read it, in the worker, and keep it if it may be.

        `read` runs on an open connection, and never returns None. `size` gives bytes. Raises what these raise.
        """
        with self._lock:
            age, may_be_kept = self._age, not self._is_changing
        if (known := self.known(what)) is not None:
            found: T = known
            return found
        found = read()
        if may_be_kept and size(found) <= MOST_BYTES:
            with self._lock:
                if age == self._age:
                    self._found[what] = found
                    if len(self._found) > MOST:
                        self._found.popitem(last=False)
        return found

    def _change(self, *, is_changing: bool) -> None:
        with self._lock:
            self._is_changing = is_changing
            self._age += 1
            self._found.clear()
