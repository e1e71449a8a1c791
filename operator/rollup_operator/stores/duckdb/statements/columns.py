"""Maps columns of a source to columns of the result. Pure.

A column may hold one value per row or a list of them, like a field of Elasticsearch with several values. The row
counts once in the bucket of each of its distinct values, or in the bucket of the missing value if it has none;
metrics use all of its values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from rollup_operator.stores.duckdb.statements import sql
from rollup_operator.stores.duckdb.statements.sql import TimeKind
from rollup_operator.stores.errors import SourceInvalid

INTEGERS = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"})
_WIDE = frozenset({"UBIGINT", "HUGEINT", "UHUGEINT"})
_WHOLE = {
    "TINYINT": 3, "UTINYINT": 3, "SMALLINT": 5, "USMALLINT": 5, "INTEGER": 10, "UINTEGER": 10, "BIGINT": 19,
    "UBIGINT": 20, "HUGEINT": 39, "UHUGEINT": 39,
}  # fmt: skip
"""Types of whole numbers with their digits."""
_FLOATS = frozenset({"FLOAT", "DOUBLE"})
_SMALL = INTEGERS - {"BIGINT"}
"""Whole numbers that a DOUBLE holds, even summed more often than anybody does."""
_NAIVE = frozenset({"TIMESTAMP", "DATE", "TIMESTAMP_S", "TIMESTAMP_MS"})
_NANOS = frozenset({"TIMESTAMP_NS"})
_ZONED_NANOS = frozenset({"TIMESTAMPTZ_NS"})
_ZONED = frozenset({"TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"})
_ONE_VALUE = "make a row of each value"

_DIGITS = 15
"""A DOUBLE tells all decimals of so many digits apart."""
KEY_LOST = "spec.groups.terms.fields: column "
"""Begins the error of a statement that meets a key which its type does not tell from others."""
LONGEST_TEXTS = 32_766
"""Bytes of the texts that are one bucket's key, as of a term of Elasticsearch: keys become values of this process."""

LONG_TEXT = f"the key of a bucket has a text of more than {LONGEST_TEXTS} bytes: group by shorter ones"
"""What DuckDB says of such a text."""

Of = Callable[[str], str]
"""Turns the expression of a value into another one."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the result table: its name, what it holds and how a row or a bucket gives it."""

    name: str
    type: str
    expression: str
    source: str
    """The source's column, quoted."""
    many: bool = False
    """The expression gives a list, each value of which is a key: never an empty one."""
    exact: bool = True
    """False: the source's numbers may be beyond those that a DOUBLE can distinguish."""


def time_kind(type_: str) -> TimeKind | None:
    """Return how a column of a type holds the time; None: it does not."""
    if type_ in _NAIVE:
        return TimeKind.NAIVE
    if type_ in _NANOS:
        return TimeKind.NANOS
    if type_ in _ZONED:
        return TimeKind.ZONED
    if type_ in _ZONED_NANOS:
        return TimeKind.ZONED_NANOS
    return TimeKind.INTEGER if type_ in INTEGERS else None


def is_number(type_: str) -> bool:
    """Whether a column of a type holds numbers."""
    return _double(type_) is not None


def is_summed_exactly(type_: str) -> bool:
    """Whether sums of a column of a type do not depend on the order of its rows: those of whole numbers, of decimals.

    They are computed as they are, and become a DOUBLE once.
    """
    return element(type_) not in _FLOATS


def element(type_: str) -> str:
    """Return the type of a list's values, or the type itself where it is no list."""
    return type_[: type_.rindex("[")] if type_.endswith("]") and "[" in type_ else type_


def histogram(field: str, type_: str, interval: int) -> Column:
    """Return the column of a histogram group. Raises SourceInvalid."""
    number = _double(element(type_))
    if number is None:
        raise SourceInvalid(f"spec.groups.histogram.fields: column {field!r} is {type_}: a histogram takes numbers")
    # + 0.0 makes of minus zero the zero that it is.
    return _group(
        f"{field}.histogram", "DOUBLE", field, type_, lambda x: f"floor({number(x)} / {interval}) * {interval} + 0.0"
    )


def terms(field: str, type_: str) -> Column:
    """Return the column of a term. Raises SourceInvalid."""
    key, value = f"{field}.terms", element(type_)
    if value == "VARCHAR":
        return _group(key, "VARCHAR", field, type_, lambda x: x)
    if value == "UUID" or value.startswith("ENUM"):
        return _group(key, "VARCHAR", field, type_, lambda x: f"{x}::VARCHAR")
    if value in INTEGERS:
        return _group(key, "BIGINT", field, type_, lambda x: f"{x}::BIGINT")
    if _double(value) is None or value in _WIDE:
        raise SourceInvalid(
            f"{KEY_LOST}{field!r} is {type_}: "
            "terms takes text, an ENUM, or numbers that fit into 64 bits with a sign, and lists of these"
        )
    return decimal_terms(field, type_)


def decimal_terms(field: str, type_: str) -> Column:
    """Return the column of a term of numbers as DOUBLE. Its statement fails on a key that would be another's, too."""
    number = _told_apart(field, element(type_))
    return _group(f"{field}.terms", "DOUBLE", field, type_, lambda x: f"{number(x)} + 0.0")


def short(key: str) -> str:
    """Return the expression of a key that is a text. DuckDB raises an error with LONG_TEXT where it is a long one."""
    return f"CASE WHEN strlen({key}) > {LONGEST_TEXTS} THEN error({sql.text(LONG_TEXT)}) ELSE {key} END"


