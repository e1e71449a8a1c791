"""One run against a database: read a page of buckets into the scratch catalog, write it with the position."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from rollup_operator.indexer.bounds import Bounds
from rollup_operator.model.conditions import Reason
from rollup_operator.model.status import JobStats
from rollup_operator.stores.base import (
    Claim,
    IdentityConflict,
    JobConfig,
    Owner,
    Page,
    Position,
    Source,
    StoreUnavailable,
)
from rollup_operator.stores.duckdb import claims, export, sql
from rollup_operator.stores.duckdb.claims import Record
from rollup_operator.stores.duckdb.database import Database, Lane
from rollup_operator.stores.duckdb.reading import Range, Reading

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Served:
    """What a store gives its sessions."""

    database: Database
    page_seconds: float
    is_alive: Callable[[Owner], bool]
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Ahead:
    """The page after `position`, being read before it was asked for."""

    position: Position | None
    bound: int
    task: asyncio.Task[Page]


class DuckDBSession:
    """A run's session. Reads and writes go over two connections, so that the next page can be read meanwhile."""

    def __init__(self, served: Served, config: JobConfig, holder: str) -> None:
        self._served, self._config, self._holder = served, config, holder
        self._database = served.database
        self._lanes: list[Lane] = []
        self._reading: Reading | None = None
        self._ahead: Ahead | None = None
        self._closed = False

    async def claim(self) -> Claim:
        """Take the job's claim under a new epoch. Raises IdentityConflict, StoreUnavailable."""
        key, config = self._config.key, self._config
        await self._open()

        def look(lane: Lane) -> tuple[Record | None, bool]:
            if not claims.is_current(lane):
                lane.transaction(claims.prepare)
            record = claims.look(lane, key)
            stands = record is None or record.target is None or claims.target_stands(lane, key, record.target)
            return record, stands

        while True:
            seen, stands = await self._write("looking at the claim", look)
            if seen is not None:
                judge(config, seen, stands, self._served.is_alive)

            taken = await self._commit("claiming", partial(self._take, seen))
            if taken is not None:
                return taken.claim

    def _take(self, seen: Record | None, lane: Lane) -> Record | None:
        """Take the claim, unless the record is no longer the one that was judged."""
        key, config = self._config.key, self._config
        if claims.look(lane, key) != seen:
            return None
        spec = config.spec.model_dump_json(by_alias=True, exclude_none=True, exclude={"desired_state", "job_id"})
        return claims.take(lane, key, self._holder, config.owner, config.config_hash, spec)

    async def describe(self, claim: Claim, bound_ms: int) -> Source:
        """Check the fields and measure what is due. Raises SourceNotFound, SourceInvalid, ForbiddenSource."""
        reading = await self._read(
            "looking at the source",
            lambda lane: Reading.begin(lane, self._config, self._database.folder, self._start(claim), bound_ms),
        )
        reading.pace(self._served.page_seconds, claim.page_hint)
        self._reading = reading
        return reading.source

    async def read(self, claim: Claim, bound_ms: int) -> Page:
        """Read the next page into the scratch catalog, or take the one that was read while the last was written."""
        if self._reading is None:
            await self.describe(claim, bound_ms)
        ahead, self._ahead = self._ahead, None
        if ahead is not None and (ahead.position, ahead.bound) == (claim.position, bound_ms):
            await finished(ahead.task)
            return ahead.task.result()
        if ahead is not None:
            await dropped(ahead.task)
        return await self._page(claim, bound_ms)

    async def _page(self, claim: Claim, bound_ms: int) -> Page:
        reading = self._reading
        assert reading is not None
        begun = self._served.clock()
        found = await self._read("reading", lambda lane: reading.next(lane, self._start(claim), bound_ms, self._say))
        took = self._served.clock() - begun
        if found is None:
            return Page(0, 0, None, exhausted=True, took_s=took)
        return Page(found.buckets, found.rows, found.last_key, found.end >= bound_ms, took, (found, bound_ms))

    async def write(self, claim: Claim, page: Page) -> Claim:
        """Replace the page's range in the result and commit position, counters and page size with it. Raises Fenced.

        The next page is read meanwhile: it belongs to the next `read`, or goes with the session.
        """
        reading = self._reading
        if not isinstance(page.handle, tuple) or reading is None:
            raise TypeError("the page was not read by this session")
        found, bound_ms = page.handle
        begun = self._served.clock()
        reading.learn(reading.covered(found), page.took_s)
        after = replace(claim, position=page.last_key, page_hint=reading.span_ms)
        if not page.exhausted and self._ahead is None:
            self._ahead = Ahead(after.position, bound_ms, asyncio.ensure_future(self._page(after, bound_ms)))

        def work(lane: Lane) -> None:
            lane.transaction(lambda lane: _write(lane, after, found, reading))
            reading.drop(lane, found)

        await self._write(f"writing {page.buckets} documents up to {_minute(found.end)}", work)
        if (took := self._served.clock() - begun) > self._served.page_seconds:
            reading.learn(reading.covered(found), took)
        return after

    async def commit_watermark(self, claim: Claim, watermark_ms: int | None, stats: JobStats) -> Claim:
        """Record the watermark and the counters. Raises Fenced."""
        after = replace(claim, watermark_ms=watermark_ms, stats=stats)

        def work(lane: Lane) -> None:
            claims.check(lane, claim)
            claims.commit_watermark(lane, after)

        await self._commit("recording the watermark", work)
        return after

    async def publish(self, claim: Claim) -> None:
        """Export the result as Parquet, unless the file is there and nothing has changed since. Raises Fenced."""
        layout = export.layout_of(self._config.job_id, self._config.spec)
        folder = self._database.folder
        path = export.export_path(folder, *claim.key)

        def work(lane: Lane) -> None:
            record = claims.check(lane, claim)
            if record.target is None or (record.exported == record.revision and path.is_file()):
                return
            export.export(lane, claims.table(record.target), layout, folder, path)
            lane.transaction(lambda lane: claims.commit_export(lane, claim, record.revision))

        await self._write("exporting the result", work, interruptible=True)

    async def release(self, claim: Claim) -> None:
        """Give the claim up, if it is still ours."""
        await self._drop_ahead()

        def work(lane: Lane) -> None:
            record = claims.look(lane, claim.key)
            if record is not None and (record.claim.holder, record.claim.epoch) == (claim.holder, claim.epoch):
                claims.release(lane, claim.key)

        await self._commit("releasing the claim", work)

    async def close(self) -> None:
        """Free connections and scratch tables; what is still read is interrupted, what is written is awaited."""
        if self._closed:
            return
        await self._drop_ahead()
        self._closed = True
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._database.pool, self._leave))

    def in_flight(self) -> str | None:
        """Say what runs now and for how long, for instance `reading 2013-01-01T00:00Z..2013-02-01T00:00Z for 3.2 s`."""
        parts = [
            f"{lane.doing[0]} for {time.monotonic() - lane.doing[1]:.1f} s"
            for lane in self._lanes
            if lane.doing is not None
        ]
        return ", ".join(parts) or None

    async def _drop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            await dropped(ahead.task)

    def _leave(self) -> None:
        for lane in reversed(self._lanes):
            self._database.leave(lane, self._reading.drop_all if self._reading and lane is self._lanes[0] else None)

    async def _open(self) -> None:
        while len(self._lanes) < 2 and not self._closed:
            self._lanes.append(await self._database.lane())

    async def _read(self, what: str, work: Callable[[Lane], T]) -> T:
        return await self._lane(0).run(what, work, interruptible=True)

    async def _write(self, what: str, work: Callable[[Lane], T], *, interruptible: bool = False) -> T:
        return await self._lane(1).run(what, work, interruptible=interruptible)

    async def _commit(self, what: str, work: Callable[[Lane], T]) -> T:
        return await self._write(what, lambda lane: lane.transaction(work))

    def _lane(self, i: int) -> Lane:
        if self._closed or len(self._lanes) <= i:
            raise StoreUnavailable("the session is closed" if self._closed else "the job is not claimed yet")
        return self._lanes[i]

    def _say(self, start: int, end: int) -> None:
        if (doing := self._lanes[0].doing) is not None:
            self._lanes[0].doing = (f"reading {_minute(start)}..{_minute(end)}", doing[1])

    def _start(self, claim: Claim) -> int:
        """Return where the first bucket after the position begins; 0 where nothing was written."""
        if claim.position is None:
            return 0
        date = self._config.spec.groups.date_histogram
        last = claim.position[f"{date.field}.date_histogram"]
        assert isinstance(last, int)
        return Bounds.of(date).next_edge(last)


