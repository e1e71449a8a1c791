"""Guards of the product, taken out one at a time. Each must be missed by some schedule, or the simulation is too poor.

`make simulate-mutations` runs schedules under each until a promise is broken, and prints after how many that was.

Some guards are not here, since what stands behind them keeps every promise without them:

- a run that outlived its leadership is not believed: it was cancelled, and the end of a cancelled task is not believed
  either;
- runs are cancelled when another leads: each asks the gate before it sends anything;
- an older version of the lease is dropped: a write that is decided on it is refused, and the lease is read again;
- a permanent trouble holds back no settling: what was asked while the run was refused has it tried again;
- a turn follows the write of `stopped` where the answer shows another spec: the write names the version that it was
  decided on, so no other spec can be in its answer;
- a release says whether the claim was ours still: one replica leads, so nobody else decides to claim while a run is
  under way, and a claim that was decided on earlier is refused by its version. tests/unit/test_run_ends.py and
  tests/faults/test_store_leadership.py hold it.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from rollup_operator.http.api.stop import Stops
from rollup_operator.http.jobs import desired_state
from rollup_operator.http.jobs.acceptance import Acceptance
from rollup_operator.http.jobs.attempt import Attempts
from rollup_operator.http.protocol import errors, state_errors
from rollup_operator.indexer import clocks, run
from rollup_operator.indexer.run_slots import RunSlots
from rollup_operator.kube import job_writes, sweep
from rollup_operator.kube.client import Body
from rollup_operator.kube.paths import jobs_path
from rollup_operator.kube.sweep import Sweep
from rollup_operator.lifecycle.jobs import actor, states, verify_task
from rollup_operator.lifecycle.jobs.actor import Actor
from rollup_operator.lifecycle.jobs.checked_source import CheckedSource
from rollup_operator.lifecycle.jobs.index import Index
from rollup_operator.lifecycle.jobs.relist import Relisting
from rollup_operator.lifecycle.jobs.run_facts import RunKind
from rollup_operator.lifecycle.jobs.states import Act, State
from rollup_operator.lifecycle.leader.gate import Candidacy, Gate
from rollup_operator.lifecycle.stores.book import StoreBook
from rollup_operator.lifecycle.stores.known_store import KnownStore
from rollup_operator.model import stop_verdict
from rollup_operator.model.base import API_VERSION
from rollup_operator.model.job_view import JobView
from rollup_operator.model.stop_verdict import Verdict
from rollup_operator.rollup import identity
from rollup_operator.rollup.bounds import Span
from rollup_operator.stores.opensearch import ClusterStore, claims, quiet, records, settling
from rollup_operator.stores.opensearch.records import ALIAS
from rollup_operator.stores.opensearch.session import ClusterSession
from rollup_operator.stores.opensearch.target import bulk, encoder, gate
from rollup_operator.stores.opensearch.transport.client import Cluster, name
from simulation import runner, source, store
from simulation.replica import Replica
from simulation.store import StoreDouble

Mutate = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Mutation:
    """One guard, and how to take it out."""

    name: str
    without: str
    """What the product does not do then."""
    mutate: Mutate


MUTATIONS: dict[str, Mutation] = {}


def mutation(without: str) -> Callable[[Callable[[], AbstractContextManager[Any]]], Mutate]:
    """Add a mutation under the function's name."""

    def add(mutate: Mutate) -> Mutate:
        title = mutate.__name__.replace("_", " ")
        MUTATIONS[title] = Mutation(title, without, mutate)
        return mutate

    return add


def instead(of: Any, attribute: str, new: Callable[..., Any]) -> AbstractContextManager[Any]:
    """Call `new` with the original function first."""
    original = getattr(of, attribute)

    def called(*args: Any, **kwargs: Any) -> Any:
        return new(original, *args, **kwargs)

    return patch.object(of, attribute, called)


def answers(of: Any, attribute: str, value: Any) -> AbstractContextManager[Any]:
    """Return `value`, whatever is asked."""
    return patch.object(of, attribute, lambda *_, **__: value)


async def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


# Rule 1: the newest body decides


@mutation("drop an older body on arrival")
def older_bodies_are_taken() -> AbstractContextManager[Any]:
    def observe(self: Actor, view: JobView) -> bool:
        self.view = view
        self.recheck()
        return True

    return patch.object(Actor, "observe", observe)


