"""The deletion call: only what is stopped is deleted, and only as it was seen."""

import asyncio
import ssl
from typing import Any

import pytest

from rollup_operator.http.access.permits import EndpointAction
from rollup_operator.http.api import delete
from rollup_operator.kube.client import KubeClient, KubeError, Unreachable
from rollup_operator.kube.connection import Connection
from rollup_operator.kube.paths import jobs_path
from support.access_double import Anybody
from support.http_calls import Client, call, error, served
from support.http_double import Cluster
from support.wire_server import Answer, Broken, Request, WireServer, wire_server

PATH = "/_rollup/job/sensor"
AT = jobs_path("default", "sensor")
DONE = (200, {"acknowledged": True})
NOT_FOUND = error(404, "resource_not_found_exception", "the task with id [sensor] doesn't exist")


FULL = {"type": "Ready", "status": "False", "reason": "DiskFull", "message": "secret", "lastTransitionTime": "t"}
HELD_UP = "the job's Ready condition is False with reason [DiskFull], and its message says what it waits for"


def refused(state: str, task: int = 1, **more: Any) -> tuple[int, Any]:
    text = f"Could not delete job [sensor] because indexer state is [{state}].  Job must be [STOPPED] before deletion."
    failure = {
        "task_id": task,
        "node_id": "rollup-operator",
        "status": "INTERNAL_SERVER_ERROR",
        "reason": {"type": "illegal_state_exception", "reason": text, **more},
    }
    return 500, {"task_failures": [failure], "acknowledged": False}


async def deleting(client: Client, cluster: Cluster) -> asyncio.Task[tuple[int, Any]]:
    """Send a deletion, and return once the API server has it."""
    call_ = asyncio.create_task(call(client, "DELETE", PATH))
    async with asyncio.timeout(5):
        while not cluster.deleted:
            await call(client, "GET", "/healthz")
    return call_


# Table 1.4


@pytest.mark.parametrize("base", ["/_rollup", "/_xpack/rollup"])
@pytest.mark.parametrize("space", ["", "/namespaces/other"])
async def test_state_stopped(client: Client, cluster: Cluster, base: str, space: str) -> None:
    namespace = "other" if space else "default"
    cluster.create("sensor", namespace, desiredState="stopped")
    cluster.status("sensor", namespace, state="stopped")
    assert await call(client, "DELETE", f"{space}{base}/job/sensor") == DONE
    assert cluster.deleted == [jobs_path(namespace, "sensor")]
    assert (await call(client, "GET", f"{space}{base}/job/sensor"))[1] == {"jobs": []}


