"""Builds the body of a search for a fetch, and finds the buckets in its answer. Pure.

Names within a bucket: `l0`, `l1` … are its levels, `n0` … its numbers by field, `r0` … the rows that have a value of
it, `c` the sum that counts documents of the source. A level of time is cut into segments, since a cluster only ever
rounds by a fixed offset from UTC: each is an aggregation of its own, `l0_0`, `l0_1` …, and one more for what has no
time.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from sys import getsizeof
from typing import Any

from rollup_operator.rollup.bounds import Segment
from rollup_operator.stores.errors import SearchTooLarge
from rollup_operator.stores.search import (
    All,
    AtLeast,
    Between,
    ByPredicate,
    ByTerms,
    ByTime,
    ByWidth,
    Documents,
    Exists,
    Fetch,
    FieldKind,
    Instant,
    Key,
    Keys,
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
    Value,
    Wildcard,
    none_of,
    nothing,
    segments_of,
    to_json,
)

_ALONE = {"min": "min", "max": "max", "sum": "sum", "count": "value_count"}
_VALUE_TYPES: Mapping[FieldKind, str] = {"keyword": "string", "long": "long", "double": "double", "date": "date"}
_VERSIONS = (1, 2)
"""Of rolled-up documents, by how their ids are made."""
FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999: times beyond are taken for these."""

Json = dict[str, Any]


def body(fetch: Fetch) -> Json:
    """Return the body of the search."""
    filters = [condition(fetch.where)] if fetch.where != All(()) else []
    if isinstance(fetch.relation, Documents):
        filters += [{"term": {"_rollup.id": fetch.relation.job_id}}, {"terms": {"_rollup.version": list(_VERSIONS)}}]
    made: Json = {
        "size": 0,
        # Where each document is one of the source, all of them are counted, which costs nothing beside aggregations.
        "track_total_hits": fetch.count is None,
        "query": {"bool": {"filter": filters}} if filters else {"match_all": {}},
    }
    if aggregations := _within(fetch, fetch.numbers, fetch.levels):
        made["aggregations"] = aggregations
    return made


def condition(of: Predicate) -> Json:
    """Return a condition as a query."""
    match of:
        case Exists(field):
            return {"exists": {"field": field}}
        case OneOf(field, values):
            return _one_of(field, values)
        case Between():
            return _between(of)
        case Prefix(field, text, ignores_case):
            return {"prefix": {field: {"value": text, **_case(ignores_case)}}}
        case Wildcard(field, pattern, ignores_case):
            return {"wildcard": {field: {"value": pattern, **_case(ignores_case)}}}
        case Not(inner):
            return {"bool": {"must_not": [condition(inner)]}}
        case All(parts):
            return {"bool": {"filter": list(map(condition, parts))}} if parts else {"match_all": {}}
        case AtLeast(count, parts):
            if count <= 0:
                return {"match_all": {}}
            if count > len(parts):
                return {"match_none": {}}
            return {"bool": {"should": list(map(condition, parts)), "minimum_should_match": count}}


def _case(ignores_case: bool) -> Json:
    return {"case_insensitive": True} if ignores_case else {}


def _one_of(field: str, values: Sequence[Value]) -> Json:
    times = [v.ms for v in values if isinstance(v, Instant)]
    others = [v for v in values if not isinstance(v, Instant) and _is_sayable(v)]
    parts: list[Json] = [_time_range(field, ms, ms + 1) for ms in times]
    if others:
        parts.append({"terms": {field: others}})
    if not parts:
        return {"match_none": {}}
    return parts[0] if len(parts) == 1 else {"bool": {"should": parts, "minimum_should_match": 1}}


def _is_sayable(value: Value) -> bool:
    """Whether JSON has such a value."""
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    return not isinstance(value, float) or math.isfinite(value)