@mutation("compare the answer of its own write with what the watch has brought meanwhile")
def an_answer_is_the_newest() -> AbstractContextManager[Any]:
    def learn(self: Actor, newer: JobView, *, decided_on: JobView | None = None) -> None:
        if newer.uid != self.view.uid or (newer.deleting and not newer.finalizers):
            self.vanish()
            return
        self.view = newer
        self.recheck()
        self._env.published(newer)

    return patch.object(Actor, "_learn", learn)


@mutation("let the later of two uids with one name live")
def the_last_uid_heard_of_lives() -> AbstractContextManager[Any]:
    return patch.object(Index, "is_gone", lambda self, view: view.uid in self._gone)


@mutation("remember which uids are gone")
def gone_uids_come_back() -> AbstractContextManager[Any]:
    return patch.object(sweep.Gone, "add", lambda *_: None)


@mutation("drop what a sweep does not list")
def a_sweep_drops_nothing() -> AbstractContextManager[Any]:
    class Keeps:
        def __init__(self, known: Any) -> None:
            self._known = known

        def __getattr__(self, attribute: str) -> Any:
            return getattr(self._known, attribute)

        def gone(self, uid: str) -> None:
            """Keep it."""

    def init(original: Any, self: Sweep, kube: Any, path: Any, known: Any, **more: Any) -> None:
        original(self, kube, path, Keeps(known), **more)

    return instead(Sweep, "__init__", init)


@mutation("read what a sweep lists and this process does not know")
def a_sweep_reads_nothing() -> AbstractContextManager[Any]:
    return patch.object(Sweep, "_read", _nothing)


@mutation("end the actor of a job whose write finds no such job")
def not_found_is_no_end() -> AbstractContextManager[Any]:
    class Never(Exception):
        """Nobody raises it."""

    return patch.object(actor, "NotFound", Never)


@mutation("list all jobs before a new leader begins anything")
def a_new_leader_is_not_behind() -> AbstractContextManager[Any]:
    return patch.object(Relisting, "catch_up", lambda self: None)


@mutation("notice that etcd was restored")
def a_restore_is_not_noticed() -> AbstractContextManager[Any]:
    return patch.object(Replica, "_begin_again", lambda *_: None)


@mutation("list the claims that are held when a process comes to lead")
def no_claims_are_listed() -> AbstractContextManager[Any]:
    return answers(KnownStore, "held", False)


# Rule 2: runs and leaderships


@mutation("begin nothing while draining")
def draining_begins_runs() -> AbstractContextManager[Any]:
    return patch.object(Gate, "draining", property(lambda _: False))


@mutation("halt runs when the lease is not renewed for long")
def nobody_halts_before_the_lease_ends() -> AbstractContextManager[Any]:
    def lead(original: Any, self: Gate, *, begin_until: float = 0.0, act_until: float = 0.0) -> None:
        original(self, begin_until=float("inf"), act_until=act_until)

    return instead(Gate, "lead", lead)


@mutation("shut the gate by the clock")
def the_gate_stays_open() -> AbstractContextManager[Any]:
    def lead(original: Any, self: Gate, *, begin_until: float = 0.0, act_until: float = 0.0) -> None:
        original(self, begin_until=float("inf"), act_until=float("inf"))

    return instead(Gate, "lead", lead)


@mutation("wait until the lease of another has ended")
def a_candidate_waits_for_nobody() -> AbstractContextManager[Any]:
    return patch.object(Candidacy, "_may_take_at", lambda self: float("-inf") if self._has_read else float("inf"))


@mutation("ask the gate in each turn of an actor")
def actors_ask_no_gate() -> AbstractContextManager[Any]:
    class Open:
        open = True

        def __init__(self, real: Gate) -> None:
            self._real = real

        @property
        def draining(self) -> bool:
            return self._real.draining

    def init(original: Any, self: Actor, view: JobView, env: Any) -> None:
        original(self, view, replace(env, gate=Open(env.gate)))

    return instead(Actor, "__init__", init)


@mutation("ask the gate in a run before it sends anything, and in the client before each request of a run")
def runs_ask_no_gate() -> AbstractContextManager[Any]:
    stack = ExitStack()

    def cluster(original: Any, self: StoreDouble, wire: Any, loop: Any, may_run: Any, *more: Any) -> None:
        original(self, wire, loop, lambda: True, *more)

    stack.enter_context(instead(StoreDouble, "__init__", cluster))
    stack.enter_context(instead(run.Run, "_is_over", lambda _, self: self._halted.is_set()))
    return stack


