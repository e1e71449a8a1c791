import zoneinfo
from collections import Counter
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollup_operator.model.job import DateHistogramGroup
from rollup_operator.rollup.bounds import Bounds, Segment, periods
from support.odd_clocks import INTERVALS, ODD_CLOCKS, buckets, times_around
from support.rounding import DAY, HOUR, MINUTE, changes, ms, round_fixed, round_long_unit, round_short_unit

UNITS = ["1m", "1h", "1d", "1w", "1M", "1q", "1y"]
FIXED = ["1ms", "250ms", "1s", "45m", "90m", "1h", "5h", "1d", "7d", "36h", "1000d"]
ZONES = [
    ("Europe/Berlin", 2024),
    ("America/New_York", 2024),
    ("Australia/Lord_Howe", 2024),
    ("America/Sao_Paulo", 2017),
    ("America/Havana", 2023),
    ("Africa/Casablanca", 2024),
    ("Asia/Beirut", 2022),
    ("Asia/Kathmandu", 2024),
    ("Pacific/Apia", 2011),
    ("Antarctica/Troll", 2023),
]


def bounds(zone: str, *, fixed: str | None = None, calendar: str | None = None, delay: str | None = None) -> Bounds:
    return Bounds.of(
        DateHistogramGroup(field="t", fixed_interval=fixed, calendar_interval=calendar, time_zone=zone, delay=delay)
    )


def around(zone: str, year: int) -> list[int]:
    """Instants around the changes of the clock, more of them close by, and some elsewhere."""
    out = [ms(f"{year}-06-15T12:34:56"), ms(f"{year}-12-31T23:59:59.999"), ms(f"{year}-01-01T00:00")]
    for change in changes(zone, year):
        out += [change + d for d in range(-5 * HOUR, 5 * HOUR, 11 * MINUTE)]
        out += [change + d * HOUR for d in range(-60, 60, 7)]
        out += [change - 1, change, change + 1]
    return out


@pytest.mark.parametrize(("zone", "year"), ZONES)
def test_fixed_intervals_round_as_the_long_way_round(zone: str, year: int) -> None:
    for text, step in {"40m": 40 * MINUTE, "1h": HOUR, "90m": 90 * MINUTE, "5h": 5 * HOUR, "7d": 7 * DAY}.items():
        b = bounds(zone, fixed=text)
        for t in around(zone, year):
            assert b.round_down(t) == round_fixed(t, step, zone), (text, datetime.fromtimestamp(t / 1000, UTC))


@pytest.mark.parametrize(("zone", "year"), ZONES)
def test_calendar_units_round_as_the_long_way_round(zone: str, year: int) -> None:
    for text, step in {"1m": MINUTE, "1h": HOUR}.items():
        b = bounds(zone, calendar=text)
        for t in around(zone, year):
            assert b.round_down(t) == round_short_unit(t, step, zone), (text, datetime.fromtimestamp(t / 1000, UTC))
    for unit in ("day", "week", "month", "quarter", "year"):
        b = bounds(zone, calendar=unit)
        for t in around(zone, year):
            assert b.round_down(t) == round_long_unit(t, unit, zone), (unit, datetime.fromtimestamp(t / 1000, UTC))


@pytest.mark.parametrize("zone", ODD_CLOCKS)
def test_odd_clocks_round_as_they_show(zone: str) -> None:
    times = times_around(zone)
    for interval in INTERVALS:
        b = bounds(zone, fixed=interval.get("fixedInterval"), calendar=interval.get("calendarInterval"))
        assert Counter(map(b.round_down, times)) == buckets(times, zone, interval), interval


class ShortSummer(tzinfo):
    """A clock that is an hour ahead for a week less an hour, as in Noronha in 2000."""

    def __init__(self, begin: datetime) -> None:
        self.begin, self.end = begin, begin + timedelta(days=7, hours=-1)

    def fromutc(self, dt: datetime) -> datetime:
        return dt + (self.utcoffset(dt) or timedelta())

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        if dt is None:
            return None
        return timedelta(hours=1 if self.begin <= dt.replace(tzinfo=None) < self.end else 0)

    def dst(self, dt: datetime | None) -> timedelta | None:
        return self.utcoffset(dt)

    def tzname(self, dt: datetime | None) -> str | None:
        return None


