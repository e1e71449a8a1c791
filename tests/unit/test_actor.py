"""An actor whose process comes to lead, ceases to, and leads again; whose turn fails; whose API server goes back."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Mapping
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import ReferenceType, ref

import pytest

from rollup_operator.indexer.progress import Progress
from rollup_operator.kube.client import Conflict, Unreachable
from rollup_operator.lifecycle.jobs import actor as actor_module
from rollup_operator.lifecycle.jobs import retry, rivals
from rollup_operator.lifecycle.jobs.actor import Actor
from rollup_operator.lifecycle.jobs.context import JobContext
from rollup_operator.lifecycle.jobs.run_facts import RunKind
from rollup_operator.lifecycle.jobs.run_task import Ended, Work
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.lifecycle.telemetry import NoObserver
from rollup_operator.model.base import ALSO_WATCHED_BY, DRAIN_FINALIZER
from rollup_operator.model.conditions import Reason, Trouble
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import JobStats
from rollup_operator.stores.base import Claim
from support.bodies import job
from support.observed_job import at


class Outside:
    """Stores, events and an API server that takes no write. Runs settle; those that index go on until `end`."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[RunKind] = asyncio.Queue()
        self.tried, self.busy, self.end = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.is_held: bool | None = False
        self.noted: list[dict[str, str]] = []
        self.away: Exception = Unreachable("away", sent=False)

    def trouble(self, _: object) -> None:
        """All stores can be used."""

    def edition(self, _: object) -> tuple[str, int]:
        """It is always the same."""
        return "s", 1

    def held(self, _: object) -> bool | None:
        """Whether the store lists a claim."""
        return self.is_held

    def record(self, *_: object) -> None:
        """Nobody reads events."""

    async def put(self, *_: object, **__: object) -> None:
        self.tried.set()
        raise Unreachable("away", sent=False)

    async def patch(self, _: object, body: Mapping[str, Any], **__: object) -> None:
        self.noted.append(body["metadata"]["annotations"])
        raise self.away

    def begin(self, kind: RunKind, view: JobView, **_: object) -> Work:
        self.begun.put_nowait(kind)
        task = asyncio.ensure_future(self._settled() if kind is RunKind.SETTLE else self._stubborn())
        return Work(kind, 0.0, view.deleting, Progress(), task, lambda: None)

    async def _settled(self) -> Ended:
        return Ended(settled=True)

    async def _stubborn(self) -> Ended:
        self.busy.set()
        while not self.end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.end.wait()
        return Ended(settled=None)


def body(generation: int, asked: str, *, request: str = "") -> JobView:
    return JobView.of(raw(generation, asked, request=request))


def raw(generation: int, asked: str, *, request: str = "") -> dict[str, Any]:
    whole: dict[str, Any] = job(desiredState=asked)
    whole["metadata"] |= {
        "uid": "u",
        "namespace": "n",
        "generation": generation,
        "resourceVersion": str(generation),
        "finalizers": [DRAIN_FINALIZER],
        "annotations": {"rollup-operator.dev/run-requested-at": request} if request else {},
    }
    return whole | {"status": {"state": "started", "observedGeneration": generation, "conditions": ready(generation)}}


def ready(generation: int) -> list[dict[str, Any]]:
    """The conditions of a job that has been found good."""
    condition = {"type": "Ready", "status": "True", "reason": "Running", "message": "", "lastTransitionTime": at(0)}
    return [condition | {"observedGeneration": generation}]


def environment(outside: Outside, gate: Gate, **seams: Any) -> JobContext:
    parts: Any = outside
    return JobContext(
        kube=parts,
        books=parts,
        events=parts,
        worker=parts,
        gate=gate,
        **{
            "now": lambda: datetime.now(UTC),
            "published": lambda _: None,
            "forget": lambda _: None,
            "observer": NoObserver(),
        }
        | seams,
    )


