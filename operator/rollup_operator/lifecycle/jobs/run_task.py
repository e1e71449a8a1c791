"""Starts the one run task of a job, and reports how it ended."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from weakref import WeakValueDictionary

import orjson
import structlog

from rollup_operator.indexer.progress import Progress
from rollup_operator.indexer.run import Run, RunResult
from rollup_operator.indexer.run_slots import RunSlots
from rollup_operator.indexer.source_check import check_source
from rollup_operator.lifecycle.jobs import verify_task
from rollup_operator.lifecycle.jobs.run_facts import RunFacts, RunKind
from rollup_operator.lifecycle.jobs.verify_task import VERIFICATIONS_AT_ONCE, VERIFICATIONS_OF_STORE, VerifyWork
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.lifecycle.stores.book import StoreBook
from rollup_operator.lifecycle.telemetry import RunReport
from rollup_operator.model.conditions import Reason, Trouble
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.job_view import JobView
from rollup_operator.model.run_request import stretches_of
from rollup_operator.model.status import LONGEST_MESSAGE, JobStats, LastRun, Outcome, shortened
from rollup_operator.model.times import rfc3339
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.sharing.shares import Account, Shares
from rollup_operator.stores.base import Claim, Store
from rollup_operator.stores.errors import SecretGone, StoreError, StoreNotFound, StoreUnavailable

log = structlog.get_logger(__name__)

CHECKS_AT_ONCE = 8
"""Sources checked at a time in this process, half of them of one namespace: thousands of jobs may be started at once.
"""

CHECKS_OF_STORE = 2
"""Of one store: one that does not answer leaves the other stores of its namespace their places."""

CHECK_SECONDS = 60.0
"""How long a store may take to describe a source."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run task ended."""

    settled: bool | None
    """True: the store was seen to hold no claim and no request of this job. False: it may. None: the run made
    no claim, so the previous answer holds."""
    claim: Claim | None = None
    stats: JobStats | None = None
    """The job's counters, including those of runs that made no claim."""
    last_run: LastRun | None = None
    trouble: Trouble | None = None
    mended: bool = False
    """An earlier trouble is over."""
    unread: bool = False
    """A run that had nothing to do: it says nothing of the source."""
    skipped: str | None = None
    """A deleted job was let go without checking its store, and why."""
    held: tuple[Store, ...] | None = None
    """The stores in which a run of this process left its claim, or may have. None: the same as before."""
    kept: str | None = None
    """Documents that stay although the job was to be deleted with them: which, and whose they are."""
    error: Exception | None = None
    """The error of a run that no store is known to raise."""


@dataclass(slots=True)
class Work:
    """A current run task, as known from outside. Times are the event loop's."""

    kind: RunKind
    began: float
    deleting: bool
    """Started for a deletion: the finalizer waits only for its end."""
    progress: Progress
    task: asyncio.Task[Ended]
    _halt: Callable[[], object]
    _run: Run | None = None
    requested: bool = False
    """A run that somebody requested; else a tick or a retry began it."""
    outlived: bool = False
    """The leadership in which it began is over, so its end says nothing about the state at that time."""
    _halted_at: float | None = None

    def halt(self, now: float) -> None:
        """Halt the run, once."""
        if self._halted_at is None:
            self._halted_at = now
            self._halt()

    @property
    def store(self) -> Store | None:
        """The store in which the run may have claimed the job."""
        return None if self._run is None else self._run.store

    def facts(self, now: float) -> RunFacts:
        """Return what `decide` needs of it."""
        halted = None if self._halted_at is None else now - self._halted_at
        return RunFacts(self.kind, now - self.began, halted, self.progress.describe(), self.progress.waits)


def cut_off(*works: Work | VerifyWork | None) -> None:
    """End run and verification at once, whatever they wait for: how they end is ignored."""
    for work in works:
        if work is not None:
            work.outlived = True
            if isinstance(work, VerifyWork):
                work.give_up()
            else:
                work.task.cancel()


