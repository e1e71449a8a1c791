"""The lifecycle of a job: one table, and the pure function that reads it. No asyncio, no I/O, no clock of its own.

Level-triggered: `decide` is called after everything that happens, and always considers everything that is known: the
newest body, the facts of this process, the time. It never sees a difference between two bodies.

For each state of the job and each request, `TABLE` says which state to show and what to do; the guards below it say
when that is due. The table never shows `stopped` while a run of any kind exists.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from rollup_operator.lifecycle.jobs.run_facts import RunFacts, RunKind, report_in
from rollup_operator.lifecycle.jobs.verification_times import VerificationTimes
from rollup_operator.model.conditions import Reason, Trouble
from rollup_operator.model.job import DeletionPolicy
from rollup_operator.model.job_view import Ask, JobView
from rollup_operator.model.schedule import Schedule
from rollup_operator.model.status import FailedCheck, LastRun, State

PATIENCE = 0.1
"""Seconds: `indexing`, `stopping` and `aborting` are shown only when they last longer."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What only this process knows of the job."""

    schedule: Schedule | None = None
    """None: the spec is invalid, or nothing needs a schedule."""
    invalid: str | None = None
    """Why the spec cannot be used, naming the fields."""
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    drain_timeout: float = 30.0
    run: RunFacts | None = None
    verification: RunFacts | None = None
    """Under way beside the run task."""
    times: VerificationTimes | None = None
    """When verifications begin; None: none does."""
    held: bool | None = False
    """Whether another process holds a claim of this job, as its store was last listed; None: not listed yet."""
    settled: bool = False
    """This process has seen the store hold no claim for the job since its last run."""
    cleaned: bool = False
    """Deletion only: what the policy removes is removed, or cannot be reached any more."""
    checked: bool = True
    """The source was found good for this spec in this store: by this process, or by an earlier one that then showed
    the job as Ready."""
    trouble: Trouble | None = None
    failed: RunKind | None = None
    """What failed with that trouble, and is retried."""
    retry_in: float | None = None
    """Seconds until it is retried; None: only a change helps."""
    store_trouble: Trouble | None = None
    """Set when the job's store does not exist or cannot be used: what to show the user."""
    next_tick: datetime | None = None
    last_run: LastRun | None = None
    """The run that ended last, here or as the status shows."""
    failed_check: FailedCheck | None = None
    """The check of the source that failed, if nothing has succeeded since."""
    begun_request: str | None = None
    """The last request to run for which this process started a run; the status may not show it as handled yet.
    """
    report_age: float = 0.0
    """Seconds since progress was last reported."""
    verified_for: float | None = None
    """Seconds since the newest body came, while a verification reads the source for a caller; None: none does."""
    draining: bool = False
    """The operator is shutting down: runs end, nothing begins."""
    gone: bool = False
    """The object no longer exists."""


class Act(Enum):
    """What the actor does; a decision has at most one act."""

    NOTHING = auto()
    CHECK = auto()
    """Start a CHECK run."""
    RUN = auto()
    """Start an INDEX run."""
    SETTLE = auto()
    """Start a SETTLE run."""
    VERIFY = auto()
    """Start a verification, beside a run or without one."""
    HALT = auto()
    """Halt the run and, unless the job stays started, the verification."""
    HOLD = auto()
    """Add the finalizer: a claim is about to be made."""
    LET_GO = auto()
    """Remove the finalizer."""
    FORGET = auto()
    """Drop the actor."""


class Do(Enum):
    """The goal of a cell of the table; the guards turn it into an act."""

    NOTHING = auto()
    RUN_WHEN_DUE = auto()
    """Until the first run is due, check the source."""
    SETTLE_FIRST = auto()
    HALT = auto()
    CLEAN_UP = auto()


