"""A call reads its own write: it is answered once the operator has taken it in, and a look shows what was done."""

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest

from rollup_operator.http.access.permits import Caller, EndpointAction
from rollup_operator.http.jobs.newest import LIST_UP_TO
from rollup_operator.kube.client import Unreachable
from rollup_operator.kube.paths import jobs_path
from support.access_double import Anybody
from support.http_double import Cluster
from support.serving import Answer, Client, call, calling, served

JOB = "/_rollup/job/sensor"
STOP, START = f"{JOB}/_stop", f"{JOB}/_start"
NO_TIME = f"{STOP}?wait_for_completion=true&timeout="
STOPPED: Answer = (200, {"stopped": True})
STARTED: Answer = (200, {"started": True})


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
async def patient(cluster: Cluster) -> AsyncIterator[Client]:
    """A client of an endpoint that waits long for the operator to take calls in."""
    async with served(cluster, accept_seconds=60) as endpoint, calling(endpoint) as client, asyncio.timeout(10):
        yield client


@pytest.fixture
async def standby(cluster: Cluster) -> AsyncIterator[Client]:
    """A client of one of several replicas, whose watch lags."""
    async with served(cluster, leader_election=True) as endpoint, calling(endpoint) as client:
        yield client


async def recorded(cluster: Cluster, calls: int = 1) -> None:
    """Wait until so many calls have written, and wait in their turn."""
    await cluster.writes(calls)
    async with asyncio.timeout(5):
        await cluster.listened(calls)


def a_job(cluster: Cluster, desired: str, name: str = "sensor") -> None:
    cluster.create(name, desiredState=desired)
    cluster.status(name, state=desired)


async def state(client: Client) -> str:
    status, answered = await call(client, "GET", JOB)
    assert status == 200
    found: str = answered["jobs"][0]["status"]["job_state"]
    return found


# The answer comes once a look shows what was done


@pytest.mark.parametrize(
    ("path", "desired", "shows", "answer"),
    [
        (START, "stopped", "started", STARTED),
        (STOP, "started", "stopped", STOPPED),
        (STOP, "started", "stopping", STOPPED),
        ("/_rollup/job/_all/_start", "stopped", "started", STARTED),
        ("/_rollup/job/_all/_stop", "started", "stopping", STOPPED),
    ],
)
async def test_a_call_is_answered_once_the_operator_has_taken_it_in(
    patient: Client, cluster: Cluster, path: str, desired: str, shows: str, answer: Answer
) -> None:
    a_job(cluster, desired)
    asked = asyncio.create_task(call(patient, "POST", path))
    await recorded(cluster)
    assert await state(patient) == desired
    assert not asked.done()
    cluster.status("sensor", state=shows)
    assert await asked == answer
    assert await state(patient) == shows
    assert not any(cluster.listeners.values())


@pytest.mark.parametrize(("path", "desired", "answer"), [(START, "started", STARTED), (STOP, "stopped", STOPPED)])
async def test_a_call_that_changes_nothing_is_answered_at_once(
    patient: Client, cluster: Cluster, path: str, desired: str, answer: Answer
) -> None:
    a_job(cluster, desired)
    assert await call(patient, "POST", path) == answer


async def test_a_job_that_is_gone_is_waited_for_no_longer(patient: Client, cluster: Cluster) -> None:
    a_job(cluster, "started")
    asked = asyncio.create_task(call(patient, "POST", STOP))
    await recorded(cluster)
    cluster.remove("sensor")
    assert await asked == STOPPED


async def test_where_no_operator_answers_a_call_is_answered_nevertheless(cluster: Cluster) -> None:
    a_job(cluster, "started")
    async with served(cluster, accept_seconds=0.2) as endpoint, calling(endpoint) as client, asyncio.timeout(5):
        begun = asyncio.get_running_loop().time()
        assert await call(client, "POST", STOP) == STOPPED
        assert asyncio.get_running_loop().time() - begun >= 0.2
    assert cluster.objects[jobs_path("default", "sensor")]["spec"]["desiredState"] == "stopped"


async def test_an_operator_that_is_busy_with_others_is_waited_for(cluster: Cluster) -> None:
    names = [f"job-{n}" for n in range(6)]
    for name in names:
        a_job(cluster, "started", name)
    async with served(cluster, accept_seconds=0.3) as endpoint, calling(endpoint) as client, asyncio.timeout(10):
        calls = [asyncio.create_task(call(client, "POST", f"/_rollup/job/{name}/_stop")) for name in names]
        await recorded(cluster, len(names))
        for name, one in zip(names, calls, strict=True):
            await asyncio.sleep(0.2)  # an operator that takes its time with each
            assert not one.done()
            cluster.status(name, state="stopped")
            assert await one == STOPPED