async def finished(task: asyncio.Task[Page]) -> None:
    """Wait for a task that is ours: a cancellation ends it first."""
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        await dropped(task)
        raise


async def dropped(task: asyncio.Task[Page]) -> None:
    """End a task and wait until it has ended, however often this is cancelled; its outcome is of no interest."""
    task.cancel()
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if not task.cancelled():
        task.exception()
    if cancelled:
        raise asyncio.CancelledError


def judge(config: JobConfig, record: Record, target_stands: bool, is_alive: Callable[[Owner], bool]) -> None:
    """Raise IdentityConflict where the record is not this job's to continue."""
    index, job_id = config.key
    if record.owner != config.owner and is_alive(record.owner):
        other = f"{record.owner.namespace}/{record.owner.name}"
        raise IdentityConflict(
            Reason.JOB_ID_TAKEN,
            f"the job {other} writes to rollup index {index!r} as {job_id!r} too: "
            "set another spec.jobId or spec.rollupIndex",
        )
    if record.has_documents and record.config_hash != config.config_hash:
        raise IdentityConflict(
            Reason.CONFIG_CHANGED,
            f"rollup index {index!r} holds documents of job {job_id!r} with other groups or metrics: "
            "set another spec.jobId or spec.rollupIndex, or delete the documents with the job that made them",
        )
    if not target_stands:
        raise IdentityConflict(
            Reason.TARGET_REPLACED,
            f"the documents of job {job_id!r} in rollup index {index!r} were removed or replaced behind its record: "
            "set another spec.jobId or spec.rollupIndex, or restore the database",
        )


def _write(lane: Lane, after: Claim, found: Range, reading: Reading) -> None:
    target = claims.commit_page(lane, after, None)
    if target is None:
        columns = ", ".join(f"{sql.name(n)} {t}" for n, t in reading.plan.columns)
        target = claims.make_target(lane, after.key, columns)
        claims.commit_page(lane, after, target)
    key = sql.name(reading.plan.date_key)
    lane.execute(f"DELETE FROM {claims.table(target)} WHERE {key} >= {found.key_from} AND {key} < {found.end}")
    lane.execute(f"INSERT INTO {claims.table(target)} BY NAME {found.select}")


def _minute(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")