TABLE: Mapping[tuple[State, Ask], tuple[State, Do]] = {
    (State.STOPPED, Ask.STARTED): (State.STARTED, Do.NOTHING),  # schedules only once this is accepted
    (State.STOPPED, Ask.STOPPED): (State.STOPPED, Do.NOTHING),
    (State.STOPPED, Ask.DELETED): (State.ABORTING, Do.CLEAN_UP),
    (State.STARTED, Ask.STARTED): (State.STARTED, Do.RUN_WHEN_DUE),
    (State.STARTED, Ask.STOPPED): (State.STOPPED, Do.SETTLE_FIRST),
    (State.STARTED, Ask.DELETED): (State.ABORTING, Do.CLEAN_UP),
    (State.INDEXING, Ask.STARTED): (State.INDEXING, Do.NOTHING),
    (State.INDEXING, Ask.STOPPED): (State.STOPPING, Do.HALT),
    (State.INDEXING, Ask.DELETED): (State.ABORTING, Do.HALT),
    (State.STOPPING, Ask.STARTED): (State.STOPPING, Do.NOTHING),  # remembered: the end of the run shows `started`
    (State.STOPPING, Ask.STOPPED): (State.STOPPING, Do.NOTHING),
    (State.ABORTING, Ask.DELETED): (State.ABORTING, Do.NOTHING),
}


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do and what to show. The actor does `act` first, then publishes if anything differs."""

    act: Act = Act.NOTHING
    show: State | None = None
    """None: leave the status as it is for now."""
    ready: bool = False
    stalled: bool = False
    reason: Reason = Reason.RUNNING
    message: str = ""
    next_tick: datetime | None = None
    next_verification: datetime | None = None
    refresh: bool = False
    """Take a new snapshot of the run's progress into the status."""
    handled_request: str | None = None
    recheck_in: float | None = None
    """Seconds until time alone can change the decision; None: never."""
    unclaimed: bool = False
    """HOLD only: no store can hold a claim of this job before the finalizer is there."""


_NEVER = "has no further tick, for instance because of a day that no month has or a year that is over"


def where(job: JobView, facts: Facts) -> State:
    """Return the actual state of the job: the run task that exists here, else what was last published.

    Whatever a status from another process says, nothing of the job runs here unless a run task exists. A run that was
    halted is `stopping`, and `aborting` once the deletion is requested. A check of the source leaves a job `started`
    as long as that is asked: a run that is due ends the check and takes its place. So does a verification, beside
    which the job may be `indexing`; no job that is asked to stop is `stopped` before its verification has ended.

    A job with the finalizer and without a state has lost its status, as after a restore. It may have been claimed, so
    it counts as started: a stop then settles it first. So does a job that is shown as `stopped` while the store lists a
    claim, as after a restore to before its run, and a job without a state until the store has listed its claims.
    """
    if facts.run is None and facts.verification is not None:
        if facts.verification.halted is None or (job.ask is Ask.STARTED and not facts.gone):
            return State.STARTED
        return State.ABORTING if job.deleting or facts.gone else State.STOPPING
    if facts.run is None:
        never_seen = job.status.state is None
        if not facts.settled and (facts.held or (never_seen and facts.held is None)):
            return State.STARTED
        if never_seen:
            return State.STARTED if job.has_drain_finalizer else State.STOPPED
        return State.STOPPED if job.status.state is State.STOPPED else State.STARTED
    if facts.run.kind is RunKind.CHECK and job.ask is Ask.STARTED and not facts.gone:
        return State.STARTED
    if facts.run.kind is not RunKind.SETTLE and facts.run.halted is None:
        return State.INDEXING
    return State.ABORTING if job.deleting or facts.gone else State.STOPPING


