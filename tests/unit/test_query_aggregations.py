"""Aggregations of searches, read. The errors were read off real Elasticsearch 8 and OpenSearch 2 nodes."""

from dataclasses import replace

import pytest

from rollup_operator.query.aggregations import (
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
from rollup_operator.query.clauses import MATCH_ALL, TermClause
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.reading.aggregation_reader import read_aggregations
from rollup_operator.query.reading.json_values import RequestBudget

A, B = TermClause("k", ("a",), "term"), TermClause("k", ("b",), "term")
DAILY = DateHistogramAggregation("t", 86_400_000, None)
KEY_DOWN, COUNT_DOWN = Order("_key", False), Order("_count", False)


def read(**aggs):
    return read_aggregations(aggs, RequestBudget())


def one(kind, subs=None, **body):
    (found,) = read(x={kind: body, "aggs": subs or {}})
    assert found.type_name == kind
    return found.kind


def by_time(**body):
    return one("date_histogram", field="t", **body)


READ = [
    (by_time, {"fixed_interval": "90m"}, DateHistogramAggregation("t", 5_400_000, None)),
    (by_time, {"fixed_interval": "3600000ms"}, DateHistogramAggregation("t", 3_600_000, None)),
    (by_time, {"calendar_interval": "month"}, DateHistogramAggregation("t", None, "1M")),
    (by_time, {"calendar_interval": "1q"}, DateHistogramAggregation("t", None, "1q")),
    (by_time, {"calendar_interval": "1s"}, DateHistogramAggregation("t", 1_000, None)),
    (by_time, {"interval": "day"}, DateHistogramAggregation("t", None, "1d")),
    (by_time, {"interval": "1d"}, DateHistogramAggregation("t", None, "1d")),
    (by_time, {"interval": "2d"}, DateHistogramAggregation("t", 172_800_000, None)),
    (by_time, {"interval": 60_000}, DateHistogramAggregation("t", 60_000, None)),
    (by_time, {"fixed_interval": "1d", "offset": "+6h"}, replace(DAILY, offset_ms=21_600_000)),
    (by_time, {"fixed_interval": "1d", "offset": "-6h"}, replace(DAILY, offset_ms=-21_600_000)),
    (by_time, {"fixed_interval": "1d", "offset": 3_600_000}, replace(DAILY, offset_ms=3_600_000)),
    (
        by_time,
        {"fixed_interval": "1d", "time_zone": "Europe/Berlin"},
        DateHistogramAggregation("t", 86_400_000, None, "Europe/Berlin"),
    ),
    (by_time, {"fixed_interval": "1d", "time_zone": -3}, DateHistogramAggregation("t", 86_400_000, None, "-03:00")),
    (
        by_time,
        {
            "fixed_interval": "1d", "format": "yyyy", "keyed": "true", "min_doc_count": "5", "missing": "2020-01-01",
            "extended_bounds": {"min": "now-1d", "max": 5}, "hard_bounds": {"min": None},
            "order": [{"_count": "desc"}, {"_time": "DESC"}],
        },
        DateHistogramAggregation(
            "t", 86_400_000, None, "UTC", 0, "yyyy", True, 5, TimeBounds("now-1d", 5), TimeBounds(None, None),
            "2020-01-01", (COUNT_DOWN, KEY_DOWN),
        ),
    ),
    (one, {"kind": "terms", "field": "k"}, TermsAggregation("k")),
    (
        one,
        {"kind": "terms", "field": "k", "size": "5", "min_doc_count": 0, "missing": 0, "include": ["a", 1],
         "exclude": "b.*", "show_term_doc_count_error": True, "shard_size": 50, "execution_hint": "map",
         "collect_mode": "breadth_first", "order": {"_term": "asc"}, "value_type": "string"},
        TermsAggregation("k", 5, 0, 0, ("a", 1), "b.*", (Order("_key", True),), True),
    ),
    (
        one,
        {"kind": "terms", "field": "k", "order": [{"_count": "asc"}]},
        TermsAggregation("k", order=(Order("_count", True),)),
    ),
    (one, {"kind": "histogram", "field": "n", "interval": "5"}, HistogramAggregation("n", 5.0)),
    (
        one,
        {"kind": "histogram", "field": "n", "interval": 5, "offset": 7, "keyed": True, "min_doc_count": 1, "missing": 3,
         "extended_bounds": {"min": "0", "max": 50}, "hard_bounds": {"max": 60}, "format": "0.0",
         "order": {"_key": "desc"}},
        HistogramAggregation("n", 5.0, 7.0, True, 1, (0.0, 50.0), (None, 60.0), 3.0, "0.0", (KEY_DOWN,)),
    ),
    (
        one,
        {"kind": "filters", "filters": {"b": {"term": {"k": "b"}}, "B": {"term": {"k": "a"}}}},
        FiltersAggregation((("B", A), ("b", B)), True),  # in the order of their names
    ),
    (one, {"kind": "filters", "filters": [{"match_all": {}}], "other_bucket": True},
     FiltersAggregation((("0", MATCH_ALL),), False, "_other_")),
    (one, {"kind": "filters", "filters": [{"match_all": {}}], "other_bucket_key": "o"},
     FiltersAggregation((("0", MATCH_ALL),), False, "o")),
    (one, {"kind": "filters", "filters": [{"match_all": {}}], "other_bucket": False, "other_bucket_key": "o"},
     FiltersAggregation((("0", MATCH_ALL),), False)),
    (one, {"kind": "filter", "term": {"k": "a"}}, FiltersAggregation((("x", A),), False, single=True)),
    (
        one,
        {"kind": "range", "field": "n", "ranges": [{"from": 10}, {"to": "5"}, {"from": 5, "to": 10, "key": "mid"}]},
        # in their order
        RangesAggregation("n", (RangeBucket(None, None, 5.0), RangeBucket("mid", 5, 10), RangeBucket(None, 10))),
    ),
    (
        one,
        {"kind": "date_range", "field": "t", "format": "yyyy", "time_zone": "CET", "keyed": True,
         "ranges": [{"from": "now-1d", "to": 1577923200000.0}]},
        RangesAggregation("t", (RangeBucket(None, "now-1d", 1577923200000),), True, True, "yyyy", "CET"),
    ),
    (one, {"kind": "avg", "field": "n"}, MetricAggregation("avg", "n")),
    (one, {"kind": "stats", "field": "n", "format": "0.0", "missing": 5}, MetricAggregation("stats", "n", "0.0", 5)),
    (one, {"kind": "value_count", "field": "k"}, MetricAggregation("value_count", "k")),
]  # fmt: skip


@pytest.mark.parametrize(("how", "body", "right"), READ, ids=lambda value: getattr(value, "__name__", str(value))[:60])
def test_an_aggregation_is_read(how, body, right):
    assert how(**body) == right


SUBS = {
    "m": {"avg": {"field": "n"}},
    "s": {"stats": {"field": "n"}},
    "f": {"filter": {"match_all": {}}, "aggs": {"x": {"max": {"field": "n"}}}},
    "t": {"terms": {"field": "n"}},
    "c": {"sum_bucket": {"buckets_path": "t._count"}},
}


@pytest.mark.parametrize(
    ("path", "right"),
    [("m", "m"), ("m.value", "m"), ("m[value]", "m"), ("s.avg", "s.avg"), ("s[avg]", "s.avg"), ("f>x", "f>x"),
     ("f>x.value", "f>x"), ("f", "f"), ("f>", "f")],
)  # fmt: skip
def test_buckets_are_ordered_by_a_metric_below(path, right):
    assert one("terms", SUBS, field="k", order={path: "desc"}).order == (Order(right, False),)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nope", "Cannot find aggregation named [nope]"),
        ("f>y", "Cannot find aggregation named [y]"),
        ("s", "Missing value key in [s] which refers to a multi-value metric aggregation"),
        (
            "s.foo",
            "No enum constant org.elasticsearch.search.aggregations.metrics.InternalStats.Metrics.foo",
        ),
        (
            "m.avg",
            "Unknown value key [avg] for single-value metric aggregation [m]. Either use [value] as key or drop the "
            "key all together",
        ),
        ("t", "Can't sort a [terms] aggregation [t]"),
        ("t>x", "Can't sort by a descendant of a [terms] aggregation [t]"),
        ("f>x>y", "Metrics aggregations cannot have sub-aggregations (at [>y]"),
        (
            "c",
            "The provided aggregation [c] either does not exist, or is a pipeline aggregation and cannot be used to "
            "sort the buckets.",
        ),
    ],
)
def test_an_order_that_leads_to_no_number_is_refused(path, why):
    with pytest.raises(SearchRefused) as e:
        one("terms", SUBS, field="k", order={path: "desc"})
    assert e.value.reason == f"Invalid aggregation order path [{path}]. {why}"


