"""Builds the one statement of a search. Pure.

Each relation is scanned once: its rows are summarised by the keys of the innermost levels together, all levels above
are made of that.

    rows ──scan──▶ s: by (time, term) ──▶ level (time, term)     by GROUPING SETS where there are several innermost ones
                                      └─▶ level (time)
                                      └─▶ all

A row that is in no bucket of a level has no key there; one that is in several has a list, or the numbers of conditions
as bits of one number. It is made into a row of each only in what is summarised.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rollup_operator.rollup.bounds import Segment
from rollup_operator.stores.duckdb.statements import columns, conditions, sql
from rollup_operator.stores.duckdb.statements.columns import Of
from rollup_operator.stores.duckdb.statements.conditions import FIRST_MS, LAST_MS, Field, Sort, literal, meets
from rollup_operator.stores.errors import SourceInvalid
from rollup_operator.stores.search import (
    ByPredicate,
    ByTerms,
    ByTime,
    ByWidth,
    Fetch,
    Instant,
    Level,
    Number,
    Path,
    Predicate,
    Value,
    segments_of,
)

_TYPES = {"s": "VARCHAR", "i": "HUGEINT", "d": "DOUBLE"}
"""What keys and numbers are, by kind."""
_ANY = f"UNION({', '.join(f'{kind} {type_}' for kind, type_ in _TYPES.items())})"
"""Of a column of the answer that holds several kinds."""
_BITS = 62
"""So many conditions are kept as bits of a BIGINT."""
_MOST_KEYS = 60
"""Of one scan: GROUPING takes no more than 64."""


@dataclass(frozen=True, slots=True)
class Relation:
    """What a fetch reads."""

    text: str
    types: Mapping[str, str]
    """Of its columns, by name."""


@dataclass(frozen=True, slots=True)
class _KeyColumn:
    """How a level's keys are found."""

    of_row: str
    """The key of a row, or what its keys are made of."""
    of_group: Of
    """The same of what is summarised, given what stands for that: one key, or a call of `unnest`."""
    kind: str
    """One of _TYPES."""

    @property
    def is_plain(self) -> bool:
        """Whether the key of what is summarised is that of its rows: buckets need not be made of it."""
        return self.of_group is _itself


@dataclass(frozen=True, slots=True)
class _Sum:
    """A number of a bucket."""

    of_rows: str
    """What gives it of rows."""
    function: str
    """What gives it of such numbers; empty: there is none."""
    kind: str
    """One of _TYPES."""

    def over(self, name: str) -> str:
        """Return what gives it of what is summarised."""
        return self.of_one(f"{self.function}({name})")

    def of_one(self, name: str) -> str:
        """Return it, given what is the only summary of the bucket's rows."""
        if not self.function:
            return "NULL"
        return f"coalesce({name}, 0)" if self.function == "sum" else name


@dataclass(slots=True)
class ColumnPlace:
    """A level of a fetch, or all of it."""

    path: Path
    level: Level | None
    above: "tuple[int, ...]"
    """The places above that have keys, from the top down, and itself."""
    numbers: tuple[Number, ...]
    limit: int | None
    """How many buckets the statement leaves it, those of the most documents; None: all of them."""
    inner: list[int] = field(default_factory=list)

    @property
    def most(self) -> int | None:
        """How many buckets it may have."""
        return self.level.by.limit if self.level is not None and isinstance(self.level.by, ByTerms) else None


@dataclass(frozen=True, slots=True)
class Statement:
    """A search as one statement."""

    text: str
    depth: int
    places: Sequence[Sequence[ColumnPlace]]
    most: int
    cuts: bool
    """Whether it leaves no level more buckets than it may have."""


