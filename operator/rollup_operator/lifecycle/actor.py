"""One job's actor: observes bodies, asks `decide`, carries out the effects. The only writer of the job's status.

Input: bodies of one uid from any source (event, list, answer of its own write), the end of its run task, time.
Output: the run task, status patches, the finalizer.

No task exists while there is nothing to do. A turn makes at most one API write and then looks again, so a newer body
always decides what comes next; a failed write waits in a timer, which a newer body makes pointless.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import structlog

from rollup_operator.indexer.run import Progress
from rollup_operator.kube.client import Body, Conflict, KubeClient, KubeError, NotFound
from rollup_operator.kube.events import EventRecorder, Regarding
from rollup_operator.kube.paths import jobs_path
from rollup_operator.lifecycle.report import Report, difference, status_of
from rollup_operator.lifecycle.states import Act, Decision, Facts, RunFacts, RunKind, Trouble, decide
from rollup_operator.lifecycle.stores import StoreBook
from rollup_operator.lifecycle.work import Ended, Worker
from rollup_operator.model.base import API_VERSION, DRAIN_FINALIZER
from rollup_operator.model.conditions import READY, STALLED, Reason
from rollup_operator.model.job import DeletionPolicy
from rollup_operator.model.reader import Ask, JobView
from rollup_operator.model.schedule import Schedule
from rollup_operator.model.status import State
from rollup_operator.model.validation import InvalidSpec, check

log = structlog.get_logger(__name__)

Send = Callable[[str], Awaitable[Body]]
"""Sends one write to a path and returns the object as it is then."""

PASSING = {Reason.INVALID_SPEC, Reason.STOPPING, Reason.DELETING, Reason.DRAIN_TIMEOUT, Reason.RUNNING, Reason.STOPPED}
"""Reasons that say nothing about the last run."""


@dataclass(frozen=True)
class Environment:
    """What every actor shares."""

    kube: KubeClient
    books: StoreBook
    events: EventRecorder
    worker: Worker
    now: Callable[[], datetime]
    published: Callable[[JobView], None]
    """Called with each newer view that an actor learns from the API server's answers."""
    forget: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Checked:
    """The spec of one generation, as far as deciding needs it."""

    generation: int
    ask: Ask
    schedule: Schedule | None
    invalid: str | None
    deletion_policy: DeletionPolicy
    drain_timeout: float


