"""Reads the aggregations that make buckets, and the metrics. Pure.

What a time or a value of the request means depends on its field and is found out once the job is known; here it is
checked that it can mean something.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, cast

from rollup_operator.model.time_values import parse_time_value
from rollup_operator.query.aggregations import (
    DateHistogramAggregation,
    FiltersAggregation,
    HistogramAggregation,
    Kind,
    MetricAggregation,
    RangeBucket,
    RangesAggregation,
    TermsAggregation,
    TimeBounds,
)
from rollup_operator.query.clauses import Clause
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.reading.dsl import read_query
from rollup_operator.query.reading.json_values import (
    LONGEST_NAME,
    PARSING,
    X_CONTENT,
    RequestBudget,
    boolean,
    decimal,
    integer,
    shown,
    token,
)
from rollup_operator.query.reading.object_fields import ObjectFields
from rollup_operator.query.reading.orders import BY_COUNT, BY_KEY, read_order
from rollup_operator.query.times.dates import zone_of
from rollup_operator.rollup.bounds import DAY, LONGEST

METRICS: Final = frozenset({"min", "max", "sum", "avg", "value_count", "stats"})

LONGEST_VALUE: Final = 8_191

_VALUES: Final = frozenset({"field", "missing", "format", "script", "value_type"})
_TEXTS: Final = ("VALUE_STRING",)
_TEXTS_AND_NUMBERS: Final = ("VALUE_STRING", "VALUE_NUMBER")
_CALENDAR: Final = {
    "minute": "1m", "1m": "1m", "hour": "1h", "1h": "1h", "day": "1d", "1d": "1d", "week": "1w", "1w": "1w",
    "month": "1M", "1M": "1M", "quarter": "1q", "1q": "1q", "year": "1y", "1y": "1y",
}  # fmt: skip
_LONGEST_OFFSET: Final = 366 * DAY
_SECOND: Final = ("second", "1s")

Interval = tuple[int | None, str | None]
"""Milliseconds, or a unit of the calendar."""


class BucketReader:
    """Reads the bodies of the aggregations of one request."""

    def __init__(self, budget: RequestBudget) -> None:
        self._budget = budget
        self.readers: Mapping[str, Callable[[str, Any], Kind]] = {
            "date_histogram": self._date_histogram,
            "histogram": self._histogram,
            "terms": self._terms,
            "filters": self._filters,
            "filter": self._filter,
            "range": self._range,
            "date_range": self._date_range,
        }

    def metric(self, kind: str, name: str, body: Mapping[str, Any]) -> MetricAggregation:
        """Read a metric."""
        fields = ObjectFields(kind, body, _VALUES)
        field = self._field(fields, kind, name)
        known = cast('Literal["min", "max", "sum", "avg", "value_count", "stats"]', kind)
        return MetricAggregation(known, field, fields.text("format"), self._missing(fields, name))

    def _date_histogram(self, name: str, body: Mapping[str, Any]) -> Kind:
        fields = ObjectFields("date_histogram", body, _DATE_HISTOGRAM)
        fixed, unit = _interval(fields)
        extended = fields.either("extended_bounds", ("START_OBJECT",), _time_bounds)
        hard = fields.either("hard_bounds", ("START_OBJECT",), _time_bounds)
        return DateHistogramAggregation(
            field=self._field(fields, "date_histogram", name),
            fixed_ms=fixed,
            calendar_unit=unit,
            time_zone=self._zone(fields),
            offset_ms=fields.either("offset", _TEXTS_AND_NUMBERS, _offset) or 0,
            format=fields.text("format"),
            keyed=fields.boolean("keyed"),
            min_doc_count=_min_doc_count(fields, name, 0),
            extended_bounds=extended,
            hard_bounds=hard,
            missing=self._missing(fields, name),
            order=_order(fields) or BY_KEY,
        )

    def _histogram(self, name: str, body: Mapping[str, Any]) -> Kind:
        fields = ObjectFields("histogram", body, _HISTOGRAM)
        interval = fields.decimal("interval", 0.0)
        if "interval" in fields and interval <= 0:
            raise fields.wrong("interval", f"[interval] must be >0 for histogram aggregation [{name}]")
        if interval <= 0:
            raise SearchRefused("interval must be positive, got: 0.0")
        hard = fields.either("hard_bounds", ("START_OBJECT",), _number_bounds)
        extended = fields.either("extended_bounds", ("START_OBJECT",), _number_bounds)
        both: tuple[float, float] | None = None
        if extended is not None and extended != (None, None):
            if extended[0] is None or extended[1] is None:
                raise SearchRefused(f"[extended_bounds] of histogram aggregation [{name}] need [min] and [max]")
            both = extended[0], extended[1]
            outside = hard is not None and (
                (hard[0] is not None and both[0] < hard[0]) or (hard[1] is not None and both[1] > hard[1])
            )
            if hard is not None and outside:
                told = "--".join("" if one is None else str(one) for one in hard)
                raise SearchRefused(
                    f"Extended bounds have to be inside hard bounds, hard bounds: [{told}], extended bounds: "
                    f"[{both[0]}--{both[1]}]"
                )
        return HistogramAggregation(
            field=self._field(fields, "histogram", name),
            interval=interval,
            offset=fields.decimal("offset", 0.0),
            keyed=fields.boolean("keyed"),
            min_doc_count=_min_doc_count(fields, name, 0),
            extended_bounds=both,
            hard_bounds=None if hard == (None, None) else hard,
            missing=None if "missing" not in fields else decimal(self._missing(fields, name)),
            format=fields.text("format"),
            order=_order(fields) or BY_KEY,
        )

    def _terms(self, name: str, body: Mapping[str, Any]) -> Kind:
        fields = ObjectFields("terms", body, _TERMS)
        size = fields.integer("size", 10)
        if size < 1:
            raise fields.wrong("size", f"[size] must be greater than 0. Found [{size}] in [{name}]")
        if (shard_size := fields.integer("shard_size", 1)) < 1:
            raise fields.wrong("shard_size", f"[shardSize] must be greater than 0. Found [{shard_size}] in [{name}]")
        least = fields.integer("shard_min_doc_count", 0)
        if least < 0:
            raise fields.wrong(
                "shard_min_doc_count",
                f"[shardMinDocCount] must be greater than or equal to 0. Found [{least}] in [{name}]",
            )
        min_doc_count = _min_doc_count(fields, name, 1)
        if least > max(1, min_doc_count):
            raise SearchRefused(
                f"[shard_min_doc_count] of terms aggregation [{name}] is about shards, which summaries do not have: "
                "use [min_doc_count]"
            )
        if fields.text("format") is not None:
            raise SearchRefused(f"[format] of terms aggregation [{name}] is not supported: leave it out")
        fields.either("execution_hint", _TEXTS, str)
        fields.either("collect_mode", _TEXTS, _collect_mode)
        return TermsAggregation(
            field=self._field(fields, "terms", name),
            size=size,
            min_doc_count=min_doc_count,
            missing=self._missing(fields, name),
            include=self._choice(fields, "include", name),
            exclude=self._choice(fields, "exclude", name),
            order=_order(fields) or BY_COUNT,
            shows_error=fields.boolean("show_term_doc_count_error"),
        )

    def _choice(self, fields: ObjectFields, which: str, name: str) -> tuple[Any, ...] | str | None:
        def read(given: Any) -> tuple[Any, ...] | str:
            if isinstance(given, dict):
                raise SearchRefused(
                    f"partitions of terms aggregation [{name}] cannot be answered: list values, or page with a higher "
                    "[size]"
                )
            if isinstance(given, str):
                return _short(given)
            self._budget.take_values(len(given))
            for one in given:
                if one is None or isinstance(one, dict | list):
                    raise SearchRefused("Array elements in include/exclude clauses should be string values")
                if isinstance(one, str):
                    _short(one)
            return tuple(given)

        return fields.either(which, ("VALUE_STRING", "START_ARRAY", "START_OBJECT"), read)

    def _filters(self, name: str, body: Mapping[str, Any]) -> Kind:
        found: list[tuple[str, Clause]] = []
        named = False
        other, other_key, is_other, keyed = False, "_other_", None, True
        for option, value in body.items():
            match option, value:
                case "filters", dict():
                    named = True
                    # Elasticsearch answers them in the order of their names.
                    names = sorted(value, key=lambda key: str(key).encode("utf-16-be", "surrogatepass"))
                    found += [(_short_name(key), read_query(value[key], self._budget)) for key in names]
                case "filters", list():
                    found += [(str(i), read_query(one, self._budget)) for i, one in enumerate(value)]
                case "other_bucket", bool() | str():
                    is_other = boolean(value)
                case "other_bucket_key", str():
                    other, other_key = True, _short_name(value)
                case "keyed", bool() | str():
                    keyed = boolean(value)
                case _:
                    raise SearchRefused(f"Unknown key for a {token(value)} in [{name}]: [{shown(option)}].", PARSING)
        if not found:
            raise SearchRefused("[filters] cannot be empty.")
        if named and not keyed:
            raise SearchRefused(f"filters aggregation [{name}] has names, so its answer does: leave [keyed] out")
        wants_other = other if is_other is None else is_other
        if wants_other and named and any(key == other_key for key, _ in found):
            raise SearchRefused(f"the other bucket of filters aggregation [{name}] needs a name of its own")
        return FiltersAggregation(tuple(found), named, other_key if wants_other else None)

    def _filter(self, name: str, body: Mapping[str, Any]) -> Kind:
        return FiltersAggregation(((name, read_query(body, self._budget)),), named=False, single=True)

    def _range(self, name: str, body: Mapping[str, Any]) -> Kind:
        fields = ObjectFields("range", body, _VALUES | {"ranges", "keyed"})
        field = self._field(fields, "range", name)
        found = self._ranges(fields, "range", name, lambda one: one if type(one) is int else decimal(one))
        found.sort(key=lambda one: (_or(one.low, float("-inf")), _or(one.high, float("inf"))))
        keyed, format_ = fields.boolean("keyed"), fields.text("format")
        return RangesAggregation(field, tuple(found), False, keyed, format_, missing=self._missing(fields, name))

    def _date_range(self, name: str, body: Mapping[str, Any]) -> Kind:
        fields = ObjectFields("date_range", body, _VALUES | {"ranges", "keyed", "time_zone"})
        field = self._field(fields, "date_range", name)
        found = self._ranges(fields, "date_range", name, _time)
        zone = self._zone(fields)
        keyed, format_ = fields.boolean("keyed"), fields.text("format")
        return RangesAggregation(field, tuple(found), True, keyed, format_, zone, self._missing(fields, name))

    def _ranges(self, fields: ObjectFields, kind: str, name: str, read: Callable[[Any], Any]) -> list[RangeBucket]:
        def one(given: Any) -> RangeBucket:
            if not isinstance(given, dict):
                raise SearchRefused(f"[{kind}] Expected START_OBJECT but was: {token(given)}", X_CONTENT)
            self._budget.take_clause()
            parts = ObjectFields(kind, given, ("key", "from", "to"))
            ends = [given.get(end) for end in ("from", "to")]
            for end in ends:
                if isinstance(end, dict | list | bool):
                    raise SearchRefused(f"[{kind}] from and to don't support values of type: {token(end)}", X_CONTENT)
            low, high = (None if end is None else read(end) for end in ends)
            return RangeBucket(parts.either("key", _TEXTS_AND_NUMBERS, lambda key: _short_name(str(key))), low, high)

        found = fields.either("ranges", ("START_ARRAY",), lambda given: [one(part) for part in given])
        if not found:
            raise SearchRefused(f"No [ranges] specified for the [{name}] aggregation")
        return found

    def _zone(self, fields: ObjectFields) -> str:
        return self._budget.zone(fields.either("time_zone", _TEXTS_AND_NUMBERS, _zone) or "UTC")

    def _field(self, fields: ObjectFields, kind: str, name: str) -> str:
        if "script" in fields:
            raise SearchRefused(
                f"{kind} aggregation [{name}] has a [script], which rolled-up data cannot answer: name a field"
            )
        field = fields.text("field")
        if field is None:
            raise SearchRefused("Required one of fields [field, script], but none were specified.")
        return self._budget.name(field)

    def _missing(self, fields: ObjectFields, name: str) -> Any:
        def read(given: Any) -> Any:
            if given is None:
                raise SearchRefused(f"[missing] must not be null: [{name}]")
            return _short(given) if isinstance(given, str) else given

        return fields.scalar("missing", read)


_DATE_HISTOGRAM: Final = _VALUES | {
    "calendar_interval", "extended_bounds", "fixed_interval", "hard_bounds", "interval", "keyed", "min_doc_count",
    "offset", "order", "time_zone",
}  # fmt: skip
_HISTOGRAM: Final = _VALUES | {
    "extended_bounds", "hard_bounds", "interval", "keyed", "min_doc_count", "offset", "order"
}  # fmt: skip
_TERMS: Final = _VALUES | {
    "collect_mode", "exclude", "execution_hint", "include", "min_doc_count", "order", "shard_min_doc_count",
    "shard_size", "show_term_doc_count_error", "size",
}  # fmt: skip


def _interval(fields: ObjectFields) -> Interval:
    """Read how long a bucket of time is: `interval` is how it was said until Elasticsearch 7."""
    given = fields.given(("interval", "calendar_interval", "fixed_interval"))
    if not given:
        raise SearchRefused("Invalid interval specified, must be non-null and non-empty")
    if len(given) > 1:
        others = f"[{given[0]}] configuration option"
        if given[1] == "interval":
            others = "[fixed_interval] or [calendar_interval] configuration options"
        raise fields.wrong(given[1], f"Cannot use [{given[1]}] with {others}.")
    reader = {"interval": _legacy, "calendar_interval": _calendar, "fixed_interval": _fixed}[given[0]]
    found = fields.either(given[0], _TEXTS_AND_NUMBERS if given[0] == "interval" else _TEXTS, reader)
    assert found is not None
    if found[0] is not None and found[0] <= 0:
        raise SearchRefused("Zero or negative time interval not supported")
    if found[0] is not None and found[0] > LONGEST:
        raise SearchRefused(f"an interval of [{found[0]}ms] is longer than the limit of [{LONGEST // DAY}d]")
    return found


def _calendar(given: Any) -> Interval:
    if not given:
        raise SearchRefused("[interval] must not be null: [date_histogram]")
    if given in _SECOND:
        return 1_000, None
    if (unit := _CALENDAR.get(given)) is None:
        raise SearchRefused(f"The supplied interval [{shown(given)}] could not be parsed as a calendar interval.")
    return None, unit


def _fixed(given: Any) -> Interval:
    if not given:
        raise SearchRefused("[interval] must not be null: [date_histogram]")
    return _milliseconds(given, "date_histogram.fixedInterval"), None


def _legacy(given: Any) -> Interval:
    if not isinstance(given, str):
        return integer(given), None
    if given in _SECOND or given in _CALENDAR:
        return _calendar(given)
    try:
        return _milliseconds(given, "interval"), None
    except SearchRefused as e:
        raise SearchRefused(f"Unable to parse interval [{shown(given)}]") from e


def _milliseconds(given: str, setting: str) -> int:
    try:
        return int(parse_time_value(given[:64], setting).milliseconds)
    except ValueError as e:
        raise SearchRefused(str(e)) from e


def _offset(given: Any) -> int:
    ms = _given_offset(given)
    if abs(ms) > _LONGEST_OFFSET:
        raise SearchRefused(
            f"an offset of [{shown(str(given))}] is longer than the limit of [{_LONGEST_OFFSET // DAY}d]"
        )
    return ms


def _given_offset(given: Any) -> int:
    if not isinstance(given, str):
        return integer(given)
    setting = "DateHistogramAggregationBuilder.parseOffset"
    if not given:
        raise SearchRefused(
            f"failed to parse setting [{setting}] with value [] as a time value: unit is missing or unrecognized"
        )
    ms = _milliseconds(given.removeprefix("-").removeprefix("+") if given[0] in "+-" else given, setting)
    return -ms if given[0] == "-" else ms


def _zone(given: Any) -> str:
    if isinstance(given, str):
        zone_of(given[:64])
        return given
    hours = integer(given)
    if not -18 <= hours <= 18:
        raise SearchRefused("Zone offset not in valid range: -18:00 to +18:00", "date_time_exception")
    return f"{hours:+03d}:00"


def _time(given: Any) -> Any:
    if isinstance(given, str):
        return _short(given)
    number = decimal(given)
    if not number.is_integer():
        raise SearchRefused(f"{number} cannot be converted to Long without data loss")
    return given if isinstance(given, int) else int(number)


def _time_bounds(given: Mapping[str, Any]) -> TimeBounds:
    fields = ObjectFields("bounds", given, ("min", "max"))
    low, high = (fields.scalar(end, lambda value: None if value is None else _time(value)) for end in ("min", "max"))
    return TimeBounds(low, high)


def _number_bounds(given: Mapping[str, Any]) -> tuple[float | None, float | None]:
    fields = ObjectFields("double_bounds", given, ("min", "max"))
    low, high = (fields.scalar(end, lambda value: None if value is None else decimal(value)) for end in ("min", "max"))
    if low is not None and high is not None and low > high:
        raise fields.wrong("max", f"max bound [{high}] must be greater than min bound [{low}]")
    return low, high


def _min_doc_count(fields: ObjectFields, name: str, default: int) -> int:
    found = fields.integer("min_doc_count", default)
    if found < 0:
        raise fields.wrong(
            "min_doc_count", f"[minDocCount] must be greater than or equal to 0. Found [{found}] in [{name}]"
        )
    return found


def _order(fields: ObjectFields) -> Any:
    return fields.either("order", ("START_OBJECT", "START_ARRAY"), read_order)


def _collect_mode(given: str) -> str:
    if given not in ("breadth_first", "depth_first"):
        raise SearchRefused(f"no [collect_mode] found for value [{shown(given)}]")
    return given


def _short(given: str) -> str:
    if len(given) > LONGEST_VALUE:
        raise SearchRefused(f"a value has at most [{LONGEST_VALUE}] characters, this one has [{len(given)}]")
    return given


def _short_name(given: str) -> str:
    if len(given) > LONGEST_NAME:
        raise SearchRefused(f"a bucket's name has at most [{LONGEST_NAME}] characters, this one has [{len(given)}]")
    return given


def _or(value: Any, default: float) -> Any:
    return default if value is None else value