def statement(fetches: Sequence[tuple[Fetch, Relation]], max_buckets: int, *, cuts: bool = True) -> Statement:
    """Return the statement that gives the buckets of all fetches. Raises SourceInvalid where a column does not fit.

    One that `cuts` ranks the buckets of levels that may have no more than so many, which is long to plan.
    """
    parts = [_FetchPart(i, fetch, relation, cuts=cuts) for i, (fetch, relation) in enumerate(fetches)]
    depth = max(len(place.above) for part in parts for place in part.places)
    width = max(len(place.numbers) for part in parts for place in part.places)
    steps = [step for part in parts for step in part.steps()]
    kinds = [set[str]() for _ in range(depth + width)]
    for part in parts:
        part.take_in(kinds, depth)
    mixed = [len(each) > 1 for each in kinds]
    results = [result for part in parts for result in part.results(depth, mixed)]
    limit = max_buckets + sum(len(part.places) for part in parts) + 1
    text = f"WITH {', '.join(steps)} SELECT * FROM ({' UNION ALL '.join(results)}) LIMIT {limit}"
    places = [part.places for part in parts]
    cuts = cuts or all(place.most is None for each in places for place in each)
    return Statement(text, depth, places, max_buckets, cuts)


class _FetchPart:
    """One fetch's part of the statement."""

    def __init__(self, number: int, fetch: Fetch, relation: Relation, *, cuts: bool) -> None:
        self._n, self._fetch, self._types, self._relation = number, fetch, relation.types, relation.text
        self._cuts = cuts
        self.places = [ColumnPlace((), None, (), fetch.numbers, None)]
        self._add(0, fetch.levels)
        self._keys = {
            i: _key(place.level, self._types, fetch.where)
            for i, place in enumerate(self.places)
            if place.level is not None
        }
        numbers = dict.fromkeys(number for place in self.places for number in place.numbers)
        self._values: dict[str, str] = {}
        self._sums = {number: self._sum(number) for number in numbers}
        self._scans = self._divided()

    def _add(self, above: int, levels: Sequence[Level]) -> None:
        for level in levels:
            i, outer = len(self.places), self.places[above]
            place = ColumnPlace((*outer.path, level.name), level, (*outer.above, i), level.numbers, None)
            place.limit = place.most if self._cuts else None
            self.places.append(place)
            outer.inner.append(i)
            self._add(i, level.levels)

    def _divided(self) -> list[list[int]]:
        """Return the innermost places, those together that one scan summarises."""
        scans: list[list[int]] = []
        keys: set[int] = set()
        for i, place in enumerate(self.places):
            if place.inner:
                continue
            if not scans or len(keys | {*place.above}) > _MOST_KEYS:
                scans.append([])
                keys = set()
            scans[-1].append(i)
            keys |= {*place.above}
        return scans

    def _sum(self, number: Number) -> _Sum:
        if number.field not in self._types:  # no row has a value
            return _Sum("0::BIGINT", "sum", "i") if number.is_added_up else _Sum("NULL", "", "i")
        column = Field.of(number.field, self._types)
        sort, many = column.sort, column.many
        kind = "d" if sort in (Sort.REAL, Sort.DECIMAL) else "i"
        name = sql.name(column.name)

        def of_value(x: str) -> str:
            time = column.time_kind if sort is Sort.TIME else None
            return column.value(x) if time is None else sql.milliseconds(x, time)

        if number.function == "count":
            value = f"len({column.values(of_value)})" if many else of_value(name)
            value = self._values.setdefault(value, f"v{len(self._values)}")
            return _Sum(f"{'sum' if many else 'count'}({value})", "sum", "i")
        if number.function == "rows":
            value = f"nullif(len({column.values(of_value)}), 0)" if many else of_value(name)
            value = self._values.setdefault(value, f"v{len(self._values)}")
            return _Sum(f"count({value})", "sum", "i")
        elif sort in (Sort.TEXT, Sort.OTHER):
            return _Sum("NULL", "", "i")
        else:
            function = number.function
            value = f"list_{function}({column.values(of_value)})" if many else of_value(name)
        value = self._values.setdefault(value, f"v{len(self._values)}")
        return _Sum(f"{function}({value})", function, kind)

    def steps(self) -> Iterator[str]:
        """Yield the named steps of the statement, each with what it is."""
        for j, leaves in enumerate(self._scans):
            yield f"{self._step('s', j)} AS MATERIALIZED ({self._scan(leaves)})"
        for i, place in enumerate(self.places):
            if place.limit is None:
                yield f"{self._step('p', i)} AS MATERIALIZED ({self._buckets(i)})"
            else:
                *above, own = self._names(place)
                partition = f"PARTITION BY {', '.join(above)} " if above else ""
                rank = f"row_number() OVER ({partition}ORDER BY c DESC, {own}) AS r"
                yield f"{self._step('t', i)} AS MATERIALIZED (SELECT *, {rank} FROM {self._below_kept(i)})"

    def take_in(self, kinds: Sequence[set[str]], depth: int) -> None:
        """Add the kinds of keys and numbers, by their place in a row of the answer: so many keys, then the numbers."""
        for place in self.places:
            for into, k in zip(kinds, place.above, strict=False):
                into.add(self._keys[k].kind)
            for into, number in zip(kinds[depth:], place.numbers, strict=False):
                into.add(self._sums[number].kind)

    def results(self, depth: int, mixed: Sequence[bool]) -> Iterator[str]:
        """Yield the queries that give the rows of the answer: so many keys, then numbers; `mixed` ones as _ANY.

        The first one of a statement tells the types of all.
        """
        for i, place in enumerate(self.places):
            empty = [f"NULL::{_ANY}" if self._n == i == 0 and each else "NULL" for each in mixed]
            keys = [
                _as(self._keys[k].kind, self._shown(k, name), is_mixed)
                for k, name, is_mixed in zip(place.above, self._names(place), mixed, strict=False)
            ]
            keys += empty[len(keys) : depth]
            sums = [
                _as(self._sums[n].kind, f"{self._sum_name(n)}::{_TYPES[self._sums[n].kind]}", is_mixed)
                for n, is_mixed in zip(place.numbers, mixed[depth:], strict=False)
            ]
            sums += empty[depth + len(sums) :]
            yield f"SELECT {', '.join([f'{self._n}', f'{i}', 'false', 'c', *keys, *sums])} FROM {self._kept(i)}"
            if place.limit is not None:
                above = ["sum(c)::HUGEINT", *keys[: len(place.above) - 1]]
                above += ["NULL"] * (1 + len(mixed) - len(above))
                by = (
                    f" GROUP BY {', '.join(self._names(place)[:-1])}"
                    if len(place.above) > 1
                    else " HAVING count(*) > 0"
                )
                yield (
                    f"SELECT {', '.join([f'{self._n}', f'{i}', 'true', *above])} FROM {self._step('t', i)} "
                    f"WHERE r > {place.limit}{by}"
                )

    def _shown(self, k: int, name: str) -> str:
        kind = self._keys[k].kind
        return columns.short(f"{name}::VARCHAR") if kind == "s" else f"{name}::{_TYPES[kind]}"

    def _scan(self, leaves: Sequence[int]) -> str:
        keys = list(dict.fromkeys(k for leaf in leaves for k in self.places[leaf].above))
        count = self._fetch.count
        weight = "1::BIGINT" if count is None else f"coalesce({sql.name(Field.of(count, self._types).name)}, 0)"
        given = [
            *(f"{self._keys[k].of_row} AS k{k}" for k in keys),
            *(f"{value} AS {name}" for value, name in self._values.items()),
            f"{weight} AS w",
        ]
        rows = (
            f"SELECT {', '.join(given)} FROM {self._relation} WHERE {conditions.where(self._fetch.where, self._types)}"
        )
        names = [f"k{k}" for k in keys]
        sums = [f"{s.of_rows} AS {self._sum_name(n)}" for n, s in self._sums.items()]
        total = "count(*)" if count is None else "sum(w)"
        which: list[str] = []
        by = f" GROUP BY {', '.join(names)}" if names else ""
        if len(leaves) > 1:
            which = [f"grouping({', '.join(names)}) AS g"]
            sets = (f"({', '.join(f'k{k}' for k in self.places[leaf].above)})" for leaf in leaves)
            by = f" GROUP BY GROUPING SETS ({', '.join(sets)})"
        return f"SELECT {', '.join([*which, *names, f'{total} AS c', *sums])} FROM ({rows}){by}"

    def _buckets(self, i: int) -> str:
        """Return the query for a place's buckets, those within buckets that are left out as well."""
        place, scan = self.places[i], next(j for j, of in enumerate(self._scans) if any(self._is_in(n, i) for n in of))
        leaves = self._scans[scan]
        leaf = next(n for n in leaves if self._is_in(n, i))
        keys = list(dict.fromkeys(k for n in leaves for k in self.places[n].above))
        # A bit for each key that is not one of the set, the last one being the lowest.
        which = sum(1 << n for n, k in enumerate(reversed(keys)) if k not in self.places[leaf].above)
        source = self._step("s", scan)
        met = [f"g = {which}"] if len(leaves) > 1 else []
        sums = {self._sum_name(n): self._sums[n] for n in place.numbers}
        names = self._names(place)
        if all(self._keys[k].is_plain for k in place.above):
            here = [f"k{k}" for k in place.above]
            met += [f"{key} IS NOT NULL" for key in here]
            source += f" WHERE {' AND '.join(met)}" if met else ""
            given = [f"{key} AS {name}" for key, name in zip(here, names, strict=True)]
            if i == leaf:
                each = ["coalesce(c, 0)::HUGEINT AS c", *(f"{s.of_one(name)} AS {name}" for name, s in sums.items())]
                return f"SELECT {', '.join([*given, *each])} FROM {source}"
        else:
            source = self._exploded(place, " WHERE ".join([source, *met]), ["c", *sums])
            given = here = names
        found = ["coalesce(sum(c), 0)::HUGEINT AS c", *(f"{s.over(name)} AS {name}" for name, s in sums.items())]
        by = f" GROUP BY {', '.join(here)}" if here else ""
        return f"SELECT {', '.join([*given, *found])} FROM {source}{by}"

    def _exploded(self, place: ColumnPlace, source: str, rest: Sequence[str]) -> str:
        """Return the relation of a summary with a row for each of a place's buckets that it is part of."""
        names: list[str] = []
        for k in place.above:  # one after the other: side by side they would be read in pairs
            here = self._keys[k].of_group(f"k{k}")
            inner = [f"k{other}" for other in place.above if other > k]
            source = f"(SELECT {', '.join([*names, f'{here} AS q{k}', *inner, *rest])} FROM {source})"
            names.append(f"q{k}")
            source = f"(SELECT * FROM {source} WHERE q{k} IS NOT NULL)"
        return source

    def _is_in(self, leaf: int, i: int) -> bool:
        return i in (leaf, 0) or i in self.places[leaf].above

    def _below_kept(self, i: int) -> str:
        """Return the buckets of a place whose buckets above are kept."""
        limit, above = self.places[i].limit, self.places[i].above[:-1]
        buckets = self._step("p", i) if limit is None else f"({self._buckets(i)})"
        if all(self.places[k].limit is None for k in above):
            return buckets
        names = ", ".join(f"q{k}" for k in above)
        return f"(SELECT p.* FROM {buckets} p SEMI JOIN {self._kept(above[-1])} a USING ({names}))"

    def _kept(self, i: int) -> str:
        """Return the buckets of a place that belong to the answer."""
        limit = self.places[i].limit
        return self._below_kept(i) if limit is None else f"(SELECT * FROM {self._step('t', i)} WHERE r <= {limit})"

    def _names(self, place: ColumnPlace) -> list[str]:
        return [f"q{k}" for k in place.above]

    def _sum_name(self, number: Number) -> str:
        return f"a{list(self._sums).index(number)}"

    def _step(self, kind: str, i: int) -> str:
        return f"{kind}{self._n}_{i}"


