"""The audit log: who did what to which job, from where, and what came of it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from rollup_operator.http.access.permits import EndpointAction
from rollup_operator.http.protocol.answers import Form
from support.access_double import Anybody
from support.http_double import Cluster
from support.serving import served

STOP = "/_rollup/job/sensor/_stop"


@pytest.fixture
async def client(cluster: Cluster, access: Anybody) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        served(cluster, access=access) as endpoint,
        aiohttp.ClientSession(f"http://127.0.0.1:{endpoint.port}") as session,
    ):
        yield session


async def lines(client: aiohttp.ClientSession, method: str, path: str, **headers: str) -> list[Any]:
    """Call as ann; return the lines of the audit log, after a look at the id that the answer carries."""
    with capture_logs() as logs:
        sent = {"Authorization": "Bearer ann"} | headers
        async with client.request(method, path, headers={k: v for k, v in sent.items() if v}) as answer:
            await answer.read()
    found = [entry for entry in logs if entry["event"] == "audit"]
    assert [entry["request_id"] for entry in found] == answer.headers.getall("X-Request-Id", [])
    assert {entry["log_level"] for entry in found} <= {"info"}
    assert "Bearer" not in str(found)
    return [{k: v for k, v in entry.items() if k not in ("event", "log_level", "request_id")} for entry in found]


async def test_a_line_tells_who_what_where_and_the_result(client: aiohttp.ClientSession, cluster: Cluster) -> None:
    cluster.create("sensor-1f3a", "team", jobId="sensor")
    [line] = await lines(client, "POST", f"/namespaces/team{STOP}", **{"X-Opaque-Id": "build 7"})
    assert line.pop("seconds") >= 0
    assert line == {
        "user": "ann",
        "action": "stop",
        "namespace": "team",
        "job": "sensor",
        "resources": ["sensor-1f3a"],
        "resources_count": 1,
        "peer": "127.0.0.1",
        "opaque_id": "build 7",
        "status": 200,
    }


async def test_a_line_about_all_names_those_it_meant(
    client: aiohttp.ClientSession, cluster: Cluster, access: Anybody
) -> None:
    for name in ("a", "b", "c"):
        cluster.create(name)
    access.denied = {(EndpointAction.START, "b")}
    [line] = await lines(client, "POST", "/_xpack/rollup/job/_all/_start/")
    assert (line["action"], line["job"], line["resources"]) == ("start", "_all", ["a", "c"])
    assert line["namespace"] == "default"


@pytest.mark.parametrize(
    ("headers", "path", "status", "user"),
    [
        ({"Authorization": ""}, STOP, 401, None),
        ({"Authorization": "Bearer"}, STOP, 401, None),
        ({}, STOP, 403, "ann"),
        ({}, "/_rollup/job/nobody/_stop", 404, "ann"),
        ({}, f"{STOP}?timeout=x", 400, "ann"),
    ],
)
async def test_what_is_refused_is_reported_too(
    client: aiohttp.ClientSession,
    cluster: Cluster,
    access: Anybody,
    headers: dict[str, str],
    path: str,
    status: int,
    user: str | None,
) -> None:
    cluster.create("sensor")
    access.denied = {(EndpointAction.STOP, "sensor")}
    [line] = await lines(client, "POST", path, **headers)
    assert (line["status"], line["user"], line["resources"]) == (status, user, [])


async def test_looking_leaves_no_line(client: aiohttp.ClientSession, cluster: Cluster) -> None:
    cluster.create("sensor")
    for path in ("/", "/_rollup/job", "/_rollup/job/sensor", "/healthz", "/nothing"):
        assert await lines(client, "GET", path) == []
    assert await lines(client, "PUT", STOP) == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_searching_leaves_no_line(client: aiohttp.ClientSession, cluster: Cluster, method: str) -> None:
    cluster.create("sensor")  # a dashboard asks each second, and a line could not say of what
    for path in ("/_all/_search", "/_search", "/_all/_rollup_search", "/_all/_field_caps?fields=*", "/x/_search"):
        assert await lines(client, method, path) == []
    for path in ("/_all/_mapping", "/_all/_mapping/field/*", "/_cluster/health"):
        assert await lines(client, "GET", path) == []


async def test_a_client_cannot_steer_the_terminal_that_shows_the_log(client: aiohttp.ClientSession) -> None:
    [line] = await lines(client, "POST", "/_rollup/job/%1b%5b31m%0d%0a" + "x" * 500 + "/_stop")
    assert line["job"].startswith("?[31m??xxx")
    assert len(line["job"]) == 256


async def test_a_mistake_of_ours_is_not_taken_for_a_client_that_hung_up(
    client: aiohttp.ClientSession, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Form, "of_error", None)
    with capture_logs() as logs:
        async with client.post(STOP, headers={"Authorization": "Bearer ann"}) as answer:
            assert answer.status == 500
    assert [entry["status"] for entry in logs if entry["event"] == "audit"] == [500]


async def test_who_hangs_up_is_logged_with_the_time_it_waited(client: aiohttp.ClientSession, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="started")
    with capture_logs() as logs:
        headers = {"Authorization": "Bearer ann"}
        waiting = asyncio.create_task(client.post(f"{STOP}?wait_for_completion=true", headers=headers))
        await cluster.writes(1)
        waiting.cancel()
        async with asyncio.timeout(5):
            while not logs:  # the server hears of it a little later
                await (await client.get("/healthz")).read()
    [line] = [entry for entry in logs if entry["event"] == "audit"]
    assert (line["status"], line["resources"]) == (499, ["sensor"])