def decide(job: JobView, facts: Facts, now: datetime) -> Decision:
    """Decide what to do for a job now. `verification_due` adds the verification that is due."""
    if facts.gone:
        return _gone(facts)
    at, ask = where(job, facts), job.ask
    show, do = TABLE[at, ask]
    tick, next_tick = _tick(job, facts, now)
    if do is Do.RUN_WHEN_DUE and facts.run is not None and _due(job, facts, tick):
        # The run checks the source, too. It begins once the check has ended, so the tick stays due.
        return Decision(act=_halt(facts.run), next_tick=facts.next_tick)
    act = _act(do, at, job, facts, tick)
    if act is Act.HOLD:
        # The tick stays due until the finalizer is there.
        return Decision(act=act, next_tick=facts.next_tick, unclaimed=not _unsettled(job, facts))
    if act is Act.LET_GO and facts.verified_for is not None:
        act = Act.NOTHING
    if act is Act.LET_GO or (do is Do.CLEAN_UP and not job.has_drain_finalizer):
        return Decision(act=act)
    if facts.draining and (_at_work(facts) is not None or act in (Act.RUN, Act.CHECK, Act.SETTLE)):
        # A restart is no change of state: nothing begins, and the status waits for the run's end.
        # A tick that is due stays so, in case that the lease is renewed after all.
        due = facts.next_tick if act is Act.RUN else next_tick
        return Decision(act=_halt_all(facts), next_tick=due)
    is_verified = facts.verification is not None or facts.verified_for is not None
    if do is Do.SETTLE_FIRST and (_unsettled(job, facts) or is_verified):
        show = State.STOPPING
    if show is State.STARTED and at is State.STOPPED and facts.invalid is not None:
        show = State.STOPPED
    ready, stalled, reason, message = _verdict(show, job, facts, next_tick)
    shown, wait = _patience(show, job, facts, act)
    if at is State.STOPPED and ask is Ask.STOPPED and _is_new(job) and facts.verified_for is not None:
        shown = None  # it began between a start and this stop: its end wakes the job
    refresh = at is State.INDEXING and (
        job.status.state is not State.INDEXING or report_in(facts.run, facts.report_age) <= 0.0
    )
    return Decision(
        act=act,
        show=shown,
        ready=ready,
        stalled=stalled,
        reason=reason,
        message=message,
        next_tick=next_tick,
        refresh=refresh,
        handled_request=_handled(at, job),
        recheck_in=_wait(at, facts, next_tick, now, refresh, wait),
    )


def _is_new(job: JobView) -> bool:
    return job.status.observed_generation < job.generation


def _gone(facts: Facts) -> Decision:
    if _at_work(facts) is None:
        return Decision(act=Act.FORGET)
    return Decision(act=Act.HALT if any(run.halted is None for run in _tasks(facts)) else Act.NOTHING)


def _tasks(facts: Facts) -> list[RunFacts]:
    """Return what is under way: the run first, of which there is more to say."""
    return [run for run in (facts.run, facts.verification) if run is not None]


def _at_work(facts: Facts) -> RunFacts | None:
    """Return what a halt waits for."""
    return next(iter(_tasks(facts)), None)


def _halt(run: RunFacts) -> Act:
    """Halt a run once; settling ends by itself."""
    return Act.HALT if run.kind is not RunKind.SETTLE and run.halted is None else Act.NOTHING


def _halt_all(facts: Facts) -> Act:
    return Act.HALT if any(_halt(run) is Act.HALT for run in _tasks(facts)) else Act.NOTHING


def _tick(job: JobView, facts: Facts, now: datetime) -> tuple[bool, datetime | None]:
    """Whether a tick is due, and the next one after it. This alone drops ticks that were missed or overlap.

    The clock may have been set back since `facts.next_tick` was computed, so the next tick is never later than the one
    after `now`.
    """
    if facts.schedule is None or job.ask is not Ask.STARTED:
        return False, None
    due = facts.next_tick is not None and facts.next_tick <= now
    following = facts.schedule.next_after(now)
    if due or following is None:
        return due, following
    return False, min(facts.next_tick or following, following)


def _act(do: Do, at: State, job: JobView, facts: Facts, tick: bool) -> Act:
    if facts.verification is not None and job.ask is not Ask.STARTED:
        return _halt_all(facts)  # whatever is to follow waits for its end
    match do:
        case Do.HALT:
            return Act.HALT
        case Do.RUN_WHEN_DUE if _due(job, facts, tick):
            return Act.RUN if job.has_drain_finalizer else Act.HOLD
        case Do.RUN_WHEN_DUE if _check_is_due(job, facts):
            return Act.CHECK
        case Do.SETTLE_FIRST if _unsettled(job, facts):
            return _settle(job, facts)
        case Do.CLEAN_UP:
            return _clean_up(at, job, facts)
        case _:
            return Act.NOTHING


