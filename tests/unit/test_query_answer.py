"""How answers are written: keys, orders, sizes, empty buckets, types of keys, totals, and pipelines. Values by hand."""

from collections.abc import Sequence
from typing import Any

import pytest

from rollup_operator.concurrency.portions import in_portions
from rollup_operator.query.aggregations import (
    Aggregation,
    DateHistogramAggregation,
    FiltersAggregation,
    HistogramAggregation,
    MetricAggregation,
    Order,
    PipelineAggregation,
    RangeBucket,
    RangesAggregation,
    TermsAggregation,
    TimeBounds,
)
from rollup_operator.query.answering.answer import Style, answer
from rollup_operator.query.clauses import ExistsClause, RangeClause, TermClause
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.planning.planner import plan
from rollup_operator.query.reading.request import SearchRequest
from support.portions import watched
from support.search_jobs import DAY, HOUR, answered, live_of, spec_of
from support.search_reference import fetched

ROWS = [
    {"time": HOUR, "carrier": "AA", "code": 1, "distance": 150.0, "delay": 2.0},
    {"time": HOUR + 1, "carrier": "AA", "code": 2, "distance": 250.0, "delay": None},
    {"time": 3 * HOUR, "carrier": "DL", "code": 1, "distance": 420.0, "delay": -4.0},
    {"time": 4 * HOUR, "carrier": None, "code": None, "distance": None, "delay": 6.0},
]


def ask(*aggregations: Aggregation, style: Style | None = None, rows: Any = ROWS, **more: Any) -> Any:
    request = SearchRequest(aggregations=aggregations, **more)
    return answered(plan(request, [], live_of(spec_of()), 5 * HOUR), rows, {}, style)


def one(aggregation: Aggregation, **more: Any) -> Any:
    return ask(aggregation, **more)["aggregations"][aggregation.name]


def hours(*subs: Aggregation, **more: Any) -> Aggregation:
    return Aggregation("t", DateHistogramAggregation("time", HOUR, None, **more), subs, {"shown": "as time"})


def delay(kind: Any = "sum", **more: Any) -> Aggregation:
    return Aggregation("d", MetricAggregation(kind, "delay", **more))


def piped(kind: str, **options: Any) -> Aggregation:
    return Aggregation("p", PipelineAggregation(kind, options))


def test_a_date_histogram_is_filled_between_its_buckets() -> None:
    assert one(hours(delay(), format="epoch_millis")) == {
        "meta": {"shown": "as time"},
        "buckets": [
            {"key_as_string": "3600000", "key": HOUR, "doc_count": 2, "d": {"value": 2.0}},
            {"key_as_string": "7200000", "key": 2 * HOUR, "doc_count": 0, "d": {"value": 0.0}},
            {"key_as_string": "10800000", "key": 3 * HOUR, "doc_count": 1, "d": {"value": -4.0}},
            {"key_as_string": "14400000", "key": 4 * HOUR, "doc_count": 1, "d": {"value": 6.0}},
        ],
    }


