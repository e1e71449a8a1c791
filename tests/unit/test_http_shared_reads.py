"""Reads that many ask for at once."""

import asyncio
from typing import Any

import pytest

from rollup_operator.http.jobs import shared_reads
from rollup_operator.http.jobs.desired_state import LISTS_AT_ONCE, SHARED_AT_ONCE, DesiredStates
from rollup_operator.http.jobs.shared_reads import SharedReads
from rollup_operator.kube.client import Unreachable
from rollup_operator.model.job_view import JobView
from support.http_double import Cluster
from support.serving import call, calling, served

Reads = SharedReads[JobView, JobView | None]


def body(version: int, uid: str = "u") -> JobView:
    meta: dict[str, Any] = {"uid": uid, "namespace": "n", "name": uid, "resourceVersion": str(version)}
    return JobView.of({"metadata": meta})


class Server:
    """An API server whose every read shows the version of its sending, and is answered when the test says so."""

    def __init__(self) -> None:
        self.version = 1
        self.sent: list[str] = []
        self.answers: asyncio.Queue[Exception | None] = asyncio.Queue()

    async def read(self, job: JobView) -> JobView | None:
        self.sent.append(job.uid)
        found = body(self.version, job.uid)
        if (error := await self.answers.get()) is not None:
            raise error
        return found


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def reads(server: Server) -> Reads:
    return SharedReads(server.read, lambda job: job.uid)


def ask(reads: Reads, count: int, uid: str = "u") -> list[asyncio.Task[JobView | None]]:
    return [asyncio.create_task(reads.read(body(1, uid))) for _ in range(count)]


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_who_ask_at_once_share_one_read(server: Server, reads: Reads) -> None:
    asked = ask(reads, 100)
    await turns()
    server.answers.put_nowait(None)
    assert {view and view.version for view in await asyncio.gather(*asked)} == {1}
    assert server.sent == ["u"]


async def test_who_asks_later_sees_no_read_that_was_sent_before(server: Server, reads: Reads) -> None:
    early = ask(reads, 2)
    await turns()
    server.version = 2
    late = ask(reads, 50)
    await turns()
    assert server.sent == ["u"]
    for _ in range(2):
        server.answers.put_nowait(None)
    assert {view and view.version for view in await asyncio.gather(*early)} == {1}
    assert {view and view.version for view in await asyncio.gather(*late)} == {2}
    assert server.sent == ["u", "u"]


async def test_jobs_do_not_wait_for_one_another(server: Server, reads: Reads) -> None:
    asked = ask(reads, 1) + ask(reads, 1, "other")
    await turns()
    assert server.sent == ["u", "other"]
    for _ in asked:
        server.answers.put_nowait(None)
    await asyncio.gather(*asked)


async def test_a_read_that_fails_fails_for_those_who_share_it_alone(server: Server, reads: Reads) -> None:
    early = ask(reads, 2)
    await turns()
    late = ask(reads, 2)
    await turns()
    server.answers.put_nowait(Unreachable("away", sent=True))
    server.answers.put_nowait(None)
    assert [type(e) for e in await asyncio.gather(*early, return_exceptions=True)] == [Unreachable] * 2
    assert [view and view.version for view in await asyncio.gather(*late)] == [1, 1]


async def test_who_gives_up_ends_the_read_of_nobody_else(server: Server, reads: Reads) -> None:
    first, second = ask(reads, 2)
    await turns()
    first.cancel()
    server.answers.put_nowait(None)
    assert await second is not None
    assert server.sent == ["u"]


async def test_a_read_whose_answer_is_lost_holds_nobody_up() -> None:
    sent: list[str] = []

    async def read(job: JobView) -> JobView | None:
        sent.append(job.uid)
        if len(sent) == 1:
            await asyncio.Event().wait()
        return body(len(sent), job.uid)

    reads = Reads(read, lambda job: job.uid)
    [lost] = ask(reads, 1)
    await turns()
    async with asyncio.timeout(20):
        late = await asyncio.gather(*ask(reads, 2))
        last = await reads.read(body(1))  # what is lost is in nobody's way any more
    assert [view and view.version for view in (*late, last)] == [2, 2, 3]
    lost.cancel()


