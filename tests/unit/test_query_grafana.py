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
ROWS: list[dict[str, Any]] = [
    {
        "time": i * HOUR // 4,
        "carrier": CARRIERS[i % 4],
        "code": None if i % 7 == 0 else i % 3,
        "distance": float(i * 37 % 500),
        "delay": None if i % 5 == 0 else float(i - 20),
    }
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


def answer(body: dict[str, Any], *, end: int = NOON, header: dict[str, Any] = HEADER) -> Any:
    """Send the body as Grafana does, over a job that has rolled up the time before `end`."""
    lines = "".join(json.dumps(line) + "\n" for line in (header, body))
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
    "rows without a time": panel({"2": by_time(AVERAGE, missing=str(5 * HOUR))}),
    "OpenSearch's data source": panel(
        {
            "2": {
                "date_histogram": {
                    "field": "time",
                    "interval": "1h",
                    "min_doc_count": 0,
                    "extended_bounds": {"min": FROM, "max": TO},
                    "format": "epoch_millis",
                },
                "aggs": AVERAGE,
            }
        }
    ),
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
    "a histogram": panel(
        {"3": {"histogram": {"field": "distance", "interval": 100, "min_doc_count": 1}, "aggs": AVERAGE}}
    ),
    "a table": panel(
        {"3": {"terms": {"field": "code", "size": 10, "order": {"_count": "desc"}, "missing": "9"}, "aggs": AVERAGE}}
    ),
    "terms within terms": panel(
        {
            "3": {
                "terms": {"field": "carrier", "size": 10, "order": {"_key": "asc"}, "min_doc_count": 1},
                "aggs": {
                    "4": {
                        "terms": {"field": "code", "size": 10, "order": {"_count": "asc"}},
                        "aggs": {"2": by_time(AVERAGE)},
                    }
                },
            }
        }
    ),
    "metrics of rows without a value": panel({"2": by_time({"1": {"avg": {"field": "delay", "missing": "0"}}})}),
    "a derivative without a unit": panel({"2": by_time({**AVERAGE, "4": {"derivative": {"buckets_path": "1"}}})}),
    "a sum over a hidden group": panel(
        {
            "2": by_time(
                {
                    "1_groupby": {
                        "terms": {"field": "carrier", "size": 500},
                        "aggs": {"1_metric": {"max": {"field": "delay"}}},
                    },
                    **{
                        name: {f"{name}_bucket": {"buckets_path": "1_groupby>1_metric"}}
                        for name in ("sum", "min", "max", "avg")
                    },
                }
            )
        }
    ),
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
            assert "value" in result or "avg" in result
            continue
        buckets = result["buckets"]
        named = isinstance(buckets, dict)
        for bucket in buckets.values() if named else buckets:
            assert isinstance(bucket["doc_count"], int)
            assert named or isinstance(bucket["key"], int | float | str)
            if "date_histogram" in aggregation:
                assert bucket["key_as_string"] == str(bucket["key"])
            subs = aggregation.get("aggs", {})
            metrics = {n: a for n, a in subs.items() if n in bucket}
            # The first bucket has no derivative and no difference; all else is in every bucket.
            assert {n for n in subs if n not in bucket} <= {n for n, a in subs.items() if set(a) & PARTIAL}
            read(metrics, bucket)


PARTIAL = {"derivative", "serial_diff", "moving_fn"}
BUCKETS = {"date_histogram", "filters", "histogram", "terms"}


def shown(asked: dict[str, Any], found: dict[str, Any], *labels: str) -> dict[tuple[str, ...], dict[Any, Any]]:
    """What a panel shows: points by their times, or rows by their labels, for the labels above and each metric's id.

    A label is `key_as_string` before `key`, a number `normalized_value` before `value`.
    """
    out: dict[tuple[str, ...], dict[Any, Any]] = {}
    for name, aggregation in asked.items():
        if not aggregation.keys() & BUCKETS or name.endswith("_groupby"):
            continue
        buckets = found[name]["buckets"]
        named = list(buckets.items()) if isinstance(buckets, dict) else [("", bucket) for bucket in buckets]
        subs = aggregation.get("aggs", {})
        for given, bucket in named:
            label = given or str(bucket.get("key_as_string", bucket["key"]))
            if any(sub.keys() & BUCKETS for n, sub in subs.items() if not n.endswith("_groupby")):
                out |= shown(subs, bucket, *labels, label)
                continue
            at = bucket["key"] if "date_histogram" in aggregation else label
            out.setdefault((*labels, "count"), {})[at] = bucket["doc_count"]
            for metric in subs.keys() & bucket.keys() - {"1_groupby"}:
                value = bucket[metric].get("normalized_value", bucket[metric].get("value"))
                out.setdefault((*labels, metric), {})[at] = value
    return out


def points(body: dict[str, Any]) -> dict[tuple[str, ...], dict[Any, Any]]:
    return shown(body["aggs"], answer(body)["aggregations"])


def mean(rows: list[dict[str, Any]]) -> float | None:
    values = [row["delay"] for row in rows if row["delay"] is not None]
    return sum(values) / len(values) if values else None


def hours(rows: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    return {h * HOUR: [row for row in rows if row["time"] // HOUR == h] for h in range(24)}


def of(field: str, value: Any) -> list[dict[str, Any]]:
    return [row for row in ROWS if row[field] == value]


def test_a_chart_shows_a_point_for_each_hour() -> None:
    by_hour = hours(ROWS)
    means = {hour: mean(rows) for hour, rows in by_hour.items()}
    assert points(PANELS["average"]) == {("count",): dict.fromkeys(by_hour, 4), ("1",): means}
    changes = {hour: value - (means[hour - HOUR] or 0) for hour, value in means.items() if hour and value is not None}
    assert points(PANELS["a derivative without a unit"])["4",] == pytest.approx(changes)


def test_a_chart_shows_a_line_for_each_carrier() -> None:
    lines = points(PANELS["by carrier"])
    assert [labels for labels in lines if labels[-1] == "count"] == [(c, "count") for c in ("UA", "DL", "AA")]
    for carrier in ("AA", "DL", "UA"):
        by_hour = hours(of("carrier", carrier))
        assert lines[carrier, "1"] == {hour: mean(rows) for hour, rows in by_hour.items()}
        assert lines[carrier, "count"] == {hour: len(rows) for hour, rows in by_hour.items()}


def test_a_table_shows_a_row_for_each_value() -> None:
    groups = {str(code): of("code", None if code == 9 else code) for code in (2, 1, 0, 9)}
    rows = points(PANELS["a table"])
    assert rows["count",] == {code: len(of_code) for code, of_code in groups.items()}
    assert rows["1",] == pytest.approx({code: mean(of_code) for code, of_code in groups.items()})
    wide = {float(n): [row for row in ROWS if row["distance"] // 100 * 100 == n] for n in range(0, 500, 100)}
    rows = points(PANELS["a histogram"])
    assert rows["count",] == {str(edge): len(of_edge) for edge, of_edge in wide.items()}
    assert rows["1",] == pytest.approx({str(edge): mean(of_edge) for edge, of_edge in wide.items()})


FILTERS = {
    'carrier:"AA"': lambda row: row["carrier"] == "AA",
    '-carrier:"AA"': lambda row: row["carrier"] != "AA",
    "carrier:/(AA|U.)/": lambda row: row["carrier"] in ("AA", "UA"),
    "-carrier:/(AA|U.)/": lambda row: row["carrier"] not in ("AA", "UA"),
    "code:>1": lambda row: (row["code"] or 0) > 1,
    "code:<1": lambda row: row["code"] == 0,
    'carrier:"AA" AND code:"1"': lambda row: (row["carrier"], row["code"]) == ("AA", 1),
    "_exists_:code": lambda row: row["code"] is not None,
}
"""Ad-hoc filters by each of their operators, and what one writes into the query box, with whom they leave."""


@pytest.mark.parametrize("text", FILTERS)
def test_an_ad_hoc_filter_leaves_the_rows_that_it_means(text: str) -> None:
    by_hour = hours([row for row in ROWS if FILTERS[text](row)])
    assert points(panel({"2": by_time()}, text)) == {("count",): {hour: len(rows) for hour, rows in by_hour.items()}}


def variable(field: str, order: dict[str, str], text: str = "") -> dict[str, Any]:
    """The query of a variable's values, or of those of an ad-hoc filter."""
    return panel({"1": {"terms": {"field": field, "size": 500, "order": order}}}, text)


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (variable("carrier", {"_key": "asc"}), ["AA", "DL", "UA"]),
        (variable("carrier", {"_key": "desc"}), ["UA", "DL", "AA"]),
        (variable("carrier", {"_term": "desc"}), ["UA", "DL", "AA"]),
        (variable("carrier", {"_count": "desc"}, "carrier:UA OR code:0"), ["UA", "DL", "AA"]),
        (variable("code", {"_key": "asc"}), [0, 1, 2]),
        (variable("distance", {"_key": "desc"}), None),
    ],
)
def test_a_variable_has_the_values_in_the_order_asked_for(body: dict[str, Any], values: list[Any] | None) -> None:
    """Its header has a list of indices."""
    header = {**HEADER, "index": ["flights-*"]}
    if values is None:
        with pytest.raises(SearchRefused, match="distance"):
            answer(body, header=header)
        return
    buckets = answer(body, header=header)["aggregations"]["1"]["buckets"]
    assert [bucket.get("key_as_string", bucket["key"]) for bucket in buckets] == values


LADDER = {"3600000ms": 1, "7200000ms": 2, "10800000ms": 3, "21600000ms": 6, "43200000ms": 12, "86400000ms": 24}
"""The intervals that Grafana chooses by itself where its least one is an hour."""


@pytest.mark.parametrize("interval", LADDER)
def test_an_auto_interval_is_answered_as_it_is(interval: str) -> None:
    body = panel({"2": by_time(AVERAGE, interval=interval)})
    found = answer(body)
    groups = [ROWS[begin : begin + LADDER[interval] * 4] for begin in range(0, 96, LADDER[interval] * 4)]
    assert shown(body["aggs"], found["aggregations"])["1",] == {rows[0]["time"]: mean(rows) for rows in groups}
    assert "interval" not in found["_rollup"]


@pytest.mark.parametrize(("unit", "begin"), [("1w", -3), ("1M", 0), ("1q", 0), ("1y", 0)])
def test_a_unit_of_the_calendar_is_one_bucket(unit: str, begin: int) -> None:
    histogram = {"field": "time", "calendar_interval": unit, "min_doc_count": 0, "format": "epoch_millis"}
    body = panel({"2": {"date_histogram": {**histogram, "extended_bounds": {"min": FROM, "max": TO}}, "aggs": AVERAGE}})
    assert points(body) == {("count",): {begin * DAY: 96}, ("1",): {begin * DAY: mean(ROWS)}}


def test_an_auto_interval_is_widened_where_it_is_finer_than_the_jobs() -> None:
    found = answer(panel({"2": by_time(interval="900000ms")}))
    assert [b["key"] for b in found["aggregations"]["2"]["buckets"]] == [h * HOUR for h in range(24)]
    assert found["_rollup"]["interval"] == "1h"


def test_edges_that_do_not_align_take_whole_buckets() -> None:
    found = answer(panel({"2": by_time()}, begin=2 * HOUR + 1, end=DAY - 1))
    counts = {b["key"]: b["doc_count"] for b in found["aggregations"]["2"]["buckets"]}
    assert counts[2 * HOUR] == 4
    assert found["_rollup"]["rounded"][0]["begins"] == "1970-01-01T02:00:00.000Z"


@pytest.mark.parametrize(
    ("interval", "widened"), [("60000ms", "1h"), ("1800000ms", "1h"), ("5400000ms", "2h"), ("1209600000ms", None)]
)
def test_an_interval_of_a_data_source_without_a_least_one(interval: str, widened: str | None) -> None:
    assert answer(panel({"2": by_time(interval=interval)}))["_rollup"].get("interval") == widened


@pytest.mark.parametrize("ends", [("time",), ("time", "landed")])
@pytest.mark.parametrize("text", ["", "tags:deploy"])
def test_annotations_find_no_documents_and_are_no_error(ends: tuple[str, ...], text: str) -> None:
    ranges = [{"range": {end: {"from": FROM, "to": TO, "format": "epoch_millis"}}} for end in ends]
    tags = [{"query_string": {"query": text}}] if text else []
    filters = [{"bool": {"should": ranges, "minimum_should_match": 1}}, *tags]
    assert parse_request({"size": 10_000, "query": {"bool": {"filter": filters}}}).for_annotations


REFUSED = [
    ({"1": {"percentiles": {"field": "delay", "percents": ["50", "95"]}}}, "percentiles"),
    ({"1": {"cardinality": {"field": "carrier"}}}, "cardinality"),
    ({"1": {"extended_stats": {"field": "delay", "sigma": "2"}}}, "extended_stats"),
    ({"1": {"top_metrics": {"metrics": [{"field": "delay"}], "size": "1"}}}, "top_metrics"),
    ({"1": {"rate": {"unit": "hour"}}}, "rate.*use .sum."),
    ({"1": {"moving_avg": {"buckets_path": "_count"}}}, "use .moving_fn."),
    ({"1": {"geohash_grid": {"field": "place", "precision": 3}}}, "places"),
    ({"1": {"nested": {"path": "legs"}}}, "documents within documents"),
    ({"1": {"avg": {"field": "delay", "script": "_value * 2"}}}, "script"),
    ({"1": {"avg": {"field": "fuel"}}}, "fuel"),
    (
        {
            "3": {
                "terms": {"field": "carrier", "size": 10, "order": {"1[95.0]": "desc"}},
                "aggs": {"1": {"percentiles": {"field": "delay", "percents": ["95"]}}},
            }
        },
        "percentiles",
    ),
    ({"3": {"terms": {"field": "carrier", "size": 10, "min_doc_count": 0}}}, "min_doc_count"),
]


@pytest.mark.parametrize(("aggs", "why"), REFUSED)
def test_what_summaries_cannot_tell_is_refused_with_the_reason(aggs: dict[str, Any], why: str) -> None:
    with pytest.raises(SearchRefused, match=why):
        answer(panel({"2": by_time(aggs)}))


LATEST = {"time": {"order": "desc", "unmapped_type": "boolean"}}
DOCUMENTS = {
    "raw data": {"size": 500, "sort": [LATEST, {"_doc": {"order": "desc"}}], "script_fields": {}},
    "raw documents": {"size": 500, "sort": LATEST, "script_fields": {}},
    "all that may be": {"size": 10_000, "sort": [LATEST]},
    "logs": {
        "size": 100,
        "sort": [LATEST, {"_doc": {"order": "desc"}}],
        "fields": [{"field": "time", "format": "strict_date_optional_time_nanos"}],
        "highlight": {"fields": {"*": {}}, "pre_tags": ["@"], "post_tags": ["@"], "fragment_size": 2**31 - 1},
        "aggs": {"1": by_time()},
    },
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_are_refused(name: str) -> None:
    with pytest.raises(SearchRefused, match="no single documents"):
        answer({**panel({}, "carrier:AA"), **DOCUMENTS[name]})


KINDS = {
    *("date_histogram", "filters", "geohash_grid", "histogram", "nested", "terms"),
    *("avg", "cardinality", "extended_stats", "max", "min", "percentiles", "rate", "sum", "top_metrics"),
    *("bucket_script", "cumulative_sum", "derivative", "moving_avg", "moving_fn", "serial_diff"),
    *("avg_bucket", "max_bucket", "min_bucket", "sum_bucket"),
}
"""The aggregations that its editor has."""
SETTINGS = {
    *("calendar_interval", "extended_bounds", "fixed_interval", "format", "interval", "min_doc_count"),
    *("missing", "offset", "order", "size", "time_zone"),
}
"""Of those by which it groups."""


def test_each_kind_of_request_is_among_these() -> None:
    kinds, settings = set[str](), set[str]()

    def visit(aggs: dict[str, Any]) -> None:
        for aggregation in aggs.values():
            visit(aggregation.get("aggs", {}))
            for kind, body in aggregation.items():
                kinds.add(kind)
                settings.update(body if kind in BUCKETS else ())

    for aggs in (*(body["aggs"] for body in PANELS.values()), *(aggs for aggs, _ in REFUSED)):
        visit(aggs)
    assert (KINDS - kinds, SETTINGS - settings) == (set(), set())
