"""From what is asked of a source's rows to what is asked of a job's documents, where they can answer it exactly. Pure.

    source                          documents of a job
    time                            time.date_histogram.timestamp
    carrier, a group of terms       carrier.terms.value
    distance, a histogram           distance.histogram.value
    min, max of delay               min, max of delay.min.value, delay.max.value
    sum of delay                    sum of delay.sum.value, or of delay.avg.value, which is a sum as well
    values that delay has           sum of delay.value_count.value, or of delay.avg._count
    rows that delay has values in   the same, unless a row has several: the plan asks whether one has
    rows                            sum of time.date_histogram._count

A bucket belongs to a range of time when it begins in it, and where the range begins within the bucket.
"""

from dataclasses import dataclass, field
from typing import NoReturn

from rollup_operator.query.aggregations import (
    Aggregation,
    DateHistogramAggregation,
    HistogramAggregation,
    MetricAggregation,
)
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.planning.binding import FieldNotKept
from rollup_operator.query.planning.shape import FieldNotKnown, Shape, numbers_of
from rollup_operator.query.reading.request import Door
from rollup_operator.query.times.formats import iso
from rollup_operator.query.times.grids import EARLIEST, LATEST
from rollup_operator.rollup.bounds import Bounds, Segment
from rollup_operator.stores.search import (
    EVERYTHING,
    All,
    AtLeast,
    Between,
    ByPredicate,
    ByTerms,
    ByTime,
    ByWidth,
    Documents,
    Exists,
    Grouping,
    Instant,
    Level,
    Not,
    Number,
    OneOf,
    Predicate,
    Prefix,
    Tier,
    Value,
    Wildcard,
)


class FinerThanTheJob(SearchRefused):
    """Buckets of time are asked for that would cut the job's: longer ones could be answered."""


