"""Which part of a search is read where, and what is refused, in which words."""

from dataclasses import replace
from typing import Any

import pytest

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.query.aggregations import (
    Aggregation,
    DateHistogramAggregation,
    FiltersAggregation,
    HistogramAggregation,
    MetricAggregation,
    RangeBucket,
    RangesAggregation,
    TermsAggregation,
)
from rollup_operator.query.answering.answer import Style, answer
from rollup_operator.query.clauses import MATCH_ALL, BoolClause, Clause, NotClause, RangeClause, TermClause
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.planning.planner import SearchPlan, plan
from rollup_operator.query.reading.request import Door, SearchRequest
from rollup_operator.stores.search import (
    All,
    AtLeast,
    Between,
    ByTerms,
    ByTime,
    ByWidth,
    Documents,
    Exists,
    Instant,
    Not,
    Number,
    OneOf,
    Rows,
)
from support.portions import result
from support.search_jobs import DAY, HOUR, live_of, spec_of, tier_of
from support.search_reference import fetched, roll_up

SPEC = spec_of()
BERLIN = "Europe/Berlin"
TIMESTAMP = "time.date_histogram.timestamp"


def planned(
    *aggregations: Aggregation,
    query: Clause = MATCH_ALL,
    door: Door = "search",
    tiers: Any = None,
    live: bool = True,
    spec: Any = SPEC,
    begin: int = 0,
    end: int = 10 * DAY,
) -> SearchPlan:
    tiers = [tier_of("job", spec, begin, end)] if tiers is None else tiers
    return plan(SearchRequest(door, query, aggregations), tiers, live_of(spec) if live else None, max(end, 20 * DAY))


def by_time(fixed: int | None = HOUR, unit: str | None = None, zone: str = "UTC", offset: int = 0) -> Aggregation:
    return Aggregation("t", DateHistogramAggregation("time", fixed, unit, zone, offset), type_name="date_histogram")


def metric(kind: Any, field: str = "delay", missing: Any = None) -> Aggregation:
    return Aggregation("m", MetricAggregation(kind, field, missing=missing), type_name=kind)


def refused(*aggregations: Aggregation, **more: Any) -> str:
    with pytest.raises(SearchRefused) as e:
        planned(*aggregations, **more)
    return e.value.reason


def test_a_search_is_cut_at_the_watermark() -> None:
    rolled, live = planned(Aggregation("c", TermsAggregation("carrier")), begin=DAY).fetches
    assert rolled.relation == Documents("rolled", "job", end_ms=10 * DAY)
    assert rolled.where == All(
        (All(()), Between(TIMESTAMP, Instant(DAY), Instant(10 * DAY)))
    ) or rolled.where == Between(TIMESTAMP, Instant(DAY), Instant(10 * DAY))
    assert rolled.count == "time.date_histogram._count"
    assert rolled.levels[0].by == ByTerms("carrier.terms.value", "keyword", 10_000)
    assert live.relation == Rows("flights-*", SPEC)
    assert live.where == AtLeast(
        1,
        (
            Between("time", None, Instant(DAY)),
            Between("time", Instant(10 * DAY), None),
            Not(Exists("time")),
        ),
    )
    assert live.count is None
    assert live.levels[0].by == ByTerms("carrier", "keyword", 10_000)


@pytest.mark.parametrize(
    ("low", "high", "parts"),
    [
        (None, None, ["documents", "rows"]),
        (2 * DAY, 3 * DAY, ["documents"]),
        (2 * DAY, 12 * DAY, ["documents", "rows"]),
        (11 * DAY, 12 * DAY, ["rows"]),
        (0, DAY, ["rows"]),
        (0, DAY + 1, ["documents", "rows"]),
        (10 * DAY - 1, 10 * DAY, ["documents"]),
    ],
)
def test_a_part_that_the_range_does_not_meet_is_not_read(low: int | None, high: int | None, parts: list[str]) -> None:
    made = planned(by_time(), query=RangeClause("time", low, high), begin=DAY)
    assert [type(f.relation).__name__.lower() for f in made.fetches] == parts
    for fetch in made.fetches:
        grouping = fetch.levels[0].by
        assert isinstance(grouping, ByTime)
        if low is not None:
            assert low - HOUR <= grouping.segments[0].start
            assert grouping.segments[-1].end <= (high or 0)


