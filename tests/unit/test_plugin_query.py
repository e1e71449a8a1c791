"""How the data of a job is asked for on the command line, and shown."""

from typing import Any

import pytest

from rollup_operator.plugin.outcome import Failure
from rollup_operator.plugin.query import Question, chart, lines, notes, nothing_found, written

DAY = 86_400_000


def test_a_question_becomes_a_search() -> None:
    asked = Question(("avg:delay", "count"), ("carrier",), "1d", last="30d", where="origin:JFK", zone="Europe/Berlin")
    assert asked.body("at") == {
        "size": 0,
        "track_total_hits": True,
        "query": {
            "bool": {
                "filter": [
                    {"range": {"at": {"gte": "now-30d", "time_zone": "Europe/Berlin"}}},
                    {"query_string": {"query": "origin:JFK"}},
                ]
            }
        },
        "aggs": {
            "time": {
                "date_histogram": {"field": "at", "fixed_interval": "1d", "time_zone": "Europe/Berlin"},
                "aggs": {
                    "by0": {
                        "terms": {"field": "carrier", "size": 1_000, "order": {"_key": "asc"}},
                        "aggs": {"m0": {"avg": {"field": "delay"}}},
                    }
                },
            }
        },
    }


@pytest.mark.parametrize(("interval", "kind"), [("1M", "calendar_interval"), ("90m", "fixed_interval")])
def test_months_are_those_of_the_calendar(interval: str, kind: str) -> None:
    assert Question(interval=interval).body("at")["aggs"]["time"]["date_histogram"][kind] == interval


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (Question(("avg",)), "--metric 'avg': write count, or one of avg:FIELD"),
        (Question(("median:x",)), "--metric 'median:x'"),
        (Question(interval="fortnight"), "--interval 'fortnight': write a number and ms, s, m, h or d"),
        (Question(interval="2M"), "--interval '2M': .* a unit of the calendar: 1w, 1M, 1q, 1y"),
        (Question(last="1d", end="now"), "give --last, or --from and --to, not both"),
    ],
)
def test_what_cannot_be_asked_is_a_mistake_of_the_command_line(asked: Question, why: str) -> None:
    with pytest.raises(Failure, match=why):
        asked.body("at")


ANSWERED: dict[str, Any] = {
    "hits": {"total": {"value": 60, "relation": "eq"}},
    "aggregations": {
        "time": {
            "buckets": [
                {"key": 0, "doc_count": 10, "m0": {"value": 2.5}},
                {"key": DAY, "doc_count": 20, "m0": {"value": -5.0}},
                {"key": 2 * DAY, "doc_count": 0, "m0": {"value": None}},
                {"key": 3 * DAY, "doc_count": 30, "m0": {"value": None}},
            ]
        }
    },
    "_rollup": {
        "jobs": [{"from": "1970-01-01T00:00:00.000Z", "to": "1970-01-02T12:00:00.000Z"}],
        "interval": "1d",
        "rounded": [{"field": "at", "time": "1970-01-01T05:00:00.000Z", "begins": "1970-01-01T00:00:00.000Z"}],
    },
}
DELAYS = Question(("avg:delay", "count"), interval="1d")


def test_what_is_rolled_up_and_what_is_live_is_told_apart() -> None:
    assert [(line.keys, line.numbers, line.data) for line in lines(DELAYS, ANSWERED)] == [
        ((0,), (2.5, 10), "rolled"),
        ((DAY,), (-5.0, 20), "both"),
        ((3 * DAY,), (None, 30), "live"),
    ]


@pytest.mark.parametrize(
    ("counts", "data"),
    [
        ({0: 1, 1: 0, 2: 0, 3: 5}, ["rolled", "live"]),  # only empty buckets between
        ({0: 1}, ["rolled"]),
        ({1: 1}, ["both"]),  # half of a day is rolled up
        ({2: 1}, ["live"]),
    ],
)
def test_a_buckets_data_does_not_depend_on_its_neighbors(counts: dict[int, int], data: list[str]) -> None:
    buckets = [{"key": day * DAY, "doc_count": count} for day, count in counts.items()]
    answered = {
        "hits": {"total": {"value": sum(counts.values()), "relation": "eq"}},
        "aggregations": {"time": {"buckets": buckets}},
        "_rollup": {"jobs": [{"from": "1970-01-01T00:00:00.000Z", "to": "1970-01-02T12:00:00.000Z"}]},
    }
    assert [line.data for line in lines(Question(interval="1d"), answered)] == data


