"""Conditions of a search as SQL, with the meaning that they have in Elasticsearch. Pure.

A column may hold one value per row or a list of them: a row meets a condition if any of its values does. What is not a
number, and infinity, counts as missing. Texts and names are quoted by `sql`.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial

from rollup_operator.stores.duckdb.statements import columns, sql
from rollup_operator.stores.duckdb.statements.sql import TimeKind
from rollup_operator.stores.errors import SourceInvalid
from rollup_operator.stores.search import (
    All,
    AtLeast,
    Between,
    Exists,
    Instant,
    Not,
    OneOf,
    Predicate,
    Prefix,
    Value,
    Wildcard,
)

FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999: times beyond are taken for these."""
_FIRST_NANOS = -(2**63) // 1_000_000 + 1
"""The first millisecond that a TIMESTAMP_NS can hold, in the year 1677."""
_LARGEST = 2**100
"""Whole numbers beyond are taken for this: no column holds such a one."""

_TEXTS = frozenset({"VARCHAR", "UUID"})


class Sort(Enum):
    """What a column's values are for comparisons and sums."""

    TEXT = "text"
    WHOLE = "whole"
    DECIMAL = "decimal"
    REAL = "real"
    TIME = "time"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a relation."""

    name: str
    type: str
    """Of the column, in DuckDB's words."""

    @classmethod
    def of(cls, name: str, types: Mapping[str, str]) -> "Field":
        """Return a column of those. Raises SourceInvalid where there is none of that name."""
        if name not in types:
            raise SourceInvalid(f"the source has no column {name!r}")
        return cls(name, types[name])

    @property
    def element(self) -> str:
        """Type of one value."""
        return columns.element(self.type)

    @property
    def many(self) -> bool:
        """Whether a row has a list of values."""
        return self.element != self.type

    @property
    def sort(self) -> Sort:
        """What its values are."""
        kind = self.element
        if kind in _TEXTS or kind.startswith("ENUM"):
            return Sort.TEXT
        if kind in columns.INTEGERS or kind in ("UBIGINT", "HUGEINT"):
            return Sort.WHOLE
        if kind.startswith("DECIMAL"):
            return Sort.DECIMAL
        if kind in ("FLOAT", "DOUBLE", "UHUGEINT"):
            return Sort.REAL
        return Sort.TIME if columns.time_kind(kind) is not None else Sort.OTHER

    @property
    def time_kind(self) -> TimeKind | None:
        """How its values tell the time; None: they do not."""
        return columns.time_kind(self.element)

    def value(self, x: str) -> str:
        """Return what stands for a value, `x`, in comparisons and sums; NULL where that counts as missing."""
        match self.sort:
            case Sort.TEXT:
                return x if self.element == "VARCHAR" else f"{x}::VARCHAR"
            case Sort.REAL:
                return f"CASE WHEN isfinite({x}::DOUBLE) THEN {x}::DOUBLE END"
        return x

    def values(self, of: Callable[[str], str]) -> str:
        """Return the list of what becomes of a row's values, without those that come to nothing; for a list."""
        given = sql.name(self.name) if self.type.endswith("[]") else f"{sql.name(self.name)}::{self.element}[]"
        return f"list_filter(list_transform({given}, lambda x: {of('x')}), lambda x: x IS NOT NULL)"


def where(predicate: Predicate, types: Mapping[str, str]) -> str:
    """Return the condition for a WHERE clause, whose parts a scan can use to pass blocks of rows by.

    Raises SourceInvalid where it names a column that is not there.
    """
    return _condition(predicate, types, exact=False)


def meets(predicate: Predicate, types: Mapping[str, str]) -> str:
    """Return the condition as an expression that is true or false for every row. Raises SourceInvalid."""
    return _condition(predicate, types, exact=True)