def test_rows_are_read_where_the_clock_of_a_run_was_ahead() -> None:
    """It says that all is rolled up until tomorrow. The last bucket was under way when it was read."""
    tier = tier_of("job", SPEC, 0, 25 * DAY)
    for last, end in ((None, 20 * DAY), (12 * DAY + HOUR, 12 * DAY + HOUR), (22 * DAY, 20 * DAY)):
        made = planned(by_time(), tiers=[replace(tier, last_ms=last)], query=RangeClause("time", 0, 30 * DAY))
        rolled, live = made.fetches
        assert rolled.where == All(
            (Between(TIMESTAMP, Instant(0), Instant(30 * DAY)), Between(TIMESTAMP, Instant(0), Instant(end)))
        )
        assert live.where == All((Between("time", Instant(0), Instant(30 * DAY)), Between("time", Instant(end), None)))
    assert planned(by_time(), tiers=[tier], live=False).fetches[0].levels[0].by != ()


def test_the_coarsest_job_that_can_answer_comes_first() -> None:
    daily, hourly = spec_of("1d", terms=()), spec_of()
    tiers = [tier_of("hourly", hourly, 0, 8 * DAY + HOUR), tier_of("daily", daily, DAY, 5 * DAY)]
    made = planned(by_time(DAY), tiers=tiers)
    assert [f.relation.job_id for f in made.fetches if isinstance(f.relation, Documents)] == ["daily", "hourly"]
    assert made.fetches[1].where == AtLeast(
        1,
        (
            Between(TIMESTAMP, Instant(0), Instant(DAY)),
            Between(TIMESTAMP, Instant(5 * DAY), Instant(8 * DAY + HOUR)),
        ),
    )
    # Hours that cut a day, or terms that days do not have, leave the hourly job alone.
    for aggregation in (by_time(HOUR), Aggregation("c", TermsAggregation("carrier"))):
        made = planned(aggregation, tiers=tiers)
        assert [f.relation.job_id for f in made.fetches if isinstance(f.relation, Documents)] == ["hourly"]
        assert made.report is not None
        assert made.report["not_used"][0]["job_id"] == "daily"


def test_a_job_takes_whole_buckets_of_what_another_leaves() -> None:
    tiers = [tier_of("daily", spec_of("1d"), 0, 5 * DAY), tier_of("hourly", spec_of("12h"), 4 * DAY, 6 * DAY)]
    made = planned(by_time(DAY), tiers=tiers)
    assert made.fetches[1].where == Between(TIMESTAMP, Instant(5 * DAY), Instant(6 * DAY))


def test_what_nobody_can_answer_is_refused_where_the_rows_are_gone() -> None:
    daily, hourly = spec_of("1d", terms=()), spec_of()
    tiers = [tier_of("hourly", hourly, 0, 8 * DAY), tier_of("daily", daily, 0, 9 * DAY)]
    assert "[daily]" in refused(Aggregation("c", TermsAggregation("carrier")), tiers=tiers, live=False)
    assert len(planned(by_time(DAY), tiers=tiers, live=False).fetches) == 1
    # What the daily job has up to there, the hourly one has, too.
    early = RangeClause("time", None, 8 * DAY)
    made = planned(Aggregation("c", TermsAggregation("carrier")), query=early, tiers=tiers, live=False)
    assert [f.relation for f in made.fetches] == [Documents("rolled", "hourly", end_ms=8 * DAY)]


