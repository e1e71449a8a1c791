"""One run against a database: reads a page of buckets into the scratch catalog, writes it with the position."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from rollup_operator.concurrency.background import dropped, ended
from rollup_operator.model.conditions import Reason
from rollup_operator.model.counts import counted
from rollup_operator.model.status import JobStats
from rollup_operator.model.times import minute
from rollup_operator.rollup import identity
from rollup_operator.rollup.bounds import Bounds, Span
from rollup_operator.rollup.documents import layout_of
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.stores.base import Claim, Page, Position, Rewritten, Source
from rollup_operator.stores.duckdb import claims
from rollup_operator.stores.duckdb.claims import ClaimRow
from rollup_operator.stores.duckdb.database.database import Database, Lane, Lanes
from rollup_operator.stores.duckdb.source import missed
from rollup_operator.stores.duckdb.source.missed import Missed
from rollup_operator.stores.duckdb.source.reading import Range, Reading
from rollup_operator.stores.duckdb.target import export, writing
from rollup_operator.stores.errors import Fenced, IdentityConflict, StoreUnavailable, TargetBlocked

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Served:
    """What a store gives its sessions."""

    database: Database
    page_seconds: float
    is_alive: Callable[[Owner], bool]
    may_run: Callable[[], bool]
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Ahead:
    """The page after `position`, which is being read ahead."""

    position: Position | None
    task: asyncio.Task[Page]


class DuckDBSession:
    """A run's session. Reads and writes go over two connections, so that the next page can be read meanwhile."""

    def __init__(self, served: Served, config: JobConfig, holder: str) -> None:
        self._served, self._config, self._holder = served, config, holder
        self._database = served.database
        self._lanes = Lanes()
        self._reading: Reading | None = None
        self._again: Reading | None = None
        self._missed = Missed()
        self._readings: list[Reading] = []
        self._ahead: Ahead | None = None
        self._halted = False
        self._closing: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Open the database, once there is a place if too many are open. Raises StoreError."""
        while len(self._lanes.open) < 2:
            await self._database.lane(self._lanes)

    async def claim(self) -> Claim:
        """Take the job's claim under a new epoch. Raises IdentityConflict, StoreUnavailable, Fenced."""
        key, config = self._config.key, self._config
        await self.open()

        def read(lane: Lane) -> tuple[ClaimRow | None, str | None, bool]:
            if not claims.is_current(lane):
                lane.transaction(claims.prepare)
            record = claims.read(lane, key)
            stands = record is None or record.target is None or claims.target_stands(lane, key, record.target)
            return record, claims.pattern(lane, key), stands

        while True:
            seen, pattern, stands = await self._write("reading the claim", read)
            # Checked while the file is open, so no other process settles the job between this and the claim.
            if not self._served.may_run():
                raise StoreUnavailable("this process no longer leads: it claims nothing")
            if seen is not None:
                judge(config, seen, pattern, stands, self._served.is_alive)

            taken = await self._commit("claiming", partial(self._take, seen))
            if taken is not None:
                return export.claim_of(taken, self._database.folders)
            if seen is not None:  # it was settled, and its settler relies on that; or another run has claimed it
                raise Fenced(
                    f"the claim of epoch {seen.claim.epoch} was taken or settled as this run was about to claim"
                )

    def _take(self, seen: ClaimRow | None, lane: Lane) -> ClaimRow | None:
        """Take the claim, unless the record is no longer the one that was checked."""
        key, config = self._config.key, self._config
        if claims.read(lane, key) != seen:
            return None
        spec = config.spec.model_dump_json(by_alias=True, exclude_none=True, exclude={"desired_state", "job_id"})
        return claims.take(lane, key, self._holder, config.owner, config.config_hash, spec)

    async def describe(self, claim: Claim, span: Span) -> Source:
        """Check the fields and measure what is due. Raises SourceNotFound, SourceInvalid, ForbiddenSource."""
        edge = self._after(claim.position)
        self._reading = reading = await self._begin(Span(max(span.start_ms, edge), span.end_ms), claim.page_hint)
        if claim.position is None:
            return reading.source
        self._missed = await self._read(
            "counting late rows", lambda lane: missed.find(lane, self._config, claim, reading, edge)
        )
        return replace(reading.source, late_ms=self._missed.last_ms)

    async def read(self, claim: Claim, span: Span) -> Page:
        """Read the next page into the scratch catalog, or take the one that was read during the last write."""
        if self._reading is None:
            await self.describe(claim, span)
        assert self._reading is not None
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.position == claim.position:
            await _finished(ahead.task)
            return ahead.task.result()
        if ahead is not None:
            await dropped(ahead.task)
        return await self._page(self._reading, claim.position)

    async def write(self, claim: Claim, page: Page) -> Claim:
        """Replace the page's range in the result and commit position, counters and page size with it. Raises Fenced.

        The next page is read meanwhile: the next `read` returns it, or it ends with the session.
        """
        found, reading = _handle(page)
        begun = self._served.clock()
        reading.learn(reading.covered(found), page.took_s)
        after = replace(claim, position=page.last_key, page_hint=reading.span_ms)
        if not page.exhausted and self._ahead is None and not self._halted:
            self._ahead = Ahead(after.position, asyncio.ensure_future(self._page(reading, after.position)))

        def work(lane: Lane) -> None:
            writing.widen(lane, after, reading.plan)
            lane.transaction(lambda lane: writing.replace_range(lane, after, found, reading.plan))
            reading.drop(lane, found)

        await self._write(f"writing {counted(page.buckets, 'document')} up to {minute(found.end)}", work)
        if (took := self._served.clock() - begun) > self._served.page_seconds:
            reading.learn(reading.covered(found), took)
        return after

    async def read_again(self, claim: Claim, span: Span, after: Position | None) -> Page:
        """Read a page of buckets that are already written, into the scratch catalog."""
        if self._again is None or after is None:
            self._again = await self._begin(span, claim.page_hint)
        return await self._page(self._again, after)

    async def rewrite(self, claim: Claim, page: Page) -> Rewritten:
        """Write what changed of the page's range, in one transaction. Raises Fenced."""
        found, reading = _handle(page)
        reading.learn(reading.covered(found), page.took_s)

        def work(lane: Lane) -> Rewritten:
            writing.widen(lane, claim, reading.plan)
            rewritten = writing.rewrite_range(lane, claim, found, reading)
            reading.drop(lane, found)
            return rewritten

        done = await self._write(f"comparing {counted(page.buckets, 'document')} up to {minute(found.end)}", work)
        self._missed = self._missed.without(found.key_from, found.end)
        return done

    async def _begin(self, span: Span, hint: float | None) -> Reading:
        reading = await self._read("inspecting the source", lambda lane: Reading.begin(lane, self._config, span))
        reading.pace(self._served.page_seconds, hint)
        self._readings.append(reading)
        return reading

    async def _page(self, reading: Reading, after: Position | None) -> Page:
        begun = self._served.clock()
        start = max(reading.span.start_ms, self._after(after))
        found = await self._read("reading", lambda lane: reading.next(lane, start, self._say))
        took = self._served.clock() - begun
        if found is None:
            return Page(0, 0, None, exhausted=True, took_s=took)
        exhausted = found.end >= reading.span.end_ms
        return Page(found.buckets, found.rows, found.last_key, exhausted, took, (found, reading))

    async def commit_watermark(self, claim: Claim, watermark_ms: int | None, stats: JobStats) -> Claim:
        """Record the watermark and the counters. Raises Fenced."""
        after = replace(claim, watermark_ms=watermark_ms, stats=stats)

        seen = self._reading.found.seen_ns if self._reading is not None else None

        def work(lane: Lane) -> None:
            claims.check(lane, claim)
            claims.commit_watermark(lane, after, seen)

        await self._commit("recording the watermark", work)
        return after

    async def publish(self, claim: Claim) -> Claim:
        """Export the result as Parquet, unless the file is there and nothing has changed since. Raises Fenced."""
        layout = layout_of(self._config.job_id, self._config.spec)
        result = export.Export(self._database.folders, self._database.name, claim.key)

        def work(lane: Lane) -> None:
            record = claims.check(lane, claim)
            if record.target is None or (record.exported == record.revision and result.exists()):
                return

            def commit(lane: Lane) -> None:
                claims.commit_export(lane, claim, record.revision)
                place()

            with result.written(lane, claims.table(record.target), layout) as place:
                lane.transaction(commit)

        await self._write("exporting the result", work, interruptible=True)
        return replace(claim, result=result.shown)

    def halt(self) -> None:
        """End the reading ahead, so that nobody waits for it once the page is written."""
        self._halted = True
        if self._ahead is not None:
            self._ahead.task.cancel()

    async def release(self, claim: Claim) -> bool:
        """Release the claim, if it is still ours."""
        await self._drop_ahead()

        def work(lane: Lane) -> bool:
            record = claims.read(lane, claim.key)
            if record is None or not record.is_held_as(claim):
                return False
            claims.release(lane, claim.key)
            return True

        return await self._lane(1).run_in_reserve("releasing the claim", lambda lane: lane.transaction(work))

    async def close(self) -> None:
        """Free connections and scratch tables; interrupt reads, and wait for writes."""
        try:
            await self._drop_ahead()
        finally:  # also if this is cancelled
            if self._closing is None:
                self._closing = asyncio.get_running_loop().run_in_executor(self._database.pool, self._leave)
            await asyncio.shield(self._closing)

    def in_flight(self) -> str | None:
        """Say what runs now and for how long, for example `reading 2013-01-01T00:00Z..2013-02-01T00:00Z for 3.2 s`."""
        parts = [
            f"{lane.doing[0]} for {time.monotonic() - lane.doing[1]:.1f} s"
            for lane in self._lanes.open
            if lane.doing is not None
        ]
        return ", ".join(parts) or None

    def notes(self) -> Sequence[str]:
        """Say which rows no run reads: those of files without times, and those that came too late."""
        notes = self._reading.notes if self._reading is not None else ()
        if not (rows := self._missed.rows):
            return notes
        late = (
            "1 row came after its bucket was rolled up and is in no document"
            if rows == 1
            else f"{counted(rows, 'row')} came after their buckets were rolled up and are in no document"
        )
        return (*notes, f"{late}: set spec.lookback, or a longer delay")

    async def _drop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            await (ended if self._halted else dropped)(ahead.task)

    def _leave(self) -> None:
        def drop_all(lane: Lane) -> None:
            for reading in self._readings:
                reading.drop_all(lane)

        self._database.leave_all(self._lanes, drop_all)

    async def _read(self, what: str, work: Callable[[Lane], T]) -> T:
        return await self._lane(0).run(what, work, interruptible=True)

    async def _write(self, what: str, work: Callable[[Lane], T], *, interruptible: bool = False) -> T:
        return await self._lane(1).run(what, work, interruptible=interruptible)

    async def _commit(self, what: str, work: Callable[[Lane], T]) -> T:
        return await self._write(what, lambda lane: lane.transaction(work))

    def _lane(self, i: int) -> Lane:
        lanes, closed = self._lanes.open, self._closing is not None
        if closed or len(lanes) <= i:
            raise StoreUnavailable("the session is closed" if closed else "the job is not claimed yet")
        return lanes[i]

    def _say(self, start: int, end: int) -> None:
        lane = self._lane(0)
        if (doing := lane.doing) is not None:
            lane.doing = (f"reading {minute(start)}..{minute(end)}", doing[1])

    def _after(self, position: Position | None) -> int:
        """Return where the first bucket after a position begins; 0 if there is none."""
        if position is None:
            return 0
        date = self._config.spec.groups.date_histogram
        last = position.get(f"{date.field}.date_histogram")
        if not isinstance(last, int) or not 0 <= last <= claims.LAST_MS:
            raise TargetBlocked(f"no operator wrote the position of the job's record: {str(position)[:200]}")
        return Bounds.of(date).next_edge(last)


def _handle(page: Page) -> tuple[Range, Reading]:
    if not isinstance(page.handle, tuple):
        raise TypeError("the page was not read by this session")
    found, reading = page.handle
    return found, reading


def judge(
    config: JobConfig,
    record: ClaimRow,
    pattern: str | None,
    target_stands: bool,
    is_alive: Callable[[Owner], bool],
) -> None:
    """Raise IdentityConflict if this job may not continue the record, whose indexPattern is `pattern`."""
    identity.judge(
        config,
        owner=record.owner,
        config_hash=record.config_hash,
        pattern=pattern,
        has_documents=record.has_documents,
        is_alive=is_alive,
    )
    if not target_stands:
        index, job_id = config.key
        raise IdentityConflict(
            Reason.TARGET_REPLACED,
            f"the documents of job {job_id!r} in rollup index {index!r} were removed or replaced behind its record: "
            "restore the database, or go on in a new job with another spec.jobId or spec.rollupIndex",
        )


async def _finished(task: asyncio.Task[Page]) -> None:
    """Wait for a task that is ours: a cancellation ends it first."""
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        await dropped(task)
        raise
