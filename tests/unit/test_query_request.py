"""Bodies of searches, read. The errors of Elasticsearch were read off a real Elasticsearch 8."""

import time

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
from rollup_operator.query.clauses import MATCH_ALL, BoolClause, RangeClause, TermClause
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.reading.request import SearchRequest, parse_request, with_parameters

FROM, TO = 1_600_000_000_123, 1_602_592_000_456

PANEL = {
    "size": 0,
    "query": {
        "bool": {
            "filter": [
                {"range": {"time": {"gte": FROM, "lte": TO, "format": "epoch_millis"}}},
                {"query_string": {"analyze_wildcard": True, "query": 'carrier:"AA"'}},
            ]
        }
    },
    "aggs": {
        "3": {
            "terms": {
                "field": "carrier",
                "size": "500",
                "order": {"_term": "desc"},
                "min_doc_count": 1,
                "missing": "-",
            },
            "aggs": {
                "2": {
                    "date_histogram": {
                        "field": "time",
                        "fixed_interval": "3600000ms",
                        "min_doc_count": 0,
                        "extended_bounds": {"min": FROM, "max": TO},
                        "format": "epoch_millis",
                    },
                    "aggs": {"1": {"avg": {"field": "delay"}}, "4": {"derivative": {"buckets_path": "1"}}},
                }
            },
        }
    },
}


def test_a_panel_of_grafana_is_read():
    inner = Aggregation(
        "2",
        DateHistogramAggregation("time", 3_600_000, None, format="epoch_millis", extended_bounds=TimeBounds(FROM, TO)),
        (
            Aggregation("1", MetricAggregation("avg", "delay")),
            Aggregation("4", PipelineAggregation("derivative", {"buckets_path": "1"})),
        ),
    )
    terms = TermsAggregation("carrier", 500, 1, "-", order=(Order("_key", False),))
    assert parse_request(PANEL) == SearchRequest(
        query=BoolClause(
            must=(
                RangeClause("time", FROM, TO, True, True, "epoch_millis"),
                TermClause("carrier", ("AA",), "query_string", lenient=True),
            )
        ),
        aggregations=(Aggregation("3", terms, (inner,)),),
    )


def test_a_panel_is_read_in_a_moment():
    best = 1.0
    for _ in range(50):
        begin = time.perf_counter()
        parse_request(PANEL)
        best = min(best, time.perf_counter() - begin)
    assert best < 0.002  # 0.1 ms on an idle machine


def test_what_a_request_says_of_itself():
    assert parse_request({"size": 0}) == SearchRequest()
    assert parse_request({"size": 0, "query": {"match_all": {}}, "aggs": {}}).query == MATCH_ALL
    assert parse_request({"size": 0}, "rollup_search").door == "rollup_search"
    assert parse_request({"size": "0", "timeout": "30s"}).timeout_ms == 30_000
    assert parse_request({"size": 0, "timeout": "-1"}).timeout_ms is None


@pytest.mark.parametrize(
    ("given", "as_int", "right"),
    [
        (None, False, 10_000), (None, True, None), (True, False, None), ("true", True, None), (False, False, -1),
        ("false", True, -1), (5, False, 5), ("5", False, 5), (0, False, 0), (-1, False, -1), (2**31 - 1, False, None),
    ],
)  # fmt: skip
def test_up_to_how_many_documents_are_counted(given, as_int, right):
    body = {"size": 0} if given is None else {"size": 0, "track_total_hits": given}
    assert parse_request(body, total_hits_as_int=as_int).counts_up_to == right


HARMLESS = {
    "stored_fields": ["*"], "script_fields": {}, "docvalue_fields": [{"field": "time"}], "fields": ["*"],
    "_source": {"excludes": []}, "runtime_mappings": {"other": {"type": "long"}}, "sort": [{"time": "desc"}],
    "version": True, "from": 5, "highlight": {"fields": {"*": {}}}, "profile": False, "explain": False, "stats": ["x"],
    "search_after": [1], "rescore": {}, "track_scores": False, "indices_boost": [], "ext": {}, "post_filter": {},
    "terminate_after": 0, "collapse": {"field": "x"},
}  # fmt: skip


def test_what_is_about_hits_alone_changes_nothing():
    assert parse_request({"size": 0, **HARMLESS}) == SearchRequest()


ARGUMENT, PARSING, NUMBER = "illegal_argument_exception", "parsing_exception", "number_format_exception"
REFUSED = [
    ([], PARSING, "Expected [START_OBJECT] but found [START_ARRAY]"),
    ({"foo": 1}, PARSING, "Unknown key for a VALUE_NUMBER in [foo]."),
    ({"size": [1]}, PARSING, "Unknown key for a START_ARRAY in [size]."),
    ({"size": None}, PARSING, "Unknown key for a VALUE_NULL in [size]."),
    ({"query": 5}, PARSING, "Unknown key for a VALUE_NUMBER in [query]."),
    ({"aggs": []}, PARSING, "Unknown key for a START_ARRAY in [aggs]."),
    ({"size": -1}, ARGUMENT, "[size] parameter cannot be negative, found [-1]"),
    ({"from": -1, "size": 0}, ARGUMENT, "[from] parameter cannot be negative but was [-1]"),
    ({"size": "x"}, NUMBER, 'For input string: "x"'),
    ({"size": 0, "track_total_hits": "x"}, NUMBER, 'For input string: "x"'),
    (
        {"size": 0, "track_total_hits": -5},
        ARGUMENT,
        "[track_total_hits] parameter must be positive or equals to -1, got -5",
    ),
    (
        {"size": 0, "timeout": 5},
        ARGUMENT,
        "failed to parse setting [timeout] with value [5] as a time value: unit is missing or unrecognized",
    ),
    (
        {"size": 0, "profile": "x"},
        ARGUMENT,
        "Failed to parse value [x] as only [true] or [false] are allowed.",
    ),
    (
        {"size": 0, "min_score": 1},
        ARGUMENT,
        "[min_score] cannot be answered over rolled-up data, whose documents have no score",
    ),
    (
        {"size": 0, "post_filter": {"match_all": {}}},
        ARGUMENT,
        "[post_filter] cannot be answered over rolled-up data: put the condition into [query]",
    ),
    (
        {"size": 0, "terminate_after": 1},
        ARGUMENT,
        "[terminate_after] cannot be answered over rolled-up data: leave it out",
    ),
    (
        {"size": 0, "runtime_mappings": {"x": {"type": "long"}}, "query": {"term": {"x": 1}}},
        ARGUMENT,
        "field [x] is computed by [runtime_mappings], which rolled-up data cannot answer",
    ),
]