@pytest.mark.parametrize(("gone", "until"), [(None, None), (8 * DAY, None), (9 * DAY, None), (9 * DAY, 8 * DAY)])
def test_rows_that_are_read_in_place_of_a_job_that_cannot_answer_are_all_there_or_it_is_said(
    gone: int | None, until: int | None
) -> None:
    """Rows are often deleted once they are rolled up. `gone`: before what time."""
    daily, hourly = spec_of("1d", terms=()), spec_of()
    rows = [{"time": h * HOUR + 1, "carrier": "AA", "code": 1, "distance": 5.0, "delay": 1.0} for h in range(11 * 24)]
    documents = {
        "daily": roll_up("daily", daily, rows, 0, 9 * DAY),
        "hourly": roll_up("hourly", hourly, rows, 0, 8 * DAY),
    }
    tiers = [tier_of("hourly", hourly, 0, 8 * DAY), tier_of("daily", daily, 0, 9 * DAY)]
    query = MATCH_ALL if until is None else RangeClause("time", None, until)
    made = planned(Aggregation("c", TermsAggregation("carrier")), query=query, tiers=tiers)
    left = [row for row in rows if gone is None or row["time"] >= gone]
    read = [fetched(f, documents[f.relation.job_id] if isinstance(f.relation, Documents) else left) for f in made.reads]
    if gone == 9 * DAY and until is None:
        with pytest.raises(SearchRefused, match=r"\[daily\] cannot answer.* gone from \[flights-\*\]"):
            made.checked(read)
        return
    found = result(answer(made, made.checked(read), Style()))
    assert found["aggregations"]["c"]["buckets"] == [{"key": "AA", "doc_count": (11 if until is None else 8) * 24}]


@pytest.mark.parametrize(
    ("values", "rows_are", "why"),
    [
        ([1.0, 2.0, None], "there", None),  # in each hour
        ([1.0, 2.0, None], "gone", "some are gone"),
        ([1.0, 2.0, None], "not searched", "none is searched"),
        ([[1.0, 2.0], None, None], "there", "some have several values"),
        ([[1.0, 2.0], None, None], "gone", "some are gone"),
        ([None, 2.0, None], "gone", None),  # no document has more than one value
        ([None, 2.0, None], "not searched", None),
        ([None, [], None], "gone", None),
    ],
)
def test_rows_without_a_value_are_counted_exactly_or_it_is_said_that_documents_do_not_say(
    values: list[Any], rows_are: str, why: str | None
) -> None:
    """`rows_are`: those that are rolled up."""
    rows = [{"time": h * HOUR + i, "carrier": "AA", "delay": v} for h in range(24) for i, v in enumerate(values)]
    documents, tiers = roll_up("job", SPEC, rows, 0, 12 * HOUR), [tier_of("job", SPEC, 0, 12 * HOUR)]
    live = rows_are != "not searched"
    made = planned(Aggregation("m", MetricAggregation("sum", "delay", missing=100)), tiers=tiers, live=live)
    left = [row for row in rows if rows_are == "there" or row["time"] >= 12 * HOUR]
    read = [fetched(f, documents if isinstance(f.relation, Documents) else left) for f in made.reads]
    if why is not None:
        with pytest.raises(SearchRefused, match=rf"\[job\] cannot answer.* \[delay\] has \[missing\].*, {why}"):
            made.checked(read)
        return
    found = result(answer(made, made.checked(read), Style()))["aggregations"]["m"]["value"]
    assert found == sum(v if isinstance(v, float) else 100 for v in values) * (24 if live else 12)