def _between(of: Between) -> Json:
    low, high = of.low, of.high
    if isinstance(low, Instant) or isinstance(high, Instant):
        begin = low.ms + (not of.includes_low) if isinstance(low, Instant) else None
        end = high.ms + of.includes_high if isinstance(high, Instant) else None
        return _time_range(of.field, begin, end)
    if low == math.inf or high == -math.inf:
        return {"match_none": {}}
    ends: Json = {}
    if low is not None and low != -math.inf:
        ends["gte" if of.includes_low else "gt"] = low
    if high is not None and high != math.inf:
        ends["lte" if of.includes_high else "lt"] = high
    return {"range": {of.field: ends}} if ends else {"exists": {"field": of.field}}


def _time_range(field: str, begin: int | None, end: int | None) -> Json:
    ends: Json = {"format": "epoch_millis"}
    if begin is not None:
        ends["gte"] = max(FIRST_MS, min(_LAST_MS, begin))
    if end is not None:
        ends["lt"] = max(FIRST_MS, min(_LAST_MS, end))
    return {"range": {field: ends}}


def _within(fetch: Fetch, numbers: Sequence[Number], levels: Sequence[Level]) -> Json:
    """Return the aggregations within one bucket, or within all."""
    found: Json = {}
    if fetch.count is not None:
        found["c"] = {"sum": {"field": fetch.count}}
    for i, (field, functions) in enumerate(_by_field(numbers).items()):
        if of_values := [f for f in functions if f != "rows"]:
            found[f"n{i}"] = {_ALONE[of_values[0]] if len(of_values) == 1 else "stats": {"field": field}}
        if len(of_values) < len(functions):
            found[f"r{i}"] = {"filter": {"exists": {"field": field}}}
    for i, level in enumerate(levels):
        inner = _within(fetch, level.numbers, level.levels)
        inner_aggregations = {"aggregations": inner} if inner else {}
        match level.by:
            case ByTime():
                for k, part in enumerate(_by_time(fetch.where, level.by, inner_aggregations)):
                    found[f"l{i}_{k}"] = part
            case ByTerms():
                found[f"l{i}"] = {"terms": _terms(fetch, level.by), **inner_aggregations}
                if fetch.count is not None and level.by.missing is None:
                    there = {"exists": {"field": level.by.field}}
                    found[f"e{i}"] = {"filter": there, "aggregations": {"c": {"sum": {"field": fetch.count}}}}
            case ByWidth(field, interval, offset, missing):
                of: Json = {"field": field, "interval": interval, "offset": offset, "min_doc_count": 1}
                if missing is not None:
                    of |= {"missing": missing}
                found[f"l{i}"] = {"histogram": of, **inner_aggregations}
            case ByPredicate(predicates):
                if predicates:
                    filters = {"filters": list(map(condition, predicates))}
                    found[f"l{i}"] = {"filters": filters, **inner_aggregations}
    return found