class Actor:
    """Everything about one uid. All methods belong to one event loop."""

    __slots__ = (
        "_announced", "_attempts", "_checked", "_cleaned", "_dirty", "_draining", "_env", "_failures", "_gone",
        "_next_tick", "_ran", "_report", "_reported_at", "_retry_at", "_run", "_settled", "_task", "_timer", "_trouble",
        "view",
    )  # fmt: skip

    def __init__(self, view: JobView, env: Environment) -> None:
        self.view = view
        self._env = env
        self._checked: Checked | None = None
        self._report: Report | None = None  # None: nothing is known beyond the status
        self._reported_at = 0.0
        self._run: RunningWork | None = None
        self._settled = self._cleaned = self._gone = self._draining = self._dirty = self._ran = False
        self._trouble, self._retry_at = _published_trouble(view)
        self._failures = self._attempts = 0
        self._next_tick: datetime | None = None
        self._announced: tuple[str, int] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # What happens to it

    def observe(self, view: JobView) -> bool:
        """Take in a body; an older one is dropped. Returns whether it was news."""
        if view.age <= self.view.age:
            return False
        if view.generation != self.view.generation and self._trouble is not None:
            self._retry_at = 0.0
        self.view = view
        self.wake()
        return True

    def store_changed(self) -> None:
        """Look again: the job's store came, went or changed."""
        if self._trouble is not None:
            self._retry_at = 0.0
        self.wake()

    def vanish(self) -> None:
        """The object is gone: end what runs, write nothing more."""
        self._gone = True
        self.wake()

    def drain(self) -> None:
        """The operator ends: let a run finish its page, begin nothing."""
        self._draining = True
        self.wake()

    @property
    def busy(self) -> bool:
        """Whether a run or a write is under way."""
        return self._run is not None or self._task is not None

    def cancel(self) -> None:
        """End at once, without a word. The store's record is taken over by whoever comes next."""
        for handle in (self._timer, self._task, None if self._run is None else self._run.task):
            if handle is not None:
                handle.cancel()

    def wake(self) -> None:
        """Have another turn soon."""
        self._dirty = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._turns())

    # Turns

    async def _turns(self) -> None:
        try:
            while self._dirty:
                self._dirty = False
                await self._turn()
        except Exception:
            log.exception("turn failed", namespace=self.view.namespace, job=self.view.name)
            self._write_later()
        finally:
            self._task = None

    async def _turn(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        view, env = self.view, self._env
        decision = decide(view, self._facts(), env.now())
        self._next_tick = decision.next_tick
        match decision.act:
            case Act.FORGET:
                env.forget(view.uid)
                return
            case Act.HOLD:
                await self._finalize(view, add=True)
                return
            case Act.LET_GO:
                await self._finalize(view, add=False)
                return
            case Act.HALT:
                self._halt()
            case Act.RUN:
                self._start(RunKind.INDEX)
            case Act.SETTLE:
                self._start(RunKind.SETTLE)
        if decision.refresh:
            self._snapshot()
        self._look_again(decision.look_again_in)
        if decision.show is not None:
            await self._publish(view, decision)

    def _facts(self) -> Facts:
        checked, loop = self._check(), asyncio.get_running_loop()
        view, run = self.view, self._run
        now = loop.time()
        return Facts(
            schedule=checked.schedule,
            invalid=checked.invalid,
            deletion_policy=checked.deletion_policy,
            drain_timeout=checked.drain_timeout,
            run=run.facts(now) if run is not None else None,
            settled=self._settled,
            cleaned=self._cleaned,
            trouble=self._trouble,
            retry_in=None if self._retry_at is None else max(0.0, self._retry_at - now),
            store_missing=self._env.books.missing((view.namespace, view.store_name)),
            next_tick=self._next_tick,
            report_age=now - self._reported_at,
            draining=self._draining,
            gone=self._gone,
        )

    def _check(self) -> Checked:
        """Read the spec, once for each generation and ask. Only a started job keeps its schedule."""
        view, old = self.view, self._checked
        if old is not None and (old.generation, old.ask) == (view.generation, view.ask):
            return old
        try:
            spec, parsed = check(view)
            schedule = parsed if view.ask is Ask.STARTED else None
            timeout = float(spec.drain_timeout_seconds)
            checked = Checked(view.generation, view.ask, schedule, None, spec.deletion_policy, timeout)
        except InvalidSpec as e:
            keep = view.raw_spec.get("deletionPolicy") != DeletionPolicy.DELETE
            policy = DeletionPolicy.RETAIN if keep else DeletionPolicy.DELETE
            checked = Checked(view.generation, view.ask, None, str(e), policy, 30.0)
        if old is None or old.schedule != checked.schedule:
            self._next_tick = None
        self._checked = checked
        return checked

    def _snapshot(self) -> None:
        self._reported_at = asyncio.get_running_loop().time()
        if self._run is not None and (claim := self._run.progress.claim) is not None:
            self._report = (self._report or Report.published(self.view.status)).with_claim(claim)

    def _look_again(self, seconds: float | None) -> None:
        if seconds is not None:
            # A long timer would miss a step of the wall clock.
            self._timer = asyncio.get_running_loop().call_later(min(seconds, 600.0), self.wake)

    # The run task

    def _halt(self) -> None:
        assert self._run is not None
        self._run.halt(asyncio.get_running_loop().time())
        self.wake()

    def _start(self, kind: RunKind) -> None:
        loop = asyncio.get_running_loop()
        work = self._env.worker.begin(
            kind, self.view, delete=self.view.deleting and self._deletes(), thorough=self._ran
        )
        self._ran = self._ran or kind is RunKind.INDEX
        self._run = RunningWork(kind, loop.time(), work.progress, work.halt, work.task)
        self._settled = False
        work.task.add_done_callback(self._ended)

    def _deletes(self) -> bool:
        return self._check().deletion_policy is DeletionPolicy.DELETE

    def _ended(self, task: asyncio.Task[Ended]) -> None:
        assert self._run is not None
        run, self._run = self._run, None
        if task.cancelled():
            return
        end = task.result()
        self._settled = end.settled
        if run.kind is RunKind.SETTLE and self.view.deleting:
            self._cleaned = end.settled or end.skipped is not None
            if end.skipped is not None:
                self._tell("Warning", Reason.DRAIN_SKIPPED, end.skipped)
        report = self._report or Report.published(self.view.status)
        if end.claim is not None:
            report = report.with_claim(end.claim)
        self._report = replace(report, last_run=end.last_run) if end.last_run is not None else report
        self._judge(end)
        self.wake()

    def _judge(self, end: Ended) -> None:
        """Keep, set or clear the trouble, and say when to try again."""
        now = asyncio.get_running_loop().time()
        if end.trouble is None:
            if end.mended:
                self._trouble, self._retry_at, self._failures = None, None, 0
            return
        self._trouble = end.trouble
        self._failures += 1
        wait = min(300.0, 0.5 * 2.0 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
        self._retry_at = now + wait if end.trouble.transient else None
        self._tell("Warning", end.trouble.reason, end.trouble.message)

    # Writes

    async def _publish(self, view: JobView, decision: Decision) -> None:
        report = self._report or Report.published(view.status)
        status = status_of(view, decision, report, self._env.now())
        if decision.show is State.STOPPED and self._trouble is not None:
            self._trouble, self._retry_at, self._failures = None, None, 0
        if not (patch := difference(view.raw_status, status)):
            self._attempts = 0
            return
        if decision.stalled or decision.reason is Reason.DRAIN_TIMEOUT:
            self._tell("Warning", decision.reason, decision.message)
        if decision.refresh or decision.show is not State.INDEXING:
            self._reported_at = asyncio.get_running_loop().time()
        body = {"metadata": {"resourceVersion": str(view.version)}, "status": patch}
        await self._write(view, "status", lambda path: self._env.kube.patch(path, body))

    async def _finalize(self, view: JobView, *, add: bool) -> None:
        """Add or remove the finalizer on exactly this version of the object."""
        test = {"op": "test", "path": "/metadata/resourceVersion", "value": str(view.version)}
        if add:
            path, value = (
                ("/metadata/finalizers/-", DRAIN_FINALIZER)
                if view.finalizers
                else ("/metadata/finalizers", [DRAIN_FINALIZER])
            )
            operation: dict[str, object] = {"op": "add", "path": path, "value": value}
        else:
            operation = {"op": "remove", "path": f"/metadata/finalizers/{view.finalizers.index(DRAIN_FINALIZER)}"}
        await self._write(view, None, lambda path: self._env.kube.json_patch(path, [test, operation]))

    async def _write(self, view: JobView, subresource: str | None, send: Send) -> None:
        """Make one write; whatever it answers is a body like any other."""
        path = jobs_path(view.namespace, view.name, subresource)
        try:
            answer = await send(path)
        except NotFound:
            self.vanish()
        except Conflict:
            await self._look(view)
        except KubeError as e:
            level = log.info if e.transient else log.error
            level("write failed", namespace=view.namespace, job=view.name, error=str(e))
            self._write_later()
        else:
            self._attempts = 0
            self._learn(answer)

    async def _look(self, view: JobView) -> None:
        """Somebody else wrote: the event may be here already, else ask."""
        if self.view.version > view.version:
            self.wake()
            return
        try:
            self._learn(await self._env.kube.get(jobs_path(view.namespace, view.name)))
        except NotFound:
            self.vanish()
        except KubeError:
            self._write_later()

    def _learn(self, body: Body) -> None:
        newer = JobView.of(body)
        if newer.uid != self.view.uid or (newer.deleting and not newer.finalizers):
            self.vanish()
        elif self.observe(newer):
            self._env.published(newer)
        else:
            self.wake()

    def _write_later(self) -> None:
        self._attempts += 1
        wait = min(10.0, 0.05 * 2.0 ** min(self._attempts, 8)) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(wait, self.wake)

    def _tell(self, kind: Literal["Normal", "Warning"], reason: Reason, message: str) -> None:
        """Post an event, once for each reason and generation in a row."""
        view = self.view
        if self._announced == (what := (reason.value, view.generation)):
            return
        self._announced = what
        about = Regarding(API_VERSION, "RollupJob", view.namespace, view.name, view.uid)
        self._env.events.record(about, kind, reason.value, message)


@dataclass
class RunningWork:
    """The job's one run task and what is known of it from outside."""

    kind: RunKind
    began: float
    progress: Progress
    tell_halt: Callable[[], None]
    task: asyncio.Task[Ended]
    halted_at: float | None = None

    def halt(self, now: float) -> None:
        """Tell the run to end, once."""
        if self.halted_at is None:
            self.halted_at = now
            self.tell_halt()

    def facts(self, now: float) -> RunFacts:
        """Return what deciding needs of it."""
        halted = None if self.halted_at is None else now - self.halted_at
        return RunFacts(self.kind, now - self.began, halted, self.progress.describe())


def _published_trouble(view: JobView) -> tuple[Trouble | None, float | None]:
    """Read the trouble of an earlier process from the status: only a good run mends it, so one is tried."""
    ready = next((c for c in view.status.conditions if c.type == READY), None)
    if ready is None or ready.status == "True" or ready.reason in PASSING or ready.reason not in set(Reason):
        return None, None
    stalled = any(c.type == STALLED and c.status == "True" for c in view.status.conditions)
    return Trouble(Reason(ready.reason), ready.message, transient=not stalled), 0.0
