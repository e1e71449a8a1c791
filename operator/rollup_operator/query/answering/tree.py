"""Builds the tree of buckets that a request asked for of what was found: filled, ordered and cut to size. Pure."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rollup_operator.concurrency.portions import Work, sorted_by
from rollup_operator.query.aggregations import (
    Aggregation,
    DateHistogramAggregation,
    FiltersAggregation,
    HistogramAggregation,
    MetricAggregation,
    Order,
    PipelineAggregation,
    RangesAggregation,
    TermsAggregation,
)
from rollup_operator.query.answering.regexp import Matcher
from rollup_operator.query.answering.results import Bucket, BucketAllowance, Measured, Result, Series, at_once_of
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.planning.planner import SearchPlan
from rollup_operator.query.planning.shape import Edge, Shape, numbers_of
from rollup_operator.query.times.dates import java_number
from rollup_operator.query.times.formats import date_printer, number_printer
from rollup_operator.stores.search import FieldKind, Key, Keys, LevelBuckets, Number, Path, Row

_AT_ONCE = 200
_FEW = 100
"""Rows that are sorted without an interruption, in well under a millisecond: most buckets have no more."""
_NOTHING = Row(0)

Keyed = tuple[Key, Row]
"""A bucket's key and what was found in it."""


@dataclass(frozen=True, slots=True)
class _MetricPlaces:
    """Where the numbers of a metric stand in a row, and how it is written."""

    of_functions: tuple[tuple[str, int], ...]
    printer: Callable[[float], str] | None
    value: Callable[[Row], float | int] | None
    """Reads a metric that is one number, where nothing stands for a missing value; None: there is more to it."""

    @classmethod
    def of(
        cls, k: MetricAggregation, numbers: Sequence[Number], printer: Callable[[float], str] | None
    ) -> "_MetricPlaces":
        """Find them among the numbers of a level."""
        places = {number: i for i, number in enumerate(numbers)}
        of_functions = tuple((n.function, places[n]) for n in numbers_of(k) if n in places)
        is_plain = k.missing is None and k.kind != "stats"
        return cls(of_functions, printer, _reader(k.kind, dict(of_functions)) if is_plain else None)

    def states(self, row: Row) -> dict[str, float | int | None]:
        """Return those of a row; of one of nothing there are none."""
        found = row.numbers
        return {function: found[i] for function, i in self.of_functions} if found else {}


def _reader(kind: str, places: Mapping[str, int]) -> Callable[[Row], float | int]:
    """Return what reads a metric of one number, given where its parts stand in a row."""
    if kind == "avg":
        total, of = places.get("sum"), places.get("count")

        def average(row: Row) -> float:
            found = row.numbers
            count = found[of] if found and of is not None else None
            if not count:
                return math.nan
            return (0.0 if total is None else found[total] or 0.0) / int(count)

        return average
    if kind == "value_count":
        counts = places.get("count")
        return lambda row: int(row.numbers[counts] or 0) if counts is not None and row.numbers else 0
    place, of_none = places.get(kind), {"min": math.inf, "max": -math.inf}.get(kind, 0.0)

    def number(row: Row) -> float:
        found = row.numbers[place] if place is not None and row.numbers else None
        return of_none if found is None else float(found)

    return number


