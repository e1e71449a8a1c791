"""Which jobs this process knows: who lives and who is dead, in whatever order bodies, lists and deletions arrive."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from rollup_operator.indexer.progress import Progress
from rollup_operator.kube import sweep as sweep_module
from rollup_operator.kube.client import Body, KubeError, NotFound
from rollup_operator.lifecycle.jobs import relist
from rollup_operator.lifecycle.jobs.actors import Actors
from rollup_operator.lifecycle.jobs.index import Index
from rollup_operator.lifecycle.jobs.relist import Relisting
from rollup_operator.lifecycle.jobs.run_facts import RunKind
from rollup_operator.lifecycle.jobs.run_task import Ended, Work
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.lifecycle.telemetry import NoObserver
from rollup_operator.model.base import DRAIN_FINALIZER, RUN_REQUESTED_AT
from rollup_operator.model.job_view import JobView
from rollup_operator.rollup.identity import Owner
from rollup_operator.stores.errors import StoreUnavailable
from support.bodies import job
from support.portions import watched
from unit.test_actor import ready


class Lists:
    """Lists and reads of an API server. Each list shows what was there when it began, once `go_on` is set."""

    def __init__(self) -> None:
        self.bodies: dict[str, Body] = {}
        self.revision = 1
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.go_on.set()
        self.read: list[str] = []

    def put(self, uid: str, version: int, name: str = "flights") -> Body:
        self.revision = version
        self.bodies[name] = body(uid, version, name)
        return self.bodies[name]

    def put_body(self, name: str, status: Body) -> Body:
        self.revision += 1
        self.bodies[name] = shown(name, self.revision, status)
        return self.bodies[name]

    def delete(self, version: int, name: str = "flights") -> str:
        self.revision = version
        uid: str = self.bodies.pop(name)["metadata"]["uid"]
        return uid

    async def pages(self, _: str, *, metadata_only: bool = False) -> AsyncIterator[Body]:
        items, revision = list(self.bodies.values()), self.revision
        self.begun.set()
        await self.go_on.wait()
        if metadata_only:
            items = [{"metadata": item["metadata"]} for item in items]
        yield {"items": items, "metadata": {"resourceVersion": str(revision)}}

    async def get(self, path: str) -> Body:
        name = path.rpartition("/")[2]
        self.read.append(name)
        if name not in self.bodies:
            raise NotFound(404, "NotFound", name)
        return self.bodies[name]


def body(uid: str, version: int, name: str = "flights") -> Body:
    whole = job(name, desiredState="stopped")
    whole["metadata"] |= {"uid": uid, "namespace": "team", "generation": 1, "resourceVersion": str(version)}
    return whole


@dataclass(frozen=True)
class Known:
    """What one process knows of the jobs."""

    index: Index
    actors: Actors
    relisting: Relisting
    gate: Gate

    def lead(self, *, listed: bool = False) -> None:
        """Let all hear that the gate is open."""
        if not listed:
            self.relisting.catch_up()
        self.actors.lead()

    def close(self) -> None:
        """End all of it."""
        self.gate.close()
        self.relisting.stand_down()
        self.actors.stand_down()


def known_by(
    *namespaces: str,
    lists: Lists | None = None,
    kube: Any = None,
    gate: Gate | None = None,
    jobs: "Settling | None" = None,
    others: Any = None,
    went_back: Callable[[str], None] = lambda _: None,
) -> Known:
    """What a process knows that has seen no job. It does not lead, unless `gate` says so."""
    unused: Any = others or Others()
    gate, kube = gate or Gate(), kube or lists
    index = Index(gate=gate, cluster="here", namespaces=namespaces, observer=jobs)
    worker: Any = jobs or unused
    actors = Actors(
        index,
        kube=kube,
        books=unused,
        events=unused,
        worker=worker,
        gate=gate,
        now=lambda: datetime.now(UTC),
        observer=jobs,
        went_back=went_back,
    )
    relisting = Relisting(index, actors, kube=kube, books=unused, gate=gate, namespaces=namespaces, went_back=went_back)
    return Known(index, actors, relisting, gate)


class Others:
    """The rest of the process, none of which does anything. `changed` tells that a store has."""

    def __init__(self, **parts: Any) -> None:
        self.sweep, self.trouble, self.record = no_stores, lambda _: None, lambda *_: None
        self.held, self.edition = lambda *_: False, lambda _: ("s", 1)
        self.__dict__.update(parts)

    def subscribe(self, listener: Callable[[tuple[str, str]], None]) -> None:
        self.changed = listener


async def no_stores(*, whole: bool = False) -> None:
    """No store exists."""


def uids(known: Known) -> list[str]:
    return [view.uid for view in known.index.views()]


def owner(cluster: str = "here", namespace: str = "team") -> Owner:
    return Owner(cluster, namespace, "job", "uid")


def test_a_job_that_was_not_listed_is_dead_once_all_are() -> None:
    known = known_by()
    with pytest.raises(StoreUnavailable, match="team/job"):
        known.index.is_alive(owner())
    known.index.synced = True
    assert not known.index.is_alive(owner())


@pytest.mark.parametrize("synced", [False, True])
def test_a_job_that_nobody_here_can_know_lives(synced: bool) -> None:
    known = known_by("team", "other")
    known.index.synced = synced
    assert known.index.is_alive(owner(cluster="there"))
    assert known.index.is_alive(owner(namespace="elsewhere"))


def test_a_job_of_a_watched_namespace_is_known() -> None:
    known = known_by("team", "other")
    known.index.synced = True
    assert not known.index.is_alive(owner())


async def test_a_list_that_is_late_brings_no_dead_job_back_over_the_living_one() -> None:
    lists = Lists()
    known = known_by(lists=lists)
    known.actors.observe(lists.put("first", 100))
    lists.go_on.clear()
    late = asyncio.create_task(known.relisting.list_jobs())
    await lists.begun.wait()
    known.actors.gone(lists.delete(120))
    known.actors.observe(lists.put("second", 121))
    heard: list[JobView | None] = []
    known.index.subscribe("second", heard.append)
    lists.go_on.set()
    await late
    assert uids(known) == ["second"]
    assert heard == []
    await known.relisting.sweep()
    assert uids(known) == ["second"]


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")])
async def test_of_two_jobs_with_one_name_the_later_one_lives(order: tuple[str, str]) -> None:
    known = known_by(lists=Lists())
    bodies: Mapping[str, Body] = {"first": body("first", 100), "second": body("second", 121)}
    for uid in order:
        known.actors.observe(bodies[uid])
    assert uids(known) == ["second"]
    found = known.index.find("team", "flights")
    assert found is not None
    assert found.uid == "second"
    known.actors.observe(body("first", 110))
    assert uids(known) == ["second"]


async def test_a_job_that_went_stays_gone_though_a_late_list_shows_it() -> None:
    lists = Lists()
    known = known_by(lists=lists)
    known.actors.observe(lists.put("first", 100))
    lists.go_on.clear()
    late = asyncio.create_task(known.relisting.list_jobs())
    await lists.begun.wait()
    known.actors.gone(lists.delete(120))
    lists.go_on.set()
    await late
    assert uids(known) == []


async def test_no_more_uids_of_dead_jobs_are_remembered_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "GONE_REMEMBERED", 2)
    known = known_by(lists=Lists())
    for n in range(4):
        known.actors.observe(body(f"u{n}", 10 + n, f"job-{n}"))
        known.actors.gone(f"u{n}")
    for n in range(4):
        known.actors.observe(body(f"u{n}", 10 + n, f"job-{n}"))
    assert uids(known) == ["u0", "u1"]


async def test_a_sweep_takes_in_what_the_watch_has_not_brought() -> None:
    lists = Lists()
    known = known_by(lists=lists)
    known.actors.observe(lists.put("first", 100))
    known.actors.observe(lists.put("other", 101, "other"))
    lists.put("first", 110)
    lists.put("new", 111, "new")
    await known.relisting.sweep()
    assert {view.uid: view.version for view in known.index.views()} == {"first": 110, "other": 101, "new": 111}
    assert sorted(lists.read) == ["flights", "new"]
    await known.relisting.sweep()
    assert sorted(lists.read) == ["flights", "new"]


async def test_a_job_that_goes_before_the_watch_begins_is_found_gone_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relist, "FIRST_SWEEP", 0.01)
    lists = Lists()
    known = known_by(lists=lists)
    lists.put("first", 100)
    await known.relisting.list_jobs()
    gone = asyncio.Event()
    known.index.subscribe("first", lambda view: gone.set() if view is None else None)
    lists.delete(110)  # no watch tells of it
    sweeping = asyncio.create_task(known.relisting.keep_sweeping(600))
    async with asyncio.timeout(10):
        await gone.wait()
    assert uids(known) == []
    sweeping.cancel()


@pytest.mark.parametrize("well", [0, 1])
async def test_a_list_that_failed_is_tried_again_soon(monkeypatch: pytest.MonkeyPatch, well: int) -> None:
    monkeypatch.setattr(relist, "FIRST_SWEEP", 0.01)
    failure = KubeError(500, "InternalError", "etcd has no leader")
    lists = [None] * well + [failure] * 3 + [None]
    problems: list[str | None] = []
    done = asyncio.Event()

    async def listed() -> None:
        problems.append(known.relisting.problem)
        if (raised := lists.pop(0)) is not None:
            raise raised
        if not lists:
            done.set()

    known = known_by(lists=Lists(), others=Others(sweep=listed))
    sweeping = asyncio.create_task(known.relisting.keep_sweeping(3.0))
    async with asyncio.timeout(8):  # far less than three more sweeps would take, were they as far apart as ever
        await done.wait()
    failed = "the last list failed: 500 InternalError: etcd has no leader"
    assert problems == [None] * (well + 1) + [failed] * 3
    sweeping.cancel()


async def test_a_first_list_that_is_tried_again_leaves_none_of_the_try_before() -> None:
    lists = Lists()
    known = known_by(lists=lists)
    lists.put("first", 100)
    await known.relisting.list_jobs()
    lists.delete(110)
    await known.relisting.list_jobs()
    assert uids(known) == []


async def test_a_job_that_goes_between_the_list_and_its_reading_is_not_there() -> None:
    lists = Lists()
    known = known_by(lists=lists)
    lists.put("first", 100)
    lists.go_on.clear()
    late = asyncio.create_task(known.relisting.sweep())
    await lists.begun.wait()
    lists.delete(110)
    lists.go_on.set()
    await late
    assert uids(known) == []


@pytest.mark.parametrize("whole", [False, True])
async def test_a_list_that_is_older_than_what_was_seen_before_it_tells_of_a_restore(whole: bool) -> None:
    lists, found = Lists(), list[str]()
    known = known_by(lists=lists, went_back=found.append)
    known.actors.observe(lists.put("first", 100))
    await known.relisting.sweep()
    assert found == []
    lists.revision = 90
    await (known.relisting.list_jobs() if whole else known.relisting.sweep())
    assert found == [
        "a list of /apis/rollup-operator.dev/v1alpha1/rollupjobs is of revision 90, and 100 was seen before"
    ]
    assert uids(known) == ["first"]  # nothing that such a list shows is taken for a deletion


async def test_a_list_that_the_watch_overtakes_tells_of_no_restore() -> None:
    lists, found = Lists(), list[str]()
    known = known_by(lists=lists, went_back=found.append)
    known.actors.observe(lists.put("first", 100))
    lists.go_on.clear()
    late = asyncio.create_task(known.relisting.sweep())
    await lists.begun.wait()
    known.actors.observe(lists.put("first", 130))
    lists.go_on.set()
    await late
    assert found == []


async def test_an_idle_cluster_that_goes_back_is_noticed_by_the_list_alone() -> None:
    lists, found = Lists(), list[str]()
    known = known_by(lists=lists, went_back=found.append)
    known.actors.observe(lists.put("first", 100))
    lists.revision = 200  # other objects changed
    await known.relisting.sweep()
    lists.revision = 150
    await known.relisting.sweep()
    assert found == [
        "a list of /apis/rollup-operator.dev/v1alpha1/rollupjobs is of revision 150, and 200 was seen before"
    ]


@pytest.mark.parametrize("whole", [False, True])
async def test_a_restore_is_noticed_by_an_object_when_the_revisions_have_caught_up(whole: bool) -> None:
    lists, found = Lists(), list[str]()
    known = known_by(lists=lists, went_back=found.append)
    known.actors.observe(lists.put("first", 100))
    lists.put("first", 90)
    lists.revision = 120  # others have written since
    await (known.relisting.list_jobs() if whole else known.relisting.sweep())
    assert found == ["team/flights is of resourceVersion 90 in a list, and 100 was seen before"]


@pytest.mark.parametrize("whole", [False, True])
async def test_a_restore_is_noticed_by_an_object_that_was_gone(whole: bool) -> None:
    lists, found = Lists(), list[str]()
    known = known_by(lists=lists, went_back=found.append)
    known.actors.observe(lists.put("first", 100))
    known.actors.gone(lists.delete(110))
    lists.put("first", 90)
    lists.revision = 120  # others have written since
    await (known.relisting.list_jobs() if whole else known.relisting.sweep())
    assert found == ["team/flights is in a list, and its uid, first, was gone before"]


async def test_an_object_that_goes_while_it_is_listed_tells_of_no_restore() -> None:
    lists, found = Lists(), list[str]()
    known = known_by(lists=lists, went_back=found.append)
    known.actors.observe(lists.put("first", 100))
    lists.go_on.clear()
    late = asyncio.create_task(known.relisting.sweep())
    await lists.begun.wait()
    known.actors.gone(lists.delete(110))
    lists.go_on.set()
    await late
    assert found == []
    assert uids(known) == []


async def test_a_listener_that_fails_hides_nothing_from_the_others() -> None:
    known = known_by(lists=Lists())
    known.actors.observe(body("first", 100))
    heard: list[int | None] = []

    def fail(_: JobView | None) -> None:
        raise ValueError("a mistake of its own")

    for listener in (fail, lambda view: heard.append(view and view.version), fail):
        known.index.subscribe("first", listener)
    known.actors.observe(body("first", 110))
    known.actors.gone("first")
    assert heard == [110, None]


def leading(lists: Lists, *, went_back: Callable[[str], None] = lambda _: None, **parts: Any) -> tuple[Known, Gate]:
    """What a process knows that leads. What it begins, unless `parts` say otherwise, is nothing."""

    async def hang(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    kube = SimpleNamespace(pages=lists.pages, get=lists.get, put=hang)
    known = known_by(kube=kube, others=Others(**parts), went_back=went_back)
    known.index.synced = True
    known.gate.lead()
    return known, known.gate


def running(uid: str, version: int) -> Body:
    """A job that is started and asked to run now."""
    whole = job("flights", desiredState="started")
    whole["metadata"] |= {
        "uid": uid,
        "namespace": "team",
        "generation": 3,
        "resourceVersion": str(version),
        "finalizers": [DRAIN_FINALIZER],
        "annotations": {RUN_REQUESTED_AT: "now"},
    }
    return whole | {"status": {"state": "started", "observedGeneration": 3, "conditions": ready(3)}}


class Worker:
    """Runs that go on until `over`."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[RunKind] = asyncio.Queue()
        self.over = asyncio.Event()

    def begin(self, kind: RunKind, view: JobView, **_: Any) -> Work:
        self.begun.put_nowait(kind)
        return Work(kind, 0.0, view.deleting, Progress(), asyncio.ensure_future(self._run()), lambda: None)

    async def _run(self) -> Ended:
        await self.over.wait()
        return Ended(settled=True)


