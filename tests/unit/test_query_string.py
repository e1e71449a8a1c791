"""Query strings, whose meaning was compared with a real Elasticsearch 8 on 9,000 generated ones. Here are the rules."""

import contextlib
import time

import pytest

from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.planning.binding import bind
from rollup_operator.query.reading.dsl import read_query
from rollup_operator.query.reading.json_values import RequestBudget
from rollup_operator.query.reading.regexes import NotSimple, wildcards
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

FIELDS = {"k": "keyword", "k2": "keyword", "n": "long", "ts": "date"}


def found(query, **options):
    read = read_query({"query_string": {"query": query, "analyze_wildcard": True, **options}}, RequestBudget())
    return bind(read, FIELDS, 1_795_988_846_577)


def one(value, field="k"):
    return OneOf(field, (value,))


def either(*of):
    return AtLeast(1, of)


A, B, C = one("a"), one("b"), one("c")
ANYWHERE_A = either(one("a"), one("a", "k2"))

MEANT = {
    "k:a": A,
    'k:"b c"': one("b c"),
    'k:"b c"~2': one("b c"),
    "k:a^2": A,
    'k:""': one(""),
    "k:b\\ c": one("b c"),
    "k:x\\:y": one("x:y"),
    "k:\\u0061": A,
    "a": ANYWHERE_A,
    "b c": either(one("b c"), one("b c", "k2")),  # words beside each other are one value
    "k:(b c)": one("b c"),
    "k:a b": either(A, either(one("b"), one("b", "k2"))),
    "k:a OR k:b": either(A, B),
    "k:a || k:b": either(A, B),
    "k:a k:b": either(A, B),
    "k:(a OR b)": either(A, B),
    'k:("a" OR "b")': either(A, B),
    "k:a AND k:b": All((A, B)),
    "k:a && k:b": All((A, B)),
    "+k:a +k:b": All((A, B)),
    "+k:a k:b": A,
    "k:a OR k:b AND k:c": All((B, C)),  # no precedence: b and c are needed, a is not
    "k:a AND k:b OR k:c": All((A, B)),
    "(k:a OR k:b) AND k:c": All((either(A, B), C)),
    "NOT k:a": Not(A),
    "-k:a": Not(A),
    "!k:a": Not(A),
    "k:a NOT k:b": All((Not(B), either(A))),
    "k:a AND NOT k:b": All((A, Not(B))),
    "k:a AND (NOT k:b)": All((A, Not(B))),
    "k:a OR NOT k:b": All((Not(B), either(A))),
    "NOT k:a AND k:b": All((B, Not(A))),
    "k:*": Exists("k"),
    "_exists_:k": Exists("k"),
    "_exists_:k*": NOTHING,
    "*": EVERYTHING,
    "*:*": EVERYTHING,
    "": NOTHING,
    "  ": NOTHING,
    "k:L*": Prefix("k", "L"),
    "k:*A?": Wildcard("k", "*A?"),
    "k:L\\*": one("L*"),
    "k\\*:a": ANYWHERE_A,
    "n:5": OneOf("n", (5,)),
    "n:>5": Between("n", 5, None, False, True),
    "n:>=5": Between("n", 5, None, True, True),
    "n:<5": Between("n", None, 5, True, False),
    "n:<=5": Between("n", None, 5, True, True),
    "n:[2 TO 7]": Between("n", 2, 7, True, True),
    "n:{2 TO 7}": Between("n", 2, 7, False, False),
    "n:[2 TO *]": Between("n", 2, None, True, True),
    "n:[* TO 7}": Between("n", None, 7, True, False),
    "n:[* TO *]": Exists("n"),
    "n:x": NOTHING,  # without a field to look in, Elasticsearch is lenient
    "ts:2020-01-05": Between("ts", Instant(1578182400000), Instant(1578268799999), True, True),
    "ts:[2020-01-05 TO 2020-01-06]": Between("ts", Instant(1578182400000), Instant(1578355199999), True, True),
    'ts:["2020-01-05T00:00:00Z" TO now}': Between("ts", Instant(1578182400000), Instant(1795988846577), True, False),
    "k:/a|b/": one("a"),
    "k:/(a|b)/": one("a"),
    "k:/L.*/": Prefix("k", "L"),
    "k:[a TO c}": Between("k", "a", "c", True, False),
    "k:AND": None,
}
MEANT["k:/a|b/"] = MEANT["k:/(a|b)/"] = OneOf("k", ("a", "b"))
del MEANT["k:AND"]


