"""The store protocol that a run uses, independent of any product. `errors` has what a store may raise.

Order of a page: read, write, verify, commit. A position is committed with compare-and-set on the claim: holder and
epoch must still be ours. Every implementation keeps these promises:

- `describe`, `read` and `publish` may be cancelled at any moment; when the cancellation has been delivered to the
  caller, nothing of it runs any more.
- `write` is not interrupted: it ends with everything durable, position included, or with nothing.
- `release` leaves the record with its epoch and position and without a holder.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.status import JobStats, PositionValue
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.stores.search import MAX_BUCKETS, SEARCH_SECONDS, Fetch, Partials, Tier
from rollup_operator.stores.verification import Verification

Position = Mapping[str, PositionValue]
"""The key of the last written bucket: `{"ts.date_histogram": epoch ms, "f.histogram": number, "f.terms": value}`."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job's record in its store, as this process holds it. Immutable: each commit returns the next one."""

    key: tuple[str, str]
    holder: str
    epoch: int
    position: Position | None
    watermark_ms: int | None
    """Everything before this instant is rolled up; None: nothing yet."""
    stats: JobStats
    """Counters over the life of the job, up to the position."""
    page_hint: float | None = None
    """What the pager learned last time; its unit is the store's own."""
    result: str | None = None
    """File with the documents, below the operator's data root; None: not written yet, or they are in an index."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What a store still holds of a settled job."""

    claim: Claim | None
    """The job's record, without a holder; None: there is no record, or it is another job's."""
    kept: str | None = None
    """The documents that stay although their deletion was requested, and whose they are; None: none stay."""


@dataclass(frozen=True, slots=True)
class Retained:
    """What a store holds under a job's key, and whose it is."""

    owner: Owner
    """The resource that claimed the record last. It may be gone."""
    documents: int


@dataclass(frozen=True, slots=True)
class Purged:
    """The result of a purge."""

    documents: int
    """How many were deleted."""
    kept: str | None = None
    """The documents that stay, and whose they are; None: none stay."""


@dataclass(frozen=True, slots=True)
class KnownJob:
    """A job as its store remembers it, whether or not the resource still exists."""

    key: tuple[str, str]
    """(rollup index, job id)."""
    owner: Owner
    spec: Mapping[str, Any] | None
    """As in the resource, in camelCase; None: written by a version that did not record it."""
    has_documents: bool
    """Whether the rollup index holds any of its documents."""


@dataclass(frozen=True, slots=True)
class RollupIndex:
    """An existing rollup index, whoever created it."""

    jobs: frozenset[str]
    """Ids of the jobs that its `_meta` names."""
    lacks: str = ""
    """What it lacks to be a rollup index, in Elasticsearch's words; empty if it is one."""


@dataclass(frozen=True, slots=True)
class Source:
    """The result of `describe`: rows from the first bucket not yet written up to the end of the span."""

    shards: int
    """Tables, files or shards seen; 0: the source is empty, and no watermark may move."""
    rows: int
    """0 with `first_ms` given: there are rows, but counting them would cost too much."""
    first_ms: int | None = None
    """Oldest time in range, in epoch milliseconds; None if there are no rows."""
    last_ms: int | None = None
    hold_ms: int = 0
    """Rows of this last stretch of time may not be visible yet: a bucket that ends in it is not complete."""
    late_ms: int | None = None
    """The bucket of the position, if rows have come for it since it was written."""
    several: frozenset[str] = frozenset()
    """Fields of which a row may have several values, if the store has to count such a row only once."""


@dataclass(frozen=True, slots=True)
class Page:
    """Buckets that are read and not yet written. `handle` belongs to the store that made the page."""

    buckets: int
    rows: int
    last_key: Position | None
    """None when no bucket was found."""
    exhausted: bool
    """Whether this page is the last one of the span."""
    took_s: float
    handle: object = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The result for documents of buckets that were read again."""

    changed: int
    """Rewritten, or written for the first time, because late documents changed them."""
    kept: int
    """Left as they were although they differ: the source holds fewer rows of them now than when they were rolled up."""


@dataclass(frozen=True, slots=True)
class CsvFound:
    """How CSV files are read, as configured or detected."""

    delimiter: str
    header: bool
    columns: Mapping[str, str]
    """Types of all columns, by name."""
    time_format: str | None = None
    """How the job's times are written, in the directives of strptime; None: year, month, day as in ISO 8601."""


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
    """What might surprise in the documents."""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """The reading of a clock other than this process's."""

    whose: str
    """For example `the cluster`, used before `reads`."""
    at: datetime
    """UTC."""