@dataclass(frozen=True)
class Tree:
    """What was found, by the buckets above."""

    plan: SearchPlan
    merged: dict[Path, LevelBuckets]
    budget: BucketAllowance = field(default_factory=BucketAllowance)
    _below: dict[Path, dict[Keys, list[Keyed]]] = field(default_factory=dict)
    _places: dict[int, "_MetricPlaces"] = field(default_factory=dict)
    """By the identity of a metric's aggregation: found out once, and not for each of ten thousands of buckets."""
    _choosers: dict[int, Callable[[Key], Work[bool]] | None] = field(default_factory=dict)
    """By the identity of a shape of terms."""

    def build(self) -> Work[dict[str, Result]]:
        """Return the results of the request's aggregations but pipelines. Raises SearchRefused."""
        for path, buckets in self.merged.items():
            below = self._below.setdefault(path, {})
            for i, (keys, row) in enumerate(buckets.rows.items()):
                below.setdefault(keys[:-1], []).append((keys[-1] if keys else 0, row))
                if i % _AT_ONCE == 0:
                    yield
        row = self.merged[()].rows.get((), _NOTHING)
        plan = self.plan
        return (yield from self._results(plan.request.aggregations, plan.shapes, plan.numbers, (), (), row))

    def _results(
        self,
        aggregations: Sequence[Aggregation],
        shapes: Sequence[Shape],
        numbers: Sequence[Number],
        path: Path,
        keys: Keys,
        row: Row,
    ) -> Work[dict[str, Result]]:
        if not shapes:
            return self._metrics(aggregations, numbers, row)
        results: dict[str, Result] = {}
        of = {shape.aggregation.name: shape for shape in shapes}
        for a in aggregations:
            if isinstance(a.kind, MetricAggregation):
                results[a.name] = self._measured(a, a.kind, numbers, row)
            elif not isinstance(a.kind, PipelineAggregation):
                results[a.name] = yield from self._series(of[a.name], path, keys)
        return results

    def _metrics(self, aggregations: Sequence[Aggregation], numbers: Sequence[Number], row: Row) -> dict[str, Result]:
        return {
            a.name: self._measured(a, a.kind, numbers, row)
            for a in aggregations
            if isinstance(a.kind, MetricAggregation)
        }

    def _series(self, shape: Shape, path: Path, keys: Keys) -> Work[Series]:
        path = (*path, shape.aggregation.name)
        rows = self._below.get(path, {}).get(keys, [])
        others = 0
        match shape.aggregation.kind:
            case DateHistogramAggregation() as k:
                chosen = yield from self._timed(shape, k, rows)
            case HistogramAggregation() as k:
                chosen = yield from self._wide(shape, k, rows)
            case TermsAggregation() as k:
                chosen, others = yield from self._terms(shape, k, rows, path, keys)
            case FiltersAggregation() as k:
                known = dict(rows)
                count = len(k.filters) + (k.other is not None)
                chosen = [(i, known.get(i, _NOTHING)) for i in range(count)]
            case _:
                known = dict(rows)
                chosen = [(i, known.get(i, _NOTHING)) for i in range(len(shape.ranges))]
        numbers = [a for a in shape.aggregation.subs if isinstance(a.kind, MetricAggregation | PipelineAggregation)]
        self.budget.fill(len(chosen), found=len(rows), numbers=len(numbers))
        if isinstance(shape.aggregation.kind, DateHistogramAggregation | HistogramAggregation):
            chosen = yield from self._sorted(shape, chosen, shape.aggregation.kind.order, path, keys)
        text, subs = _text(shape), shape.aggregation.subs
        buckets, at_once = [], at_once_of(subs)
        for i, (key, row) in enumerate(chosen, 1):
            if shape.subs:
                results = yield from self._results(subs, shape.subs, shape.numbers, path, (*keys, key), row)
            else:
                results = self._metrics(subs, shape.numbers, row)
            buckets.append(Bucket(key, text(key), row.count, results))
            if i % at_once == 0:
                yield
        return Series(shape, buckets, others)

    def _timed(self, shape: Shape, k: DateHistogramAggregation, rows: Iterable[Keyed]) -> Work[list[Keyed]]:
        grid = shape.grid
        assert grid is not None
        low, high = shape.hard or (None, None)
        known: dict[int, Row] = {}
        for i, (key, row) in enumerate(rows):
            at = int(key)
            if (low is None or at >= low) and (high is None or at < high):
                known[at] = row
            if i % _AT_ONCE == 0:
                yield
        if k.min_doc_count > 0:
            return [(key, row) for key, row in known.items() if row.count >= k.min_doc_count]
        first, last = _ends(known, shape.extended, grid.offset)
        chosen: list[Keyed] = []
        if first is not None and last is not None:
            edge = int(first)
            while edge <= last:
                chosen.append((edge, known.get(edge, _NOTHING)))
                if len(chosen) > self.budget.left:
                    self.budget.take(len(chosen))
                edge = grid.next_edge(edge)
                if len(chosen) % _AT_ONCE == 0:
                    yield
        return chosen

    def _wide(self, shape: Shape, k: HistogramAggregation, rows: Iterable[Keyed]) -> Work[list[Keyed]]:
        low, high = shape.hard or (None, None)
        known: dict[int, Row] = {}
        for i, (key, row) in enumerate(rows):
            place = _place(round, float(key), k)
            begin = place * k.interval
            if (low is None or begin >= low) and (high is None or begin <= high):
                known[place] = row
            if i % _AT_ONCE == 0:
                yield

        def key_of(place: int) -> float:
            return place * k.interval + k.offset

        if k.min_doc_count > 0:
            return [(key_of(p), row) for p, row in known.items() if row.count >= k.min_doc_count]
        edges: list[Edge] = [None if e is None else _place(math.floor, e, k) for e in shape.extended or (None, None)]
        first, last = _ends(known, (edges[0], edges[1]), 0)
        if first is None or last is None:
            return []
        if last - first >= self.budget.left:
            self.budget.take(int(last - first) + 1)
        chosen: list[Keyed] = []
        for place in range(int(first), int(last) + 1):
            chosen.append((key_of(place), known.get(place, _NOTHING)))
            if place % _AT_ONCE == 0:
                yield
        return chosen

    def _terms(
        self, shape: Shape, k: TermsAggregation, rows: Sequence[Keyed], path: Path, keys: Keys
    ) -> Work[tuple[list[Keyed], int]]:
        left_out = self.merged[path].left_out.get(keys, 0)
        by_count = k.order[0].path == "_count" and not k.order[0].ascending
        if left_out and not (by_count and len(self.plan.fetches) == 1 and not (k.include or k.exclude)):
            raise SearchRefused(
                f"Field [{k.field}] has too many values for an exact answer to aggregation [{shape.aggregation.name}]: "
                "narrow the search"
            )
        if id(shape) not in self._choosers:
            self._choosers[id(shape)] = _chooser(k, shape.kind)
        wanted, chosen = self._choosers[id(shape)], list[Keyed]()
        for i, row in enumerate(rows, 1):
            if row[1].count >= k.min_doc_count and (wanted is None or (yield from wanted(row[0]))):
                chosen.append(row)
            if i % _AT_ONCE == 0:
                yield
        chosen = yield from self._sorted(shape, chosen, k.order, path, keys)
        return chosen[: k.size], left_out + sum(row.count for _, row in chosen[k.size :])

    def _sorted(
        self, shape: Shape, rows: Sequence[Keyed], order: Sequence[Order], path: Path, keys: Keys
    ) -> Work[list[Keyed]]:
        """Return the rows by each order, ties by key. What has no value comes last, whichever way."""
        values: list[Callable[[Keyed], object]] = []
        backwards = False
        for o in order:
            if o.path in ("_key", "_term"):  # which are all unlike each other: no other order counts after it
                backwards = not o.ascending
                break
            if o.path == "_count":
                values.append(_count if o.ascending else _count_backwards)
            else:
                values.append(_no_value_last(self._order_value(shape, o.path, path, keys), o.ascending))
        few = len(rows) <= _FEW
        found = sorted(rows, key=_key_of) if few else (yield from sorted_by(rows, _key_of))
        if backwards:
            found.reverse()
        if not values:
            return found

        def orders_of(row: Keyed) -> Any:
            return [value(row) for value in values]

        orders: Callable[[Keyed], Any] = values[0] if len(values) == 1 else orders_of
        return sorted(found, key=orders) if few else (yield from sorted_by(found, orders))

    def _order_value(self, shape: Shape, order: str, path: Path, keys: Keys) -> Callable[[Keyed], float | int]:
        """Return what finds the number that buckets are ordered by. Raises SearchRefused."""
        *through, last = order.split(">")
        below: Path = ()
        for name in through:
            inner = next((s for s in shape.subs if s.aggregation.name == name), None)
            if inner is None or not _is_single(inner.aggregation):
                raise SearchRefused(
                    f"Invalid aggregation order path [{order}]. Buckets can only be sorted on a sub-aggregator path "
                    "that is built out of zero or more single-bucket aggregations within the path and a final "
                    "single-bucket or a metrics aggregation at the path end."
                )
            shape, below = inner, (*below, name)
        if any(s.aggregation.name == last and _is_single(s.aggregation) for s in shape.subs):
            through, below, last = [*through, last], (*below, last), "doc_count"
        metric = next((a for a in shape.aggregation.subs if a.name == last), None)
        name, part = last, "value"
        if metric is None and "." in last:
            name, _, part = last.rpartition(".")
            metric = next((a for a in shape.aggregation.subs if a.name == name), None)
        if last in ("_count", "doc_count") and through:
            rows = self.merged[(*path, *below)].rows
            return lambda r: rows.get((*keys, r[0], *(0 for _ in below)), _NOTHING).count
        if metric is None or not isinstance(metric.kind, MetricAggregation):
            raise SearchRefused(
                f"Invalid aggregation order path [{order}]. Cannot find aggregation named [{name}]",
                "aggregation_execution_exception",
            )
        numbers, kind, found = shape.numbers, metric.kind, metric

        def value(r: Keyed) -> float | int:
            row = r[1]
            if below:
                row = self.merged[(*path, *below)].rows.get((*keys, r[0], *(0 for _ in below)), _NOTHING)
            values = self._measured(found, kind, numbers, row).values
            if part not in values:
                raise SearchRefused(
                    f"Invalid aggregation order path [{order}]. When ordering on a multi-value metrics aggregation a "
                    "metric name must be specified."
                )
            return values[part]

        return value

    def _measured(self, a: Aggregation, k: MetricAggregation, numbers: Sequence[Number], row: Row) -> Measured:
        """Return a metric of a bucket."""
        if (places := self._places.get(id(a))) is None:
            places = self._places[id(a)] = _MetricPlaces.of(k, numbers, self._printer(k))
        if places.value is not None:
            value = places.value(row)
            if k.kind == "value_count":
                return Measured(k.kind, {"value": value}, meta=a.meta)
            return Measured(k.kind, {"value": value}, places.printer, ("value",), meta=a.meta)
        states = places.states(row)
        count = int(states.get("count") or 0)
        total, low, high = states.get("sum") or 0.0, states.get("min"), states.get("max")
        if k.missing is not None and (absent := row.count - int(states.get("rows") or 0)) > 0:
            value = _missing(a, k)
            count, total = count + absent, total + absent * value
            low, high = min(value, value if low is None else low), max(value, value if high is None else high)
        values: dict[str, float | int] = {
            "count": count,
            "min": math.inf if low is None else float(low),
            "max": -math.inf if high is None else float(high),
            "avg": total / count if count else math.nan,
            "sum": float(total),
        }
        if k.kind == "value_count":
            return Measured(k.kind, {"value": count}, meta=a.meta)
        printer = places.printer
        if k.kind == "stats":
            printed = ("min", "max", "avg", "sum") if count else ()
            return Measured(k.kind, values, printer, printed, meta=a.meta)
        return Measured(k.kind, {"value": values[k.kind]}, printer, ("value",), meta=a.meta)

    def _printer(self, k: MetricAggregation) -> Callable[[float], str] | None:
        if self.plan.kinds.get(k.field) == "date":
            return date_printer(k.format, "UTC")
        return number_printer(k.format) if k.format is not None else None


