"""When a database file that nobody uses is closed."""

import threading
import time
from collections.abc import Callable

LINGER_S = 0.3
"""How long it stays open after its last use, unless others wait for its place."""
SEARCHED_S = 2.0
"""The same after a search: who looks at a chart soon asks for the next one, and to open the file takes as much
processor time as to read it."""


class Linger:
    """The time between a file's last use and its end. May be used by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._stays_until = 0.0

    def searched(self) -> None:
        """Take in that a search has ended."""
        self._stays_until = time.monotonic() + SEARCHED_S

    def begin(self, is_wanted: Callable[[], bool], close: Callable[[], None]) -> None:
        """Call `close` in time, in another thread; at once if others want the place, whenever they come."""
        with self._lock:
            if self._timer is None:
                # Not a daemon: a process that ends waits for it, so no file stays open whose store is gone.
                timer = threading.Timer(0 if is_wanted() else LINGER_S, lambda: self._look(timer, is_wanted, close))
                self._timer = timer
                timer.start()

    def _look(self, timer: threading.Timer, is_wanted: Callable[[], bool], close: Callable[[], None]) -> None:
        with self._lock:
            if self._timer is not timer:
                return  # somebody has used the file since
            self._timer = None
        if is_wanted() or time.monotonic() >= self._stays_until:
            close()
        else:
            self.begin(is_wanted, close)

    def end(self) -> None:
        """Call nothing: somebody uses the file, or it is closed."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