async def test_an_operator_that_is_there_is_waited_for(cluster: Cluster) -> None:
    a_job(cluster, "started")
    there = True
    async with (
        served(cluster, accept_seconds=0.1, answering=lambda: there) as endpoint,
        calling(endpoint) as client,
        asyncio.timeout(10),
    ):
        stops = [asyncio.create_task(call(client, "POST", path)) for path in (STOP, f"{NO_TIME}0")]
        await recorded(cluster)
        await asyncio.sleep(0.5)
        assert not any(stop.done() for stop in stops)
        there = False
        (status, _), (without_time, _) = await asyncio.gather(*stops)
    assert (status, without_time) == (200, 500)


# No time to wait is time enough for a job that idles


@pytest.mark.parametrize("timeout", ["0", "-1", "0s", "0ms"])
async def test_no_time_is_enough_for_an_idle_job(patient: Client, cluster: Cluster, timeout: str) -> None:
    a_job(cluster, "started")
    stop = asyncio.create_task(call(patient, "POST", f"{NO_TIME}{timeout}"))
    await recorded(cluster)
    assert not stop.done()
    cluster.status("sensor", state="stopped")
    assert await stop == STOPPED


@pytest.mark.parametrize("timeout", ["0", "-1", "1ms"])
async def test_no_time_is_over_once_the_stop_is_taken_in(patient: Client, cluster: Cluster, timeout: str) -> None:
    a_job(cluster, "started")
    cluster.status("sensor", state="indexing")
    stop = asyncio.create_task(call(patient, "POST", f"{NO_TIME}{timeout}"))
    await recorded(cluster)
    assert not stop.done()
    cluster.status("sensor", state="stopping")
    status, answered = await stop
    assert (status, answered["error"]["type"]) == (500, "timeout_exception")
    assert answered["error"]["reason"].endswith("to stop. State was [STOPPING]")


# Of several replicas, each shows what calls to the others have done


async def test_a_replica_whose_watch_lags_shows_what_another_one_has_done(standby: Client, cluster: Cluster) -> None:
    a_job(cluster, "started")
    cluster.ask("sensor", "stopped", tell=False)
    cluster.status("sensor", state="stopped", tell=False)
    assert await state(standby) == "stopped"
    _, answered = await call(standby, "GET", "/_rollup/job")
    assert [job["status"]["job_state"] for job in answered["jobs"]] == ["stopped"]


async def test_what_the_watch_has_brought_is_newer_than_a_read_that_was_sent_before(
    standby: Client, cluster: Cluster
) -> None:
    a_job(cluster, "started")
    path = jobs_path("default", "sensor")
    known = cluster.known[path]
    cluster.status("sensor", state="indexing")
    cluster.objects[path]["metadata"]["resourceVersion"] = str(known.version)
    assert await state(standby) == "indexing"


async def test_what_the_leader_writes_is_what_it_shows(standby: Client, cluster: Cluster) -> None:
    a_job(cluster, "started")
    cluster.leads = True
    assert await state(standby) == "started"
    assert (await call(standby, "GET", "/_rollup/job"))[0] == 200
    assert (cluster.reads, cluster.lists) == ([], [])
    # The answer of a write may come here later than the watch has shown the write to others.
    cluster.writing.add(cluster.known[jobs_path("default", "sensor")].uid)
    cluster.status("sensor", state="indexing", tell=False)
    assert await state(standby) == "indexing"
    _, answered = await call(standby, "GET", "/_rollup/job")
    assert [job["status"]["job_state"] for job in answered["jobs"]] == ["indexing"]
    assert cluster.lists == []


async def test_a_write_that_ends_while_the_right_is_asked_for_is_shown(cluster: Cluster) -> None:
    class Slow(Anybody):
        async def require(self, caller: Caller, action: EndpointAction, namespace: str, name: str) -> None:
            written()

        async def allowed(
            self, caller: Caller, action: EndpointAction, namespace: str, names: Collection[str]
        ) -> frozenset[str]:
            written()
            return frozenset(names)

    def written() -> None:
        cluster.status("sensor", state="indexing")
        cluster.writing.clear()

    cluster.leads = True
    async with served(cluster, access=Slow(), leader_election=True) as endpoint, calling(endpoint) as client:
        for path in (JOB, "/_rollup/job"):
            cluster.objects.clear()
            a_job(cluster, "started")
            cluster.writing.add(cluster.known[jobs_path("default", "sensor")].uid)
            _, answered = await call(client, "GET", path)
            assert [job["status"]["job_state"] for job in answered["jobs"]] == ["indexing"]


