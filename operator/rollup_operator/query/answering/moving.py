"""The named functions of `moving_fn`: what is computed of the values in a window. Pure.

Elasticsearch takes any script. Here it is one call of one of them, as Grafana writes it:

    MovingFunctions.unweightedAvg(values)        MovingFunctions.ewma(values, 0.3)
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from rollup_operator.query.errors import SearchRefused

LONGEST = 200

Function = Callable[[Sequence[float]], float]


def moving_function(given: Any) -> Function:
    """Return the function that a script calls. Raises SearchRefused."""
    source = given.get("source", given.get("inline")) if isinstance(given, dict) else given
    if not isinstance(source, str) or len(source) > LONGEST:
        raise _refused()
    text = source.strip().removeprefix("return ").rstrip("; ").strip()
    name, bracket, rest = text.partition("(")
    if not text.startswith("MovingFunctions.") or not bracket or not rest.endswith(")"):
        raise _refused()
    first, *others = _arguments(rest[:-1])
    if first != "values":
        raise _refused()
    name = name.strip().removeprefix("MovingFunctions.")
    if name == "stdDev":
        if others != ["MovingFunctions.unweightedAvg(values)"]:
            raise _refused()
        return _deviation
    try:
        numbers = [{"true": 1.0, "false": 0.0}[o] if o in ("true", "false") else float(o) for o in others]
    except ValueError as e:
        raise _refused() from e
    match name, numbers:
        case "max", []:
            return lambda values: max(values, default=math.nan)
        case "min", []:
            return lambda values: min(values, default=math.nan)
        case "sum", []:
            return lambda values: float(sum(values))
        case "unweightedAvg", []:
            return _average
        case "linearWeightedAvg", []:
            return _linear
        case "ewma", [alpha]:
            return lambda values: _ewma(values, alpha)
        case "holt", [alpha, beta]:
            return lambda values: _holt(values, alpha, beta)
        case "holtWinters", [alpha, beta, gamma, period, multiplicative] if period >= 1 and period.is_integer():
            return lambda values: _holt_winters(values, alpha, beta, gamma, int(period), multiplicative != 0)
    raise _refused()


def _arguments(text: str) -> list[str]:
    """Return what stands between commas outside of brackets."""
    found, depth = [""], 0
    for c in text:
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            found.append("")
        elif not c.isspace():
            found[-1] += c
    return found


def _refused() -> SearchRefused:
    return SearchRefused(
        "the script of moving_fn has to be one of MovingFunctions.max, min, sum, unweightedAvg, linearWeightedAvg, "
        "stdDev, ewma, holt and holtWinters, as in MovingFunctions.unweightedAvg(values)",
        "script_exception",
    )


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _deviation(values: Sequence[float]) -> float:
    if not values:
        return math.nan
    mean = _average(values)
    return math.sqrt(sum((v - mean) * (v - mean) for v in values) / len(values))


def _linear(values: Sequence[float]) -> float:
    """Weigh later values more. The weights' sum begins with one too many, as Elasticsearch's does."""
    if not values:
        return math.nan
    return sum(v * weight for weight, v in enumerate(values, 1)) / (1 + len(values) * (len(values) + 1) / 2)


def _ewma(values: Sequence[float], alpha: float) -> float:
    found = math.nan
    for i, v in enumerate(values):
        found = v if i == 0 else v * alpha + found * (1 - alpha)
    return found


def _holt(values: Sequence[float], alpha: float, beta: float) -> float:
    level, trend = math.nan, 0.0
    for i, v in enumerate(values):
        if i == 0:
            level = v
        else:
            last = level
            level = alpha * v + (1 - alpha) * (level + trend)
            trend = beta * (level - last) + (1 - beta) * trend
    return level


def _holt_winters(
    values: Sequence[float], alpha: float, beta: float, gamma: float, period: int, multiplicative: bool
) -> float:
    if not values:
        return math.nan
    if len(values) < period * 2:
        raise SearchRefused(
            f"Holt-Winters aggregation requires at least (2 * period == 2 * {period} == {2 * period}) data-points to "
            f"function.  Only [{len(values)}] were provided."
        )
    shifted = [v + (1e-10 if multiplicative else 0.0) for v in values]
    level = sum(shifted[:period]) / period
    trend = sum((shifted[i + period] - shifted[i]) / period for i in range(period)) / period
    seasonal = [0.0] * len(shifted)
    if level != 0:
        seasonal[:period] = [v / level for v in shifted[:period]]
    last, last_trend = level, 0.0
    for i in range(period, len(shifted)):
        v, season = shifted[i], seasonal[i - period]
        level = alpha * (_ratio(v, season) if multiplicative else v - season) + (1 - alpha) * (last + last_trend)
        trend = beta * (level - last) + (1 - beta) * last_trend
        seen = _ratio(v, last + last_trend) if multiplicative else v - (last - last_trend)
        seasonal[i] = gamma * seen + (1 - gamma) * season
        last, last_trend = level, trend
    season = seasonal[len(shifted) - period]
    return (level + trend) * season if multiplicative else level + trend + season


def _ratio(a: float, b: float) -> float:
    if b == 0:
        return math.nan if a == 0 else math.copysign(math.inf, a)
    return a / b
