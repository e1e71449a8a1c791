"""One run of a job: claim, pages until nothing is left or the run is halted, release.

The loop knows no product. On halt the page being read is dropped, the page being written is finished and committed.
Whatever happens, the run ends with its claim released or says that it could not release it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

import structlog

from rollup_operator.indexer.bounds import Bounds
from rollup_operator.model.status import JobStats, Outcome
from rollup_operator.stores.base import Claim, Fenced, JobConfig, Page, Session, Store, StoreError

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass
class Progress:
    """What a run is doing, for people and for the status. Written by the run, read by the actor."""

    doing: str = "beginning"
    session: Session | None = None
    claim: Claim | None = None
    pages: int = 0
    rows: int = 0
    documents: int = 0

    def describe(self) -> str:
        """Say in a few words what goes on now."""
        flight = self.session.in_flight() if self.session is not None else None
        return f"{flight or self.doing} ({self.pages} pages, {self.rows} rows, {self.documents} documents so far)"


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended."""

    outcome: Outcome
    message: str
    began: datetime
    ended: datetime
    claim: Claim | None
    """The job's record after the run; None when it was never claimed."""
    released: bool
    """Nothing of this run is held in the store."""
    error: Exception | None = None


@dataclass
class Run:
    """One run; `halt` may be called at any time, from the same event loop."""

    config: JobConfig
    holder: str
    open_store: Callable[[], Awaitable[Store]]
    slots: asyncio.Semaphore
    """The store's places: a run waits for one before it touches the store."""
    now: Callable[[], datetime]
    progress: Progress = field(default_factory=Progress)
    _halted: asyncio.Event = field(default_factory=asyncio.Event)

    def halt(self) -> None:
        """Ask the run to end as soon as what it writes is committed."""
        self._halted.set()

    async def index(self) -> RunResult:
        """Run to the end. Raises nothing: failures are in the result."""
        began = self.now()
        self.progress.doing = "waiting for one of the store's places"
        if not await self._until_halted(self.slots.acquire()):
            return self._result(began, Outcome.HALTED, "halted while it waited for its turn", None, released=True)
        try:
            return await self._with_store(began)
        finally:
            self.slots.release()

    async def _with_store(self, began: datetime) -> RunResult:
        claim: Claim | None = None
        released = True
        error: Exception | None = None
        completed = False
        try:
            self.progress.doing = "opening the store"
            store = await self.open_store()
            session = self.progress.session = store.session(self.config, self.holder)
            try:
                self.progress.doing = "claiming the job"
                released = False
                claim = self.progress.claim = await session.claim()
                completed = await self._pages(session, claim)
            finally:
                claim = self.progress.claim
                released = await self._leave(session, claim)
        except Exception as e:
            error = e
            if not isinstance(e, StoreError):
                log.exception("run failed", job=self.config.job_id, namespace=self.config.owner.namespace)
        finally:
            self.progress.session = None
        return self._judge(began, completed, error, claim, released)

    async def _pages(self, session: Session, claim: Claim) -> bool:
        """Write all that is due. Returns whether the end was reached; False: halted."""
        bounds = Bounds.of(self.config.spec.groups.date_histogram)
        bound = bounds.upper(self.now())
        counted = JobStats(trigger_count=1)
        self.progress.doing = "looking at the source"
        source = await self._until_halted(session.describe(claim, bound))
        if source is None:
            return False
        while not self._halted.is_set():
            page = await self._until_halted(session.read(claim, bound))
            if page is None:
                break
            self._count(page)
            counted = counted.plus(_counters(page))
            if page.buckets:
                began = time.perf_counter()
                claim = self.progress.claim = await session.write(replace(claim, stats=claim.stats.plus(counted)), page)
                counted = JobStats(index_total=1, index_time_in_ms=round((time.perf_counter() - began) * 1000))
            if page.exhausted:
                # A source without a single shard proves nothing about what is complete.
                watermark = max(bound, claim.watermark_ms or 0) if source.shards else claim.watermark_ms
                claim = self.progress.claim = await session.commit_watermark(
                    claim, watermark, claim.stats.plus(counted)
                )
                # A halt does not wait for this: it takes as long as the whole result is large. The next run makes up.
                self.progress.doing = "publishing the result"
                await self._until_halted(session.publish(claim))
                return True
        return False

    async def _leave(self, session: Session, claim: Claim | None) -> bool:
        """Release and close, whatever happened. Returns whether nothing of ours is left in the store."""
        released = claim is None
        try:
            if claim is not None:
                self.progress.doing = "releasing the claim"
                await session.release(claim)
                released = True
        except StoreError as e:
            log.warning("claim not released", job=self.config.job_id, error=str(e))
        finally:
            await session.close()
        return released

    async def _until_halted(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Await `work`, or cancel it when the run is halted and return None once it has ended."""
        if self._halted.is_set():
            work.close()
            return None
        task = asyncio.ensure_future(work)
        halted = asyncio.ensure_future(self._halted.wait())
        try:
            await asyncio.wait({task, halted}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            task.cancel()
            await asyncio.wait({task})
            return task.result() if not task.cancelled() else None
        finally:
            halted.cancel()
            task.cancel()

    def _count(self, page: Page) -> None:
        self.progress.pages += 1
        self.progress.rows += page.rows
        self.progress.documents += page.buckets

    def _judge(
        self, began: datetime, completed: bool, error: Exception | None, claim: Claim | None, released: bool
    ) -> RunResult:
        p = self.progress
        done = f"{p.pages} pages, {p.rows} rows, {p.documents} documents"
        if isinstance(error, Fenced):
            return self._result(began, Outcome.FENCED, f"{error}; {done}", claim, released=True, error=error)
        if error is not None:
            text = str(error) or type(error).__name__
            return self._result(began, Outcome.FAILED, f"{text}; {done}", claim, released=released, error=error)
        outcome = Outcome.COMPLETED if completed else Outcome.HALTED
        return self._result(began, outcome, done, claim, released=released)

    def _result(
        self,
        began: datetime,
        outcome: Outcome,
        message: str,
        claim: Claim | None,
        *,
        released: bool,
        error: Exception | None = None,
    ) -> RunResult:
        return RunResult(outcome, message, began, self.now(), claim, released, error)


def _counters(page: Page) -> JobStats:
    return JobStats(
        pages_processed=1,
        documents_processed=page.rows,
        rollups_indexed=page.buckets,
        search_total=1,
        search_time_in_ms=round(page.took_s * 1000),
    )