def test_bounds_extend_and_cut_a_date_histogram() -> None:
    """A bucket that begins at the end of hard bounds is outside. Extended bounds are rounded, then moved by offsets."""
    wide = one(hours(extended_bounds=TimeBounds(1, "1970-01-01T05:30")))
    assert [b["key"] // HOUR for b in wide["buckets"]] == [0, 1, 2, 3, 4, 5]
    moved = one(hours(extended_bounds=TimeBounds(1, 5 * HOUR), offset_ms=-60_000, keyed=True, format="HH:mm"))
    assert list(moved["buckets"]) == ["23:59", "00:59", "01:59", "02:59", "03:59", "04:59"]
    hard = one(hours(hard_bounds=TimeBounds(2 * HOUR, 4 * HOUR), min_doc_count=1))
    assert [b["key"] // HOUR for b in hard["buckets"]] == [3]
    nothing = one(hours(extended_bounds=TimeBounds(0, HOUR)), rows=[])
    assert [b["doc_count"] for b in nothing["buckets"]] == [0, 0]
    assert one(hours(extended_bounds=TimeBounds(0, None)), rows=[])["buckets"] == []


def test_an_offset_counts_once_within_an_empty_bucket() -> None:
    """Elasticsearch answers 01:00, 02:00 and 26:00 within 02:00, the empty one: it adds the offset at each step."""
    within = DateHistogramAggregation("time", DAY, None, extended_bounds=TimeBounds(0, DAY), offset_ms=HOUR)
    found = one(hours(Aggregation("w", within)))
    assert [b["doc_count"] for b in found["buckets"]] == [2, 0, 1, 1]
    assert [[w["key"] for w in b["w"]["buckets"]] for b in found["buckets"]] == [[HOUR, DAY + HOUR]] * 4


def test_bounds_that_end_before_they_begin_are_refused() -> None:
    with pytest.raises(SearchRefused, match=r"\[extended_bounds.min\]\[5\] cannot be greater than"):
        one(hours(extended_bounds=TimeBounds(5, 1)))


def test_extended_bounds_outside_of_hard_ones_are_refused() -> None:
    with pytest.raises(SearchRefused, match=r"hard bounds: \[0--10\], extended bounds: \[5--11\]"):
        one(hours(extended_bounds=TimeBounds(5, 11), hard_bounds=TimeBounds(0, 10)))


def test_rows_without_a_time_have_the_bucket_of_missing() -> None:
    rows = [*ROWS, {"time": None}]
    assert [b["doc_count"] for b in one(hours(missing="1970-01-01T04:59"), rows=rows)["buckets"]] == [2, 0, 1, 2]


def test_a_histogram_of_numbers() -> None:
    found = one(Aggregation("h", HistogramAggregation("distance", 100.0, keyed=True, extended_bounds=(0.0, 510.0))))
    assert {k: (b["key"], b["doc_count"]) for k, b in found["buckets"].items()} == {
        "0.0": (0.0, 0),
        "100.0": (100.0, 1),
        "200.0": (200.0, 1),
        "300.0": (300.0, 0),
        "400.0": (400.0, 1),
        "500.0": (500.0, 0),
    }
    found = one(
        Aggregation("h", HistogramAggregation("distance", 200.0, 50.0, missing=500.0, order=(Order("_key", False),)))
    )
    assert [(b["key"], b["doc_count"]) for b in found["buckets"]] == [(450.0, 1), (250.0, 2), (50.0, 1)]


@pytest.mark.parametrize(
    ("order", "keys"),
    [
        ((Order("_count", False),), ["AA", "DL", "none"]),
        ((Order("_key", False),), ["none", "DL", "AA"]),
        ((Order("d", False),), ["none", "AA", "DL"]),
        ((Order("d.max", True),), ["DL", "AA", "none"]),
        ((Order("first>d.avg", True),), ["DL", "AA", "none"]),
        ((Order("first>_count", False), Order("_key", False)), ["DL", "AA", "none"]),
    ],
)
def test_terms_are_ordered_and_what_has_no_value_comes_last(order: tuple[Order, ...], keys: list[str]) -> None:
    stats = delay("stats" if "." in order[0].path else "sum")
    first = Aggregation(
        "first", FiltersAggregation((("", TermClause("code", (1,), "term")),), False, single=True), (stats,)
    )
    found = one(Aggregation("c", TermsAggregation("carrier", missing="none", order=order), (stats, first)))
    assert [b["key"] for b in found["buckets"]] == keys


def test_terms_beyond_the_size_are_counted() -> None:
    found = one(Aggregation("c", TermsAggregation("carrier", size=1, shows_error=True)))
    assert found == {
        "doc_count_error_upper_bound": 0,
        "sum_other_doc_count": 1,
        "buckets": [{"key": "AA", "doc_count": 2, "doc_count_error_upper_bound": 0}],
    }


@pytest.mark.parametrize(
    ("terms", "keys"),
    [
        (TermsAggregation("carrier", include=("DL", "XX")), ["DL"]),
        (TermsAggregation("carrier", include="A.*"), ["AA"]),
        (TermsAggregation("carrier", exclude="A+"), ["DL"]),
        (TermsAggregation("code", exclude=("1",)), [2]),
        (TermsAggregation("carrier", min_doc_count=2), ["AA"]),
    ],
)
def test_terms_are_chosen(terms: TermsAggregation, keys: list[Any]) -> None:
    assert [b["key"] for b in one(Aggregation("c", terms))["buckets"]] == keys


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        (TermsAggregation("code", include="1.*"), "cannot support regular expression style include/exclude"),
        (TermsAggregation("carrier", min_doc_count=0), r"\[min_doc_count\] 0"),
        (TermsAggregation("carrier", order=(Order("nothing", True),)), r"Invalid aggregation order path \[nothing\]"),
        (
            TermsAggregation("carrier", order=(Order("t>d", True),)),
            "Buckets can only be sorted on a sub-aggregator path",
        ),
        (TermsAggregation("code", missing="text"), r"\[missing\] of aggregation \[c\]"),
    ],
)
def test_terms_that_cannot_be_answered_are_refused(terms: TermsAggregation, why: str) -> None:
    with pytest.raises(SearchRefused, match=why):
        one(Aggregation("c", terms, (hours(delay()),)))


