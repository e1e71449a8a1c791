"""Which stretches of time a run has to do with: what is new, and what is looked at once more for late documents. Pure.

A bucket counts by its beginning: it is in where `spec.start <= beginning < spec.end`. So of two jobs, one of which ends
where the other starts, each bucket belongs to exactly one.

Why looking back is exact: documents that come at most `lookback` after their bucket is over are all there when the
bucket is older than that. A run first looks at the buckets that were younger when the last one read them, and then
reads what is new; a halt between two steps leaves both for the next run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from rollup_operator.indexer.bounds import Bounds
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.status import PositionValue
from rollup_operator.model.time_values import parse_instant, parse_time_value
from rollup_operator.stores.base import Span


@dataclass(frozen=True, slots=True)
class Due:
    """What a run has to do."""

    fresh: Span
    """What is to be read from the position on; `start_ms` counts only where it lies behind the position."""
    again: Span
    """What was written before and is to be read once more; often empty."""
    nothing: str | None
    """Why there is nothing to do at all; None: there may be something."""


def due(
    spec: RollupJobSpec,
    now: datetime,
    *,
    position: Mapping[str, PositionValue] | None = None,
    watermark_ms: int | None = None,
) -> Due:
    """Work it out for a job that has come so far. Raises ValueError naming the field that cannot be used."""
    bounds = Bounds.of(spec.groups.date_histogram)
    start = _edge(bounds, spec.start, "spec.start") if spec.start is not None else 0
    end = bounds.upper(now)
    last = _edge(bounds, spec.end, "spec.end") if spec.end is not None else None
    if last is not None:
        end = min(end, last)
    if position is not None:
        start = 0  # a position is never moved back, nor are buckets behind it skipped
    fresh = Span(start, end)
    again = _again(spec, bounds, position, watermark_ms, end)
    complete = last is not None and watermark_ms is not None and watermark_ms >= last and spec.lookback is None
    return Due(fresh, again, _nothing(fresh, again, last, complete=complete))


def _again(
    spec: RollupJobSpec,
    bounds: Bounds,
    position: Mapping[str, PositionValue] | None,
    watermark_ms: int | None,
    end: int,
) -> Span:
    if spec.lookback is None or position is None:
        return Span(0, 0)
    last = position[f"{spec.groups.date_histogram.field}.date_histogram"]
    assert isinstance(last, int)
    written = bounds.next_edge(last)
    back = int(parse_time_value(spec.lookback, "lookback").milliseconds)
    low = max(0, bounds.round_down(max(written, watermark_ms or 0) - back))
    if spec.start is not None:
        low = max(low, _edge(bounds, spec.start, "spec.start"))
    return Span(low, min(written, end))


def _edge(bounds: Bounds, text: str, field: str) -> int:
    """Return where the first bucket begins that does so at or after an instant."""
    return bounds.next_edge(parse_instant(text, field) - 1)


def _nothing(fresh: Span, again: Span, last: int | None, *, complete: bool) -> str | None:
    if complete:
        return f"all before {_text(last or 0)} is rolled up, as spec.end says"
    if not (fresh.empty and again.empty):
        return None
    if last is not None and fresh.start_ms >= last:
        return "no bucket begins between spec.start and spec.end"
    return f"nothing is due before the bucket of {_text(fresh.start_ms)} is over, as spec.start says"


def _text(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
