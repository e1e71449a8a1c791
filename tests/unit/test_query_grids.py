"""Where buckets of time of a request begin, and whether a job's buckets lie within them."""

from datetime import datetime
from itertools import pairwise

import pytest

from rollup_operator.model.job import DateHistogramGroup
from rollup_operator.query.aggregations import DateHistogramAggregation
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.times.grids import TimeGrid
from rollup_operator.rollup.bounds import DAY, HOUR, MINUTE, Bounds

BEGIN, END = (round(datetime.fromisoformat(t).timestamp() * 1000) for t in ("2024-01-01T00:00Z", "2025-01-01T00:00Z"))


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def grid(fixed: int | None = None, unit: str | None = None, zone: str = "UTC", offset: int = 0) -> TimeGrid:
    return TimeGrid.of(DateHistogramAggregation("time", fixed, unit, zone, offset))


def job(interval: str, zone: str = "UTC") -> Bounds:
    key = "calendarInterval" if interval[-1] in "Mqy" or interval == "day" else "fixedInterval"
    return Bounds.of(DateHistogramGroup.model_validate({"field": "time", "timeZone": zone, key: interval}))


@pytest.mark.parametrize(
    ("asked", "of"),
    [
        (grid(HOUR), job("1h")),
        (grid(3 * HOUR), job("30m")),
        (grid(unit="1d"), job("1h")),
        (grid(unit="1d", zone="Europe/Berlin"), job("1h")),
        (grid(unit="1d", zone="Asia/Kolkata"), job("30m")),
        (grid(unit="1d", zone="Australia/Lord_Howe"), job("30m")),
        (grid(unit="1w"), job("1d")),
        (grid(14 * DAY), job("7d")),
        (grid(unit="1M", zone="America/New_York"), job("1h")),
        (grid(unit="1y"), job("1M")),
        (grid(unit="1q"), job("day")),
        (grid(DAY, offset=6 * HOUR), job("6h")),
        (grid(unit="1M", offset=5 * DAY), job("1d")),
    ],
)
def test_each_bucket_of_the_job_lies_in_one_that_is_asked_for(asked: TimeGrid, of: Bounds) -> None:
    assert asked.splits(of, of.round_down(BEGIN), of.round_down(END)) is None


@pytest.mark.parametrize(
    ("asked", "of", "edge"),
    [
        (grid(HOUR), job("6h"), at("2024-01-01T01:00Z")),
        (grid(9 * HOUR), job("6h"), at("2024-01-01T03:00Z")),
        (grid(unit="1d", zone="Asia/Kolkata"), job("1h"), at("2024-01-01T18:30Z")),
        # The clock of Berlin is two hours ahead from March 31st on: a day begins within a bucket of six hours then.
        (grid(unit="1d", zone="Europe/Berlin"), job("6h"), at("2024-01-01T23:00Z")),
        (grid(unit="1d", zone="Africa/Casablanca"), job("2h"), at("2024-01-01T23:00Z")),
        # Weeks of the calendar begin on Mondays, seven days since 1970 on Thursdays.
        (grid(unit="1w"), job("7d"), at("2024-01-01T00:00Z")),
        (grid(DAY), job("1M"), at("2024-01-02T00:00Z")),
        (grid(31 * DAY), job("1M"), at("2024-01-25T00:00Z")),
        (grid(unit="1q"), job("1y"), at("2024-04-01T00:00Z")),
        (grid(DAY, offset=HOUR), job("6h"), at("2024-01-01T01:00Z")),
        (grid(unit="1h", zone="Australia/Lord_Howe"), job("1h"), at("2024-04-06T15:30Z")),
    ],
)
def test_an_edge_within_a_bucket_of_the_job_is_found(asked: TimeGrid, of: Bounds, edge: int) -> None:
    found = asked.splits(of, of.round_down(BEGIN), of.round_down(END))
    assert found == edge
    assert of.round_down(edge) < edge


def test_only_the_buckets_that_are_read_count() -> None:
    """The clock of Berlin is ahead of UTC by one hour in winter, by two in summer: two hours fit in summer alone."""
    asked, of = grid(unit="1d", zone="Europe/Berlin"), job("2h")
    assert asked.splits(of, at("2024-05-01T00:00Z"), at("2024-06-01T00:00Z")) is None
    assert asked.splits(of, at("2024-05-01T00:00Z"), at("2024-12-01T00:00Z")) == at("2024-10-27T23:00Z")
    assert asked.splits(of, BEGIN, BEGIN) is None


def test_a_bucket_of_the_job_counts_up_to_its_end() -> None:
    """What is asked for may end within it."""
    assert grid(HOUR).splits(job("2h"), BEGIN, BEGIN + 1) == BEGIN + HOUR
    assert grid(12 * HOUR).splits(job("1M"), BEGIN, BEGIN + HOUR) == BEGIN + 12 * HOUR


@pytest.mark.parametrize("offset", [0, 90 * MINUTE, -5 * HOUR])
@pytest.mark.parametrize("unit", ["1d", "1M"])
def test_segments_give_the_keys_of_buckets(unit: str, offset: int) -> None:
    asked = grid(unit=unit, zone="Europe/Berlin", offset=offset)
    segments = asked.segments(BEGIN, END)
    assert (segments[0].start, segments[-1].end) == (BEGIN, END)
    assert all(a.end == b.start for a, b in pairwise(segments))
    edge = asked.round_down(BEGIN)
    while edge < END:
        following = asked.next_edge(edge)
        assert asked.round_down(following - 1) == edge
        edge = following


@pytest.mark.parametrize(
    ("asked", "pieces"),
    [
        (grid(HOUR, zone="Europe/Berlin"), 1),
        (grid(unit="1d"), 1),
        (grid(unit="1M"), 1),
        (grid(unit="1d", zone="Europe/Berlin"), 3),
    ],
)
def test_a_year_takes_as_few_segments_as_its_changes_of_the_clock_allow(asked: TimeGrid, pieces: int) -> None:
    kept = [s for s in asked.segments(BEGIN, END) if s.key is None]
    assert len(kept) == pieces


def test_a_zone_that_is_none_is_refused() -> None:
    with pytest.raises(SearchRefused, match="no time zone"):
        grid(HOUR, zone="Mars/Base")