@dataclass(frozen=True, slots=True)
class Checkup:
    """The result of a health check."""

    version: str
    health: str | None = None
    """green, yellow or red, if the store is a cluster."""
    results: str | None = None
    """Folder of the results below the operator's data root, if the store is embedded."""


class Session(Protocol):
    """One run's use of a store, from claim to release. Not shared between runs."""

    async def open(self) -> None:
        """Wait for what a claim needs and the store divides among runs. Nothing is known of the job yet.

        May be cancelled at any moment.
        """
        ...

    async def claim(self) -> Claim:
        """Take the job's claim, from another holder too, under the next epoch.

        Raises IdentityConflict if the record belongs to another living job, or to other groups or another index.
        """
        ...

    async def describe(self, claim: Claim, span: Span) -> Source:
        """Check the fields that the job names and measure what the span holds after the claim's position.

        Raises SourceNotFound, SourceInvalid, ForbiddenSource, with the field or pattern named.
        """
        ...

    async def read(self, claim: Claim, span: Span) -> Page:
        """Read the next page of the span, after the claim's position if that lies in the span."""
        ...

    async def write(self, claim: Claim, page: Page) -> Claim:
        """Write the page's documents and commit the position: both or neither. Raises Fenced.

        `claim.stats` already counts the page and is stored as given.
        """
        ...

    async def read_again(self, claim: Claim, span: Span, after: Position | None) -> Page:
        """Read a page of buckets of the span again, after the key `after`; the position does not matter.

        Called between `describe` and the first `read`, and may be cancelled like those.
        """
        ...

    async def rewrite(self, claim: Claim, page: Page) -> Rewritten:
        """Write the documents of a page of `read_again` that changed. The position stays. Raises Fenced.

        Not interrupted, as `write` is not.
        """
        ...

    async def commit_watermark(self, claim: Claim, watermark_ms: int | None, stats: JobStats) -> Claim:
        """Record that all before `watermark_ms` is rolled up (None: nothing yet), and the counters. Raises Fenced."""
        ...

    async def publish(self, claim: Claim) -> Claim:
        """Make the result readable for users, atomically, if the store needs a step for that."""
        ...

    def halt(self) -> None:
        """Begin no more reads, and end current ones without waiting: the run only finishes its current write."""
        ...

    async def release(self, claim: Claim) -> bool:
        """Release the claim and return True. False: it has another holder or epoch by now, and was left alone."""
        ...

    async def close(self) -> None:
        """Free what the session holds. Afterwards no request of the run is in progress."""
        ...

    def in_flight(self) -> str | None:
        """Say in a few words what the store is doing for this run now, or None."""
        ...

    def notes(self) -> Sequence[str]:
        """Say which parts of the source the run could not see or had to leave out without failing."""
        ...


