"""Regular expressions of include and exclude, in Lucene's syntax: they match whole values."""

import time

import pytest

from rollup_operator.query.answering.regexp import matcher
from rollup_operator.query.errors import SearchRefused


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("", [""], ["a"]),
        ("abc", ["abc"], ["ab", "abcd", "xabc"]),
        ("a|bc", ["a", "bc"], ["abc", "b"]),
        ("a(b|c)*d", ["ad", "abcbd"], ["abx", "a"]),
        ("a.c", ["abc", "a\nc"], ["ac"]),
        (".*x", ["x", "abcx"], ["xa"]),
        ("a+", ["a", "aaa"], ["", "b"]),
        ("ab?c", ["ac", "abc"], ["abbc"]),
        ("a{2}", ["aa"], ["a", "aaa"]),
        ("a{2,}", ["aa", "aaaa"], ["a"]),
        ("a{0,2}b", ["b", "ab", "aab"], ["aaab"]),
        ("(ab){1,2}", ["ab", "abab"], ["", "ababab"]),
        ("[a-c]x", ["ax", "cx"], ["dx"]),
        ("[^a-c]", ["d"], ["a", ""]),
        (r"[\]-]", ["]", "-"], ["a"]),
        (r"a\.b\*", ["a.b*"], ["axb*"]),
        ("ä.*", ["äb"], ["a"]),
        ("(a|)b", ["ab", "b"], ["a"]),
    ],
)
def test_a_value_matches_as_a_whole(pattern: str, yes: list[str], no: list[str]) -> None:
    matches = matcher(pattern)
    assert [t for t in (*yes, *no) if matches(t)] == yes


@pytest.mark.parametrize(
    "pattern",
    [
        "(a",
        "a)",
        "[a",
        "*a",
        "a{2",
        "a{3,2}",
        "a{x}",
        "~a",
        "a&b",
        "<1-5>",
        "a\\",
        "a" * 1001,
        "(" * 99,
        "(a{999}){999}",
    ],
)
def test_what_cannot_be_read_is_refused(pattern: str) -> None:
    with pytest.raises(SearchRefused, match=r"regular expression|regexp"):
        matcher(pattern)


def test_no_pattern_is_slow() -> None:
    matches, begun = matcher("(a*)*" * 20 + "b"), time.process_time()
    assert not matches("a" * 500)
    assert time.process_time() - begun < 2