PARSING, ARGUMENT, X = "parsing_exception", "illegal_argument_exception", "x_content_parse_exception"
REFUSED = [
    ({"x": 5}, PARSING, "Aggregation definition for [x starts with a [VALUE_NUMBER], expected a [START_OBJECT]."),
    ({"x": {}}, PARSING, "Missing definition for aggregation [x]"),
    ({"x": {"foo": {}}}, PARSING, "Unknown aggregation type [foo]"),
    ({"x": {"terms": 5}}, PARSING, "Expected [START_OBJECT] under [terms], but got a [VALUE_NUMBER] in [x]"),
    (
        {"x": {"max": {"field": "n"}, "avg": {"field": "n"}}},
        PARSING,
        "Found two aggregation type definitions in [x]: [max] and [avg]",
    ),
    (
        {"x[": {"avg": {"field": "n"}}},
        PARSING,
        "Invalid aggregation name [x[]. Aggregation names can contain any character except '[', ']', and '>'",
    ),
    (
        {"x": {"avg": {"field": "n"}, "aggs": {"y": {"avg": {"field": "n"}}}}},
        ARGUMENT,
        "Aggregator [x] of type [avg] cannot accept sub-aggregations",
    ),
    (
        {"x": {"terms": {"field": "k"}, "aggs": {}, "aggregations": {}}},
        PARSING,
        "Found two sub aggregation definitions under [x]",
    ),
    ({"x": {"avg": {}}}, ARGUMENT, "Required one of fields [field, script], but none were specified."),
    ({"x": {"avg": {"field": 5}}}, X, "[avg] field doesn't support values of type: VALUE_NUMBER"),
    ({"x": {"avg": {"field": "n", "foo": 5}}}, X, "[avg] unknown field [foo]"),
    (
        {"x": {"date_histogram": {"field": "t"}}},
        ARGUMENT,
        "Invalid interval specified, must be non-null and non-empty",
    ),
    (
        {"x": {"date_histogram": {"field": "t", "calendar_interval": "2d"}}},
        X,
        "[date_histogram] failed to parse field [calendar_interval]: The supplied interval [2d] could not be parsed as "
        "a calendar interval.",
    ),
    (
        {"x": {"date_histogram": {"field": "t", "fixed_interval": "1M"}}},
        X,
        "[date_histogram] failed to parse field [fixed_interval]: failed to parse setting "
        "[date_histogram.fixedInterval] with value [1M] as a time value: unit is missing or unrecognized",
    ),
    (
        {"x": {"date_histogram": {"field": "t", "fixed_interval": "0ms"}}},
        ARGUMENT,
        "Zero or negative time interval not supported",
    ),
    (
        {"x": {"date_histogram": {"field": "t", "fixed_interval": "1d", "calendar_interval": "1d"}}},
        X,
        "[date_histogram] failed to parse field [calendar_interval]: Cannot use [calendar_interval] with "
        "[fixed_interval] configuration option.",
    ),
    (
        {"x": {"date_histogram": {"field": "t", "fixed_interval": "1d", "interval": "1d"}}},
        X,
        "[date_histogram] failed to parse field [interval]: Cannot use [interval] with [fixed_interval] or "
        "[calendar_interval] configuration options.",
    ),
    (
        {"x": {"date_histogram": {"field": "t", "interval": "x"}}},
        X,
        "[date_histogram] failed to parse field [interval]: Unable to parse interval [x]",
    ),
    (
        {"x": {"date_histogram": {"field": "t", "fixed_interval": "1d", "extended_bounds": {"min": 1.5}}}},
        X,
        "[date_histogram] failed to parse field [extended_bounds]: [bounds] failed to parse field [min]: 1.5 cannot be "
        "converted to Long without data loss",
    ),
    (
        {"x": {"date_histogram": {"field": "t", "fixed_interval": "1d", "order": {"_key": "x"}}}},
        X,
        "[date_histogram] failed to parse field [order]: Unknown order direction [x]",
    ),
    (
        {"x": {"date_histogram": {"field": "t", "fixed_interval": "1d", "min_doc_count": -1}}},
        X,
        "[date_histogram] failed to parse field [min_doc_count]: [minDocCount] must be greater than or equal to 0. "
        "Found [-1] in [x]",
    ),
    (
        {"x": {"terms": {"field": "k", "size": 0}}},
        X,
        "[terms] failed to parse field [size]: [size] must be greater than 0. Found [0] in [x]",
    ),
    (
        {"x": {"terms": {"field": "k", "missing": None}}},
        X,
        "[terms] failed to parse field [missing]: [missing] must not be null: [x]",
    ),
    ({"x": {"terms": {"field": "k", "order": "x"}}}, X, "[terms] order doesn't support values of type: VALUE_STRING"),
    ({"x": {"histogram": {"field": "n"}}}, ARGUMENT, "interval must be positive, got: 0.0"),
    (
        {"x": {"histogram": {"field": "n", "interval": -1}}},
        X,
        "[histogram] failed to parse field [interval]: [interval] must be >0 for histogram aggregation [x]",
    ),
    (
        {
            "x": {
                "histogram": {
                    "field": "n",
                    "interval": 5,
                    "hard_bounds": {"min": 0, "max": 10},
                    "extended_bounds": {"min": 0, "max": 50},
                }
            }
        },
        ARGUMENT,
        "Extended bounds have to be inside hard bounds, hard bounds: [0.0--10.0], extended bounds: [0.0--50.0]",
    ),
    ({"x": {"filters": {}}}, ARGUMENT, "[filters] cannot be empty."),
    ({"x": {"filters": {"filters": 5}}}, PARSING, "Unknown key for a VALUE_NUMBER in [x]: [filters]."),
    ({"x": {"filter": {}}}, ARGUMENT, "query malformed, empty clause found"),
    ({"x": {"range": {"field": "n", "ranges": []}}}, ARGUMENT, "No [ranges] specified for the [x] aggregation"),
]


