"""What a request asks for as groupings and numbers of rows, in the source's names. Pure.

A shape is one aggregation that makes buckets, with its values read: times in milliseconds, terms by their field's kind.
The planner makes levels of fetches of it, and the answer is built along it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from rollup_operator.query.aggregations import (
    Aggregation,
    DateHistogramAggregation,
    FiltersAggregation,
    HistogramAggregation,
    MetricAggregation,
    PipelineAggregation,
    RangesAggregation,
    TermsAggregation,
    TimeBounds,
)
from rollup_operator.query.clauses import Clause
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.planning.binding import bind
from rollup_operator.query.times.dates import FIRST_MS, LAST_MS, DateReader, zone_of
from rollup_operator.query.times.grids import TimeGrid, floor
from rollup_operator.stores.search import (
    All,
    AtLeast,
    Between,
    ByPredicate,
    ByTerms,
    ByTime,
    ByWidth,
    Exists,
    FieldKind,
    Grouping,
    Instant,
    Not,
    Number,
    Predicate,
    Value,
)

MOST_TERMS = 10_000
"""Values of one field that are read in one bucket: more, and an answer could not be exact."""

STATES: Mapping[str, tuple[str, ...]] = {
    "min": ("min",),
    "max": ("max",),
    "sum": ("sum",),
    "value_count": ("count",),
    "avg": ("sum", "count"),
    "stats": ("min", "max", "sum", "count"),
}
"""What must be known of a bucket for each metric."""

Edge = int | float | None

_LEAST, _MOST = -(2**63), 2**63 - 1
"""Of whole numbers."""


class FieldNotKnown(SearchRefused):
    """Buckets are asked for by a field of which neither a job nor its source says what it holds."""

    def __init__(self, field: str) -> None:
        super().__init__(f"Field [{field}] is not known: it cannot be aggregated")
        self.field = field


@dataclass(frozen=True, slots=True)
class Shape:
    """An aggregation that makes buckets."""

    aggregation: Aggregation
    by: Grouping
    """Without segments where it is by time: those depend on what is read."""
    numbers: tuple[Number, ...]
    subs: tuple["Shape", ...]
    """Those within that make buckets, in the request's order."""
    kind: FieldKind | None = None
    """What the field holds."""
    grid: TimeGrid | None = None
    extended: tuple[Edge, Edge] | None = None
    hard: tuple[Edge, Edge] | None = None
    ranges: tuple[tuple[str | None, Edge, Edge], ...] = ()
    """Key, begin and end of each, in the order of the answer."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads values of a request."""

    fields: Mapping[str, FieldKind]
    """Those that conditions can name, and what they hold."""
    kinds: Mapping[str, FieldKind]
    """What all fields hold, as far as it is known."""
    now_ms: int

    def shapes(self, aggregations: Iterable[Aggregation]) -> tuple[Shape, ...]:
        """Return the shapes of those that make buckets. Raises SearchRefused."""
        return tuple(
            self._shape(a) for a in aggregations if not isinstance(a.kind, MetricAggregation | PipelineAggregation)
        )

    def numbers(self, aggregations: Iterable[Aggregation]) -> tuple[Number, ...]:
        """Return what the metrics among them need to know of each bucket above them. Raises SearchRefused."""
        found: dict[Number, None] = {}
        for a in aggregations:
            if isinstance(a.kind, MetricAggregation):
                self._check_metric(a.kind)
                for number in numbers_of(a.kind):
                    found[number] = None
        return tuple(found)

    def predicate(self, clause: Clause) -> Predicate:
        """Return the condition with its values read. Raises SearchRefused."""
        return bind(clause, self.fields, self.now_ms)

    def _shape(self, a: Aggregation) -> Shape:
        numbers, subs = self.numbers(a.subs), self.shapes(a.subs)
        match a.kind:
            case DateHistogramAggregation() as k:
                return self._date_histogram(a, k, numbers, subs)
            case HistogramAggregation() as k:
                by = ByWidth(k.field, k.interval, k.offset, k.missing)
                check_bounds(k.extended_bounds, k.hard_bounds)
                kind = self._kind(k.field, a, "long", "double")
                return Shape(a, by, numbers, subs, kind, None, k.extended_bounds, k.hard_bounds)
            case TermsAggregation() as k:
                if k.min_doc_count < 1:
                    raise SearchRefused(
                        f"[terms] aggregation [{a.name}] has [min_doc_count] 0, which asks for values that no document "
                        "of the search has, but the files of an index still hold, those of deleted ones too: use 1 or "
                        "more"
                    )
                kind = self._kind(k.field, a)
                missing = None if k.missing is None else self._value(k.missing, kind, a)
                return Shape(a, ByTerms(k.field, kind, max(MOST_TERMS, k.size), missing), numbers, subs, kind)
            case FiltersAggregation() as k:
                conditions = tuple(self.predicate(clause) for _, clause in k.filters)
                if k.other is not None:
                    conditions = (*conditions, Not(AtLeast(1, conditions)))
                return Shape(a, ByPredicate(conditions), numbers, subs)
            case RangesAggregation() as k:
                return self._ranges(a, k, numbers, subs)
            case _:
                raise TypeError(f"{a.kind!r} makes no buckets")

    def _date_histogram(
        self, a: Aggregation, k: DateHistogramAggregation, numbers: tuple[Number, ...], subs: tuple[Shape, ...]
    ) -> Shape:
        grid = TimeGrid.of(k)
        missing = None if k.missing is None else grid.round_down(self._time(k.missing, k.format, k.time_zone))
        extended = self._bounds(a, k, k.extended_bounds, "extended_bounds")
        hard = self._bounds(a, k, k.hard_bounds, "hard_bounds")
        check_bounds(extended, hard)
        low, high = _rounded(grid, extended), _rounded(grid, hard)
        kind = self._kind(k.field, a, "date")
        return Shape(a, ByTime(k.field, (), missing), numbers, subs, kind, grid, low, high)

    def _bounds(
        self, a: Aggregation, k: DateHistogramAggregation, bounds: TimeBounds | None, what: str
    ) -> tuple[int | None, int | None]:
        if bounds is None:
            return None, None
        low, high = (None if v is None else self._time(v, k.format, k.time_zone) for v in (bounds.low, bounds.high))
        if low is not None and high is not None and low > high:
            raise SearchRefused(
                f"[{what}.min][{low}] cannot be greater than [{what}.max][{high}] for histogram aggregation [{a.name}]"
            )
        return low, high

    def _ranges(
        self, a: Aggregation, k: RangesAggregation, numbers: tuple[Number, ...], subs: tuple[Shape, ...]
    ) -> Shape:
        kind = self._kind(k.field, a, "long", "double", "date")
        dates = k.of_dates or kind == "date"
        found = sorted(
            ((r.key, self._edge(r.low, k, dates), self._edge(r.high, k, dates)) for r in k.ranges),
            key=lambda r: (float("-inf") if r[1] is None else r[1], float("inf") if r[2] is None else r[2]),
        )
        missing = None if k.missing is None else self._missing_edge(k.missing, k, dates, a)
        conditions: list[Predicate] = []
        for _, low, high in found:
            held: Predicate = Between(k.field, _bound(low, dates), _bound(high, dates))
            if low is None and high is None:
                held = Exists(k.field)
            if missing is not None and (low is None or low <= missing) and (high is None or missing < high):
                held = AtLeast(1, (held, Not(Exists(k.field))))
            conditions.append(held)
        return Shape(a, ByPredicate(tuple(conditions)), numbers, subs, kind, ranges=tuple(found))

    def _missing_edge(self, value: Any, k: RangesAggregation, dates: bool, a: Aggregation) -> Edge:
        try:
            edge = self._edge(value, k, dates)
        except ValueError as e:
            raise _no_value(a, "numbers") from e
        if edge is not None and not isfinite(edge):
            raise _no_value(a, "numbers")
        return edge

    def _edge(self, value: Any, k: RangesAggregation, dates: bool) -> Edge:
        if value is None:
            return None
        return self._time(value, k.format, k.time_zone) if dates else float(value)

    def _time(self, value: Any, format: str | None, zone: str) -> int:  # the request's word
        if type(value) is int:
            return max(FIRST_MS, min(LAST_MS, value))
        return DateReader(self.now_ms, format, zone_of(zone)).read(value)

    def _kind(self, field: str, a: Aggregation, *takes: FieldKind) -> FieldKind:
        """Return what a field holds. `takes`: what the aggregation takes; everything where that is empty."""
        if (kind := self.kinds.get(field)) is None:
            raise FieldNotKnown(field)
        if takes and kind not in takes:
            raise SearchRefused(f"Field [{field}] of type [{kind}] is not supported for aggregation [{a.type_name}]")
        return kind

    def _value(self, value: Any, kind: FieldKind, a: Aggregation) -> Value:
        try:
            match kind:
                case "keyword":
                    return value if isinstance(value, str) else str(value)
                case "long" if _LEAST <= (whole := int(value)) <= _MOST:
                    return whole
                case "double" if isfinite(number := float(value)):
                    return number
                case "date":
                    return Instant(self._time(value, None, "UTC"))
        except (ValueError, TypeError, OverflowError):
            pass
        raise _no_value(a, kind)

    def _check_metric(self, k: MetricAggregation) -> None:
        if self.kinds.get(k.field) == "keyword" and k.kind != "value_count":
            raise SearchRefused(f"Field [{k.field}] of type [keyword] is not supported for aggregation [{k.kind}]")