@dataclass(frozen=True)
class Rolled:
    """Translates for the documents of one job."""

    tier: Tier
    door: Door
    bounds: Bounds
    rounded: set[int] = field(default_factory=set)
    """Ends of ranges of time that lie within a bucket, as far as conditions were translated."""
    _stretches: dict[tuple[object, ...], tuple[int | None, tuple[Segment, ...]]] = field(default_factory=dict)
    """By buckets of time that are asked for: an edge within one of the job's, if any, and how keys are found."""

    @classmethod
    def of(cls, tier: Tier, door: Door) -> "Rolled":
        """Prepare for a job's documents."""
        return cls(tier, door, Bounds.of(tier.spec.groups.date_histogram))

    @property
    def documents(self) -> Documents:
        """The job's documents, to be read."""
        return Documents(*self.tier.key, self.tier.place, self.tier.end_ms)

    @property
    def date(self) -> str:
        """The field of time, by the source's name."""
        return self.tier.spec.groups.date_histogram.field

    @property
    def time(self) -> str:
        """The field of time in the documents."""
        return f"{self.date}.date_histogram.timestamp"

    @property
    def count(self) -> str:
        """The field that has the number of source documents."""
        return f"{self.date}.date_histogram._count"

    def not_kept(self, refused: FieldNotKept) -> SearchRefused:
        """Return what is told of a condition on a field that is no group."""
        if self.door == "rollup_search":
            return refused
        return self._refusal(
            f"field [{refused.field}] in [{refused.query_kind}] query is none of its groups, {self._groups()}"
        )

    def unlike(self, other: "Rolled") -> SearchRefused:
        """Return why this job does not answer together with the other one."""
        return self._refusal(
            f"fields that the search names hold values of other kinds than for job [{other.tier.key[1]}]"
        )

    def unsure_of(self, name: str, begin: int, end: int, why: str) -> SearchRefused:
        """Return why the documents do not say how many rows have no value of a field; `why` says it of the rows."""
        return self._refusal(
            f"a metric of field [{name}] has [missing], and the job has rolled up how many values rows have, not how "
            f"many rows have none: of the rows from {iso(begin)} to {iso(end)}, {why}"
        )

    def not_had(self, refused: FieldNotKept | FieldNotKnown) -> SearchRefused:
        """Return the error for a condition on what is no group, or for buckets by a field that nobody knows."""
        return self.not_kept(refused) if isinstance(refused, FieldNotKept) else self.not_known(refused)

    def not_known(self, refused: FieldNotKnown) -> SearchRefused:
        """Return what is told of buckets by a field that nobody knows."""
        if self.door == "rollup_search":
            return refused
        return self._refusal(f"field [{refused.field}] is none of its groups, {self._groups()}")

    def check(self, aggregations: tuple[Aggregation, ...], shapes: tuple[Shape, ...], begin: int, end: int) -> None:
        """Refuse what documents of buckets that begin in [begin, end) cannot answer. Raises SearchRefused."""
        for a in aggregations:
            if isinstance(a.kind, MetricAggregation):
                for number in numbers_of(a.kind):
                    if self._number(number) is None:
                        self._no_metric(a, a.kind)
        for shape in shapes:
            self._by(shape, begin, end)
            self.check(shape.aggregation.subs, shape.subs, begin, end)

    def levels(self, shapes: tuple[Shape, ...], begin: int, end: int) -> tuple[Level, ...]:
        """Return what to read of documents of buckets that begin in [begin, end). Raises SearchRefused."""
        return tuple(
            Level(s.aggregation.name, self._by(s, begin, end), self.numbers(s.numbers), self.levels(s.subs, begin, end))
            for s in shapes
        )

    def numbers(self, numbers: tuple[Number, ...]) -> tuple[Number, ...]:
        """Return where the documents have these numbers; `check` has found that they do."""
        return tuple(n for n in map(self._number, numbers) if n is not None)

    def predicate(self, p: Predicate) -> Predicate:
        """Return the condition on documents. Raises SearchRefused where it would not be exact."""
        match p:
            case All(of):
                return All(tuple(map(self.predicate, of)))
            case AtLeast(count, of):
                return AtLeast(count, tuple(map(self.predicate, of)))
            case Not(of):
                return Not(self.predicate(of))
        if p.field == self.date:
            return self._of_time(p)
        column = self._column(p.field)
        if column is None:
            self._refuse(f"field [{p.field}] is none of its groups, {self._groups()}")
        if column.endswith(".histogram.value"):
            self._check_width(p)
        match p:
            case Exists():
                return Exists(column)
            case OneOf(_, values):
                return OneOf(column, values)
            case Between(_, low, high, includes_low, includes_high):
                return Between(column, low, high, includes_low, includes_high)
            case Prefix(_, text, ignores_case):
                return Prefix(column, text, ignores_case)
            case Wildcard(_, pattern, ignores_case):
                return Wildcard(column, pattern, ignores_case)
        raise TypeError(f"{p!r} is no condition")

    def _of_time(self, p: Exists | OneOf | Between | Prefix | Wildcard) -> Predicate:
        match p:
            case Exists():
                return EVERYTHING
            case Between(_, low, high, includes_low, includes_high):
                begin = None if low is None else _ms(low) + (not includes_low)
                end = None if high is None else _ms(high) + includes_high
                return Between(
                    self.time,
                    None if begin is None else Instant(self._rounded(begin)),
                    None if end is None else self._instant(end),
                )
            case _:
                raise self._refusal(
                    f"[{self.date}] is asked for single times, but its buckets are of {self._interval()}: ask for a "
                    "range"
                )

    def _rounded(self, instant: int) -> int:
        if not EARLIEST <= instant <= LATEST:
            return instant
        bucket = self.bounds.round_down(instant)
        if bucket != instant:
            self.rounded.add(instant)
        return bucket

    def _instant(self, instant: int) -> Instant:
        self._rounded(instant)
        return Instant(instant)

    def _check_width(self, p: Exists | OneOf | Between | Prefix | Wildcard) -> None:
        """Refuse a condition that does not hold for all or for none of what a bucket of numbers has."""
        group = self.tier.spec.groups.histogram
        assert group is not None
        match p:
            case Exists():
                return
            case Between(_, low, high, includes_low, includes_high):
                ends = ((low, includes_low), (high, not includes_high))
                if all(v is None or (exact and _is_multiple(v, group.interval)) for v, exact in ends):
                    return
        self._refuse(
            f"[{p.field}] is rolled up into buckets of {group.interval}: ask for a range from a multiple of that "
            "(included) to another one (not included)"
        )

    def _by(self, shape: Shape, begin: int, end: int) -> Grouping:
        match shape.by:
            case ByTime(column):
                grid = shape.grid
                if column != self.date or grid is None:
                    self._no_group(shape, f"[{column}] is not its time, [{self.date}]")
                k = shape.aggregation.kind
                assert isinstance(k, DateHistogramAggregation)
                asked = (k.fixed_ms, k.calendar_unit, k.time_zone, k.offset_ms, begin, end)
                if (known := self._stretches.get(asked)) is None:
                    segments = grid.segments(begin, max(begin + 1, end))
                    known = self._stretches[asked] = grid.splits(self.bounds, begin, end), segments
                edge, segments = known
                if edge is not None:
                    self._too_fine(shape, edge)
                return ByTime(self.time, segments)
            case ByTerms(column, kind, limit, missing):
                if column not in self._terms():
                    self._no_group(shape, f"[{column}] is none of its groups.terms")
                return ByTerms(f"{column}.terms.value", kind, limit, missing)
            case ByWidth(column, interval, offset, missing):
                if column in self._terms():
                    return ByWidth(f"{column}.terms.value", interval, offset, missing)
                group = self.tier.spec.groups.histogram
                if group is None or column not in group.fields:
                    self._no_group(shape, f"[{column}] is none of its groups.histogram")
                assert isinstance(shape.aggregation.kind, HistogramAggregation)
                if not (_is_multiple(interval, group.interval) and _is_multiple(offset, group.interval)):
                    self._no_group(
                        shape,
                        f"[{column}] is rolled up into buckets of {group.interval}: [interval] and [offset] "
                        "have to be multiples of that",
                    )
                return ByWidth(f"{column}.histogram.value", interval, offset, missing)
            case ByPredicate(of):
                return ByPredicate(tuple(map(self.predicate, of)))

    def _number(self, number: Number) -> Number | None:
        """Return where the documents have a number; None: nowhere."""
        f, kept = number.field, self._metrics(number.field)
        match number.function:
            case "min" | "max" as function:
                if function in kept:
                    return Number(function, f"{f}.{function}.value")
                if f in self._terms() and self.tier.kinds.get(f) in ("long", "double"):
                    return Number(function, f"{f}.terms.value")
            case "sum":
                if kept & {"sum", "avg"}:
                    return Number("sum", f"{f}.sum.value" if "sum" in kept else f"{f}.avg.value")
            case "count" | "rows":
                if kept & {"value_count", "avg"}:
                    return Number("sum", f"{f}.value_count.value" if "value_count" in kept else f"{f}.avg._count")
                if f == self.date:
                    return Number("sum", self.count)
        return None

    def _metrics(self, name: str) -> frozenset[str]:
        return frozenset(kind for m in self.tier.spec.metrics if m.field == name for kind in m.metrics)

    def _column(self, name: str) -> str | None:
        """Return the field of documents that has a group's values; None: it is no group."""
        if name == self.date:
            return self.time
        if name in self._terms():
            return f"{name}.terms.value"
        histogram = self.tier.spec.groups.histogram
        return f"{name}.histogram.value" if histogram is not None and name in histogram.fields else None

    def _terms(self) -> list[str]:
        terms = self.tier.spec.groups.terms
        return terms.fields if terms is not None else []

    def _groups(self) -> str:
        groups = self.tier.spec.groups
        names = [self.date, *(groups.histogram.fields if groups.histogram else ()), *self._terms()]
        return f"[{', '.join(names)}]"

    def _interval(self) -> str:
        group = self.tier.spec.groups.date_histogram
        return f"{group.fixed_interval or group.calendar_interval} in {group.time_zone}"

    def _refusal(self, why: str) -> SearchRefused:
        return SearchRefused(f"Job [{self.tier.key[1]}] cannot answer this exactly: {why}.")

    def _refuse(self, why: str) -> NoReturn:
        raise self._refusal(why)

    def _no_group(self, shape: Shape, why: str) -> NoReturn:
        a = shape.aggregation
        if self.door == "rollup_search":
            raise SearchRefused(self._no_job(a.type_name, f"on field [{_field(shape)}]"))
        self._refuse(f"aggregation [{a.name}]: {why}")

    def _too_fine(self, shape: Shape, edge: int) -> NoReturn:
        a = shape.aggregation
        if self.door == "rollup_search":
            raise FinerThanTheJob(self._no_job(a.type_name, f"on field [{self.date}]"))
        raise FinerThanTheJob(
            f"Job [{self.tier.key[1]}] cannot answer this exactly: a bucket of aggregation [{a.name}] would begin at "
            f"{iso(edge)}, within one of the job's buckets of {self._interval()}."
        )

    def _no_metric(self, a: Aggregation, metric: MetricAggregation) -> NoReturn:
        if self.door == "rollup_search":
            raise SearchRefused(self._no_job(metric.kind, f"with name [{a.name}]"))
        kept = ", ".join(sorted(self._metrics(metric.field)))
        has = f"keeps only [{kept}] of [{metric.field}]" if kept else f"keeps nothing of [{metric.field}]"
        needs = f"[{metric.kind}]" + (" with [missing]" if metric.missing is not None else "")
        self._refuse(f"aggregation [{a.name}] is {needs} of field [{metric.field}], but the job {has}")

    @staticmethod
    def _no_job(kind: str, where: str) -> str:
        return (
            f"There is not a rollup job that has a [{kind}] agg {where} which also satisfies all requirements of query."
        )


def _ms(value: Value) -> int:
    assert isinstance(value, Instant)
    return value.ms


def _is_multiple(value: Value, interval: int) -> bool:
    return isinstance(value, int | float) and value % interval == 0


def _field(shape: Shape) -> str:
    return getattr(shape.by, "field", "")
