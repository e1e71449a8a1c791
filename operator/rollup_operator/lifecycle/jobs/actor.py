"""The actor of one job: observes bodies, calls `decide`, carries out the decision. The only writer of the job's status.

Input: bodies of one uid from any source (watch event, list, answer of its own write), the end of its run task, time.
Output: the run task, status writes, the finalizer.

An idle job has no task. A turn makes at most one API write and then decides again, so the newest body always decides
what comes next. A timer retries a failed write, unless a newer body comes first.
"""

import asyncio
from collections.abc import Awaitable
from contextvars import Context
from datetime import datetime
from functools import partial

import structlog

from rollup_operator.kube import job_writes
from rollup_operator.kube.client import Body, Conflict, KubeError, NotFound
from rollup_operator.kube.events import Regarding
from rollup_operator.kube.paths import jobs_path
from rollup_operator.lifecycle.jobs.checked_source import CheckedSource
from rollup_operator.lifecycle.jobs.checked_spec import Checked
from rollup_operator.lifecycle.jobs.context import JobContext
from rollup_operator.lifecycle.jobs.job_status import Report, explain, status_of
from rollup_operator.lifecycle.jobs.own_verification import OwnVerification
from rollup_operator.lifecycle.jobs.retry import Recovery, Repair, backoff, timer
from rollup_operator.lifecycle.jobs.revert_notice import notice_revert
from rollup_operator.lifecycle.jobs.reverts import StateChange
from rollup_operator.lifecycle.jobs.rivals import RETRY, left_for, note, rival_in, warning
from rollup_operator.lifecycle.jobs.run_facts import RunKind
from rollup_operator.lifecycle.jobs.run_task import Ended, Work, cut_off, run_report
from rollup_operator.lifecycle.jobs.states import Act, Decision, Facts
from rollup_operator.lifecycle.jobs.transition_events import transition_event
from rollup_operator.lifecycle.jobs.verification_due import decide
from rollup_operator.lifecycle.telemetry import timed
from rollup_operator.model.conditions import Reason
from rollup_operator.model.job import DeletionPolicy
from rollup_operator.model.job_view import Ask, JobView
from rollup_operator.model.status import State
from rollup_operator.model.times import instant_of
from rollup_operator.stores.base import Store, closes_with_leadership

log = structlog.get_logger(__name__)

LONGEST_TIMER = 600.0
"""Seconds. A longer timer would miss a step of the wall clock."""