def run_report(run: Work, end: Ended, *, watermark: str | None, failures: int, is_step: bool) -> RunReport:
    """Return the report of a run that has just ended, for telemetry."""
    assert end.last_run is not None
    done, now = run.progress, asyncio.get_running_loop().time()
    return RunReport(
        end.last_run.outcome,
        now - run.began,
        rows=done.rows,
        documents=done.documents,
        rewritten=done.rewritten,
        kept=done.kept,
        watermark=watermark,
        trouble=end.trouble,
        requested=run.requested,
        failures=failures,
        is_step=is_step,
        error=end.error,
    )


@dataclass
class Worker:
    """Makes run tasks. `holder` names this process in claims."""

    books: StoreBook
    holder: str
    cluster: str
    now: Callable[[], datetime]
    gate: Gate
    clock_skew: timedelta | None = None
    """How far this process's clock may be ahead of a store's; None: they are not compared."""
    places: Shares = field(default_factory=lambda: Shares(2**62))
    """For runs that index, divided among namespaces. Settling waits for none: a stop does not."""
    checks: Shares = field(default_factory=lambda: Shares(CHECKS_AT_ONCE))
    """For checks of sources, divided likewise."""
    _checks_of_store: WeakValueDictionary[tuple[str, str], RunSlots] = field(default_factory=WeakValueDictionary)
    """As long as something is checked there."""
    verifications: Shares = field(default_factory=lambda: Shares(VERIFICATIONS_AT_ONCE))
    """For verifications by spec.verify, divided likewise."""
    _verifications_of_store: WeakValueDictionary[tuple[str, str], Shares] = field(default_factory=WeakValueDictionary)
    """As long as something is verified there, or waits for it."""
    _tasks: dict[asyncio.Task[Ended], tuple[str, str]] = field(default_factory=dict)
    """Each with namespace and name of its job."""
    verifying: int = 0
    """How many verifications exist, including those that wait for a place."""

    @property
    def runs(self) -> int:
        """How many run tasks exist, including those that wait for a place."""
        return len(self._tasks)

    def begin(
        self,
        kind: RunKind,
        job: JobView,
        *,
        delete: bool,
        held: tuple[Store, ...] = (),
        known: JobStats | None = None,
        verified: bool = False,
    ) -> Work:
        """Start a run task. `delete`: if it settles, remove the documents, too.

        `held`: the stores where earlier runs may have left their claims, or a verification its searches; the
        RollupStore may name another place by now.
        `known`: the job's counters, which its status may not show yet.
        `verified`: if it settles, wait for the end of a verification that an earlier leader may have begun, too.
        """
        loop = asyncio.get_running_loop()
        progress, run = Progress(clock=loop.time), None
        if kind is RunKind.INDEX:
            run = self._run(job, progress, known or job.status.stats or JobStats())
            work = partial(self._index, run, held)
        elif kind is RunKind.CHECK:
            work = partial(self._check, job, progress)
        else:
            progress.doing = "releasing what an earlier run left in the store"
            work = partial(self._settle, job, held, delete=delete, verified=verified)
        task = loop.create_task(_classified(work, job))
        self._tasks[task] = job.key
        task.add_done_callback(self._tasks.pop)
        # A check can be cut off at any moment. Settling is, once the object is gone: another job may have its name, and
        # may read stopped.
        halt = run.halt if run is not None else task.cancel
        return Work(kind, loop.time(), job.deleting, progress, task, halt, run, job.open_run_request is not None)

    def verify(self, newest: Callable[[], JobView]) -> VerifyWork:
        """Start a verification of a job, by the spec.verify that it has once it is its turn."""

        def configured() -> tuple[JobView, JobConfig]:
            job = newest()
            return job, self._config(job, job.spec())

        job = newest()
        key = job.namespace, job.store_name
        if (of_store := self._verifications_of_store.get(key)) is None:
            of_store = self._verifications_of_store[key] = Shares(VERIFICATIONS_OF_STORE)
        work = verify_task.begin(
            job.namespace, configured, books=self.books, of_store=of_store, places=self.verifications, now=self.now
        )
        self.verifying += 1
        work.task.add_done_callback(self._verified)
        return work

    def _verified(self, _: object) -> None:
        self.verifying -= 1

    def _run(self, job: JobView, progress: Progress, known: JobStats) -> Run:
        key = (job.namespace, job.store_name)
        return Run(
            config=self._config(job, job.spec()),
            holder=self.holder,
            open_store=lambda: self.books.open(key),
            slots=self.books.slots(key),
            places=Account(self.places, job.namespace),
            now=self.now,
            progress=progress,
            known=known,
            clock_skew=self.clock_skew,
            reread=tuple(stretches_of(job.open_run_request or "")),
            may_go_on=lambda: self.gate.open,
        )

    def held(self, job: JobView) -> bool | None:
        """Whether another process holds a claim of this job, alive or dead; None: its store is not listed yet."""
        return self.books.held((job.namespace, job.store_name), self._owner(job))

    def _owner(self, job: JobView) -> Owner:
        return Owner(self.cluster, job.namespace, job.name, job.uid)

    def _config(self, job: JobView, spec: RollupJobSpec) -> JobConfig:
        return JobConfig(job.job_id, spec, self._owner(job), config_hash(spec))

    async def _check(self, job: JobView, progress: Progress) -> Ended:
        """Check the source of a job that has not been rolled up yet."""
        key = (job.namespace, job.store_name)
        progress.doing = "waiting for one of the operator's places for checks of sources"
        try:
            async with self._place_at(key), self.checks.taking(job.namespace):
                progress.doing = "checking the source"
                async with asyncio.timeout(CHECK_SECONDS):
                    store = await self.books.open(key)
                    await check_source(store, job.spec(), uid=job.uid)
        except TimeoutError:
            slow = f"RollupStore {job.store_name!r} has not described the source within {CHECK_SECONDS:g} s"
            return Ended(settled=None, trouble=Trouble(StoreUnavailable.reason, slow, transient=True))
        except StoreError as e:
            return Ended(settled=None, trouble=Trouble(e.reason, str(e), e.transient))
        return Ended(settled=None, mended=True)

    @asynccontextmanager
    async def _place_at(self, key: tuple[str, str]) -> AsyncIterator[None]:
        """Hold one of the places of a store for checks during a block."""
        if (places := self._checks_of_store.get(key)) is None:
            places = self._checks_of_store[key] = RunSlots(CHECKS_OF_STORE)
        await places.acquire()
        try:
            yield
        finally:
            places.release()

    async def _index(self, run: Run, held: tuple[Store, ...] = ()) -> Ended:
        result = await run.index()
        if result.released is not None and run.store is not None:
            held = tuple(store for store in held if not _is_same(store, run.store))
            held = held if result.released else (*held, run.store)
        last_run = LastRun(
            start_time=rfc3339(result.began),
            end_time=rfc3339(result.ended),
            outcome=result.outcome,
            message=shortened(result.message, LONGEST_MESSAGE),
            rewritten=result.rewritten or None,
            kept=result.kept or None,
        )
        return Ended(
            settled=False if held else result.released,
            held=held,
            claim=result.claim,
            stats=result.stats,
            last_run=last_run,
            trouble=_trouble(result),
            mended=result.outcome is Outcome.COMPLETED,
            unread=result.outcome is Outcome.COMPLETED and not result.inspected,
            error=None if isinstance(result.error, StoreError) else result.error,
        )

    async def _settle(
        self, job: JobView, held: tuple[Store, ...] = (), *, delete: bool, verified: bool = False
    ) -> Ended:
        if (spec := job.claimed_spec()) is None:
            return Ended(settled=True, skipped="its spec has no rollupIndex, so nothing can have been claimed for it")
        await self._last_of_its_name(job)
        config = self._config(job, spec)
        named, end = await self._settle_named(job, config, delete=delete, verified=verified)
        left, trouble = [], end.trouble
        for store in held:
            if named is not None and _is_same(store, named):
                quiet = bool(end.settled)
            elif quiet := self.gate.open:
                try:
                    await store.settle(config, self.holder, delete_documents=False, verified=verified)
                except StoreError as e:
                    quiet, trouble = False, trouble or _unsettled(job, e, _waits(job, e))
            if not quiet:
                left.append(store)
        if end.skipped is not None or not left:
            return replace(end, held=())
        return replace(end, settled=False, mended=False, trouble=trouble, held=tuple(left))

    async def _last_of_its_name(self, job: JobView) -> None:
        """Wait for what an earlier job of this name still does here: it may be about to claim."""
        this = asyncio.current_task()
        if earlier := [task for task, key in self._tasks.items() if key == job.key and task is not this]:
            await asyncio.wait(earlier)

    async def _settle_named(
        self, job: JobView, config: JobConfig, *, delete: bool, verified: bool
    ) -> tuple[Store | None, Ended]:
        """Settle the store that the RollupStore names now, and return it with how that ended."""
        store: Store | None = None
        try:
            store = await self.books.open((job.namespace, job.store_name))
            if not self.gate.open:
                return store, Ended(settled=False)
            settled = await store.settle(config, self.holder, delete_documents=delete, verified=verified)
        except (StoreNotFound, SecretGone) as e:
            if job.deleting:  # its namespace may be, and then neither comes back
                return store, Ended(settled=False, skipped=_let_go(job, e, documents_asked=delete))
            reason = Reason.STORE_UNAVAILABLE if isinstance(e, StoreNotFound) else e.reason
            return store, Ended(settled=False, trouble=Trouble(reason, str(e), transient=True))
        except StoreError as e:
            return store, Ended(settled=False, trouble=_unsettled(job, e, str(e)))
        return store, Ended(settled=True, claim=settled.claim, mended=True, kept=settled.kept)


