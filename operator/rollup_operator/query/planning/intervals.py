"""The next longer interval of a chart that buckets of jobs make up, where the one asked for would cut them. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rollup_operator.query.aggregations import Aggregation, DateHistogramAggregation
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.planning.rolled import FinerThanTheJob, Rolled
from rollup_operator.query.reading.request import SearchRequest
from rollup_operator.query.times.formats import interval_text
from rollup_operator.query.times.grids import TimeGrid
from rollup_operator.rollup.bounds import DAY, Bounds

Refusals = Sequence[tuple[Rolled, SearchRefused]]
"""Jobs that cannot answer, the coarsest first, and why."""

_MONTH = 30 * DAY
_UNITS = (("1M", 1), ("1q", 3), ("1y", 12))


def widened(request: SearchRequest, refusals: Refusals) -> Iterator[SearchRequest]:
    """Yield the request with intervals that the finest job's buckets make up, by its own clock first.

    One interval for the whole answer: fine buckets beside coarse ones would make rates and stacks wrong.
    """
    finer = [rolled for rolled, e in refusals if isinstance(e, FinerThanTheJob)]
    for zone in (None, finer[-1].tier.spec.groups.date_histogram.time_zone) if finer else ():
        yield replace(request, aggregations=tuple(_coarser(a, finer[-1], zone) for a in request.aggregations))


def _coarser(a: Aggregation, rolled: Rolled, zone: str | None) -> Aggregation:
    subs = tuple(_coarser(s, rolled, zone) for s in a.subs)
    kind = a.kind
    if isinstance(kind, DateHistogramAggregation) and kind.field == rolled.date:
        asked, clock = kind.fixed_ms or _calendar_ms(kind), zone or kind.time_zone
        step, months = rolled.bounds.grid.step, rolled.bounds.grid.months
        if step is None:
            unit = next((u for u, n in _UNITS if n % months == 0 and n * _MONTH >= asked), None)
            if unit is not None:
                kind = replace(kind, fixed_ms=None, calendar_unit=unit, time_zone=clock)
        elif kind.fixed_ms is not None or asked < step:
            kind = replace(kind, fixed_ms=-(-asked // step) * step, calendar_unit=None, time_zone=clock)
    return replace(a, kind=kind, subs=subs)


def changed_intervals(aggregations: Iterable[Aggregation], asked: Iterable[Aggregation]) -> Iterator[str]:
    """Yield the intervals that differ from those asked for, as an answer writes them."""
    for a, b in zip(aggregations, asked, strict=True):
        if isinstance(a.kind, DateHistogramAggregation) and a.kind != b.kind:
            yield interval_text(a.kind.fixed_ms) if a.kind.fixed_ms is not None else a.kind.calendar_unit or ""
        yield from changed_intervals(a.subs, b.subs)


def length(bounds: Bounds) -> int:
    """Return about how long the buckets are, in milliseconds."""
    return bounds.grid.step or bounds.grid.months * _MONTH


def _calendar_ms(kind: DateHistogramAggregation) -> int:
    return length(TimeGrid.of(kind).bounds)