async def test_nothing_begins_after_a_list_that_tells_of_a_restore() -> None:
    lists, worker, found = Lists(), Worker(), asyncio.Queue[str]()
    known, gate = leading(lists, begin=worker.begin, went_back=found.put_nowait)
    gate.shut()
    known.actors.observe(running("u", 100))
    lists.bodies["flights"] = running("u", 90)
    lists.revision = 90
    gate.lead()
    known.lead()
    async with asyncio.timeout(10):
        await found.get()
    for _ in range(10):
        await asyncio.sleep(0)
    assert gate.draining
    assert worker.begun.empty()
    known.close()


async def test_a_leader_that_cannot_list_stores_begins_all_the_same() -> None:
    async def forbidden(*, whole: bool = False) -> None:
        raise KubeError(403, "Forbidden", "cannot list rollupstores")

    lists, worker = Lists(), Worker()
    known, gate = leading(lists, begin=worker.begin, sweep=forbidden)
    gate.shut()
    lists.bodies["flights"], lists.revision = running("u", 10), 10
    known.actors.observe(lists.bodies["flights"])
    gate.lead()
    known.lead()
    async with asyncio.timeout(10):
        assert await worker.begun.get() is RunKind.INDEX
    known.actors.observe(lists.put("v", 20, "trips"))
    lists.delete(30, "trips")
    with pytest.raises(KubeError):
        await known.relisting.sweep()
    assert [view.uid for view in known.index.in_namespace("team")] == ["u"]
    worker.over.set()
    known.close()


