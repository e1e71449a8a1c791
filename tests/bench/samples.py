"""Numbers out of raw samples. Nothing is estimated: every percentile is one of the samples."""

import math
import statistics
from collections.abc import Sequence
from typing import Any


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that at least `share` (0..1) of all samples do not exceed. Raises on no samples."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def milliseconds(seconds: Sequence[float]) -> dict[str, Any]:
    """Summarise durations given in seconds; the answer is in milliseconds."""
    if not seconds:
        return {"n": 0}
    points = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {
        "n": len(seconds),
        **{name: round(percentile(seconds, share) * 1000, 2) for name, share in points.items()},
        "max": round(max(seconds) * 1000, 2),
    }


def median(values: Sequence[float], digits: int = 3) -> float:
    """Return the rounded median."""
    return round(statistics.median(values), digits)