@pytest.mark.parametrize(("aggs", "kind", "reason"), REFUSED, ids=str)
def test_an_aggregation_is_refused_in_elasticsearch_s_words(aggs, kind, reason):
    with pytest.raises(SearchRefused) as e:
        read_aggregations(aggs, RequestBudget())
    assert (e.value.kind, e.value.reason) == (kind, reason)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("percentiles", "no distribution"), ("cardinality", "distinct values"), ("extended_stats", "no squares"),
        ("top_metrics", "no single documents"), ("rate", "per bucket"), ("nested", "documents within documents"),
        ("geohash_grid", "no places"), ("moving_avg", "moving_fn"), ("composite", "terms"),
    ],
)  # fmt: skip
def test_why_summaries_cannot_answer_is_said(kind, why):
    with pytest.raises(SearchRefused, match=rf"aggregation \[1\] of type \[{kind}\] cannot be answered .*{why}"):
        read_aggregations({"1": {kind: {"field": "n"}}}, RequestBudget())


def piped(kind, parent=None, **options):
    parent = parent or {"date_histogram": {"field": "t", "fixed_interval": "1d"}}
    (found,) = read(h={**parent, "aggs": {"m": {"avg": {"field": "n"}}, "p": {kind: options}}})
    return found.subs[1].kind


