"""Where buckets begin and end: the one implementation for all stores, following Elasticsearch's rounding. Pure.

Instants and bucket keys are UTC, in epoch milliseconds. A bucket goes from its edge to the next one. An instant is an
edge if the clock of the zone shows a round time there: a multiple of a fixed interval counted from 1970-01-01T00:00
on that clock, or the beginning of a calendar unit. Where the clock changes:

- a round time that is skipped makes the instant of the change an edge, except for minutes and hours of the calendar:
  their bucket before the change continues;
- a round time that occurs twice makes two edges, except for days and longer units: they begin once, the first time.

The edges of a fixed interval of 2 h, in Berlin; the same scale in UTC on all three days:

    no change              00:00 ──────────── 02:00 ──────────── 04:00 ──────────── 06:00
    02:00 becomes 03:00    00:00 ──────────── 03:00 ── 04:00 ──────────── 06:00             02:00 is skipped: an edge
    03:00 becomes 02:00    00:00 ──────────── 02:00 ── 02:00 ──────────── 04:00             02:00 comes twice: two edges

Buckets are contiguous. Elasticsearch's own rounding, compared at every change of 34 clocks, differs in two cases.
Where a clock set back at midnight returns to the day before (St. John's until 2011), Elasticsearch counts the
following time under that day again. Where a clock moves by a part of an hour (Lord Howe, Chatham), it puts calendar
hours that the change cuts into a bucket of months before; here they stay in order. So no store rounds by itself
across a change: see `Bounds.steady` and `Bounds.segments`.
"""

import calendar
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import pairwise

from rollup_operator.model.job import DateHistogramGroup
from rollup_operator.model.time_values import epoch_ms, parse_time_value, parse_time_zone

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_FIRST_YEAR, _LAST_YEAR = 1968, 2101
"""Clock changes are known in between; before and after, the nearest offset counts."""
_STRIDE = 5 * DAY // SECOND
"""No zone has changed its clock there and back within six days since 1968; within a week, Noronha has."""
_EVER = 2**62