async def test_a_job_that_is_gone_is_found_no_more_though_its_run_goes_on() -> None:
    worker = Worker()
    known, _ = leading(Lists(), begin=worker.begin)
    known.actors.observe(running("first", 100))
    async with asyncio.timeout(10):
        await worker.begun.get()
    known.actors.gone("first")
    known.actors.observe(body("second", 200))
    found = known.index.find("team", "flights")
    assert found is not None
    assert found.uid == "second"
    assert [view.uid for view in known.index.meant("team", "flights")] == ["second"]
    assert [view.uid for view in known.index.in_namespace("team")] == ["second"]
    worker.over.set()
    known.close()


# Ten thousand jobs


class Accepting(Lists):
    """An API server that takes every status."""

    async def put(self, path: str, status: Body) -> Body:
        await asyncio.sleep(0)
        name = path.split("/")[-2]
        self.revision += 1
        self.bodies[name] = shown(name, self.revision, status["status"])
        return self.bodies[name]


class Settling(NoObserver):
    """Settles whatever job it is given, and counts. Counts turns, too."""

    cluster = "here"

    def __init__(self) -> None:
        self.settled: Counter[str] = Counter()
        self.turns = 0

    def turned(self, result: str, seconds: float) -> None:
        self.turns += 1

    def held(self, _: JobView) -> bool:
        return False

    def begin(self, kind: RunKind, view: JobView, **_: object) -> Work:
        async def settled() -> Ended:
            return Ended(settled=True)

        self.settled[view.name] += 1
        return Work(kind, 0.0, view.deleting, Progress(), asyncio.ensure_future(settled()), lambda: None)