def _condition(predicate: Predicate, types: Mapping[str, str], *, exact: bool) -> str:
    """Return a condition; unless `exact` it may come to NULL in place of false."""
    match predicate:
        case Not(of):
            return f"(NOT {_condition(of, types, exact=True)})"
        case All(of):
            return _joined(" AND ", [_condition(each, types, exact=exact) for each in of], "true")
        case AtLeast(count, of):
            if count <= 0:
                return "true"
            if count == 1:
                return _joined(" OR ", [_condition(each, types, exact=exact) for each in of], "false")
            if count > len(of):
                return "false"
            return f"({' + '.join(f'{_condition(each, types, exact=True)}::INTEGER' for each in of)} >= {count})"
    field = Field.of(predicate.field, types)
    test = _test(predicate, field)
    if field.many:
        met = f"len(list_filter({field.values(field.value)}, lambda x: {test('x')})) > 0"
    else:
        met = test(field.value(sql.name(field.name)))
    return f"coalesce({met}, false)" if exact else f"({met})"


def _joined(word: str, parts: list[str], nothing: str) -> str:
    if not parts:
        return nothing
    return parts[0] if len(parts) == 1 else f"({word.join(parts)})"


Test = Callable[[str], str]
"""A condition on a value, given the expression that stands for it."""


def _test(predicate: Exists | OneOf | Between | Prefix | Wildcard, field: Field) -> Test:
    match predicate:
        case Exists():
            return lambda x: f"{x} IS NOT NULL"
        case OneOf(values=values):
            return _one_of(values, field)
        case Between():
            return _between(predicate, field)
        case Prefix(text=text, ignores_case=ignores_case):
            if not ignores_case:
                return lambda x: f"starts_with({x}, {literal(text)})" if _is_text(field, text) else "false"
            return _matching([*text, None], field, ignores_case=True)
        case Wildcard(pattern=pattern, ignores_case=ignores_case):
            return _matching(list(_parts(pattern)), field, ignores_case=ignores_case)


def _is_text(field: Field, *texts: str) -> bool:
    return field.sort is Sort.TEXT and all(map(_sayable, texts))


def _sayable(text: str) -> bool:
    """Whether a column can hold the text: one half of a pair of surrogates is none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def literal(text: str) -> str:
    """Quote a text that can hold anything; half a pair of surrogates, which no column holds, becomes a `?`."""
    text = text.encode("utf-8", "replace").decode()
    parts = [sql.text(part) for part in text.split("\0")]  # a statement ends there otherwise
    return parts[0] if len(parts) == 1 else f"({' || chr(0) || '.join(parts)})"


def _parts(pattern: str) -> Iterator[str | None]:
    """Yield the characters of a pattern: None for `*`, an empty text for `?`."""
    escaped = False
    for character in pattern:
        if escaped:
            yield character
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            yield None if character == "*" else "" if character == "?" else character
    if escaped:
        yield "\\"


def _matching(parts: list[str | None], field: Field, *, ignores_case: bool) -> Test:
    """Return the test of a pattern, by RE2, which takes time linear in the text."""
    if not _is_text(field, *(part for part in parts if part)):
        return lambda _: "false"
    out = []
    for part, before in zip(parts, [..., *parts], strict=False):
        if part is None:
            if before is not None:
                out.append(".*")
        elif part == "":
            out.append(".")
        elif ignores_case and part.isascii() and part.isalpha():
            out.append(f"[{part.lower()}{part.upper()}]")
        else:
            out.append(r"\x{0}" if part == "\0" else re.escape(part) if part.isascii() else part)
    regex = sql.text(f"(?s){''.join(out)}")
    return lambda x: f"regexp_full_match({x}, {regex})"


def _one_of(values: tuple[Value, ...], field: Field) -> Test:
    if (kind := field.time_kind) is not None and any(isinstance(v, Instant) for v in values):
        times = [v.ms for v in values if isinstance(v, Instant) and FIRST_MS <= v.ms <= LAST_MS]
        spans = [Between("", Instant(ms), Instant(ms), includes_high=True) for ms in times]
        return lambda x: _joined(" OR ", [f"({_times(span, kind)(x)})" for span in spans], "false")
    known = [text for v in values if (text := _exactly(v, field)) is not None]
    return (lambda x: f"{x} IN ({', '.join(known)})") if known else (lambda _: "false")


def _exactly(value: Value, field: Field) -> str | None:
    """Return a value as a constant of the column's type; None: the column cannot have it."""
    match field.sort:
        case Sort.TEXT:
            text = _written(value)
            return literal(text) if _sayable(text) else None
        case Sort.WHOLE if (number := _number(value)) is not None and number == math.floor(number):
            return _whole(int(number))
        case Sort.DECIMAL | Sort.REAL if (number := _number(value)) is not None:
            return _real(number)
        case Sort.OTHER if field.element == "BOOLEAN" and _written(value) in ("true", "false"):
            return _written(value)
    return None


