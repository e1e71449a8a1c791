"""Queries of requests, read and bound to what fields hold. What they match, and the texts of errors, were read off a
real Elasticsearch 8.
"""

import pytest

from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.planning.binding import FieldNotKept, bind
from rollup_operator.query.reading.dsl import read_query
from rollup_operator.query.reading.json_values import RequestBudget
from rollup_operator.query.reading.matching import at_least
from rollup_operator.stores.search import (
    EVERYTHING,
    NOTHING,
    All,
    AtLeast,
    Between,
    Exists,
    Instant,
    Not,
    OneOf,
    Prefix,
    Wildcard,
)

NOW = 1_795_988_846_577
FIELDS = {"k": "keyword", "k2": "keyword", "n": "long", "d": "double", "ts": "date"}
A, LAX = OneOf("k", ("a",)), OneOf("k", ("LAX",))


def found(query, fields=FIELDS):
    return bind(read_query(query, RequestBudget()), fields, NOW)


BOUND = [
    ({"match_all": {}}, EVERYTHING),
    ({"match_all": {"boost": 2}}, EVERYTHING),
    ({"match_none": {}}, NOTHING),
    ({"bool": {"must_not": {"term": {"k": "a"}}, "adjust_pure_negative": False}}, NOTHING),
    ({"bool": {"must_not": {"term": {"k": "a"}}, "adjust_pure_negative": True}}, Not(A)),
    (
        {"bool": {"must_not": {"term": {"k": "LAX"}}, "should": {"term": {"k": "a"}}, "adjust_pure_negative": False}},
        All((Not(LAX), AtLeast(1, (A,)))),
    ),
    ({"term": {"k": "a"}}, A),
    ({"term": {"k": {"value": "a", "boost": 2, "_name": "x"}}}, A),
    ({"term": {"k": {"value": "A*", "case_insensitive": True}}}, Wildcard("k", "A\\*", True)),
    ({"term": {"k": 5}}, OneOf("k", ("5",))),
    ({"term": {"k": 5.0}}, OneOf("k", ("5.0",))),
    ({"term": {"k": True}}, OneOf("k", ("true",))),
    ({"term": {"n": "5"}}, OneOf("n", (5,))),
    ({"term": {"n": "5.0"}}, OneOf("n", (5,))),
    ({"term": {"n": 9007199254740993}}, OneOf("n", (9007199254740993,))),
    ({"term": {"n": "9007199254740993"}}, OneOf("n", (9007199254740993,))),
    ({"term": {"n": 5.5}}, NOTHING),
    ({"term": {"n": 1e30}}, NOTHING),
    ({"term": {"d": "2.5"}}, OneOf("d", (2.5,))),
    ({"term": {"ts": 1578182400000}}, OneOf("ts", (Instant(1578182400000),))),
    ({"term": {"ts": "2020-01-05"}}, Between("ts", Instant(1578182400000), Instant(1578268799999), True, True)),
    ({"terms": {"k": ["a", "LAX"], "boost": 1}}, OneOf("k", ("a", "LAX"))),
    ({"terms": {"n": [1.5, 5, "6"]}}, OneOf("n", (5, 6))),
    ({"terms": {"k": []}}, NOTHING),
    ({"range": {"n": {"gte": 3, "lt": 5}}}, Between("n", 3, 5, True, False)),
    ({"range": {"n": {"gt": 3.5, "lte": 5.5}}}, Between("n", 4, 5, True, True)),
    ({"range": {"n": {"gte": -3.5, "lt": -0.5}}}, Between("n", -3, -1, True, True)),
    ({"range": {"n": {"gte": "3", "lt": 4.0}}}, Between("n", 3, 4, True, False)),
    ({"range": {"n": {"from": 3, "to": 5, "include_lower": False}}}, Between("n", 3, 5, False, True)),
    ({"range": {"n": {"gte": 1, "gt": 5}}}, Between("n", 5, None, False, True)),
    ({"range": {"n": {"gt": 9223372036854775807}}}, Between("n", 9223372036854775807, None, False, True)),
    ({"range": {"n": {}}}, Exists("n")),
    ({"range": {"n": {"gte": None}}}, Exists("n")),
    ({"range": {"d": {"gt": "3.5"}}}, Between("d", 3.5, None, False, True)),
    ({"range": {"k": {"gte": 5, "lt": "c"}}}, Between("k", "5", "c", True, False)),
    (
        {"range": {"ts": {"gte": 1578182400001, "lte": 1578268800002, "format": "epoch_millis"}}},
        Between("ts", Instant(1578182400001), Instant(1578268800002), True, True),
    ),
    (
        {"range": {"ts": {"gt": "2020-01-05", "lte": "2020-01-06", "time_zone": "+01:00"}}},
        Between("ts", Instant(1578265199999), Instant(1578351599999), False, True),
    ),
    ({"exists": {"field": "k"}}, Exists("k")),
    ({"exists": {"field": "k*"}}, AtLeast(1, (Exists("k"), Exists("k2")))),
    ({"prefix": {"k": "L"}}, Prefix("k", "L")),
    ({"prefix": {"k": {"value": "l*", "case_insensitive": True, "rewrite": "x"}}}, Prefix("k", "l*", True)),
    ({"wildcard": {"k": "L*"}}, Prefix("k", "L")),
    ({"wildcard": {"k": {"wildcard": "L?X*"}}}, Wildcard("k", "L?X*")),
    # Not even an empty text, as Lucene has it; as a prefix it is that of every text.
    ({"wildcard": {"k": ""}}, NOTHING),
    ({"wildcard": {"k": {"value": "", "case_insensitive": True}}}, NOTHING),
    ({"prefix": {"k": ""}}, Prefix("k", "")),
    ({"match": {"k": {"query": "b c", "operator": "and"}}}, OneOf("k", ("b c",))),
    ({"match": {"n": {"query": "x", "lenient": True}}}, NOTHING),
    ({"match_phrase": {"k": {"query": "b c", "slop": 2}}}, OneOf("k", ("b c",))),
    ({"match_phrase": {"n": 5}}, OneOf("n", (5,))),
    ({"constant_score": {"filter": {"term": {"k": "a"}}, "boost": 1.2}}, A),
    ({"dis_max": {"queries": [{"term": {"k": "a"}}, {"term": {"k": "LAX"}}], "tie_breaker": 1}}, AtLeast(1, (A, LAX))),
    (
        {"boosting": {"positive": {"term": {"k": "a"}}, "negative": {"term": {"k": "LAX"}}, "negative_boost": 0.5}},
        A,
    ),
    ({"bool": {}}, EVERYTHING),
    ({"bool": {"must": None, "filter": []}}, EVERYTHING),
    ({"bool": {"must": {"term": {"k": "a"}}}}, A),
    ({"bool": {"must": [], "filter": [{"term": {"k": "a"}}], "should": [], "must_not": []}}, A),
    ({"bool": {"filter": [{"match_all": {}}, {"term": {"k": "a"}}]}}, A),
    ({"bool": {"must_not": [{"term": {"k": "a"}}]}}, Not(A)),
    ({"bool": {"must": [{"term": {"k": "a"}}], "should": [{"term": {"k": "LAX"}}]}}, A),
    ({"bool": {"should": [{"term": {"k": "a"}}, {"term": {"k": "LAX"}}]}}, AtLeast(1, (A, LAX))),
    (
        {"bool": {"should": [{"term": {"k": "a"}}, {"term": {"k": "LAX"}}], "minimum_should_match": 0}},
        AtLeast(1, (A, LAX)),
    ),
    (
        {"bool": {"should": [{"term": {"k": "a"}}, {"term": {"k": "LAX"}}], "minimum_should_match": "100%"}},
        AtLeast(2, (A, LAX)),
    ),
    ({"bool": {"must": [{"match_all": {}}], "minimum_should_match": 1}}, NOTHING),
    ({"bool": {"should": [], "minimum_should_match": 1}}, EVERYTHING),
    (
        {"bool": {"must_not": [{"term": {"k": "a"}}], "should": [{"term": {"k": "LAX"}}, {"term": {"n": 1}}]}},
        All((Not(A), AtLeast(1, (LAX, OneOf("n", (1,)))))),
    ),
]