def test_filters_have_names_and_a_rest() -> None:
    conditions = (("a", TermClause("carrier", ("AA",), "term")), ("b", RangeClause("code", 2, None)))
    found = one(Aggregation("f", FiltersAggregation(conditions, True, "rest"), (delay(),)))
    assert found["buckets"] == {
        "a": {"doc_count": 2, "d": {"value": 2.0}},
        "b": {"doc_count": 1, "d": {"value": 0.0}},
        "rest": {"doc_count": 2, "d": {"value": 2.0}},
    }
    assert one(Aggregation("f", FiltersAggregation(conditions, False)))["buckets"] == [
        {"doc_count": 2},
        {"doc_count": 1},
    ]
    single = Aggregation("f", FiltersAggregation((("", ExistsClause("code")),), False, single=True), (delay(),))
    assert one(single) == {"doc_count": 3, "d": {"value": -2.0}}


def test_ranges_are_sorted_and_named() -> None:
    found = one(
        Aggregation("r", RangesAggregation("code", (RangeBucket("two", 2), RangeBucket(None, None, 2)), missing=5))
    )
    assert found["buckets"] == [
        {"key": "*-2.0", "to": 2.0, "doc_count": 2},
        {"key": "two", "from": 2.0, "doc_count": 2},
    ]
    dates = RangesAggregation("time", (RangeBucket(None, "1970-01-01 00", HOUR + 1),), True, True, "yyyy-MM-dd HH")
    assert one(Aggregation("r", dates))["buckets"] == {
        "1970-01-01 00-1970-01-01 01": {
            "from": 0.0,
            "from_as_string": "1970-01-01 00",
            "to": HOUR + 1.0,
            "to_as_string": "1970-01-01 01",
            "doc_count": 1,
        }
    }


@pytest.mark.parametrize(
    ("metric", "written"),
    [
        (MetricAggregation("avg", "delay"), {"value": 4 / 3}),
        (MetricAggregation("avg", "delay", "0.0", 4), {"value": 2.0, "value_as_string": "2.0"}),
        (MetricAggregation("min", "delay", missing=-9), {"value": -9.0}),
        (MetricAggregation("value_count", "delay"), {"value": 3}),
        (MetricAggregation("stats", "delay"), {"count": 3, "min": -4.0, "max": 6.0, "avg": 4 / 3, "sum": 4.0}),
        (MetricAggregation("max", "time"), {"value": 4.0 * HOUR, "value_as_string": "1970-01-01T04:00:00.000Z"}),
        (MetricAggregation("sum", "price"), {"value": 0.0}),
        (MetricAggregation("avg", "price", "0.0"), {"value": None}),
        (MetricAggregation("max", "price"), {"value": None}),
        (MetricAggregation("stats", "price", "0"), {"count": 0, "min": None, "max": None, "avg": None, "sum": 0.0}),
    ],
)
def test_metrics(metric: MetricAggregation, written: dict[str, Any]) -> None:
    assert one(Aggregation("m", metric)) == written