class Store(Protocol):
    """A store: sources and rollup indices in one place."""

    @property
    def distribution(self) -> str:
        """Return the product of the store, for example duckdb."""
        ...

    @property
    def place(self) -> str | None:
        """Return what two stores with the same records have in common; None: unknown before a check."""
        ...

    async def check(self) -> Checkup:
        """Check the store by harmless requests. Raises StoreUnavailable, StoreUnsuitable, SecretInvalid."""
        ...

    async def clock(self) -> ClockReading | None:
        """Read a clock that does not depend on this machine's; None: the store has none. Raises StoreError."""
        ...

    def session(self, config: JobConfig, holder: str) -> Session:
        """Return a session for one run of a job under the holder's name. No I/O."""
        ...

    async def fields(
        self, index_pattern: str, rollup_index: str, spec: RollupJobSpec | None = None, *, uid: str | None = None
    ) -> Mapping[str, SourceField]:
        """Return the fields of everything that the pattern matches, by name, except in `rollup_index` itself.

        `spec` says how a job reads sources that do not describe themselves, such as CSV files. `uid` names the job for
        which they are read, if it exists: a call that is cancelled then ends once nothing of it is in progress.

        Raises SourceNotFound, ForbiddenSource, SourceInvalid, StoreUnavailable.
        """
        ...

    async def rollup_index(self, index: str) -> RollupIndex | None:
        """Describe a rollup index; None: it does not exist, or only this operator can create it. Raises StoreError."""
        ...

    async def preview(self, config: JobConfig, span: Span, documents: int) -> Preview:
        """Say what the job would do with the whole span, with at most that many documents. Writes nothing.

        Raises what `Session.describe` and `Session.read` raise.
        """
        ...

    async def tiers(self, rollup_indices: Collection[str]) -> Sequence[Tier]:
        """Say what can be read of the documents of all jobs of these rollup indices, whoever wrote them.

        What is said to be rolled up is seen by every search that begins afterwards. A name that is no rollup index has
        no job. Raises StoreError; StoreElsewhere where another process has the store.
        """
        ...

    async def search(
        self, fetches: Sequence[Fetch], *, max_buckets: int = MAX_BUCKETS, seconds: float = SEARCH_SECONDS
    ) -> Sequence[Partials]:
        """Answer fetches, in their order, all buckets of one together being `max_buckets` at most.

        Nothing of it goes on once it has ended, also where it was cancelled. A relation that is not there has no rows.
        Raises SearchTooLarge, SearchKeysTooLong, SearchAnswerTooLong, SearchTooSlow after so many seconds,
        StoreElsewhere, DocumentsChanged, and the errors of a source.
        """
        ...

    def verification(
        self, config: JobConfig, fields: Collection[str] | None = None, *, awaited: bool = False
    ) -> AbstractAsyncContextManager[Verification]:
        """Open a comparison of a job's documents with its source, for a block.

        `fields`: whose metrics are compared; None: all. `awaited`: the block ends once nothing of it is in progress,
        and only the process that leads may enter it. Raises StoreError; StoreElsewhere where another process has
        the store.
        """
        ...

    async def known_jobs(self) -> Sequence[KnownJob]:
        """List all jobs that ever made a claim here, in order of their keys. Raises StoreUnavailable."""
        ...

    async def held(self, holder: str) -> Collection[Owner]:
        """List the owners of all claims that are held by another than `holder`, who may be at work.

        Raises StoreUnavailable.
        """
        ...

    async def settle(
        self, config: JobConfig, holder: str, *, delete_documents: bool, verified: bool = False
    ) -> Settled:
        """Make sure that no request of an earlier holder's run is in progress and that the claim has no holder.

        Acts only on a record of this job (`identity.is_this_job`). With `delete_documents` the position and the
        documents go, too, if this resource claimed the record last (`identity.made_by`); the record itself stays, so
        that epochs only grow. A job of another owner that claims meanwhile keeps claim and documents. `verified`:
        nothing of an awaited verification of the job is in progress either.
        """
        ...

    async def retained(self, key: tuple[str, str]) -> Retained | None:
        """Say whose documents are under a key, (rollup index, job id), and how many; None: a new job finds none.

        Raises StoreError.
        """
        ...

    async def purge(self, key: tuple[str, str], owner: Owner, holder: str) -> Purged:
        """Delete what `retained` found of an `owner` that is gone, as the deletion of its job would have.

        Before that, nothing of its runs is in progress any more; the record stays, so that epochs only grow. Raises
        Fenced where another resource has claimed the record: then nothing of that resource is deleted.
        """
        ...

    async def retire(self) -> None:
        """Keep open only what sessions and calls need: another client takes its place. It can still be used."""
        ...

    async def close(self) -> None:
        """Close everything. Open sessions end with StoreUnavailable."""
        ...


def closes_with_leadership(store: Store) -> bool:
    """Whether a store is closed when this process stops leading: the next leader opens the file of an embedded one."""
    return store.distribution == "duckdb"