def test_all_fields_whose_rows_without_a_value_count_are_asked_about_at_once() -> None:
    names = [f"delay{n}" for n in range(100)]
    spec = RollupJobSpec.model_validate(
        SPEC.model_dump(by_alias=True, exclude_none=True)
        | {"metrics": [{"field": name, "metrics": ["sum", "value_count"]} for name in names]}
    )
    tiers = [tier_of("job", spec, 0, 12 * HOUR)]
    metrics = [Aggregation(name, MetricAggregation("sum", name, missing=100)) for name in names]
    made = planned(*metrics, tiers=tiers, spec=spec)
    assert len(made.reads) == len(made.fetches) + 2
    rows = [{"time": h * HOUR, "carrier": "AA"} | dict.fromkeys(names, 1.0) for h in range(24) for _ in range(2)]
    for at, values in ((0, [1.0, 2.0]), (99, [3.0, 4.0])):
        some: list[Any] = [{**rows[0], names[at]: values}, *rows[1:]]
        documents = roll_up("job", spec, some, 0, 12 * HOUR)
        with pytest.raises(SearchRefused, match=rf"\[{names[at]}\] has \[missing\]"):
            made.checked([fetched(f, documents if isinstance(f.relation, Documents) else some) for f in made.reads])
    documents = roll_up("job", spec, rows, 0, 12 * HOUR)
    made.checked([fetched(f, documents if isinstance(f.relation, Documents) else rows) for f in made.reads])


def test_rows_of_several_values_are_not_taken_for_rows_without_one_where_they_are_live() -> None:
    rows = [{"time": HOUR, "delay": [1.0, 2.0]}, {"time": HOUR}, {"time": HOUR, "delay": []}]
    made = planned(Aggregation("m", MetricAggregation("stats", "delay", missing=-5)), tiers=[])
    found = result(answer(made, made.checked([fetched(f, rows) for f in made.reads]), Style()))["aggregations"]["m"]
    assert found == {"count": 4, "min": -5.0, "max": 2.0, "avg": -1.75, "sum": -7.0}


@pytest.mark.parametrize("live", [True, False])
def test_jobs_for_which_a_name_holds_other_kinds_of_values_do_not_answer_together(live: bool) -> None:
    mine = tier_of("words", spec_of(), 0, 4 * DAY)
    theirs = replace(tier_of("zahlen", spec_of(), 4 * DAY, 8 * DAY), kinds=mine.kinds | {"carrier": "long"})
    by_carrier = Aggregation("c", TermsAggregation("carrier"))
    for tiers in ([mine, theirs], [theirs, mine]):
        if not live:
            assert "[zahlen]" in refused(by_carrier, tiers=tiers, live=False)
            continue
        made = planned(by_carrier, tiers=tiers)
        assert [f.relation.job_id for f in made.fetches if isinstance(f.relation, Documents)] == ["words"]
        assert made.fetches[0].levels[0].by == ByTerms("carrier.terms.value", "keyword", 10_000)
        assert [d.documents.relation for d in made.doubts] == [Documents("rolled", "zahlen", end_ms=8 * DAY)]
        assert len(planned(by_time(), tiers=tiers).fetches) == 3


def test_sources_whose_fields_hold_other_kinds_of_values_are_not_added() -> None:
    by_carrier = Aggregation("c", TermsAggregation("carrier"))
    other = replace(tier_of("zahlen", SPEC, 0, DAY), kinds=tier_of("x", SPEC, 0, DAY).kinds | {"carrier": "long"})
    one, two, three = (planned(by_carrier, tiers=tiers) for tiers in (None, [tier_of("b", SPEC, 0, DAY)], [other]))
    assert len(one.joined(two, "[b]").fetches) == 4
    with pytest.raises(SearchRefused, match=r"other kinds in the source \[b\]"):
        one.joined(three, "[b]")


def test_nothing_rolled_up_is_live_only() -> None:
    made = planned(by_time(60_000), end=0)
    assert [type(f.relation) for f in made.fetches] == [Rows]
    assert made.report is None
    assert made.fetches[0].where == All(())