def test_a_summer_of_a_week_is_known_whenever_it_begins() -> None:
    for hour in range(0, 7 * 24, 5):
        begin = datetime(2000, 10, 8) + timedelta(hours=hour)
        found = periods(ShortSummer(begin))
        assert [p.offset for p in found] == [0, HOUR, 0], begin


def local(zone: str, edges: list[int]) -> list[str]:
    return [datetime.fromtimestamp(e / 1000, zoneinfo.ZoneInfo(zone)).strftime("%H:%M%z") for e in edges]


def day(zone: str, text: str, hours: int, **interval: str) -> list[str]:
    start = ms(text, zone)
    return local(zone, list(bounds(zone, **interval).edges(start, start + hours * HOUR)))


def test_the_hour_that_comes_twice_is_two_buckets() -> None:
    assert day("Europe/Berlin", "2024-10-27T01:00", 4, fixed="1h") == [
        "01:00+0200",
        "02:00+0200",
        "02:00+0100",
        "03:00+0100",
    ]


def test_ninety_minutes_over_the_hour_that_comes_twice_are_one_long_bucket() -> None:
    assert day("Europe/Berlin", "2024-10-27", 5, fixed="90m") == ["00:00+0200", "01:30+0200", "03:00+0100"]


def test_a_skipped_round_time_begins_a_bucket_at_the_change() -> None:
    assert day("Europe/Berlin", "2024-03-31", 3, fixed="40m")[2:5] == ["01:20+0100", "03:00+0200", "03:20+0200"]


def test_half_an_hour_of_lord_howe() -> None:
    zone = "Australia/Lord_Howe"
    assert day(zone, "2024-10-06T01:00", 2, fixed="1h") == ["01:00+1030", "02:30+1100", "03:00+1100"]
    assert day(zone, "2024-10-06T01:00", 2, calendar="1h") == ["01:00+1030", "03:00+1100"]
    assert day(zone, "2024-04-07T00:00", 3, calendar="1h") == ["00:00+1100", "01:00+1100", "02:00+1030"]


def test_a_day_without_midnight_begins_at_the_change() -> None:
    assert day("America/Sao_Paulo", "2017-10-14", 60, calendar="1d") == ["00:00-0300", "01:00-0200", "00:00-0200"]


def test_days_after_a_second_midnight_stay_contiguous() -> None:
    b = bounds("America/St_Johns", calendar="1d")
    second = ms("2010-11-06T23:30", "America/St_Johns", fold=1)
    assert b.round_down(second) == ms("2010-11-07T00:00", "America/St_Johns")


def test_offsets_are_zones() -> None:
    for zone in ("+05:30", "Asia/Kolkata"):
        assert bounds(zone, calendar="1d").round_down(ms("2024-01-01T20:00")) == ms("2024-01-01T18:30")
    assert bounds("Z", calendar="1M").round_down(ms("2024-02-29T23:59")) == ms("2024-02-01T00:00")


def test_weeks_begin_on_monday_and_quarters_in_january() -> None:
    assert bounds("UTC", calendar="1w").round_down(ms("1970-01-01T00:00")) == ms("1969-12-29T00:00")
    assert bounds("UTC", calendar="week").round_down(ms("2024-03-03T12:00")) == ms("2024-02-26T00:00")
    assert bounds("UTC", calendar="1q").round_down(ms("2024-06-30T12:00")) == ms("2024-04-01T00:00")


def test_a_run_ends_at_the_edge_before_now_minus_the_delay() -> None:
    now = datetime(2024, 1, 1, 12, 20, tzinfo=UTC)
    assert bounds("UTC", fixed="1h").upper(now) == ms("2024-01-01T12:00")
    assert bounds("UTC", fixed="1h", delay="30m").upper(now) == ms("2024-01-01T11:00")
    assert bounds("UTC", fixed="1h", delay="20m").upper(now) == ms("2024-01-01T12:00")


