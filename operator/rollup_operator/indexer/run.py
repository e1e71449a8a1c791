"""One run of a job: claims, processes pages until nothing is left or the run is halted, and releases the claim.

The loop is independent of any product. On halt, the page that is being read is dropped, and the page that is being
written is finished and committed. In every case the run ends with its claim released, or reports that it could not
release it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog

from rollup_operator.concurrency.background import dropped
from rollup_operator.indexer.clocks import Moment, moment
from rollup_operator.indexer.progress import Progress
from rollup_operator.indexer.run_slots import RunSlots
from rollup_operator.model.counts import counted
from rollup_operator.model.status import JobStats, Outcome
from rollup_operator.rollup.bounds import Bounds, Span
from rollup_operator.rollup.due import Due, due, written_of
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.sharing.shares import Account, Held, unbounded
from rollup_operator.stores.base import Claim, Page, Session, Store
from rollup_operator.stores.errors import Fenced, StoreError

log = structlog.get_logger(__name__)

T = TypeVar("T")

_UNCLAIMED = "halted before it claimed the job"

TRIGGERED = JobStats(trigger_count=1)
READ_FAILED = JobStats(search_failures=1)
WRITE_FAILED = JobStats(index_failures=1)
"""A failed run counts as one of the two: what it was about to do has failed."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended."""

    outcome: Outcome
    message: str
    began: datetime
    ended: datetime
    claim: Claim | None
    """The job's record after the run; None when it was never claimed."""
    released: bool | None
    """The run released its claim, and nothing of it runs any more. False: something may, or another has the claim.
    None: it never made a claim."""
    rewritten: int = 0
    """Documents that late rows changed."""
    kept: int = 0
    """Documents left as they were because their source holds fewer rows now."""
    error: Exception | None = None
    inspected: bool = False
    """The source was found good: a run with nothing to do does not ask for it."""
    stats: JobStats = field(default_factory=JobStats)
    """The job's counters after the run, even if the store does not have them because the run failed before."""