def test_times_within_conditions_are_rounded() -> None:
    condition = NotClause(RangeClause("time", 2 * DAY + 1, 3 * DAY - 1, False, True))
    made = planned(query=BoolClause((TermClause("code", (1,), "term"), condition)))
    where = made.fetches[0].where
    assert isinstance(where, All)
    assert where.of[0] == OneOf("code.terms.value", (1,))
    # From 0:00:00.002 on: the bucket of 0:00 is counted. Up to 23:59:59.999, included: nothing to round.
    assert where.of[1] == Not(Between(TIMESTAMP, Instant(2 * DAY), Instant(3 * DAY)))
    assert made.report is not None
    assert made.report["rounded"] == [
        {"field": "time", "time": "1970-01-03T00:00:00.002Z", "begins": "1970-01-03T00:00:00.000Z"}
    ]


def test_an_end_in_live_data_is_not_rounded() -> None:
    made = planned(by_time(), query=RangeClause("time", 9 * DAY, 10 * DAY + 5))
    assert made.report is not None
    assert "rounded" not in made.report


@pytest.mark.parametrize(
    ("metrics", "kind", "numbers"),
    [
        (["avg"], "avg", [("sum", "delay.avg.value"), ("sum", "delay.avg._count")]),
        (["avg"], "sum", [("sum", "delay.avg.value")]),
        (["avg"], "value_count", [("sum", "delay.avg._count")]),
        (["sum", "value_count"], "avg", [("sum", "delay.sum.value"), ("sum", "delay.value_count.value")]),
        (["max"], "max", [("max", "delay.max.value")]),
        (
            ["min", "max", "avg"],
            "stats",
            [
                ("min", "delay.min.value"),
                ("max", "delay.max.value"),
                ("sum", "delay.avg.value"),
                ("sum", "delay.avg._count"),
            ],
        ),
    ],
)
def test_numbers_come_from_what_the_job_keeps(metrics: list[str], kind: str, numbers: list[Any]) -> None:
    made = planned(metric(kind), spec=spec_of(metrics=metrics))
    assert [(n.function, n.field) for n in made.fetches[0].numbers] == numbers
    assert [n.field for n in made.fetches[1].numbers] == ["delay"] * len(numbers)


def test_numbers_of_groups() -> None:
    made = planned(metric("max", "code"), Aggregation("n", MetricAggregation("value_count", "time")))
    assert made.fetches[0].numbers == (Number("max", "code.terms.value"), Number("sum", "time.date_histogram._count"))


@pytest.mark.parametrize(
    ("asked", "spec", "interval", "kind"),
    [
        (by_time(1), SPEC, "1h", DateHistogramAggregation("time", HOUR, None)),
        (by_time(HOUR + 1), SPEC, "2h", DateHistogramAggregation("time", 2 * HOUR, None)),
        (by_time(5 * HOUR), spec_of("6h"), "6h", DateHistogramAggregation("time", 6 * HOUR, None)),
        (by_time(None, "1m"), SPEC, "1h", DateHistogramAggregation("time", HOUR, None)),
        (by_time(HOUR), spec_of("1d", BERLIN), "1d", DateHistogramAggregation("time", DAY, None, BERLIN)),
        (
            by_time(36 * HOUR),
            spec_of("day", "Europe/Berlin"),
            "2d",
            DateHistogramAggregation("time", 2 * DAY, None, "Europe/Berlin"),
        ),
        (by_time(DAY), spec_of("month"), "1M", DateHistogramAggregation("time", None, "1M")),
        (by_time(40 * DAY), spec_of("month"), "1q", DateHistogramAggregation("time", None, "1q")),
    ],
)
def test_a_chart_gets_the_next_interval_that_buckets_make_up(
    asked: Aggregation, spec: Any, interval: str, kind: DateHistogramAggregation
) -> None:
    made = planned(Aggregation("c", TermsAggregation("carrier"), (asked,)), spec=spec, end=120 * DAY)
    assert made.request.aggregations[0].subs[0].kind == kind
    assert made.report is not None
    assert made.report["interval"] == interval
    assert "not_used" not in made.report