def test_typed_keys_name_each_kind() -> None:
    aggregations = [
        hours(delay("avg"), piped("derivative", buckets_path="d")),
        Aggregation("k", TermsAggregation("carrier")),
        Aggregation("l", TermsAggregation("code")),
        Aggregation("n", TermsAggregation("delay")),
        Aggregation("h", HistogramAggregation("distance", 100.0)),
        Aggregation("f", FiltersAggregation((("a", ExistsClause("code")),), True)),
        Aggregation("o", FiltersAggregation((("", ExistsClause("code")),), False, single=True)),
        Aggregation("r", RangesAggregation("code", (RangeBucket("x", 1),))),
        Aggregation("s", RangesAggregation("time", (RangeBucket("x", 1),), True)),
        Aggregation("b", PipelineAggregation("max_bucket", {"buckets_path": "t>d"})),
        Aggregation("a", PipelineAggregation("stats_bucket", {"buckets_path": "t>_count"})),
        Aggregation("z", PipelineAggregation("avg_bucket", {"buckets_path": "t>_count"})),
    ]
    found = ask(*aggregations, style=Style(typed_keys=True))["aggregations"]
    assert list(found) == [
        *("date_histogram#t", "sterms#k", "lterms#l", "dterms#n", "histogram#h", "filters#f", "filter#o", "range#r"),
        *("date_range#s", "bucket_metric_value#b", "stats_bucket#a", "simple_value#z"),
    ]
    assert set(found["date_histogram#t"]["buckets"][2]) == {
        "key_as_string",
        "key",
        "doc_count",
        "avg#d",
        "derivative#p",
    }


@pytest.mark.parametrize(
    ("more", "style", "total"),
    [
        ({}, Style(), {"value": 4, "relation": "eq"}),
        ({"counts_up_to": 3}, Style(), {"value": 3, "relation": "gte"}),
        ({"counts_up_to": 4}, Style(), {"value": 4, "relation": "eq"}),  # a node may say gte
        ({"counts_up_to": None}, Style(total_as_int=True), 4),
        ({"door": "rollup_search"}, Style(), {"value": 0, "relation": "eq"}),
        ({"door": "rollup_search"}, Style(total_as_int=True), 0),
    ],
)
def test_totals(more: dict[str, Any], style: Style, total: Any) -> None:
    assert ask(style=style, **more) == {"hits": {"total": total, "max_score": None, "hits": []}}
    assert "total" not in ask(counts_up_to=-1)["hits"]


def values(found: Any, name: str = "p", key: str = "value") -> Sequence[Any]:
    return [b[name][key] if name in b else "none" for b in found["buckets"]]


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        # The empty hour is a gap: its sum of 0 is none.
        (piped("derivative", buckets_path="d"), ["none", None, None, 10.0]),
        (piped("derivative", buckets_path="d", gap_policy="insert_zeros"), ["none", -2.0, -4.0, 10.0]),
        (piped("derivative", buckets_path="d", gap_policy="keep_values"), ["none", -2.0, -4.0, 10.0]),
        (piped("derivative", buckets_path="_count"), ["none", -2.0, 1.0, 0.0]),
        (piped("cumulative_sum", buckets_path="d"), [2.0, 2.0, -2.0, 4.0]),
        (piped("serial_diff", buckets_path="_count", lag=2), ["none", "none", -1.0, 1.0]),
        (piped("serial_diff", buckets_path="d", lag=2), ["none", "none", -6.0, "none"]),
        (
            piped("moving_fn", buckets_path="d", window=2, script="MovingFunctions.sum(values)"),
            [0.0, "none", 2.0, -2.0],
        ),
        (
            piped("moving_fn", buckets_path="_count", window=2, shift=1, script="MovingFunctions.max(values)"),
            [2.0, 2.0, 1.0, 1.0],
        ),
        (
            piped("bucket_script", buckets_path={"d": "d", "n": "_count"}, script="params.d / params.n"),
            [1.0, "none", -4.0, 6.0],
        ),
        (piped("bucket_script", buckets_path={"n": "_count"}, script="1 / params.n"), [0.5, None, 1.0, 1.0]),
    ],
)
def test_pipelines_over_buckets(pipeline: Aggregation, expected: list[Any]) -> None:
    assert values(one(hours(delay(), pipeline))) == expected


