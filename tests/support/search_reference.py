"""Fetches answered in plain Python, over rows in memory: what a store must answer, worked out the long way round."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.bounds import Bounds, Grid, Segment
from rollup_operator.rollup.documents import document, layout_of
from rollup_operator.stores.search import (
    All,
    AtLeast,
    Between,
    ByPredicate,
    ByTerms,
    ByTime,
    ByWidth,
    Exists,
    Fetch,
    Instant,
    Key,
    Level,
    LevelBuckets,
    Not,
    Number,
    OneOf,
    Partials,
    Path,
    Predicate,
    Prefix,
    Row,
    Wildcard,
)

Document = Mapping[str, Any]


def roll_up(job_id: str, spec: RollupJobSpec, rows: Iterable[Document], begin: int, end: int) -> list[Document]:
    """Return the documents of the buckets of rows in [begin, end)."""
    layout, bounds = layout_of(job_id, spec), Bounds.of(spec.groups.date_histogram)
    groups: dict[tuple[Any, ...], list[Document]] = defaultdict(list)
    for row in rows:
        time = row.get(layout.date_field)
        if time is None or not begin <= time < end:
            continue
        keys: list[Any] = [bounds.round_down(time)]
        for f in layout.histogram_fields:
            value, width = row.get(f), layout.histogram_interval
            assert width is not None
            keys.append(None if value is None else float(value // width * width))
        keys += [row.get(f) for f in layout.terms_fields]
        groups[tuple(keys)].append(row)
    return [
        document(layout, keys, len(members), _metrics(layout.metrics, members))[1] for keys, members in groups.items()
    ]


def _metrics(metrics: Iterable[tuple[str, tuple[str, ...]]], rows: Sequence[Document]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field, _ in metrics:
        there = [v for row in rows for v in _values(row.get(field))]
        values[f"{field}.value_count.value"] = values[f"{field}.avg._count"] = len(there)
        values[f"{field}.sum.value"] = values[f"{field}.avg.value"] = sum(there)
        values[f"{field}.min.value"] = min(there, default=math.inf)
        values[f"{field}.max.value"] = max(there, default=-math.inf)
    return values


def fetched(fetch: Fetch, rows: Iterable[Document]) -> Partials:
    """Return the answer to a fetch."""
    members = [row for row in rows if holds(fetch.where, row)]
    found: dict[Path, LevelBuckets] = {(): LevelBuckets({(): _row(fetch, fetch.numbers, members)})}
    for level in fetch.levels:
        _level(fetch, level, (), (), members, found)
    return found


def _level(
    fetch: Fetch,
    level: Level,
    path: Path,
    keys: tuple[Key, ...],
    rows: Sequence[Document],
    found: dict[Path, LevelBuckets],
) -> None:
    path = (*path, level.name)
    buckets = found.setdefault(path, LevelBuckets())
    groups: dict[Key, list[Document]] = defaultdict(list)
    for row in rows:
        for key in _keys(level, row):
            groups[key].append(row)
    ordered = list(groups)
    if isinstance(level.by, ByTerms):
        ordered.sort(key=lambda k: -_count(fetch, groups[k]))
        left_out = sum(_count(fetch, groups[k]) for k in ordered[level.by.limit :])
        if left_out:
            buckets.left_out[keys] = left_out
        ordered = ordered[: level.by.limit]
    for key in ordered:
        buckets.rows[*keys, key] = _row(fetch, level.numbers, groups[key])
        for below in level.levels:
            _level(fetch, below, path, (*keys, key), groups[key], found)


def _keys(level: Level, row: Document) -> list[Key]:
    match level.by:
        case ByTime(field, segments, missing):
            time = row.get(field)
            if time is None:
                return [] if missing is None else [missing]
            return [_time_key(s, time) for s in segments if s.start <= time < s.end]
        case ByTerms(field, _, _, missing):
            value = row.get(field)
            if value is None:
                return [] if missing is None else [missing.ms if isinstance(missing, Instant) else missing]
            return [value]
        case ByWidth(field, interval, offset, missing):
            value = row.get(field)
            value = missing if value is None else value
            return [] if value is None else [math.floor((value - offset) / interval) * interval + offset]
        case ByPredicate(of):
            return [i for i, p in enumerate(of) if holds(p, row)]


def _time_key(s: Segment, time: int) -> int:
    if s.key is not None:
        return s.key
    reading = time + s.offset
    if s.step is not None:
        return (reading - s.origin) // s.step * s.step + s.origin - s.offset
    months = {"month": 1, "quarter": 3, "year": 12}[s.unit or ""]
    return Grid(None, months=months).floor(reading) - s.offset


def _row(fetch: Fetch, numbers: Iterable[Number], rows: Sequence[Document]) -> Row:
    return Row(_count(fetch, rows), tuple(_number(n, rows) for n in numbers))


def _count(fetch: Fetch, rows: Sequence[Document]) -> int:
    return len(rows) if fetch.count is None else sum(row[fetch.count] for row in rows)


def _values(value: Any) -> list[Any]:
    """Return the values that a row has of a field."""
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def _number(number: Number, rows: Iterable[Document]) -> float | int | None:
    found = [_values(row.get(number.field)) for row in rows]
    values = [v for of in found for v in of]
    match number.function:
        case "rows":
            return sum(bool(of) for of in found)
        case "count":
            return len(values)
        case "sum":
            return sum(values)
        case "min":
            return min(values, default=None)
        case "max":
            return max(values, default=None)


def holds(p: Predicate, row: Document) -> bool:
    """Return whether a row meets a condition."""
    match p:
        case All(of):
            return all(holds(o, row) for o in of)
        case AtLeast(count, of):
            return sum(holds(o, row) for o in of) >= count
        case Not(of):
            return not holds(of, row)
    value = row.get(p.field)
    if value is None:
        return False
    match p:
        case Exists():
            return True
        case OneOf(_, values):
            return value in [_plain(v) for v in values]
        case Between(_, low, high, includes_low, includes_high):
            a, b = _plain(low), _plain(high)
            return (a is None or a < value or (includes_low and a == value)) and (
                b is None or value < b or (includes_high and b == value)
            )
        case Prefix(_, text, ignores_case):
            return (value.lower() if ignores_case else value).startswith(text.lower() if ignores_case else text)
        case Wildcard(_, pattern, ignores_case):
            return _matches(pattern.lower(), value.lower()) if ignores_case else _matches(pattern, value)
    raise TypeError(f"{p!r} is no condition")


def _plain(value: Any) -> Any:
    return value.ms if isinstance(value, Instant) else value


def _matches(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_matches(pattern[1:], text[i:]) for i in range(len(text) + 1))
    if pattern[0] == "\\" and len(pattern) > 1:
        return text[:1] == pattern[1] and _matches(pattern[2:], text[1:])
    return bool(text) and pattern[0] in ("?", text[0]) and _matches(pattern[1:], text[1:])