def test_what_cannot_be_a_bucket_names_its_field() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        bounds("Mars/Olympus", fixed="1h")
    with pytest.raises(ValueError, match=r"spec\.groups\.dateHistogram"):
        Bounds.of(DateHistogramGroup(field="t"))


def key(segment: Segment, instant: int) -> int | None:
    """What a store makes of a segment, for those that need no calendar."""
    if segment.key is not None:
        return segment.key
    if segment.step is None:
        return None
    shift = segment.offset - segment.origin
    return (instant + shift) // segment.step * segment.step - shift


@pytest.mark.parametrize(("zone", "year"), ZONES)
@pytest.mark.parametrize("interval", [*FIXED, *UNITS])
def test_segments_give_the_same_keys_around_changes(zone: str, year: int, interval: str) -> None:
    b = bounds(zone, calendar=interval) if interval in UNITS and interval != "1h" else bounds(zone, fixed=interval)
    segments = b.segments(ms(f"{year - 2}-01-01T00:00"), ms(f"{year + 2}-01-01T00:00"))
    for t in around(zone, year):
        (segment,) = [s for s in segments if s.start <= t < s.end]
        assert key(segment, t) in (None, b.round_down(t))


zone_names = st.sampled_from(sorted(zoneinfo.available_timezones() - {"localtime", "Factory"}))
any_bounds = st.one_of(
    st.builds(lambda z, i: bounds(z, fixed=i), zone_names, st.sampled_from(FIXED)),
    st.builds(lambda z, i: bounds(z, calendar=i), zone_names, st.sampled_from(UNITS)),
)
any_instant = st.integers(ms("1970-01-01T00:00"), ms("2060-01-01T00:00"))


@settings(deadline=None, max_examples=300)
@given(b=any_bounds, t=any_instant, near=st.integers(0, 40 * DAY))
def test_every_instant_is_in_exactly_one_bucket(b: Bounds, t: int, near: int) -> None:
    begin, end = b.round_down(t), b.next_edge(t)
    assert begin <= t < end
    assert b.round_down(begin) == begin
    assert b.round_down(end) == end
    assert b.round_down(end - 1) == begin
    assert b.next_edge(begin) == end
    assert b.round_down(t) <= b.round_down(t + near)


@settings(deadline=None, max_examples=200)
@given(b=any_bounds, start=any_instant, length=st.integers(1, 900 * DAY), parts=st.lists(st.floats(0, 1), max_size=20))
def test_segments_cover_a_range_and_give_the_same_keys(b: Bounds, start: int, length: int, parts: list[float]) -> None:
    end = start + length
    segments = b.segments(start, end)
    assert (segments[0].start, segments[-1].end) == (start, end)
    assert all(s.end == after.start for s, after in pairwise(segments))
    for s in segments:
        for t in {s.start, s.end - 1, *(s.start + int(p * (s.end - s.start - 1)) for p in parts)}:
            assert key(s, t) in (None, b.round_down(t))


@settings(deadline=None, max_examples=300)
@given(b=any_bounds, start=any_instant, parts=st.lists(st.floats(0, 1), min_size=5, max_size=20))
def test_steady_buckets_are_those_of_a_clock_that_is_never_changed(b: Bounds, start: int, parts: list[float]) -> None:
    edge, pieces = b.round_down(start), 0
    while edge < start + 700 * DAY:
        steady, pieces = b.steady(edge), pieces + 1
        assert steady.begin == edge < steady.end
        end = min(steady.end, start + 900 * DAY)
        for t in {edge, end - 1, *(edge + int(p * (end - edge - 1)) for p in parts)}:
            if steady.offset is None:
                assert b.round_down(t) == edge
            else:
                assert b.round_down(t) == b.grid.floor(t + steady.offset) - steady.offset
        edge = steady.end
        assert edge > start + 900 * DAY or b.round_down(edge) == edge
    assert pieces < 30


def test_where_the_clock_is_never_changed_all_buckets_are_steady() -> None:
    for zone in ("UTC", "+05:30"):
        b = bounds(zone, calendar="1M")
        steady = b.steady(b.round_down(ms("2024-02-01T00:00")))
        assert steady.offset is not None
        assert steady.end > ms("9999-01-01T00:00")
