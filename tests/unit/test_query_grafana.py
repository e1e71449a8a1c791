"""What Grafana's Elasticsearch data source sends, kind by kind, and what it reads of the answers.

Bodies as its sources build them: panels, variables, ad-hoc filters, annotations, alerts. Half of the day is rolled up;
right answers are those over all rows.
"""

import json
from typing import Any

import pytest

from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.msearch import items
from rollup_operator.query.planning.planner import plan
from rollup_operator.query.reading.request import parse_request
from rollup_operator.query.sources import IndexOptions
from support.search_jobs import DAY, HOUR, answered, live_of, spec_of, tier_of
from support.search_reference import roll_up

NOON = 12 * HOUR
SPEC = spec_of()
HEADER = {"ignore_unavailable": True, "index": "flights-*", "search_type": "query_then_fetch"}
FROM, TO = 0, DAY - 1
CARRIERS = ("AA", "DL", "UA", None)
ROWS = [
    {"time": i * HOUR // 4, "carrier": CARRIERS[i % 4], "delay": None if i % 5 == 0 else float(i - 20)}
    for i in range(96)
]


def panel(aggs: dict[str, Any], query: str = "", *, begin: int = FROM, end: int = TO) -> dict[str, Any]:
    """The body of a panel or an alert: the filter is an object where it is alone."""
    time = {"range": {"time": {"gte": begin, "lte": end, "format": "epoch_millis"}}}
    text = {"query_string": {"analyze_wildcard": True, "query": query}}
    return {"size": 0, "query": {"bool": {"filter": [time, text] if query else time}}, "aggs": aggs}


def by_time(subs: dict[str, Any] | None = None, interval: str = "3600000ms", **more: Any) -> dict[str, Any]:
    histogram = {
        "field": "time",
        "fixed_interval": interval,
        "min_doc_count": 0,
        "extended_bounds": {"min": FROM, "max": TO},
        "format": "epoch_millis",
        **more,
    }
    return {"date_histogram": histogram, **({"aggs": subs} if subs else {})}


def answer(body: dict[str, Any], *, end: int = NOON) -> Any:
    """Send the body as Grafana does, over a job that has rolled up the time before `end`."""
    lines = "".join(json.dumps(line) + "\n" for line in (HEADER, body))
    [item] = items(lines.encode(), (), IndexOptions())
    assert item.options.ignore_unavailable
    made = plan(parse_request(item.body), [tier_of("job", SPEC, 0, end)], live_of(SPEC), DAY)
    return answered(made, ROWS, {"job": roll_up("job", SPEC, ROWS, 0, end)})


MOVING_AVERAGE, RATIO = "MovingFunctions.unweightedAvg(values)", "params.a / params.b"
AVERAGE = {"1": {"avg": {"field": "delay"}}}
PANELS = {
    "count": panel({"2": by_time()}),
    "average": panel({"2": by_time(AVERAGE)}),
    "all kinds of metrics": panel(
        {"2": by_time({k: {k: {"field": "delay"}} for k in ("sum", "min", "max", "avg", "value_count", "stats")})}
    ),
    "by carrier": panel(
        {
            "3": {
                "terms": {"field": "carrier", "size": 10, "order": {"_key": "desc"}, "min_doc_count": 1},
                "aggs": {"2": by_time(AVERAGE)},
            }
        }
    ),
    "top carriers by a metric": panel(
        {
            "3": {
                "terms": {"field": "carrier", "size": 2, "order": {"1": "desc"}, "min_doc_count": 1},
                "aggs": {**AVERAGE, "2": by_time(AVERAGE)},
            }
        }
    ),
    "top carriers by count, with missing": panel(
        {
            "3": {
                "terms": {
                    "field": "carrier",
                    "size": 500,
                    "order": {"_count": "desc"},
                    "min_doc_count": 1,
                    "missing": "-",
                },
                "aggs": {"2": by_time()},
            }
        }
    ),
    "an old saved query": panel({"3": {"terms": {"field": "carrier", "size": 10, "order": {"_term": "asc"}}}}),
    "filters": panel(
        {
            "4": {
                "filters": {
                    "filters": {
                        "big": {"query_string": {"query": "carrier:(AA OR DL)", "analyze_wildcard": True}},
                        "rest": {"query_string": {"query": "*", "analyze_wildcard": True}},
                    }
                },
                "aggs": {"2": by_time()},
            }
        }
    ),
    "a calendar, in a zone": panel(
        {
            "2": {
                "date_histogram": {
                    "field": "time",
                    "calendar_interval": "1d",
                    "time_zone": "Europe/Berlin",
                    "min_doc_count": 0,
                    "format": "epoch_millis",
                }
            }
        }
    ),
    "an offset": panel({"2": by_time(offset="+1h", interval="21600000ms")}),
    "pipelines": panel(
        {
            "2": by_time(
                {
                    "1": {"sum": {"field": "delay"}},
                    "5": {"derivative": {"buckets_path": "1", "unit": "1h"}},
                    "6": {"cumulative_sum": {"buckets_path": "1", "format": ""}},
                    "7": {
                        "moving_fn": {
                            "buckets_path": "1",
                            "window": 3,
                            "script": MOVING_AVERAGE,
                        }
                    },
                    "8": {"serial_diff": {"buckets_path": "1", "lag": 1}},
                    "9": {"bucket_script": {"buckets_path": {"a": "1", "b": "_count"}, "script": RATIO}},
                }
            )
        }
    ),
    "the query box": panel({"2": by_time(AVERAGE)}, "carrier:(AA OR D*) AND NOT carrier:UA"),
    "an ad-hoc filter": panel({"2": by_time()}, 'carrier:"AA"'),
    "ad-hoc filters of other kinds": panel({"2": by_time()}, '-carrier:"AA" AND carrier:/D.*/'),
    "the values of a variable": {
        "size": 0,
        "query": {"bool": {"filter": [{"range": {"time": {"gte": FROM, "lte": TO, "format": "epoch_millis"}}}]}},
        "aggs": {"1": {"terms": {"field": "carrier", "size": 500, "order": {"_key": "asc"}}}},
    },
}


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_is_answered_as_over_all_rows(name: str) -> None:
    found = answer(PANELS[name])
    assert found["aggregations"] == answer(PANELS[name], end=0)["aggregations"]
    assert found["hits"]["hits"] == []
    read(PANELS[name]["aggs"], found["aggregations"])


def read(asked: dict[str, Any], found: dict[str, Any]) -> None:
    """Read an answer as Grafana's parser does: by the ids of the request, buckets down to metrics."""
    for name, aggregation in asked.items():
        result = found[name]
        if "buckets" not in result:
            assert "value" in result or "avg" in result or "derivative" in aggregation or "serial_diff" in aggregation
            continue
        buckets = result["buckets"]
        named = isinstance(buckets, dict)
        for bucket in buckets.values() if named else buckets:
            assert isinstance(bucket["doc_count"], int)
            assert named or isinstance(bucket["key"], int | str)
            if "date_histogram" in aggregation:
                assert bucket["key_as_string"] == str(bucket["key"])
            subs = aggregation.get("aggs", {})
            metrics = {n: a for n, a in subs.items() if n in bucket}
            # The first bucket has no derivative and no difference; all else is in every bucket.
            assert {n for n in subs if n not in bucket} <= {n for n, a in subs.items() if set(a) & PARTIAL}
            read(metrics, bucket)


PARTIAL = {"derivative", "serial_diff", "moving_fn"}


def test_an_auto_interval_is_widened_where_it_is_finer_than_the_jobs() -> None:
    found = answer(panel({"2": by_time(interval="900000ms")}))
    assert [b["key"] for b in found["aggregations"]["2"]["buckets"]] == [h * HOUR for h in range(24)]
    assert found["_rollup"]["interval"] == "1h"


def test_edges_that_do_not_align_take_whole_buckets() -> None:
    found = answer(panel({"2": by_time()}, begin=2 * HOUR + 1, end=DAY - 1))
    counts = {b["key"]: b["doc_count"] for b in found["aggregations"]["2"]["buckets"]}
    assert counts[2 * HOUR] == 4
    assert found["_rollup"]["rounded"][0]["begins"] == "1970-01-01T02:00:00.000Z"


def test_annotations_find_no_documents_and_are_no_error() -> None:
    body = {
        "size": 10_000,
        "query": {
            "bool": {
                "filter": [
                    {"bool": {"should": [{"range": {"time": {"from": FROM, "to": TO, "format": "epoch_millis"}}}]}},
                    {"query_string": {"query": "tags:deploy"}},
                ]
            }
        },
    }
    assert parse_request(body).for_annotations


@pytest.mark.parametrize(
    ("metric", "why"),
    [
        ({"percentiles": {"field": "delay", "percents": ["50", "95"]}}, "percentiles"),
        ({"cardinality": {"field": "carrier"}}, "cardinality"),
        ({"extended_stats": {"field": "delay", "sigma": "2"}}, "extended_stats"),
        ({"top_metrics": {"metrics": [{"field": "delay"}], "size": "1"}}, "top_metrics"),
    ],
)
def test_what_summaries_cannot_tell_is_refused_with_the_reason(metric: dict[str, Any], why: str) -> None:
    with pytest.raises(SearchRefused, match=why):
        answer(panel({"2": by_time({"1": metric})}))


@pytest.mark.parametrize("size", [500, 10_000])
def test_raw_documents_are_refused(size: int) -> None:
    with pytest.raises(SearchRefused, match="no single documents"):
        answer({"size": size, "query": {"match_all": {}}, "sort": {"time": {"order": "desc"}}})