@pytest.mark.parametrize(("whole", "data"), [(True, "rolled"), (False, "both")])
def test_the_bucket_in_which_the_data_begins_is_rolled_unless_the_job_has_a_start(whole: bool, data: str) -> None:
    answered = {
        "hits": {"total": {"value": 1, "relation": "eq"}},
        "aggregations": {"time": {"buckets": [{"key": 0, "doc_count": 1}]}},
        "_rollup": {"jobs": [{"from": "1970-01-01T05:00:00.000Z", "to": "1970-01-02T12:00:00.000Z"}]},
    }
    assert [line.data for line in lines(Question(interval="1d"), answered, whole=whole)] == [data]


def test_an_empty_answer_says_where_to_look() -> None:
    none = {"hits": {"total": {"value": 0, "relation": "eq"}}, "aggregations": {"time": {"buckets": []}}}
    months = lines(Question(interval="1M"), none)
    assert list(nothing_found(months, {"watermark": "2014-01-01T00:00:00Z"})) == [
        "no documents match. Of this job, everything before 2014-01-01T00:00:00Z is rolled up; "
        "check the time range (--last, --from, --to) and --where"
    ]
    assert "nothing is rolled up yet" in next(nothing_found(lines(Question(), none), {}))
    assert chart(Question(interval="1M"), months) == []
    assert list(nothing_found(lines(DELAYS, ANSWERED), {})) == []


def test_csv_has_the_numbers_in_full() -> None:
    assert written(DELAYS, lines(DELAYS, ANSWERED)) == (
        "TIME,avg:delay,count,DATA\n1970-01-01T00:00:00Z,2.5,10,rolled\n1970-01-02T00:00:00Z,-5.0,20,both\n"
        "1970-01-04T00:00:00Z,,30,live\n"
    )


@pytest.mark.parametrize("time", [1_700_000_000_000_000, -62_135_596_800_001, 2**63 - 1])
def test_a_time_that_no_calendar_has_is_a_number(time: int) -> None:
    """A row with microseconds for milliseconds is in a bucket of its own."""
    answered = {
        "hits": {"total": {"value": 1}},
        "aggregations": {"time": {"buckets": [{"key": time, "doc_count": 1, "m0": {"value": 2.0}}]}},
    }
    found = lines(DELAYS, answered)
    assert written(DELAYS, found).splitlines()[1] == f"{time},2.0,1,live"
    assert chart(DELAYS, found)[0] == f"{time}  {'░' * 40} 2"


def test_a_chart_has_a_bar_for_each_bucket() -> None:
    assert chart(DELAYS, lines(DELAYS, ANSWERED)) == [
        f"1970-01-01T00:00:00Z  {'█' * 20} 2.5",
        f"1970-01-02T00:00:00Z  {'▒' * 40} -5",
        "1970-01-04T00:00:00Z   -",
        "",
        "avg:delay: █ rolled, ░ live, ▒ both",
    ]


def test_without_an_interval_all_time_is_one_line() -> None:
    total = {"hits": {"total": {"value": 7, "relation": "eq"}}, "aggregations": {}}
    assert [(line.keys, line.numbers, line.data) for line in lines(Question(), total)] == [((), (7,), "live")]


def test_values_are_lines_of_their_own() -> None:
    by_carrier = {
        "hits": {"total": {"value": 3, "relation": "eq"}},
        "aggregations": {"by0": {"buckets": [{"key": "AA", "doc_count": 1}, {"key": "WN", "doc_count": 2}]}},
    }
    assert [(line.keys, line.numbers) for line in lines(Question(by=("carrier",)), by_carrier)] == [
        (("AA",), (1,)),
        (("WN",), (2,)),
    ]


def test_what_was_rounded_is_said() -> None:
    assert notes(ANSWERED) == [
        "the interval is 1d: what is rolled up has no shorter one",
        "1970-01-01T05:00:00.000Z lies within the bucket that begins at 1970-01-01T00:00:00.000Z, "
        "which counts as a whole",
    ]