async def test_the_only_process_reads_nothing_that_its_watch_has_brought(cluster: Cluster) -> None:
    a_job(cluster, "started")
    async with served(cluster) as endpoint, calling(endpoint) as client:
        assert await state(client) == "started"
        assert (await call(client, "GET", "/_rollup/job"))[0] == 200
    assert (cluster.reads, cluster.lists) == ([], [])


@pytest.mark.parametrize("away", [True, False])
async def test_without_the_api_server_a_replica_shows_what_it_knows(
    standby: Client, cluster: Cluster, away: bool
) -> None:
    a_job(cluster, "started")
    if away:
        cluster.fail_read = cluster.fail_list = Unreachable("refused", sent=False)
    else:
        cluster.read_gate = asyncio.Event()
    assert await state(standby) == "started"
    _, answered = await call(standby, "GET", "/_rollup/job")
    assert [job["config"]["id"] for job in answered["jobs"]] == ["sensor"]


async def test_a_job_that_another_replica_has_deleted_or_created(standby: Client, cluster: Cluster) -> None:
    a_job(cluster, "stopped")
    a_job(cluster, "stopped", "away")
    cluster.remove("away", tell=False)
    cluster.remove("sensor", tell=False)
    path = jobs_path("default", "sensor")
    old = cluster.known[path]
    assert await call(standby, "GET", JOB) == (200, {"jobs": []})
    a_job(cluster, "started")
    cluster.known[path] = old
    assert await state(standby) == "started"
    _, answered = await call(standby, "GET", "/_rollup/job")
    assert [(job["config"]["id"], job["status"]["job_state"]) for job in answered["jobs"]] == [("sensor", "started")]
    _, answered = await call(standby, "GET", "/_xpack/usage")
    assert answered["rollup"]["number_of_rollup_jobs"] == 1


async def test_a_long_list_is_shown_as_the_watch_has_brought_it(standby: Client, cluster: Cluster) -> None:
    for n in range(LIST_UP_TO + 1):
        cluster.create(f"job-{n}")
    assert len((await call(standby, "GET", "/_rollup/job"))[1]["jobs"]) == LIST_UP_TO + 1
    assert (cluster.reads, cluster.lists) == ([], [])


async def test_nothing_is_read_for_who_may_see_nothing(cluster: Cluster) -> None:
    access = Anybody()
    access.denied = {(EndpointAction.GET, "sensor"), (EndpointAction.GET, "")}
    a_job(cluster, "started")
    async with served(cluster, access=access, leader_election=True) as endpoint, calling(endpoint) as client:
        assert (await call(client, "GET", JOB))[0] == 403
        assert await call(client, "GET", "/_rollup/job") == (200, {"jobs": []})
        assert await call(client, "GET", "/_rollup/data") == (200, {})
        assert (cluster.reads, cluster.lists) == ([], [])
        # Of jobs that the watch has not brought those are shown that the caller may see.
        access.denied = {(EndpointAction.GET, "secret"), (EndpointAction.GET, "")}
        for name in ("secret", "created"):
            a_job(cluster, "started", name)
            del cluster.known[jobs_path("default", name)]
        _, answered = await call(client, "GET", "/_rollup/job")
    assert [job["config"]["id"] for job in answered["jobs"]] == ["created", "sensor"]


CONFIGURATION: dict[str, Any] = {
    "index_pattern": "sensor-*",
    "rollup_index": "sensor_rollup",
    "cron": "0 0 * * * ?",
    "page_size": 1000,
    "groups": {"date_histogram": {"field": "timestamp", "fixed_interval": "1h"}},
}


async def test_nothing_is_refused_for_what_another_replica_has_changed(cluster: Cluster) -> None:
    a_job(cluster, "started")
    path = jobs_path("default", "sensor")
    old = cluster.known[path]
    async with (
        served(cluster, leader_election=True, compat_version=7) as endpoint,
        calling(endpoint) as client,
    ):
        cluster.ask("sensor", "stopped", tell=False)
        cluster.status("sensor", state="stopped", tell=False)
        assert await call(client, "POST", START) == STARTED
        cluster.ask("sensor", "stopped", tell=False)
        cluster.status("sensor", state="stopped", tell=False)
        cluster.known[path] = old
        assert await call(client, "DELETE", JOB) == (200, {"acknowledged": True})
        cluster.known[path] = old
        assert await call(client, "PUT", JOB, json=CONFIGURATION) == (200, {"acknowledged": True})