def _missing(a: Aggregation, k: MetricAggregation) -> float:
    try:
        value = float(k.missing)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise SearchRefused(f"[missing] of aggregation [{a.name}] is no number")
    return value


def _place(rounded: Callable[[float], int], value: float, k: HistogramAggregation) -> int:
    """Return the place of a value's bucket among all."""
    try:
        return rounded((value - k.offset) / k.interval)
    except (OverflowError, ValueError) as e:
        raise SearchRefused(
            f"[interval] [{k.interval!r}] of a histogram of [{k.field}] is too short for its values: there are more "
            "buckets than numbers"
        ) from e


def _key_of(row: Keyed) -> Key:
    return row[0]


def _count(row: Keyed) -> int:
    return row[1].count


def _count_backwards(row: Keyed) -> int:
    return -row[1].count


def _is_single(a: Aggregation) -> bool:
    """Whether it has one bucket."""
    return isinstance(a.kind, FiltersAggregation) and a.kind.single


def _no_value_last(
    value: Callable[[Keyed], float | int], ascending: bool
) -> Callable[[Keyed], tuple[bool, float | int]]:
    """Return what rows are sorted by."""

    def key(row: Keyed) -> tuple[bool, float | int]:
        found = value(row)
        none = math.isnan(found)
        return none, 0 if none else found if ascending else -found

    return key


