"""One run against a cluster: claim, pages read ahead, bulks, commits in the order of the keys.

A search may be cut off at any moment. A bulk may not: closing its connection would not end it, so the run waits for
its answer. If a search was cut off or an answer lost, the run checks the cluster's task list before it releases the
claim.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from rollup_operator.model.counts import counted
from rollup_operator.model.status import JobStats
from rollup_operator.model.time_values import parse_time_value
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.documents import layout_of
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.stores.base import Claim, Page, Position, Rewritten, Source
from rollup_operator.stores.errors import StoreError, StoreUnavailable, StoreUnsuitable
from rollup_operator.stores.opensearch import claims, preparing, replication
from rollup_operator.stores.opensearch.records import Record
from rollup_operator.stores.opensearch.replication import Copies
from rollup_operator.stores.opensearch.source import seen, sources
from rollup_operator.stores.opensearch.source.pages import Pages
from rollup_operator.stores.opensearch.target import bulk, late
from rollup_operator.stores.opensearch.target.encoder import Batch
from rollup_operator.stores.opensearch.target.late import Compared
from rollup_operator.stores.opensearch.transport.client import Cluster
from rollup_operator.stores.opensearch.transport.errors import may_go_on

T = TypeVar("T")

_LONGEST_JOB_ID = 512 - len("$") - 22
"""Bytes for which a document's id has room besides the hash of its bucket."""

_WORN = 2
"""After this number of runs in a row that committed nothing, the first page is half of the estimate, and half
of that after each further one, up to _HALVED times: most failures have other causes."""
_HALVED = 5


