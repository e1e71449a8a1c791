"""Reads the buckets that the statement of a search found. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from sys import getsizeof
from typing import Any

from rollup_operator.stores.duckdb.statements.search import Statement
from rollup_operator.stores.errors import SearchKeysTooLong, SearchTooLarge
from rollup_operator.stores.search import MOST_KEY_BYTES, Keys, LevelBuckets, Partials, Path, Row


class MoreTerms(Exception):
    """A statement that does not cut found more buckets of a level than it may have."""


def answer(of: Statement, rows: Iterable[Sequence[Any]]) -> Sequence[Partials]:
    """Return what the rows of a statement say. Raises SearchTooLarge, SearchKeysTooLong, MoreTerms."""
    found: list[dict[Path, LevelBuckets]] = [{place.path: LevelBuckets() for place in places} for places in of.places]
    buckets = key_bytes = 0
    texts: dict[str, str] = {}  # each row has a copy of the keys above
    for i, at, left_out, count, *rest in rows:
        place = of.places[i][at]
        keys: Keys = tuple([texts.setdefault(k, k) if type(k) is str else k for k in rest[: len(place.above)]])
        into = found[i][place.path]
        if left_out:
            into.left_out[keys[:-1]] = count
            continue
        if place.level is not None and (buckets := buckets + 1) > of.most:
            raise SearchTooLarge(of.most)
        if keys and type(keys[-1]) is str:
            into.key_bytes += (size := getsizeof(keys[-1]))
            if (key_bytes := key_bytes + size) > MOST_KEY_BYTES:
                raise SearchKeysTooLong(MOST_KEY_BYTES)
        into.rows[keys] = Row(count, tuple(rest[of.depth : of.depth + len(place.numbers)]))
    if not of.cuts:
        for each, partials in zip(of.places, found, strict=True):
            for place in each:
                if place.most is not None and _most_within(partials[place.path].rows, place.most) > place.most:
                    raise MoreTerms
    return found


def _most_within(rows: Mapping[Keys, Row], enough: int) -> int:
    """Return how many buckets there are at most in one above; if there are no more than enough at all, their number."""
    return len(rows) if len(rows) <= enough else max(Counter(keys[:-1] for keys in rows).values())