@pytest.mark.parametrize(("body", "kind", "reason"), REFUSED, ids=str)
def test_a_body_is_refused_in_elasticsearch_s_words(body, kind, reason):
    with pytest.raises(SearchRefused) as e:
        parse_request(body)
    assert (e.value.kind, e.value.reason) == (kind, reason)


def test_total_hits_as_a_number_have_to_be_exact():
    with pytest.raises(SearchRefused) as e:
        parse_request({"size": 0, "track_total_hits": 10}, total_hits_as_int=True)
    assert e.value.reason == (
        "[rest_total_hits_as_int] cannot be used if the tracking of total hits is not accurate, got 10"
    )


ROLLUP = [
    ({}, "Rollup does not support returning search hits, please try again with [size: 0]."),
    ({"size": 10, "profile": True}, "Rollup does not support returning search hits, please try again with [size: 0]."),
    ({"size": 0, "post_filter": {"match_all": {}}}, "Rollup search does not support post filtering."),
    ({"size": 0, "suggest": {"x": {}}}, "Rollup search does not support suggestors."),
    ({"size": 0, "highlight": {"fields": {}}}, "Rollup search does not support highlighting."),
    ({"size": 0, "profile": True}, "Rollup search does not support profiling at the moment."),
    ({"size": 0, "explain": True}, "Rollup search does not support explaining."),
    (
        {"size": 0, "query": {"match_phrase": {"k": "a"}}},
        "Unsupported Query in search request: [match_phrase]",
    ),
    (
        {"size": 0, "aggs": {"x": {"percentiles": {"field": "n"}}}},
        "Unable to translate aggregation tree into Rollup.  Aggregation [x] is of type [PercentilesAggregationBuilder] "
        "which is currently unsupported.",
    ),
    (
        {"size": 0, "aggs": {"x": {"filters": {"filters": {"a": {"match_all": {}}}}}}},
        "Unable to translate aggregation tree into Rollup.  Aggregation [x] is of type [FiltersAggregationBuilder] "
        "which is currently unsupported.",
    ),
]


@pytest.mark.parametrize(("body", "reason"), ROLLUP, ids=str)
def test_rollup_search_has_elasticsearch_s_limits(body, reason):
    with pytest.raises(SearchRefused) as e:
        parse_request(body, "rollup_search")
    assert (e.value.kind, e.value.reason) == (ARGUMENT, reason)


def test_rollup_search_takes_what_elasticsearch_s_does_and_pipelines():
    body = {
        "size": 0,
        "profile": False,
        "query": {"bool": {"must": [{"term": {"k": "a"}}], "filter": [{"range": {"t": {"gte": 1}}}]}},
        "aggs": {
            "h": {
                "date_histogram": {"field": "t", "interval": "1h"},
                "aggs": {"s": {"sum": {"field": "n"}}, "c": {"cumulative_sum": {"buckets_path": "s"}}},
            }
        },
    }
    assert parse_request(body, "rollup_search").aggregations == parse_request(body).aggregations


ANNOTATIONS = {
    "size": 10_000,
    "query": {
        "bool": {
            "filter": [
                {"bool": {"should": [{"range": {"time": {"gte": FROM, "lte": TO}}}], "minimum_should_match": 1}},
                {"query_string": {"query": "k:deploy"}},
            ]
        }
    },
}


def test_annotations_get_no_hits_and_other_requests_for_documents_are_refused():
    assert parse_request(ANNOTATIONS).for_annotations
    assert not parse_request({"aggs": {"1": {"max": {"field": "n"}}}}).for_annotations
    for body in (
        {},
        {"size": 500, "sort": [{"time": "desc"}]},
        {"size": 5, "aggs": {"1": {"max": {"field": "n"}}}},
        {**ANNOTATIONS, "sort": ["time"]},
    ):
        with pytest.raises(SearchRefused, match="no single documents"):
            parse_request(body)


def test_parameters_of_the_url_count_more():
    body = with_parameters(
        {"size": 5, "query": {"match_none": {}}}, {"q": "k:a", "size": "0", "timeout": "1s", "x": "y"}
    )
    assert parse_request(body) == SearchRequest(
        query=TermClause("k", ("a",), "query_string", lenient=True), timeout_ms=1_000
    )
    assert with_parameters({"size": 0}, {}) == {"size": 0}
