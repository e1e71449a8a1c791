"""Regular expressions of include and exclude, in Lucene's syntax: they match whole values."""

import time

import pytest

from rollup_operator.query.answering import regexp
from rollup_operator.query.answering.regexp import Matcher
from rollup_operator.query.errors import SearchRefused
from support.portions import result


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
    matcher = Matcher(pattern)
    assert [t for t in (*yes, *no) if result(matcher.matches(t))] == yes


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
        Matcher(pattern)


def test_no_pattern_is_slow() -> None:
    matcher, begun = Matcher("(a*)*" * 20 + "b"), time.process_time()
    assert not result(matcher.matches("a" * 500))
    assert time.process_time() - begun < 2


def test_a_pattern_that_looks_at_all_of_it_again_and_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after an `a` depends on each of the sixteen characters before."""
    monkeypatch.setattr(regexp, "MOST_LOOKED_AT", 50_000)
    matcher = Matcher("(a|b)*a" + "(a|b)" * 16)

    def read_all() -> None:
        for number in range(50_000):
            text = f"{number:032b}".translate({48: "a", 49: "b"})
            assert result(matcher.matches(text)) == (text[-17] == "a")

    with pytest.raises(SearchRefused, match="takes too long for so many values: make it simpler"):
        read_all()


def test_a_simple_pattern_takes_any_number_of_values() -> None:
    matcher = Matcher("(A|B)[0-9]+(-.*)?")
    assert sum(result(matcher.matches(f"A{number}-{number * 7}")) for number in range(65_535)) == 65_535