def metrics(field: str, wanted: Sequence[str], type_: str) -> list[Column]:
    """Return the columns that metrics need. Raises SourceInvalid."""
    value, column = element(type_), sql.name(field)
    kind = time_kind(value) if value not in INTEGERS else None
    number: Of | None
    if kind is not None:
        if wrong := [m for m in wanted if m in ("sum", "avg")]:
            raise SourceInvalid(
                f"spec.metrics: column {field!r} is {type_}, which has min, max and value_count, not {wrong[0]}"
            )
        number = partial(sql.milliseconds, kind=kind)
    else:
        number = _exact(value)
    if number is None:
        raise SourceInvalid(
            f"spec.metrics: column {field!r} is {type_}: metrics need a column of numbers or times, or of lists of "
            "these. To group by its values, name it in spec.groups.terms.fields"
        )
    if value == type_:
        given = number(column)
        found = [f"min({given})", f"max({given})", f"sum({given})", f"count({given})"]
    else:
        given = f"list_filter({_each(field, type_, number)}, lambda x: x IS NOT NULL)"
        found = [f"{whole}({of}({given}))" for whole, of in (("min", "list_min"), ("max", "list_max"))]
        found += [f"sum(list_sum({given}))", f"coalesce(sum(len({given})), 0)"]
    if value in _WIDE or value == "BIGINT" or decimal_of(value)[1] == 0:
        found[:3] = [_nearest(x) for x in found[:3]]
    return _parts(field, wanted, found, exact=kind is not None or value in _FLOATS or value in _SMALL)


def _parts(field: str, wanted: Sequence[str], found: Sequence[str], *, exact: bool = True) -> list[Column]:
    """Return the columns for what the metrics need of `found`: least, greatest, sum and number of values."""
    least, greatest, total, count = found
    # Whole numbers and decimals are summed up and compared as they are, and become a DOUBLE once.
    parts = {
        "min": Column(f"{field}.min", "DOUBLE", f"({least})::DOUBLE", sql.name(field), exact=exact),
        "max": Column(f"{field}.max", "DOUBLE", f"({greatest})::DOUBLE", sql.name(field), exact=exact),
        "sum": Column(f"{field}.sum", "DOUBLE", f"coalesce({total}, 0)::DOUBLE", sql.name(field), exact=exact),
        "count": Column(f"{field}.count", "BIGINT", f"({count})::BIGINT", sql.name(field)),
    }
    needed = {"min": {"min"}, "max": {"max"}, "sum": {"sum"}, "avg": {"sum", "count"}, "value_count": {"count"}}
    names = set().union(*(needed[m] for m in wanted))
    return [column for part, column in parts.items() if part in names]


def _nearest(number: str) -> str:
    """Return what gives the DOUBLE nearest to a whole number, the even one of two.

    DuckDB's own conversion of 128 bits takes the other one for some negative numbers; that of a text does not.
    """
    return f"CASE WHEN {number} BETWEEN {-(2**53)} AND {2**53} THEN {number}::DOUBLE ELSE {number}::VARCHAR::DOUBLE END"


def _group(key: str, type_: str, field: str, source: str, of: Of) -> Column:
    if element(source) == source:
        return Column(key, type_, of(sql.name(field)), sql.name(field))
    values = f"list_distinct({_each(field, source, of)})"  # which leaves missing values out
    expression = f"CASE WHEN len({values}) > 0 THEN {values} ELSE [NULL] END"
    return Column(key, type_, expression, sql.name(field), many=True)


def _each(field: str, type_: str, of: Of) -> str:
    """Return the list of what becomes of a list's values."""
    values = sql.name(field) if type_.endswith("[]") else f"{sql.name(field)}::{element(type_)}[]"
    return f"list_transform({values}, lambda x: {of('x')})"


def decimal_of(type_: str) -> tuple[int, int]:
    """Return how many digits a number of a type has, and how many of them behind the point; (0, -1): no end of them."""
    if type_.startswith("DECIMAL("):
        digits, scale = type_[8:-1].split(",")
        return int(digits), int(scale)
    return (_WHOLE[type_], 0) if type_ in _WHOLE else (0, -1)


def _told_apart(field: str, type_: str) -> Of:
    """Return what makes a DOUBLE of a number, and an error where other numbers of its type become the same one."""
    double = _double(type_)
    assert double is not None
    digits, scale = decimal_of(type_)
    if digits <= _DIGITS:
        return double
    safe = f"{Decimal(1).scaleb(_DIGITS - scale):f}"
    problem = sql.text(
        f"{KEY_LOST}{field!r} is {type_}, its keys are DOUBLE, and a DOUBLE does not tell this number from others: "
    )
    cure = sql.text(". Have the source hold the column as BIGINT or as text")

    def of(x: str) -> str:
        # The shortest text of a DOUBLE is another number where that one becomes the same DOUBLE.
        alone = f"TRY_CAST({double(x)}::VARCHAR AS {type_}) = {x}"
        error = f"error({problem} || {x}::VARCHAR || {cure})::DOUBLE"
        return f"CASE WHEN {x} IS NULL OR {x} BETWEEN -{safe} AND {safe} OR {alone} THEN {double(x)} ELSE {error} END"

    return of


def _double(type_: str) -> Of | None:
    """Return what makes a DOUBLE of a number; None: it is no number. NaN and infinity count as missing."""
    if type_ in _FLOATS:
        return lambda x: f"CASE WHEN isfinite({x}) THEN {x}::DOUBLE END"
    if type_ in INTEGERS or type_ in _WIDE or type_.startswith("DECIMAL"):
        return lambda x: f"{x}::DOUBLE"
    return None


def _exact(type_: str) -> Of | None:
    """Likewise, but whole numbers and decimals stay what they are."""
    return _double(type_) if type_ in _FLOATS or _double(type_) is None else lambda x: x
