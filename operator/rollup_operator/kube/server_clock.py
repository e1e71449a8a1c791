"""The API server's clock, taken from the `Date` header of its answers. No I/O of its own."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime


def _since_boot() -> float:
    """Seconds that no step of the wall clock changes, and that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class ServerClock:
    """Gets the `Date` of each answer, and knows the server's time from then on."""

    def __init__(self, elapsed: Callable[[], float] = _since_boot) -> None:
        """`elapsed`: seconds from some moment on, unmoved by steps of the wall clock."""
        self._elapsed = elapsed
        self._seen: tuple[str, float] | None = None

    def saw(self, date: str | None) -> None:
        """Take in the header of an answer that has just come; None: it had none."""
        if date is not None:
            self._seen = date, self._elapsed()

    def now(self) -> datetime | None:
        """Return the server's time, to the second; None: no answer has shown it yet."""
        if self._seen is None:
            return None
        date, at = self._seen
        try:
            served_at = parsedate_to_datetime(date)
        except ValueError:
            return None
        return served_at.astimezone(UTC) + timedelta(seconds=self._elapsed() - at)