# Rule 3: the status


@mutation("name the version in a write of the status")
def a_status_is_written_on_any_version() -> AbstractContextManager[Any]:
    async def write(kube: Any, job: JobView, status: Mapping[str, Any]) -> Body:
        about = {"name": job.name, "namespace": job.namespace}
        body = {"apiVersion": API_VERSION, "kind": "RollupJob", "metadata": about, "status": status}
        answer: Body = await kube.put(jobs_path(job.namespace, job.name, "status"), body)
        return answer

    return patch.object(job_writes, "write_status", write)


@mutation("add the finalizer before the first claim")
def a_run_needs_no_finalizer() -> AbstractContextManager[Any]:
    def act(original: Any, *args: Any) -> Act:
        found: Act = original(*args)
        return Act.RUN if found is Act.HOLD else found

    return instead(states, "_act", act)


@mutation("settle with the store before `stopped`")
def stopped_needs_no_settling() -> AbstractContextManager[Any]:
    return answers(states, "_unsettled", False)


@mutation("settle with the store before the finalizer goes")
def deletion_needs_no_settling() -> AbstractContextManager[Any]:
    def clean_up(_: State, job: JobView, __: Any) -> Act:
        return Act.LET_GO if job.has_drain_finalizer else Act.NOTHING

    return patch.object(states, "_clean_up", clean_up)


@mutation("begin nothing before a write of `started` is accepted")
def a_run_needs_no_started() -> AbstractContextManager[Any]:
    return answers(states, "is_accepted", True)


@mutation("take a job with finalizer and without state for one that may have been claimed")
def a_lost_status_is_stopped() -> AbstractContextManager[Any]:
    def where(original: Any, job: JobView, facts: Any) -> State:
        if facts.run is None and job.status.state is None:
            return State.STOPPED
        found: State = original(job, facts)
        return found

    return instead(states, "where", where)


@mutation("store a free record once more when it settles, so that a claim on its way is refused")
def settling_only_reads() -> AbstractContextManager[Any]:
    async def touch(*_: Any) -> bool:
        return True

    return patch.object(claims, "touch", touch)


@mutation("settle a job whose spec cannot be read")
def an_unreadable_spec_is_settled() -> AbstractContextManager[Any]:
    def claimed_spec(self: JobView) -> Any:
        try:
            return self.spec()
        except ValueError:
            return None

    return patch.object(JobView, "claimed_spec", claimed_spec)


@mutation("compute the next tick from the clock as it is now")
def the_next_tick_is_believed() -> AbstractContextManager[Any]:
    def tick(job: JobView, facts: Any, now: Any) -> Any:
        if facts.schedule is None or job.ask is not states.Ask.STARTED:
            return False, None
        if facts.next_tick is None:
            return False, facts.schedule.next_after(now)
        if facts.next_tick > now:
            return False, facts.next_tick
        return True, facts.schedule.next_after(now)

    return patch.object(states, "_tick", tick)


@mutation("compare the process's clock with the store's before a run")
def clocks_are_not_compared() -> AbstractContextManager[Any]:
    return patch.object(run, "moment", lambda spec, now, other, allowed: clocks.Moment(now))


@mutation("check the source of a job before it is shown as Ready")
def sources_are_not_checked() -> AbstractContextManager[Any]:
    return answers(CheckedSource, "is_good", True)


@mutation("end the check of a source before `stopped`")
def a_check_outlives_a_stop() -> AbstractContextManager[Any]:
    def decide(original: Any, job: JobView, facts: Any, now: Any) -> Any:
        checking = facts.run is not None and facts.run.kind is RunKind.CHECK
        return original(job, replace(facts, run=None, checked=True) if checking else facts, now)

    return instead(actor, "decide", decide)


# Rule 4: the order of a page


@mutation("verify each item of a bulk")
def items_are_not_verified() -> AbstractContextManager[Any]:
    return answers(bulk, "_failed", ({}, None))


@mutation("commit the position only after the page is written")
def a_page_is_committed_before_it_is_written() -> AbstractContextManager[Any]:
    async def write(self: ClusterSession, claim: Any, page: Any) -> Any:
        record = await self._prepare()
        assert self._fresh is not None
        written = await self._commit(replace(claim, position=page.last_key, page_hint=float(self._fresh.page_size)))
        await self._bulk(record, page.handle)
        return written

    return patch.object(ClusterSession, "write", write)


