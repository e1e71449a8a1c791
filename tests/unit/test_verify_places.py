"""Verifications by spec.verify share the places of the process: a cluster that is away keeps none of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from rollup_operator.indexer.progress import Progress
from rollup_operator.kube.client import Unreachable
from rollup_operator.lifecycle.jobs import actors as actors_module
from rollup_operator.lifecycle.jobs import verify_task
from rollup_operator.lifecycle.jobs.actor import Actor
from rollup_operator.lifecycle.jobs.run_facts import RunKind
from rollup_operator.lifecycle.jobs.run_task import Ended, Work, Worker
from rollup_operator.lifecycle.jobs.verify_task import VerifyWork
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.lifecycle.telemetry import NoObserver
from rollup_operator.model.job import VerifyMode
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import VerificationOutcome
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.errors import StoreUnavailable
from support.embedded import spec
from unit.test_actor import Outside, environment, raw
from unit.test_jobs_known import body, known_by


class Away:
    """A cluster that does not answer. What was asked may still be in progress there, so a verification does not end."""

    distribution = "opensearch"

    @asynccontextmanager
    async def verification(self, *_: object, awaited: bool) -> AsyncIterator["Away"]:
        assert awaited
        try:
            yield self
        finally:
            await asyncio.Event().wait()

    async def begin(self, _: object) -> None:
        raise StoreUnavailable("it does not answer")


class Lost(Away):
    """The same, where a request that was not answered may still begin: what waits for that goes on when cancelled."""

    @asynccontextmanager
    async def verification(self, *_: object, awaited: bool) -> AsyncIterator["Away"]:
        try:
            yield self
        finally:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await asyncio.Event().wait()


class Stores:
    """One cluster is away, one cannot even be opened, and the others can be used no more than that."""

    async def open(self, key: tuple[str, str]) -> Away:
        if key[1] in ("away", "lost"):
            return Away() if key[1] == "away" else Lost()
        if key[1] == "silent":
            await asyncio.Event().wait()
        raise StoreUnavailable("it says so at once")


def job(namespace: str, n: int, store: str, *, mode: str = "Auto") -> JobView:
    wanted = spec().model_dump(mode="json", by_alias=True, exclude_none=True)
    wanted |= {"storeRef": {"name": store}, "verify": {"cron": "0 0 3 * * ?", "mode": mode}}
    status = {"state": "started", "observedGeneration": 1, "watermark": "2026-01-01T11:00:00Z"}
    uid = f"{namespace}-{store}-{n}"
    meta = {"uid": uid, "namespace": namespace, "name": uid, "generation": 1, "resourceVersion": "1"}
    return JobView.of({"metadata": meta, "spec": wanted, "status": status})


def newest(view: JobView) -> Callable[[], JobView]:
    return lambda: view


async def test_a_verification_whose_cluster_is_away_waits_without_a_place() -> None:
    worker = Worker(cast("Any", Stores()), "me", "here", lambda: datetime.now(UTC), Gate())
    waiting = [worker.verify(newest(job(namespace, n, "away"))) for namespace in "abc" for n in range(3)]
    others = [worker.verify(newest(job(namespace, 9, "other"))) for namespace in "ad"]
    async with asyncio.timeout(10):
        await asyncio.wait({work.task for work in others})
    assert not any(work.task.done() for work in waiting)
    assert worker.verifications.taken == 0
    for work in waiting:
        work.task.cancel()
    await asyncio.wait({work.task for work in waiting})


async def test_a_store_that_does_not_answer_leaves_the_other_stores_of_its_namespace_a_place() -> None:
    worker = Worker(cast("Any", Stores()), "me", "here", lambda: datetime.now(UTC), Gate())
    waiting = [worker.verify(newest(job("a", n, "silent"))) for n in range(3)]
    other = worker.verify(newest(job("a", 4, "other")))
    async with asyncio.timeout(10):
        assert (await other.task).retry
    assert worker.verifications.taken == 1
    for work in waiting:
        work.task.cancel()
    await asyncio.wait({work.task for work in waiting})
    assert worker.verifications.taken == 0


async def test_a_deletion_whose_store_is_gone_waits_for_no_verification_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of runs: what may still be in progress in a cluster that is gone for good keeps no job."""
    monkeypatch.setattr(verify_task, "AGAIN", 0.01, raising=False)
    outside, gate = Outside(), Gate()
    monkeypatch.setattr(outside, "edition", lambda _: "s")
    gate.lead()
    deleted = raw(1, "started")
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    actor = Actor(JobView.of(deleted), environment(outside, gate))
    work = verifying_lost(actor, gate)
    async with asyncio.timeout(10):
        while work.progress.doing != "reading what is rolled up":  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.005)
        actor.lead()
        actor.wake()
        while work.facts(0.0).halted is None:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)
        assert not work.task.done()
        monkeypatch.setattr(outside, "edition", lambda _: None)
        actor.store_changed()
        assert await outside.begun.get() is RunKind.SETTLE
    gate.shut()
    actor.stand_down()


