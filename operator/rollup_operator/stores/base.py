"""The store protocol that a run uses, independent of any product. `errors` has what a store may raise.

Order of a page: read, write, verify, commit. A position is committed with compare-and-set on the claim: holder and
epoch must still be ours. Every implementation keeps these promises:

- `describe`, `read` and `publish` may be cancelled at any moment; when the cancellation has been delivered to the
  caller, nothing of it runs any more.
- `write` is not interrupted: it ends with everything durable, position included, or with nothing.
- `release` leaves the record with its epoch and position and without a holder.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.status import JobStats, PositionValue
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.rollup.source_rules import SourceField

Position = Mapping[str, PositionValue]
"""The key of the last written bucket: `{"ts.date_histogram": epoch ms, "f.histogram": number, "f.terms": value}`."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job's record in its store as this process holds it; immutable, each commit returns the next."""

    key: tuple[str, str]
    holder: str
    epoch: int
    position: Position | None
    watermark_ms: int | None
    """Everything before this instant is rolled up; None: nothing yet."""
    stats: JobStats
    """Counters over the life of the job up to the position."""
    page_hint: float | None = None
    """What the pager learned last time; its unit is the store's own."""
    result: str | None = None
    """File with the documents below the operator's data root; None: there is none yet, or they are in an index."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What a store holds of a job once it is settled."""

    claim: Claim | None
    """The job's record, without a holder; None: there is no record, or it is another job's."""
    kept: str | None = None
    """Which documents stay although their deletion was asked for, and whose they are; None: none stay."""


@dataclass(frozen=True, slots=True)
class KnownJob:
    """A job as its store remembers it, the resource being there or not."""

    key: tuple[str, str]
    """(rollup index, job id)."""
    owner: Owner
    spec: Mapping[str, Any] | None
    """As in the resource, in camelCase; None: written by a version that did not record it."""
    has_documents: bool
    """Whether the rollup index holds any of it."""


@dataclass(frozen=True, slots=True)
class RollupIndex:
    """An existing rollup index, whoever created it."""

    jobs: frozenset[str]
    """Ids of the jobs that its description names."""
    lacks: str = ""
    """What it would need to be one, in Elasticsearch's words: then it is no rollup index."""


@dataclass(frozen=True, slots=True)
class Source:
    """What `describe` found: rows from the first bucket not yet written up to the end of the span."""

    shards: int
    """Tables, files or shards seen; 0: the source is empty, and no watermark may move."""
    rows: int
    """0 with `first_ms` given: there are some, and counting them would cost too much."""
    first_ms: int | None = None
    """Oldest time in range, epoch milliseconds; None when there is nothing."""
    last_ms: int | None = None
    hold_ms: int = 0
    """Rows of so long before now may not be seen yet: no bucket is complete that ends later."""
    late_ms: int | None = None
    """The bucket of the position, where rows have come for it since it was written."""
    several: frozenset[str] = frozenset()
    """Fields of which a row may have several values, where the store has to count such a row only once."""


@dataclass(frozen=True, slots=True)
class Page:
    """Buckets read and not yet written. `handle` belongs to the store that made the page."""

    buckets: int
    rows: int
    last_key: Position | None
    """None when no bucket was found."""
    exhausted: bool
    """Nothing is left below the end of the span after this page."""
    took_s: float
    handle: object = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What became of the documents of buckets that were read once more."""

    changed: int
    """Written anew, or for the first time, since late documents changed them."""
    kept: int
    """Left as they were although they differ: the source holds less of them now than when they were rolled up."""


@dataclass(frozen=True, slots=True)
class CsvFound:
    """How CSV files are read, as said or found out."""

    delimiter: str
    header: bool
    columns: Mapping[str, str]
    """Types of all columns, by name."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a job would do."""

    documents: Sequence[tuple[str, Mapping[str, Any]]]
    """A few of the first documents, each with its id."""
    rows: int
    """Source rows or documents in range."""
    buckets: int
    """How many documents the job would write; estimated from the first page."""
    pages: int
    seconds: float
    """How long reading and writing should take; estimated from reading the first page."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Types of the columns that the job names, in the store's words; empty where fields have mappings."""
    csv: Sequence[CsvFound] = ()
    """How CSV files are read, each way once."""
    notes: Sequence[str] = ()
    """What is not what one might expect of the documents."""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """What a clock other than this process's reads."""

    whose: str
    """For instance `the cluster`, to stand before `reads`."""
    at: datetime
    """UTC."""


@dataclass(frozen=True, slots=True)
class Checkup:
    """The result of a health check."""

    version: str
    health: str | None = None
    """green, yellow or red, where the store is a cluster."""
    results: str | None = None
    """Folder of the results below the operator's data root, where the store is embedded."""