async def test_a_request_begins_one_run_however_often_its_status_cannot_be_written() -> None:
    outside, gate = Outside(), Gate()
    outside.end.set()
    gate.lead()
    actor = Actor(body(1, "started", request="now"), environment(outside, gate))
    actor.lead()
    actor.wake()
    async with asyncio.timeout(10):
        assert await outside.begun.get() is RunKind.INDEX
        for _ in range(3):
            outside.tried.clear()
            await outside.tried.wait()
    assert outside.begun.empty()
    gate.shut()
    actor.stand_down()


async def test_a_claim_that_is_listed_after_the_job_was_settled_is_settled_too() -> None:
    """For instance since the hosts of its RollupStore lead to another cluster now, where a dead process left it."""
    outside, gate = Outside(), Gate()
    gate.lead()
    actor = Actor(body(1, "stopped"), environment(outside, gate))
    actor.lead()
    for listed in (True, None, True):
        outside.is_held = listed
        actor.store_changed()
        outside.tried.clear()
        async with asyncio.timeout(10):
            await outside.tried.wait()
            if listed:
                assert await outside.begun.get() is RunKind.SETTLE
        for _ in range(3):
            actor.store_changed()  # the list still shows the claim that was settled
            await asyncio.sleep(0.01)
        assert outside.begun.empty()
    gate.shut()
    actor.stand_down()


async def test_a_requested_run_that_ends_since_the_lease_was_late_begins_again() -> None:
    outside, gate = Outside(), Gate()
    gate.lead()
    actor = Actor(body(1, "started", request="now"), environment(outside, gate))
    actor.lead()
    actor.wake()
    async with asyncio.timeout(10):
        assert await outside.begun.get() is RunKind.INDEX
        await outside.tried.wait()  # in vain: no status can say that the request is handled
        gate.lead(begin_until=0.0)
        actor.recheck()
        outside.end.set()
        while actor.busy:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)
        assert outside.begun.empty()
        gate.lead()
        actor.recheck()
        assert await outside.begun.get() is RunKind.INDEX
    gate.shut()
    actor.stand_down()


async def test_how_a_run_ends_that_outlives_its_leadership_settles_nothing() -> None:
    outside, gate = Outside(), Gate()
    actor = Actor(body(1, "stopped"), environment(outside, gate))
    async with asyncio.timeout(10):
        gate.lead()
        actor.lead()
        actor.wake()
        assert await outside.begun.get() is RunKind.SETTLE
        await outside.tried.wait()
        actor.observe(body(2, "started", request="now"))
        assert await outside.begun.get() is RunKind.INDEX
        await outside.busy.wait()
        gate.shut()
        actor.stand_down()
        # Whoever led meanwhile may have left a claim.
        gate.lead()
        actor.lead()
        actor.wake()
        actor.observe(body(3, "stopped"))
        outside.end.set()
        assert await outside.begun.get() is RunKind.SETTLE
    gate.shut()
    actor.stand_down()


async def test_a_body_that_comes_while_a_turn_fails_waits_for_no_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor_module, "backoff", lambda *_: 3600.0)
    outside, gate = Outside(), Gate()
    gate.lead()

    async def put(*_: object, **__: object) -> None:
        if actor.view.generation == 1:
            actor.observe(body(2, "started", request="now"))
            raise ValueError("a mistake")
        await asyncio.Event().wait()

    outside.put = put  # type: ignore[method-assign]
    actor = Actor(body(1, "stopped"), environment(outside, gate))
    async with asyncio.timeout(10):
        actor.lead()
        actor.wake()
        assert [await outside.begun.get() for _ in range(2)] == [RunKind.SETTLE, RunKind.INDEX]
    outside.end.set()
    gate.shut()
    actor.stand_down()


async def test_a_run_whose_end_cannot_be_shown_does_not_keep_the_job_from_its_next_turn() -> None:
    outside, gate = Outside(), Gate()
    gate.lead()
    far = Claim(("hourly", "flights"), "me", 1, None, 10**18, JobStats())  # a watermark that no calendar has

    async def settled() -> Ended:
        return Ended(settled=True, claim=far)

    shown: asyncio.Queue[str] = asyncio.Queue()

    async def put(_: object, status: dict[str, Any], **__: object) -> None:
        shown.put_nowait(status["status"]["state"])
        await asyncio.Event().wait()

    outside._settled, outside.put = settled, put  # type: ignore[method-assign]
    actor = Actor(body(1, "stopped"), environment(outside, gate))
    async with asyncio.timeout(10):
        actor.lead()
        actor.wake()
        assert await shown.get() == "stopped"
    gate.shut()
    actor.stand_down()