def test_the_finest_job_says_which_interval() -> None:
    tiers = [tier_of("daily", spec_of("1d"), 0, 5 * DAY), tier_of("hourly", spec_of("1h"), 0, 6 * DAY)]
    made = planned(by_time(90 * 60_000), tiers=tiers)
    assert made.report is not None
    assert (made.report["interval"], made.report["jobs"][0]["job_id"]) == ("2h", "hourly")


def test_an_interval_of_live_time_alone_is_as_asked() -> None:
    made = planned(by_time(1000), query=RangeClause("time", 10 * DAY, None))
    assert made.report is None
    assert made.request.aggregations[0].kind == DateHistogramAggregation("time", 1000, None)


NO_JOB = "There is not a rollup job that has a [{}] agg {} which also satisfies all requirements of query."


@pytest.mark.parametrize(
    ("aggregation", "elasticsearch", "ours"),
    [
        (by_time(1000), NO_JOB.format("date_histogram", "on field [time]"), None),
        (
            by_time(None, "1d", "Asia/Kolkata"),
            NO_JOB.format("date_histogram", "on field [time]"),
            "Job [job] cannot answer this exactly: a bucket of aggregation [t] would begin at "
            "1970-01-01T18:30:00.000Z, within one of the job's buckets of 1h in UTC.",
        ),
        (
            by_time(DAY, offset=1000),
            NO_JOB.format("date_histogram", "on field [time]"),
            "Job [job] cannot answer this exactly: a bucket of aggregation [t] would begin at "
            "1970-01-01T00:00:01.000Z, within one of the job's buckets of 1h in UTC.",
        ),
        (
            Aggregation("c", TermsAggregation("delay"), type_name="terms"),
            NO_JOB.format("terms", "on field [delay]"),
            "Job [job] cannot answer this exactly: aggregation [c]: [delay] is none of its groups.terms.",
        ),
        (
            Aggregation("h", HistogramAggregation("distance", 150.0), type_name="histogram"),
            NO_JOB.format("histogram", "on field [distance]"),
            "Job [job] cannot answer this exactly: aggregation [h]: [distance] is rolled up into buckets of 100: "
            "[interval] and [offset] have to be multiples of that.",
        ),
        (
            metric("avg", "price"),
            NO_JOB.format("avg", "with name [m]"),
            "Job [job] cannot answer this exactly: aggregation [m] is [avg] of field [price], but the job keeps "
            "nothing of [price].",
        ),
        (
            metric("max", missing=3),
            NO_JOB.format("max", "with name [m]"),
            "Job [job] cannot answer this exactly: aggregation [m] is [max] with [missing] of field [delay], but the "
            "job keeps only [max] of [delay].",
        ),
        (
            Aggregation("r", RangesAggregation("distance", (RangeBucket(None, 50, 150),)), type_name="range"),
            None,
            "Job [job] cannot answer this exactly: [distance] is rolled up into buckets of 100: ask for a range from a "
            "multiple of that (included) to another one (not included).",
        ),
    ],
)
def test_what_is_not_exact_is_refused(aggregation: Aggregation, elasticsearch: str | None, ours: str | None) -> None:
    spec = spec_of(metrics=["max"]) if isinstance(aggregation.kind, MetricAggregation) else SPEC
    if elasticsearch is not None:
        assert refused(aggregation, door="rollup_search", spec=spec) == elasticsearch
    if ours is not None:
        assert refused(aggregation, spec=spec) == ours


