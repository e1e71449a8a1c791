"""Progress of a run: how much is done, and how long the rest should take. The run writes it; the actor reads it."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rollup_operator.model import status
from rollup_operator.model.counts import counted
from rollup_operator.model.times import duration
from rollup_operator.rollup.bounds import Span
from rollup_operator.stores.base import Claim, Page, Position, Rewritten, Session, Source

_PACE_S = 60.0
"""The pace is that of the last minute: the beginning of a long run says little about its end."""
_TOO_EARLY_S = 2.0
"""No estimate is made from less."""


@dataclass
class Progress:
    """What a run is doing, for people and for the status."""

    doing: str = "beginning"
    session: Session | None = None
    claim: Claim | None = None
    stats: status.JobStats | None = None
    """The job's counters, including this run's trigger and failure, and its committed pages."""
    pages: int = 0
    rows: int = 0
    documents: int = 0
    rewritten: int = 0
    kept: int = 0
    clock: Callable[[], float] = time.monotonic
    begins: Callable[[], None] = lambda: None
    """Called once the run has all that it waits for."""
    _source: Source | None = None
    _span: Span = field(default=Span(0, 0))
    _seen: deque[tuple[float, float]] = field(default_factory=deque)
    """Times, each with the share that was done by then."""

    @property
    def waits(self) -> bool:
        """Whether the run still waits, for a place, its store or the end of an earlier run, and has done nothing."""
        return self.claim is None

    def claimed(self, claim: Claim) -> None:
        """Take in the claim: the wait is over."""
        self.claim = claim
        self.begins()

    def expect(self, source: Source, span: Span) -> None:
        """Take in what is due."""
        self._source, self._span = source, span
        self._seen.append((self.clock(), 0.0))

    def committed(self, page: Page) -> None:
        """Count a page that is written and committed, or empty."""
        self.pages += 1
        self.rows += page.rows
        self.documents += page.buckets
        now = self.clock()
        self._seen.append((now, self._share(page)))
        while len(self._seen) > 2 and self._seen[1][0] < now - _PACE_S:
            self._seen.popleft()

    def looked_back(self, found: Rewritten) -> None:
        """Count the result of a page that was read again."""
        self.rewritten += found.changed
        self.kept += found.kept

    @property
    def percent(self) -> int:
        """Written share of the source: 100 only when the last page is written."""
        return int(100 * self._seen[-1][1]) if self._seen else 0

    @property
    def remaining_s(self) -> float | None:
        """Seconds that the rest should take at the pace of the last minute; None: unknown yet."""
        if len(self._seen) < 2:
            return None
        (began, before), (_, share) = self._seen[0], self._seen[-1]
        took = self.clock() - began
        if share >= 1:
            return 0.0
        if share <= before or took < _TOO_EARLY_S:
            return None
        return (1 - share) * took / (share - before)

    def report(self) -> status.RunProgress:
        """Return the progress as the status shows it."""
        remaining = self.remaining_s
        return status.RunProgress(
            percent=self.percent, remaining_seconds=None if remaining is None else round(remaining)
        )

    def describe(self) -> str:
        """Describe in a few words what goes on now."""
        flight = self.session.in_flight() if self.session is not None else None
        if self._source is None:
            return flight or self.doing
        parts = [f"{self._counts()} so far"]
        if self.pages:
            parts.append(f"{self.percent} %")
        if remaining := self.remaining_s:
            parts.append(f"about {duration(remaining)} left")
        return f"{flight or self.doing} ({', '.join(parts)})"

    def summary(self) -> str:
        """Summarize the run at its end."""
        text = self._counts()
        if self.rewritten:
            text += f"; {counted(self.rewritten, 'document')} rewritten after late rows"
        if self.kept:
            text += f"; {counted(self.kept, 'document')} kept, since the source holds fewer rows for them now"
        return text

    def _counts(self) -> str:
        return f"{counted(self.pages, 'page')}, {counted(self.rows, 'row')}, {counted(self.documents, 'document')}"

    def _share(self, page: Page) -> float:
        if page.exhausted:
            return 1.0
        source = self._source
        assert source is not None
        if source.rows:
            return min(0.99, self.rows / source.rows)
        first = source.first_ms if source.first_ms is not None else self._span.start_ms
        last = _time(page.last_key)
        whole = self._span.end_ms - first
        return 0.0 if last is None or whole <= 0 else min(0.99, max(0.0, (last - first) / whole))


def _time(key: Position | None) -> int | None:
    """Return the time of a key, its first part."""
    first = next(iter(key.values()), None) if key else None
    return first if isinstance(first, int) else None
