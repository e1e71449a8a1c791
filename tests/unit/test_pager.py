from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.model.job import DateHistogramGroup
from rollup_operator.rollup.bounds import DAY, HOUR, Bounds
from rollup_operator.rollup.page_size import Pager

HOURS = Bounds.of(DateHistogramGroup(field="t", fixed_interval="1h"))


def test_a_page_ends_at_an_edge_within_its_reach() -> None:
    assert Pager(1.0, 2.5 * HOUR).end(HOURS, 0, DAY) == 2 * HOUR


def test_a_page_has_at_least_one_bucket_and_ends_at_the_bound() -> None:
    assert Pager(1.0, 1.0).end(HOURS, 0, DAY) == HOUR
    assert Pager(1.0, 10 * DAY).end(HOURS, 0, DAY) == DAY


def test_what_was_learned_is_used_again() -> None:
    assert Pager.begin(0.5, 1234.0, 10**9, 0, DAY).span_ms == 1234.0


def test_without_a_hint_the_density_of_rows_decides() -> None:
    sparse, dense = (Pager.begin(0.5, None, rows, 0, DAY).span_ms for rows in (1_000, 100_000_000))
    assert sparse > DAY > dense


@given(speed=st.floats(1e2, 1e9), span=st.floats(1, 1e12))
def test_pages_come_to_take_the_time_aimed_at(speed: float, span: float) -> None:
    pager = Pager(0.5, span)
    for _ in range(60):
        pager = pager.learn(round(pager.span_ms), round(pager.span_ms) / speed)
    assert 0.4 < pager.span_ms / speed < 0.6 or pager.span_ms < 10


def test_a_page_cut_short_does_not_make_the_next_one_longer() -> None:
    pager = Pager(0.5, 10 * HOUR)
    assert pager.learn(HOUR, 0.001) == pager
    assert pager.learn(HOUR, 5.0).span_ms < HOUR


@given(cost=st.floats(0.001, 0.45), buckets=st.integers(1, 3))
def test_a_page_of_few_buckets_grows_although_its_end_is_rounded_down(cost: float, buckets: int) -> None:
    """`cost` of a page whatever is in it, as on a busy machine; the rest of its time would do for many more buckets."""
    pager, start = Pager(0.5, buckets * HOUR), 0
    for _ in range(60):
        read = pager.end(HOURS, start, 10**15) - start
        pager, start = pager.learn(read, cost + 1e-5 * read / HOUR), start + read
    assert read > 100 * HOUR