@pytest.mark.parametrize(
    ("kind", "options", "right"),
    [
        ("derivative", {"buckets_path": ["m"], "unit": "1d", "format": "0"},
         {"buckets_path": "m", "unit": "1d", "format": "0"}),
        ("derivative", {"buckets_path": "_count", "gap_policy": "insert_zeros"}, None),
        ("cumulative_sum", {"buckets_path": "m"}, None),
        ("serial_diff", {"buckets_path": "m", "lag": "7"}, {"buckets_path": "m", "lag": 7}),
        ("moving_fn", {"buckets_path": "m", "window": "3", "shift": -1, "script": "MovingFunctions.max(values)"},
         {"buckets_path": "m", "window": 3, "shift": -1, "script": "MovingFunctions.max(values)"}),
        ("bucket_script", {"buckets_path": {"a": "m", "c": "_count"}, "script": {"source": "params.a"}}, None),
        ("bucket_selector", {"buckets_path": {"a": "m.value"}, "script": "params.a > 1"}, None),
        ("bucket_sort", {"sort": ["m", {"_key": "desc"}, {"m": {"order": "ASC"}}], "size": "2", "from": 1},
         {"sort": ("m", {"_key": {"order": "desc"}}, {"m": {"order": "asc"}}), "size": 2, "from": 1}),
    ],
)  # fmt: skip
def test_a_pipeline_is_read(kind, options, right):
    assert piped(kind, **options) == PipelineAggregation(kind, right or options)


def test_a_pipeline_beside_buckets_is_read():
    by_day = {"date_histogram": {"field": "t", "fixed_interval": "1d"}, "aggs": {"m": {"avg": {"field": "n"}}}}
    for path in ("h>m", "h>m.value", "h._count", "h>_count"):
        found = read(h=by_day, p={"max_bucket": {"buckets_path": path}})
        assert found[1].kind == PipelineAggregation("max_bucket", {"buckets_path": path})