@pytest.mark.parametrize("where", ["query", "filter"])
def test_a_condition_on_what_is_no_group_is_refused(where: str) -> None:
    clause = TermClause("price", (1,), "term")
    aggregations = [Aggregation("f", FiltersAggregation((("a", clause),), True))] if where == "filter" else []
    query = MATCH_ALL if where == "filter" else clause
    assert refused(*aggregations, query=query, door="rollup_search") == (
        "Field [price] in [term] query is not available in selected rollup indices, cannot query."
    )
    assert refused(*aggregations, query=query) == (
        "Job [job] cannot answer this exactly: field [price] in [term] query is none of its groups, "
        "[time, distance, carrier, code]."
    )
    unknown = refused(query=TermClause("nowhere", (1,), "term"))
    assert unknown.startswith("Job [job] cannot answer this exactly: field [nowhere] in [term] query is none of its")
    # In live time alone every field can be asked for.
    live = BoolClause((query, RangeClause("time", 10 * DAY, None)))
    assert len(planned(*aggregations, query=live).fetches) == 1


@pytest.mark.parametrize(
    ("aggregation", "why"),
    [
        (
            Aggregation("f", FiltersAggregation((("b", TermClause("price", (1,), "term")),), True)),
            "field [price] in [term] query is none of its groups, [time, distance, carrier, code].",
        ),
        (
            Aggregation("h", HistogramAggregation("price", 10), type_name="histogram"),
            "field [price] is none of its groups, [time, distance, carrier, code].",
        ),
    ],
)
def test_the_job_says_so_where_only_rows_are_asked_for_a_field_that_no_job_names(
    aggregation: Aggregation, why: str
) -> None:
    """What the jobs name is known of their documents, so the source is not asked for more."""
    tiers = [tier_of("job", SPEC, 5 * DAY, 10 * DAY)]
    kinds = {field: kind for field, kind in live_of(SPEC).kinds.items() if field != "price"}
    live = replace(live_of(SPEC), kinds=kinds)
    before = RangeClause("time", None, 2 * DAY)
    with pytest.raises(SearchRefused) as e:
        plan(SearchRequest("search", before, (aggregation,)), tiers, live, 20 * DAY)
    assert e.value.reason == f"Job [job] cannot answer this exactly: {why}"


def test_the_finest_job_says_why_none_can_answer() -> None:
    by_nowhere = Aggregation("c", TermsAggregation("nowhere"), type_name="terms")
    tiers = [tier_of("daily", spec_of("1d"), 0, 5 * DAY), tier_of("hourly", spec_of("1h"), 0, 6 * DAY)]
    for asked, why in ((metric("avg", "price"), "keeps nothing of [price]"), (by_nowhere, "[nowhere] is none of its")):
        with pytest.raises(SearchRefused) as refusal:
            planned(asked, tiers=tiers)
        assert refusal.value.reason.startswith("Job [hourly] cannot answer this exactly: ")
        assert why in refusal.value.reason


def test_single_times_are_refused() -> None:
    assert "[time] is asked for single times" in refused(query=TermClause("time", (5,), "term"))


@pytest.mark.parametrize(
    ("clause", "condition"),
    [
        (RangeClause("distance", 100, 300), Between("distance.histogram.value", 100.0, 300.0)),
        (RangeClause("distance", None, 300), Between("distance.histogram.value", None, 300.0)),
        (RangeClause("distance", 100, 300, True, True), None),
        (RangeClause("distance", 100, None, False), None),
        (RangeClause("distance", 150, None), None),
        (TermClause("distance", (100,), "term"), None),
    ],
)
def test_conditions_on_buckets_of_numbers(clause: Clause, condition: Any) -> None:
    if condition is None:
        assert "rolled up into buckets of 100" in refused(query=clause)
    else:
        where = planned(query=clause).fetches[0].where
        assert isinstance(where, All)
        assert where.of[0] == condition


def test_a_histogram_of_a_group_of_terms_needs_no_multiple() -> None:
    made = planned(Aggregation("h", HistogramAggregation("code", 1.5, missing=2.0)))
    assert made.fetches[0].levels[0].by == ByWidth("code.terms.value", 1.5, 0.0, 2.0)
