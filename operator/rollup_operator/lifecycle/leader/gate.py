"""Which replica leads: what a process may conclude from the Lease and its own clock. No asyncio, no I/O.

A holder trusts its lease for less time than a candidate waits. The holder counts from the start of its last successful
renewal: it halts its runs, then abandons the rest. A candidate counts from when it saw the record change. Timestamps in
the Lease are never read, so clocks need not agree; only `leaseDurationSeconds` is.

    seconds  0        2                                  11        13        15
    holder   ├────────┼──────────────────────────────────┼─────────┤         │
             │        renews; retries if that fails      halts     abandons  │
             └ start of its last successful renewal                          │
    others   ├───────────────────────────────────────────────────────────────┤
             └ see the record change                                         take the lease
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum, auto


@dataclass(frozen=True, slots=True)
class Terms:
    """Times of a lease, in seconds. An API server that takes a third of `lasts` for each write still has a leader."""

    lasts: float = 15.0
    """A candidate takes a lease whose record has not changed for this long, or for longer if the record says so."""
    renew: float = 2.0
    """The holder renews this long after the start of its last successful renewal; never two attempts at once."""
    attempt: float = 6.0
    """An attempt takes at most this long: there is time for another one on another connection."""
    halt: float = 11.0
    """This long after the start of its last successful renewal the holder halts its runs and begins nothing."""
    abandon: float = 13.0
    """This long after it the holder stops acting, whatever is left."""
    retry: float = 0.3
    """From a failed renewal to the next attempt; a candidate waits for `renew`."""

    @classmethod
    def of(cls, lasts: float) -> "Terms":
        """Return terms of that length, the other times in proportion."""
        usual = cls()
        return cls(*(getattr(usual, f.name) * lasts / usual.lasts for f in fields(cls)))


class Gate:
    """Says before each effect whether this process may act. Closes by the clock alone, whatever hangs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin shut."""
        self._clock = clock
        self._begin_until = self._act_until = -math.inf
        self._ending = self._closed = False
        self.behind = False
        """Whether this process may know the jobs in an older state than the previous leader left."""
        self.hurries = False
        """The process is ending, and waits for runs only: what else is under way is cut off."""

    @property
    def open(self) -> bool:
        """Whether this process leads: writes, and continues what it has begun."""
        return not self._closed and self._clock() < self._act_until

    @property
    def draining(self) -> bool:
        """Whether runs are to end and nothing is to begin.

        The process ends, its lease is not renewed in time, or it does not know yet what the previous leader did.
        """
        return self._ending or self.behind or self._clock() >= self._begin_until

    def lead(self, *, begin_until: float = math.inf, act_until: float = math.inf) -> None:
        """Open until these times of the clock; for good if there is no other replica."""
        self._begin_until, self._act_until = begin_until, act_until

    def end(self) -> None:
        """Drain from now on: the process is ending."""
        self._ending = True

    def shut(self) -> None:
        """This process no longer leads, for now."""
        self._begin_until = self._act_until = -math.inf

    def close(self) -> None:
        """Shut for good: the process has drained."""
        self._closed = True


class Role(Enum):
    """The role of this process."""

    STANDBY = auto()
    LEADING = auto()
    HALTING = auto()
    """Still leads, but renewals fail: runs end, in case they keep failing."""


class LeaseWrite(Enum):
    """The write to make."""

    NOTHING = auto()
    TAKE = auto()
    RENEW = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """The conclusion from what is known."""

    role: Role
    term: int
    """Counts how often this process came to lead: another number is another leadership."""
    do: LeaseWrite
    wait: float
    """Seconds until time alone changes the step."""


class Candidacy:
    """One process and one lease. Every time is the process's own monotonic clock, given by the caller."""

    def __init__(self, identity: str, terms: Terms) -> None:
        """`identity`: what the record says while this process holds the lease; no other process ever has it."""
        self._me, self._terms = identity, terms
        self._has_read = False
        self._holder: str | None = None
        self._version: str | None = None
        self._lasts = terms.lasts
        self._changed_at = -math.inf
        self._try_at = -math.inf
        self._renewed: float | None = None
        self._ours_until = -math.inf
        """Until then no other process takes the lease that has seen this process hold it."""
        self._may_be_held = False
        """Whether the record is gone, and there may have been a holder that this process never saw."""
        self._term = 0

    @property
    def renewed(self) -> float:
        """When the last successful renewal began; long ago if this process does not lead."""
        return -math.inf if self._renewed is None else self._renewed

    @property
    def holder(self) -> str | None:
        """The known holder of the lease; None: nobody."""
        return self._holder or None

    def is_led(self, now: float) -> bool:
        """Whether somebody holds the lease, and has renewed it not long ago."""
        return self.holder is not None and now < self._changed_at + 2 * self._terms.renew

    def saw(self, holder: str | None, version: str | None, now: float, *, lasts: float = 0.0) -> None:
        """Take in the record: its holder (empty: released) and version; None: there is no lease.

        `lasts` is what the record says of the holder's terms, in seconds: they may be longer than this process's.
        """
        self._expire(now)
        gone = holder is None and self._has_read
        if not self._has_read or version != self._version:
            self._changed_at, self._try_at = now, -math.inf
            self._may_be_held = gone and now >= self._ours_until
        self._has_read, self._version = True, version
        if not gone:  # a deleted record releases nobody: the holder may not know of it
            self._holder, self._lasts = holder, max(lasts, self._terms.lasts)
        if holder != self._me:
            self._renewed = None  # somebody took or deleted it

    def wrote(self, version: str, *, began: float, now: float) -> None:
        """Take in that a write of this process, begun at that time, made it the holder."""
        self.saw(self._me, version, now)
        if self._renewed is None:
            self._term += 1
        self._renewed = began
        self._ours_until = began + self._terms.lasts
        self._expire(now)

    def failed(self, now: float) -> None:
        """Take in that a write failed, or may have."""
        self._try_at = now + (self._terms.renew if self._renewed is None else self._terms.retry)

    def decide(self, now: float) -> Step:
        """Return the role and the action for now."""
        self._expire(now)
        terms = self._terms
        if self._renewed is None:
            due = self._may_take_at()
            do, at = LeaseWrite.TAKE, max(due, self._try_at)
            role, change = Role.STANDBY, math.inf
        else:
            do, at = LeaseWrite.RENEW, max(self._renewed + terms.renew, self._try_at)
            late = now >= self._renewed + terms.halt
            role = Role.HALTING if late else Role.LEADING
            change = self._renewed + (terms.abandon if late else terms.halt)
        wait = min(at if now < at else math.inf, change) - now
        return Step(role, self._term, do if now >= at else LeaseWrite.NOTHING, wait)

    def _may_take_at(self) -> float:
        if not self._has_read:
            return math.inf
        free = not self._holder or self._holder == self._me  # ours: an answer was lost, or the leadership was given up
        if free and not self._may_be_held:
            return -math.inf
        return self._changed_at + self._lasts

    def _expire(self, now: float) -> None:
        """A deadline that has passed stays passed, even if a renewal turns out to have succeeded."""
        if self._renewed is not None and now >= self._renewed + self._terms.abandon:
            self._renewed = None