INVALID = "action_request_validation_exception"
OVER = "must have a histogram, date_histogram or auto_date_histogram as parent"
TERMS = {"terms": {"field": "k"}}
BAD_PIPELINES = [
    ("derivative", {}, None, PARSING, "Missing required field [buckets_path] for derivative aggregation [p]"),
    ("moving_fn", {"buckets_path": "m", "window": 3}, None, PARSING,
     "Missing required field [script] for moving_fn aggregation [p]"),
    ("derivative", {"buckets_path": "nope"}, None, INVALID,
     "Validation Failed: 1: No aggregation found for path [nope];"),
    ("derivative", {"buckets_path": "m"}, TERMS, INVALID, f"Validation Failed: 1: derivative aggregation [p] {OVER};"),
    ("derivative", {"buckets_path": "m"},
     {"date_histogram": {"field": "t", "fixed_interval": "1d", "min_doc_count": 1}}, INVALID,
     "Validation Failed: 1: parent histogram of derivative aggregation [p] must have min_doc_count of 0;"),
    ("cumulative_sum", {"buckets_path": "m", "gap_policy": "skip"}, None, X,
     "[cumulative_sum] unknown field [gap_policy]"),
    ("bucket_sort", {}, None, INVALID, "Validation Failed: 1: [p] is configured to perform nothing. Please set either "
     "of [sort, size, from] to use bucket_sort;"),
    ("derivative", {"buckets_path": "m", "gap_policy": "x"}, None, PARSING,
     "[derivative] failed to parse field [gap_policy] in [p]: Invalid gap policy: [x], accepted values: [insert_zeros, "
     "skip, keep_values]"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "parent", "error", "reason"), BAD_PIPELINES)
def test_a_pipeline_is_refused(kind, options, parent, error, reason):
    with pytest.raises(SearchRefused) as e:
        piped(kind, parent, **options)
    assert (e.value.kind, e.value.reason) == (error, reason)


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        ("derivative", {"buckets_path": "h>m"}, f"derivative aggregation [p] {OVER} but doesn't have a parent"),
        ("bucket_sort", {"size": 1}, "bucket_sort aggregation [p] must be declared inside of another aggregation"),
        ("avg_bucket", {"buckets_path": "nope>m"}, "No aggregation found for path [nope>m]"),
        ("avg_bucket", {"buckets_path": "h>nope"}, "No aggregation [nope] found for path [h>nope]"),
    ],
)
def test_a_pipeline_in_the_wrong_place_is_refused(kind, body, reason):
    by_day = {"date_histogram": {"field": "t", "fixed_interval": "1d"}, "aggs": {"m": {"avg": {"field": "n"}}}}
    with pytest.raises(SearchRefused) as e:
        read(h=by_day, p={kind: body})
    assert (e.value.kind, e.value.reason) == (INVALID, f"Validation Failed: 1: {reason};")


def nested(depth):
    aggs = {"x": {"max": {"field": "n"}}}
    for _ in range(depth):
        aggs = {"x": {"terms": {"field": "k"}, "aggs": aggs}}
    return aggs


@pytest.mark.parametrize(
    "aggs",
    [
        nested(21),
        nested(900),
        {str(i): {"max": {"field": "n"}} for i in range(1_001)},
        {"x" * 600: {"max": {"field": "n"}}},
        {"x": {"terms": {"field": "k", "include": ["a"] * 10_001}}},
        {"x": {"terms": {"field": "k", "order": [{"_key": "asc"}] * 9}}},
        {str(i): {"date_histogram": {"field": "t", "interval": "1d", "time_zone": i}} for i in range(5)},
        {"x": {"range": {"field": "n", "ranges": [{"from": 1}] * 1_025}}},
        {"x": {"filters": {"filters": [{"match_all": {}}] * 1_025}}},
        {"h": {"terms": {"field": "k"}, "aggs": {"x": {"bucket_script": {"buckets_path": {}, "script": "1" * 5_000}}}}},
    ],
    ids=range(10),
)
def test_there_is_a_limit_to_everything(aggs):
    with pytest.raises(SearchRefused):
        read_aggregations(aggs, RequestBudget())


def test_meta_is_kept_and_the_order_is_the_request_s():
    found = read(b={"max": {"field": "n"}, "meta": {"a": 1}}, a={"min": {"field": "n"}})
    assert [(one.name, one.meta) for one in found] == [("b", {"a": 1}), ("a", None)]
    assert read_aggregations(nested(20), RequestBudget())