@pytest.mark.parametrize("query", MEANT)
def test_a_query_string_means_what_it_does_in_elasticsearch(query):
    assert found(query) == MEANT[query]


def test_the_operator_that_is_left_out_can_be_and():
    assert found("k:a k:b", default_operator="AND") == All((A, B))
    assert found("k:a OR k:b", default_operator="and") == either(A, B)
    assert found("k:a OR k:b k:c", default_operator="AND") == C


def test_a_query_string_looks_where_it_is_told():
    assert found("a", default_field="k") == A
    assert found("a", fields=["k", "k2^3"]) == ANYWHERE_A
    assert found("*", default_field="k") == Exists("k")
    assert found("ts:2020-01-05", time_zone="+01:00") == found("ts:2020-01-05")
    assert found("ts:[2020-01-05 TO *]", time_zone="+01:00") == Between("ts", Instant(1578178800000), None, True, True)


@pytest.mark.parametrize(
    "query",
    ["AND", "k:", "k:(a", "k:a)", "(", ")", "k:[a TO", "k:[a]", 'k:"a', "k:/a", "k:a AND", "k:a\\", "()", "NOT", "k:a^",
     "_exists_:", "]", "k:[a TO b TO c]"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(query):
    with pytest.raises(SearchRefused, match="Failed to parse query") as e:
        found(query)
    assert e.value.kind == "query_shard_exception"


REFUSED = {
    "k:a~": "fuzzy searches",
    "a~2": "fuzzy searches",
    "5": "names no field",
    "2020-01-05": "names no field",
    "[a TO b]": "names no field",
    "nope:a": r"Field \[nope\] in \[query_string\] query is not available",
    "k:/[ab]/": "regular expression",
    "k:/a+/": "regular expression",
}


@pytest.mark.parametrize("query", REFUSED)
def test_what_cannot_be_answered_is_refused(query):
    with pytest.raises(SearchRefused, match=REFUSED[query]):
        found(query)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"foo": 1}, "[query_string] query does not support [foo]"),
        ({"default_operator": "xx"}, "No enum constant org.elasticsearch.index.query.Operator.XX"),
        ({"query": None}, "[query_string] must be provided with a [query]"),
        ({"query": ["a"]}, "[query_string] unknown token [START_ARRAY] after [query]"),
        ({"fields": []}, "[query_string] query does not support [fields]"),
        ({"query": "n:x", "lenient": False}, 'failed to create query: For input string: "x"'),
    ],
)
def test_options_are_checked(options, reason):
    with pytest.raises(SearchRefused) as e:
        found("k:a", **options) if "query" not in options else found(**options)
    assert e.value.reason == reason


@pytest.mark.parametrize(
    ("regex", "right"),
    [
        ("JFK", [("JFK", "JFK")]),
        ("JFK|LAX", [("JFK", "JFK"), ("LAX", "LAX")]),
        ("(J|L)(A|F).", [("JA?", None), ("JF?", None), ("LA?", None), ("LF?", None)]),
        ("a.*b.+", [("a*b?*", None)]),
        ("a\\.b\\*", [("a.b\\*", "a.b*")]),
        ("", [("", "")]),
    ],
)
def test_simple_regular_expressions_are_texts_and_wildcards(regex, right):
    assert [(one.pattern, one.text) for one in wildcards(regex)] == right


@pytest.mark.parametrize(
    "regex",
    ["a*", "a+", "(a)?", "(a|b)*", "[ab]", "a{2}", "\\d", "\\", "(a", "a)", "(a|b)" * 9, "(" * 20 + ")" * 20, "~a"],
)
def test_other_regular_expressions_are_refused(regex):
    with pytest.raises(NotSimple):
        wildcards(regex)


@pytest.mark.parametrize(
    "query",
    ["a" * 10_000, "(" * 10_000, '"' * 9_999, "\\" * 9_999, "/" + "." * 9_000 + "/", "*?" * 5_000, "[a " * 3_000,
     "k:/" + "(a|b)" * 1_900 + "/", "/" + "\\/" * 4_900, "NOT " * 2_500, "-" * 10_000, "a OR " * 2_000],
    ids=lambda query: query[:10],
)  # fmt: skip
def test_time_grows_with_the_length_alone(query):
    begin = time.thread_time()
    with contextlib.suppress(SearchRefused):
        found(query)
    assert time.thread_time() - begin < 0.5  # some milliseconds