@pytest.mark.parametrize(("query", "right"), BOUND, ids=str)
def test_a_query_is_bound_to_what_its_fields_hold(query, right):
    assert found(query) == right


PARSING, ARGUMENT, SHARD = "parsing_exception", "illegal_argument_exception", "query_shard_exception"
REFUSED = [
    ({}, ARGUMENT, "query malformed, empty clause found"),
    ({"foo": {}}, PARSING, "unknown query [foo]"),
    (
        {"term": {"k": "a"}, "bool": {}},
        PARSING,
        "[term] malformed query, expected [END_OBJECT] but found [FIELD_NAME]",
    ),
    ({"match_all": {"x": 2}}, PARSING, "[match_all] unknown field [x]"),
    ({"match_all": 5}, PARSING, "[match_all] query malformed, no start_object after query name"),
    ({"term": {"k": {"value": "a", "x": 1}}}, PARSING, "[term] query does not support [x]"),
    ({"term": {"k": ["a"]}}, PARSING, "[term] query does not support array of values"),
    (
        {"term": {"k": "a", "k2": "b"}},
        PARSING,
        "[term] query doesn't support multiple fields, found [k] and [k2]",
    ),
    ({"term": {}}, ARGUMENT, "field name is null or empty"),
    ({"term": {"k": None}}, ARGUMENT, "field name is null or empty"),
    ({"term": {"k": {}}}, ARGUMENT, "value cannot be null"),
    ({"term": {"n": "x"}}, SHARD, 'failed to create query: For input string: "x"'),
    (
        {"term": {"n": {"value": 5, "case_insensitive": True}}},
        SHARD,
        "[n] field which is of type [long], does not support case insensitive term queries",
    ),
    ({"terms": {"k": "a"}}, PARSING, "[terms] query does not support [k]"),
    ({"terms": {"k": ["a"], "n": [1]}}, PARSING, "[terms] query does not support multiple fields"),
    ({"terms": {"k": [None]}}, PARSING, "No value specified for terms query"),
    ({"range": {"n": 5}}, PARSING, "[range] query does not support [n]"),
    (
        {"range": {"n": {"gte": 1}, "d": {"gte": 1}}},
        PARSING,
        "[range] query doesn't support multiple fields, found [n] and [d]",
    ),
    ({"range": {"n": {"foo": 1}}}, PARSING, "[range] query does not support [foo]"),
    ({"range": {"n": {"gte": 1}, "boost": 2}}, PARSING, "[range] query does not support [boost]"),
    ({"range": {"n": {"relation": "bogus"}}}, ARGUMENT, "bogus is not a valid relation"),
    ({"range": {"n": {"gte": 1, "relation": "DISJOINT"}}}, ARGUMENT, "Field [n] does not support DISJOINT ranges"),
    ({"range": {"n": {"gte": "now"}}}, SHARD, 'failed to create query: For input string: "now"'),
    ({"range": {"n": {"gte": 1e40}}}, SHARD, "failed to create query: Value [1.0E40] is out of range for a long"),
    (
        {"range": {"ts": {"format": "bogus", "gte": "2020"}}},
        ARGUMENT,
        "Invalid format: [bogus]: Unknown pattern letter: b",
    ),
    ({"exists": {}}, PARSING, "[exists] must be provided with a [field]"),
    ({"exists": {"field": ["k"]}}, PARSING, "[exists] unknown token [START_ARRAY] after [field]"),
    (
        {"prefix": {"n": "1"}},
        SHARD,
        "Can only use prefix queries on keyword, text and wildcard fields - not on [n] which is of type [long]",
    ),
    ({"wildcard": {"k": {"q": 1}}}, PARSING, "[wildcard] query does not support [q]"),
    (
        {"match": {"k": {"query": "a", "operator": "xx"}}},
        ARGUMENT,
        "No enum constant org.elasticsearch.index.query.Operator.XX",
    ),
    ({"match": {"k": {}}}, PARSING, "No text specified for text query"),
    ({"match_phrase": {"k": {"query": "b", "foo": 1}}}, PARSING, "[match_phrase] query does not support [foo]"),
    (
        {"bool": {"must": 5}},
        "x_content_parse_exception",
        "[bool] must doesn't support values of type: VALUE_NUMBER",
    ),
    ({"bool": {"foo": []}}, "x_content_parse_exception", "[bool] unknown field [foo]"),
    ({"bool": []}, PARSING, "[bool] query malformed, no start_object after query name"),
    ({"constant_score": {}}, PARSING, "[constant_score] requires a 'filter' element"),
    ({"constant_score": {"filter": []}}, PARSING, "unexpected token [START_ARRAY]"),
    ({"dis_max": {}}, PARSING, "[dis_max] requires 'queries' field with at least one clause"),
    ({"boosting": {}}, PARSING, "[boosting] query requires 'positive' query to be set'"),
    (
        {"bool": {"should": [{"match_all": {}}], "minimum_should_match": "x"}},
        "number_format_exception",
        'failed to create query: For input string: "x"',
    ),
]


