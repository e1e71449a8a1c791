"""A leader that is frozen may have left a verification under way in the cluster: a stop waits for its end."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from rollup_operator.indexer.progress import Progress
from rollup_operator.lifecycle.jobs.actor import Actor
from rollup_operator.lifecycle.jobs.run_facts import RunKind
from rollup_operator.lifecycle.jobs.run_task import Ended, Work, Worker
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.model.base import RUN_REQUESTED_AT
from rollup_operator.model.job_view import JobView
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.base import Settled
from support.bodies import job
from support.embedded import spec
from support.observed_job import at
from unit.test_actor import Outside, environment, raw

VERIFIED = {"type": "Verified", "status": "True", "reason": "Equal", "message": "", "lastTransitionTime": at(0)}


class Quiet(Outside):
    """Each run ends as it is halted, and has seen the store hold nothing more of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bool] = []

    def begin(self, kind: RunKind, view: JobView, *, verified: bool = False, **_: object) -> Work:
        self.begun.put_nowait(kind)
        if kind is RunKind.SETTLE:
            self.asked.append(verified)
        halted = asyncio.Event()

        async def work() -> Ended:
            if kind is not RunKind.SETTLE:
                await halted.wait()
            return Ended(settled=True)

        return Work(kind, 0.0, view.deleting, Progress(), asyncio.ensure_future(work()), halted.set)


def body(generation: int, asked: str, *, verifies: bool, shows: bool) -> JobView:
    """A job that is rolled up. `verifies`: it has spec.verify; `shows`: its status says what was verified."""
    whole = raw(generation, asked)
    wanted = spec().model_dump(mode="json", by_alias=True, exclude_none=True)
    whole["spec"] = wanted | {"desiredState": asked} | ({"verify": {"cron": "0 0 3 * * ?"}} if verifies else {})
    whole["metadata"]["annotations"] = {RUN_REQUESTED_AT: "now"}
    whole["status"]["watermark"] = "2026-01-01T11:00:00Z"
    if shows:
        whole["status"]["conditions"].append(VERIFIED | {"observedGeneration": generation})
    return JobView.of(whole)


@pytest.mark.parametrize(("before", "after", "asks"), [(True, True, True), (True, False, True), (False, False, False)])
async def test_a_stop_asks_for_the_verification_of_an_earlier_leader(before: bool, after: bool, asks: bool) -> None:
    """Although a run of this one has ended since, and spec.verify goes away with the stop."""
    outside, gate = Quiet(), Gate()
    gate.lead()
    actor = Actor(body(1, "started", verifies=before, shows=before), environment(outside, gate))
    async with asyncio.timeout(10):
        actor.lead()
        actor.wake()
        assert await outside.begun.get() is RunKind.INDEX
        actor.observe(body(2, "stopped", verifies=after, shows=before))
        if asks:
            assert await outside.begun.get() is RunKind.SETTLE
        await outside.tried.wait()
    assert outside.asked == [True] * asks
    assert outside.begun.empty()
    gate.shut()
    actor.stand_down()


async def test_a_stop_that_waits_for_it_shows_that_to_the_next_leader() -> None:
    """Although spec.verify went away with the stop: this leader may end before the wait does."""
    outside, gate, shown = Quiet(), Gate(), asyncio.Queue[tuple[str, bool]]()
    end = asyncio.Event()

    async def put(_: object, whole: dict[str, Any], **__: object) -> dict[str, Any]:
        status = whole["status"]
        shown.put_nowait((status["state"], "Verified" in {condition["type"] for condition in status["conditions"]}))
        answer = raw(2, "stopped")
        answer["metadata"]["resourceVersion"] = str(actor.view.version + 1)
        return answer | {"status": status}

    async def settled() -> Ended:
        await end.wait()
        return Ended(settled=True)

    def begin(kind: RunKind, view: JobView, **_: object) -> Work:
        return Work(kind, 0.0, view.deleting, Progress(), asyncio.ensure_future(settled()), end.set)

    outside.put, outside.begin = put, begin  # type: ignore[method-assign, assignment]
    gate.lead()
    actor = Actor(body(2, "stopped", verifies=False, shows=True), environment(outside, gate))
    async with asyncio.timeout(10):
        actor.lead()
        actor.wake()
        assert await shown.get() == ("stopping", True)
        end.set()
        assert await shown.get() == ("stopped", False)
    gate.shut()
    actor.stand_down()


async def test_it_asks_once() -> None:
    outside, gate = Quiet(), Gate()
    gate.lead()
    actor = Actor(body(1, "stopped", verifies=True, shows=True), environment(outside, gate))
    async with asyncio.timeout(10):
        actor.lead()
        actor.wake()
        assert await outside.begun.get() is RunKind.SETTLE
        actor.observe(body(2, "started", verifies=True, shows=True))
        assert await outside.begun.get() is RunKind.INDEX
        outside.tried.clear()
        actor.observe(body(3, "stopped", verifies=True, shows=True))
        await outside.tried.wait()
    assert outside.begun.empty()
    gate.shut()
    actor.stand_down()


@pytest.mark.parametrize("verified", [True, False])
async def test_settling_hands_on_whether_to_ask_for_it(verified: bool) -> None:
    asked: list[bool] = []

    async def settle(_: JobConfig, __: str, *, delete_documents: bool, verified: bool) -> Settled:
        asked.append(verified)
        return Settled(None)

    async def open_store(_: object) -> Any:
        return SimpleNamespace(settle=settle, place=None)

    gate = Gate()
    gate.lead()
    books: Any = SimpleNamespace(open=open_store)
    whole = job(desiredState="stopped")
    whole["metadata"] |= {"uid": "u", "namespace": "n", "generation": 1, "resourceVersion": "1"}
    worker = Worker(books, "me", "here", lambda: None, gate)  # type: ignore[arg-type,return-value]
    assert (await worker.begin(RunKind.SETTLE, JobView.of(whole), delete=False, verified=verified).task).settled
    assert asked == [verified]
