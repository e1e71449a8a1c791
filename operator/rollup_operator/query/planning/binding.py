"""Gives the values of conditions the meaning that their fields give them. Pure.

`5` is a number for a field of numbers, a text for one of texts, a time for one of times. What no document can have is
no error where Elasticsearch has none (`5.5` of a field of whole numbers), and one where it has one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from math import ceil, floor
from typing import Any, Final

from rollup_operator.model.glob import MOST_STARS, Glob
from rollup_operator.query.clauses import (
    BoolClause,
    Clause,
    ExistsClause,
    MatchAll,
    MatchNone,
    NotClause,
    PatternClause,
    RangeClause,
    TermClause,
)
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.reading.json_values import NUMBER_FORMAT, decimal, no_number, shown
from rollup_operator.query.times.dates import DateReader, java_number, zone_of
from rollup_operator.stores.search import (
    EVERYTHING,
    NOTHING,
    All,
    AtLeast,
    Between,
    Exists,
    FieldKind,
    Instant,
    Not,
    OneOf,
    Predicate,
    Prefix,
    Value,
    Wildcard,
)

SHARD: Final = "query_shard_exception"

MOST_IN_TIMES: Final = 8_192
"""Characters of all dates and their formats together: each takes about a microsecond."""

MOST_IN_PATTERN: Final = 16
"""Stars in one pattern."""

_LONG_MIN, _LONG_MAX = -(2**63), 2**63 - 1


class FieldNotKept(SearchRefused):
    """A condition is on a field that is no group of the job."""

    def __init__(self, field: str, kind: str) -> None:
        super().__init__(
            f"Field [{shown(field)}] in [{kind}] query is not available in selected rollup indices, cannot query."
        )
        self.field, self.query_kind = field, kind


class _TooManyTimes(Exception):
    """The dates of the conditions are too many, or too long."""


class _NoValue(Exception):
    """No document has this value."""


def bind(clause: Clause, fields: Mapping[str, FieldKind], now_ms: int) -> Predicate:
    """Return what a clause asks of rows, in the names of `fields`. Raises SearchRefused, or FieldNotKept of that."""
    try:
        return _Binder(fields, now_ms).bind(clause)
    except _TooManyTimes as e:
        raise SearchRefused(f"the dates of a search may have at most [{MOST_IN_TIMES}] characters together") from e


@dataclass(slots=True)
class _Binder:
    fields: Mapping[str, FieldKind]
    now_ms: int
    left: int = MOST_IN_TIMES

    def bind(self, clause: Clause) -> Predicate:
        match clause:
            case MatchAll():
                return EVERYTHING
            case MatchNone():
                return NOTHING
            case NotClause():
                return Not(self.bind(clause.of))
            case BoolClause():
                return self._bool(clause)
        if "*" in clause.field:
            return self._in_each(clause)
        kind = self.fields.get(clause.field)
        if kind is None:
            raise FieldNotKept(clause.field, clause.kind)
        try:
            match clause:
                case ExistsClause():
                    return Exists(clause.field)
                case TermClause():
                    return self._term(clause, kind)
                case RangeClause():
                    return self._range(clause, kind)
                case PatternClause():
                    return self._pattern(clause, kind)
        except SearchRefused as e:
            if e.kind != NUMBER_FORMAT:
                raise
            raise SearchRefused(f"failed to create query: {e.reason}", SHARD) from e

    def _bool(self, clause: BoolClause) -> Predicate:
        parts = [self.bind(one) for one in clause.must]
        if clause.at_least > 0:
            parts.append(AtLeast(clause.at_least, tuple(self.bind(one) for one in clause.should)))
        else:
            # They decide nothing, but a fault in them is one, as for Elasticsearch.
            for one in clause.should:
                self.bind(one)
        parts = [one for one in parts if one != EVERYTHING]
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _in_each(self, clause: TermClause | RangeClause | ExistsClause | PatternClause) -> Predicate:
        """Bind a clause for every field that its name stands for."""
        name = clause.field
        if name == "*" and isinstance(clause, TermClause):
            return self._anywhere(clause)
        if name == "*" and not isinstance(clause, PatternClause):
            raise SearchRefused(
                f"a condition of [{clause.kind}] that names no field would be looked for in fields that are not kept: "
                "name one"
            )
        if name.count("*") > MOST_STARS:
            raise SearchRefused(f"a field's name has at most [{MOST_STARS}] stars")
        glob = Glob.of(name)
        found = [
            self._renamed(clause, field)
            for field, kind in self.fields.items()
            if glob.matches(field) and (kind == "keyword" or not isinstance(clause, PatternClause))
        ]
        if not found and name != "*":
            raise FieldNotKept(name, clause.kind)
        return found[0] if len(found) == 1 else AtLeast(1, tuple(found))

    def _renamed(self, clause: TermClause | RangeClause | ExistsClause | PatternClause, field: str) -> Predicate:
        match clause:
            case TermClause():
                return self.bind(TermClause(field, clause.values, clause.kind, clause.ignores_case, clause.lenient))
            case RangeClause():
                return self.bind(
                    RangeClause(
                        field,
                        clause.low,
                        clause.high,
                        clause.includes_low,
                        clause.includes_high,
                        clause.format,
                        clause.time_zone,
                        clause.kind,
                        clause.lenient,
                    )
                )
            case ExistsClause():
                return self.bind(ExistsClause(field, clause.kind))
            case PatternClause():
                return self.bind(PatternClause(field, clause.pattern, clause.kind, clause.ignores_case, clause.lenient))

    def _anywhere(self, clause: TermClause) -> Predicate:
        """Bind a word that names no field: it is looked for in all texts that are kept."""
        for value in clause.values:
            if self._is_number_or_time(str(value)):
                raise SearchRefused(
                    f"[{shown(str(value))}] in [{clause.kind}] query names no field, so it would be looked for in "
                    "numbers and times that are not kept, too: write [<field>:<value>]"
                )
        found = [self._renamed(clause, field) for field, kind in self.fields.items() if kind == "keyword"]
        return found[0] if len(found) == 1 else AtLeast(1, tuple(found))

    def _is_number_or_time(self, text: str) -> bool:
        if not text or not (text[0].isdigit() or text[0] in "+-.nNI"):
            return False
        try:
            float(text)
        except ValueError:
            try:
                DateReader(self.now_ms).read(text)
            except SearchRefused:
                return False
        return True

    def _term(self, clause: TermClause, kind: FieldKind) -> Predicate:
        if clause.ignores_case and kind != "keyword":
            raise SearchRefused(
                f"[{clause.field}] field which is of type [{kind}], does not support case insensitive term queries",
                SHARD,
            )
        if kind == "date":
            return self._times(clause)
        values: list[Value] = []
        for given in clause.values:
            try:
                values.append(_value(given, kind))
            except _NoValue:
                continue
            except SearchRefused:
                if not clause.lenient:
                    raise
        if not values:
            return NOTHING
        if clause.ignores_case:
            # A pattern in which nothing is special is the one condition that knows no case.
            texts = [Wildcard(clause.field, _escaped(str(value)), ignores_case=True) for value in values]
            return texts[0] if len(texts) == 1 else AtLeast(1, tuple(texts))
        return OneOf(clause.field, tuple(values))

    def _times(self, clause: TermClause) -> Predicate:
        """Bind dates: one that leaves its end open (`2020-02-03`) is all the time up to there."""
        reader = DateReader(self.now_ms)
        instants: list[Value] = []
        spans: list[Predicate] = []
        for given in clause.values:
            try:
                low, high = self._time(reader, given), self._time(reader, given, rounds_up=True)
            except SearchRefused:
                if clause.lenient:
                    continue
                raise
            if low == high:
                instants.append(Instant(low))
            else:
                spans.append(Between(clause.field, Instant(low), Instant(high), True, True))
        if instants:
            spans.append(OneOf(clause.field, tuple(instants)))
        return spans[0] if len(spans) == 1 else AtLeast(1, tuple(spans))

    def _range(self, clause: RangeClause, kind: FieldKind) -> Predicate:
        try:
            match kind:
                case "date":
                    return self._stretch(clause)
                case "keyword":
                    return _between(clause, *map(_text, (clause.low, clause.high)))
                case "double":
                    return _between(
                        clause, *(None if one is None else _double(one) for one in (clause.low, clause.high))
                    )
                case "long":
                    return _whole_numbers(clause)
        except SearchRefused:
            if clause.lenient:
                return NOTHING
            raise

    def _stretch(self, clause: RangeClause) -> Predicate:
        reader = DateReader(self.now_ms, clause.format, UTC if clause.time_zone is None else zone_of(clause.time_zone))
        low = None if clause.low is None else self._time(reader, clause.low, rounds_up=not clause.includes_low)
        high = None if clause.high is None else self._time(reader, clause.high, rounds_up=clause.includes_high)
        return _between(clause, None if low is None else Instant(low), None if high is None else Instant(high))

    def _time(self, reader: DateReader, given: Any, *, rounds_up: bool = False) -> int:
        if not isinstance(given, int) or reader.format not in (None, "epoch_millis"):
            self.left -= len(str(given)) + len(reader.format or "")
            if self.left < 0:
                raise _TooManyTimes
        return reader.read(given, rounds_up=rounds_up)

    def _pattern(self, clause: PatternClause, kind: FieldKind) -> Predicate:
        field, pattern = clause.field, clause.pattern
        if kind != "keyword":
            if clause.lenient:
                return NOTHING
            query = "prefix" if clause.kind == "prefix" else "wildcard"
            raise SearchRefused(
                f"Can only use {query} queries on keyword, text and wildcard fields - not on [{field}] which is of "
                f"type [{kind}]",
                SHARD,
            )
        if pattern.count("*") > MOST_IN_PATTERN:
            raise SearchRefused(f"a pattern has at most [{MOST_IN_PATTERN}] stars: [{shown(pattern)}]")
        if clause.kind == "prefix":
            return Prefix(field, pattern, clause.ignores_case)
        if not pattern:
            return NOTHING  # not even an empty text
        if pattern.endswith("*") and not any(c in pattern[:-1] for c in "*?\\"):
            return Prefix(field, pattern[:-1], clause.ignores_case)
        return Wildcard(field, pattern, clause.ignores_case)


def _value(given: Any, kind: FieldKind) -> Value:
    """Return a value as a field of this kind has it. Raises _NoValue and SearchRefused."""
    if kind == "keyword":
        return str(_text(given))
    if kind == "double":
        return _double(given)
    if (whole := _whole(given)) is not None:
        if not _LONG_MIN <= whole <= _LONG_MAX:
            raise _NoValue
        return whole
    if not decimal(given).is_integer():
        raise _NoValue
    number = int(decimal(given))
    if not _LONG_MIN <= number <= _LONG_MAX:
        raise _NoValue
    return number


def _text(given: Any) -> str | None:
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, bool):
        return "true" if given else "false"
    return java_number(given) if isinstance(given, float) else str(given)


def _double(given: Any) -> float:
    if isinstance(given, bool):
        no_number(given)
    return decimal(given)


def _whole(given: Any) -> int | None:
    """Return a whole number to the last digit; None: it is another number, or none."""
    if isinstance(given, bool):
        return None
    if isinstance(given, int):
        return given
    if isinstance(given, str) and given.removeprefix("-").isdecimal() and given.isascii() and len(given) <= 20:
        return int(given)
    return None


def _whole_numbers(clause: RangeClause) -> Predicate:
    """Bind a range of whole numbers, whose ends may lie between two."""
    low, high = clause.low, clause.high
    includes_low, includes_high = clause.includes_low, clause.includes_high
    if low is not None and (whole := _whole(low)) is None:
        number = _bounded(low)
        whole, includes_low = ceil(number), includes_low or not number.is_integer()
    elif low is not None:
        _bounded(low)
    first = None if low is None else whole
    if high is not None and (whole := _whole(high)) is None:
        number = _bounded(high)
        whole, includes_high = floor(number), includes_high or not number.is_integer()
    elif high is not None:
        _bounded(high)
    last = None if high is None else whole
    if first is None and last is None:
        return Exists(clause.field)
    return Between(clause.field, first, last, includes_low, includes_high)


def _bounded(given: Any) -> float:
    number = decimal(given)
    whole = _whole(given)
    if not _LONG_MIN <= (number if whole is None else whole) <= _LONG_MAX:
        text = java_number(number) if isinstance(given, float) else str(given)
        raise SearchRefused(f"Value [{shown(text)}] is out of range for a long", NUMBER_FORMAT)
    return number


def _between(clause: RangeClause, low: Value | None, high: Value | None) -> Predicate:
    if low is None and high is None:
        return Exists(clause.field)
    return Between(clause.field, low, high, clause.includes_low, clause.includes_high)


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "*?\\" else c for c in text)


def named_fields(clause: Clause) -> Iterable[str]:
    """Return the fields that a clause names, stars included."""
    match clause:
        case MatchAll() | MatchNone():
            return
        case NotClause():
            yield from named_fields(clause.of)
        case BoolClause():
            for one in (*clause.must, *clause.should):
                yield from named_fields(one)
        case _:
            yield clause.field