class Actor:
    """Everything about one uid. All methods belong to one event loop."""

    __slots__ = (
        "_begun_request", "_checked", "_checked_of", "_cleaned", "_dirty", "_env", "_gone", "_held", "_left", "_listed",
        "_lost_writes", "_newest_since", "_next_tick", "_read_recovery", "_repair", "_report", "_reported_at", "_run",
        "_settled", "_source", "_state_change", "_task", "_timer", "_unless_listed", "_verification", "_with_documents",
        "readers", "view",
    )  # fmt: skip

    def __init__(self, view: JobView, env: JobContext) -> None:
        self.view = view
        self._env = env
        self._checked: Checked | None = None
        self._checked_of: JobView | None = None
        self._run: Work | None = None
        self._verification = OwnVerification()
        self._gone = self._dirty = False
        self._held: tuple[Store, ...] = ()
        self._state_change: StateChange | None = None
        self._left = False  # to another operator
        self.readers = 0  # verifications under way, of a started job
        self._newest_since: tuple[JobView, float] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._know_nothing()

    def _know_nothing(self) -> None:
        """Begin with the body alone: what this process knew of the job may have changed while it did not lead."""
        self._report: Report | None = None  # None: nothing is known beyond the status
        self._read_recovery: Recovery | None = None
        self._repair, self._source = Repair(), CheckedSource()
        self._settled = self._cleaned = self._with_documents = self._listed = False
        self._unless_listed = False  # no store has said so: one that has not listed its claims yet may know more
        self._lost_writes, self._reported_at = 0, 0.0
        self._next_tick: datetime | None = None
        self._verification.know_nothing()
        self._begun_request: str | None = None

    @property
    def _recovery(self) -> Recovery:
        """The trouble of the job: at first what its status says, which is read when it is first needed.

        All jobs begin again in one turn of the event loop, too short to read ten thousand.
        """
        if self._read_recovery is None:
            self._read_recovery = Recovery(self.view)
        return self._read_recovery

    # What happens to it

    def observe(self, view: JobView) -> bool:
        """Take in a body; an older one is dropped. Returns whether it was newer."""
        known = self.view
        if (view.generation - known.generation) * (view.version - known.version) < 0:
            self._env.went_back(
                f"RollupJob {view.namespace}/{view.name} is of generation {view.generation} at resourceVersion "
                f"{view.version}, and was of generation {known.generation} at {known.version}"
            )
        if view.age <= known.age:
            return False
        if view.generation != self.view.generation:
            self._recovery.new_generation()
        if view.desired is not known.desired:
            self._state_change = notice_revert(self._state_change, known, view, self._env, report=not self._left)
        rival = rival_in(known, view, self._env.operator)
        if rival is not None and not self._left and self._env.gate.open:
            self._env.observer.rival(view, rival)
            self._tell(Reason.TWO_OPERATORS, warning(rival))
        self.view = view
        self.recheck()
        return True

    def store_changed(self) -> None:
        """Decide anew: the job's store came, went or changed."""
        self._recovery.something_changed()
        self.wake()

    def vanish(self) -> None:
        """The object is gone: end what runs, write nothing more."""
        self._gone = True
        self.recheck()

    def lead(self) -> None:
        """The gate has opened: decide from now on as in a process that has just begun. A `wake` is to follow.

        A run not yet over is waited for.
        """
        self._know_nothing()
        self._held = tuple(s for s in self._held if not closes_with_leadership(s))

    def recheck(self) -> None:
        """Have a turn soon, and halt at once if it will come to that: a write that hangs must not hold a stop."""
        if self.busy and decide(self.view, self._facts(), self._env.now()).act is Act.HALT:
            self._halt()
        self.wake()

    def stand_down(self) -> None:
        """The gate is shut: end at once and report nothing. The next leader takes over the store's record."""
        cut_off(self._run, self._verification.work)
        for handle in (self._timer, self._task):
            if handle is not None:
                handle.cancel()
        self._timer = self._task = None
        self._let_go()

    @property
    def gone(self) -> bool:
        """Whether the object no longer exists."""
        return self._gone

    @property
    def busy(self) -> bool:
        """Whether a run, a verification or a write is under way."""
        return self._run is not None or self._verification.work is not None or self._task is not None

    @property
    def left(self) -> bool:
        """Whether this process leads, and leaves the job to another operator, as its last turn has found."""
        return self._left and self._env.gate.open

    def is_others(self) -> bool:
        """Whether another operator acts on the job, as its newest body says."""
        return not self._gone and self._left_for() is not None

    @property
    def is_writing(self) -> bool:
        """Whether a turn is under way, and perhaps a write."""
        return self._task is not None

    def explain(self) -> str:
        """Say in a few words what goes on, and for how long."""
        if not self._env.gate.open:
            return "another replica leads"
        return f"the operator {self.view.operator} acts on it" if self._left else explain(self._facts())

    def wake(self) -> None:
        """Have another turn soon, if this process leads."""
        self._dirty = True
        if not self._env.gate.open:
            self._let_go()
        elif self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._turns(), context=Context())

    def _let_go(self) -> None:
        if self._gone and self._run is None and self._verification.work is None:
            self._env.forget(self.view.uid)

    # Turns

    async def _turns(self) -> None:
        try:
            while self._dirty and self._env.gate.open:
                self._dirty = False
                # On every line that this turn logs, and the run that it begins.
                structlog.contextvars.bind_contextvars(uid=self.view.uid, generation=self.view.generation)
                try:
                    await timed(self._env.observer, self._turn())
                except Exception:  # a body that came meanwhile has its turn at once, without one there is a retry
                    log.exception("turn failed", namespace=self.view.namespace, job=self.view.name)
                    self._write_later()
        finally:
            if self._task is asyncio.current_task():
                self._task = None

    async def _turn(self) -> None:
        self._wake_in(None)
        view, env = self.view, self._env
        if (seconds := self._leave_alone()) is not None:
            self._wake_in(seconds)
            me, clock = env.operator, asyncio.get_running_loop().time
            if me is not None and env.notes.is_due(view.operator, clock()):
                if await self._write(view, job_writes.note_rival(env.kube, view, note(me, env.now()))):
                    env.notes.said(view.operator, clock())
                else:
                    self._wake_in(min(seconds, RETRY))
            return
        self._note_listed_claim()
        self._verification.spare(view, env, verifies=self._check().verifies, gone=self._gone)
        decision = decide(view, self._facts(), env.now())
        self._next_tick, self._verification.next = decision.next_tick, decision.next_verification
        match decision.act:
            case Act.FORGET:
                env.forget(view.uid)
                return
            case Act.HOLD:
                if await self._write(view, job_writes.add_finalizer(env.kube, view)) is not None:
                    # An earlier claim would have added it. Until a run claims, a stop need not ask the store.
                    self._settled = self._unless_listed = decision.unclaimed
                return
            case Act.LET_GO:
                await self._write(view, job_writes.remove_finalizer(env.kube, view))
                return
            case Act.HALT:
                self._halt()
            case Act.RUN:
                self._begun_request = view.run_request
                self._start(RunKind.INDEX)
            case Act.CHECK | Act.SETTLE:
                self._start(RunKind[decision.act.name])
            case Act.VERIFY:
                self._verification.begin(lambda: self.view, env, self._verified)
        if decision.refresh:
            self._snapshot()
        self._wake_in(decision.recheck_in)
        if decision.show is not None:
            await self._publish(view, decision)

    def _left_for(self) -> float | None:
        """Return for how many seconds to leave the job to another operator; None: this one acts."""
        now = asyncio.get_running_loop().time()
        if self._newest_since is None or self._newest_since[0] is not self.view:
            self._newest_since = self.view, now
        return left_for(self.view, self._env.operator, self._env.now(), now - self._newest_since[1])

    def _leave_alone(self) -> float | None:
        """Leave the job to the operator that acts on it, and return for how many seconds; None: this one acts."""
        if self._gone:
            return None
        if ((wait := self._left_for()) is not None) is self._left:
            return wait
        self._left = wait is not None
        self._know_nothing()
        self._env.observer.left(self.view, self.view.operator if self._left else None)
        if not self._left:  # the run that the other one missed is due
            self._next_tick = instant_of(self.view.status.next_run_time)
        else:
            cut_off(self._run, self._verification.work)
        return wait

    def _note_listed_claim(self) -> None:
        """Take in that the store lists a claim by now: it may lead elsewhere than where the job was settled."""
        if self._run is None:  # else when it has ended: it may be settling the place before
            listed = bool(self._env.worker.held(self.view))
            self._settled = self._settled and (self._listed or not listed)
            self._listed = listed

    def _facts(self) -> Facts:
        checked, view, run = self._check(), self.view, self._run
        store, now = (view.namespace, view.store_name), asyncio.get_running_loop().time()
        shown = view.status if self._report is None else self._report
        held = self._env.worker.held(view)
        return Facts(
            schedule=checked.schedule,
            invalid=checked.invalid,
            deletion_policy=checked.deletion_policy,
            drain_timeout=checked.drain_timeout,
            run=run.facts(now) if run is not None else None,
            verification=self._verification.facts(now),
            times=self._verification.times(checked.verify_schedule, shown.last_verification),
            held=held,
            settled=self._settled and not self._verification.earlier and not (self._unless_listed and held is None),
            cleaned=self._cleaned and (self._with_documents or checked.deletion_policy is DeletionPolicy.RETAIN),
            checked=shown.position is not None or self._source.is_good(view, self._env.books.edition(store)),
            trouble=self._recovery.trouble,
            failed=self._recovery.by,
            retry_in=self._recovery.retry_in(now),
            store_trouble=self._env.books.trouble(store),
            next_tick=self._next_tick,
            last_run=shown.last_run,
            failed_check=shown.failed_check,
            begun_request=self._begun_request,
            report_age=now - self._reported_at,
            verified_for=now - self._newest_since[1] if self.readers and self._newest_since else None,
            draining=self._env.gate.draining,
            gone=self._gone,
        )

    def _check(self) -> Checked:
        # By the body, not its generation: after a restore of etcd another spec may have the same.
        if self._checked is None or (self._checked_of is not self.view and not self._checked.fits(self.view)):
            old, self._checked = self._checked, Checked.of(self.view)
            if old is not None and old.schedule != self._checked.schedule:
                self._next_tick = None
        self._checked_of = self.view
        return self._checked

    def _snapshot(self) -> None:
        self._reported_at = asyncio.get_running_loop().time()
        if self._run is not None and not self._run.outlived:
            done = self._run.progress
            self._report = self._shown().after(done.claim, done.stats, done.report())

    def _shown(self) -> Report:
        return self._report or Report.published(self.view.status)

    # Turns and timers have a context of their own: kopf's holds the whole event that it is handling.

    def _wake_in(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else timer(min(seconds, LONGEST_TIMER), self.wake)

    # The run task

    def _halt(self) -> None:
        stays = self.view.ask is Ask.STARTED
        if self._run is not None:
            if stays and self._run.kind is RunKind.INDEX:
                self._begun_request = None  # the lease is late: what is cut off is not what the user asked to end
            self._run.halt(asyncio.get_running_loop().time())
        if not stays or self._gone or self._env.gate.draining:
            self._verification.halt()
        self.wake()

    def _start(self, kind: RunKind) -> None:
        self._recovery.begun()
        held = self._held + (self._verification.take_left() if kind is RunKind.SETTLE else ())
        delete = self._with_documents = self.view.deleting and self._check().deletion_policy is DeletionPolicy.DELETE
        stats, earlier, begin = self._shown().stats, self._verification.earlier, self._env.worker.begin
        self._run = begin(kind, self.view, delete=delete, held=held, known=stats, verified=earlier)
        self._run.progress.begins = self._run_begins
        if kind is RunKind.CHECK:
            self._source.begin(self.view, self._env.books.edition((self.view.namespace, self.view.store_name)))
        self._run.task.add_done_callback(partial(self._ended, self._settled))
        self._settled = self._settled and kind is RunKind.CHECK  # which claims nothing

    def _run_begins(self) -> None:
        if self.view.status.state is State.INDEXING:
            self.wake()  # the status says that it waits

    def _ended(self, was_settled: bool, task: asyncio.Task[Ended]) -> None:
        assert self._run is not None
        run, self._run = self._run, None
        try:
            if not run.outlived and not task.cancelled():
                end = task.result()
                held = self._verification.take_in(end) if run.kind is RunKind.SETTLE else end.held
                self._held = self._held if held is None else held
                self._settled = was_settled if end.settled is None else end.settled
                self._unless_listed = self._unless_listed and end.settled is None
                self._take_in(run, end)
            elif run.store is not None and not closes_with_leadership(run.store):
                # If it were settled where the RollupStore leads by then, its claim would stay in the old place.
                self._held = (*(store for store in self._held if store is not run.store), run.store)
        except Exception:  # called by the event loop, where nothing else would report it
            log.exception("end of a run not taken in", namespace=self.view.namespace, job=self.view.name)
        finally:
            self.wake()

    def _take_in(self, run: Work, end: Ended) -> None:
        if run.kind is RunKind.SETTLE and run.deleting:
            self._cleaned = self._settled or end.skipped is not None
            if end.skipped is not None:
                self._tell(Reason.DRAIN_SKIPPED, end.skipped)
            if end.kept is not None:
                self._tell(Reason.DOCUMENTS_KEPT, end.kept)
        is_step = not end.trouble or self._recovery.failed(end.trouble, asyncio.get_running_loop().time(), run.kind)
        if end.trouble is not None:
            self._tell(end.trouble.reason, end.trouble.message)
        elif end.mended:
            self._recovery.mended(unread=end.unread and not self._facts().checked)
        if run.kind is RunKind.CHECK:
            if end.mended:
                self._source.found_good()
            if (report := self._shown().after_check(end.trouble)) != self._shown():
                self._report = report
            return
        if end.last_run is not None and end.last_run.kept:
            self._tell(Reason.SOURCE_SHRUNK, end.last_run.message)
        self._report = report = self._shown().after(end.claim, end.stats)
        if end.last_run is not None:
            self._report = report.after_run(end.last_run, unread=end.unread)
            did = run_report(run, end, watermark=report.watermark, failures=self._recovery.failures, is_step=is_step)
            self._env.observer.ran(self.view, did)

    def _verified(self, _: object) -> None:
        try:
            self._report = self._verification.end(self.view, self._env, self._shown()) or self._report
        finally:
            self.wake()

    # Writes

    async def _publish(self, view: JobView, decision: Decision) -> None:
        verifies, now = self._check().verifies or self._verification.may_last(decision.show), self._env.now()
        status = status_of(view, decision, self._shown(), now, self._env.operator, verifies=verifies)
        if decision.show is State.STOPPED:
            self._recovery.mended()
        if status == view.raw_status:
            self._lost_writes = 0
            return
        if wait := self._repair.wait(view, status, asyncio.get_running_loop().time()):
            self._wake_in(wait if decision.recheck_in is None else min(wait, decision.recheck_in))
            return
        if decision.stalled or decision.reason is Reason.DRAIN_TIMEOUT:
            self._tell(decision.reason, decision.message)
        if decision.show is not State.INDEXING:
            self._reported_at = asyncio.get_running_loop().time()
        if (written := await self._write(view, job_writes.write_status(self._env.kube, view, status))) is not None:
            self._repair.published(written)

    async def _write(self, view: JobView, write: Awaitable[Body]) -> JobView | None:
        """Make one write; its answer is a body like any other. None: it was not carried out, or nobody knows."""
        try:
            answer = await write
        except NotFound:
            self.vanish()
        except Conflict:
            await self._read_newest(view)
        except KubeError as e:
            level = log.info if e.transient else log.error
            level("write failed", namespace=view.namespace, job=view.name, error=str(e))
            self._write_later()
        else:
            self._lost_writes = 0
            self._learn(newer := JobView.of(answer, view), decided_on=view)
            if (event := transition_event(view, newer)) is not None:
                self._env.events.record(Regarding.job(newer), *event)
            return newer
        return None

    async def _read_newest(self, view: JobView) -> None:
        """Somebody else wrote: the watch event may be here already; otherwise read the job."""
        if (known := self.view.version) > view.version:
            self.wake()
            return
        try:
            newest = await self._env.kube.get(jobs_path(view.namespace, view.name))
        except NotFound:
            self.vanish()
        except KubeError:
            self._write_later()
        else:
            self._learn(found := JobView.of(newest, view))
            if self.view.version == view.version:
                self._write_later()
            if found.uid == view.uid and found.version < known:
                before = f"and {known} was seen before"
                self._env.went_back(f"RollupJob {'/'.join(view.key)} is of resourceVersion {found.version}, {before}")

    def _learn(self, newer: JobView, *, decided_on: JobView | None = None) -> None:
        """Take in an answer. The answer of a write that brought the job to rest needs no further turn."""
        if newer.uid != self.view.uid or (newer.deleting and not newer.finalizers):
            self.vanish()
        elif self.view is decided_on and newer.version > self.view.version and newer.rests_as(decided_on):
            self.view = newer
            self._env.published(newer)
        elif self.observe(newer):
            self._env.published(newer)
        # Else the watch was quicker, or the write changed nothing: writing again would change nothing, too.

    def _write_later(self) -> None:
        self._lost_writes += 1
        self._wake_in(backoff(0.1, 10.0, self._lost_writes))

    def _tell(self, reason: Reason, message: str) -> None:
        """Post a warning, once for each reason and generation until all is well again."""
        if self._env.gate.open and self._recovery.is_new(reason):
            self._env.events.record(Regarding.job(self.view), reason, message)