def _as(kind: str, value: str, is_mixed: bool) -> str:
    return f"union_value({kind} := {value})::{_ANY}" if is_mixed else value


def _itself(key: str) -> str:
    return key


def _each(keys: str) -> str:
    return f"unnest({keys})"


def _key(level: Level, types: Mapping[str, str], where: Predicate) -> _KeyColumn:
    match level.by:
        case ByPredicate(of):
            met = [meets(each, types) for each in of]
            if len(of) <= _BITS:
                bits = " + ".join(f"CASE WHEN {each} THEN {1 << n} ELSE 0 END" for n, each in enumerate(met))
                return _KeyColumn(
                    f"({bits or 0})::BIGINT",
                    lambda k: f"unnest(list_filter(range({len(of)}), lambda x: ({k} >> x::INTEGER) & 1 = 1))",
                    "i",
                )
            places = ", ".join(f"CASE WHEN {each} THEN {n} END" for n, each in enumerate(met))
            return _KeyColumn(f"list_filter([{places}], lambda x: x IS NOT NULL)", _each, "i")
        case ByTime():
            return _by_time(level.by, types, where)
        case ByWidth():
            return _by_width(level.by, types)
        case ByTerms():
            return _by_terms(level.by, types)


def _by_time(by: ByTime, types: Mapping[str, str], where: Predicate) -> _KeyColumn:
    column = Field.of(by.field, types)
    if (kind := column.time_kind) is None or column.many:
        raise SourceInvalid(f"column {by.field!r} is {column.type}, which does not tell a time")
    name, (met, whole) = sql.name(by.field), segments_of(where, by)
    segments, key = _told(met), "NULL::BIGINT"
    if segments:
        key = sql.bucket_key(name, kind, segments)
        if not whole:
            within = sql.within(name, kind, segments[0].start, segments[-1].end)
            key = f"CASE WHEN {within} THEN {key} END"
    if by.missing is not None:
        key = f"CASE WHEN {name} IS NULL THEN {by.missing}::BIGINT ELSE {key} END"
    return _KeyColumn(key, _itself, "i")


