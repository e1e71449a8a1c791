"""Statements as text. Pure: no connection, no data. Names and values from users are always quoted here."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum

from rollup_operator.rollup.bounds import Segment

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_NANOS = (2**63 - 1) // 1_000_000
"""The last millisecond that a TIMESTAMP_NS can hold, in the year 2262."""


class TimeKind(Enum):
    """How a column holds the time."""

    NAIVE = "TIMESTAMP"
    """TIMESTAMP or DATE: UTC."""
    ZONED = "TIMESTAMPTZ"
    NANOS = "TIMESTAMP_NS"
    """UTC, to the nanosecond. A conversion to microseconds rounds, and so may move a row into the next bucket."""
    ZONED_NANOS = "TIMESTAMPTZ_NS"
    INTEGER = "BIGINT"
    """Milliseconds since 1970."""


def name(identifier: str) -> str:
    """Quote an identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def text(value: str) -> str:
    """Quote a string."""
    return "'" + value.replace("'", "''") + "'"


def instant(ms: int, kind: TimeKind) -> str:
    """Return an instant as a constant that can be compared with a column of that kind without converting the column."""
    if kind is TimeKind.INTEGER:
        return f"{ms}::BIGINT"
    if kind in (TimeKind.NANOS, TimeKind.ZONED_NANOS):
        ms = min(ms, _LAST_NANOS)
    at = (_EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m-%d %H:%M:%S.%f")
    zone = "+00" if kind in (TimeKind.ZONED, TimeKind.ZONED_NANOS) else ""
    return f"'{at}{zone}'::{kind.value}"


def milliseconds(column: str, kind: TimeKind) -> str:
    """Return a column's time as epoch milliseconds, the ones that have begun: before 1970, too."""
    match kind:
        case TimeKind.INTEGER:
            return f"{column}::BIGINT"
        case TimeKind.NANOS | TimeKind.ZONED_NANOS:
            ticks, unit = f"epoch_ns({column})", 1_000_000
        case _:
            ticks, unit = f"epoch_us({column})", 1000
    # Integer division rounds towards zero.
    return f"({ticks} // {unit} - ({ticks} % {unit} < 0)::BIGINT)"


def _ticks(column: str, kind: TimeKind) -> tuple[str, int]:
    """Return a column's time as a whole number since 1970, and how many of it make a millisecond."""
    match kind:
        case TimeKind.INTEGER:
            return f"{column}::BIGINT", 1
        case TimeKind.NANOS | TimeKind.ZONED_NANOS:
            return f"(epoch_ns({column}) // 1000)", 1000
        case _:
            return f"epoch_us({column})", 1000


def within(column: str, kind: TimeKind, start: int, end: int) -> str:
    """Return the condition that a column's time lies in [start, end)."""
    return f"{column} >= {instant(start, kind)} AND {column} < {instant(end, kind)}"


def bucket_key(column: str, kind: TimeKind, segments: Sequence[Segment]) -> str:
    """Return the key of a row's bucket in epoch milliseconds; the row's time lies in one of the segments."""
    ticks, unit = _ticks(column, kind)
    if len(segments) == 1:
        return _key(ticks, unit, segments[0])
    # A tree of comparisons: their number per row grows with the logarithm of the number of changes of the clock.
    middle = len(segments) // 2
    low, high = bucket_key(column, kind, segments[:middle]), bucket_key(column, kind, segments[middle:])
    return f"CASE WHEN {ticks} < {segments[middle].start * unit} THEN {low} ELSE {high} END"


def _key(ticks: str, unit: int, s: Segment) -> str:
    if s.key is not None:
        return f"{s.key}::BIGINT"
    if s.step is None:
        micros = ticks if unit == 1000 else f"{ticks} * 1000"
        local = f"make_timestamp({micros} + {s.offset * 1000})"
        return f"epoch_us(date_trunc('{s.unit}', {local})) // 1000 - {s.offset}"
    shift = s.offset - s.origin
    # Integer division rounds towards zero: whole steps are added to keep the dividend positive.
    shift += s.step * max(0, -((s.start + shift) // s.step))
    return f"({ticks} + {shift * unit}) // {s.step * unit} * {s.step} - {shift}"


def relation(parts: Sequence[str]) -> str:
    """Return the sources read together: columns by name, a column that one lacks is missing there."""
    if len(parts) == 1:
        return parts[0]
    return "(" + " UNION ALL BY NAME ".join(f"SELECT * FROM {part}" for part in parts) + ")"


def files(function: str, paths: Iterable[str], options: str = "union_by_name = true") -> str:
    """Return the relation of files given by their full paths, none of which is a pattern."""
    return f"{function}({path_list(paths)}, {options})"


def path_list(paths: Iterable[str]) -> str:
    """Return a list of full paths, none of which DuckDB takes for a pattern."""
    return f"[{', '.join(text(_literal_path(p)) for p in paths)}]"


def _literal_path(path: str) -> str:
    """Escape the characters of DuckDB's file patterns."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)