# Rule 5: fencing


@mutation("write documents with the version of the epoch")
def documents_have_no_version() -> AbstractContextManager[Any]:
    def template(original: Any, *args: Any) -> Any:
        text, columns = original(*args)
        return re.sub(rb',"version":\d+,"version_type":"external_gte"', b"", text), columns

    return instead(encoder, "_template", template)


@mutation("commit with compare-and-set")
def records_are_overwritten() -> AbstractContextManager[Any]:
    async def put(cluster: Cluster, record: Any, *, opaque_id: str = "") -> Any:
        answer = await cluster.call(
            "PUT",
            f"/{ALIAS}/_doc/{name(records.document_id(record.claim.key))}",
            doing=f"recording the claim of {record.claim.key[1]}",
            params={"require_alias": "true"},
            body=records.to_document(record),
            opaque_id=opaque_id or record.opaque_id,
        )
        return replace(record, seq_no=answer.at("_seq_no").whole(), primary_term=answer.at("_primary_term").whole())

    return patch.object(claims, "_put", put)


@mutation("raise the epoch with each claim")
def epochs_stay() -> AbstractContextManager[Any]:
    def next_epoch(original: Any, before: Any, *args: Any) -> Any:
        after = original(before, *args)
        return replace(after, claim=replace(after.claim, epoch=before.claim.epoch))

    return instead(records, "next_epoch", next_epoch)


@mutation("wait after a take-over until nothing of an earlier epoch is at work")
def nobody_waits_for_quiet() -> AbstractContextManager[Any]:
    return patch.object(claims, "quiet", _nothing)


@mutation("look at the task list a second time, for what was on its way at the first")
def quiet_is_seen_at_a_glance() -> AbstractContextManager[Any]:
    return patch.object(quiet, "ON_ITS_WAY", 0.0)


@mutation("close the gates of earlier epochs")
def gates_stay_open() -> AbstractContextManager[Any]:
    return patch.object(gate, "close_gates", _nothing)


@mutation("wait for a bulk whose answer was lost before the claim is released")
def lost_writes_are_forgotten() -> AbstractContextManager[Any]:
    return _release_without("lost_write")


@mutation("wait for a search that was cut off before the claim is released")
def lost_searches_are_forgotten() -> AbstractContextManager[Any]:
    return _release_without("lost_other")


def _release_without(what: str) -> AbstractContextManager[Any]:
    async def release(original: Any, *args: Any, **lost: bool) -> Any:
        return await original(*args, **{**lost, what: False})

    return instead(claims, "release", release)


@mutation("keep in the record whose requests may still be at work")
def nobody_is_awaited() -> AbstractContextManager[Any]:
    def next_epoch(original: Any, *args: Any) -> Any:
        return replace(original(*args), awaited=())

    return instead(records, "next_epoch", next_epoch)


def _or_dead(mine: Any, owner: Any, is_alive: Any) -> bool:
    return mine.uid == owner.uid or not is_alive(owner)


@mutation("delete documents only where the job owns the record")
def anybody_may_delete() -> AbstractContextManager[Any]:
    async def may_forget(*_: Any) -> bool:
        return True

    stack = ExitStack()
    stack.enter_context(patch.object(settling, "_may_forget", may_forget))
    stack.enter_context(patch.object(identity, "is_this_job", _or_dead))
    return stack


@mutation("leave the record of another living job alone")
def anybody_may_settle() -> AbstractContextManager[Any]:
    return answers(identity, "is_this_job", True)


@mutation("leave the record its owner when it is settled")
def settling_takes_ownership() -> AbstractContextManager[Any]:
    async def evict(original: Any, cluster: Any, config: Any, holder: str, seen: Any, *more: Any, **kwargs: Any) -> Any:
        return await original(cluster, config, holder, replace(seen, owner=config.owner), *more, **kwargs)

    return instead(claims, "evict", evict)


@mutation("refuse a job whose id another living job has")
def ids_are_shared() -> AbstractContextManager[Any]:
    return answers(identity, "judge", None)


@mutation("count a job as gone while its last run ends")
def an_ending_run_keeps_its_job_alive() -> AbstractContextManager[Any]:
    return patch.object(Actor, "gone", property(lambda _: False))


