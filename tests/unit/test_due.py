"""What a run has to do, for a job that has come so far."""

from datetime import UTC, datetime
from typing import Any

import pytest

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.due import due, written_of
from support.embedded import spec, with_groups
from support.rounding import DAY, ms

NOW = datetime(2024, 3, 10, 12, 30, tzinfo=UTC)
BOUND = ms("2024-03-10T12:00")


def at(instant: str) -> dict[str, int]:
    return {"ts.date_histogram": ms(instant)}


def test_a_plain_job_reads_from_the_beginning_to_now() -> None:
    todo = due(spec(), NOW)
    assert todo.fresh == Span(0, BOUND)
    assert todo.again.empty
    assert todo.nothing is None


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        ("2024-03-01T00:00:00Z", "2024-03-02T00:00:00Z", "2024-03-01T00:00", "2024-03-02T00:00"),
        ("2024-03-01T00:00:00.001Z", "2024-03-01T23:00:00.001Z", "2024-03-01T01:00", "2024-03-02T00:00"),
        ("2024-03-01T00:00:00.0001Z", "2024-03-02T00:00:00+00:00", "2024-03-01T01:00", "2024-03-02T00:00"),
        ("2024-03-01T02:30:00+02:30", "2024-03-01t20:00:00-04:00", "2024-03-01T00:00", "2024-03-02T00:00"),
        ("2024-03-09T00:00:00Z", "2025-01-01T00:00:00Z", "2024-03-09T00:00", "2024-03-10T12:00"),
    ],
)
def test_a_bucket_counts_by_its_beginning(start: str, end: str, first: str, last: str) -> None:
    assert due(spec(start=start, end=end), NOW).fresh == Span(ms(first), ms(last))


def test_two_jobs_that_meet_share_no_bucket_and_leave_none_out() -> None:
    for interval in ("1h", "90m", "7d"):
        of = with_groups(spec(), fixedInterval=interval, timeZone="Europe/Berlin")
        for meet in ("2024-02-29T23:00:00Z", "2024-03-01T11:17:00Z"):
            before = due(changed(of, end=meet), NOW).fresh
            after = due(changed(of, start=meet), NOW).fresh
            assert before.end_ms == after.start_ms


@pytest.mark.parametrize(
    ("interval", "first"), [({"calendarInterval": "1w"}, 4 * DAY), ({"fixedInterval": "1h"}, 3_600_000)]
)
def test_a_bucket_that_1970_cuts_is_read_again_with_what_begins_in_1970(interval: dict[str, str], first: int) -> None:
    of = with_groups(spec(), **interval)
    assert written_of(of, at("2024-03-01T00:00"), [(0, 1)]) == [Span(0, first)]


def test_a_start_is_counted_in_the_zone() -> None:
    of = changed(with_groups(spec(), calendarInterval="1d", timeZone="Europe/Berlin"), start="2024-03-01T00:00:00Z")
    assert due(of, NOW).fresh.start_ms == ms("2024-03-01T23:00")


def test_a_start_does_not_count_once_something_is_written() -> None:
    todo = due(spec(start="2024-03-05T00:00:00Z"), NOW, position=at("2024-03-01T00:00"))
    assert todo.fresh == Span(0, BOUND)


def test_nothing_is_left_once_all_before_the_end_is_rolled_up() -> None:
    of = spec(end="2024-03-02T00:00:00Z")
    assert due(of, NOW, position=at("2024-03-01T10:00"), watermark_ms=ms("2024-03-01T11:00")).nothing is None
    done = due(of, NOW, position=at("2024-03-01T10:00"), watermark_ms=ms("2024-03-02T00:00"))
    assert done.nothing == "everything before 2024-03-02T00:00:00Z, which is spec.end, is rolled up"
    # Rows may still come late.
    assert due(changed(of, lookback="1d"), NOW, position=at("2024-03-01T10:00"), watermark_ms=BOUND).nothing is None


def test_a_start_to_come_is_reported() -> None:
    todo = due(spec(start="2024-03-10T12:00:00Z"), NOW)
    assert todo.nothing == "nothing is due before the bucket of 2024-03-10T12:00:00Z is over, as spec.start says"
    assert due(spec(start="2024-03-10T11:00:00Z"), NOW).nothing is None
    between = due(spec(start="2024-03-01T00:10:00Z", end="2024-03-01T00:20:00Z"), NOW)
    assert between.nothing == "no bucket begins between spec.start and spec.end"


def test_what_could_have_changed_since_the_last_run_is_looked_at_again() -> None:
    of = spec(lookback="6h")
    written = due(of, NOW, position=at("2024-03-10T09:00"), watermark_ms=ms("2024-03-10T10:00")).again
    assert written == Span(ms("2024-03-10T04:00"), ms("2024-03-10T10:00"))
    # However long the operator was away: what the last run left open is what counts.
    assert due(of, NOW, position=at("2024-03-01T09:00"), watermark_ms=ms("2024-03-01T10:00")).again == Span(
        ms("2024-03-01T04:00"), ms("2024-03-01T10:00")
    )


def test_looking_back_ends_where_writing_ended() -> None:
    of = spec(lookback="6h")
    gap = due(of, NOW, position=at("2024-03-10T06:00"), watermark_ms=ms("2024-03-10T10:00")).again
    assert gap == Span(ms("2024-03-10T04:00"), ms("2024-03-10T07:00"))  # what lies behind is new, and read as such
    assert due(of, NOW, position=at("2024-03-09T06:00"), watermark_ms=ms("2024-03-10T10:00")).again.empty


def test_a_halted_run_leaves_its_look_back_to_the_next_one() -> None:
    of = spec(lookback="6h")
    before = due(of, NOW, position=at("2024-03-08T09:00"), watermark_ms=ms("2024-03-08T10:00")).again
    # Halted while it looked back: neither position nor watermark has moved. Halted later: what it looked back at is
    # older than the lookback by now, or within the next one.
    later = due(of, NOW, position=at("2024-03-08T12:00"), watermark_ms=ms("2024-03-08T10:00")).again
    assert before.end_ms == ms("2024-03-08T10:00")
    assert later == Span(ms("2024-03-08T07:00"), ms("2024-03-08T13:00"))


def test_looking_back_keeps_within_the_jobs_bounds() -> None:
    of = spec(lookback="30d", start="2024-03-01T00:00:00Z", end="2024-03-08T00:00:00Z")
    todo = due(of, NOW, position=at("2024-03-09T00:00"), watermark_ms=ms("2024-03-09T01:00"))
    assert todo.again == Span(ms("2024-03-01T00:00"), ms("2024-03-08T00:00"))
    assert due(spec(lookback="30000d"), NOW, position=at("2024-03-01T00:00")).again.start_ms == 0


def test_nothing_is_looked_at_again_before_anything_is_written_or_without_a_lookback() -> None:
    assert due(spec(lookback="6h"), NOW, watermark_ms=BOUND).again.empty
    assert due(spec(), NOW, position=at("2024-03-10T09:00"), watermark_ms=BOUND).again.empty


def test_the_look_back_begins_with_a_whole_bucket() -> None:
    of = changed(with_groups(spec(), fixedInterval="1d"), lookback="1h")
    todo = due(of, NOW, position=at("2024-03-09T00:00"), watermark_ms=ms("2024-03-10T00:00"))
    assert todo.again == Span(ms("2024-03-09T00:00"), ms("2024-03-09T00:00") + DAY)


def changed(of: RollupJobSpec, **changes: Any) -> RollupJobSpec:
    return RollupJobSpec.model_validate({**of.model_dump(by_alias=True, exclude_none=True), **changes})