def _no_value(a: Aggregation, kind: str) -> SearchRefused:
    return SearchRefused(f"[missing] of aggregation [{a.name}] is no value of its field, which holds [{kind}]")


def numbers_of(metric: MetricAggregation) -> tuple[Number, ...]:
    """Return what must be known of a bucket for a metric."""
    states = STATES[metric.kind]
    if metric.missing is not None:
        states = (*states, "rows")
    return tuple(Number(s, metric.field) for s in states)  # type: ignore[arg-type]  # each is one of Number's functions


def _rounded(grid: TimeGrid, ends: tuple[int | None, int | None]) -> tuple[Edge, Edge]:
    """Return ends as buckets are rounded, without their offset."""
    low, high = ends
    return (
        None if low is None else floor(grid.bounds, low),
        None if high is None else floor(grid.bounds, high),
    )


def check_bounds(extended: tuple[Edge, Edge] | None, hard: tuple[Edge, Edge] | None) -> None:
    """Refuse buckets that are asked for outside of the bounds that there may be. Raises SearchRefused."""
    if extended is None or hard is None:
        return
    (a, b), (low, high) = extended, hard
    if (a is not None and low is not None and a < low) or (b is not None and high is not None and b > high):
        raise SearchRefused(
            f"Extended bounds have to be inside hard bounds, hard bounds: [{low}--{high}], extended bounds: [{a}--{b}]"
        )


def flat(conditions: Iterable[Predicate]) -> Predicate:
    """Return the condition that all of these are met, without needless brackets."""
    parts: list[Predicate] = []
    for c in conditions:
        if isinstance(c, All):
            parts.extend(c.of)
        else:
            parts.append(c)
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _bound(edge: Edge, dates: bool) -> Value | None:
    if edge is None:
        return None
    return Instant(int(edge)) if dates else edge