@mutation("forget the position before the documents are deleted")
def documents_go_before_the_position() -> AbstractContextManager[Any]:
    async def commit(original: Any, cluster: Any, record: Any, claim: Any) -> Any:
        if claim.position is None and record.claim.position is not None:
            return record
        return await original(cluster, record, claim)

    return instead(claims, "commit", commit)


# Stores


@mutation("count the runs of an earlier edit of a store against its limit")
def each_edit_has_slots_of_its_own() -> AbstractContextManager[Any]:
    def observe(original: Any, self: StoreBook, body: Any) -> None:
        for key, known in self._stores.items():
            known._slots = self._slots[key] = RunSlots(
                known._spec.max_concurrent_runs if known._spec is not None else 1
            )
        original(self, body)

    return instead(StoreBook, "observe", observe)


# The endpoint


@mutation("judge a stop by its generation")
def any_stopped_will_do() -> AbstractContextManager[Any]:
    def judge(original: Any, body: JobView, uid: str, generation: int) -> Verdict:
        if body.uid == uid and body.status.state is State.STOPPED:
            return Verdict.STOPPED
        found: Verdict = original(body, uid, generation)
        return found

    return instead(stop_verdict, "judge", judge)


@mutation("read the job once more at the deadline")
def nobody_looks_at_the_deadline() -> AbstractContextManager[Any]:
    async def verdict(self: Stops, waiter: Any, asked: JobView, wait: Any) -> Verdict:
        found: Verdict = await waiter.settled(asked, wait.deadline)
        return found

    return patch.object(Stops, "_verdict", verdict)


@mutation("wait until the operator has taken a call in")
def a_call_is_answered_once_it_is_recorded() -> AbstractContextManager[Any]:
    return patch.object(Acceptance, "wait", _nothing)


@mutation("name the uid in the endpoint's write")
def a_write_hits_whoever_has_the_name() -> AbstractContextManager[Any]:
    async def ask(kube: Any, job: JobView, state: Any, *, manager: str) -> Body:
        about = {"name": job.name, "namespace": job.namespace}
        body = {"metadata": about, "spec": {"desiredState": state.value}}
        answer: Body = await kube.apply(jobs_path(job.namespace, job.name), body, manager=manager, force=True)
        return answer

    return patch.object(desired_state, "ask", ask)


@mutation("tell a write that may stand from one that was not sent")
def an_unknown_outcome_is_unavailable() -> AbstractContextManager[Any]:
    return patch.object(state_errors, "outcome_unknown", lambda _, __, why: errors.unavailable(why))


@mutation("refuse a call that repeats one which the opposite has followed")
def repeats_are_obeyed() -> AbstractContextManager[Any]:
    return answers(Attempts, "_refuse_repeat", None)


# Verification by schedule


@mutation("wait for the end of a verification before a job reads stopped")
def a_verification_is_overlooked() -> AbstractContextManager[Any]:
    def facts(original: Any, self: Actor) -> Any:
        found = original(self)
        halted = found.verification is not None and found.verification.halted is not None
        return replace(found, verification=None) if halted else found

    return instead(Actor, "_facts", facts)


@mutation("wait for requests of a verification whose answers were lost")
def lost_verifications_are_forgotten() -> AbstractContextManager[Any]:
    return patch.object(ClusterStore, "_until_over", _nothing)


@mutation("leave out what runs are to read again, or have not read yet")
def everything_is_verified() -> AbstractContextManager[Any]:
    def span(_: Any, spec: Any, now: Any, position: Any, watermark_ms: Any) -> Span:
        return Span(0, int(now.timestamp() * 1000) // source.WIDTH * source.WIDTH)

    stack = ExitStack()
    stack.enter_context(instead(verify_task, "verify_span", span))
    stack.enter_context(patch.object(store, "rolled_up_to", lambda *_, **__: 2**53))
    return stack


def first_missed(title: str, seeds: range) -> tuple[str, int | None, str]:
    """Return after how many schedules a mutation is found (None: in none of them), and by what broken promise."""
    with runner.undisturbed():
        for count, seed in enumerate(seeds, 1):
            with MUTATIONS[title].mutate():
                problem = runner.run(seed)
            if problem is not None and runner.run(seed) is None:
                return title, count, problem
    return title, None, ""
