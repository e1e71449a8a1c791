"""Whatever a caller writes, a search is read or refused: nothing else is raised."""

import contextlib
import math
import re
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollup_operator.query.answering.answer import Style, answer
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.planning.binding import bind
from rollup_operator.query.planning.planner import plan
from rollup_operator.query.reading.request import SearchRequest, parse_request
from rollup_operator.query.times.dates import DateReader
from rollup_operator.stores.search import Row, nothing
from support.portions import result
from support.search_jobs import DAY, HOUR, live_of, spec_of
from support.search_reference import fetched

EXAMPLES = 80
FIELDS = {"k": "keyword", "n": "long", "d": "double", "t": "date"}
WORDS = st.sampled_from(
    [
        "size", "query", "aggs", "aggregations", "bool", "must", "filter", "should", "must_not",
        "minimum_should_match", "term", "terms", "range", "gte", "lt", "format", "time_zone", "exists", "field",
        "prefix", "wildcard", "match", "match_phrase", "query_string", "fields", "default_operator", "constant_score",
        "dis_max", "queries", "boosting", "date_histogram", "fixed_interval", "calendar_interval", "interval",
        "offset", "extended_bounds", "min", "max", "histogram", "order", "_key", "_count", "include", "missing",
        "filters", "other_bucket_key", "date_range", "ranges", "from", "to", "key", "avg", "stats", "derivative",
        "buckets_path", "bucket_script", "script", "source", "bucket_sort", "sort", "moving_fn", "window",
        "avg_bucket", "percentiles", "meta", "track_total_hits", "timeout", "runtime_mappings", "k", "n", "d", "t",
        "*", "k*", "value", "", "x>y", "\ud800", "params", "lag", "unit", "keyed",
    ]
)  # fmt: skip
TEXTS = st.sampled_from(
    [
        "k:a", "n:[1 TO 5]", "now-1d/d", "2020-02-03||/M", "1h", "month", "1M", "asc", "UTC", "+01:00", "Europe/Paris",
        "75%", "2<-25%", "a*", "/a|b/", "(", "\\", "epoch_millis", "yyyy-MM-dd", "||", "[", "h>m", "AND", "-1", "1e400",
        "٣", "1_000", "NaN", "Infinity", "k:\\ud800", "²", "9" * 30,
    ]
) | st.text(max_size=20)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | WORDS
    | st.sampled_from([2**63, -(2**63), 10**400])
)
VALUES: Any = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=12
)


def bound(request: SearchRequest) -> None:
    with contextlib.suppress(SearchRefused):
        bind(request.query, FIELDS, 1_700_000_000_000)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.dictionaries(WORDS, VALUES, max_size=4), st.sampled_from(["search", "rollup_search"]))
def test_any_body_is_read_or_refused(body, door):
    with contextlib.suppress(SearchRefused):
        bound(parse_request({"size": 0, **body}, door))


KINDS = ["term", "terms", "range", "exists", "prefix", "wildcard", "match", "match_phrase", "query_string", "bool"]
OF_FIELDS = st.dictionaries(st.sampled_from(["k", "n", "d", "t", "k*", "*", "query"]), VALUES, min_size=1, max_size=1)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(KINDS), OF_FIELDS | VALUES)
def test_any_query_is_read_or_refused(kind, body):
    with contextlib.suppress(SearchRefused):
        bound(parse_request({"size": 0, "query": {kind: body}}))


AGGREGATIONS = ["date_histogram", "histogram", "terms", "filters", "filter", "range", "date_range", "avg", "stats",
                "derivative", "bucket_script", "bucket_sort", "moving_fn", "avg_bucket", "serial_diff"]  # fmt: skip
BODIES = st.dictionaries(WORDS, VALUES, max_size=4)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(AGGREGATIONS), st.sampled_from(AGGREGATIONS), BODIES, BODIES)
def test_any_aggregation_is_read_or_refused(outer, inner, body, other):
    subs = {"m": {"avg": {"field": "n"}}, "x": {inner: other}}
    base = {"field": "t", "fixed_interval": "1h"} if outer == "date_histogram" else {}
    for aggs in ({"h": {outer: {**base, **body}, "aggs": subs}}, {"h": {outer: {"field": "k", **body}}}):
        with contextlib.suppress(SearchRefused):
            parse_request({"size": 0, "aggs": aggs})


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text(alphabet='ak:n ()"\\/*?[]{}TO<>=+-!&|^~.5AND', max_size=40))
def test_any_query_string_is_read_or_refused(text):
    with contextlib.suppress(SearchRefused):
        bound(parse_request({"size": 0, "query": {"query_string": {"query": text}}}))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text(alphabet="now+-/|123yMdhZT:.", max_size=20), st.text(alphabet="yMdHmsSZXzVEa'[]|-: .", max_size=12))
