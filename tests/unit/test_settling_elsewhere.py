"""A claim that could not be released in the place that a RollupStore named is settled there, wherever it leads now."""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from rollup_operator.indexer.run_slots import RunSlots
from rollup_operator.lifecycle.jobs.actor import Actor
from rollup_operator.lifecycle.jobs.run_facts import RunKind
from rollup_operator.lifecycle.jobs.run_task import Ended, Worker
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.model.conditions import Reason
from rollup_operator.model.job_view import JobView
from rollup_operator.stores.base import Claim, Settled
from rollup_operator.stores.errors import StoreError, StoreNotFound, StoreUnavailable
from unit.test_actor import Outside, environment, raw
from unit.test_run_ends import Scripted, at_once

AWAY = StoreUnavailable("no answer")


class Cluster(Scripted):
    """A cluster that holds the claim from the moment in which it was claimed until it is released or settled."""

    distribution = "opensearch"

    def __init__(self, place: str, failing: dict[str, Exception] | None = None) -> None:
        super().__init__(failing or {}, search=at_once)
        self.place: str | None = place
        self.held = False

    async def claim(self) -> Claim:
        self.held = True
        return await super().claim()

    async def release(self, claim: Claim) -> bool:
        released = await super().release(claim)
        self.held = False
        return released

    async def settle(self, *_: object, **__: object) -> Settled:
        await self._do("settle")
        self.held = False
        return Settled(None)


@dataclass
class Books:
    """The one RollupStore, and where it leads."""

    named: Cluster | StoreError

    async def open(self, _: object) -> Any:
        if isinstance(self.named, StoreError):
            raise self.named
        return self.named

    def slots(self, _: object) -> RunSlots:
        return RunSlots(1)

    def trouble(self, _: object) -> None:
        """It can be used."""

    def edition(self, _: object) -> tuple[str, int]:
        """It is always the same."""
        return "s", 1

    def held(self, *_: object) -> bool:
        """It tells of no claim."""
        return False


def worker(named: Cluster) -> tuple[Worker, Any]:
    gate = Gate()
    gate.lead()
    books: Any = Books(named)
    return Worker(books, "me", "here", lambda: datetime.now(UTC), gate), books


def view(asked: str = "started", **meta: Any) -> JobView:
    body = raw(1, asked)
    body["metadata"] |= meta
    return JobView.of(body)


DELETED = view(deletionTimestamp="2030-01-01T00:00:00Z")


async def run(of: Worker, kind: RunKind, *held: Any, job: JobView | None = None, delete: bool = False) -> Ended:
    return await of.begin(kind, job or view(), delete=delete, held=held).task


def lost() -> Cluster:
    """A cluster that stops to answer once a run has claimed its job."""
    return Cluster("a", {"write": AWAY, "release": AWAY})


async def test_a_stop_settles_the_place_in_which_the_claim_is() -> None:
    a, b = lost(), Cluster("b")
    work, books = worker(a)
    ended = await run(work, RunKind.INDEX)
    assert (ended.settled, ended.held) == (False, (a,))
    books.named = b
    ended = await run(work, RunKind.SETTLE, a)
    assert (ended.settled, ended.held) == (True, ())
    assert not a.held
    assert b.events == ["settle"]


async def test_a_stop_waits_for_the_place_in_which_the_claim_is() -> None:
    a, b = Cluster("a", {"settle": AWAY}), Cluster("b")
    work, _ = worker(b)
    ended = await run(work, RunKind.SETTLE, a)
    assert (ended.settled, ended.held, ended.mended) == (False, (a,), False)
    assert ended.trouble is not None
    assert (ended.trouble.reason, ended.trouble.transient) == (Reason.STORE_UNAVAILABLE, True)
    assert "named before" in ended.trouble.message
    assert "no answer" in ended.trouble.message


async def test_a_place_that_can_be_reached_is_settled_although_the_store_cannot() -> None:
    a = Cluster("a")
    work, _ = worker(Cluster("b", {"settle": AWAY}))
    ended = await run(work, RunKind.SETTLE, a)
    assert (ended.settled, ended.held) == (False, ())
    assert a.events == ["settle"]


async def test_a_good_run_elsewhere_leaves_the_claim_to_be_settled() -> None:
    a, b = Cluster("a"), Cluster("b")
    work, _ = worker(b)
    ended = await run(work, RunKind.INDEX, a)
    assert "release" in b.events
    assert (ended.settled, ended.held) == (False, (a,))


@pytest.mark.parametrize("kind", [RunKind.INDEX, RunKind.SETTLE])
async def test_a_place_that_is_reached_by_other_hosts_is_not_asked_by_the_hosts_of_before(kind: RunKind) -> None:
    a, same = Cluster("a", {"settle": AWAY}), Cluster("a")
    work, _ = worker(same)
    ended = await run(work, kind, a)
    assert (ended.settled, ended.held) == (True, ())
    assert a.events == []


async def test_a_place_that_does_not_answer_is_settled_at_the_next_try() -> None:
    a = Cluster("a", {"settle": AWAY})
    work, _ = worker(a)
    ended = await run(work, RunKind.SETTLE, a)
    assert (ended.settled, ended.held) == (False, (a,))


