"""Explains a job's state, what it waits for, and the fix. Pure: turns what the API server shows into sentences."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rollup_operator.explaining.cures import cure_of
from rollup_operator.explaining.owners import (
    LAST_APPLIED,
    applied_state,
    changed_at,
    gitops_applier,
    gitops_owner,
    owners,
)
from rollup_operator.explaining.summary import Mood, condition, trouble
from rollup_operator.explaining.text import ago, ahead, command, event_time, moment, sentence, spoken
from rollup_operator.model.base import DRAIN_FINALIZER, GITOPS_MANAGERS
from rollup_operator.model.conditions import READY, STALLED, VERIFIED, Reason
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import Outcome, State, VerificationOutcome
from rollup_operator.model.times import instant_of

PATIENCE = 10.0
"""Seconds that an operator may take to observe a change before the command doubts that one is running."""

OVERDUE = 60.0
"""Seconds after a tick until it is doubted that an operator runs. A run may wait for one of the store's places."""

SILENCE = 90.0
"""Seconds without a report of a long run, which reports every 30, until that is doubted."""

RECENT = timedelta(hours=1)
NO_OPERATOR = (
    "Check whether the operator runs, whether it watches this namespace (ROLLUP_NAMESPACES), and what its log says"
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One fact or, with `cure`, one thing to do."""

    text: str
    cure: bool = False
    mood: Mood | None = None
    """How good the state is that it is about, where it is the main one."""


@dataclass(frozen=True)
class Seen:
    """What the API server shows of a job and its surroundings, at one moment."""

    body: Mapping[str, Any]
    store: Mapping[str, Any] | None = None
    """The RollupStore that it names; None: there is none, or nobody may know."""
    store_known: bool = True
    """Whether the caller may know."""
    events: Sequence[Mapping[str, Any]] = ()
    """About the job, oldest first."""
    managers: Collection[str] = GITOPS_MANAGERS
    """Field managers of GitOps."""


def explain(seen: Seen, now: datetime) -> list[Sentence]:
    """Explain the job, the main reason first, with the fix after each problem."""
    return list(_Explanation(seen, now).sentences())


class _Explanation:
    def __init__(self, seen: Seen, now: datetime) -> None:
        self.seen, self.now = seen, now
        self.body = seen.body
        self.job = JobView.of(seen.body)
        self.status = self.job.status
        self.ready = condition(self.job, READY)
        self.stuck = trouble(self.job)
        self.behind = self.status.observed_generation < self.job.generation

    def sentences(self) -> Iterator[Sentence]:
        if self.job.deleting:
            yield from self._deletion()
        elif self.behind:
            yield from self._unseen()
        elif self.stuck is None:
            yield from self._state()
        yield from self._trouble()
        yield from self._store()
        if self.stuck is not None and not self.job.deleting and not self.behind:
            yield from self._state()
        if not self.job.deleting:
            yield from self._failed_check()
            yield from self._last_run()
            yield from self._verified()
            yield from self._request()
            yield from self._ownership()
        yield from self._events()

    # Where it is

    def _deletion(self) -> Iterator[Sentence]:
        when = instant_of(self.body["metadata"].get("deletionTimestamp"))
        yield Sentence(f"The job is being deleted, as requested {ago(when, self.now)}.")
        if self.job.has_drain_finalizer:
            yield Sentence(
                f"The finalizer {DRAIN_FINALIZER} holds it until nothing of the job runs, its claim is released and, "
                "with deletionPolicy Delete, its documents are gone."
            )
        others = [name for name in self.job.finalizers if name != DRAIN_FINALIZER]
        if others:
            yield Sentence(f"{_listed(others)} {'holds' if len(others) == 1 else 'hold'} it too.")
            yield Sentence("Find out who set that finalizer: rollup-operator neither sets nor removes it.", cure=True)
        if not self.job.has_drain_finalizer:
            return
        if self.behind and when is not None and self._is_long(when, PATIENCE):
            yield Sentence("No operator has seen the deletion yet: the operator may be down.")
            yield Sentence(f"{NO_OPERATOR}. For an uninstall without one: rollup-operator release --yes", cure=True)
        elif self.status.state is State.ABORTING and self.ready is not None:
            yield Sentence(sentence(f"It waits: {self.ready.message}"))

    def _unseen(self) -> Iterator[Sentence]:
        never = self.status.observed_generation < 0
        when = instant_of(self.body["metadata"].get("creationTimestamp")) if never else changed_at(self.body)
        what = f"The job was {'created' if never else 'changed'}{'' if when is None else ' ' + ago(when, self.now)}"
        if when is not None and not self._is_long(when, PATIENCE):
            yield Sentence(f"{what}, and the operator has not seen that yet.")
            return
        generations = f"generation {self.job.generation}, observed {self.status.observed_generation}"
        yield Sentence(f"{what}, and no operator has seen that yet ({generations}): the operator may be down.")
        if not never:
            yield Sentence(f"Its state, {self.status.state}, dates from before that.")
        asked = "The request stands, and takes effect once an operator runs."
        yield Sentence(f"{asked} {NO_OPERATOR}.", cure=True)

    def _state(self) -> Iterator[Sentence]:
        asked = self.job.desired
        match self.status.state:
            case State.STOPPED if asked is DesiredState.STARTED:
                yield Sentence("A start was requested; the job cannot begin until this is solved.")
            case State.STOPPED if not self.job.ever_asked:
                yield Sentence("The job was never started: spec.desiredState is not set, and a new job is stopped.")
                yield Sentence(f"Start it: {command('start', *self.job.key)}", cure=True)
            case State.STOPPED:
                yield Sentence(f"The job is stopped, as {self._who()}. No queries or writes are running.")
            case State.STARTED if asked is DesiredState.STARTED:
                yield from self._waits_for_tick()
            case State.INDEXING if asked is DesiredState.STARTED:
                yield from self._indexing()
            case State.STOPPING:
                yield from self._stopping()
            case state:
                yield Sentence(f"The job is {state}; {asked} was requested, and the operator is about to change it.")

    def _waits_for_tick(self) -> Iterator[Sentence]:
        tick = instant_of(self.status.next_run_time)
        if tick is None:
            yield Sentence("The job is started, but its schedule has no future run times.")
            yield Sentence("Change spec.cron: times in UTC, seconds first.", cure=True)
        elif self._is_long(tick, OVERDUE):
            yield Sentence(
                f"The job is started, but its run at {moment(self.status.next_run_time)} is "
                f"{ahead(tick, self.now)}: the operator may be down."
            )
            yield Sentence(f"{NO_OPERATOR}.", cure=True)
        else:
            head = "The job is started." if self.stuck is None else "The job stays started."
            yield Sentence(f"{head} Its next run is at {moment(self.status.next_run_time)} ({ahead(tick, self.now)}).")
            if self.ready is not None and self.ready.reason == Reason.RECONCILING:
                yield Sentence("Until then its source is checked: that is under way.")

    def _indexing(self) -> Iterator[Sentence]:
        reported = changed_at(self.body, status=True)
        told = self.ready is None or not self.ready.message or self.stuck is not None
        doing = "" if told or self.ready is None else f": {self.ready.message}"
        since = f", as reported {ago(reported, self.now)}" if reported is not None else ""
        if self.ready is not None and self.ready.reason == Reason.WAITING:
            yield Sentence(sentence(f"A run is due and {self.ready.message}{since}"))
        else:
            yield Sentence(sentence(f"A run is in progress{self._done()}{since}{doing}"))
        if reported is not None and self._is_long(reported, SILENCE):
            yield Sentence(
                f"A long run reports every 30 seconds; the last report of this one is {self._for(reported)} old."
            )
            yield Sentence(f"{NO_OPERATOR}.", cure=True)

    def _done(self) -> str:
        if (progress := self.status.progress) is None:
            return ""
        left = progress.remaining_seconds
        return f", {progress.percent} % done" + ("" if left is None else f" and about {spoken(left)} left")

    def _stopping(self) -> Iterator[Sentence]:
        since = instant_of(self.ready.last_transition_time) if self.ready is not None else None
        began = "" if since is None else f" for {self._for(since)}"
        if self.job.desired is DesiredState.STARTED:
            yield Sentence(f"The job has been stopping{began}; a start was requested since, and follows the stop.")
        else:
            yield Sentence(f"The job has been stopping{began}, as {self._who()}.")
        if self.ready is None or self.ready.reason == Reason.STOPPING:
            yield Sentence("What is in flight ends first: the page being written is finished and committed.")

    def _who(self) -> str:
        found = owners(self.body)
        if not found:
            return "spec.desiredState says" if "desiredState" in self.job.raw_spec else "last requested"
        newest = found[0]
        return f"{newest.manager} requested" + (f" {ago(newest.time, self.now)}" if newest.time is not None else "")

    # What is wrong

    def _trouble(self) -> Iterator[Sentence]:
        if (stuck := self.stuck) is None:
            return
        since = instant_of(stuck.last_transition_time)
        if stuck.observed_generation < self.job.generation:
            retried = "this is about an earlier version of the spec"
        elif stuck.type == STALLED:
            retried = "retrying cannot help, something has to change"
        elif stuck.reason == Reason.DRAIN_TIMEOUT:
            retried = "the operator keeps waiting"
        else:
            retried = "the operator keeps retrying"
        mood = Mood.BAD if stuck.type == STALLED else Mood.CHANGING
        yield Sentence(f"{stuck.reason} for {self._for(since)}; {retried}.", mood=mood)
        yield Sentence(sentence(stuck.message))
        if cure := cure_of(stuck.reason, self.job):
            yield Sentence(cure, cure=True)

    def _store(self) -> Iterator[Sentence]:
        if not self.seen.store_known:
            return
        name, said = self.job.store_name, self.stuck.message if self.stuck is not None else ""
        missing = self.ready is not None and self.ready.reason == Reason.STORE_NOT_FOUND
        if self.seen.store is None:
            if not missing:
                yield Sentence(f"There is no RollupStore {name!r} in this namespace, which the next run needs.")
                yield Sentence(cure_of(Reason.STORE_NOT_FOUND, self.job), cure=True)
            return
        if missing:
            yield Sentence(f"RollupStore {name!r} exists now: the operator checks the job again soon.")
        conditions = (self.seen.store.get("status") or {}).get("conditions") or ()
        bad = next((c for c in conditions if c.get("type") == READY and c.get("status") == "False"), None)
        if bad is not None and (message := str(bad.get("message", ""))) not in said:
            yield Sentence(f"RollupStore {name!r} is not ready: {bad.get('reason')}: {sentence(message)}")

    def _failed_check(self) -> Iterator[Sentence]:
        failed = self.status.failed_check
        if failed is not None and self.status.state is State.STOPPED and self.stuck is None:
            yield Sentence(f"The last check of its source failed: {failed.reason}: {sentence(failed.message)}")

    def _last_run(self) -> Iterator[Sentence]:
        last = self.status.last_run
        in_condition = self.ready is not None and self.ready.status == "False"
        if last is None or last.outcome in (Outcome.COMPLETED, Outcome.HALTED) or in_condition:
            return
        when = ago(instant_of(last.end_time), self.now)
        ended = "was fenced" if last.outcome is Outcome.FENCED else last.outcome.lower()
        yield Sentence(f"The last run {ended} {when}: {sentence(last.message)}")

    def _verified(self) -> Iterator[Sentence]:
        """Say what the last verification by spec.verify found, if that is for somebody to look at."""
        last = self.status.last_verification
        if last is None or condition(self.job, VERIFIED) is None:
            return
        when, (found, _, cure) = ago(instant_of(last.end_time), self.now), last.message.partition(". To see")
        if last.outcome is VerificationOutcome.DOCUMENTS_DIFFER:
            yield Sentence(sentence(f"The verification that ended {when} found differences: {found}"), mood=Mood.BAD)
            yield Sentence(sentence(f"To see{cure}"), cure=True)
        elif last.outcome is VerificationOutcome.FAILED:
            yield Sentence(sentence(f"The last verification failed {when}: {found}"))

    def _request(self) -> Iterator[Sentence]:
        request = self.job.run_request
        if request is None or request == self.status.last_handled_run_request:
            return
        yield Sentence(f"A run was requested ({request}) and has not been handled yet.")
        if self.job.desired is DesiredState.STOPPED:
            yield Sentence(f"A stopped job does not run: {command('start', *self.job.key)}", cure=True)

    def _ownership(self) -> Iterator[Sentence]:
        asked = self.job.spec_asks
        cure = "Change it there, or leave desiredState out of the manifest, so that others may set it."
        if (manager := gitops_owner(found := owners(self.body), self.seen.managers)) is not None:
            yield Sentence(
                f"Git owns spec.desiredState, by {manager}: a stop or start by other means is undone at its next sync."
            )
            yield Sentence(cure, cure=True)
            return
        applier = gitops_applier(self.body, self.seen.managers)
        if found and applier is not None:
            newest = found[0]
            if newest.time is not None and self.now - newest.time < RECENT:
                yield Sentence(
                    f"{applier} applies this job from Git, and {newest.manager} set desiredState "
                    f"{ago(newest.time, self.now)}: if the manifest in Git has desiredState, the next sync undoes that."
                )
                yield Sentence(cure, cure=True)
            return
        applied = applied_state(self.body)
        if asked is not None and applied is not None and applied != asked:
            yield Sentence(
                f"The manifest that was applied last has desiredState: {applied}, so applying it again undoes the "
                f"current {asked} (annotation {LAST_APPLIED})."
            )
            yield Sentence(cure, cure=True)

    def _events(self) -> Iterator[Sentence]:
        in_conditions = {c.reason for c in self.status.conditions}
        newest: dict[str, Mapping[str, Any]] = {}
        for event in self.seen.events:
            if event.get("type") == "Warning" and event.get("reason") not in in_conditions:
                newest[str(event.get("reason"))] = event
        for reason, event in newest.items():
            when = event_time(event)
            if when is not None and self.now - when < RECENT:
                yield Sentence(f"{ago(when, self.now)}: {reason}: {sentence(str(event.get('message', '')))}")

    def _is_long(self, since: datetime, seconds: float) -> bool:
        return (self.now - since).total_seconds() > seconds

    def _for(self, since: datetime | None) -> str:
        return "some time" if since is None else spoken((self.now - since).total_seconds())


def _listed(names: Sequence[str]) -> str:
    return f"The finalizer {names[0]}" if len(names) == 1 else f"The finalizers {', '.join(names)}"