async def _classified(work: Callable[[], Awaitable[Ended]], job: JobView) -> Ended:
    """Do `work`; an unexpected error is a failure like any other, and is retried."""
    try:
        return await work()
    except Exception as e:
        log.exception("run task failed", namespace=job.namespace, job=job.name)
        return Ended(settled=False, trouble=_unforeseen(e))


def _is_same(one: Store, other: Store) -> bool:
    """Whether both lead to the same records, for example through other hosts or with another password."""
    return one is other or (one.place is not None and one.place == other.place)


def _let_go(job: JobView, error: StoreError, *, documents_asked: bool) -> str:
    gone = f"RollupStore {job.store_name!r} is gone" if isinstance(error, StoreNotFound) else str(error)
    although = ", although spec.deletionPolicy is Delete," if documents_asked else ""
    return (
        f"the job is deleted without a check of its store, since {gone}: its documents and its record{although} stay "
        "there as they are"
    )


def _unsettled(job: JobView, error: StoreError, message: str) -> Trouble:
    """Return the trouble of a job whose store cannot be settled now. `message`: why not."""
    if job.deleting and error.reason is Reason.STORE_UNAVAILABLE:
        message += (
            f". If that store is gone for good, delete RollupStore {job.store_name!r}: the job's deletion then ends, "
            "and its documents and its record stay where they are"
        )
    return Trouble(error.reason, message, transient=True)


def _waits(job: JobView, error: StoreError) -> str:
    return (
        "an earlier run or verification may have left something under way in the place that RollupStore "
        f"{job.store_name!r} named before, and the job waits until that place says that nothing is: {error}"
    )


def _unforeseen(error: Exception) -> Trouble:
    return Trouble(Reason.RUN_FAILED, f"{type(error).__name__}: {error}", transient=True)


def _trouble(result: RunResult) -> Trouble | None:
    error = result.error
    if error is None:
        return None
    if isinstance(error, StoreError):
        return Trouble(error.reason, str(error), error.transient)
    return _unforeseen(error)


def config_hash(spec: RollupJobSpec) -> str:
    """Hash what makes documents comparable: groups, without the delay, and metrics in any order."""
    groups = spec.groups.model_dump(mode="json", exclude={"date_histogram": {"delay"}})
    metrics = sorted((m.field, sorted(m.metrics)) for m in spec.metrics)
    text = orjson.dumps([groups, metrics], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:32]