class Session(Protocol):
    """One run's use of a store, from claim to release. Not shared between runs."""

    async def open(self) -> None:
        """Wait for what a claim needs and the store shares out among runs. Nothing is known of the job yet.

        May be cancelled at any moment.
        """
        ...

    async def claim(self) -> Claim:
        """Take the job's claim, taking over (epoch + 1) what another holder left.

        Raises IdentityConflict where the record is another living job's, other groups' or another index's.
        """
        ...

    async def describe(self, claim: Claim, span: Span) -> Source:
        """Check the fields that the job names and measure what the span holds after the claim's position.

        Raises SourceNotFound, SourceInvalid, ForbiddenSource, with the field or pattern named.
        """
        ...

    async def read(self, claim: Claim, span: Span) -> Page:
        """Read the next page of the span, after the claim's position where that lies in it."""
        ...

    async def write(self, claim: Claim, page: Page) -> Claim:
        """Write the page's documents and commit the position, both or neither. Raises Fenced.

        `claim.stats` already counts the page and is stored as given.
        """
        ...

    async def read_again(self, claim: Claim, span: Span, after: Position | None) -> Page:
        """Read a page of the buckets of the span once more, after the key `after`; the position does not matter.

        Called between `describe` and the first `read`, and may be cancelled as that may.
        """
        ...

    async def rewrite(self, claim: Claim, page: Page) -> Rewritten:
        """Write those documents of a page of `read_again` that changed. The position stays. Raises Fenced.

        Not interrupted, as `write` is not.
        """
        ...

    async def commit_watermark(self, claim: Claim, watermark_ms: int | None, stats: JobStats) -> Claim:
        """Record that all before `watermark_ms` is rolled up (None: nothing yet), and the counters. Raises Fenced."""
        ...

    async def publish(self, claim: Claim) -> Claim:
        """Make the result readable for users, atomically, where the store needs a step for that."""
        ...

    def halt(self) -> None:
        """Begin no read any more, and end those under way without waiting: the run only finishes what it writes."""
        ...

    async def release(self, claim: Claim) -> bool:
        """Give the claim up and return True. False: it has another holder or epoch by now, and was left alone."""
        ...

    async def close(self) -> None:
        """Free what the session holds. Nothing of the run is in flight afterwards."""
        ...

    def in_flight(self) -> str | None:
        """Say in a few words what the store is doing for this run now, or None."""
        ...

    def notes(self) -> Sequence[str]:
        """Say what of the source the run could not see or had to leave out, though it did not fail for it."""
        ...


class Store(Protocol):
    """A place with sources and rollup indices."""

    @property
    def distribution(self) -> str:
        """Return what the store is, for instance duckdb."""
        ...

    @property
    def place(self) -> str | None:
        """Return what two stores share that lead to the same records; None: not known, since none was checked."""
        ...

    async def check(self) -> Checkup:
        """Look at the store by harmless requests. Raises StoreUnavailable, StoreUnsuitable, SecretInvalid."""
        ...

    async def clock(self) -> ClockReading | None:
        """Read a clock that does not depend on this machine's; None: the store knows of none. Raises StoreError."""
        ...

    def session(self, config: JobConfig, holder: str) -> Session:
        """Return a session for one run of a job under the holder's name. No I/O."""
        ...

    async def fields(
        self, index_pattern: str, rollup_index: str, spec: RollupJobSpec | None = None
    ) -> Mapping[str, SourceField]:
        """Return the fields of all that the pattern matches, by name; `rollup_index` itself is no source.

        `spec` says how a job reads sources that do not say themselves what they hold, such as CSV files.

        Raises SourceNotFound, ForbiddenSource, SourceInvalid, StoreUnavailable.
        """
        ...

    async def rollup_index(self, index: str) -> RollupIndex | None:
        """Look at a rollup index; None: it is not there, or nobody else could have made it. Raises StoreError."""
        ...

    async def preview(self, config: JobConfig, span: Span, documents: int) -> Preview:
        """Say what the job would do with the whole span, with at most that many documents. Writes nothing.

        Raises what `Session.describe` and `Session.read` raise.
        """
        ...

    async def known_jobs(self) -> Sequence[KnownJob]:
        """List all jobs that ever claimed something here, in order of their keys. Raises StoreUnavailable."""
        ...

    async def held(self, holder: str) -> Collection[Owner]:
        """List the owners of all claims that another than `holder` has and may be at work under.

        Raises StoreUnavailable.
        """
        ...

    async def settle(self, config: JobConfig, holder: str, *, delete_documents: bool) -> Settled:
        """Make sure that nothing of an earlier holder's run goes on and that the claim has no holder.

        Acts only on a record of this job (`identity.is_this_job`). With `delete_documents` the position and the
        documents go too, where this resource claimed the record last (`identity.made_by`); the record itself stays, so
        that epochs only grow. Whoever claims meanwhile under another owner keeps claim and documents.
        """
        ...

    async def retire(self) -> None:
        """Keep nothing open that no session or call needs: another client takes its place. It can still be used."""
        ...

    async def close(self) -> None:
        """Close what is open. Sessions still open end with StoreUnavailable."""
        ...


def closes_with_leadership(store: Store) -> bool:
    """Whether a store is closed once this process leads no more: the file of an embedded one is the next leader's."""
    return store.distribution == "duckdb"