def _ends(known: Iterable[int], extended: tuple[Edge, Edge] | None, offset: int) -> tuple[Edge, Edge]:
    """Return the first and the last bucket that is shown; None: there is none."""
    low, high = (None if e is None else e + offset for e in extended or (None, None))
    keys = list(known)
    if not keys:
        return (low, high) if low is not None and high is not None else (None, None)
    first, last = min(keys), max(keys)
    return first if low is None else min(first, low), last if high is None else max(last, high)


def _chooser(k: TermsAggregation, kind: FieldKind | None) -> Callable[[Key], Work[bool]] | None:
    """Return whether a value is included and not excluded; None: all are."""

    def one(wanted: tuple[object, ...] | str, what: str) -> Callable[[Key], Work[bool]]:
        if isinstance(wanted, str):
            if kind != "keyword":
                raise SearchRefused(
                    f"Aggregation [{k.field}] cannot support regular expression style include/exclude settings as "
                    "they can only be applied to string fields. Use an array of values for include/exclude clauses"
                )
            pattern = Matcher(wanted)
            return lambda key: pattern.matches(str(key))
        try:
            values = {str(v) if kind == "keyword" else float(v) for v in wanted}  # type: ignore[arg-type]  # it may fail
        except (TypeError, ValueError) as e:
            raise SearchRefused(f"[{what}] of terms of [{k.field}] has a value that is no number") from e

        def among(key: Key) -> Work[bool]:
            yield from ()
            return key in values

        return among

    if k.include is None and k.exclude is None:
        return None
    included = one(k.include, "include") if k.include is not None else None
    excluded = one(k.exclude, "exclude") if k.exclude is not None else None

    def wanted(key: Key) -> Work[bool]:
        if included is not None and not (yield from included(key)):
            return False
        return excluded is None or not (yield from excluded(key))

    return wanted