@pytest.mark.parametrize("first", [(3, 136), (2, 140)])
async def test_a_generation_that_went_back_while_versions_grew_tells_of_a_restore(first: tuple[int, int]) -> None:
    def at(generation: int, version: int) -> JobView:
        whole = raw(generation, "stopped")
        whole["metadata"]["resourceVersion"] = str(version)
        return JobView.of(whole)

    found: list[str] = []
    actor = Actor(at(*first), environment(Outside(), Gate(), went_back=found.append))
    actor.observe(at(first[0], first[1] - 1))
    actor.observe(at(first[0], first[1] + 1))
    actor.observe(at(first[0] + 1, first[1] + 2))
    assert found == []
    actor = Actor(at(*first), environment(Outside(), Gate(), went_back=found.append))
    actor.observe(at(*{(3, 136): (2, 140), (2, 140): (3, 136)}[first]))
    assert len(found) == 1


async def test_an_object_with_an_older_version_than_before_tells_of_a_restore() -> None:
    outside, gate, found = Outside(), Gate(), asyncio.Queue[str]()
    gate.lead()
    older = body(1, "started")

    async def put(*_: object, **__: object) -> None:
        raise Conflict(409, "Conflict", "the object has been modified")

    async def get(*_: object, **__: object) -> dict[str, Any]:
        return raw(1, "started")

    outside.put, outside.get = put, get  # type: ignore[method-assign, attr-defined]
    actor = Actor(body(5, "stopped"), environment(outside, gate, went_back=found.put_nowait))
    async with asyncio.timeout(10):
        actor.lead()
        actor.wake()
        why = await found.get()
    assert why == f"RollupJob n/flights is of resourceVersion {older.version}, and 5 was seen before"
    assert actor.view.version == 5
    gate.shut()
    actor.stand_down()


async def test_a_change_that_comes_during_a_run_that_fails_for_good_is_tried() -> None:
    outside, gate = Outside(), Gate()
    gate.lead()

    async def refused() -> Ended:
        await outside.end.wait()
        return Ended(settled=True, trouble=Trouble(Reason.RUN_FAILED, "the old host refuses", transient=False))

    async def put(_: object, status: dict[str, Any], **__: object) -> dict[str, Any]:
        whole = raw(1, "started", request="now")
        whole["metadata"]["resourceVersion"] = str(actor.view.version + 1)
        return whole | {"status": status["status"]}

    outside._stubborn, outside.put = refused, put  # type: ignore[method-assign, assignment]
    actor = Actor(body(1, "started", request="now"), environment(outside, gate))
    async with asyncio.timeout(10):
        actor.lead()
        actor.wake()
        assert await outside.begun.get() is RunKind.INDEX
        actor.store_changed()
        outside.end.set()
        assert await outside.begun.get() is RunKind.INDEX
    gate.shut()
    actor.stand_down()


@pytest.mark.parametrize("state", ["indexing", "stopping", "started"])
async def test_a_job_that_ran_is_settled_before_it_reads_stopped_though_its_finalizer_is_gone(state: str) -> None:
    outside, gate = Outside(), Gate()
    gate.lead()
    whole = raw(2, "stopped")
    del whole["metadata"]["finalizers"]
    position = {"time_hour.date_histogram": 1}
    whole["status"] = {"state": state, "observedGeneration": 1, "position": position}
    actor = Actor(JobView.of(whole), environment(outside, gate))
    async with asyncio.timeout(10):
        actor.lead()
        actor.wake()
        assert await outside.begun.get() is RunKind.SETTLE
    gate.shut()
    actor.stand_down()