def verifying_lost(actor: Actor, gate: Gate) -> VerifyWork:
    """Let the actor verify a job whose store never answers."""
    worker = Worker(cast("Any", Stores()), "me", "here", lambda: datetime.now(UTC), gate)
    work = worker.verify(newest(job("a", 1, "lost")))
    work.task.add_done_callback(actor._verified)
    actor._verification.work = work
    return work


async def test_a_process_that_leads_no_more_waits_for_no_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next leader does: it settles each job before the job reads stopped."""
    monkeypatch.setattr(verify_task, "AGAIN", 0.01)
    outside, gate = Outside(), Gate()
    gate.lead()
    actor = Actor(JobView.of(raw(1, "started")), environment(outside, gate))
    work = verifying_lost(actor, gate)
    async with asyncio.timeout(10):
        while work.progress.doing != "reading what is rolled up":  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.005)
        gate.shut()
        actor.stand_down()
        await asyncio.wait({work.task})
    assert not actor.busy


async def test_a_stop_settles_the_place_in_which_one_was_given_up_wherever_the_store_leads_by_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verify_task, "AGAIN", 0.01)
    outside, gate, asked = Outside(), Gate(), list[dict[str, Any]]()
    begin = outside.begin

    def begun(kind: RunKind, view: JobView, **more: Any) -> Any:
        asked.append(more)
        return begin(kind, view, **more)

    monkeypatch.setattr(outside, "begin", begun)
    gate.lead()
    actor = Actor(JobView.of(raw(1, "started")), environment(outside, gate))
    work = verifying_lost(actor, gate)
    async with asyncio.timeout(10):
        while work.progress.doing != "reading what is rolled up":  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.005)
        gate.shut()
        actor.stand_down()
        await asyncio.wait({work.task})
        actor.observe(JobView.of(raw(2, "stopped")))
        gate.lead()
        actor.lead()
        actor.wake()
        assert await outside.begun.get() is RunKind.SETTLE
    assert ([type(store) for store in asked[0]["held"]], asked[0]["verified"]) == ([Lost], True)
    gate.shut()
    actor.stand_down()


async def test_a_run_in_the_place_in_which_one_was_given_up_leaves_it_to_the_stop_to_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run releases its claim and ends its own searches, and no others."""
    monkeypatch.setattr(verify_task, "AGAIN", 0.01)
    outside, gate, asked = Outside(), Gate(), list[dict[str, Any]]()
    fails = [True]

    async def ended(kind: RunKind) -> Ended:
        if kind is RunKind.SETTLE and fails.pop():
            return Ended(settled=False, held=asked[-1]["held"])  # as where that place cannot be reached
        return Ended(settled=True, held=())

    def begun(kind: RunKind, view: JobView, **more: Any) -> Work:
        asked.append(more)
        outside.begun.put_nowait(kind)
        return Work(kind, 0.0, view.deleting, Progress(), asyncio.ensure_future(ended(kind)), lambda: None)

    monkeypatch.setattr(outside, "begin", begun)
    gate.lead()
    actor = Actor(JobView.of(raw(1, "started")), environment(outside, gate))
    work = verifying_lost(actor, gate)
    async with asyncio.timeout(10):
        while work.progress.doing != "reading what is rolled up":  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.005)
        gate.shut()
        actor.stand_down()
        await asyncio.wait({work.task})
        gate.lead()
        actor.lead()
        for n, (desired, kind) in enumerate(
            [("started", RunKind.INDEX), ("stopped", RunKind.SETTLE), ("started", RunKind.INDEX)], start=2
        ):
            actor.observe(JobView.of(raw(n, desired, request=str(n) if desired == "started" else "")))
            assert await outside.begun.get() is kind
        fails.append(False)
        actor.observe(JobView.of(raw(5, "stopped")))
        assert await outside.begun.get() is RunKind.SETTLE
    assert [[type(store) for store in each["held"]] for each in asked] == [[], [Lost], [], [Lost]]
    assert [each["verified"] for each in asked[1::2]] == [True, True]
    gate.shut()
    actor.stand_down()


