"""Deletions that no event announced, on a real API server."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from rollup_operator.kube import client
from rollup_operator.kube.client import KubeClient
from rollup_operator.kube.events import EventRecorder, Regarding
from rollup_operator.kube.kubeconfig import from_kubeconfig
from rollup_operator.lifecycle.jobs.actors import Actors
from rollup_operator.lifecycle.jobs.index import Index
from rollup_operator.lifecycle.jobs.relist import Relisting
from rollup_operator.lifecycle.jobs.run_task import Worker
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.lifecycle.stores.book import StoreBook
from rollup_operator.model.conditions import Reason
from rollup_operator.model.job_view import JobView
from rollup_operator.stores.base import Store
from rollup_operator.stores.errors import StoreUnavailable
from support.api import Api
from support.bodies import job, store


def now() -> datetime:
    return datetime.now(UTC)


def no_store(*_: object) -> Store:
    raise StoreUnavailable("this test has none")


@pytest.fixture
async def kube(api: Api) -> AsyncIterator[KubeClient]:
    async with KubeClient(from_kubeconfig(api.plane.kubeconfig)) as client:
        yield client


@pytest.fixture
def books(api: Api, kube: KubeClient) -> StoreBook:
    """The stores of a process that does not lead."""
    return StoreBook(kube=kube, make=no_store, now=now, gate=Gate(), namespaces=[api.namespace])


@dataclass(frozen=True)
class Known:
    """What a process that leads knows of the jobs."""

    index: Index
    actors: Actors
    relisting: Relisting


@pytest.fixture
async def known(api: Api, kube: KubeClient, books: StoreBook) -> AsyncIterator[Known]:
    gate = Gate()
    gate.lead()
    events = EventRecorder(kube, instance="test", now=now, leading=lambda: True)
    worker = Worker(books, "test", "test", now, gate)
    index = Index(gate=gate, cluster="test", namespaces=[api.namespace])
    actors = Actors(index, kube=kube, books=books, events=events, worker=worker, gate=gate, now=now)
    yield Known(index, actors, Relisting(index, actors, kube=kube, books=books, gate=gate, namespaces=[api.namespace]))
    gate.end()
    await actors.drain(5)
    gate.close()
    actors.stand_down()


@pytest.mark.parametrize("page", [2, 500])
async def test_jobs_deleted_behind_the_watch_are_forgotten(
    known: Known, api: Api, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(client, "PAGE", page)
    names = [f"job-{i}" for i in range(5)]
    for name in names:
        known.actors.observe(api.create(job(name)))
    received: list[object] = []
    gone = asyncio.Event()
    for view in known.index.in_namespace(api.namespace):
        known.index.subscribe(view.uid, lambda body: (received.append(body), gone.set()) if body is None else None)
    await known.relisting.sweep()
    assert [view.name for view in known.index.in_namespace(api.namespace)] == names

    await asyncio.to_thread(api.delete, "job-3")
    await known.relisting.sweep()
    async with asyncio.timeout(5):
        await gone.wait()
    assert [view.name for view in known.index.in_namespace(api.namespace)] == [n for n in names if n != "job-3"]
    assert received == [None]
    assert known.index.find(api.namespace, "job-3") is None


async def test_a_job_made_anew_under_its_old_name_is_another_job(known: Known, api: Api) -> None:
    first = api.create(job("flights"))
    known.actors.observe(first)
    await asyncio.to_thread(api.delete, "flights")
    second = await asyncio.to_thread(api.create, job("flights"))
    known.actors.observe(second)
    await known.relisting.sweep()
    found = known.index.find(api.namespace, "flights")
    assert found is not None
    assert found.uid == second["metadata"]["uid"]
    assert found.uid != first["metadata"]["uid"]


async def test_a_job_that_no_event_announced_is_taken_in(known: Known, api: Api) -> None:
    body = await asyncio.to_thread(api.create, job("flights"))
    known.actors.observe(body)
    await asyncio.to_thread(api.create, job("trips"))
    await asyncio.to_thread(api.start, "flights")
    await known.relisting.sweep()
    views = {view.name: view for view in known.index.in_namespace(api.namespace)}
    assert set(views) == {"flights", "trips"}
    assert views["flights"].desired == "started"


async def test_stores_that_no_event_announced_are_taken_in_and_dropped(books: StoreBook, api: Api) -> None:
    for name in ("first", "second"):
        books.observe(await asyncio.to_thread(api.create, store(name)))
    await asyncio.to_thread(api.delete, "first", kind="RollupStore")
    await asyncio.to_thread(api.delete, "second", kind="RollupStore")
    again = await asyncio.to_thread(api.create, store("second"))
    third = await asyncio.to_thread(api.create, store("third"))
    await books.sweep()
    assert set(books.versions(None)) == {again["metadata"]["uid"], third["metadata"]["uid"]}
    for name, there in (("first", False), ("second", True), ("third", True)):
        trouble = books.trouble((api.namespace, name))
        assert trouble is not None
        assert (trouble.reason is not Reason.STORE_NOT_FOUND) == there


async def test_a_deleted_store_does_not_take_the_place_of_its_successor(books: StoreBook, api: Api) -> None:
    first = await asyncio.to_thread(api.create, store("stock"))
    books.observe(first)
    await asyncio.to_thread(api.delete, "stock", kind="RollupStore")
    second = await asyncio.to_thread(api.create, store("stock"))
    books.observe(second)
    books.observe(first)
    books.gone(first["metadata"]["uid"])
    assert set(books.versions(None)) == {second["metadata"]["uid"]}


async def test_the_last_job_is_missed_too(known: Known, api: Api) -> None:
    body = api.create(job("flights"))
    known.actors.observe(body)
    gone = asyncio.Event()
    known.index.subscribe(body["metadata"]["uid"], lambda view: gone.set() if view is None else None)
    await asyncio.to_thread(api.delete, "flights")
    await known.relisting.sweep()
    async with asyncio.timeout(5):
        await gone.wait()
    assert list(known.index.in_namespace(api.namespace)) == []


async def test_sweeping_goes_on_whatever_went_wrong_with_it(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    health: list[str | None] = []
    went_on = asyncio.Event()

    async def sweep() -> None:
        health.append(known.relisting.problem)
        if len(health) == 1:
            raise ValueError("what nobody foresaw")
        if len(health) == 3:
            went_on.set()

    monkeypatch.setattr(known.relisting, "sweep", sweep)
    task = asyncio.create_task(known.relisting.keep_sweeping(0.01))
    async with asyncio.timeout(5):
        await went_on.wait()
    task.cancel()
    assert health[:3] == [None, "the last list could not be taken in: ValueError: what nobody foresaw", None]


async def test_an_event_that_cannot_be_posted_does_not_hold_back_the_next(api: Api) -> None:
    outcomes: list[str] = []
    both = asyncio.Event()

    def observe(_: str, outcome: str) -> None:
        outcomes.append(outcome)
        if len(outcomes) == 2:
            both.set()

    async with KubeClient(from_kubeconfig(api.plane.kubeconfig)) as kube:
        events = EventRecorder(kube, instance="test", now=now, leading=lambda: True, observe=observe)
        about = Regarding.job(JobView.of(api.create(job("flights"))))
        events.record(about, Reason.INVALID_SPEC, "a whole one")
        events.record(about, Reason.INVALID_SPEC, "half a character: \ud800")  # the newest is posted first
        task = asyncio.create_task(events.run())
        async with asyncio.timeout(5):
            await both.wait()
        task.cancel()
    assert outcomes == ["failed", "posted"]
