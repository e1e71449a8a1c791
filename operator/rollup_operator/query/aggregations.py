"""The aggregations of a request as types, in the source's field names. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rollup_operator.query.clauses import Clause


@dataclass(frozen=True, slots=True)
class Order:
    """By what buckets are sorted; ties are sorted by key, ascending."""

    path: str
    """`_key`, `_count`, or a metric below, as in `1`, `1.avg` and `5>1`."""
    ascending: bool


@dataclass(frozen=True, slots=True)
class RangeBucket:
    """One bucket of a range aggregation: [low, high); None: without end."""

    key: str | None
    low: Any = None
    high: Any = None


@dataclass(frozen=True, slots=True)
class TimeBounds:
    """Two times as a request gives them: numbers, texts with date math, or None."""

    low: Any
    high: Any


@dataclass(frozen=True, slots=True)
class DateHistogramAggregation:
    """Buckets of time."""

    field: str
    fixed_ms: int | None
    """Milliseconds; None: `calendar_unit` says."""
    calendar_unit: str | None
    """1m 1h 1d 1w 1M 1q 1y; None: `fixed_ms` says."""
    time_zone: str = "UTC"
    offset_ms: int = 0
    format: str | None = None
    keyed: bool = False
    min_doc_count: int = 0
    extended_bounds: TimeBounds | None = None
    hard_bounds: TimeBounds | None = None
    missing: Any = None
    order: tuple[Order, ...] = (Order("_key", True),)


@dataclass(frozen=True, slots=True)
class HistogramAggregation:
    """Buckets of numbers."""

    field: str
    interval: float
    offset: float = 0.0
    keyed: bool = False
    min_doc_count: int = 0
    extended_bounds: tuple[float, float] | None = None
    hard_bounds: tuple[float | None, float | None] | None = None
    missing: float | None = None
    format: str | None = None
    order: tuple[Order, ...] = (Order("_key", True),)


@dataclass(frozen=True, slots=True)
class TermsAggregation:
    """A bucket for each value."""

    field: str
    size: int = 10
    min_doc_count: int = 1
    missing: Any = None
    include: tuple[Any, ...] | str | None = None
    """Values, or a regular expression in Lucene's syntax."""
    exclude: tuple[Any, ...] | str | None = None
    order: tuple[Order, ...] = (Order("_count", False), Order("_key", True))
    shows_error: bool = False
    """show_term_doc_count_error."""


@dataclass(frozen=True, slots=True)
class FiltersAggregation:
    """A bucket for each condition, and one for what meets none where `other` names it."""

    filters: tuple[tuple[str, Clause], ...]
    named: bool
    """The request gave an object, not a list, so the answer has one, too."""
    other: str | None = None
    single: bool = False
    """The aggregation `filter`: one bucket, without a list around it."""


@dataclass(frozen=True, slots=True)
class RangesAggregation:
    """A bucket for each range of numbers, or of times (`date_range`)."""

    field: str
    ranges: tuple[RangeBucket, ...]
    of_dates: bool = False
    keyed: bool = False
    format: str | None = None
    time_zone: str = "UTC"
    missing: Any = None


@dataclass(frozen=True, slots=True)
class MetricAggregation:
    """A number of each bucket."""

    kind: Literal["min", "max", "sum", "avg", "value_count", "stats"]
    field: str
    format: str | None = None
    missing: Any = None


@dataclass(frozen=True, slots=True)
class PipelineAggregation:
    """What is computed from the results of other aggregations."""

    kind: str
    """The aggregation's name in Elasticsearch: derivative, bucket_script, avg_bucket, bucket_sort …"""
    options: Mapping[str, Any]
    """The body as given and checked."""


Kind = (
    DateHistogramAggregation
    | HistogramAggregation
    | TermsAggregation
    | FiltersAggregation
    | RangesAggregation
    | MetricAggregation
    | PipelineAggregation
)


@dataclass(frozen=True, slots=True)
class Aggregation:
    """A named aggregation and those within its buckets, in the order of the request."""

    name: str
    kind: Kind
    subs: tuple["Aggregation", ...] = ()
    meta: Mapping[str, Any] | None = None
    type_name: str = field(default="", compare=False)
    """The aggregation's name in the request, for texts: date_histogram, filter, date_range …"""
