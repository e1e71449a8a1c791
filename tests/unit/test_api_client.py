"""The API client on the wire: what arrives when connections break, and what the caller hears of it."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from rollup_operator.kube.client import KubeClient, KubeError, NotFound, Unreachable, may_stand
from rollup_operator.kube.connection import Connection
from support.wire_server import Answer, Broken, Request, Silent, WireServer, wire_server

Write = Callable[[KubeClient], Awaitable[Any]]
WRITES: dict[str, Write] = {
    "PUT": lambda kube: kube.put("/x", {}),
    "DELETE": lambda kube: kube.delete("/x", uid="u", version=1),
    "PATCH": lambda kube: kube.patch("/x", {}),
    "POST": lambda kube: kube.post("/x", {}),
}


def client(server: WireServer, **more: Any) -> KubeClient:
    return KubeClient(Connection(server=server.url, ssl=ssl.create_default_context()), **more)


def broken_on_kept(request: Request) -> Answer | Broken:
    """Carry everything out; break a connection with its second request."""
    return Broken() if request.on_kept else Answer(body={"connection": request.connection})


@pytest.mark.parametrize("method", WRITES)
async def test_a_write_whose_kept_connection_breaks_is_sent_once(method: str) -> None:
    async with wire_server(broken_on_kept) as server, client(server) as kube:
        await kube.get("/x")
        with pytest.raises(Unreachable) as caught:
            await WRITES[method](kube)
        assert server.methods == ["GET", method]
        assert server.arrived[1].on_kept
        assert caught.value.sent
        assert may_stand(caught.value)


async def test_a_read_whose_kept_connection_breaks_is_sent_again_over_another() -> None:
    async with wire_server(broken_on_kept) as server, client(server) as kube:
        await kube.get("/x")
        assert await kube.get("/y") == {"connection": 2}
        assert [(r.target, r.connection) for r in server.arrived] == [("/x", 1), ("/y", 1), ("/y", 2)]


async def test_a_read_is_sent_twice_at_most() -> None:
    async with wire_server(lambda _: Broken()) as server, client(server) as kube:
        with pytest.raises(Unreachable) as caught:
            await kube.get("/x")
        assert server.methods == ["GET", "GET"]
        assert caught.value.sent


async def test_a_read_that_is_not_answered_in_time_is_sent_once() -> None:
    async with wire_server(lambda _: Silent()) as server, client(server, timeout=0.05) as kube:
        with pytest.raises(Unreachable) as caught:
            await kube.get("/x")
        assert server.methods == ["GET"]
        assert caught.value.sent


async def test_a_watch_whose_kept_connection_breaks_begins_over_another() -> None:
    async with wire_server(broken_on_kept) as server, client(server) as kube:
        await kube.get("/x")
        with pytest.raises(KeyError, match="object"):  # the answer is no event: it came
            await anext(kube.watch("/y", since="1"))
        assert [request.connection for request in server.arrived] == [1, 1, 2]


@pytest.mark.parametrize("method", ["GET", *WRITES])
async def test_a_connection_that_the_server_closed_while_idle_is_not_used(method: str) -> None:
    async with wire_server(lambda r: Answer(body={"connection": r.connection})) as server, client(server) as kube:
        await kube.get("/x")
        await server.close_idle()
        send = WRITES.get(method, lambda kube: kube.get("/x"))
        assert await send(kube) == {"connection": 2}
        assert server.methods == ["GET", method]


async def test_connections_that_a_storm_needed_end_although_requests_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollup_operator.kube.connection.KEEP_SECONDS", 0.2)
    async with wire_server() as server, client(server) as kube:
        await asyncio.gather(*(kube.get("/x") for _ in range(8)))
        assert server.connections == 8
        async with asyncio.timeout(10):
            while server.connections > 1:
                await kube.get("/x")


async def test_a_request_that_found_no_server_was_not_sent() -> None:
    async with wire_server() as server:
        kube = client(server)
    async with kube:
        for send in [lambda kube: kube.get("/x"), *WRITES.values()]:
            with pytest.raises(Unreachable) as caught:
                await send(kube)
            assert not caught.value.sent
            assert not may_stand(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", *WRITES])
async def test_nobody_is_sent_elsewhere(method: str, status: int) -> None:
    async with wire_server() as other, wire_server() as server, client(server) as kube:
        server.behave = lambda _: Answer(status, headers={"Location": f"{other.url}/elsewhere"})
        with pytest.raises(KubeError, match=f"redirects to {other.url}/elsewhere") as caught:
            await WRITES.get(method, lambda kube: kube.get("/x"))(kube)
        assert caught.value.status == status
        assert not caught.value.transient
        assert (server.methods, other.methods) == ([method], [])


async def test_the_session_for_kopf_sends_a_write_once() -> None:
    connection = Connection(server="http://unused", ssl=ssl.create_default_context())
    async with wire_server(broken_on_kept) as server, connection.session(connections=1) as session:
        async with session.get(f"{server.url}/x"):
            pass
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.delete(f"{server.url}/x")
        assert server.methods == ["GET", "DELETE"]


@pytest.mark.parametrize("method", ["GET", *WRITES])
async def test_an_answer_that_is_no_json_is_none(method: str) -> None:
    async with wire_server(lambda _: Answer(200, "<html>Log in</html>")) as server, client(server) as kube:
        with pytest.raises(Unreachable, match="no JSON: '<html>Log in") as caught:
            await WRITES.get(method, lambda kube: kube.get("/x"))(kube)
        assert caught.value.sent


async def test_many_reads_outlive_a_server_that_closes_its_connections() -> None:
    async with wire_server() as server, client(server, connections=8) as kube:
        for _ in range(20):
            await asyncio.gather(*(kube.get("/x") for _ in range(8)))
            await server.close_idle()
        assert len(server.arrived) == 160


@pytest.mark.parametrize(
    ("body", "is_gone"),
    [
        ({"kind": "Status", "reason": "NotFound", "details": {"name": "x", "kind": "rollupjobs"}}, True),
        ({"kind": "Status", "reason": "NotFound", "details": {}}, False),
        ({"kind": "Status", "reason": "NotFound"}, False),
        ("404 page not found", False),
    ],
)
async def test_only_an_answer_that_names_the_object_says_that_it_is_gone(body: Any, is_gone: bool) -> None:
    async with wire_server(lambda _: Answer(status=404, body=body)) as server, client(server) as kube:
        with pytest.raises(KubeError) as caught:
            await kube.get("/x")
    assert isinstance(caught.value, NotFound) == is_gone
    assert caught.value.transient != is_gone
