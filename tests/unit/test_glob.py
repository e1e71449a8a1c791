"""Patterns with stars, against regular expressions."""

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rollup_operator.model.glob import Glob


@given(st.text("ab*[?.\n", max_size=12), st.text("ab*[?.\n", max_size=12))
def test_a_star_stands_for_any_characters_and_nothing_else_is_special(pattern: str, name: str) -> None:
    expected = re.fullmatch("(?s:.*)".join(map(re.escape, pattern.split("*"))), name) is not None
    assert Glob.of(pattern).matches(name) is expected


def matches_slowly(pattern: str, name: str) -> bool:
    """Which beginnings of the name the pattern stands for so far, one character of it after the other."""
    reached = {0}
    for sign in pattern:
        if sign == "*":
            reached = set(range(min(reached), len(name) + 1)) if reached else set()
        else:
            reached = {at + 1 for at in reached if name[at : at + 1] == sign}
    return len(name) in reached


@settings(deadline=1000)
@given(st.text("ab*", max_size=60), st.text("ab", max_size=200))
@example("*a" * 30, "a" * 200)
@example("a*" * 30 + "b", "a" * 200)
def test_a_match_is_what_a_slow_one_finds(pattern: str, name: str) -> None:
    assert Glob.of(pattern).matches(name) is matches_slowly(pattern, name)


@pytest.mark.parametrize("pattern", ["*a" * 4000, "a*" * 4000, "*" * 8000, "*a*b" * 2000])
def test_time_grows_with_the_length_of_the_pattern(pattern: str) -> None:
    names = ["a" * 255, "ab" * 127, "b" * 255]
    glob = Glob.of(pattern)
    began = time.thread_time()
    for name in names * 100:
        glob.matches(name)
    assert time.thread_time() - began < 1.0


def test_stars_in_a_row_are_one() -> None:
    assert Glob.of("a***b") == Glob.of("a*b")
    assert Glob.of("a***b").steps == Glob.of("a*b").steps