def _told(segments: Sequence[Segment]) -> list[Segment]:
    """Return the segments as far as there are times."""
    cut = [replace(s, start=max(s.start, FIRST_MS), end=min(s.end, LAST_MS)) for s in segments]
    return [s for s in cut if s.start < s.end]


def _by_width(by: ByWidth, types: Mapping[str, str]) -> _KeyColumn:
    column = Field.of(by.field, types)
    if column.sort not in (Sort.WHOLE, Sort.DECIMAL, Sort.REAL):
        raise SourceInvalid(f"column {by.field!r} is {column.type}: a histogram takes numbers")

    interval, offset = f"{by.interval!r}::DOUBLE", f"{by.offset!r}::DOUBLE"

    def key(number: str) -> str:
        # + 0.0 makes of minus zero the zero that it is.
        return f"floor(({number} - {offset}) / {interval}) * {interval} + {offset} + 0.0"

    def of_value(x: str) -> str:
        return f"({column.value(x)})::DOUBLE"

    if not column.many:
        number = of_value(sql.name(by.field))
        if by.missing is not None:
            number = f"coalesce({number}, {by.missing!r}::DOUBLE)"
        return _KeyColumn(key(number), _itself, "d")
    keys = f"list_distinct({column.values(lambda x: key(of_value(x)))})"
    if by.missing is not None:
        without = f"[{key(f'{by.missing!r}::DOUBLE')}]"
        keys = f"CASE WHEN len({keys}) > 0 THEN {keys} ELSE {without} END"
    return _KeyColumn(keys, _each, "d")