@pytest.mark.parametrize(("query", "kind", "reason"), REFUSED, ids=str)
def test_a_query_is_refused_in_elasticsearch_s_words(query, kind, reason):
    with pytest.raises(SearchRefused) as e:
        found(query)
    assert (e.value.kind, e.value.reason) == (kind, reason)


@pytest.mark.parametrize("kind", ["nested", "fuzzy", "regexp", "ids", "script", "multi_match", "match_phrase_prefix"])
def test_a_query_that_summaries_cannot_answer_says_so(kind):
    with pytest.raises(SearchRefused, match=rf"\[{kind}\] queries cannot be answered over rolled-up data"):
        found({kind: {}})


@pytest.mark.parametrize(
    "kind", ["exists", "match", "match_phrase", "prefix", "wildcard", "query_string", "match_none"]
)
def test_rollup_search_refuses_what_elasticsearch_s_does(kind):
    with pytest.raises(SearchRefused) as e:
        read_query({"bool": {"filter": {kind: {}}}}, RequestBudget(), rollup_search=True)
    assert e.value.reason == f"Unsupported Query in search request: [{kind}]"


def test_an_unknown_field_is_named():
    with pytest.raises(FieldNotKept) as e:
        found({"bool": {"filter": [{"range": {"delay": {"gte": 5}}}]}})
    assert e.value.field == "delay"
    assert e.value.reason == (
        "Field [delay] in [range] query is not available in selected rollup indices, cannot query."
    )