def _text(shape: Shape) -> Callable[[Key], str | None]:
    """Return what writes keys as texts."""
    match shape.aggregation.kind:
        case DateHistogramAggregation() as k:
            printer = date_printer(k.format, k.time_zone)
            return lambda key: printer(float(key))
        case HistogramAggregation() as k if k.format is not None:
            write = number_printer(k.format)
            return lambda key: write(float(key))
        case HistogramAggregation():
            return lambda _: None
        case TermsAggregation() if shape.kind == "date":
            printer = date_printer(None, "UTC")
            return lambda key: printer(float(key))
        case FiltersAggregation() as f:
            names = [name for name, _ in f.filters] + ([f.other] if f.other is not None else [])
            return lambda key: names[int(key)]
        case RangesAggregation() as r:
            texts = [range_key(shape, r, key, low, high) for key, low, high in shape.ranges]
            return lambda key: texts[int(key)]
        case _:
            return lambda _: None


def range_key(shape: Shape, k: RangesAggregation, key: str | None, low: Edge, high: Edge) -> str:
    """Return the name of a range."""
    if key is not None:
        return key
    write = edge_printer(shape, k)
    return "-".join("*" if e is None else write(e) for e in (low, high))


def edge_printer(shape: Shape, k: RangesAggregation) -> Callable[[float], str]:
    """Return what writes an end of a range."""
    if k.of_dates or shape.kind == "date":
        return date_printer(k.format, k.time_zone)
    return number_printer(k.format) if k.format is not None else java_number
