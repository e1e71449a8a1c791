"""The faulty way to a node, against a tiny server in a node's place.

A fault that did nothing, or a silence that none was, would let the tests of stores pass: what they would miss is here.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from support.store_faults import CutAfter, CutBefore, CutInside, CutSent, Hold, HoldAnswer
from support.store_proxy import StoreProxy


@dataclass
class Server:
    """What a node would have heard of."""

    heard: list[tuple[str, bytes]] = field(default_factory=list)
    heard_one: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def hears(self) -> None:
        async with asyncio.timeout(5):
            await self.heard_one.wait()

    async def echo(self, request: web.Request) -> web.Response:
        self.heard.append((f"{request.method} {request.raw_path}", await request.read()))
        self.heard_one.set()
        return web.json_response({"n": len(self.heard)})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.echo)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[StoreProxy]:
    async with StoreProxy(server.url) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: StoreProxy) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(proxy.url) as client:
        yield client


async def call(client: aiohttp.ClientSession, method: str, path: str, **more: Any) -> tuple[int, Any]:
    async with client.request(method, path, **more) as answer:
        return answer.status, await answer.json()


@asynccontextmanager
async def asked(client: aiohttp.ClientSession, method: str, path: str, **more: Any) -> AsyncIterator[asyncio.Task[Any]]:
    """A request under way; it is over with the block."""
    task = asyncio.create_task(call(client, method, path, **more))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("fault", "heard"), [(CutBefore(), False), (CutSent(), True), (CutAfter(), True), (CutInside(), True)]
)
async def test_a_cut_is_seen_as_a_broken_connection(
    server: Server, proxy: StoreProxy, client: aiohttp.ClientSession, fault: Any, heard: bool
) -> None:
    rule = proxy.on("POST", "/it$", fault=fault)
    with pytest.raises(aiohttp.ClientError):
        await call(client, "POST", "/it", data=b"x")
    if heard:
        await server.hears()
    assert server.heard == ([("POST /it", b"x")] if heard else [])
    assert [request.fate for request in rule.caught] == ["cut"]
    assert (rule.caught[0].sent is not None) == heard
    assert (await call(client, "POST", "/it", data=b"y"))[0] == 200


async def test_what_is_held_goes_on_when_released(
    server: Server, proxy: StoreProxy, client: aiohttp.ClientSession
) -> None:
    hold, late = Hold(), HoldAnswer()
    proxy.on("POST", fault=hold)
    proxy.on("PUT", fault=late)
    async with asked(client, "POST", "/x") as post, asked(client, "PUT", "/y") as put:
        async with asyncio.timeout(5):
            await late.carried_out.wait()
        await proxy.arrival("POST")
        assert [line for line, _ in server.heard] == ["PUT /y"]
        assert not post.done()
        assert not put.done()
        hold.release()
        assert await post == (200, {"n": 2})
        late.release()
        assert await put == (200, {"n": 1})


@pytest.mark.parametrize("outlives", [False, True])
async def test_a_held_request_reaches_the_node_after_its_client_only_if_asked_to(
    server: Server, proxy: StoreProxy, client: aiohttp.ClientSession, outlives: bool
) -> None:
    hold = Hold(outlives_client=outlives)
    rule = proxy.on("POST", fault=hold)
    async with asked(client, "POST", "/x", data=b"late"):
        request = await proxy.caught(rule)
    if not outlives:
        await proxy.ended(request)
    hold.release()
    await proxy.ended(request)
    assert server.heard == ([("POST /x", b"late")] if outlives else [])
    assert request.status == (200 if outlives else None)


async def test_quiet_is_measured_by_what_arrives_and_what_is_under_way(
    proxy: StoreProxy, client: aiohttp.ClientSession
) -> None:
    await call(client, "GET", "/before", headers={"X-Opaque-Id": "rollup/a/1"})
    moment = time.monotonic()
    assert proxy.quiet_since(moment)
    await call(client, "GET", "/other", headers={"X-Opaque-Id": "rollup-operator"})
    assert not proxy.quiet_since(moment)
    assert proxy.quiet_since(moment, opaque_id="rollup/")
    hold = Hold()
    proxy.on(fault=hold)
    async with asked(client, "GET", "/held", headers={"X-Opaque-Id": "rollup/a/2"}):
        held = await proxy.arrival("GET", "/held")
        moment = time.monotonic()
        assert proxy.busy_since(moment, opaque_id="rollup/") == [held]
    await proxy.ended(held)
    assert proxy.quiet_since(time.monotonic())
    assert proxy.busy_since(moment) == [held]