_UNITS = {
    "minute": "1m",
    "hour": "1h",
    "day": "1d",
    "week": "1w",
    "month": "1M",
    "quarter": "1q",
    "year": "1y",
}
_MONTHS = {"1M": 1, "1q": 3, "1y": 12}
_TRUNCATE = {"1M": "month", "1q": "quarter", "1y": "year"}
_MONDAY = -3 * DAY
"""The Monday of the week of 1970-01-01."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time between two edges of buckets, [start_ms, end_ms), in epoch milliseconds."""

    start_ms: int
    end_ms: int

    @property
    def empty(self) -> bool:
        """Whether no bucket lies in it."""
        return self.start_ms >= self.end_ms


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time with one offset from UTC: [start, end)."""

    start: int
    end: int
    offset: int


LONGEST = 3_652_500 * DAY
"""Of fixed intervals: ten thousand years, which is more than all times that there are."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The round times of a clock. Values are that clock's reading as milliseconds since 1970-01-01T00:00 on it."""

    step: int | None
    """Milliseconds between two round times; None: `months` counts."""
    months: int = 0
    origin: int = 0
    midnight: bool = False
    """Days and longer units: a round time counts the first time only."""
    skipped_counts: bool = True
    """Whether a skipped round time makes an edge."""

    def floor(self, local: int) -> int:
        """Return the last round time that is not after `local`."""
        if self.step is not None:
            return (local - self.origin) // self.step * self.step + self.origin
        day = date(1970, 1, 1) + timedelta(days=local // DAY)
        return _month_start(day.year * 12 + (day.month - 1) // self.months * self.months)

    def after(self, rounded: int) -> int:
        """Return the round time that follows the round time `rounded`."""
        if self.step is not None:
            return rounded + self.step
        day = date(1970, 1, 1) + timedelta(days=rounded // DAY)
        return _month_start(day.year * 12 + day.month - 1 + self.months)


@dataclass(frozen=True, slots=True)
class Segment:
    """How to find the key of an instant in [start, end), for a store that computes it.

    It is `key` where that is given, else the clock's reading (instant + `offset`) floored to a multiple of `step` from
    `origin`, or to the beginning of `unit`, minus `offset`.
    """

    start: int
    end: int
    key: int | None
    offset: int = 0
    step: int | None = None
    origin: int = 0
    unit: str | None = None
    """month, quarter or year."""


@dataclass(frozen=True, slots=True)
class Steady:
    """Whole buckets from an edge on that a clock without changes has, too; or one bucket that no such clock has.

    For a store that rounds by itself: it need not know clock changes, and may even have them wrong.
    """

    begin: int
    end: int
    offset: int | None
    """The offset of that clock from UTC, in milliseconds; None: [begin, end) is one bucket."""


@dataclass(frozen=True)
class Bounds:
    """The buckets of a date histogram."""

    grid: Grid
    periods: tuple[Period, ...]
    delay_ms: int = 0

    @classmethod
    def of(cls, group: DateHistogramGroup) -> "Bounds":
        """Read the group. Raises ValueError that names the field."""
        zone = parse_time_zone(group.time_zone)
        delay = parse_time_value(group.delay, "delay").milliseconds if group.delay is not None else 0
        return cls(_grid(group), periods(zone), max(0, int(delay)))

    def upper(self, now: datetime, hold_ms: int = 0) -> int:
        """Return where a run at `now` ends, exclusive: the last edge at or before now - max(delay, `hold_ms`)."""
        return self.round_down(epoch_ms(now) - max(self.delay_ms, hold_ms))

    def round_down(self, instant: int) -> int:
        """Return the key of the bucket that holds `instant`: the last edge that is not after it."""
        i = self._period(instant)
        while True:
            p = self.periods[i]
            edge = self.grid.floor(instant + p.offset) - p.offset
            if edge >= p.start and not self._again(i, edge):
                return edge
            if self._skips(i):
                return p.start
            i, instant = i - 1, p.start - 1

    def next_edge(self, instant: int) -> int:
        """Return the first edge after `instant`."""
        i = self._period(instant)
        p = self.periods[i]
        rounded = self.grid.after(self.grid.floor(instant + p.offset))
        while True:
            while (edge := rounded - p.offset) < p.end:
                if not self._again(i, edge):
                    return edge
                rounded = self.grid.after(rounded)
            i += 1
            p = self.periods[i]
            if self._skips(i):
                return p.start
            rounded = self.grid.floor(p.start + p.offset)
            if rounded - p.offset < p.start:
                rounded = self.grid.after(rounded)

    def edges(self, start: int, end: int) -> Iterator[int]:
        """Yield the edges in [start, end)."""
        edge = self.next_edge(start - 1)
        while edge < end:
            yield edge
            edge = self.next_edge(edge)

    def steady(self, edge: int) -> Steady:
        """Return the buckets from `edge` up to about the next change of the clock."""
        p = self.periods[self._period(edge)]
        reading, following = edge + p.offset, self.next_edge(edge)
        if self.grid.floor(reading) != reading or self.grid.after(reading) - p.offset < following or following > p.end:
            return Steady(edge, following, None)
        if p.end == _EVER:
            return Steady(edge, _EVER, p.offset)
        last = self.round_down(p.end - 1)
        return Steady(edge, p.end if self.next_edge(last) == p.end else last, p.offset)

    def segments(self, start: int, end: int) -> list[Segment]:
        """Cover [start, end) without gaps or overlaps, in order; as few pieces as the zone's changes allow."""
        pieces: list[Segment] = []
        for i in range(self._period(start), len(self.periods)):
            p = self.periods[i]
            if p.start >= end:
                break
            low, high = max(start, p.start), min(end, p.end)
            first = self.next_edge(low - 1)
            if self.grid.floor(first + p.offset) != first + p.offset:  # a skipped round time
                first = self.next_edge(first)
            first = min(high, first)
            if first > low:
                pieces.append(Segment(low, first, key=self.round_down(low)))
            if high > first:
                g = self.grid
                unit = None if g.step is not None else _TRUNCATE[next(u for u, m in _MONTHS.items() if m == g.months)]
                pieces.append(Segment(first, high, None, p.offset, g.step, g.origin, unit))
        return pieces

    def _period(self, instant: int) -> int:
        return bisect_right(self.periods, instant, key=lambda p: p.start) - 1

    def _skips(self, i: int) -> bool:
        """Whether the clock jumps over a round time at the beginning of period `i`."""
        if i == 0 or not self.grid.skipped_counts:
            return False
        before, p = self.periods[i - 1], self.periods[i]
        skipped_from, skipped_to = p.start + before.offset, p.start + p.offset
        return skipped_to > skipped_from and self.grid.floor(skipped_to - 1) >= skipped_from

    def _again(self, i: int, edge: int) -> bool:
        """Whether the clock showed this time before the change that begins period `i`, and only that one counts."""
        return (
            self.grid.midnight
            and i > 0
            and edge + self.periods[i].offset < self.periods[i].start + self.periods[i - 1].offset
        )


def _grid(group: DateHistogramGroup) -> Grid:
    if group.fixed_interval is not None:
        step = parse_time_value(group.fixed_interval, "date_histogram.FixedInterval").milliseconds
        if step < 1 or step != int(step):
            raise ValueError(
                f"spec.groups.dateHistogram.fixedInterval is {group.fixed_interval!r}: use 1ms or a multiple of it"
            )
        if step > LONGEST:
            raise ValueError(
                f"spec.groups.dateHistogram.fixedInterval is {group.fixed_interval!r}: it is at most {LONGEST // DAY}d"
            )
        return Grid(int(step))
    unit = _UNITS.get(group.calendar_interval or "", group.calendar_interval)
    match unit:
        case "1m":
            return Grid(MINUTE, skipped_counts=False)
        case "1h":
            return Grid(HOUR, skipped_counts=False)
        case "1d":
            return Grid(DAY, midnight=True)
        case "1w":
            return Grid(7 * DAY, origin=_MONDAY, midnight=True)
        case "1M" | "1q" | "1y":
            return Grid(None, months=_MONTHS[unit], midnight=True)
    raise ValueError("spec.groups.dateHistogram: exactly one of fixedInterval and calendarInterval must be set")


def _month_start(months: int) -> int:
    """Return the reading at the beginning of a month, given as months since the year 0."""
    return calendar.timegm((months // 12, months % 12 + 1, 1, 0, 0, 0)) * SECOND


@lru_cache(maxsize=256)
def periods(zone: tzinfo) -> tuple[Period, ...]:
    """Return the stretches of constant offset of `zone`, covering all time."""

    def offset(second: int) -> int:
        shift = datetime.fromtimestamp(second, zone).utcoffset() or timedelta()
        return round(shift.total_seconds()) * SECOND

    first = calendar.timegm((_FIRST_YEAR, 1, 1, 0, 0, 0))
    last = calendar.timegm((_LAST_YEAR, 1, 1, 0, 0, 0))
    offsets = [offset(first)]
    changes: list[int] = []
    if zone.utcoffset(None) is None:  # a fixed offset knows itself without a date
        for low, high in pairwise(range(first, last, _STRIDE)):
            if (after := offset(high)) != offsets[-1]:
                changes.append(_change(low, high, offset) * SECOND)
                offsets.append(after)
    starts = [-_EVER, *changes]
    ends = [*changes, _EVER]
    return tuple(Period(*p) for p in zip(starts, ends, offsets, strict=True))


def _change(low: int, high: int, offset: Callable[[int], int]) -> int:
    """Return the first second in (low, high] with another offset than `low` has."""
    before = offset(low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset(middle) == before else (low, middle)
    return high