def shown(name: str, version: int, status: Body) -> Body:
    """A job that is asked to stop, with what its status shows."""
    whole = body(f"uid-of-{name}", version, name) | {"status": status}
    whole["metadata"]["finalizers"] = [DRAIN_FINALIZER]
    return whole


async def test_what_all_jobs_hear_of_holds_the_loop_for_few_of_them() -> None:
    lists, gate, jobs = Accepting(), Gate(), Settling()
    others = Others()
    known = known_by(lists=lists, gate=gate, jobs=jobs, others=others)
    count = 1_000
    for n in range(count):
        known.actors.observe(lists.put_body(f"job-{n}", {"state": "stopped", "observedGeneration": 1}))
    known.index.synced = True
    gate.lead()

    def store_changed() -> None:
        others.changed(("team", "default"))

    for tell in (known.actors.lead, known.actors.lead, known.actors.recheck, store_changed):
        before = jobs.turns
        async with watched() as loop:
            tell()
            while jobs.turns < before + count or known.index.busy:  # noqa: ASYNC110  # nobody tells when all is done
                await asyncio.sleep(0)
        assert loop.longest < 0.05
    gate.end()
    assert await known.actors.drain(10.0)
    known.close()


async def test_no_job_has_a_turn_with_what_was_known_before_its_process_led() -> None:
    """Jobs hear one after the other that this process leads; an event may come before."""
    lists, gate, jobs = Accepting(), Gate(), Settling()
    known = known_by(lists=lists, gate=gate, jobs=jobs)
    names = [f"job-{n}" for n in range(100)]

    async def quiet() -> None:
        def is_quiet() -> bool:
            return not known.index.busy and {item["status"]["state"] for item in lists.bodies.values()} == {"stopped"}

        while not is_quiet():  # noqa: ASYNC110  # nobody tells when all is done
            await asyncio.sleep(0)

    async with asyncio.timeout(10):
        for name in names:
            known.actors.observe(lists.put_body(name, {"state": "stopping", "observedGeneration": 1}))
        gate.lead()
        known.lead(listed=True)
        await quiet()
        gate.shut()
        known.relisting.stand_down()
        known.actors.stand_down()
        for name in names:  # another process led, and went
            known.actors.observe(lists.put_body(name, {"state": "stopping", "observedGeneration": 1}))
        gate.lead()
        known.lead(listed=True)
        known.actors.observe(lists.put_body(names[-1], {"state": "stopping", "observedGeneration": 1}))
        await quiet()
    assert jobs.settled == dict.fromkeys(names, 2)
    known.close()
