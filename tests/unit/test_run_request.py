"""What a request to run now may say, and which part of it a run can do."""

from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.model.run_request import MOST_STRETCHES, fewer, request_of, stretches_of
from rollup_operator.model.status import LONGEST_REQUEST
from rollup_operator.rollup.bounds import HOUR, Span
from rollup_operator.rollup.due import written_of
from support.embedded import spec
from support.rounding import ms

times = st.integers(0, 4_000_000_000_000)
spans = st.tuples(times, times).map(sorted).filter(lambda found: found[0] < found[1]).map(tuple)


@given(st.lists(spans, max_size=MOST_STRETCHES))
def test_a_request_says_what_was_written_into_it(found: list[tuple[int, int]]) -> None:
    value = request_of("2026-11-30T13:00:00.000000Z", found)
    assert list(stretches_of(value)) == found
    assert len(value) <= LONGEST_REQUEST


def test_other_values_ask_for_nothing_more() -> None:
    for value in (
        "",
        "1",
        "2026-11-30T13:00:00Z",
        "ci/build/7",
        "a/b c/d",
        "2024-01-02T00:00:00Z/2024-01-01T00:00:00Z",
    ):
        assert list(stretches_of(value)) == []


def test_many_stretches_are_joined_over_the_shortest_gaps() -> None:
    assert fewer([(0, 1), (5, 6), (7, 8), (20, 21)], most=2) == [(0, 8), (20, 21)]
    assert fewer([(0, 1), (5, 6)]) == [(0, 1), (5, 6)]
    assert fewer([(0, 1), (1, 2), (2, 3), (5, 6)]) == [(0, 3), (5, 6)]
    assert fewer([]) == []


def test_only_whole_buckets_that_are_written_are_read_again() -> None:
    start = ms("2024-03-01T00:00")
    position = {"ts.date_histogram": start + 9 * HOUR}
    asked = [(start + HOUR + 1, start + 3 * HOUR + 1), (start + 8 * HOUR, start + 100 * HOUR), (0, start)]
    of = spec(start="2024-03-01T00:00:00Z")
    assert written_of(of, position, asked) == [
        Span(start + 2 * HOUR, start + 4 * HOUR),
        Span(start + 8 * HOUR, start + 10 * HOUR),
    ]
    assert written_of(of, None, asked) == []
    ended = spec(end="2024-03-01T09:00:00Z")
    assert written_of(ended, position, asked[1:2]) == [Span(start + 8 * HOUR, start + 9 * HOUR)]