async def test_a_policy_that_is_set_while_a_deletion_settles_counts() -> None:
    outside, gate = Outside(), Gate()
    gate.lead()
    deletes: asyncio.Queue[bool] = asyncio.Queue()

    def begin(kind: RunKind, view: JobView, *, delete: bool, **_: object) -> Work:
        deletes.put_nowait(delete)
        task = asyncio.ensure_future(outside._stubborn())
        return Work(kind, 0.0, view.deleting, Progress(), task, lambda: None)

    async def settled() -> Ended:
        await outside.end.wait()
        return Ended(settled=True)

    def deleting(generation: int, policy: str) -> JobView:
        whole = raw(generation, "started")
        whole["spec"]["deletionPolicy"] = policy
        whole["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
        return JobView.of(whole)

    outside.begin, outside._stubborn = begin, settled  # type: ignore[method-assign, assignment]
    actor = Actor(deleting(2, "Retain"), environment(outside, gate))
    async with asyncio.timeout(10):
        actor.lead()
        actor.wake()
        assert await deletes.get() is False
        actor.observe(deleting(3, "Delete"))
        outside.end.set()
        assert await deletes.get() is True
    gate.shut()
    actor.stand_down()


async def test_no_actor_keeps_the_event_that_woke_it() -> None:
    class Event:
        """What the watch has brought."""

    handled: ContextVar[Event] = ContextVar("handled")

    def hear(actor: Actor, newer: JobView) -> ReferenceType[Event]:
        event = Event()
        handled.set(event)
        actor.observe(newer)
        return ref(event)

    outside, gate = Outside(), Gate()
    gate.lead()
    actor = Actor(body(1, "started"), environment(outside, gate))
    async with asyncio.timeout(10):
        heard = copy_context().run(hear, actor, body(2, "started"))
        await outside.tried.wait()  # its write has failed, so a turn and a timer have begun
    gc.collect()
    assert heard() is None
    actor.stand_down()


async def test_another_spec_of_the_same_generation_is_read_anew() -> None:
    """Etcd was restored, and the spec edited since."""

    class Writes(Outside):
        async def put(self, _: str, written: Any, **__: object) -> None:
            conditions.put_nowait(written["status"]["conditions"])
            raise Unreachable("away", sent=False)

    conditions: asyncio.Queue[list[dict[str, Any]]] = asyncio.Queue()
    outside, gate = Writes(), Gate()
    gate.lead()
    actor = Actor(body(2, "stopped"), environment(outside, gate))
    async with asyncio.timeout(10):
        actor.wake()
        await outside.begun.get()
        other = raw(2, "started")
        other["spec"]["pageSize"] = 20_000
        other["metadata"]["resourceVersion"] = "3"
        actor.observe(JobView.of(other))
        while not any(c["reason"] == "InvalidSpec" for c in await conditions.get()):
            pass
    assert outside.begun.empty()
    actor.stand_down()


class Answering(Outside):
    """An API server that carries out each write of a status."""

    def __init__(self, whole: dict[str, Any]) -> None:
        super().__init__()
        self.whole, self.writes = whole, 0
        self.written = asyncio.Event()

    async def put(self, _: str, body: dict[str, Any], **__: object) -> dict[str, Any]:  # type: ignore[override]
        self.writes += 1
        self.written.set()
        return self.replaced(body["status"])

    def replaced(self, status: dict[str, Any]) -> dict[str, Any]:
        """Return the job with another status, one version later."""
        version = str(int(self.whole["metadata"]["resourceVersion"]) + 1)
        self.whole = self.whole | {"metadata": self.whole["metadata"] | {"resourceVersion": version}, "status": status}
        return self.whole

    def in_other_words(self) -> JobView:
        """Return the job as another process that believes it leads publishes it."""
        conditions = [c | {"reason": "StoreUnavailable", "message": "away"} for c in self.whole["status"]["conditions"]]
        return JobView.of(self.replaced(self.whole["status"] | {"conditions": conditions}))


async def test_a_start_that_only_the_answer_to_a_stop_s_write_shows_is_carried_out() -> None:
    """Etcd was restored, the start was asked for then, and the watch says nothing of it."""
    before, since = raw(2, "stopped"), raw(2, "started")
    for whole in (before, since):
        whole["metadata"]["finalizers"] = []
        whole["status"]["state"] = "stopped"
    outside, gate = Answering(since), Gate()
    gate.lead()
    actor = Actor(JobView.of(before), environment(outside, gate))
    async with asyncio.timeout(10):
        actor.wake()
        await outside.begun.get()
    gate.shut()
    actor.stand_down()


async def at_rest(actor: Actor) -> None:
    """Let the actor have its turns."""
    while actor.busy:  # noqa: ASYNC110  # only a test waits for that
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def publishing() -> AsyncIterator[tuple[Actor, Answering]]:
    """An actor that has published its status once."""
    outside, gate = Answering(raw(1, "started")), Gate()
    gate.lead()
    actor = Actor(body(1, "started"), environment(outside, gate))
    actor.lead()
    actor.wake()
    async with asyncio.timeout(10):
        await outside.written.wait()
        await at_rest(actor)
        outside.written.clear()
        yield actor, outside
    gate.shut()
    actor.stand_down()


async def test_words_that_another_leader_replaces_are_not_fought_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_REPAIR", 600.0)
    monkeypatch.setattr(retry, "LAST_REPAIR", 600.0)
    async with publishing() as (actor, outside):
        for _ in range(20):
            actor.observe(outside.in_other_words())
            await at_rest(actor)
        assert outside.writes == 1
        actor.observe(JobView.of(outside.replaced(outside.whole["status"] | {"state": "stopped"})))
        await outside.written.wait()
        assert outside.whole["status"]["state"] == "started"


async def test_words_that_another_leader_replaced_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_REPAIR", 0.01)
    async with publishing() as (actor, outside):
        mine = outside.whole["status"]["conditions"]
        actor.observe(outside.in_other_words())
        await outside.written.wait()
        assert outside.whole["status"]["conditions"] == mine


class Leaving(NoObserver):
    """Notes to whom jobs are left."""

    def __init__(self) -> None:
        self.seen_as: list[str | None] = []

    def left(self, job: JobView, operator: str | None) -> None:
        self.seen_as.append(operator)


def of_operator(generation: int, operator: str, **status: Any) -> JobView:
    whole = raw(generation, "started")
    whole["metadata"]["resourceVersion"] = str(generation * 10 + len(status))
    whole["status"] |= {"operator": operator} | status
    return JobView.of(whole)


class Rivals(NoObserver):
    """Notes who leaves jobs to this operator."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def rival(self, job: JobView, operator: str) -> None:
        self.heard.append(operator)


def noted(version: int, by: str | None) -> JobView:
    whole = raw(1, "started")
    whole["metadata"] |= {"resourceVersion": str(version), "annotations": {ALSO_WATCHED_BY: by} if by else {}}
    return JobView.of(whole)


async def test_an_operator_hears_of_another_that_leaves_jobs_to_it_and_not_of_itself() -> None:
    gate, observer = Gate(), Rivals()
    gate.lead()
    actor = Actor(noted(10, None), environment(Outside(), gate, observer=observer, operator="ops/me"))
    for version, by in enumerate(["ops/other 2030-01-01T00:00:00Z", "ops/other 2030-01-01T00:00:00Z", "ops/me x", ""]):
        actor.observe(noted(11 + version, by))
    assert observer.heard == ["ops/other"]
    actor.observe(noted(20, "ops/other 2030-01-01T01:00:00Z"))
    assert observer.heard == ["ops/other"] * 2
    gate.shut()
    actor.observe(noted(21, "ops/third 2030-01-01T01:00:00Z"))
    assert observer.heard == ["ops/other"] * 2, "a standby says nothing"
    actor.stand_down()


async def test_a_job_that_another_operator_acts_on_is_left_alone_at_once_and_taken_over_when_its_run_is_overdue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outside, gate, observer = Outside(), Gate(), Leaving()
    gate.lead()
    mine = JobView.of(raw(1, "started", request="now") | {"status": of_operator(1, "ops/me").raw_status})
    actor = Actor(mine, environment(outside, gate, observer=observer, operator="ops/me"))
    actor.lead()
    actor.wake()
    asyncio.get_running_loop().call_later(9, outside.end.set)  # a run that never ends would hang a test that fails
    async with asyncio.timeout(10):
        assert await outside.begun.get() is RunKind.INDEX
        await outside.tried.wait()
        # It was away for so long that the other one has taken the job over.
        actor.observe(of_operator(2, "team/other", nextRunTime="2099-01-01T00:00:00Z"))
        while not actor.left:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)
        assert actor.is_others()
        assert "team/other acts on it" in actor.explain()
        (said,) = outside.noted
        assert said[ALSO_WATCHED_BY].startswith("ops/me 2")
        outside.end.set()
        outside.tried.clear()
        actor.wake()
        while actor.busy:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert not outside.tried.is_set()
        assert outside.begun.empty()
        # That one does not begin the run that is due.
        actor.observe(of_operator(2, "team/other", nextRunTime="2020-01-01T00:00:00Z", progress=None))
        assert await outside.begun.get() is RunKind.INDEX
    assert observer.seen_as == ["team/other", None]
    gate.shut()
    actor.stand_down()


@pytest.mark.parametrize("error", [Unreachable("away", sent=False), RuntimeError("a mistake")])
async def test_a_note_that_could_not_be_written_is_written_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for module in (actor_module, rivals):
        monkeypatch.setattr(module, "RETRY", 0.01, raising=False)
    outside, gate = Outside(), Gate()
    outside.away = error
    gate.lead()
    other = of_operator(2, "team/other", nextRunTime="2099-01-01T00:00:00Z")
    actor = Actor(other, environment(outside, gate, operator="ops/me"))
    actor.lead()
    actor.wake()
    async with asyncio.timeout(10):
        while len(outside.noted) < 3:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)
    gate.shut()
    actor.stand_down()


async def test_a_run_that_another_operator_missed_is_due_where_this_one_never_acted_on_the_job() -> None:
    outside, gate = Outside(), Gate()
    gate.lead()
    missed = (datetime.now(UTC) - timedelta(seconds=rivals.PATIENCE - 4.0)).strftime("%Y-%m-%dT%H:%M:%SZ")
    actor = Actor(of_operator(2, "team/other", nextRunTime=missed), environment(outside, gate, operator="ops/me"))
    actor.lead()
    actor.wake()
    async with asyncio.timeout(20):
        assert await outside.begun.get() is RunKind.INDEX
    outside.end.set()
    gate.shut()
    actor.stand_down()


@pytest.mark.parametrize(("listed", "settles"), [(False, False), (None, True), (True, True)])
async def test_a_store_that_comes_after_the_finalizer_lists_its_claims_before_the_job_reads_stopped(
    listed: bool | None, settles: bool
) -> None:
    """A predecessor of the job may have left its claim there."""
    whole = raw(1, "started", request="now")
    del whole["metadata"]["finalizers"]
    outside, gate = Answering(whole), Gate()

    async def json_patch(*_: object) -> dict[str, Any]:
        outside.whole["metadata"] = outside.whole["metadata"] | {"finalizers": [DRAIN_FINALIZER]}
        return outside.replaced(outside.whole["status"])

    outside.json_patch = json_patch  # type: ignore[attr-defined]
    outside.end.set()
    gate.lead()
    actor = Actor(JobView.of(whole), environment(outside, gate))
    actor.lead()
    actor.wake()
    async with asyncio.timeout(10):
        assert await outside.begun.get() is RunKind.INDEX  # which claims nothing: there is no store
        await at_rest(actor)
        outside.is_held = listed
        actor.store_changed()
        outside.written.clear()
        stopped = outside.replaced(outside.whole["status"])
        stopped["metadata"] |= {"generation": 2}
        stopped["spec"] = stopped["spec"] | {"desiredState": "stopped"}
        actor.observe(JobView.of(stopped))
        if settles:
            assert await outside.begun.get() is RunKind.SETTLE
        while outside.whole["status"]["state"] != "stopped":
            await outside.written.wait()
            outside.written.clear()
    assert outside.begun.empty()
    gate.shut()
    actor.stand_down()
