"""Clocks that do not agree: what is refused, what a wrong record is good for, and what becomes of the rows."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rollup_operator.indexer.clocks import moment
from rollup_operator.kube.server_clock import ServerClock
from rollup_operator.model.conditions import Reason
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.due import due
from rollup_operator.stores.base import ClockReading
from rollup_operator.stores.errors import ClockSkewed
from support.embedded import Embedded, Row, agree, spec, truth, with_groups
from support.rounding import HOUR, hour, ms

ALLOWED = timedelta(minutes=5)
TRUE = datetime(2026, 1, 1, 9, 30, tzinfo=UTC)
AHEAD = datetime(2030, 1, 1, tzinfo=UTC)


def reads(at: datetime) -> ClockReading:
    return ClockReading("the cluster's", at)


def test_a_bound_that_the_other_clock_does_not_bear_out_is_refused_and_both_times_are_named() -> None:
    with pytest.raises(ClockSkewed) as refused:
        moment(spec(), AHEAD, reads(TRUE), ALLOWED)
    assert (refused.value.reason, refused.value.transient) == (Reason.CLOCK_SKEWED, True)
    text = str(refused.value)
    assert "the operator's clock reads 2030-01-01T00:00:00Z and the cluster's 2026-01-01T09:30:00Z" in text
    assert "Correct the clock that is wrong" in text
    assert "clock_skew_seconds (300)" in text


@pytest.mark.parametrize(
    ("now", "other", "refused"),
    [
        ("10:00:00", "09:56:00", False),  # within what is allowed
        ("10:00:00", "09:54:59", True),
        ("10:54:59", "09:55:00", False),  # the same bucket is the last one that is over
        ("10:00:00", "10:30:00", False),  # behind: the run is late, that is all
        ("00:00:00", "23:00:00", False),
    ],
)
def test_what_counts_is_whether_a_bucket_is_over(now: str, other: str, refused: bool) -> None:
    mine, theirs = (datetime.fromisoformat(f"2026-01-01T{time}+00:00") for time in (now, other))
    if refused:
        with pytest.raises(ClockSkewed):
            moment(spec(), mine, reads(theirs), ALLOWED)
    else:
        assert moment(spec(), mine, reads(theirs), ALLOWED).now == mine


def test_a_clock_that_is_ahead_does_no_harm_to_a_job_whose_end_is_past() -> None:
    assert moment(spec(end="2025-12-01T00:00:00Z"), AHEAD, reads(TRUE), ALLOWED).now == AHEAD
    with pytest.raises(ClockSkewed):
        moment(spec(end="2026-12-01T00:00:00Z"), AHEAD, reads(TRUE), ALLOWED)


def test_the_delay_counts_by_the_other_clock_too() -> None:
    late = with_groups(spec(), fixedInterval="1h", delay="7d")
    with pytest.raises(ClockSkewed):  # rows of the last seven days may still come
        moment(late, TRUE + timedelta(hours=2), reads(TRUE), ALLOWED)


def test_the_latest_time_is_that_of_the_clock_that_is_ahead() -> None:
    latest = ms("2026-01-01T09:35")
    assert moment(spec(), TRUE, reads(TRUE - timedelta(minutes=3)), ALLOWED).latest_ms == latest
    assert moment(spec(), TRUE - timedelta(days=9), reads(TRUE), ALLOWED).latest_ms == latest
    assert moment(spec(), TRUE, None, ALLOWED).latest_ms == latest


# A record that was written by a clock that was ahead

LATEST = ms("2026-01-01T12:05")
NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def position(instant: str) -> dict[str, int]:
    return {"ts.date_histogram": ms(instant)}


def test_a_watermark_in_the_future_is_not_believed_and_the_newest_buckets_are_read_again() -> None:
    todo = due(
        spec(), NOON, position=position("2026-01-01T09:00"), watermark_ms=ms("2030-01-01T00:00"), latest_ms=LATEST
    )
    assert todo.watermark_ms is None
    assert todo.again == Span(ms("2026-01-01T09:00"), ms("2026-01-01T10:00"))
    assert todo.doubt == (
        "the recorded watermark 2030-01-01T00:00:00Z lies in the future, so it was written by a clock that was ahead: "
        "it is replaced, and the buckets from 2026-01-01T09:00:00Z on are read again"
    )


def test_as_many_buckets_are_read_again_as_rows_may_be_late() -> None:
    late = with_groups(spec(), fixedInterval="1h", delay="3h")
    todo = due(late, NOON, position=position("2026-01-01T09:00"), watermark_ms=ms("2030-01-01T00:00"), latest_ms=LATEST)
    assert todo.again == Span(ms("2026-01-01T06:00"), ms("2026-01-01T09:00"))  # up to the bound, which is 09:00
    back = spec(lookback="6h")
    todo = due(back, NOON, position=position("2026-01-01T09:00"), watermark_ms=ms("2030-01-01T00:00"), latest_ms=LATEST)
    assert todo.again == Span(ms("2026-01-01T04:00"), ms("2026-01-01T10:00"))


def test_a_watermark_within_what_is_allowed_is_believed() -> None:
    todo = due(spec(), NOON, position=position("2026-01-01T09:00"), watermark_ms=LATEST, latest_ms=LATEST)
    assert (todo.watermark_ms, todo.doubt) == (LATEST, None)
    assert todo.again.empty


def test_a_job_is_not_complete_by_a_watermark_in_the_future() -> None:
    until = spec(end="2026-06-01T00:00:00Z")
    reached = ms("2026-06-01T00:00")
    todo = due(until, NOON, position=position("2026-01-01T09:00"), watermark_ms=reached, latest_ms=LATEST)
    assert todo.nothing is None
    assert due(until, AHEAD, position=position("2026-01-01T09:00"), watermark_ms=reached).nothing is not None


def test_a_position_in_the_future_leaves_what_is_new_to_looking_back() -> None:
    ahead = position("2028-01-01T00:00")
    first = due(spec(), NOON, position=ahead, watermark_ms=ms("2030-01-01T00:00"), latest_ms=LATEST)
    assert first.again == Span(0, ms("2026-01-01T12:00"))
    later = due(
        spec(), NOON + timedelta(hours=3), position=ahead, watermark_ms=first.fresh.end_ms, latest_ms=LATEST + 3 * HOUR
    )
    assert later.again == Span(ms("2026-01-01T12:00"), ms("2026-01-01T15:00"))
    assert later.doubt == (
        "the recorded position 2028-01-01T00:00:00Z lies in the future: until then runs read what is new by looking "
        "back"
    )
    looking = due(spec(lookback="2h"), NOON, position=ahead, watermark_ms=ms("2026-01-01T11:00"), latest_ms=LATEST)
    assert looking.again == Span(ms("2026-01-01T09:00"), ms("2026-01-01T12:00"))


# Runs over real files

START = ms("2026-01-01T00:00")


def at(instant: int) -> datetime:
    return datetime.fromtimestamp(instant / 1000, UTC)


def minutes(first: int, count: int) -> list[Row]:
    return [(START + minute * 60_000, float(minute), "a", 1) for minute in range(first, first + count)]


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    return Embedded(tmp_path, clock_skew=ALLOWED)


async def test_a_run_by_a_clock_that_is_far_ahead_writes_nothing_and_moves_nothing(embedded: Embedded) -> None:
    embedded.now, embedded.other_clock = at(START + 9 * HOUR), reads(at(START + 9 * HOUR))
    embedded.write("rows", rows := minutes(0, 570))
    before = await embedded.completed()
    embedded.now = AHEAD
    result = await embedded.run()
    assert (result.outcome, result.released) == ("Failed", None)
    assert isinstance(result.error, ClockSkewed)
    assert result.claim is None  # the record was not even claimed
    embedded.now = at(START + 11 * HOUR)
    embedded.other_clock = reads(embedded.now)
    embedded.write("rows", rows := rows + minutes(570, 130))
    after = await embedded.completed()
    assert before.watermark_ms == START + 9 * HOUR
    assert after.watermark_ms == START + 11 * HOUR
    agree(embedded.documents(), truth(rows, hour, below=START + 11 * HOUR))


async def rolled_ahead(embedded: Embedded, rows: list[Row]) -> None:
    """Run as earlier releases did while the clock was ahead."""
    embedded.clock_skew, embedded.now = None, AHEAD
    embedded.write("rows", rows)
    claim = await embedded.completed()
    assert claim.watermark_ms == ms("2030-01-01T00:00")
    embedded.clock_skew = ALLOWED


@pytest.mark.parametrize("other", [True, False])
async def test_what_a_clock_that_was_ahead_wrote_is_set_right_by_the_next_run(embedded: Embedded, other: bool) -> None:
    await rolled_ahead(embedded, rows := minutes(0, 570))
    embedded.write("rows", rows := rows + minutes(570, 130))
    embedded.now = at(START + 11 * HOUR + 40 * 60_000)
    embedded.other_clock = reads(embedded.now) if other else None
    result = await embedded.run()
    assert result.claim is not None
    assert result.claim.watermark_ms == START + 11 * HOUR
    assert "the recorded watermark 2030-01-01T00:00:00Z lies in the future" in result.message
    agree(embedded.documents(), truth(rows, hour, below=START + 11 * HOUR))
    again = await embedded.run()
    assert "lies in the future" not in again.message
    assert again.rewritten == 0


async def test_rows_are_rolled_up_although_a_clock_that_was_ahead_left_the_position_beyond_them(
    embedded: Embedded,
) -> None:
    stray: Row = (ms("2028-01-01T00:00"), 1.0, "a", 1)
    await rolled_ahead(embedded, rows := [*minutes(0, 570), stray])
    for passed in (11, 12, 14):
        embedded.write("rows", rows := [*minutes(0, passed * 60 + 40), stray])
        embedded.now = at(START + passed * HOUR + 40 * 60_000)
        result = await embedded.run()
        assert result.claim is not None
        assert result.claim.watermark_ms == START + passed * HOUR
        assert "the recorded position 2028-01-01T00:00:00Z lies in the future" in result.message
        expected = truth(rows, hour, below=START + passed * HOUR) | truth([stray], hour)
        agree(embedded.documents(), expected)


async def test_a_clock_that_is_behind_makes_a_run_late_and_loses_nothing(embedded: Embedded) -> None:
    embedded.now, embedded.other_clock = at(START + 11 * HOUR), reads(at(START + 11 * HOUR))
    embedded.write("rows", rows := minutes(0, 700))
    await embedded.completed()
    embedded.now = datetime(2020, 1, 1, tzinfo=UTC)
    behind = await embedded.completed()
    assert behind.watermark_ms == START + 11 * HOUR
    embedded.now = at(START + 12 * HOUR)
    embedded.other_clock = reads(embedded.now)
    embedded.write("rows", rows := rows + minutes(700, 60))
    assert (await embedded.completed()).watermark_ms == START + 12 * HOUR
    agree(embedded.documents(), truth(rows, hour, below=START + 12 * HOUR))


# The API server's clock


def test_the_api_servers_clock_goes_on_between_its_answers() -> None:
    elapsed = 100.0
    clock = ServerClock(lambda: elapsed)
    assert clock.now() is None
    clock.saw(None)
    assert clock.now() is None
    clock.saw("Thu, 01 Jan 2026 09:30:00 GMT")
    assert clock.now() == TRUE
    elapsed += 90
    assert clock.now() == TRUE + timedelta(seconds=90)
    clock.saw("Thu, 01 Jan 2026 09:29:00 GMT")
    assert clock.now() == TRUE - timedelta(seconds=60)
    clock.saw("yesterday")
    assert clock.now() is None
