"""Which buckets a verification by spec.verify compares. Pure.

    ──┬───────┬───────┬───────┬───────┬───────┬───────┬───────▶ time
      │       │ compared              │ read again    │
              │                       │               └ the end of what is rolled up
              │                       └ that end - spec.lookback
              └ the end of what is compared - spec.verify.lookback

Runs still read again what spec.lookback covers: a row that came after the last run is no fault there.
"""

from collections.abc import Mapping
from datetime import datetime

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.status import PositionValue
from rollup_operator.model.time_values import parse_time_value
from rollup_operator.rollup.bounds import Bounds, Span
from rollup_operator.rollup.due import due, rolled_up_to


def verify_span(
    spec: RollupJobSpec, now: datetime, position: Mapping[str, PositionValue] | None, watermark_ms: int | None
) -> Span:
    """Return the stretch; empty: there is nothing to compare.

    Raises ValueError naming the field that cannot be used.
    """
    bounds, covered = Bounds.of(spec.groups.date_histogram), due(spec, now).fresh
    rolled_up = rolled_up_to(spec, position, watermark_ms, last_is_whole=False)
    end = min(covered.end_ms, bounds.round_down(rolled_up - _milliseconds(spec.lookback)))
    begin = covered.start_ms
    if spec.verify is not None and spec.verify.lookback is not None:
        begin = max(begin, bounds.next_edge(end - _milliseconds(spec.verify.lookback) - 1))
    return Span(begin, max(begin, end))


def _milliseconds(lookback: str | None) -> int:
    return 0 if lookback is None else int(parse_time_value(lookback, "lookback").milliseconds)
