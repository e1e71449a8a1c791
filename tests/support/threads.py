"""Threads that keep something busy while a test goes on."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

JOIN_SECONDS = 40.0
"""What one act may still take at the end."""


@contextmanager
def repeating(count: int, act: Callable[[int], object], *, pause: float) -> Iterator[None]:
    """Do it again and again in so many threads, each with its number, and `pause` seconds apart."""
    over = threading.Event()

    def run(number: int) -> None:
        while not over.is_set():
            act(number)
            over.wait(pause)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(JOIN_SECONDS)