def _by_terms(by: ByTerms, types: Mapping[str, str]) -> _KeyColumn:
    column = Field.of(by.field, types)
    if by.kind == "date":
        if (time := column.time_kind) is None or column.many:
            raise SourceInvalid(f"column {by.field!r} is {column.type}, which does not tell a time")
        made, many, kind = sql.milliseconds(sql.name(by.field), time), False, "i"
    else:
        found = columns.terms(by.field, column.type)
        made, many = found.expression, found.many
        kind = {"VARCHAR": "s", "BIGINT": "i", "DOUBLE": "d"}[found.type]
    group = _each if many else _itself
    if by.missing is None:
        return _KeyColumn(made, group, kind)
    missing, kind = _missing(by.missing, kind)
    return _KeyColumn(made, lambda k: f"coalesce({group(k)}::{_TYPES[kind]}, {missing})", kind)


def _missing(value: Value, kind: str) -> tuple[str, str]:
    """Return the key of rows without a value as a constant, and what all keys are for it."""
    if isinstance(value, Instant):
        value = value.ms
    if kind == "s" or isinstance(value, str):
        return literal(str(value)), "s"
    if kind == "i" and value == math.floor(value):
        return f"{int(value)}::HUGEINT", "i"
    return f"{float(value)!r}::DOUBLE", "d"