async def test_a_deletion_is_let_go_with_its_store() -> None:
    a = Cluster("a", {"settle": AWAY})
    work, books = worker(a)
    books.named = StoreNotFound("gone")
    assert (await run(work, RunKind.SETTLE, a, job=DELETED)).skipped


@pytest.mark.parametrize("delete", [False, True], ids=["Retain", "Delete"])
async def test_a_deletion_that_is_let_go_says_what_it_leaves(delete: bool) -> None:
    work, books = worker(Cluster("a"))
    books.named = StoreNotFound("no RollupStore named 'default': create it, and the job goes on by itself")
    skipped = (await run(work, RunKind.SETTLE, job=DELETED, delete=delete)).skipped
    assert skipped is not None
    assert "its documents and its record" in skipped
    assert ("although spec.deletionPolicy is Delete" in skipped) == delete
    assert "goes on by itself" not in skipped


@pytest.mark.parametrize("held", [False, True], ids=["the store named now", "the one named before"])
@pytest.mark.parametrize("delete", [False, True], ids=["Retain", "Delete"])
async def test_a_deletion_that_waits_for_a_store_names_the_way_out(held: bool, delete: bool) -> None:
    away = Cluster("a", {"settle": AWAY})
    work, _ = worker(Cluster("b") if held else away)
    before = (away,) if held else ()
    waiting = (await run(work, RunKind.SETTLE, *before, job=DELETED, delete=delete)).trouble
    assert waiting is not None
    assert "no answer" in waiting.message
    assert "delete RollupStore 'default'" in waiting.message
    assert "documents" in waiting.message
    stopping = (await run(work, RunKind.SETTLE, *before)).trouble  # which a RollupStore's end does not let go
    assert stopping is not None
    assert "delete RollupStore" not in stopping.message


async def test_a_job_reads_stopped_once_no_place_has_its_claim() -> None:
    a, b = lost(), Cluster("b")
    a.failing["settle"] = AWAY
    work, books = worker(a)
    body: dict[str, Any] = raw(1, "started", request="now")
    shown: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()

    class Kube(Outside):
        async def put(self, _: str, sent: dict[str, Any]) -> Any:  # type: ignore[override]  # answers, unlike Outside
            body["metadata"]["resourceVersion"] = str(int(body["metadata"]["resourceVersion"]) + 1)
            body["status"] = sent["status"]
            shown.put_nowait((sent["status"]["state"], a.held))
            if sent["status"]["state"] == "stopping":
                a.failing.clear()
            return {**body, "metadata": dict(body["metadata"])}

    outside: Any = Kube()
    actor = Actor(
        JobView.of({**body, "metadata": dict(body["metadata"])}),
        replace(environment(outside, work.gate), books=books, worker=work),
    )
    actor.lead()
    actor.wake()
    async with asyncio.timeout(10):
        while "close" not in a.events or actor._run is not None:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)
        assert a.held
        books.named = b
        body["metadata"] |= {"generation": 2, "resourceVersion": str(int(body["metadata"]["resourceVersion"]) + 1)}
        body["spec"]["desiredState"] = "stopped"
        actor.observe(JobView.of({**body, "metadata": dict(body["metadata"])}))
        states = []
        while (state := await shown.get())[0] != "stopped":
            states.append(state)
    assert ("stopping", True) in states
    assert not state[1], "it reads stopped, and the claim is held"
    work.gate.shut()
    actor.stand_down()


async def test_a_run_that_outlives_its_leadership_leaves_its_claim_where_it_was() -> None:
    a, b = Cluster("a"), Cluster("b")
    a.search = asyncio.Event().wait
    work, books = worker(a)
    body: dict[str, Any] = raw(1, "started", request="now")
    shown: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()

    class Kube(Outside):
        async def put(self, _: str, sent: dict[str, Any]) -> Any:  # type: ignore[override]  # answers, unlike Outside
            body["metadata"]["resourceVersion"] = str(int(body["metadata"]["resourceVersion"]) + 1)
            body["status"] = sent["status"]
            shown.put_nowait((sent["status"]["state"], a.held))
            return {**body, "metadata": dict(body["metadata"])}

    outside: Any = Kube()
    actor = Actor(
        JobView.of({**body, "metadata": dict(body["metadata"])}),
        replace(environment(outside, work.gate), books=books, worker=work),
    )
    actor.lead()
    actor.wake()
    async with asyncio.timeout(10):
        while "describe" not in a.events:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)
        work.gate.shut()
        actor.stand_down()
        while actor.busy:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)
        assert a.held
        books.named = b
        work.gate.lead()
        actor.lead()
        body["metadata"] |= {"generation": 2, "resourceVersion": str(int(body["metadata"]["resourceVersion"]) + 1)}
        body["spec"]["desiredState"] = "stopped"
        actor.observe(JobView.of({**body, "metadata": dict(body["metadata"])}))
        while (state := await shown.get())[0] != "stopped":
            pass
    assert not state[1], "it reads stopped, and the claim is held"
    work.gate.shut()
    actor.stand_down()