@dataclass
class ClusterSession:
    """A run's session."""

    cluster: Cluster
    config: JobConfig
    holder: str
    is_alive: Callable[[Owner], bool]
    may_copy_segments: bool = True
    """The cluster knows `index.replication.type`."""
    _record: Record | None = None
    _waits_for: str | None = None
    """What the claim waits for."""
    _fields: Mapping[str, SourceField] = field(default_factory=dict)
    _source: Source | None = None
    _copies: Copies = replication.ANY
    """The copies of the sources that show everything."""
    _measured_ms: int = 0
    """From where on the source is measured."""
    _fresh: Pages | None = None
    _again: Pages | None = None
    _prepared: bool = False
    """Whether the rollup index and the job's gate are known to exist."""
    _bulks: deque[tuple[Batch, asyncio.Task[None]]] = field(default_factory=deque)
    """Of pages that are not committed yet, in their order."""
    _lost_write: bool = False
    _lost_other: bool = False
    _begun: bool = False
    _unseen: bool = False
    """Whether something was written that searches may not see yet."""
    _notes: list[str] = field(default_factory=list)

    async def open(self) -> None:
        """Nothing to wait for."""

    async def claim(self) -> Claim:
        """Take the job's claim, and wait until nothing of an earlier holder can write any more.

        Raises IdentityConflict, and StoreUnsuitable if the job's id leaves no room in a document's id.
        """
        if (length := len(self.config.job_id.encode())) > _LONGEST_JOB_ID:
            raise StoreUnsuitable(
                f"spec.jobId is {length} bytes long, and documents of a cluster take {_LONGEST_JOB_ID} of it in their "
                "ids: delete the job and create it with a shorter one"
            )
        self.cluster.begin_run()
        self._begun = True
        self._record = await claims.take(
            self.cluster, self.config, self.holder, self.is_alive, waits=partial(setattr, self, "_waits_for")
        )
        return self._record.claim

    async def describe(self, claim: Claim, span: Span) -> Source:
        """Check the fields, and measure what is due and visible. Raises SourceNotFound, SourceInvalid."""
        self._source = await self._or_halted(self._describe(claim, span, self._ours().opaque_id))
        if self._source.first_ms is not None and self._ours().target is None:
            # A name that a template reserves, or a codec that the cluster lacks, is reported before pages are read.
            await self._prepare()
        return self._source

    async def _describe(self, claim: Claim, span: Span, opaque_id: str) -> Source:
        cluster, config, spec = self.cluster, self.config, self.config.spec
        self._fields = await sources.check(cluster, config, opaque_id=opaque_id)
        sources.must_go_on(spec, claim.position, self._fields)
        unseen = await seen.refresh(cluster, config, opaque_id=opaque_id)
        closed = await seen.closed(cluster, spec.index_pattern, opaque_id=opaque_id)
        copies, unknown = replication.ANY, None
        if self.may_copy_segments:
            copies, unknown = await seen.complete_copies(cluster, spec.index_pattern, opaque_id=opaque_id)
        self._copies = copies
        late = None
        if spec.lookback is None:
            late = await seen.grown(cluster, config, self._ours(), opaque_id=opaque_id, copies=copies)
        start = self._measured_ms = max(span.start_ms, self._start(claim))
        source = await self._measure(start, span.end_ms, opaque_id)
        if spec.lookback is not None and claim.position is not None:
            self._measured_ms = start - int(parse_time_value(spec.lookback, "lookback").milliseconds)
            before = await self._measure(self._measured_ms, start, opaque_id)
            source = replace(source, several=source.several | before.several)
        notes = [*unseen.notes, closed, unknown]
        date = spec.groups.date_histogram.field
        if date in source.several:
            notes.append(
                f"some documents have several times in {date!r}: each counts once per time, also within one bucket"
            )
        self._notes += [note for note in notes if note is not None]
        return replace(source, hold_ms=unseen.hold_ms, late_ms=late)

    async def _measure(self, start_ms: int, bound_ms: int, opaque_id: str) -> Source:
        return await sources.measure(
            self.cluster,
            self.config,
            start_ms=start_ms,
            bound_ms=bound_ms,
            opaque_id=opaque_id,
            fields=self._fields,
            copies=self._copies,
        )

    async def read(self, claim: Claim, span: Span) -> Page:
        """Return the next page; further ones are read meanwhile."""
        if self._fresh is None:
            self._fresh = self._pages(claim, span, self._source)
        return await self._or_halted(self._fresh.next(claim.position))

    async def write(self, claim: Claim, page: Page) -> Claim:
        """Write a page, begin to write later pages that are read, and commit the position. Raises Fenced."""
        pages = self._fresh
        if pages is None or not isinstance(page.handle, Batch):
            raise TypeError("the page was not read by this session")
        record = await self._prepare()
        for each in (page, *pages.started()):
            if not any(each.handle is begun for begun, _ in self._bulks):
                assert isinstance(each.handle, Batch)
                self._bulks.append((each.handle, asyncio.ensure_future(self._bulk(record, each.handle))))
        await self._bulks[0][1]
        self._bulks.popleft()
        return await self._commit(replace(claim, position=page.last_key, page_hint=float(pages.page_size)))

    async def read_again(self, claim: Claim, span: Span, after: Position | None) -> Page:
        """Return the next page of buckets that were written before, compared with their documents."""
        if self._again is None or after is None:
            await self._begin_again(claim, span)
        assert self._again is not None
        page = await self._or_halted(self._again.next(after))
        if not isinstance(page.handle, Batch):
            return page
        layout = layout_of(self.config.job_id, self.config.spec)
        compared = await self._or_halted(late.compare(self.cluster, self._ours(), layout, page.handle))
        return replace(page, handle=compared)

    async def _begin_again(self, claim: Claim, span: Span) -> None:
        """Begin to read another span again. What was measured before may be another stretch of time."""
        if self._again is not None:
            await self._again.close()
            self._lost_other |= self._again.unclean
        if self._source is not None and span.start_ms < self._measured_ms:
            source = await self._or_halted(self._measure(span.start_ms, span.end_ms, self._ours().opaque_id))
            self._source = replace(self._source, several=self._source.several | source.several)
        self._again = self._pages(claim, span, None)

    async def rewrite(self, claim: Claim, page: Page) -> Rewritten:
        """Write the documents that late rows of the source changed. Raises Fenced."""
        if not isinstance(page.handle, Compared):
            raise TypeError("the page was not read again by this session")
        changed = page.handle.changed
        if changed.items:
            await self._bulk(await self._prepare(), changed)
        return Rewritten(len(changed), page.handle.kept)

    async def commit_watermark(self, claim: Claim, watermark_ms: int | None, stats: JobStats) -> Claim:
        """Record the watermark and the counters: the run came to its end. Raises Fenced."""
        # There may have been nothing to commit.
        edge = self._start(claim) if claim.position is not None else None
        self._record = replace(self._ours(), runs_without_page=0, edge_ms=edge)
        return await self._commit(replace(claim, watermark_ms=watermark_ms, stats=stats))

    async def publish(self, claim: Claim) -> Claim:
        """Let searches see what was written."""
        if self._unseen:
            await self._or_halted(preparing.publish(self.cluster, self._ours()))
            self._unseen = False
        return claim

    def halt(self) -> None:
        """End the reading ahead: a job that takes over may check for our searches while our last page is written."""
        for pages in (self._fresh, self._again):
            if pages is not None:
                pages.halt()

    async def release(self, claim: Claim) -> bool:
        """Release the claim, once nothing of the run is in progress; one that is no longer ours is left alone."""
        await self._end()
        released = await claims.release(
            self.cluster, self._ours(), lost_write=self._lost_write, lost_other=self._lost_other
        )
        return released is not None

    async def close(self) -> None:
        """End reading, and wait for the answers of what is being written."""
        try:
            await self._end()
        finally:
            if self._begun:
                self._begun = False
                await self.cluster.end_run()

    async def _end(self) -> None:
        for pages in (self._fresh, self._again):
            if pages is not None:
                await pages.close()
                self._lost_other |= pages.unclean
        tasks = [task for _, task in self._bulks]
        self._bulks.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    def in_flight(self) -> str | None:
        """Say what the cluster does for this run and for how long."""
        return self._waits_for if self._record is None else self.cluster.in_flight(self._record.opaque_id)

    def notes(self) -> Sequence[str]:
        """Say what was not visible, and what was deleted while it was read."""
        fewest = min((p.fewest_shards for p in (self._fresh, self._again) if p and p.fewest_shards), default=None)
        if self._source is None or fewest is None or fewest >= self._source.shards:
            return self._notes
        return [
            *self._notes,
            f"the source had {self._source.shards} shards when the run began and {fewest} later: an index was deleted "
            "or closed meanwhile, and what of it was not read by then is not in the result",
        ]

    def _pages(self, claim: Claim, span: Span, source: Source | None) -> Pages:
        record, size = self._ours(), claim.page_hint
        if record.failed_runs >= _WORN:
            size = max(1.0, (size or self.config.spec.page_size) / 2 ** min(_HALVED, record.failed_runs - _WORN + 1))
        return Pages(
            self.cluster,
            self.config,
            epoch=claim.epoch,
            opaque_id=record.opaque_id,
            first=span.start_ms,
            bound_ms=span.end_ms,
            fields=self._fields,
            several=self._source.several if self._source is not None else frozenset(),
            source=source,
            copies=self._copies,
            page_size=size,
        )

    async def _prepare(self) -> Record:
        """Make the rollup index ready, once in a run and only if there is something to write."""
        if not self._prepared:
            self._record = await self._or_halted(
                preparing.prepare(self.cluster, self.config, self._ours(), self._fields)
            )
            self._prepared = True
        return self._ours()

    async def _bulk(self, record: Record, batch: Batch) -> None:
        assert record.gate is not None
        doing = f"writing {counted(len(batch), 'document')} to {self.config.spec.rollup_index}"
        self._unseen = True
        try:
            landed = await bulk.write(self.cluster, record.gate, batch, opaque_id=record.opaque_id, doing=doing)
        except preparing.EXPLAINED as e:
            self._lost_write = True
            raise await preparing.refused(self.cluster, record, e) from e
        except BaseException:
            self._lost_write = True  # a part of it may still be on its way
            raise
        self._lost_write |= landed.unclean

    async def _commit(self, claim: Claim) -> Claim:
        self._record = await self._or_halted(claims.commit(self.cluster, self._ours(), claim))
        return self._record.claim

    async def _or_halted(self, work: Awaitable[T]) -> T:
        """Await anything but a bulk, and note whether a part of it may continue."""
        try:
            return await work
        except asyncio.CancelledError:
            self._lost_other = True
            raise
        except StoreError as e:
            self._lost_other |= may_go_on(e)
            raise

    def _ours(self) -> Record:
        if self._record is None:
            raise StoreUnavailable("the job is not claimed yet")
        return self._record

    def _start(self, claim: Claim) -> int:
        """Return where the bucket of the position begins; 0 if nothing was written."""
        if claim.position is None:
            return 0
        return int(claim.position[f"{self.config.spec.groups.date_histogram.field}.date_histogram"] or 0)