async def test_state_of_a_job_that_nobody_has_looked_at_yet(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor")
    assert await call(client, "DELETE", PATH) == DONE


@pytest.mark.parametrize("state", ["started", "indexing", "stopping", "aborting"])
async def test_any_other_state(client: Client, cluster: Cluster, state: str) -> None:
    cluster.create("sensor", desiredState="stopped")
    cluster.status("sensor", state=state)
    assert await call(client, "DELETE", PATH) == refused(state.upper())


@pytest.mark.parametrize("state", ["stopping", "aborting"])
async def test_what_holds_up_a_stop_is_reported(client: Client, cluster: Cluster, state: str) -> None:
    cluster.create("sensor", desiredState="stopped")
    cluster.status("sensor", state=state, conditions=[FULL])
    why = {"type": "exception", "reason": HELD_UP.replace("the", "The", 1)}
    assert await call(client, "DELETE", PATH) == refused(state.upper(), caused_by=why)


async def test_what_ails_a_job_at_work_holds_up_nothing(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="started")
    cluster.status("sensor", state="started", conditions=[FULL])
    assert await call(client, "DELETE", PATH) == refused("STARTED")
    assert cluster.deleted == []


async def test_state_stopped_but_asked_to_start(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="stopped")
    cluster.status("sensor", state="stopped")
    cluster.ask("sensor", "started")
    assert await call(client, "DELETE", PATH) == refused("STARTED", 2)


async def test_state_being_deleted(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="stopped")
    cluster.begin_deletion("sensor")
    assert await call(client, "DELETE", PATH) == refused("ABORTING", 2)


@pytest.mark.parametrize("path", [PATH, "/_rollup/job/_all"])
async def test_unknown_id(client: Client, path: str) -> None:
    job_id = path.rpartition("/")[2]
    reason = f"the task with id [{job_id}] doesn't exist"
    assert await call(client, "DELETE", path) == error(404, "resource_not_found_exception", reason)


async def test_still_there_after_the_wait(client: Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delete, "GONE_SECONDS", 0.05)
    cluster.create("sensor")
    cluster.drains = True
    assert await call(client, "DELETE", PATH) == (200, {"acknowledged": False})


async def test_what_holds_up_a_deletion_is_a_warning(
    client: Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delete, "GONE_SECONDS", 0.05)
    cluster.create("sensor")
    cluster.drains = True
    begin = cluster.begin_deletion

    def begin_deletion(name: str, namespace: str) -> None:
        begin(name, namespace)
        cluster.status(name, namespace, state="aborting", conditions=[FULL])

    cluster.begin_deletion = begin_deletion  # type: ignore[method-assign]
    async with client.delete(PATH) as answer:
        assert (answer.status, await answer.json()) == (200, {"acknowledged": False})
        [warning] = answer.headers.getall("Warning")
    assert f'"Rollup job [sensor] is being deleted and not gone yet: {HELD_UP}"' in warning


# What else can happen


async def test_the_answer_waits_until_the_job_is_gone(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor")
    cluster.drains = True
    answer = await deleting(client, cluster)
    await call(client, "GET", "/healthz")
    assert not answer.done()
    cluster.remove("sensor")
    assert await answer == DONE
    assert list(cluster.listeners.values()) == [[]]


async def test_a_start_in_between_is_not_lost(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="stopped")
    cluster.status("sensor", state="stopped")
    cluster.before_delete = lambda: cluster.ask("sensor", "started")
    assert await call(client, "DELETE", PATH) == refused("STARTED", 2)
    assert cluster.objects[AT]["spec"]["desiredState"] == "started"


async def test_a_change_that_the_watch_has_not_shown_is_looked_at_again(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="stopped")
    cluster.status("sensor", tell=False, state="stopped")
    assert await call(client, "DELETE", PATH) == DONE
    assert cluster.deleted == [AT]


async def test_a_job_that_was_replaced_is_judged_anew(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="stopped")
    stale = dict(cluster.known)
    cluster.remove("sensor")
    cluster.create("sensor", desiredState="started")
    cluster.known = stale
    assert await call(client, "DELETE", PATH) == refused("STARTED")


async def test_a_job_that_goes_under_our_hands(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor")
    cluster.remove("sensor", tell=False)
    assert await call(client, "DELETE", PATH) == NOT_FOUND


async def test_a_job_that_keeps_changing(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="stopped")
    cluster.before_delete = lambda: cluster.status("sensor", state="stopped")
    assert (await call(client, "DELETE", PATH))[0] == 503
    assert cluster.deleted == []


@pytest.mark.parametrize(
    ("failure", "status", "text"),
    [
        (Unreachable("connection refused", sent=False), 503, "nothing was changed"),
        (KubeError(429, "TooManyRequests", "later"), 503, "nothing was changed"),
        (KubeError(403, "Forbidden", "no delete"), 500, "Could not delete rollup job [sensor]"),
    ],
)
async def test_a_deletion_that_is_refused(
    client: Client, cluster: Cluster, failure: Exception, status: int, text: str
) -> None:
    cluster.create("sensor")
    cluster.fail_delete = failure
    got, answered = await call(client, "DELETE", PATH)
    assert (got, text in answered["error"]["reason"]) == (status, True)
    assert AT in cluster.objects


@pytest.mark.parametrize("failure", [Unreachable("reset", sent=True), KubeError(504, "Timeout", "slow")])
async def test_a_lost_answer_of_a_deletion_that_stands(client: Client, cluster: Cluster, failure: Exception) -> None:
    cluster.create("sensor")
    cluster.fail_delete = failure
    assert await call(client, "DELETE", PATH) == DONE


async def test_an_outcome_that_is_not_known(client: Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(path: str, *, uid: str, version: int) -> Any:
        raise Unreachable("reset", sent=True)

    cluster.create("sensor")
    monkeypatch.setattr(cluster, "delete", lost)
    status, answered = await call(client, "DELETE", PATH)
    assert status == 500
    assert "It is not known whether the job is being deleted" in answered["error"]["caused_by"]["reason"]


async def test_a_body_is_refused(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor")
    reason = f"request [DELETE {PATH}] does not support having a body"
    assert await call(client, "DELETE", PATH, {}) == error(400, "illegal_argument_exception", reason)


async def test_the_right_is_asked_for_again_where_another_resource_has_the_id_by_now(cluster: Cluster) -> None:
    access = Anybody()
    access.denied = {(EndpointAction.DELETE, "other")}
    cluster.create("sensor", jobId="twin", desiredState="stopped")

    def swap() -> None:
        cluster.before_delete = lambda: None
        cluster.remove("sensor")
        cluster.create("other", jobId="twin", desiredState="stopped")

    cluster.before_delete = swap
    async with served(cluster, access) as client:
        assert (await call(client, "DELETE", "/_rollup/job/twin"))[0] == 403
    assert access.asked == [(EndpointAction.DELETE, "default", "sensor"), (EndpointAction.DELETE, "default", "other")]
    assert cluster.deleted == []


async def test_two_live_jobs_with_the_same_id(client: Client, cluster: Cluster) -> None:
    for name in ("one", "two"):
        cluster.create(name, jobId="twin", desiredState="stopped")
    status, answered = await call(client, "DELETE", "/_rollup/job/twin")
    assert (status, answered["error"]["type"]) == (500, "failed_node_exception")
    assert cluster.deleted == []


async def test_who_may_not_delete_learns_nothing(cluster: Cluster) -> None:
    access = Anybody()
    access.denied = {(EndpointAction.DELETE, "sensor"), (EndpointAction.DELETE, "missing")}
    cluster.create("sensor")
    async with served(cluster, access) as client:
        for name in ("sensor", "missing"):
            assert (await call(client, "DELETE", f"/_rollup/job/{name}"))[0] == 403
    assert cluster.deleted == []


@pytest.mark.parametrize("drains", [False, True])
async def test_a_deletion_whose_answer_was_lost_on_the_wire_is_acknowledged(
    client: Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, drains: bool
) -> None:
    """Sent again, it would meet its own work: 404, or a job that is being deleted."""

    def behave(request: Request) -> Answer | Broken:
        if not request.on_kept:
            return Answer() if request.method == "GET" else refusal()
        cluster.begin_deletion("sensor")
        if drains:
            asyncio.get_running_loop().call_later(0.05, cluster.remove, "sensor")
        else:
            cluster.remove("sensor")
        return Broken()

    def refusal() -> Answer:
        return Answer(409, {"reason": "Conflict"}) if AT in cluster.objects else Answer(404, {"reason": "NotFound"})

    cluster.create("sensor")
    async with wire_server(behave) as server, await through(server, cluster, monkeypatch):
        assert await call(client, "DELETE", PATH) == DONE
        assert server.methods == ["GET", "DELETE"]


async def through(server: WireServer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> KubeClient:
    """Let deletions go over the wire, to `server`, on a connection that was used before."""
    kube = KubeClient(Connection(server=server.url, ssl=ssl.create_default_context()))
    await kube.get("/x")
    monkeypatch.setattr(cluster, "delete", kube.delete)
    return kube


@pytest.mark.parametrize("late", [False, True])
async def test_a_deletion_that_was_lost_on_an_old_connection_is_sent_again_and_not_taken_for_somebody_elses(
    client: Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """`late`: the first is under way still when the second is sent, and comes before it."""

    def behave(request: Request) -> Answer | Broken:
        if request.on_kept:
            return Broken()
        if request.method != "DELETE":
            return Answer()
        cluster.remove("sensor")
        return Answer(404, {"reason": "NotFound"}) if late else Answer()

    cluster.create("sensor")
    async with wire_server(behave) as server, await through(server, cluster, monkeypatch):
        assert await call(client, "DELETE", PATH) == DONE
        assert server.methods == ["GET", "DELETE", "DELETE"]
        first, second = (request.body["preconditions"] for request in server.arrived[1:])
        assert first == second


async def test_a_start_that_comes_after_a_lost_deletion_counts(
    client: Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def behave(request: Request) -> Answer | Broken:
        if request.on_kept:
            cluster.ask("sensor", "started")
            return Broken()
        return Answer()

    cluster.create("sensor", desiredState="stopped")
    async with wire_server(behave) as server, await through(server, cluster, monkeypatch):
        assert await call(client, "DELETE", PATH) == refused("STARTED", 2)
        assert server.methods == ["GET", "DELETE"]