def _by_field(numbers: Sequence[Number]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for number in numbers:
        functions = found.setdefault(number.field, [])
        if number.function not in functions:
            functions.append(number.function)
    return found


def _terms(fetch: Fetch, by: ByTerms) -> Json:
    order = {"c": "desc"} if fetch.count is not None else {"_count": "desc"}
    # Each shard gives more than are wanted, so that what is among the most of all is among the most of each.
    of: Json = {
        "field": by.field,
        "size": by.limit,
        "shard_size": by.limit + by.limit // 2 + 10,
        "order": [order, {"_key": "asc"}],
    }
    if by.kind != "keyword" or by.missing is not None:
        of["value_type"] = _VALUE_TYPES[by.kind]  # an index that lacks the field takes it for text otherwise
    if by.missing is not None:
        of["missing"] = to_json(by.missing)
    return of


def _by_time(where: Predicate, by: ByTime, inner: Json) -> list[Json]:
    """Return the aggregations of a level of time, one for each segment, and the last for what has no time."""
    segments, whole = _segments(where, by)
    parts = [_segment(by.field, segment, inner, alone=whole and len(segments) == 1) for segment in segments]
    if by.missing is not None:
        parts.append({"missing": {"field": by.field}, **inner})
    return parts


def _segments(where: Predicate, by: ByTime) -> tuple[list[Segment], bool]:
    """Return the segments that are asked for, and whether no time that is found is outside all of them."""
    met, whole = segments_of(where, by)
    return _of_whole_buckets(s for s in met if s.start < _LAST_MS and s.end > FIRST_MS), whole


def _of_whole_buckets(segments: Iterable[Segment]) -> list[Segment]:
    """Return segments each of which has its buckets alone.

    A bucket that two aggregations had parts of would have the most frequent terms of each part, not its own.

        |-- buckets of a day --|-- begun --|-- its rest --|      segments, as a store that computes keys needs them
        |-- buckets of a day --|------ one bucket --------|      what is returned
    """
    found: list[Segment] = []
    for segment in segments:
        begin = segment.start
        while segment.key is not None and segment.key < begin and found and found[-1].end == begin:
            begin = max(segment.key, found[-1].start)
            if begin == found[-1].start:
                found.pop()
            else:
                found[-1] = replace(found[-1], end=begin)
        found.append(replace(segment, start=begin))
    return found


def _segment(field: str, segment: Segment, inner: Json, *, alone: bool) -> Json:
    of = _time_range(field, segment.start, segment.end)
    if segment.key is not None:
        return {"filter": of, **inner}
    histogram: Json = {"field": field, "min_doc_count": 1}
    if segment.step is not None:
        shift = (segment.origin - segment.offset) % segment.step
        histogram |= {"fixed_interval": f"{segment.step}ms"}
        histogram |= {"offset": f"{shift}ms"} if shift else {}
    else:
        # Not by a zone, which a cluster does not take beyond 18 hours: an offset asked for may be longer.
        histogram |= {"calendar_interval": segment.unit}
        histogram |= {"offset": f"{-segment.offset}ms"} if segment.offset else {}
    buckets = {"date_histogram": histogram, **inner}
    if alone:
        return buckets
    return {"filter": of, "aggregations": {"b": buckets}}


def answer(fetch: Fetch, found: Mapping[str, Any], max_buckets: int) -> Partials:
    """Return what an answer without an error says.

    Raises SearchTooLarge; LookupError, TypeError, ValueError where it is not what was asked for.
    """
    if "aggregations" not in found and (fetch.count is not None or not found["hits"]["total"]["value"]):
        return nothing(fetch)  # no shard at all
    reader = _AnswerReader(fetch, max_buckets)
    all_of_it = found.get("aggregations", {})
    count = found["hits"]["total"]["value"] if fetch.count is None else _sum(all_of_it["c"])
    reader.found[()].rows[()] = Row(count, tuple(each.read(all_of_it) for each in _NumberPlace.all_of(fetch.numbers)))
    reader.levels(all_of_it, fetch.levels, (), ())
    return reader.found


class _AnswerReader:
    def __init__(self, fetch: Fetch, max_buckets: int) -> None:
        self._fetch, self._most, self._count = fetch, max_buckets, 0
        self.found: dict[Path, LevelBuckets] = dict(nothing(fetch))
        self._numbers: dict[int, tuple[_NumberPlace, ...]] = {}
        """By the identity of a level: one of ten thousands of buckets must not find that out for each."""
        self._parts: dict[int, list[Segment]] = {}

    def levels(self, bucket: Mapping[str, Any], levels: Sequence[Level], path: Path, keys: Keys) -> None:
        """Add the buckets of all levels within a bucket."""
        for i, level in enumerate(levels):
            at = (*path, level.name)
            match level.by:
                case ByTime():
                    self._by_time(bucket, i, level, at, keys)
                case ByTerms():
                    self._by_terms(bucket, i, level, at, keys)
                case ByWidth():
                    for inner in bucket[f"l{i}"]["buckets"]:
                        self._add(inner, float(inner["key"]) + 0.0, level, at, keys)
                case ByPredicate(of):
                    for place, inner in enumerate(bucket[f"l{i}"]["buckets"] if of else ()):
                        self._add(inner, place, level, at, keys)

    def _by_time(self, bucket: Mapping[str, Any], i: int, level: Level, path: Path, keys: Keys) -> None:
        by = level.by
        assert isinstance(by, ByTime)
        if (segments := self._parts.get(id(level))) is None:
            segments = self._parts[id(level)] = _segments(self._fetch.where, by)[0]
        for k, segment in enumerate(segments):
            part = bucket[f"l{i}_{k}"]
            if segment.key is not None:
                self._add(part, segment.key, level, path, keys)
                continue
            for inner in (part if "buckets" in part else part["b"])["buckets"]:
                # A document of several times is found by one and counted under each.
                if segment.start <= inner["key"] < segment.end:
                    self._add(inner, inner["key"], level, path, keys)
        if by.missing is not None:
            self._add(bucket[f"l{i}_{len(segments)}"], by.missing, level, path, keys)

    def _by_terms(self, bucket: Mapping[str, Any], i: int, level: Level, path: Path, keys: Keys) -> None:
        by = level.by
        assert isinstance(by, ByTerms)
        found = bucket[f"l{i}"]
        for inner in found["buckets"]:
            self._add(inner, _term(inner["key"], by.kind), level, path, keys)
        if not (others := found["sum_other_doc_count"]):
            return
        if self._fetch.count is not None:
            every = _sum(bucket[f"e{i}"]["c"] if by.missing is None else bucket["c"])
            others = every - sum(_sum(inner["c"]) for inner in found["buckets"])
        self.found[path].left_out[keys] = others

    def _add(self, bucket: Mapping[str, Any], key: Key, level: Level, path: Path, above: Keys) -> None:
        if not bucket["doc_count"]:
            return
        keys = (*above, key)
        count = bucket["doc_count"] if self._fetch.count is None else _sum(bucket["c"])
        if (numbers := self._numbers.get(id(level))) is None:
            numbers = self._numbers[id(level)] = _NumberPlace.all_of(level.numbers)
        row = Row(count, tuple([each.read(bucket) for each in numbers]))
        rows = self.found[path].rows
        if (before := rows.get(keys)) is not None:
            row = _both(before, row, level.numbers)
        else:
            self._count += 1
            if self._count > self._most:
                raise SearchTooLarge(self._most)
            if isinstance(key, str):
                self.found[path].key_bytes += getsizeof(key)
        rows[keys] = row
        if level.levels:
            self.levels(bucket, level.levels, path, keys)


def _both(one: Row, other: Row, numbers: Sequence[Number]) -> Row:
    """Return two rows of one key together: of its own values, and of those that are missing."""
    found = []
    for number, a, b in zip(numbers, one.numbers, other.numbers, strict=True):
        if a is None or b is None:
            found.append(b if a is None else a)
        else:
            found.append(a + b if number.is_added_up else (min, max)[number.function == "max"](a, b))
    return Row(one.count + other.count, tuple(found))


@dataclass(frozen=True, slots=True)
class _NumberPlace:
    """Where a number of a bucket stands."""

    name: str
    inner: str
    """The key within: of several numbers of one field each has its own."""
    several: bool
    of_none: float | int | None
    make: Callable[[Any], float | int]

    @classmethod
    def all_of(cls, numbers: tuple[Number, ...]) -> "tuple[_NumberPlace, ...]":
        """Return those of a level, once for all its buckets."""
        names = {
            field: (i, sum(f != "rows" for f in of) > 1) for i, (field, of) in enumerate(_by_field(numbers).items())
        }
        found = []
        for number, of_none in zip(numbers, none_of(numbers), strict=True):
            i, several = names[number.field]
            if number.function == "rows":
                found.append(cls(f"r{i}", "doc_count", False, of_none, int))
                continue
            inner = number.function if several else "value"
            found.append(cls(f"n{i}", inner, several, of_none, _MAKE[number.function == "count"]))
        return tuple(found)

    def read(self, bucket: Mapping[str, Any]) -> float | int | None:
        """Return the number."""
        found = bucket[self.name]
        value = found[self.inner]
        if value is None or (self.several and not found["count"]):
            return self.of_none
        return self.make(value)


_MAKE: Mapping[bool, Callable[[Any], float | int]] = {True: int, False: float}
"""By whether it counts. Infinity comes as a text."""


def _sum(of: Mapping[str, Any]) -> int:
    return int(float(of["value"]))


def _term(key: Any, kind: FieldKind) -> Key:
    if kind == "keyword":
        if not isinstance(key, str):
            raise TypeError("a term is no text")
        return key
    return float(key) + 0.0 if kind == "double" else int(key)