def _unsettled(job: JobView, facts: Facts) -> bool:
    """Whether the store may hold a claim of this job that is not known here.

    The finalizer is there before the first claim. If somebody removed it, the status still shows a run. If that was
    lost, too, the store shows it: unless it has listed no claim, it is asked about this job.
    """
    status = job.status
    ran = status.state in (State.INDEXING, State.STOPPING) or status.position is not None
    return (job.has_drain_finalizer or ran or facts.held is not False) and not facts.settled


def _due(job: JobView, facts: Facts, tick: bool) -> bool:
    if not is_accepted(job) or facts.schedule is None:
        return False
    if _requested(job) and job.run_request != facts.begun_request:
        return True
    # A tick tries a permanent trouble again, too: the other job may be gone, the source may have the field by now.
    return tick or (facts.trouble is not None and facts.retry_in == 0.0 and not _is_of_check(facts))


def _check_is_due(job: JobView, facts: Facts) -> bool:
    """Whether the source is to be checked now, since nothing shows yet that the job can run.

    A check that failed is repeated like a run that failed, and a failed run is repeated by a run.
    """
    if facts.checked or facts.run is not None or facts.schedule is None or not is_accepted(job):
        return False
    if facts.store_trouble is not None:
        return False  # the store wakes its jobs once it can be used
    return facts.trouble is None or (_is_of_check(facts) and facts.retry_in == 0.0)


def _is_of_check(facts: Facts) -> bool:
    """Whether a check has found the trouble, and the source has not been found good since."""
    return facts.failed is RunKind.CHECK and not facts.checked


def is_accepted(job: JobView) -> bool:
    """Whether an accepted write shows the job as started for the current request."""
    status = job.status
    return status.observed_generation == job.generation and status.state in (State.STARTED, State.INDEXING)


def _clean_up(at: State, job: JobView, facts: Facts) -> Act:
    if not job.has_drain_finalizer:
        return Act.NOTHING  # never claimed: there is nothing of ours to wait for
    if facts.cleaned:
        return Act.LET_GO
    quiet = facts.settled or at is State.STOPPED
    if quiet and facts.deletion_policy is DeletionPolicy.RETAIN:
        return Act.LET_GO
    return _settle(job, facts)


def _settle(job: JobView, facts: Facts) -> Act:
    """Settle, once that may begin. It takes the claim and may remove documents: the status leaves `stopped` first.

    A permanent trouble belongs to a run, and says nothing about settling.
    """
    may_retry = facts.trouble is None or not facts.trouble.transient or facts.retry_in == 0.0
    return Act.SETTLE if may_retry and job.status.state is not State.STOPPED else Act.NOTHING


def _requested(job: JobView) -> bool:
    return job.run_request is not None and job.run_request != job.status.last_handled_run_request


def _handled(at: State, job: JobView) -> str | None:
    """Return the request that counts as handled now. One that was made while a job starts waits for `started`."""
    starting = job.ask is Ask.STARTED and (
        at in (State.STOPPED, State.STOPPING) or (at is State.STARTED and not is_accepted(job))
    )
    return job.status.last_handled_run_request if starting or not _requested(job) else job.run_request


def _patience(show: State, job: JobView, facts: Facts, act: Act) -> tuple[State | None, float | None]:
    """Delay a passing state for a moment: most runs and halts end before anybody could read it."""
    if act is Act.RUN and not _requested(job):
        return None, PATIENCE  # its end reports the next tick, too
    if show in (State.STOPPED, State.STARTED) or job.status.state is show:
        return show, None
    if act in (Act.HALT, Act.SETTLE):
        return None, PATIENCE
    if (run := _at_work(facts)) is None:
        early = facts.verified_for is not None and facts.verified_for < PATIENCE
        return (None, PATIENCE) if early else (show, None)
    age = run.age if show is State.INDEXING or run.halted is None else run.halted
    return (show, None) if age >= PATIENCE else (None, PATIENCE - age)