def test_a_derivative_may_be_of_a_unit_of_time_and_of_another_derivative() -> None:
    second = Aggregation("q", PipelineAggregation("derivative", {"buckets_path": "p"}))
    found = one(hours(second, piped("derivative", buckets_path="_count", unit="1d", format="0.0")))
    assert found["buckets"][1] == {
        "key_as_string": "1970-01-01T02:00:00.000Z",
        "key": 2 * HOUR,
        "doc_count": 0,
        "p": {
            "value": -2.0,
            "normalized_value": -48.0,
            "value_as_string": "-2.0",
            "normalized_value_as_string": "-48.0",
        },
    }
    # The derivative of an empty bucket is a gap, since the bucket is.
    assert values(found, "q") == ["none", "none", None, -1.0]


def test_buckets_are_selected_and_sorted() -> None:
    selected = one(hours(delay(), piped("bucket_selector", buckets_path={"d": "d"}, script="params.d > 0")))
    assert [b["key"] // HOUR for b in selected["buckets"]] == [1, 4]
    sort = [{"_count": {"order": "desc"}}, {"d": {"order": "desc"}}]
    assert [b["key"] // HOUR for b in one(hours(delay(), piped("bucket_sort", sort=sort)))["buckets"]] == [1, 4, 3, 2]
    some = piped("bucket_sort", sort=[{"d": {"order": "asc"}}], size=2, **{"from": 1})
    assert [b["key"] // HOUR for b in one(hours(delay(), some))["buckets"]] == [1, 4]
    assert [b["key"] // HOUR for b in one(hours(piped("bucket_sort", size=1)))["buckets"]] == [1]


def test_ranges_are_sorted_by_their_names() -> None:
    by_key = piped("bucket_sort", sort=[{"_key": {"order": "asc"}}])
    ranges = Aggregation("r", RangesAggregation("code", (RangeBucket(None, 1, 2), RangeBucket(None, 1))), (by_key,))
    assert [b["key"] for b in one(ranges)["buckets"]] == ["1.0-*", "1.0-2.0"]


def test_clocks_that_change_too_often_within_each_other_are_refused() -> None:
    days = DateHistogramAggregation("time", None, "1d", "Europe/Berlin")
    within = Aggregation("a", days, (Aggregation("b", days),))
    with pytest.raises(SearchRefused, match=r"stretches between changes of clocks, more than the limit of \[5000\]"):
        one(within)
    assert len(one(within, query=RangeClause("time", 0, 5 * HOUR))["buckets"]) == 1


def test_terms_are_ordered_by_the_count_of_one_bucket_within() -> None:
    there = FiltersAggregation((("f", ExistsClause("delay")),), named=False, single=True)
    terms = TermsAggregation("carrier", order=(Order("f", True), Order("_key", False)))
    found = one(Aggregation("c", terms, (Aggregation("f", there),)))
    assert [(b["key"], b["f"]["doc_count"]) for b in found["buckets"]] == [("DL", 1), ("AA", 1)]
    rows = [*ROWS, {"time": HOUR, "carrier": "DL", "delay": 1.0}]
    found = one(Aggregation("c", terms, (Aggregation("f", there),)), rows=rows)
    assert [(b["key"], b["f"]["doc_count"]) for b in found["buckets"]] == [("AA", 1), ("DL", 2)]


@pytest.mark.parametrize(
    ("kind", "path", "written"),
    [
        ("avg_bucket", "t>d", {"value": 4 / 3}),
        ("sum_bucket", "t>d", {"value": 4.0}),
        ("max_bucket", "t>d", {"value": 6.0, "keys": ["1970-01-01T04:00:00.000Z"]}),
        ("min_bucket", "t>_count", {"value": 0.0, "keys": ["1970-01-01T02:00:00.000Z"]}),
        ("stats_bucket", "t>_count", {"count": 4, "min": 0.0, "max": 2.0, "avg": 1.0, "sum": 4.0}),
        ("max_bucket", "c['AA']>d", None),
    ],
)
def test_pipelines_beside_buckets(kind: str, path: str, written: dict[str, Any] | None) -> None:
    carriers = Aggregation("c", TermsAggregation("carrier"), (delay(),))
    aggregations = (hours(delay()), carriers, Aggregation("p", PipelineAggregation(kind, {"buckets_path": path})))
    if written is None:
        with pytest.raises(SearchRefused, match="buckets_path aggregation does not exist"):
            ask(*aggregations)
    else:
        assert ask(*aggregations)["aggregations"]["p"] == written


def test_a_pipeline_reads_what_lies_deeper() -> None:
    carriers = Aggregation("c", TermsAggregation("carrier"), (delay(),))
    best = Aggregation("best", PipelineAggregation("max_bucket", {"buckets_path": "c>d"}))
    of = Aggregation(
        "of", PipelineAggregation("bucket_script", {"buckets_path": {"a": "c['AA']>d"}, "script": "params.a"})
    )
    found = one(hours(carriers, best, of, piped("cumulative_sum", buckets_path="best")))["buckets"]
    assert [b["best"]["value"] for b in found] == [2.0, None, -4.0, None]
    assert [b["p"]["value"] for b in found] == [2.0, 2.0, -2.0, -2.0]
    assert [b.get("of") for b in found] == [{"value": 2.0}, None, None, None]
    assert list(found[0]) == ["key_as_string", "key", "doc_count", "c", "best", "of", "p"]


@pytest.mark.parametrize(
    ("pipelines", "why"),
    [
        ([("a", "b"), ("b", "a")], "Cyclical dependency"),
        ([("a", "s")], "contains multiple values"),
        ([("a", "s.median")], r"path not supported for \[s\]"),
        ([("a", "c")], "must reference either a number value"),
    ],
)
def test_pipelines_that_cannot_be_computed_are_refused(pipelines: list[tuple[str, str]], why: str) -> None:
    subs = [
        Aggregation(name, PipelineAggregation("cumulative_sum", {"buckets_path": path})) for name, path in pipelines
    ]
    stats = Aggregation("s", MetricAggregation("stats", "delay"))
    with pytest.raises(SearchRefused, match=why):
        one(hours(stats, Aggregation("c", TermsAggregation("carrier")), *subs))


def test_an_answer_has_so_many_buckets_at_most() -> None:
    with pytest.raises(SearchRefused, match=r"Must be less than or equal to: \[65535\]") as refused:
        one(hours(extended_bounds=TimeBounds(0, 65_535 * HOUR)))
    assert refused.value.kind == "too_many_buckets_exception"
    wide = HistogramAggregation("distance", 1.0, extended_bounds=(0.0, 1e12))
    with pytest.raises(SearchRefused, match=r"Must be less than or equal to"):
        one(Aggregation("h", wide))
    with pytest.raises(SearchRefused, match=r"Must be less than or equal to"):
        one(hours(hours(extended_bounds=TimeBounds(0, 400 * HOUR)), extended_bounds=TimeBounds(0, 10 * DAY)))


async def test_pipelines_that_read_each_other_hold_nobody_up() -> None:
    """Each reads the one behind it, so that only the last can be computed first."""
    count = 950
    chain = [
        Aggregation(f"p{i}", PipelineAggregation("bucket_script", {"buckets_path": {"a": f"p{i + 1}"}, "script": "a"}))
        for i in range(count)
    ]
    last = Aggregation(f"p{count}", MetricAggregation("sum", "delay"))
    request = SearchRequest(aggregations=(hours(*chain, last, min_doc_count=1),))
    made = plan(request, [], live_of(spec_of()), 5 * HOUR)
    parts = [fetched(fetch, ROWS) for fetch in made.fetches]
    async with watched() as loop:
        found = await in_portions(answer(made, parts, Style()))
    buckets = found["aggregations"]["t"]["buckets"]
    assert [bucket["p0"]["value"] for bucket in buckets] == [2.0, -4.0, 6.0]
    assert list(buckets[0])[-3:] == ["p948", "p949", "p950"]
    assert loop.longest < 0.05
