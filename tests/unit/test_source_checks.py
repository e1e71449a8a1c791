"""A started job's source is checked before its first run: when, how often, and how many at once."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rollup_operator.indexer.run_slots import RunSlots
from rollup_operator.lifecycle.jobs.actors import Actors
from rollup_operator.lifecycle.jobs.index import Index
from rollup_operator.lifecycle.jobs.run_facts import RunFacts, RunKind
from rollup_operator.lifecycle.jobs.run_task import CHECKS_AT_ONCE, CHECKS_OF_STORE, Worker
from rollup_operator.lifecycle.jobs.states import Act, Facts, decide
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.model.base import DRAIN_FINALIZER, RUN_REQUESTED_AT
from rollup_operator.model.conditions import Reason, Trouble
from rollup_operator.model.job_view import Ask
from rollup_operator.model.status import JobStats, State
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.stores.base import Claim, Settled
from rollup_operator.stores.errors import SourceNotFound, StoreError, StoreUnavailable
from support.bodies import job as job_body
from unit.test_actor import ready
from unit.test_states import ARMED, NOW, TICK, job

NEW = replace(ARMED, checked=False)
LACKING = Trouble(Reason.SOURCE_NOT_FOUND, "it is not there", transient=True)
STARTED = job(Ask.STARTED, State.STARTED, held=False)


def checking(halted: float | None = None, facts: Facts = NEW) -> Facts:
    return replace(facts, run=RunFacts(RunKind.CHECK, 1.0, halted, "checking the source"))


# The decision


def test_a_job_that_is_started_is_reconciling_until_its_source_is_checked() -> None:
    starting = decide(job(Ask.STARTED, State.STOPPED, held=False), NEW, NOW)
    assert (starting.act, starting.show, starting.reason) == (Act.NOTHING, State.STARTED, Reason.RECONCILING)
    for facts, act in ((NEW, Act.CHECK), (checking(), Act.NOTHING), (ARMED, Act.NOTHING)):
        decision = decide(STARTED, facts, NOW)
        assert (decision.act, decision.show, decision.stalled) == (act, State.STARTED, False)
        assert decision.ready is facts.checked
        assert (decision.reason is Reason.RECONCILING) is not facts.checked


def test_nothing_is_checked_before_started_was_accepted_nor_in_a_store_that_cannot_be_used() -> None:
    assert decide(job(Ask.STARTED, State.STARTED, generation=2, observed=1), NEW, NOW).act is Act.NOTHING
    gone = Trouble(Reason.STORE_NOT_FOUND, "create it", transient=True)
    decision = decide(STARTED, replace(NEW, store_trouble=gone), NOW)
    assert (decision.act, decision.reason) == (Act.NOTHING, Reason.STORE_NOT_FOUND)


@pytest.mark.parametrize(("ask", "state"), [(Ask.STOPPED, State.STOPPING), (Ask.DELETED, State.ABORTING)])
def test_a_stop_and_a_deletion_end_a_check_and_wait_for_its_end(ask: Ask, state: State) -> None:
    asked = job(ask, State.STARTED, held=ask is Ask.DELETED)
    assert decide(asked, checking(), NOW).act is Act.HALT
    decision = decide(asked, checking(halted=1.0), NOW)
    assert (decision.act, decision.show) == (Act.NOTHING, state)
    assert decide(job(Ask.STOPPED, State.STARTED, held=False), NEW, NOW).show is State.STOPPED


def test_a_run_that_is_due_ends_the_check_and_loses_neither_its_tick_nor_its_request() -> None:
    tick, requested = checking(facts=replace(NEW, next_tick=NOW)), job(Ask.STARTED, State.STARTED, request="now")
    for of, facts in ((STARTED, tick), (requested, checking())):
        decision = decide(of, facts, NOW)
        assert (decision.act, decision.show, decision.next_tick) == (Act.HALT, None, facts.next_tick)
        assert facts.run is not None
        ending = replace(facts, run=replace(facts.run, halted=0.1))
        decision = decide(of, ending, NOW)
        assert (decision.act, decision.show, decision.next_tick) == (Act.NOTHING, None, facts.next_tick)
    assert decide(job(Ask.STARTED, State.STARTED), replace(TICK, checked=False), NOW).act is Act.RUN


def test_a_shutdown_ends_a_check_and_begins_none() -> None:
    assert decide(STARTED, replace(checking(), draining=True), NOW).act is Act.HALT
    assert decide(STARTED, replace(NEW, draining=True), NOW).act is Act.NOTHING
    assert decide(STARTED, replace(checking(), gone=True), NOW).act is Act.HALT


def test_a_check_that_failed_is_repeated_by_a_check_and_a_run_by_a_run() -> None:
    for failed, act in ((RunKind.CHECK, Act.CHECK), (RunKind.INDEX, Act.RUN)):
        facts = replace(NEW, trouble=LACKING, failed=failed)
        of = job(Ask.STARTED, State.STARTED)
        waiting = decide(of, replace(facts, retry_in=5.0), NOW)
        assert (waiting.act, waiting.recheck_in, waiting.reason) == (Act.NOTHING, 5.0, Reason.SOURCE_NOT_FOUND)
        assert decide(of, replace(facts, retry_in=0.0), NOW).act is act
        assert decide(of, replace(facts, retry_in=None, next_tick=NOW), NOW).act is Act.RUN


# What is checked when


class Sources:
    """One store whose sources are described once `answer` is set. Counts how many are described at a time."""

    distribution, place = "duckdb", "here"

    def __init__(self) -> None:
        self.answer = asyncio.Event()
        self.error: StoreError | None = None
        self.has = {"time_hour": "date", "carrier": "keyword", "origin": "keyword", "distance": "long"}
        self.asked: list[str] = []
        self.now: set[str] = set()
        self.most = 0
        self.most_of: dict[str, int] = {}

    async def fields(self, *_: object, uid: str) -> Mapping[str, SourceField]:
        self.asked.append(uid)
        self.now.add(uid)
        namespace = uid.partition("/")[0]
        self.most = max(self.most, len(self.now))
        here = sum(other.startswith(f"{namespace}/") for other in self.now)
        self.most_of[namespace] = max(self.most_of.get(namespace, 0), here)
        try:
            await self.answer.wait()
        finally:
            await asyncio.sleep(0)  # as of a thread that is interrupted
            self.now.discard(uid)
        if self.error is not None:
            raise self.error
        return {name: SourceField(frozenset({kind})) for name, kind in self.has.items()}

    async def settle(self, *_: object, delete_documents: bool, **__: object) -> Settled:
        """A job that is shown as stopping may have been claimed."""
        assert not delete_documents
        return Settled(None)


class World:
    """The actors of jobs, an API server that takes each status, and the stores of all namespaces.

    One of them, `silent`, never answers; all others have the same sources.
    """

    def __init__(self) -> None:
        self.sources, self.silent, self.gate = Sources(), Sources(), Gate()
        self.bodies: dict[str, Any] = {}
        self.shown: list[tuple[str, dict[str, Any]]] = []
        self.store_edition = 1
        self.listeners: list[Any] = []
        parts: Any = self
        self.index = Index(gate=self.gate, cluster="here")
        self.worker = worker = Worker(parts, "me", "here", lambda: datetime.now(UTC), self.gate)
        self.actors = Actors(
            self.index, kube=parts, books=parts, events=parts, worker=worker, gate=self.gate,
            now=lambda: datetime.now(UTC),
        )  # fmt: skip
        self.gate.lead()

    def subscribe(self, listener: Any) -> None:
        self.listeners.append(listener)

    def trouble(self, _: object) -> None:
        """The store can be used."""

    def held(self, *_: object) -> bool:
        return False

    def edition(self, _: object) -> tuple[str, int]:
        return "s", self.store_edition

    async def open(self, key: tuple[str, str]) -> Sources:
        return self.silent if key[1] == "silent" else self.sources

    def record(self, *_: object) -> None:
        """Nobody reads events."""

    async def put(self, _: str, sent: dict[str, Any]) -> dict[str, Any]:
        uid = next(uid for uid, body in self.bodies.items() if _key(body) == _key(sent))
        if sent["status"]["state"] == "stopped":
            assert uid not in self.sources.now, f"{uid} reads stopped while its source is checked"
        self.shown.append((uid, sent["status"]))
        return self._next(uid, status=sent["status"])

    def _next(self, uid: str, **changes: Any) -> dict[str, Any]:
        body = self.bodies[uid]
        version = str(int(body["metadata"]["resourceVersion"]) + 1)
        self.bodies[uid] = body | changes | {"metadata": body["metadata"] | {"resourceVersion": version}}
        return dict(self.bodies[uid])

    def slots(self, _: object) -> RunSlots:
        return RunSlots(1)

    def create(
        self, namespace: str, number: int, *, store: str = "default", spec: Mapping[str, Any] = {}, **status: Any
    ) -> str:
        """Create a started job whose schedule never comes in a test."""
        of = {"desiredState": "started", "cron": "0 0 0 1 1 ? 2099", "storeRef": {"name": store}} | spec
        body, uid = job_body(f"j{number}", **of), f"{namespace}/{number}"
        body["metadata"] |= {"uid": uid, "namespace": namespace, "generation": 1, "resourceVersion": "1"}
        self.bodies[uid] = body | ({"status": status} if status else {})
        self.actors.observe(self.bodies[uid])
        return uid

    def edit(self, uid: str, **spec: Any) -> None:
        body = self.bodies[uid]
        meta = body["metadata"] | {"generation": body["metadata"]["generation"] + 1}
        self.bodies[uid] = body | {"metadata": meta}
        self.actors.observe(self._next(uid, spec=body["spec"] | spec))

    def request(self, uid: str, value: str) -> None:
        """Request a run, of a job that has been claimed before."""
        meta = self.bodies[uid]["metadata"]
        self.bodies[uid] |= {
            "metadata": meta | {"annotations": {RUN_REQUESTED_AT: value}, "finalizers": [DRAIN_FINALIZER]}
        }
        self.actors.observe(self._next(uid))

    async def ran(self, uid: str) -> dict[str, Any]:
        """Return the status once it shows a run."""
        async with asyncio.timeout(20):
            while "lastRun" not in self.bodies[uid]["status"]:  # noqa: ASYNC110 - it announces nothing
                await asyncio.sleep(0.005)
        return dict(self.bodies[uid]["status"])

    async def until(self, uid: str, reason: str) -> dict[str, Any]:
        """Return the condition Ready once it has that reason."""
        async with asyncio.timeout(20):
            while True:
                status = self.bodies[uid].get("status", {})
                for condition in status.get("conditions", ()):
                    if (condition["type"], condition["reason"]) == ("Ready", reason):
                        return dict(condition)
                await asyncio.sleep(0.005)

    async def busy_with(self, sources: int, of: Sources | None = None) -> None:
        """Return once so many sources are being described."""
        async with asyncio.timeout(20):
            while len((of or self.sources).now) < sources:  # noqa: ASYNC110 - they announce nothing
                await asyncio.sleep(0.005)

    async def end(self) -> None:
        self.gate.shut()
        self.actors.stand_down()
        while self.index.busy:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.005)


def _key(body: Mapping[str, Any]) -> tuple[str, str]:
    return body["metadata"]["namespace"], body["metadata"]["name"]


RESTARTED = {"state": "started", "observedGeneration": 1, "conditions": ready(1)}
ROLLED_UP = {"state": "started", "observedGeneration": 1, "position": {"time_hour.date_histogram": 0}}


async def test_after_a_restart_only_jobs_that_were_not_found_good_are_checked_few_at_a_time() -> None:
    world = World()
    for n in range(300):
        world.create("known", n, **RESTARTED)
        world.create("rolled-up", n, **ROLLED_UP)
    new = [world.create("a", n, store=f"s{n % 4}") for n in range(40)] + [world.create("b", n) for n in range(2)]
    await world.busy_with(CHECKS_AT_ONCE - 2)
    world.sources.answer.set()
    for uid in new:
        assert (await world.until(uid, "Waiting"))["status"] == "True"
    assert sorted(world.sources.asked) == sorted(new)
    assert world.sources.most <= CHECKS_AT_ONCE
    assert world.sources.most_of["a"] <= CHECKS_AT_ONCE / 2 + 1
    assert [status["conditions"][0]["reason"] for uid, status in world.shown if uid == new[0]] == [
        "Reconciling", "Waiting",
    ]  # fmt: skip
    await world.end()


async def test_a_store_that_does_not_answer_leaves_the_other_stores_of_its_namespace_their_places() -> None:
    world = World()
    world.sources.answer.set()
    waiting = [world.create("a", n, store="silent") for n in range(20)]
    await world.busy_with(CHECKS_OF_STORE, world.silent)
    for uid in [world.create("a", n) for n in range(20, 30)]:
        assert (await world.until(uid, "Waiting"))["status"] == "True"
    assert len(world.silent.now) == world.silent.most == CHECKS_OF_STORE
    for uid in waiting:
        world.edit(uid, desiredState="stopped")
    for uid in waiting:
        await world.until(uid, "Stopped")
    assert not world.silent.now
    assert not world.worker._checks_of_store
    await world.end()


async def test_another_spec_and_another_store_are_checked_and_another_desired_state_is_not() -> None:
    world = World()
    world.sources.answer.set()
    uid = world.create("a", 1)
    await world.until(uid, "Waiting")
    world.edit(uid, desiredState="stopped")
    await world.until(uid, "Stopped")
    world.edit(uid, desiredState="started")
    await world.until(uid, "Waiting")
    assert world.sources.asked == [uid]
    del world.sources.has["carrier"]
    world.edit(uid, pageSize=7)
    message = (await world.until(uid, "SourceInvalid"))["message"]
    assert message == (
        "spec.indexPattern 'flights': spec.groups.terms.fields: the source has no field 'carrier': there are "
        "'distance', 'origin', 'time_hour'"
    )
    world.sources.has["carrier"] = "keyword"
    world.store_edition = 2
    for listener in world.listeners:
        listener(("a", "default"))
    await world.until(uid, "Waiting")
    assert world.sources.asked == [uid] * 3
    await world.end()


@pytest.mark.parametrize("error", [SourceNotFound("it is not there"), StoreUnavailable("it does not answer")])
async def test_what_may_pass_is_reconciling_and_is_checked_again_by_itself(error: StoreError) -> None:
    world = World()
    world.sources.error = error
    world.sources.answer.set()
    uid = world.create("a", 1)
    condition = await world.until(uid, error.reason)
    assert (condition["status"], condition["message"]) == ("False", str(error))
    assert {c["type"] for c in world.bodies[uid]["status"]["conditions"]} == {"Ready", "Reconciling"}
    world.sources.error = None
    assert (await world.until(uid, "Waiting"))["status"] == "True"
    assert "lastRun" not in world.bodies[uid]["status"]
    await world.end()


async def test_a_job_that_is_stopped_while_its_source_is_checked_reads_stopped_once_nothing_is_asked() -> None:
    world = World()
    uids = [world.create("a", n, store=f"s{n % 4}") for n in range(20)]
    await world.busy_with(CHECKS_AT_ONCE // 2)
    for uid in uids:
        world.edit(uid, desiredState="stopped")
    for uid in uids:
        await world.until(uid, "Stopped")
    assert not world.sources.now
    assert len(world.sources.asked) < len(uids)
    await world.end()


async def test_a_job_reads_stopped_once_no_verification_reads_its_source() -> None:
    world = World()
    world.sources.answer.set()
    uid, idle = world.create("a", 1), world.create("a", 2)
    for each in (uid, idle):
        await world.until(each, "Waiting")
    with world.index.reading(uid), world.index.reading("unknown"):
        for each in (uid, idle):
            world.edit(each, desiredState="stopped")
        await world.until(idle, "Stopped")
        message = (await world.until(uid, "Stopping"))["message"]
        assert message == "the job is being stopped; a verification that reads its source is ending"
        async with asyncio.timeout(20):
            while world.index.explain(uid) != "a verification reads its source in this process":  # noqa: ASYNC110
                await asyncio.sleep(0.005)  # it may have been claimed: the store is asked
    await world.until(uid, "Stopped")
    assert [status["state"] for of, status in world.shown if of == uid][-2:] == ["stopping", "stopped"]
    await world.end()


class Idle:
    """The session of a run that has nothing to do: it asks for no source."""

    async def open(self) -> None:
        """Nothing to wait for."""

    async def claim(self) -> Claim:
        return Claim(("flights", "j1"), "me", 1, None, None, JobStats())

    async def commit_watermark(self, claim: Claim, watermark_ms: int | None, stats: JobStats) -> Claim:
        return replace(claim, watermark_ms=watermark_ms, stats=stats)

    async def publish(self, claim: Claim) -> Claim:
        return claim

    async def release(self, _: Claim) -> bool:
        return True

    async def close(self) -> None:
        """Nothing to close."""

    def halt(self) -> None:
        """Nothing to end."""

    def in_flight(self) -> str | None:
        return None

    def notes(self) -> list[str]:
        return []


async def test_a_run_that_had_nothing_to_do_leaves_what_a_check_has_found(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(world.sources, "session", lambda *_: Idle(), raising=False)
    world.sources.answer.set()
    del world.sources.has["carrier"]
    uid = world.create("a", 1, spec={"start": "2099-01-01T00:00:00Z"})
    await world.until(uid, "SourceInvalid")
    world.request(uid, "now")
    status = await world.ran(uid)
    assert status["lastRun"]["message"].startswith("nothing is due before the bucket of 2099-01-01T00:00:00")
    async with asyncio.timeout(20):
        while len(world.sources.asked) < 2:  # noqa: ASYNC110 - the source is checked again
            await asyncio.sleep(0.005)
    ends = [shown for of, shown in world.shown if of == uid and "lastRun" in shown]
    assert {shown["conditions"][0]["reason"] for shown in ends} == {"SourceInvalid"}
    assert {shown["failedCheck"]["reason"] for shown in ends} == {"SourceInvalid"}
    world.sources.has["carrier"] = "keyword"
    world.request(uid, "again")
    await world.until(uid, "Waiting")
    assert "failedCheck" not in world.bodies[uid]["status"]
    await world.end()


async def test_a_process_that_begins_after_a_failed_check_checks_and_does_not_run() -> None:
    world = World()
    failed = [
        {**ready(1)[0], "type": kind, "status": status, "reason": "SourceNotFound", "message": "it is not there"}
        for kind, status in (("Ready", "False"), ("Reconciling", "True"))
    ]
    uid = world.create("a", 1, state="started", observedGeneration=1, conditions=failed)
    world.sources.answer.set()
    await world.until(uid, "Waiting")
    assert world.sources.asked == [uid]
    await world.end()


def test_a_job_that_never_comes_to_run_is_invalid_whatever_its_source_is() -> None:
    facts = replace(NEW, schedule=None, invalid="spec.cron: it cannot be read", next_tick=None)
    decision = decide(STARTED, facts, NOW + timedelta(seconds=1))
    assert (decision.act, decision.reason, decision.stalled) == (Act.NOTHING, Reason.INVALID_SPEC, True)
