"""Adds up what the parts of a search found. Pure.

The parts read no row twice, so nothing wins over anything: counts and sums are added, least and greatest values are
compared, bucket by bucket.
"""

from collections.abc import Iterator, Sequence

from rollup_operator.concurrency.portions import Work
from rollup_operator.query.planning.shape import Shape
from rollup_operator.stores.search import LevelBuckets, Number, Partials, Path, Row

_AT_ONCE = 400
"""Numbers that are added without an interruption, in well under a millisecond."""


def merge(
    parts: Sequence[Partials], numbers: Sequence[Number], shapes: Sequence[Shape]
) -> Work[dict[Path, LevelBuckets]]:
    """Return the sum of the parts. `numbers` and `shapes` are the plan's."""
    merged: dict[Path, LevelBuckets] = {}
    for path, of in _levels((), numbers, shapes):
        merged[path] = buckets = LevelBuckets()
        for part in parts:
            yield from _add(buckets, part.get(path), [n.function for n in of])
    return merged


def _levels(path: Path, numbers: Sequence[Number], shapes: Sequence[Shape]) -> Iterator[tuple[Path, Sequence[Number]]]:
    yield path, numbers
    for shape in shapes:
        yield from _levels((*path, shape.aggregation.name), shape.numbers, shape.subs)


def _add(to: LevelBuckets, part: LevelBuckets | None, functions: Sequence[str]) -> Work[None]:
    if part is None:
        return
    rows, at_once = to.rows, max(1, _AT_ONCE // (2 + len(functions)))
    for i, (keys, row) in enumerate(part.rows.items(), 1):
        if (known := rows.get(keys)) is None:
            rows[keys] = row
        else:
            rows[keys] = Row(known.count + row.count, tuple(map(_sum, functions, known.numbers, row.numbers)))
        if i % at_once == 0:
            yield
    for keys, left_out in part.left_out.items():
        to.left_out[keys] = to.left_out.get(keys, 0) + left_out


def _sum(function: str, a: float | int | None, b: float | int | None) -> float | int | None:
    if a is None or b is None:
        return b if a is None else a
    if function == "min":
        return min(a, b)
    if function == "max":
        return max(a, b)
    return a + b
