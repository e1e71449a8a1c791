"""When the next verification of a job begins. Pure.

A tick that falls into a verification is dropped. One that was missed, because the job was stopped or no operator ran,
is made up for once, a while later: many jobs may have missed theirs, and what verifies must not begin at once in a
process that a verification has just ended.

    last began       tick, missed       the job starts, or its operator      made up for
    ──┼────────────────┼──────────────────┼──────────────────────────────────┼──▶ time
                                          └────────── MAKE_UP ───────────────┘
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from rollup_operator.model.schedule import Schedule

MAKE_UP = timedelta(minutes=5)

RETRY = timedelta(minutes=15)
"""From the end of a verification that failed for a passing reason to the next one, unless a tick is sooner."""


@dataclass(frozen=True, slots=True)
class VerificationTimes:
    """What is known of them."""

    schedule: Schedule
    known: datetime | None
    """The next one, as decided last; None: the job was started just now, or the schedule has changed."""
    last_began: datetime | None

    def tick(self, now: datetime, *, under_way: bool) -> tuple[bool, datetime | None]:
        """Return whether a verification is due, and when the next one is: one that is due stays so until it begins.

        The clock may have been set back since, so the next one is never later than the tick after `now`.
        """
        following = self.schedule.next_after(now)
        if self.known is None:
            return False, _earlier(following, now + MAKE_UP if self._has_missed(now) else None)
        if self.known > now:
            return False, _earlier(following, self.known)
        return (False, following) if under_way else (True, self.known)

    def after(self, now: datetime, *, retry: bool = False) -> datetime | None:
        """Return when the next one is due after one that begins or ends now. `retry`: it failed, and may not again."""
        return _earlier(self.schedule.next_after(now), now + RETRY if retry else None)

    def _has_missed(self, now: datetime) -> bool:
        if self.last_began is None:
            return False
        missed = self.schedule.next_after(self.last_began)
        return missed is not None and missed <= now


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((at for at in (one, other) if at is not None), default=None)
