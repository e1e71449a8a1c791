"""Builds the statements of a job's pages from the job and the types of its source columns. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rollup_operator.model import hints
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.bounds import Bounds, Segment
from rollup_operator.stores.duckdb.statements import columns, sql
from rollup_operator.stores.duckdb.statements.columns import Column
from rollup_operator.stores.duckdb.statements.sql import TimeKind
from rollup_operator.stores.errors import SourceInvalid

COUNT = "_count"
_TIME = "spec.groups.dateHistogram.field"


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
    widens: tuple[str, ...] = ()
    """Keys that are whole numbers in the result so far, and decimals from now on."""

    @property
    def columns(self) -> Sequence[tuple[str, str]]:
        """Names and types of the result table."""
        return [
            (self.date_key, "BIGINT"),
            *((c.name, c.type) for c in self.groups),
            (COUNT, "BIGINT"),
            *((c.name, c.type) for c in self.aggregates),
        ]

    @property
    def summed_exactly(self) -> Sequence[str]:
        """Names of the source's columns of which sums can be too large for that."""
        return [c.name.removesuffix(".sum") for c in self.aggregates if c.name.endswith(".sum") and not c.exact]

    def select(self, segments: Sequence[Segment]) -> str:
        """Return the buckets of the time that the segments cover."""
        where = sql.within(self.time, self.kind, segments[0].start, segments[-1].end)
        relation, where = self.relation, f" WHERE {where}"
        groups = [c.expression for c in self.groups]
        if any(c.many for c in self.groups):
            relation, where, groups = self._one_row_per_value(where)
        parts = [
            f"{sql.bucket_key(self.time, self.kind, segments)} AS {sql.name(self.date_key)}",
            *(f"{given} AS {sql.name(c.name)}" for given, c in zip(groups, self.groups, strict=True)),
            f"count(*) AS {COUNT}",
            *(f"{c.expression} AS {sql.name(c.name)}" for c in self.aggregates),
        ]
        return f"SELECT {', '.join(parts)} FROM {relation}{where} GROUP BY ALL"

    def _one_row_per_value(self, where: str) -> tuple[str, str, list[str]]:
        """Return a relation with a row for each bucket of a source's row, no condition, and its expressions of keys."""
        given = list(dict.fromkeys([self.time, *(c.source for c in self.aggregates)]))
        keys = [_other_name(f"key {i}", given) for i in range(len(self.groups))]
        made = [f"{c.expression} AS {key}" for key, c in zip(keys, self.groups, strict=True)]
        relation = f"(SELECT {', '.join([*given, *made])} FROM {self.relation}{where})"
        for key, column in zip(keys, self.groups, strict=True):
            if column.many:  # one after the other: side by side they would be read in pairs
                relation = f"(SELECT * REPLACE (unnest({key}) AS {key}) FROM {relation})"
        return relation, "", keys

    def measure(self, start: int, end: int) -> str:
        """Return the number of rows in [start, end), their first and their last time."""
        first, last = (sql.milliseconds(f"{f}({self.time})", self.kind) for f in ("min", "max"))
        where = sql.within(self.time, self.kind, start, end)
        return f"SELECT count(*), {first}, {last} FROM {self.relation} WHERE {where}"

    def totals(self, buckets: str) -> str:
        """Return number, rows and last time of the buckets of a statement, and the bytes of the longest key's texts."""
        texts = [f"coalesce(strlen({sql.name(c.name)}), 0)" for c in self.groups if c.type == "VARCHAR"]
        longest = f"coalesce(max({' + '.join(texts)}), 0)" if texts else "0"
        parts = ["count(*)", f"sum({COUNT})::BIGINT", f"max({sql.name(self.date_key)})", longest]
        return f"SELECT {', '.join(parts)} FROM ({buckets})"

    def last(self, buckets: str, time: int) -> str:
        """Return the other keys of the last bucket of that time; nulls come before values in keys."""
        names = [sql.name(c.name) for c in self.groups]
        order = ", ".join(f"{n} DESC NULLS LAST" for n in names)
        where = f"{sql.name(self.date_key)} = {time}"
        return f"SELECT {', '.join(names)} FROM ({buckets}) WHERE {where} ORDER BY {order} LIMIT 1"


def date_key(field: str) -> str:
    """Return the name of the time group."""
    return f"{field}.date_histogram"


def make_plan(
    spec: RollupJobSpec, relation: str, types: Mapping[str, str], written: Mapping[str, str] | None = None
) -> Plan:
    """Check the fields against the source's columns, and the keys against the written ones.

    `written` are the types of the result's columns; None: there is no result yet. Raises SourceInvalid with the field
    and what is valid.
    """
    field = spec.groups.date_histogram.field
    kind = _time_kind(field, _type(types, field, _TIME))
    groups: list[Column] = []
    if (histogram := spec.groups.histogram) is not None:
        at = "spec.groups.histogram.fields"
        groups += [columns.histogram(f, _type(types, f, at), histogram.interval) for f in histogram.fields]
    if (terms := spec.groups.terms) is not None:
        groups += [columns.terms(f, _type(types, f, "spec.groups.terms.fields")) for f in terms.fields]
    groups = [_as_written(c, (written or {}).get(c.name), types) for c in groups]
    aggregates: list[Column] = []
    for m in spec.metrics:
        aggregates += columns.metrics(m.field, m.metrics, _type(types, m.field, "spec.metrics"))
    widens = tuple(c.name for c in groups if written and written.get(c.name, c.type) != c.type)
    return Plan(relation, sql.name(field), kind, date_key(field), tuple(groups), tuple(aggregates), widens)


def _as_written(column: Column, written: str | None, types: Mapping[str, str]) -> Column:
    """Return a key as the result has it, if it can hold both. Raises SourceInvalid."""
    if written is None or written == column.type:
        return column
    field = column.name.removesuffix(".terms")
    if "VARCHAR" in (written, column.type):
        was, is_ = ("text", "numbers") if written == "VARCHAR" else ("numbers", "text")
        raise SourceInvalid(
            f"spec.groups.terms.fields: column {field!r} holds {is_} now ({column.type}), and its keys in what is "
            f"written are {was} ({written}), which is not mixed: give the column its type back (of CSV files by "
            "spec.csv.columns), or go on with a new job of another spec.rollupIndex or jobId"
        )
    # Whole numbers became decimals, or the reverse: as one reading of the whole source would have made them.
    return columns.decimal_terms(field, types[field])


def _other_name(name: str, taken: Sequence[str]) -> str:
    lower = {t.lower() for t in taken}
    while sql.name(name).lower() in lower:
        name += "_"
    return sql.name(name)


def segments(bounds: Bounds, start: int, end: int) -> list[Segment]:
    """Return the pieces of [start, end); Elasticsearch sees no document from before 1970, so neither do we."""
    return bounds.segments(max(0, start), end)


def _type(types: Mapping[str, str], field: str, at: str) -> str:
    if field in types:
        return types[field]
    wants_time = at == _TIME
    there = sorted(
        types, key=lambda name: (wants_time and columns.time_kind(types[name]) in (None, TimeKind.INTEGER), name)
    )
    raise SourceInvalid(f"{at}: the source has no column {field!r}: {hints.instead(field, there)}")


def tells_time(type_: str) -> bool:
    """Whether a column of this type can be the time of a job."""
    return columns.time_kind(type_) is not None


def _time_kind(field: str, type_: str) -> TimeKind:
    if (kind := columns.time_kind(type_)) is not None:
        return kind
    raise SourceInvalid(
        f"{_TIME}: column {field!r} is {type_}: use a TIMESTAMP, a DATE, or whole milliseconds since 1970"
    )
