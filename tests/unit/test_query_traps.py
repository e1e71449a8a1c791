"""Where Elasticsearch's `_rollup_search` is wrong: twelve requests with their right answers, written by hand.

The numbers are those of the table in docs/from-elasticsearch.md.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from rollup_operator.query.aggregations import (
    Aggregation,
    DateHistogramAggregation,
    MetricAggregation,
    Order,
    PipelineAggregation,
    TermsAggregation,
    TimeBounds,
)
from rollup_operator.query.clauses import MATCH_ALL, Clause, RangeClause
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.planning.planner import plan
from rollup_operator.query.reading.request import Door, SearchRequest
from support.search_jobs import DAY, HOUR, answered, live_of, spec_of, tier_of
from support.search_reference import roll_up

NOON = 12 * HOUR
SPEC = spec_of()

OLD = [
    {"time": 9 * HOUR + 1, "carrier": "AA", "delay": 1.0},
    {"time": 9 * HOUR + 2, "carrier": "AA", "delay": 3.0},
    {"time": 9 * HOUR + 3, "carrier": "DL", "delay": None},
    {"time": 11 * HOUR, "carrier": None, "delay": 8.0},
]
NEW = [{"time": NOON + 5, "carrier": "AA", "delay": 10.0}]


def hourly(*subs: Aggregation, **more: Any) -> Aggregation:
    return Aggregation("t", DateHistogramAggregation("time", HOUR, None, **more), subs, type_name="date_histogram")


def terms(*subs: Aggregation, field: str = "carrier", **more: Any) -> Aggregation:
    return Aggregation("c", TermsAggregation(field, **more), subs, type_name="terms")


def metric(kind: Any) -> Aggregation:
    return Aggregation(kind, MetricAggregation(kind, "delay"), type_name=kind)


def ask(
    *aggregations: Aggregation,
    rows: Sequence[dict[str, Any]] = (*OLD, *NEW),
    query: Clause = MATCH_ALL,
    door: Door = "rollup_search",
    jobs: Sequence[tuple[str, int, int]] = (("job", 0, NOON),),
    spec: Any = SPEC,
) -> dict[str, Any]:
    """Roll up what is before noon, keep the rows, and search both."""
    tiers = [tier_of(job, spec, begin, end) for job, begin, end in jobs]
    documents = {job: roll_up(job, spec, rows, begin, end) for job, begin, end in jobs}
    now = max(NOON + HOUR, *(end for _, _, end in jobs))
    made = plan(SearchRequest(door, query, aggregations), tiers, live_of(spec), now)
    return dict(answered(made, rows, documents))


def counts(found: Any) -> dict[Any, int]:
    return {b["key"]: b["doc_count"] for b in found["buckets"] if b["doc_count"]}


def test_1_a_late_live_row_does_not_hide_a_rolled_bucket() -> None:
    """Elasticsearch drops a rolled bucket when a live one has its key: a late row makes 9:00 hold 1 document, not 3."""
    late = {"time": 9 * HOUR + 4, "carrier": "DL", "delay": 5.0}
    rolled = {"job": roll_up("job", SPEC, OLD, 0, NOON)}
    made = plan(
        SearchRequest("rollup_search", MATCH_ALL, (hourly(),)), [tier_of("job", SPEC, 0, NOON)], live_of(SPEC), NOON
    )
    found = answered(made, [*OLD, late, *NEW], rolled)
    # The late row is in neither part until the next run rewrites its bucket: what was rolled up stays.
    assert counts(found["aggregations"]["t"]) == {9 * HOUR: 3, 11 * HOUR: 1, NOON: 1}


def test_2_a_term_that_is_in_live_data_keeps_its_rolled_history() -> None:
    """Elasticsearch compares the outer level first: AA, which is live as well, loses everything before noon."""
    found = ask(terms(hourly()))["aggregations"]["c"]["buckets"][0]
    assert (found["key"], found["doc_count"]) == ("AA", 3)
    assert counts(found["t"]) == {9 * HOUR: 2, NOON: 1}


def test_3_empty_live_buckets_hide_nothing() -> None:
    """Elasticsearch counts filled live buckets as there: with extended bounds all that is rolled up reads 0."""
    found = ask(hourly(extended_bounds=TimeBounds(8 * HOUR, NOON + HOUR)))["aggregations"]["t"]["buckets"]
    assert [b["doc_count"] for b in found] == [0, 3, 0, 1, 1, 0]


def test_4_two_jobs_with_the_same_buckets_are_not_added() -> None:
    """Elasticsearch adds the sums of both jobs but takes the count of one: the sum at 9:00 would be 8, not 4."""
    found = ask(hourly(metric("sum")), jobs=(("job", 0, NOON), ("twin", 0, NOON)))
    assert [(b["doc_count"], b["sum"]["value"]) for b in found["aggregations"]["t"]["buckets"]] == [
        (3, 4.0),
        (0, 0.0),
        (1, 8.0),
        (1, 10.0),
    ]
    assert [job["job_id"] for job in found["_rollup"]["jobs"]] == ["job"]


def test_5_terms_are_chosen_by_their_source_documents() -> None:
    """Elasticsearch orders by rollup documents: UA, in two hours, would come before AA, thrice in one."""
    rows = [{"time": HOUR + i, "carrier": "AA"} for i in range(3)]
    rows += [{"time": h * HOUR, "carrier": "UA"} for h in (3, 4)]
    found = ask(terms(size=1, min_doc_count=2), rows=rows)["aggregations"]["c"]
    assert counts(found) == {"AA": 3}
    assert found["sum_other_doc_count"] == 2


def test_6_counts_of_values_pipelines_and_orders_by_average_are_answered() -> None:
    """Elasticsearch answers 500 for value_count, leaves pipelines out in silence, and finds no path to an average."""
    total = Aggregation(
        "total", PipelineAggregation("cumulative_sum", {"buckets_path": "_count"}), type_name="cumulative_sum"
    )
    found = ask(hourly(metric("value_count"), total), terms(metric("avg"), order=(Order("avg", False),)))
    assert [(b["value_count"]["value"], b["total"]["value"]) for b in found["aggregations"]["t"]["buckets"]] == [
        (2, 3.0),
        (0, 3.0),
        (1, 4.0),
        (1, 5.0),
    ]
    assert [(b["key"], b["avg"]["value"]) for b in found["aggregations"]["c"]["buckets"]] == [
        ("AA", 14 / 3),
        ("DL", None),
    ]


def test_7_terms_of_fractions_are_answered() -> None:
    """Elasticsearch has no case for terms of doubles: 500, `Unable to unroll aggregation tree.`"""
    rows = [{"time": HOUR, "weight": 2.5}, {"time": NOON + 1, "weight": 2.5}, {"time": 2 * HOUR, "weight": 1.0}]
    found = ask(terms(field="weight"), rows=rows, spec=spec_of(terms=["weight"]))
    assert counts(found["aggregations"]["c"]) == {2.5: 2, 1.0: 1}


def test_8_the_first_bucket_of_an_unaligned_range_is_not_lost() -> None:
    """Elasticsearch compares where buckets begin: from 9:30 on, the bucket of 9:00 is dropped, and nobody is told.

    Here a bucket belongs where it begins, and its beginning is rounded for the range as well; the answer says so.
    """
    found = ask(hourly(), query=RangeClause("time", 9 * HOUR + 30, 11 * HOUR + 1))
    assert counts(found["aggregations"]["t"]) == {9 * HOUR: 3, 11 * HOUR: 1}
    assert found["_rollup"]["rounded"] == [
        {"field": "time", "time": "1970-01-01T09:00:00.030Z", "begins": "1970-01-01T09:00:00.000Z"},
        {"field": "time", "time": "1970-01-01T11:00:00.001Z", "begins": "1970-01-01T11:00:00.000Z"},
    ]


def test_9_a_finer_interval_is_answered_by_the_jobs_own_where_charts_ask() -> None:
    """Elasticsearch answers 400 for a finer interval, another zone, or a chart that is zoomed in.

    `_rollup_search` still does, in the same words; `_search` answers with the job's interval, and says so.
    """
    finer = Aggregation("t", DateHistogramAggregation("time", 20 * 60_000, None), type_name="date_histogram")
    with pytest.raises(SearchRefused) as refused:
        ask(finer)
    assert refused.value.reason == (
        "There is not a rollup job that has a [date_histogram] agg on field [time] which also satisfies all "
        "requirements of query."
    )
    found = ask(finer, door="search")
    assert counts(found["aggregations"]["t"]) == {9 * HOUR: 3, 11 * HOUR: 1, NOON: 1}
    assert found["_rollup"]["interval"] == "1h"
    zoned = Aggregation("t", DateHistogramAggregation("time", None, "1d", "Europe/Berlin"), type_name="date_histogram")
    assert [b["key_as_string"] for b in ask(zoned)["aggregations"]["t"]["buckets"]] == ["1970-01-01T00:00:00.000+01:00"]


def test_10_several_jobs_answer_one_request() -> None:
    """Elasticsearch takes one rollup index for each request, so there cannot be one for each year."""
    rows = [{"time": d * DAY + 1, "carrier": "AA"} for d in range(4)]
    days = Aggregation("t", DateHistogramAggregation("time", DAY, None), type_name="date_histogram")
    found = ask(days, rows=rows, jobs=(("first", 0, DAY), ("second", DAY, 3 * DAY)))
    assert counts(found["aggregations"]["t"]) == {d * DAY: 1 for d in range(4)}
    assert [(j["job_id"], j["from"][:10], j["to"][:10]) for j in found["_rollup"]["jobs"]] == [
        ("first", "1970-01-01", "1970-01-02"),
        ("second", "1970-01-02", "1970-01-04"),
    ]


def test_11_rows_without_a_value_are_found_under_missing() -> None:
    """Elasticsearch stores null for a missing value and never shows it, with `missing` or without."""
    found = ask(terms(missing="none"), hourly())["aggregations"]
    assert counts(found["c"]) == {"AA": 3, "DL": 1, "none": 1}
    assert sum(counts(found["t"]).values()) == 5


def test_12_a_bucket_that_holds_nothing_is_only_filled_in() -> None:
    """Elasticsearch lets a rolled bucket of no documents vanish, and fills it again for min_doc_count 0: right."""
    assert [b["doc_count"] for b in ask(hourly())["aggregations"]["t"]["buckets"]] == [3, 0, 1, 1]
    assert [b["doc_count"] for b in ask(hourly(min_doc_count=1))["aggregations"]["t"]["buckets"]] == [3, 1, 1]