def _written(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value.ms) if isinstance(value, Instant) else str(value)


def _number(value: Value) -> float | int | None:
    if isinstance(value, Instant):
        return value.ms
    if isinstance(value, bool | str) or not math.isfinite(value):
        return None
    return value


def _whole(number: int) -> str:
    return f"{max(-_LARGEST, min(_LARGEST, number))}"


def _real(number: float) -> str:
    try:
        return f"'{float(number)!r}'::DOUBLE"
    except OverflowError:
        return f"'{'-' if number < 0 else ''}Infinity'::DOUBLE"


def _between(span: Between, field: Field) -> Test:
    ends = [end for end in (span.low, span.high) if end is not None]
    if not ends:
        return lambda x: f"{x} IS NOT NULL"
    if (kind := field.time_kind) is not None and all(isinstance(end, Instant) for end in ends):
        return _times(span, kind)
    match field.sort:
        case Sort.TEXT:
            texts = [_written(end) for end in ends]
            if not all(map(_sayable, texts)):
                raise SourceInvalid(f"{field.name!r}: a range ends at a text that is none")
            return partial(_compared, span, lambda end: literal(_written(end)))
        case Sort.WHOLE:
            return _whole_numbers(span)
        case Sort.DECIMAL | Sort.REAL if all(_end(end) is not None for end in ends):
            return partial(_compared, span, lambda end: _real(_end(end) or 0.0))
    return lambda _: "false"


def _end(value: Value) -> float | int | None:
    """Return a number that a range ends at, which may be infinite."""
    if isinstance(value, float) and math.isinf(value):
        return value
    return _number(value)


def _compared(span: Between, constant: Callable[[Value], str], x: str) -> str:
    parts = []
    if span.low is not None:
        parts.append(f"{x} {'>=' if span.includes_low else '>'} {constant(span.low)}")
    if span.high is not None:
        parts.append(f"{x} {'<=' if span.includes_high else '<'} {constant(span.high)}")
    return " AND ".join(parts)


def _whole_numbers(span: Between) -> Test:
    """Return the test for whole numbers, whose range may end between two."""
    low, high = (None if end is None else _end(end) for end in (span.low, span.high))
    if (span.low is not None and low is None) or (span.high is not None and high is None):
        return lambda _: "false"
    parts: list[str] = []
    if low is not None:
        least = low if math.isinf(low) else math.ceil(low) + (low == math.floor(low) and not span.includes_low)
        parts.append(f">= {_bound(least)}")
    if high is not None:
        most = high if math.isinf(high) else math.floor(high) - (high == math.ceil(high) and not span.includes_high)
        parts.append(f"<= {_bound(most)}")
    return lambda x: " AND ".join(f"{x} {part}" for part in parts)


def _bound(number: float | int) -> str:
    return _whole(_LARGEST if number > 0 else -_LARGEST) if math.isinf(number) else _whole(int(number))


def _times(span: Between, kind: TimeKind) -> Test:
    """Return the test for times, which are whole milliseconds: one goes on until the next begins."""
    low, high = ((end.ms if isinstance(end, Instant) else None) for end in (span.low, span.high))
    parts: list[str] = []
    if low is not None:
        parts.append(f">= {_instant(low + (not span.includes_low), kind)}")
    if high is not None:
        parts.append(f"< {_instant(high + span.includes_high, kind)}")
    return lambda x: " AND ".join(f"{x} {part}" for part in parts)


def _instant(ms: int, kind: TimeKind) -> str:
    first = _FIRST_NANOS if kind in (TimeKind.NANOS, TimeKind.ZONED_NANOS) else FIRST_MS
    return sql.instant(max(first, min(LAST_MS, ms)), kind)
