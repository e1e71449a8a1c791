"""The clock of a run: this process's clock, compared with the store's. Pure.

```
                       another clock        + allowed           this process's clock
  ───────┬───────┬─────────┬──────────────────┬───────┬──────────────────┬────▶
       edge    edge      truth              limit   edge                now
                 └ the bound by the other clock        └ the bound by this one: refused
```

A clock that is ahead regards buckets as over that are still being filled, and writes a watermark that is too late. So
the bound of a run may not lie beyond the bound at the other clock's time plus an allowance. A clock that is behind
makes a run late and does no harm.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.time_values import epoch_ms
from rollup_operator.model.times import rfc3339
from rollup_operator.rollup.due import due
from rollup_operator.stores.base import ClockReading
from rollup_operator.stores.errors import ClockSkewed


@dataclass(frozen=True, slots=True)
class Moment:
    """The time of a run."""

    now: datetime
    latest_ms: int | None = None
    """No clock shows a later time, in epoch milliseconds: a record of a later one is wrong.

    None: clocks are not compared.
    """


def moment(spec: RollupJobSpec, now: datetime, other: ClockReading | None, allowed: timedelta) -> Moment:
    """Return the time of a run that begins `now` by this process's clock.

    `other` is another clock's reading, or None; `allowed` is how far this clock may be ahead of it.

    Raises ClockSkewed if the run would regard buckets as over that are not over by the other clock, and ValueError
    for a field of the spec that cannot be used.
    """
    if other is None:
        return Moment(now, epoch_ms(now + allowed))
    bound, limit = due(spec, now).fresh.end_ms, due(spec, other.at + allowed).fresh.end_ms
    if bound > limit:
        raise ClockSkewed(
            f"the operator's clock reads {rfc3339(now)} and {other.whose} {rfc3339(other.at)}: a run now would roll up "
            "buckets that are not over yet. Correct the clock that is wrong, and the job goes on by itself; "
            f"clock_skew_seconds ({allowed.total_seconds():g}) is how far ahead the operator's may be"
        )
    return Moment(now, epoch_ms(max(now, other.at) + allowed))
