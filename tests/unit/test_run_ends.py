"""How a run ends where its store does what nobody foresaw: what may be left there is never taken for released."""

import asyncio
import gc
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from rollup_operator.indexer.run_slots import RunSlots
from rollup_operator.lifecycle.jobs.run_facts import RunKind
from rollup_operator.lifecycle.jobs.run_task import Worker
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import Outcome
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.base import Claim, Page, Settled
from rollup_operator.stores.errors import Fenced, StoreUnavailable
from support.bodies import job
from support.scripted import NOW, Scripted, at_once, beginning, ended


@pytest.mark.parametrize("step", ["release", "close"])
@pytest.mark.parametrize("error", [KeyError("_shards"), StoreUnavailable("gone")])
async def test_what_could_not_be_given_up_is_not_taken_for_released(step: str, error: Exception) -> None:
    result = await ended(Scripted({step: error}, search=at_once))
    assert result.released is False


async def test_a_fenced_run_that_left_something_is_not_taken_for_released() -> None:
    store = Scripted({"write": Fenced("taken over"), "release": StoreUnavailable("the tasks are not known")})
    store.search = at_once
    result = await ended(store)
    assert (result.outcome, result.released) == (Outcome.FENCED, False)


async def test_a_fenced_job_is_settled_again_before_it_reads_stopped() -> None:
    nothing: Any = None
    worker = Worker(nothing, "me", "here", lambda: NOW, nothing)
    fenced = Scripted({"write": Fenced("taken over")}, search=at_once, is_ours=False)
    assert (await worker._index(beginning(fenced))).settled is False
    assert (await worker._index(beginning(Scripted(search=at_once)))).settled


@pytest.mark.parametrize("failing", [{}, {"write": Fenced("taken over")}])
async def test_a_run_whose_claim_another_holder_has_is_not_released(failing: dict[str, Exception]) -> None:
    nothing: Any = None
    worker = Worker(nothing, "me", "here", lambda: NOW, nothing)
    store = Scripted(failing, search=at_once, is_ours=False)
    result = await ended(store)
    assert result.released is False
    assert (await worker._index(beginning(store))).settled is False


async def test_a_run_that_is_cancelled_releases_after_its_search_is_over() -> None:
    store = Scripted()
    searching = asyncio.Event()

    async def search() -> None:
        searching.set()
        await asyncio.Event().wait()

    store.search = search
    task = asyncio.ensure_future(beginning(store).index())
    await searching.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.events == ["claim", "describe", "search over", "release", "close"]


async def test_a_run_that_is_halted_while_it_writes_reads_no_further() -> None:
    """A job of the same name may take over meanwhile, and count on what it has looked for."""
    store, writing, written = Scripted(search=at_once), asyncio.Event(), asyncio.Event()

    async def write(claim: Claim, page: Page) -> Claim:
        writing.set()
        await written.wait()
        store.events.append("written")
        return claim

    store.write = write  # type: ignore[method-assign]
    run = beginning(store)
    task = asyncio.ensure_future(run.index())
    await writing.wait()
    run.halt()
    assert store.events == ["claim", "describe", "read", "halt"]
    written.set()
    await task
    assert store.events == ["claim", "describe", "read", "halt", "written", "commit", "release", "close"]


@pytest.mark.parametrize("step", [timedelta(days=4 * 365), -timedelta(days=4 * 365)])
async def test_a_step_of_the_clock_does_not_count_as_time_that_a_run_took(step: timedelta) -> None:
    run = beginning(Scripted(search=at_once))
    times = iter([NOW, NOW])
    run.now = lambda: next(times, NOW + step)
    result = await run.index()
    assert timedelta() <= result.ended - result.began < timedelta(minutes=1)


async def test_settling_ends_when_it_is_halted() -> None:
    """It is halted when its job is gone, and another one may have the name by then."""
    settling = asyncio.Event()

    async def settle(*_: object, **__: object) -> None:
        settling.set()
        await asyncio.Event().wait()

    async def open_store(_: object) -> Any:
        return SimpleNamespace(settle=settle)

    gate, books = Gate(), SimpleNamespace(open=open_store)
    gate.lead()
    nothing: Any = books
    view = JobView.of(job("flights", desiredState="stopped") | {"metadata": {
        "uid": "u", "namespace": "team", "name": "flights", "resourceVersion": "1"
    }})  # fmt: skip
    work = Worker(nothing, "me", "here", lambda: NOW, gate).begin(RunKind.SETTLE, view, delete=True)
    await settling.wait()
    work.halt(0.0)
    await asyncio.wait({work.task}, timeout=5)
    assert work.task.cancelled()


