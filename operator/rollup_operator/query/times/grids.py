"""The times at which buckets of a date histogram begin, and whether buckets of a job lie within them. Pure.

job      |---|---|---|---|---|---|---|---|
request  |-------|-------|-------|-------|     each bucket of the job lies in one bucket of the request: exact
request  |-----|-----|-----|-----|             one bucket of the job lies in two: nobody knows how to share it out
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

from rollup_operator.model.job import DateHistogramGroup
from rollup_operator.model.time_values import parse_time_zone
from rollup_operator.query.aggregations import DateHistogramAggregation
from rollup_operator.query.errors import SearchRefused
from rollup_operator.rollup.bounds import DAY, Bounds, Grid, Segment, periods

EARLIEST, LATEST = -62_103_801_600_000, 253_338_796_800_000
"""Times that can be asked for: the years 2 to 9997."""


def floor(bounds: Bounds, instant: int) -> int:
    """Return the edge at or before a time of a request: times beyond those that can be asked for count as these."""
    return bounds.round_down(max(EARLIEST, min(LATEST, instant)))


_FEW = 2
"""If so many following edges of one regular grid are edges of another, all of them are."""


@dataclass(frozen=True, slots=True)
class TimeGrid:
    """The buckets of a date histogram of a request: those of `bounds`, shifted."""

    bounds: Bounds
    offset: int = 0

    @classmethod
    def of(cls, histogram: DateHistogramAggregation) -> "TimeGrid":
        """Return the grid that a request asks for. Raises SearchRefused."""
        try:
            if histogram.fixed_ms is not None:
                bounds = Bounds(Grid(histogram.fixed_ms), periods(parse_time_zone(histogram.time_zone)))
            else:
                bounds = Bounds.of(
                    DateHistogramGroup.model_construct(
                        field=histogram.field,
                        fixed_interval=None,
                        calendar_interval=histogram.calendar_unit,  # type: ignore[arg-type]  # `Bounds.of` checks
                        delay=None,
                        time_zone=histogram.time_zone,
                    )
                )
        except ValueError as e:
            raise SearchRefused(str(e)) from e
        return cls(bounds, histogram.offset_ms)

    def round_down(self, instant: int) -> int:
        """Return the key of the bucket that holds `instant`."""
        return floor(self.bounds, instant - self.offset) + self.offset

    def next_edge(self, instant: int) -> int:
        """Return the first edge after `instant`."""
        return self.bounds.next_edge(instant - self.offset) + self.offset

    def segments(self, begin: int, end: int) -> tuple[Segment, ...]:
        """Cover [begin, end) in order, without gaps, in as few pieces as the zone's changes allow."""
        pieces: list[Segment] = []
        for s in self.bounds.segments(begin - self.offset, end - self.offset):
            key = None if s.key is None else s.key + self.offset
            piece = Segment(
                s.start + self.offset, s.end + self.offset, key, s.offset - self.offset, s.step, s.origin, s.unit
            )
            if pieces and (joined := _joined(pieces[-1], piece)) is not None:
                pieces[-1] = joined
            else:
                pieces.append(piece)
        return tuple(pieces)

    def splits(self, job: Bounds, begin: int, end: int) -> int | None:
        """Return an edge within a bucket of the job, of the buckets that begin in [begin, end); None: there is none."""
        if begin >= end:
            return None
        end = job.next_edge(end - 1)
        months = self.bounds.grid.step is None or job.grid.step is None
        if months and self.bounds.grid.step is not None and self.bounds.grid.step < 28 * DAY:
            edge = self.next_edge(begin)
            following = self.next_edge(edge)
            return next((e for e in (edge, following) if e < end and job.round_down(e) != e), None)
        for low, high in self._stretches(job, begin, end):
            edges = self._edges(low, high)
            for edge in edges if months else islice(edges, _FEW):
                if job.round_down(edge) != edge:
                    return edge
        return None

    def _edges(self, low: int, high: int) -> Iterator[int]:
        edge = self.next_edge(low - 1)
        while edge < high:
            yield edge
            edge = self.next_edge(edge)

    def _stretches(self, job: Bounds, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of [begin, end) in each of which both grids are regular, or have one bucket."""
        cuts = {begin, end}
        for segment in (*self.segments(begin, end), *job.segments(begin, end)):
            if begin < segment.start < end:
                cuts.add(segment.start)
        yield from pairwise(sorted(cuts))


def _joined(a: Segment, b: Segment) -> Segment | None:
    """Return one segment for two that follow each other; None: their keys are found in unlike ways."""
    if a.key is not None or b.key is not None or a.unit is not None or a.step is None:
        return None
    if (a.step, a.origin, b.unit) != (b.step, b.origin, None) or (a.offset - b.offset) % a.step:
        return None
    return Segment(a.start, b.end, None, a.offset, a.step, a.origin)
