"""From a job and the types of its source's columns to the statements of its pages. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rollup_operator.indexer.bounds import Bounds, Segment
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.stores.duckdb import sql
from rollup_operator.stores.duckdb.sql import TimeKind
from rollup_operator.stores.errors import SourceInvalid

COUNT = "_count"

_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
_WIDE = {"UBIGINT", "HUGEINT", "UHUGEINT"}
_FLOATS = {"FLOAT", "DOUBLE"}
_NAIVE = {"TIMESTAMP", "DATE", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"}
_ZONED = {"TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the result table: its name, what it holds and how a row or a bucket gives it."""

    name: str
    type: str
    expression: str


@dataclass(frozen=True, slots=True)
class Plan:
    """How to read a job's source."""

    relation: str
    time: str
    """The time column, quoted."""
    kind: TimeKind
    date_key: str
    """Name of the result's time column."""
    groups: tuple[Column, ...]
    """The other group columns, in the order of the position's keys."""
    aggregates: tuple[Column, ...]

    @property
    def columns(self) -> Sequence[tuple[str, str]]:
        """Names and types of the result table."""
        return [
            (self.date_key, "BIGINT"),
            *((c.name, c.type) for c in self.groups),
            (COUNT, "BIGINT"),
            *((c.name, c.type) for c in self.aggregates),
        ]

    def select(self, segments: Sequence[Segment]) -> str:
        """Return the buckets of the time that the segments cover."""
        where = sql.within(self.time, self.kind, segments[0].start, segments[-1].end)
        parts = [
            f"{sql.bucket_key(self.time, self.kind, segments)} AS {sql.name(self.date_key)}",
            *(f"{c.expression} AS {sql.name(c.name)}" for c in self.groups),
            f"count(*) AS {COUNT}",
            *(f"{c.expression} AS {sql.name(c.name)}" for c in self.aggregates),
        ]
        return f"SELECT {', '.join(parts)} FROM {self.relation} WHERE {where} GROUP BY ALL"

    def measure(self, start: int, end: int) -> str:
        """Return the number of rows in [start, end), their first and their last time."""
        first, last = (sql.milliseconds(f"{f}({self.time})", self.kind) for f in ("min", "max"))
        where = sql.within(self.time, self.kind, start, end)
        return f"SELECT count(*), {first}, {last} FROM {self.relation} WHERE {where}"

    def totals(self, buckets: str) -> str:
        """Return number, rows and last time of the buckets that a statement gives."""
        return f"SELECT count(*), sum({COUNT})::BIGINT, max({sql.name(self.date_key)}) FROM ({buckets})"

    def last(self, buckets: str, time: int) -> str:
        """Return the other keys of the last bucket of that time; nulls come before values in keys."""
        names = [sql.name(c.name) for c in self.groups]
        order = ", ".join(f"{n} DESC NULLS LAST" for n in names)
        where = f"{sql.name(self.date_key)} = {time}"
        return f"SELECT {', '.join(names)} FROM ({buckets}) WHERE {where} ORDER BY {order} LIMIT 1"


def date_key(field: str) -> str:
    """Return the name of the time group."""
    return f"{field}.date_histogram"


def make_plan(spec: RollupJobSpec, relation: str, types: Mapping[str, str]) -> Plan:
    """Check the fields against the source's columns. Raises SourceInvalid with the field and what would do."""
    field = spec.groups.date_histogram.field
    kind = _time_kind(field, _type(types, field, "spec.groups.dateHistogram.field"))
    groups: list[Column] = []
    if (histogram := spec.groups.histogram) is not None:
        at = "spec.groups.histogram.fields"
        groups += [_histogram(f, _type(types, f, at), histogram.interval) for f in histogram.fields]
    if (terms := spec.groups.terms) is not None:
        groups += [_terms(f, _type(types, f, "spec.groups.terms.fields")) for f in terms.fields]
    aggregates: list[Column] = []
    for m in spec.metrics:
        aggregates += _metrics(m.field, m.metrics, _type(types, m.field, "spec.metrics"))
    return Plan(relation, sql.name(field), kind, date_key(field), tuple(groups), tuple(aggregates))