async def test_a_verification_that_takes_too_long_is_ended_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that answers slowly for ever would keep its place for ever."""
    monkeypatch.setattr(verify_task, "LONGEST_SECONDS", 0.05, raising=False)
    worker = Worker(cast("Any", Stores()), "me", "here", lambda: datetime.now(UTC), Gate())
    work = worker.verify(newest(job("a", 1, "silent")))
    async with asyncio.timeout(10):
        ended = await work.task
    assert (ended.report.outcome, ended.retry) == (VerificationOutcome.FAILED, False)
    assert ended.report.message.startswith("it took longer than 0 hours: set spec.verify.lookback, or mode to Counts")
    assert worker.verifications.taken == 0


async def test_an_end_that_cannot_be_reported_counts_all_the_same_and_wakes_the_job() -> None:
    """A stop may wait for it."""

    class Failing(NoObserver):
        def verified(self, *_: object) -> None:
            raise OSError("no space left for the log")

    outside, gate = Outside(), Gate()
    gate.lead()
    actor = Actor(JobView.of(raw(1, "stopped")), environment(outside, gate, observer=Failing()))
    worker = Worker(cast("Any", Stores()), "me", "here", lambda: datetime.now(UTC), gate)
    work = worker.verify(newest(job("a", 1, "other")))
    work.task.add_done_callback(actor._verified)
    actor._verification.work = work
    async with asyncio.timeout(10):
        assert await outside.begun.get() is RunKind.SETTLE
    assert actor._shown().last_verification == (await work.task).report
    gate.shut()
    actor.stand_down()


async def test_one_that_waited_for_its_turn_verifies_the_job_as_it_is_then() -> None:
    """Hours may have passed, and what it was to do may have been corrected meanwhile."""
    asked: list[JobConfig] = []

    class Asked(Stores):
        async def open(self, key: tuple[str, str]) -> Away:
            return cast("Any", self)

        def verification(self, config: JobConfig, *, awaited: bool) -> Any:
            asked.append(config)
            raise StoreUnavailable("it says so at once")

    worker = Worker(cast("Any", Asked()), "me", "here", lambda: datetime.now(UTC), Gate())
    view = [job("a", 1, "other")]
    async with worker.verifications.taking("a"), worker.verifications.taking("a"):
        work = worker.verify(lambda: view[0])
        for _ in range(5):
            await asyncio.sleep(0)
        assert not asked
        view = [job("a", 1, "other", mode="Counts")]
    async with asyncio.timeout(10):
        await work.task
    (config,) = asked
    assert config.spec.verify is not None
    assert config.spec.verify.mode is VerifyMode.COUNTS


async def test_one_whose_spec_cannot_be_read_any_more_says_so() -> None:
    worker = Worker(cast("Any", Stores()), "me", "here", lambda: datetime.now(UTC), Gate())
    async with worker.verifications.taking("a"), worker.verifications.taking("a"):
        view = job("a", 1, "other")
        work = worker.verify(lambda: view)
        for _ in range(5):
            await asyncio.sleep(0)
        view = job("a", 1, "other", mode="Odd")
    async with asyncio.timeout(10):
        ended = await work.task
    assert (ended.report.outcome, ended.retry) == (VerificationOutcome.FAILED, False)
    assert ended.report.message.startswith("the spec cannot be read: kubectl rollup explain says why. ")
    assert worker.verifications.taken == 0


async def test_a_job_whose_spec_has_no_verify_any_more_is_verified_no_longer() -> None:
    outside, gate = Outside(), Gate()
    gate.lead()
    whole = raw(1, "started")
    whole["spec"] |= {"verify": {"cron": "0 0 3 * * ?"}}
    actor = Actor(JobView.of(whole), environment(outside, gate))
    worker = Worker(cast("Any", Stores()), "me", "here", lambda: datetime.now(UTC), gate)
    work = worker.verify(newest(job("a", 1, "silent")))
    work.task.add_done_callback(actor._verified)
    actor._verification.work = work
    async with asyncio.timeout(10):
        actor.lead()
        actor.wake()
        await outside.tried.wait()
        assert work.facts(0.0).halted is None
        actor.observe(JobView.of(raw(2, "started")))
        await asyncio.wait({work.task})
    assert work.task.cancelled()
    outside.end.set()
    gate.shut()
    actor.stand_down()


async def test_the_status_shows_what_was_verified_until_nothing_verifies_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next leader knows by that whether to wait for an end."""
    monkeypatch.setattr(verify_task, "AGAIN", 0.01)
    outside, gate, shown = Outside(), Gate(), asyncio.Queue[bool]()

    async def put(_: object, whole: dict[str, Any], **__: object) -> None:
        shown.put_nowait("Verified" in {condition["type"] for condition in whole["status"]["conditions"]})
        raise Unreachable("away", sent=False)

    monkeypatch.setattr(outside, "put", put)
    gate.lead()
    actor = Actor(JobView.of(raw(1, "started")), environment(outside, gate))
    work = verifying_lost(actor, gate)
    async with asyncio.timeout(10):
        while work.progress.doing != "reading what is rolled up":  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.005)
        actor.lead()
        actor.observe(JobView.of(raw(2, "started")))
        assert await shown.get()
        work.give_up()
        while await shown.get():
            pass
    assert work.task.cancelled()
    outside.end.set()
    gate.shut()
    actor.stand_down()


async def test_a_process_that_ends_waits_for_no_verification_whose_cluster_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All jobs would be without a leader meanwhile. The next one waits for it before the job reads stopped."""
    monkeypatch.setattr(verify_task, "AGAIN", 0.01)
    monkeypatch.setattr(actors_module, "VERIFICATION_SECONDS", 0.05, raising=False)
    gate = Gate()
    gate.lead()
    known = known_by(gate=gate)
    worker = Worker(cast("Any", Stores()), "me", "here", lambda: datetime.now(UTC), gate)
    work = worker.verify(newest(job("a", 1, "lost")))
    known.actors.observe(body("u", 1))
    actor = known.index.actor("u")
    assert actor is not None
    work.task.add_done_callback(actor._verified)
    actor._verification.work = work
    async with asyncio.timeout(10):
        while work.progress.doing != "reading what is rolled up":  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.005)
        gate.end()
        assert await known.actors.drain(9.0)
    assert work.task.cancelled()
    assert not actor._facts().settled
    known.close()
