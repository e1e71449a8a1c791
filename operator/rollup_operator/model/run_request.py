"""The value of the annotation that requests a run now: any text, and in it the stretches that the run reads again.

2026-11-30T13:00:00.000000Z 2024-03-01T00:00:00Z/2024-03-03T00:00:00Z
no earlier request has it   from                 to, exclusive: the buckets that begin in between
"""

from collections.abc import Iterable, Iterator, Sequence

from rollup_operator.model.time_values import parse_instant
from rollup_operator.model.times import rfc3339_ms

MOST_STRETCHES = 4
"""More do not fit into the value."""

Stretch = tuple[int, int]
"""From and to, in epoch milliseconds."""


def request_of(value: str, stretches: Iterable[Stretch]) -> str:
    """Return the value of a request: `value`, which no earlier one has, and at most MOST_STRETCHES stretches."""
    return " ".join([value, *(f"{rfc3339_ms(begin)}/{rfc3339_ms(end)}" for begin, end in stretches)])


def stretches_of(value: str) -> Iterator[Stretch]:
    """Yield the stretches that a value names; what is none is part of the text."""
    for word in value.split():
        begin, slash, end = word.partition("/")
        if not slash:
            continue
        try:
            found = parse_instant(begin, "from"), parse_instant(end, "to")
        except ValueError:
            continue
        if found[0] < found[1]:
            yield found


def fewer(stretches: Sequence[Stretch], most: int = MOST_STRETCHES) -> list[Stretch]:
    """Return stretches that cover these, which come in order: at most so many, joined over the shortest gaps."""
    found = list(stretches)
    while len(found) > 1:
        gap, i = min((found[i + 1][0] - found[i][1], i) for i in range(len(found) - 1))
        if gap > 0 and len(found) <= most:
            break
        found[i : i + 2] = [(found[i][0], found[i + 1][1])]
    return found