def segments(bounds: Bounds, start: int, end: int) -> list[Segment]:
    """Return the pieces of [start, end); Elasticsearch sees no document from before 1970, so neither do we."""
    return bounds.segments(max(0, start), end)


def _type(types: Mapping[str, str], field: str, at: str) -> str:
    if field in types:
        return types[field]
    near = next((n for n in types if n.lower() == field.lower()), None)
    hint = f"did you mean {near!r}" if near else f"it has {', '.join(repr(n) for n in sorted(types)[:20])}"
    raise SourceInvalid(f"{at}: the source has no column {field!r}: {hint}")


def tells_time(type_: str) -> bool:
    """Whether a column of this type can be the time of a job."""
    return type_ in _NAIVE or type_ in _ZONED or type_ in _INTEGERS


def _time_kind(field: str, type_: str) -> TimeKind:
    if type_ in _NAIVE:
        return TimeKind.NAIVE
    if type_ in _ZONED:
        return TimeKind.ZONED
    if type_ in _INTEGERS:
        return TimeKind.INTEGER
    raise SourceInvalid(
        f"spec.groups.dateHistogram.field: column {field!r} is {type_}: "
        "use a TIMESTAMP, a DATE, or whole milliseconds since 1970"
    )


def _number(field: str, type_: str) -> str | None:
    """Return the column as DOUBLE, None where it is no number. NaN and infinity count as missing."""
    column = sql.name(field)
    if type_ in _FLOATS:
        return f"CASE WHEN isfinite({column}) THEN {column}::DOUBLE END"
    if type_ in _INTEGERS or type_ in _WIDE or type_.startswith("DECIMAL"):
        return f"{column}::DOUBLE"
    return None


def _histogram(field: str, type_: str, interval: int) -> Column:
    number = _number(field, type_)
    if number is None:
        raise SourceInvalid(f"spec.groups.histogram.fields: column {field!r} is {type_}: a histogram takes numbers")
    # + 0.0 makes of minus zero the zero that it is.
    return Column(f"{field}.histogram", "DOUBLE", f"floor({number} / {interval}) * {interval} + 0.0")


def _terms(field: str, type_: str) -> Column:
    key = f"{field}.terms"
    if type_ in ("VARCHAR", "UUID") or type_.startswith("ENUM"):
        return Column(key, "VARCHAR", f"{sql.name(field)}::VARCHAR" if type_ != "VARCHAR" else sql.name(field))
    if type_ in _INTEGERS:
        return Column(key, "BIGINT", f"{sql.name(field)}::BIGINT")
    number = _number(field, type_)
    if number is None or type_ in _WIDE:
        raise SourceInvalid(
            f"spec.groups.terms.fields: column {field!r} is {type_}: "
            "terms takes text, an ENUM, or numbers that fit into 64 bits with a sign"
        )
    return Column(key, "DOUBLE", f"{number} + 0.0")


def _metrics(field: str, metrics: Sequence[str], type_: str) -> list[Column]:
    value = _number(field, type_)
    if value is None and type_ in _NAIVE | _ZONED:
        if wrong := [m for m in metrics if m in ("sum", "avg")]:
            raise SourceInvalid(
                f"spec.metrics: column {field!r} is {type_}, which has min, max and value_count, not {wrong[0]}"
            )
        value = f"(epoch_us({sql.name(field)}) // 1000)::DOUBLE"
    if value is None:
        raise SourceInvalid(f"spec.metrics: column {field!r} is {type_}: metrics are taken of numbers and times")
    parts = {
        "min": (f"min({value})", "DOUBLE"),
        "max": (f"max({value})", "DOUBLE"),
        "sum": (f"coalesce(sum({value}), 0)", "DOUBLE"),
        "count": (f"count({value})", "BIGINT"),
    }
    needed = {"min": {"min"}, "max": {"max"}, "sum": {"sum"}, "avg": {"sum", "count"}, "value_count": {"count"}}
    wanted = set().union(*(needed[m] for m in metrics))
    return [Column(f"{field}.{p}", type_, expression) for p, (expression, type_) in parts.items() if p in wanted]
