"""What a store reads to compare a job's documents with its source. Nothing is written, and no claim is made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.comparison import Findings, Judge


@dataclass(frozen=True, slots=True)
class Extent:
    """What there is to compare."""

    span: Span
    """The time that holds any rows or documents and is rolled up; empty: there is nothing to compare."""
    rolled_up_to_ms: int
    """Everything before is rolled up; 0: nothing is."""
    rows: int = 0
    """Of the source, in the span."""
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class DayCount:
    """The rows of one day, counted on both sides."""

    rows: int
    """Of the source."""
    stored: int
    """As the day's documents count them."""


class Verification(Protocol):
    """One comparison's use of a store. Every method may be cancelled, and nothing of it goes on once it has ended."""

    @property
    def judge(self) -> Judge:
        """How buckets are compared. Known after `begin`."""
        ...

    async def begin(self, span: Span) -> Extent:
        """Find what is rolled up of a span, and check that it is this job's, made of this source.

        Raises IdentityConflict, and what `Session.describe` raises.
        """
        ...

    async def count(self, days: Sequence[Span]) -> Sequence[DayCount]:
        """Count rows on both sides, day by day: adjacent days within the extent."""
        ...

    async def compare(self, span: Span, into: Findings, reached: Callable[[int], None]) -> None:
        """Compare all buckets that begin in a span, which are whole days of the extent.

        `reached` is called in the event loop with the time up to which they are compared.
        """
        ...
