"""When a stored document counts as changed."""

import pytest

from rollup_operator.stores.opensearch.late import differs

SUMS = frozenset({"v.sum.value", "v.avg.value"})
STORED = {
    "ts.date_histogram._count": 3,
    "v.min.value": 0.1,
    "v.sum.value": 0.6,
    "v.avg.value": 0.6,
    "v.avg._count": 3.0,
}


@pytest.mark.parametrize(
    ("now", "changed"),
    [
        ({}, False),
        ({"v.avg._count": 3}, False),  # a number is a number, however it is written
        ({"v.sum.value": 0.6000000000000001, "v.avg.value": 0.5999999999999999}, False),
        ({"v.sum.value": 0.6000001}, True),
        ({"v.sum.value": -0.6}, True),
        ({"v.min.value": 0.10000000000000002}, True),
        ({"ts.date_histogram._count": 4}, True),
        ({"v.max.value": 5.0}, True),
    ],
)
def test_a_document_differs_in_what_it_says(now: dict[str, float], changed: bool) -> None:
    assert differs(STORED, STORED | now, SUMS) is changed


def test_a_value_that_is_gone_is_a_change() -> None:
    assert differs(STORED, {key: value for key, value in STORED.items() if key != "v.min.value"}, SUMS)


def test_sums_that_are_zero_are_the_same() -> None:
    assert not differs({"v.sum.value": 0}, {"v.sum.value": -0.0}, SUMS)