async def test_waits_that_end_together_share_their_last_read() -> None:
    cluster, reading = Cluster(), Cluster()
    reading.objects = cluster.objects
    reading.read_gate = asyncio.Event()
    cluster.create("sensor", desiredState="started")
    cluster.status("sensor", state="indexing")
    path = "/_rollup/job/sensor/_stop?wait_for_completion=true&timeout={}nanos"  # no two in the same words: no repeats
    async with served(cluster, reads=reading) as endpoint, calling(endpoint) as client:
        stops = [asyncio.create_task(call(client, "POST", path.format(100_000_000 + n))) for n in range(200)]
        assert {status for status, _ in await asyncio.gather(*stops)} == {500}
        assert len(reading.reads) < 10  # one, and a few more since its answer does not come
        assert not cluster.reads
        reading.read_gate.set()


async def test_a_stop_that_the_watch_shows_during_the_last_look_has_been_seen() -> None:
    cluster, reading = Cluster(), Cluster()
    reading.objects = cluster.objects
    reading.read_gate = asyncio.Event()
    cluster.create("sensor", desiredState="started")
    cluster.status("sensor", state="indexing")
    async with served(cluster, reads=reading) as endpoint, calling(endpoint) as client:
        stop = asyncio.create_task(call(client, "POST", "/_rollup/job/sensor/_stop?wait_for_completion&timeout=20ms"))
        async with asyncio.timeout(20):
            while not reading.reads:
                await turns()
        cluster.status("sensor", state="stopped")
        assert await stop == (200, {"stopped": True})
        reading.read_gate.set()


@pytest.mark.parametrize(("state", "answer"), [("stopped", (200, {"stopped": True})), (None, 404)])
async def test_what_one_waiter_has_read_counts_for_all_waiters(state: str | None, answer: Any) -> None:
    """Also for those whose own look is lost, or who had looked before."""
    cluster, reading = Cluster(), LosesTheFirst()
    reading.objects = cluster.objects
    cluster.create("sensor", desiredState="started")
    cluster.status("sensor", state="indexing")
    path = "/_rollup/job/sensor/_stop?wait_for_completion=true&timeout={}"
    async with served(cluster, reads=reading) as endpoint, calling(endpoint) as client:
        timeouts = ("20ms", "600ms", "30s")
        stops = [asyncio.create_task(call(client, "POST", path.format(timeout))) for timeout in timeouts]
        async with asyncio.timeout(20):
            while not reading.reads:
                await turns()
            if state is None:
                cluster.remove("sensor", tell=False)
            else:
                cluster.status("sensor", state=state, tell=False)
            for status, answered in await asyncio.gather(*stops):
                assert answer in (status, (status, answered))
    assert len(reading.reads) == 2


class LosesTheFirst(Cluster):
    """An API server that never answers the first read."""

    async def get(self, path: str) -> dict[str, Any]:
        found = await super().get(path)
        if len(self.reads) == 1:
            await asyncio.Event().wait()
        return found


async def test_where_answers_are_slow_those_who_come_join_the_read_that_waits_for_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many ask for however long: a job has one read that waits, and no namespace has all turns."""
    monkeypatch.setattr(shared_reads, "PATIENCE_SECONDS", 0.0)
    cluster = Cluster()
    cluster.read_gate = asyncio.Event()
    jobs = [JobView.of(cluster.create(f"job-{number:02}")) for number in range(SHARED_AT_ONCE + 8)]
    other = JobView.of(cluster.create("job", "other"))
    states = DesiredStates(cluster, cluster, cluster)
    asked: list[asyncio.Task[JobView | None]] = []
    for _ in range(5):
        asked += [asyncio.create_task(states.now(job)) for job in jobs]
        await asyncio.sleep(0.01)
    sent = set(cluster.reads)
    assert len(cluster.reads) == SHARED_AT_ONCE // 2
    asked.append(asyncio.create_task(states.now(other)))
    await turns()
    assert set(cluster.reads) - sent == {"/apis/rollup-operator.dev/v1alpha1/namespaces/other/rollupjobs/job"}
    cluster.read_gate.set()
    assert None not in await asyncio.gather(*asked)
    assert len(cluster.reads) <= 2 * len(jobs) + 1


async def test_where_lists_are_slow_no_namespace_has_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_reads, "PATIENCE_SECONDS", 0.0)
    cluster = Cluster()
    cluster.read_gate = asyncio.Event()
    states = DesiredStates(cluster, cluster, cluster)
    asked = []
    for _ in range(40):
        asked.append(asyncio.create_task(states.listed("one")))
        await asyncio.sleep(0.002)
    assert len(cluster.lists) == LISTS_AT_ONCE // 2
    asked.append(asyncio.create_task(states.listed("other")))
    await turns()
    assert cluster.lists[-1].endswith("/namespaces/other/rollupjobs")
    cluster.read_gate.set()
    await asyncio.gather(*asked)
    assert len(cluster.lists) == LISTS_AT_ONCE // 2 + 2