async def test_settling_waits_for_the_last_run_of_a_job_that_had_the_name_before() -> None:
    """That run may be about to claim: whoever settled meanwhile would have found nothing, and read stopped."""
    settled, opening, open_it = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def settle(*_: object, **__: object) -> Settled:
        settled.set()
        return Settled(None)

    async def open_store(_: object) -> Any:
        if not opening.is_set():
            opening.set()
            await open_it.wait()
        return SimpleNamespace(settle=settle, place=None)

    def view(uid: str) -> JobView:
        about = {"uid": uid, "namespace": "team", "name": "flights", "resourceVersion": "1"}
        return JobView.of(job("flights", desiredState="stopped") | {"metadata": about})

    gate = Gate()
    gate.lead()
    books: Any = SimpleNamespace(open=open_store, slots=lambda _: RunSlots(1))
    worker = Worker(books, "me", "here", lambda: NOW, gate)
    first = worker.begin(RunKind.INDEX, view("first"), delete=False)
    await opening.wait()
    second = worker.begin(RunKind.SETTLE, view("second"), delete=False)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not settled.is_set()
    first.halt(0.0)
    open_it.set()
    await asyncio.wait({second.task}, timeout=5)
    assert second.task.result().settled


@pytest.mark.parametrize("steps", range(4))
async def test_a_run_that_is_cancelled_again_and_again_is_not_over_before_its_search(steps: int) -> None:
    store = Scripted()
    searching, answered = asyncio.Event(), asyncio.Event()

    async def search() -> None:
        searching.set()
        try:
            await asyncio.Event().wait()
        finally:
            await answered.wait()

    store.search = search
    task = asyncio.ensure_future(beginning(store).index())
    await searching.wait()
    for _ in range(3):
        task.cancel()
        for _ in range(steps):
            await asyncio.sleep(0)
    answered.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.events == ["claim", "describe", "search over", "release", "close"]


async def test_a_run_that_is_cancelled_before_it_begins_leaves_nothing_behind(recwarn: pytest.WarningsRecorder) -> None:
    nothing: Any = None
    worker = Worker(nothing, "me", "here", lambda: NOW, nothing)
    body = job(desiredState="stopped")
    body["metadata"] |= {"uid": "u", "namespace": "n", "generation": 1, "resourceVersion": "1"}
    run = worker.begin(RunKind.SETTLE, JobView.of(body), delete=False)
    run.task.cancel()
    await asyncio.gather(run.task, return_exceptions=True)
    del run
    await asyncio.sleep(0)
    gc.collect()
    assert [str(w.message) for w in recwarn] == []


@pytest.mark.parametrize("steps", range(4))
async def test_a_run_that_is_cancelled_as_its_turn_comes_gives_its_place_back(steps: int) -> None:
    run = beginning(store := Scripted())
    await run.slots.acquire()
    task = asyncio.ensure_future(run.index())
    await asyncio.sleep(0.01)
    run.slots.release()
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.wait_for(run.slots.acquire(), 5)
    assert "write" not in store.events


async def test_a_run_that_is_halted_as_its_turn_comes_does_not_touch_the_store() -> None:
    run = beginning(store := Scripted())
    await run.slots.acquire()
    task = asyncio.ensure_future(run.index())
    await asyncio.sleep(0.01)
    run.slots.release()
    run.halt()
    assert (await task).outcome is Outcome.HALTED
    assert store.events == []
    assert run.slots.held == 0


@pytest.mark.parametrize("changes", [{"pageSize": 20_000}, {"cron": None}, {"groups": {"dateHistogram": {}}}])
async def test_a_claim_of_a_spec_that_cannot_be_read_is_settled(changes: dict[str, Any]) -> None:
    asked: list[tuple[tuple[str, str], bool]] = []

    class Store:
        async def settle(self, config: JobConfig, holder: str, *, delete_documents: bool, **_: object) -> Settled:
            asked.append((config.key, delete_documents))
            raise StoreUnavailable("away")

    async def store(_: object) -> Store:
        return Store()

    books: Any = SimpleNamespace(open=store)
    gate = Gate()
    gate.lead()
    worker = Worker(books, "me", "here", lambda: NOW, gate)
    body = job(desiredState="stopped", rollupIndex="hourly", **changes)
    body["metadata"] |= {"uid": "u", "namespace": "n", "generation": 1, "resourceVersion": "1"}
    run = worker.begin(RunKind.SETTLE, JobView.of(body), delete=True)
    assert (await run.task).settled is False
    assert asked == [(("hourly", "flights"), True)]
