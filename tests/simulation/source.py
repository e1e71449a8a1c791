"""What is to be rolled up: rows that appear as time goes on, and so what each document must say in the end."""

from simulation.clock import BEGIN

WIDTH = 2_000
"""Milliseconds of a bucket."""

HISTORY = 20_000
"""Milliseconds of rows that are there when a schedule begins."""

FIRST = int(BEGIN.timestamp() * 1000) - HISTORY
"""Where the first bucket begins."""


def count(bucket: int) -> int:
    """Return how many rows the bucket that begins then has once it is over."""
    return 1 + (bucket // WIDTH * 7) % 5


def count_by(bucket: int, now_ms: float) -> int:
    """Return how many of its rows have appeared by then."""
    rows = count(bucket)
    if now_ms >= bucket + WIDTH:
        return rows
    return sum(bucket + (i + 1) * WIDTH / (rows + 1) <= now_ms for i in range(rows))


def buckets(after: int | None, begin: int, end: int, now_ms: float, size: int) -> list[tuple[int, int]]:
    """Return the first buckets after `after` in [begin, end) that have rows by now, each with their number."""
    first = max(FIRST, begin if after is None else max(begin, after + WIDTH))
    found: list[tuple[int, int]] = []
    for bucket in range(-(-first // WIDTH) * WIDTH, min(end, int(now_ms) + 1), WIDTH):
        if rows := count_by(bucket, now_ms):
            found.append((bucket, rows))
            if len(found) == size:
                break
    return found


def until(position: int | None) -> range:
    """Return all buckets up to a position, that one included."""
    return range(FIRST, FIRST if position is None else position + WIDTH, WIDTH)