@dataclass
class Run:
    """One run; `halt` may be called at any time, from the same event loop."""

    config: JobConfig
    holder: str
    open_store: Callable[[], Awaitable[Store]]
    slots: RunSlots
    """The slots of the store: a run waits for one before it touches the store."""
    now: Callable[[], datetime]
    places: Account = field(default_factory=unbounded)
    """The slots of the process, of which each namespace has a share: a run waits for one of these, too."""
    progress: Progress = field(default_factory=Progress)
    known: JobStats = field(default_factory=JobStats)
    """The job's counters before this run. The store's may lack failed runs."""
    clock_skew: timedelta | None = None
    """How far this process's clock may be ahead of the store's; None: they are not compared."""
    reread: Sequence[tuple[int, int]] = ()
    """Stretches that are to be read again besides what is due: from and to, in epoch milliseconds."""
    may_go_on: Callable[[], bool] = lambda: True
    """Called before anything is sent to the store; False acts as a halt. A process that was frozen notices it so."""
    store: Store | None = None
    """The one that was opened."""
    _halted: asyncio.Event = field(default_factory=asyncio.Event)
    _stats: JobStats = field(init=False)
    _writing: bool = False
    _since: float = 0.0
    """When it began, by the event loop's clock."""
    _placed: bool = False
    _place: Held | None = None
    _inspected: bool = False
    _nothing: str | None = None
    """The reason why there was nothing to do."""
    _doubt: str | None = None
    """What is impossible in the job's record."""
    _notes: tuple[str, ...] = ()
    """Remarks of the store."""

    def __post_init__(self) -> None:
        self._count(self.known.plus(TRIGGERED))

    def _count(self, stats: JobStats) -> None:
        self._stats = self.progress.stats = stats

    def halt(self) -> None:
        """Make the run end as soon as its current write is committed."""
        self._halted.set()
        if (session := self.progress.session) is not None:
            session.halt()

    async def index(self) -> RunResult:
        """Run to the end. Raises nothing: failures are in the result."""
        began, self._since = self.now(), asyncio.get_running_loop().time()
        self.progress.doing = (
            f"waiting for a place: spec.maxConcurrentRuns of RollupStore {self.config.spec.store_ref.name!r} allows "
            f"{counted(self.slots.size, 'run')} at a time"
        )
        try:
            await self._until_halted(self._take_place())
            if self._place is None or self._halted.is_set():
                return self._result(began, Outcome.HALTED, "halted while waiting for its turn", None, released=None)
            return await self._with_store(began)
        finally:
            if self._place is not None:
                self._place.end()
            if self._placed:  # also by a run that is cancelled in the moment in which its turn comes
                self.slots.release()

    async def _take_place(self) -> None:
        await self.slots.acquire()
        self._placed = True
        self.progress.doing = "waiting for one of the operator's places for runs, which all namespaces share"
        self._place = await self.places.take()

    async def _with_store(self, began: datetime) -> RunResult:
        claim: Claim | None = None
        released: bool | None = None
        error: Exception | None = None
        completed = False
        try:
            self.progress.doing = "opening the store"
            store = self.store = await self.open_store()
            at = await self._until_halted(self._moment(store))
            if at is None or self._is_over():
                return self._result(began, Outcome.HALTED, _UNCLAIMED, None, released=None)
            session = self.progress.session = store.session(self.config, self.holder)
            try:
                self.progress.doing = "waiting for the store to be open"
                await self._until_halted(session.open())
                if self._is_over():
                    self._nothing = _UNCLAIMED
                else:
                    self.progress.doing = "claiming the job"
                    claim = await session.claim()
                    self.progress.claimed(claim)
                    self._count(claim.stats.at_least(self.known).plus(TRIGGERED))
                    completed = await self._pages(session, claim, at)
            finally:
                self._notes = tuple(session.notes())
                claim = self.progress.claim
                released = None if claim is None else False
                released = await self._leave(session, claim)
        except Exception as e:
            error = e
            if not isinstance(e, Fenced):
                self._count(self._stats.plus(WRITE_FAILED if self._writing else READ_FAILED))
            if claim is None and (not isinstance(e, StoreError) or e.uncertain):
                released = False
        finally:
            self.progress.session = None
        return self._judge(began, completed, error, claim, released)

    async def _moment(self, store: Store) -> Moment:
        """Return the time of the run, taken before anything is claimed or read. Raises ClockSkewed."""
        now = self.now()
        if self.clock_skew is None:
            return Moment(now)
        self.progress.doing = "comparing clocks"
        return moment(self.config.spec, now, await store.clock(), self.clock_skew)

    async def _pages(self, session: Session, claim: Claim, at: Moment) -> bool:
        """Process everything that is due. Returns whether the end was reached; False: halted."""
        todo = self._due(claim, at)
        reread = written_of(self.config.spec, claim.position, self.reread)
        self._nothing, self._doubt = todo.nothing if not reread else None, todo.doubt
        watermark, stats = claim.watermark_ms, self._stats
        if self._nothing is None:
            self.progress.doing = "inspecting the source"
            source = await self._until_halted(session.describe(claim, todo.fresh))
            if source is None:
                return False
            self._inspected = True
            if source.hold_ms:
                todo = self._due(claim, at, source.hold_ms)
            again = todo.again
            if again.empty and source.late_ms is not None:
                again = Span(source.late_ms, min(self._edge_after(source.late_ms), todo.fresh.end_ms))
            for span in (again, *reread):
                late = await self._look_back(session, claim, span)
                if late is None:
                    return False
                stats = stats.plus(late)
            self.progress.expect(source, todo.fresh)
            written = await self._write_fresh(session, claim, todo.fresh, stats)
            if written is None:
                return False
            claim, stats = written
            if source.shards:  # a source without any shard proves nothing about completeness
                watermark = max(todo.fresh.end_ms, todo.watermark_ms or 0)
        self._writing = True
        claim = self.progress.claim = await session.commit_watermark(claim, watermark, stats)
        self._count(stats)
        # A halt does not wait for this: its time grows with the whole result. The next run catches up.
        self.progress.doing = "publishing the result"
        self.progress.claim = await self._until_halted(session.publish(claim)) or claim
        return True

    def _due(self, claim: Claim, at: Moment, hold_ms: int = 0) -> Due:
        return due(
            self.config.spec,
            at.now,
            position=claim.position,
            watermark_ms=claim.watermark_ms,
            latest_ms=at.latest_ms,
            hold_ms=hold_ms,
        )

    def _edge_after(self, bucket_ms: int) -> int:
        return Bounds.of(self.config.spec.groups.date_histogram).next_edge(bucket_ms)

    async def _write_fresh(
        self, session: Session, claim: Claim, span: Span, stats: JobStats
    ) -> tuple[Claim, JobStats] | None:
        """Write what the span holds after the position, and return the counters not committed yet; None: halted."""
        while not self._is_over():
            page = await self._until_halted(session.read(claim, span))
            if page is None or not self.may_go_on():
                break
            stats = stats.plus(_counters(page))
            if page.buckets:
                began = time.perf_counter()
                with self._write():
                    claim = self.progress.claim = await session.write(replace(claim, stats=stats), page)
                stats = stats.plus(JobStats(index_total=1, index_time_in_ms=_ms_since(began)))
                self._count(stats)
            self.progress.committed(page)
            if page.exhausted:
                return claim, stats
        return None

    async def _look_back(self, session: Session, claim: Claim, span: Span) -> JobStats | None:
        """Rewrite what late documents changed in the span, and return what that adds to the counters; None: halted.

        The store does not record how far this came: a run that is halted here leaves the position as it is, so the next
        run begins with the same span.
        """
        stats, after = JobStats(), None
        while not span.empty:
            page = await self._until_halted(session.read_again(claim, span, after))
            if page is None or not self.may_go_on():
                return None
            stats = stats.plus(_read(page))
            if page.buckets:
                began = time.perf_counter()
                with self._write():
                    found = await session.rewrite(claim, page)
                self.progress.looked_back(found)
                if found.changed:
                    stats = stats.plus(
                        JobStats(rollups_indexed=found.changed, index_total=1, index_time_in_ms=_ms_since(began))
                    )
            if page.exhausted:
                break
            after = page.last_key
        return stats

    @contextmanager
    def _write(self) -> Iterator[None]:
        """Mark a write, so that its failure does not count as that of a read."""
        self._writing = True
        yield
        self._writing = False

    async def _leave(self, session: Session, claim: Claim | None) -> bool | None:
        """Release and close, whatever happened. Returns whether our claim was released; None: there was none."""
        released = None
        try:
            if claim is not None and not self.may_go_on():
                released = False  # the next holder takes it over
            elif claim is not None:
                self.progress.doing, released = "releasing the claim", False
                released = await session.release(claim)
        except StoreError as e:
            owner = self.config.owner
            log.warning("claim not released", namespace=owner.namespace, job=owner.name, error=str(e))
        finally:
            await session.close()
        return released

    def _is_over(self) -> bool:
        return self._halted.is_set() or not self.may_go_on()

    async def _until_halted(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Await `work`, or cancel it when the run is halted and return None once it has ended."""
        if self._is_over():
            work.close()
            return None
        task = asyncio.ensure_future(work)
        halted = asyncio.ensure_future(self._halted.wait())
        try:
            await asyncio.wait({task, halted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await dropped(task, halted)  # also if this run is cancelled: its search is over before it ends
        return None if task.cancelled() else task.result()

    def _judge(
        self, began: datetime, completed: bool, error: Exception | None, claim: Claim | None, released: bool | None
    ) -> RunResult:
        parts = (self._nothing or self.progress.summary(), self._doubt, *self._notes)
        done = "; ".join(part for part in parts if part)
        if isinstance(error, Fenced):
            return self._result(began, Outcome.FENCED, f"{error}; {done}", claim, released=released, error=error)
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
        released: bool | None,
        error: Exception | None = None,
    ) -> RunResult:
        # A step of the clock meanwhile is no time that the run took.
        ended = began + timedelta(seconds=asyncio.get_running_loop().time() - self._since)
        return RunResult(
            outcome,
            message,
            began,
            ended,
            claim,
            released,
            self.progress.rewritten,
            self.progress.kept,
            error,
            self._inspected,
            self._stats,
        )


def _read(page: Page) -> JobStats:
    took = round(page.took_s * 1000)
    return JobStats(pages_processed=1, search_total=1, search_time_in_ms=took, processing_total=1)


def _counters(page: Page) -> JobStats:
    return _read(page).plus(JobStats(documents_processed=page.rows, rollups_indexed=page.buckets))


def _ms_since(began: float) -> int:
    return round((time.perf_counter() - began) * 1000)