def test_any_date_is_read_or_refused(text, format_):
    for reader in (DateReader(0), DateReader(0, format_)):
        for up in (False, True):
            with contextlib.suppress(SearchRefused):
                assert isinstance(reader.read(text, rounds_up=up), int)


def by_hour(**subs: Any) -> dict[str, Any]:
    return {"h": {"date_histogram": {"field": "time", "fixed_interval": "1h"}, "aggs": {"m": DELAY, **subs}}}


def scripted(script: Any) -> dict[str, Any]:
    return by_hour(p={"bucket_script": {"buckets_path": {"a": "m"}, "script": script}})


DELAY = {"max": {"field": "delay"}}
HUGE = "9" * 400
DEVIATION = "MovingFunctions.stdDev(values, MovingFunctions.unweightedAvg(values))"
ATTACKS: list[tuple[dict[str, Any], str]] = [
    ({"x": {"max": {"field": "delay", "format": "#.#"}}}, ""),
    ({"x": {"range": {"field": "code", "ranges": [{"from": 1e300}], "format": "0.00%"}}}, ""),
    (by_hour(p={"moving_fn": {"buckets_path": "m", "window": 5, "script": DEVIATION}}), ""),
    (scripted(HUGE), r"\[9{50}\] was not expected"),
    (scripted(f"Math.exp(0 - {HUGE})"), "was not expected"),
    (scripted("9223372036854775807 * 9223372036854775807"), "of more than 64 bits"),
    (scripted("Math.round(a) * Math.round(a)"), "of more than 64 bits"),
    (scripted("9007199254740993 + a"), ""),
    ({"x": {"range": {"field": "code", "ranges": [{"from": 1}], "missing": "asc"}}}, r"\[missing\] .* \[x\]"),
    ({"x": {"range": {"field": "code", "ranges": [{"from": 1}], "missing": "NaN"}}}, r"\[missing\] .* \[x\]"),
    ({"x": {"terms": {"field": "code", "missing": 1e308}}}, r"\[missing\] .* \[x\]"),
    ({"x": {"terms": {"field": "weight", "missing": "NaN"}}}, r"\[missing\] .* \[x\]"),
    ({"x": {"sum": {"field": "delay", "missing": "Infinity"}}}, r"\[missing\] .* \[x\]"),
    ({"x": {"date_histogram": {"field": "time", "interval": 2**63 - 1}}}, "longer than the limit"),
    ({"x": {"date_histogram": {"field": "time", "interval": "month", "offset": 2**63 - 1}}}, "longer than the limit"),
    ({"x": {"date_histogram": {"field": "carrier", "interval": "1h"}}}, r"\[carrier\] of type \[keyword\]"),
    ({"x": {"histogram": {"field": "carrier", "interval": 1}}}, r"\[carrier\] of type \[keyword\]"),
    ({"x": {"histogram": {"field": "code", "interval": 5e-324}}}, r"\[interval\] \[5e-324\] .* \[code\]"),
    *(
        ({"f": {"filter": {"match_all": {}}, "aggs": {"m": DELAY, "p": one}}}, r"\[p\] .* which \[f\] is not")
        for one in (
            {"bucket_selector": {"buckets_path": {"a": "m"}, "script": "a > 1"}},
            {"bucket_sort": {"from": 1}},
            {"bucket_script": {"buckets_path": {"a": "m"}, "script": "a"}},
        )
    ),
]
"""What made a mistake of ours out of a caller's, and what is to be told; empty: it is answered."""


@pytest.mark.parametrize(("aggs", "told"), ATTACKS, ids=lambda case: str(case)[:50])
def test_odd_numbers_are_answered_or_refused_by_name(aggs: dict[str, Any], told: str) -> None:
    delays = [1e308, -1e308, 1e200, 5e-324, 1.5, None]
    rows = [{"time": i * HOUR, "carrier": "a", "code": 2**62, "weight": 1.0, "delay": x} for i, x in enumerate(delays)]

    def ask() -> Any:
        made = plan(parse_request({"size": 0, "aggs": aggs}), [], live_of(spec_of()), DAY)
        parts = [nothing(f) if "5e-324" in str(aggs) else fetched(f, rows) for f in made.fetches]
        if "5e-324" in str(aggs):  # as stores compute it
            parts[0]["x",].rows[(math.inf,)] = Row(1)
        return orjson.dumps(result(answer(made, parts, Style())))

    if not told:
        ask()
        return
    with pytest.raises(SearchRefused) as e:
        ask()
    assert re.search(told, e.value.reason), e.value.reason