def _wait(
    at: State, facts: Facts, next_tick: datetime | None, now: datetime, refresh: bool, patience: float | None
) -> float | None:
    """Return the seconds until time alone can change the decision."""
    waits = [patience, facts.retry_in or None]
    if next_tick is not None:
        waits.append(max(0.001, (next_tick - now).total_seconds()))
    if at is State.INDEXING:
        waits.append(report_in(facts.run, 0.0 if refresh else facts.report_age))
    if (run := _at_work(facts)) is not None and run.halted is not None and run.halted < facts.drain_timeout:
        waits.append(facts.drain_timeout - run.halted)
    return min((w for w in waits if w is not None), default=None)


def _verdict(show: State, job: JobView, facts: Facts, next_tick: datetime | None) -> tuple[bool, bool, Reason, str]:
    """Return (ready, stalled, reason, message) of the conditions."""
    doing = facts.run.doing if facts.run is not None else ""
    match show:
        case State.ABORTING:
            return False, False, *_halting(Reason.DELETING, "the job is being deleted", facts)
        case State.STOPPING:
            again = "; it starts again after that" if job.ask is Ask.STARTED else ""
            return False, False, *_halting(Reason.STOPPING, f"the job is being stopped{again}", facts)
        case _ if facts.invalid is not None:
            return False, True, Reason.INVALID_SPEC, facts.invalid
        case State.STOPPED:
            never = "" if job.ever_asked else "; never started: set spec.desiredState to started"
            return True, False, Reason.STOPPED, f"no queries or writes are running{never}{_failed(facts)}"
        case _ if facts.trouble is not None:
            return False, not facts.trouble.transient, facts.trouble.reason, facts.trouble.message
        case _ if facts.store_trouble is not None:
            return False, False, facts.store_trouble.reason, facts.store_trouble.message
        case State.INDEXING if facts.run is not None and facts.run.waits:
            # Nothing shows yet that a job whose source was not checked can run.
            return facts.checked, False, Reason.WAITING if facts.checked else Reason.RECONCILING, doing
        case State.INDEXING:
            return True, False, Reason.RUNNING, doing
        case _ if next_tick is None and facts.schedule is not None and facts.last_run is None:
            # A job that ran has had its ticks, and keeps well when the last of them is over.
            return False, True, Reason.INVALID_SPEC, f"spec.cron: '{facts.schedule.text}' {_NEVER}: correct it"
        case _ if next_tick is None and facts.schedule is not None:
            return True, False, Reason.WAITING, f"spec.cron {_NEVER}: a run begins only on request"
        case _ if not facts.checked:
            return False, False, Reason.RECONCILING, "checking that the source can be rolled up"
        case _:
            return True, False, Reason.WAITING, "waiting for the next tick of spec.cron"


def _failed(facts: Facts) -> str:
    """Keep in view why a job was in trouble: once it is stopped, no reason of a condition does."""
    if facts.failed_check is not None:
        return f"; the last check of its source failed: {facts.failed_check.message}"
    last = facts.last_run
    return f"; its last run failed: {last.message}" if last is not None and last.failed else ""


def _halting(reason: Reason, message: str, facts: Facts) -> tuple[Reason, str]:
    run = _at_work(facts)
    if run is not None and run.halted is not None and run.halted >= facts.drain_timeout:
        return Reason.DRAIN_TIMEOUT, f"{message}; after {facts.drain_timeout:g} s it still waits for: {run.doing}"
    if facts.verified_for is not None and run is None:
        return reason, f"{message}; a verification that reads its source is ending"
    if facts.trouble is not None and (run is None or run.kind is RunKind.SETTLE):
        return facts.trouble.reason, f"{message}; {facts.trouble.message}"
    return reason, message
