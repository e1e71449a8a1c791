"""Scripts of bucket_script and bucket_selector, and functions of moving_fn, with the values that Java computes."""

import math
from typing import Any

import pytest

from rollup_operator.query.answering.moving import moving_function
from rollup_operator.query.answering.scripts import script
from rollup_operator.query.errors import SearchRefused


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("params.a + params.b * 2", 10.0),
        ("(a + b) * 2", 14.0),
        ("params['a'] / params[\"b\"]", 4 / 3),
        ("a.value - b", 1.0),
        ("return params.a % params.b;", 1.0),
        ("-a + -(-b)", -1.0),
        ("7 / 2", 3),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("7.0 / 2", 3.5),
        ("7d / 2", 3.5),
        ("1e2 + .5", 100.5),
        ("a > b ? a : b", 4.0),
        ("a > 1 && !(b >= 4) || false", True),
        ("a == 4 && b != 4", True),
        ("Math.max(a, Math.min(b, 9)) + Math.abs(-1)", 5.0),
        ("Math.sqrt(a) + Math.pow(b, 2) + Math.floor(1.5) + Math.round(2.5)", 15.0),
        ("null", None),
        ("a / 0", math.inf),
        ("-a / 0", -math.inf),
    ],
)
def test_an_expression_has_the_value_that_java_gives_it(source: str, value: Any) -> None:
    compute, _ = script(source)
    assert compute({"a": 4.0, "b": 3.0}) == value


def test_what_is_no_number_stays_none() -> None:
    assert math.isnan(script("a / 0")[0]({"a": 0.0}))  # type: ignore[arg-type]  # a number
    assert math.isnan(script("Math.max(a, 1)")[0]({"a": math.nan}))  # type: ignore[arg-type]  # a number


def test_a_script_may_have_parameters_of_its_own() -> None:
    compute, params = script({"source": "params.a * params.f", "lang": "painless", "params": {"f": 3}})
    assert compute({"a": 2.0, **params}) == 6.0


@pytest.mark.parametrize(
    "source",
    [
        "",
        "a +",
        "(a",
        "a b",
        "a; b",
        "while (true) {}",
        "System.exit(0)",
        "Math.random()",
        "Math.max(1)",
        "a ? 1",
        "'text",
        "1.2.3",
        "(" * 60 + "a" + ")" * 60,
        "a" * 1001,
        {"source": "a", "lang": "groovy"},
        {"source": "a", "params": {"a": "text"}},
        {"id": "stored"},
        7,
    ],
)
def test_what_is_no_arithmetic_is_refused(source: Any) -> None:
    with pytest.raises(SearchRefused):
        script(source)


@pytest.mark.parametrize("source", ["1 / 0", "1 % 0", "missing", "null + 1"])
def test_what_cannot_be_computed_is_refused(source: str) -> None:
    compute, _ = script(source)
    with pytest.raises(SearchRefused, match="runtime error"):
        compute({})


def test_many_signs_and_operators_are_no_depth() -> None:
    assert script("-" * 900 + "a")[0]({"a": 1.0}) == 1.0
    assert script("+".join(["a"] * 500))[0]({"a": 1.0}) == 500.0


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("MovingFunctions.max(values)", 4.0),
        ("MovingFunctions.min(values)", 1.0),
        ("MovingFunctions.sum(values)", 9.0),
        ("return MovingFunctions.unweightedAvg( values );", 2.25),
        # (1·1 + 2·2 + 4·3 + 2·4) / (1 + 1 + 2 + 3 + 4): the sum of weights begins with one.
        ("MovingFunctions.linearWeightedAvg(values)", 25 / 11),
        ("MovingFunctions.stdDev(values, MovingFunctions.unweightedAvg(values))", math.sqrt(4.75 / 4)),
        # 1 → 1.5 → 2.75 → 2.375
        ("MovingFunctions.ewma(values, 0.5)", 2.375),
        # level, trend: 1, 0 → 1.5, 0.25 → 2.875, 0.8125 → 2.84375
        ("MovingFunctions.holt(values, 0.5, 0.5)", 2.84375),
        # Level 1.5, trend 0.75, seasons 2/3 and 4/3; then 4: 29/12, 11/24, 19/12; then 2: 85/48, -9/96.
        ("MovingFunctions.holtWinters(values, 0.5, 0.5, 0.5, 2, false)", 85 / 48 - 9 / 96 + 19 / 12),
    ],
)
def test_a_function_of_a_window_has_elasticsearchs_value(source: str, value: float) -> None:
    found = moving_function({"source": source})([1.0, 2.0, 4.0, 2.0])
    assert found == pytest.approx(value)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("MovingFunctions.max(values)", math.nan),
        ("MovingFunctions.sum(values)", 0.0),
        ("MovingFunctions.unweightedAvg(values)", math.nan),
        ("MovingFunctions.linearWeightedAvg(values)", math.nan),
        ("MovingFunctions.ewma(values, 0.3)", math.nan),
        ("MovingFunctions.holt(values, 0.3, 0.1)", math.nan),
    ],
)
def test_an_empty_window(source: str, value: float) -> None:
    assert moving_function(source)([]) == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize(
    "source",
    ["values[0]", "MovingFunctions.max(other)", "MovingFunctions.median(values)", "MovingFunctions.ewma(values)", None],
)
def test_another_script_of_a_window_is_refused(source: Any) -> None:
    with pytest.raises(SearchRefused, match=r"MovingFunctions\.unweightedAvg"):
        moving_function(source)


def test_seasons_need_two_of_them() -> None:
    with pytest.raises(SearchRefused, match=r"2 \* period == 2 \* 3 == 6"):
        moving_function("MovingFunctions.holtWinters(values, 0.5, 0.5, 0.5, 3, true)")([1.0] * 5)
