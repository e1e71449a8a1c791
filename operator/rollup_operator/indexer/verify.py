"""Compares a job's documents with its source: counts day by day, then the buckets of the days that may differ.

    count every day on both sides ──▶ days that differ, or all ──▶ compare their buckets ──▶ days with findings
                                                                                                    │
                                                                     compare those once more ◀──────┘

A run may rewrite a bucket, and rows may come, between the moments at which the two sides are read. So a finding counts
only if it is found a second time, by a new reading.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from rollup_operator.concurrency.portions import each, in_portions
from rollup_operator.model.job import DateHistogramGroup
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.comparison import Findings
from rollup_operator.rollup.days import bridged, days, joined
from rollup_operator.stores.verification import DayCount, Extent, Verification

FULL_ROWS = 10_000_000
"""A stretch of at most so many rows of the source is compared in full unless the caller says otherwise."""

DAYS_AT_ONCE = 300
"""Days that are counted by one request of each side."""

STRETCHES = 20
"""At most so many stretches of days are compared; days between them fill the gaps. Each stretch searches the source."""


@dataclass
class VerifyProgress:
    """How far a verification is."""

    doing: str = "beginning"
    days: int = 0
    """Of the stretch."""
    counted: int = 0
    """Days."""
    span_ms: int = 0
    """Of the days to compare, those to compare once more included as soon as they are known."""
    compared_ms: int = 0
    buckets: int = 0
    findings: int = 0

    @property
    def percent(self) -> int:
        """The share that is done, counting and comparing each taken for a half."""
        counted = self.counted / self.days if self.days else 0.0
        compared = self.compared_ms / self.span_ms if self.span_ms else 0.0
        return int(50 * counted + 50 * compared)


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification has found."""

    extent: Extent
    full: bool
    """Whether every day was compared bucket by bucket, not only those whose counts differ."""
    days: Sequence[tuple[Span, DayCount]]
    """Of the stretch, in order."""
    compared: Sequence[Span]
    """The days that were compared bucket by bucket: those chosen, and some between them."""
    buckets: int
    """Those of the source that were compared."""
    findings: Findings | None
    """None: nothing was compared."""


@dataclass
class Verifier:
    """One verification of one job."""

    group: DateHistogramGroup
    open: Callable[[], AbstractAsyncContextManager[Verification]]
    progress: VerifyProgress = field(default_factory=VerifyProgress)

    async def verify(self, span: Span, *, full: bool | None = None) -> Verified:
        """Compare what is rolled up of a span, whose ends are edges.

        `full`: compare all days bucket by bucket, or only those whose counts differ; None: all of a stretch of
        FULL_ROWS. Raises StoreError.
        """
        self.progress.doing = "reading what is rolled up"
        async with self.open() as verification:
            extent = await verification.begin(span)
            parts = await in_portions(each(_itself, days(self.group, extent.span)))
            counts = await self._counts(verification, parts)
            everything = extent.rows <= FULL_ROWS if full is None else full
            chosen = _joinable(parts, [i for i, c in enumerate(counts) if everything or c.rows != c.stored])
            self.progress.doing = "comparing buckets"
            found = Findings(verification.judge, [day.start_ms for day in parts])
            await self._compare(verification, chosen, found)
        buckets = found.compared
        if found.days:
            self.progress.doing = "comparing days with differences once more"
            again = _joinable(parts, [i for i, day in enumerate(parts) if day.start_ms in found.days])
            async with self.open() as verification:
                await verification.begin(extent.span)
                found = Findings(verification.judge, found.starts, believed=found.suspects())
                await self._compare(verification, again, found)
        return Verified(
            extent, everything, list(zip(parts, counts, strict=True)), chosen, buckets, found if chosen else None
        )

    async def _counts(self, verification: Verification, parts: Sequence[Span]) -> list[DayCount]:
        self.progress.doing, self.progress.days = "counting rows by day", len(parts)
        counts: list[DayCount] = []
        for begin in range(0, len(parts), DAYS_AT_ONCE):
            counts += await verification.count(parts[begin : begin + DAYS_AT_ONCE])
            self.progress.counted = len(counts)
        return counts

    async def _compare(self, verification: Verification, chosen: Iterable[Span], found: Findings) -> None:
        stretches = list(joined(chosen))
        progress = self.progress
        progress.span_ms += sum(s.end_ms - s.start_ms for s in stretches)
        for stretch in stretches:
            before = progress.compared_ms - stretch.start_ms

            def reached(ms: int, before: int = before) -> None:
                progress.compared_ms = before + ms
                progress.buckets, progress.findings = found.compared, found.total

            await verification.compare(stretch, found, reached)
            reached(stretch.end_ms)


def _joinable(parts: Sequence[Span], numbers: Sequence[int]) -> list[Span]:
    return [parts[i] for i in bridged(numbers, STRETCHES)]


def _itself(day: Span) -> Span:
    return day
