"""Threads for work on databases."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

_THREADS = 160
"""Two for each of 64 sessions, and some for the store itself; made when needed."""
_NICER = 5
"""By how much less than the event loop threads insist on a processor: it has three times their share."""


def pool(name: str) -> ThreadPoolExecutor:
    """Return threads of that name."""
    return ThreadPoolExecutor(_THREADS, name, _yield_to_the_loop)


def _yield_to_the_loop() -> None:
    """Let the event loop go first where this thread, or one that DuckDB starts in it, wants the same processor."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        with suppress(OSError):
            usual = os.getpriority(os.PRIO_PROCESS, os.getpid())
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(usual + _NICER, 19))
