"""Every fault that is planted in one side of a comparison is found, and nothing else."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.model.job import DateHistogramGroup
from rollup_operator.rollup.bounds import Bounds, Span
from rollup_operator.rollup.comparison import (
    BucketNumbers,
    Difference,
    Findings,
    Judge,
    Kind,
    Merge,
    counts_of,
    metrics_of,
    with_reach,
)
from rollup_operator.rollup.days import bridged, days, joined
from rollup_operator.rollup.documents import KeyValue, layout_of
from support.embedded import spec
from support.rounding import HOUR

SPEC = spec()
LAYOUT = layout_of("job", SPEC)
JUDGE = Judge(LAYOUT)
COUNTS = counts_of(LAYOUT)
METRICS = metrics_of(LAYOUT)

keys = st.tuples(
    st.integers(0, 30).map(lambda hour: hour * HOUR),
    st.none() | st.floats(-20, 20).map(lambda x: math.floor(x / 10) * 10.0),
    st.none() | st.text(max_size=3),
)


def bucket(key: tuple[KeyValue, ...], values: Sequence[float]) -> BucketNumbers:
    """What a source with one value a row gives."""
    numbers: dict[str, float | int] = dict.fromkeys(COUNTS, len(values))
    of = {"min": min, "max": max, "sum": sum, "avg": sum, "value_count": len}
    numbers |= {f"value.{name}.value": function(values) for name, function in of.items()}
    numbers["value.avg._count"] = len(values)
    return BucketNumbers(key, numbers)


buckets = st.dictionaries(keys, st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=4), max_size=30).map(
    lambda found: [bucket(key, found[key]) for key in sorted(found, key=order)]
)


def order(key: tuple[KeyValue, ...]) -> list[tuple[bool, object]]:
    """As stores order keys: missing values first."""
    return [(value is not None, value) for value in key]


def pages(of: Sequence[BucketNumbers], size: int) -> Iterator[tuple[Sequence[BucketNumbers], bool]]:
    for begin in range(0, max(len(of), 1), size):
        yield of[begin : begin + size], begin + size >= len(of)


def compared(
    stored: Sequence[BucketNumbers], recomputed: Sequence[BucketNumbers], *, sizes: tuple[int, int] = (3, 2)
) -> Findings:
    """Compare page by page, and hold a page of each side at most."""
    found, merge = Findings(JUDGE, [0]), Merge()
    ones, others = pages(stored, sizes[0]), pages(recomputed, sizes[1])
    while merge.wants_stored or merge.wants_recomputed:
        if merge.wants_stored:
            page, last = next(ones)
            merge.add_stored(page, last=last)
        if merge.wants_recomputed:
            page, last = next(others)
            merge.add_recomputed(page, last=last)
        for one, other in merge.pairs():
            found.take(one, other)
        assert len(merge._stored.buckets) <= sizes[0]
        assert len(merge._recomputed.buckets) <= sizes[1]
    assert found.compared == len(recomputed)
    return found


def changed(of: BucketNumbers, **numbers: float) -> BucketNumbers:
    return replace(of, numbers={**of.numbers, **numbers})


@given(buckets, st.integers(1, 5), st.integers(1, 5))
def test_nothing_is_found_where_nothing_is_wrong(same: list[BucketNumbers], one: int, other: int) -> None:
    assert not compared(same, same, sizes=(one, other)).kinds


@given(buckets.filter(bool), st.data())
def test_each_planted_fault_is_found_and_no_other(right: list[BucketNumbers], data: st.DataObject) -> None:
    stored, expected = list[BucketNumbers](), list[tuple[Kind, tuple[KeyValue, ...]]]()
    for each in right:
        one = each
        fault = data.draw(st.sampled_from([None, *Kind, "late", "shrunk", "number"]))
        match fault:
            case Kind.MISSING:
                expected.append((Kind.MISSING, one.key))
                continue
            case Kind.DUPLICATE:
                one = replace(one, documents=2)
                expected.append((Kind.DUPLICATE, one.key))
            case Kind.EXTRA:  # of a term that the source has no rows of any more
                lost = replace(one, key=(*one.key[:2], f"{one.key[2] or ''}\U0010ffff!"))
                if all(other.key != lost.key for other in right):
                    stored.append(lost)
                    expected.append((Kind.EXTRA, lost.key))
            case "late" | Kind.DIFFERS:
                one = changed(one, **{name: one.numbers[name] - 1 for name in COUNTS})
                expected.append((Kind.DIFFERS, one.key))
            case "shrunk":
                one = changed(one, **{name: one.numbers[name] + 1 for name in COUNTS})
                expected.append((Kind.EXTRA, one.key))
            case "number":
                name = data.draw(st.sampled_from(METRICS))
                one = changed(one, **{name: one.numbers[name] + 1})
                expected.append((Kind.DIFFERS, one.key))
        stored.append(one)
    stored.sort(key=lambda one: order(one.key))
    found = compared(stored, right)
    assert sorted((f.kind, order(f.key)) for f in found.examples) == sorted((k, order(key)) for k, key in expected)
    assert found.kinds.total() == len(expected)


@given(buckets.filter(lambda found: len(found) > 6))
def test_a_page_that_was_lost_is_missing(right: list[BucketNumbers]) -> None:
    found = compared(right[:2] + right[5:], right)
    assert [f.key for f in found.examples] == [lost.key for lost in right[2:5]]
    assert set(found.kinds) == {Kind.MISSING}


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=200), st.randoms(use_true_random=False))
def test_sums_of_the_same_numbers_in_another_order_are_equal(values: list[float], chance: random.Random) -> None:
    other = [*values]
    chance.shuffle(other)
    assert JUDGE(bucket((0, None, None), values), bucket((0, None, None), other)) is None


def test_sums_of_the_largest_numbers_are_judged_by_what_was_added_up() -> None:
    right = bucket((0, None, "a"), [1e308, 1e308, -1e308, -1e308 + 1e300])
    right, near, far = (
        changed(right, **{f"value.{name}.value": total for name in ("sum", "avg")})
        for total in (1e300, 1.0001e300, 1e307)
    )
    assert JUDGE(near, right) is None
    found = JUDGE(far, right)
    assert found is not None
    assert (found.kind, {d.field for d in found.differences}) == (Kind.DIFFERS, {"value.sum.value", "value.avg.value"})


def test_sums_near_zero_are_judged_by_what_was_added_up() -> None:
    one, other = bucket((0, None, "a"), [0.1, 0.2, -0.3]), bucket((0, None, "a"), [0.2, -0.3, 0.1])
    assert one.numbers["value.sum.value"] != other.numbers["value.sum.value"]
    assert JUDGE(one, other) is None
    found = JUDGE(changed(one, **{"value.sum.value": 1e-9}), other)
    assert found is not None
    assert [d.field for d in found.differences] == ["value.sum.value"]


def test_sums_that_are_computed_exactly_are_compared_exactly() -> None:
    right = bucket((0, None, "a"), [2.0**52, 1.0])
    wrong = changed(right, **{"value.sum.value": 2.0**52 + 2, "value.avg.value": 2.0**52 + 2})
    assert JUDGE(wrong, right) is None
    found = Judge(LAYOUT, exact=frozenset({"value"}))(wrong, right)
    assert found is not None
    assert {d.field for d in found.differences} == {"value.sum.value", "value.avg.value"}
    assert Judge(LAYOUT, exact=frozenset({"value"}), exact_up_to=2.0**50)(wrong, right) is None


def test_minima_and_counts_are_compared_to_the_last_digit() -> None:
    right = bucket((0, None, "a"), [1.0, 2.0])
    for name in ("value.min.value", "value.max.value", "value.value_count.value", "value.avg._count", *COUNTS):
        was = math.nextafter(float(right.numbers[name]), math.inf)
        found = JUDGE(changed(right, **{name: was}), right)
        assert found is not None
        assert found.differences == (Difference(name, was, right.numbers[name]),)


def test_a_number_that_is_not_there_differs() -> None:
    right = bucket((0, None, "a"), [1.0])
    without = {name: value for name, value in right.numbers.items() if name != "value.min.value"}
    for stored, recomputed in (
        (replace(right, numbers=without), right),
        (right, replace(right, numbers=without)),
    ):
        found = JUDGE(stored, recomputed)
        assert found is not None
        assert found.kind is Kind.DIFFERS
        assert {d.field for d in found.differences} == {"value.min.value"}


def test_fields_that_are_not_asked_for_are_not_compared() -> None:
    wrong = changed(right := bucket((0, None, "a"), [1.0]), **{"value.max.value": 3.0})
    assert Judge(LAYOUT, fields=frozenset({"other"}))(wrong, right) is None
    assert Judge(LAYOUT, fields=frozenset({"value"}))(wrong, right) is not None
    assert Judge(LAYOUT, fields=frozenset({"other"}))(changed(right, **{COUNTS[0]: 0}), right) is not None


def test_what_a_sum_is_made_of_is_read_with_it() -> None:
    of = spec(metrics=[{"field": "a", "metrics": ["avg"]}, {"field": "b", "metrics": ["min"]}])
    assert [m.metrics for m in with_reach(of).metrics] == [["avg", "min", "max", "value_count"], ["min"]]
    assert [m.metrics for m in of.metrics] == [["avg"], ["min"]]


def test_findings_are_counted_by_day_and_only_the_first_are_kept() -> None:
    found = Findings(JUDGE, [0, 24 * HOUR], most=3)
    for hour in range(48):
        found.take(None, bucket((hour * HOUR, None, "a"), [1.0]))
    assert found.days == {0: {Kind.MISSING: 24}, 24 * HOUR: {Kind.MISSING: 24}}
    assert len(found.examples) == 3


def test_only_what_was_found_before_counts_the_second_time() -> None:
    first = Findings(JUDGE, [0])
    first.take(None, bucket((0, None, "a"), [1.0]))
    again = Findings(JUDGE, [0], believed=first.suspects())
    for term in "ab":
        again.take(None, bucket((0, None, term), [1.0]))
    assert [f.key for f in again.examples] == [(0, None, "a")]


def test_buckets_out_of_order_are_refused() -> None:
    merge = Merge()
    right = bucket((HOUR, None, None), [1.0])
    with pytest.raises(ValueError, match="order of their keys"):
        merge.add_stored([right, right], last=True)


def test_both_zeros_have_their_place() -> None:
    merge = Merge()
    both = [bucket((0, zero, None), [1.0]) for zero in (-0.0, 0.0)]
    merge.add_stored(both, last=True)
    merge.add_recomputed(both, last=True)
    assert [(one, other) for one, other in merge.pairs()] == [(b, b) for b in both]


@given(
    st.sampled_from(
        [
            {"fixed_interval": "5h"},
            {"fixed_interval": "1h"},
            {"fixed_interval": "7d"},
            {"calendar_interval": "1d"},
            {"calendar_interval": "1M"},
            {"fixed_interval": "30m", "time_zone": "Europe/Berlin"},
            {"calendar_interval": "1d", "time_zone": "America/Santiago"},
        ]
    ),
    st.integers(0, 2_000_000_000_000),
    st.integers(1, 400),
)
def test_days_cover_a_span_in_whole_buckets(of: Mapping[str, str], begin: int, length: int) -> None:
    group = DateHistogramGroup(field="ts", **of)  # type: ignore[arg-type]
    bounds = Bounds.of(group)
    span = Span(bounds.round_down(begin), bounds.next_edge(begin + length * 24 * HOUR))
    found = list(days(group, span))
    assert (found[0].start_ms, found[-1].end_ms) == (span.start_ms, span.end_ms)
    assert all(one.end_ms == other.start_ms for one, other in pairwise(found))
    assert all(bounds.round_down(day.start_ms) == day.start_ms for day in found)
    midnights = Bounds.of(DateHistogramGroup(field="ts", calendar_interval="1d", time_zone=group.time_zone))
    for day in found:
        first, *others = bounds.edges(day.start_ms, day.end_ms)
        assert all(midnights.round_down(edge) == midnights.round_down(first) for edge in others)
    assert list(joined(found)) == [span]
    assert list(joined(found[::2])) == found[::2]


@pytest.mark.parametrize(
    ("chosen", "most", "bridges"),
    [
        ([], 3, []),
        ([4], 1, []),
        ([1, 2, 3], 1, []),
        ([1, 5, 7], 3, []),
        ([1, 5, 7], 2, [6]),
        ([1, 5, 7], 1, [2, 3, 4, 6]),
        ([0, 2, 3, 9, 11], 2, [1, 10]),
    ],
)
def test_the_smallest_gaps_between_days_are_bridged_until_few_stretches_are_left(
    chosen: list[int], most: int, bridges: list[int]
) -> None:
    assert bridged(chosen, most) == sorted([*chosen, *bridges])