MINIMA = {
    "2": 2, "-1": 3, "75%": 3, "-25%": 3, "0": 0, "9": 9, "-9": 0, "50%": 2, "1<50%": 2, "5<50%": 4, "2<-25% 9<-3": 3,
    "4<75%": 4, " 2 ": 2, "3 < 50%": 2, "-75%": 1,
}  # fmt: skip


@pytest.mark.parametrize("given", MINIMA)
def test_how_many_of_four_clauses_are_needed(given):
    assert at_least(4, given) == MINIMA[given]


def test_the_fields_of_a_query_are_remembered():
    budget = RequestBudget()
    read_query({"bool": {"filter": [{"term": {"a": 1}}, {"query_string": {"query": "b:1 AND _exists_:c"}}]}}, budget)
    assert budget.fields == {"a", "b", "c", "*"}


def nested(depth):
    query = {"match_all": {}}
    for _ in range(depth):
        query = {"bool": {"must_not": [query]}}
    return query


@pytest.mark.parametrize(
    "query",
    [
        nested(31),
        {"bool": {"should": [{"term": {"k": "a"}}] * 1_025}},
        {"bool": {"should": [{"terms": {"k": ["a"] * 1_000}}] * 11}},
        {"terms": {"ts": ["2020-02-03"] * 500}},
        {"term": {"k": "a" * 9_000}},
        {"wildcard": {"k": "*a" * 17}},
        {"bool": {"should": [{"range": {"ts": {"gte": "now" + "+1M" * 80}}}] * 40}},
        {"bool": {"should": [{"range": {"ts": {"gte": 1, "time_zone": f"+0{i}:00"}}} for i in range(5)]}},
        {"bool": {"should": [{"query_string": {"query": "a" * 9_000}}] * 3}},
        {"bool": {"should": [{"query_string": {"query": "k:/a/"}}] * 17}},
        {"term": {"k" * 600: "a"}},
        {"query_string": {"query": "a " * 6_000}},
        {"query_string": {"query": "(" * 40 + "a" + ")" * 40}},
        {"query_string": {"query": "k:a OR " * 1_100 + "k:b"}},
    ],
    ids=lambda query: str(query)[:40],
)
def test_there_is_a_limit_to_everything(query):
    with pytest.raises(SearchRefused):
        found(query)


def test_what_is_within_the_limits_is_read():
    found(nested(30))
    found({"bool": {"should": [{"term": {"k": "a"}}] * 1_000}})
    found({"query_string": {"query": "(" * 30 + "k:a" + ")" * 30}})
