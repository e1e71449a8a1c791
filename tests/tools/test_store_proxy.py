"""The faulty way to a node, against a tiny server in a node's place."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from support.store_faults import (
    Answer,
    CutAfter,
    CutBefore,
    CutInside,
    CutSent,
    HalfBulk,
    Hold,
    HoldAnswer,
    filtered,
)
from support.store_proxy import ProxyThread, StoreProxy
from support.store_wire import Wire

BIG = bytes(range(256)) * 4000


@dataclass
class Server:
    """What a node would have heard of."""

    heard: list[tuple[str, bytes]] = field(default_factory=list)
    heard_one: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    def hear(self, request: web.Request, body: bytes = b"") -> None:
        self.heard.append((f"{request.method} {request.raw_path}", body))
        self.heard_one.set()

    async def hears(self) -> None:
        async with asyncio.timeout(5):
            await self.heard_one.wait()

    async def echo(self, request: web.Request) -> web.Response:
        self.hear(request, await request.read())
        return web.json_response({"n": len(self.heard)}, headers={"X-Seen": request.headers.get("X-Opaque-Id", "")})

    async def bulk(self, request: web.Request) -> web.Response:
        lines = (await request.read()).splitlines()
        self.hear(request, b"\n".join(lines))
        items = [{"index": {"_id": json.loads(line)["index"]["_id"], "status": 201}} for line in lines[::2]]
        return web.json_response({"took": 3, "errors": False, "items": items})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        for start in range(0, len(BIG), 100_000):
            await answer.write(BIG[start : start + 100_000])
        return answer

    async def forever(self, request: web.Request) -> web.Response:
        self.hear(request)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application(client_max_size=2**26)
    app.router.add_get("/stream", server.stream)
    app.router.add_get("/forever", server.forever)
    app.router.add_post("/{index}/_bulk", server.bulk)
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


async def test_what_passes_is_the_same_and_recorded(
    server: Server, proxy: StoreProxy, client: aiohttp.ClientSession
) -> None:
    before = time.monotonic()
    async with client.put("/a%2Fb/_doc/1?x=%26", data=BIG, headers={"X-Opaque-Id": "rollup/u/1"}) as answer:
        assert (await answer.json(), answer.headers["X-Seen"]) == ({"n": 1}, "rollup/u/1")
    async with client.get("/stream") as answer:
        assert await answer.read() == BIG
    async with client.head("/a") as answer:
        assert answer.status == 200
    assert await call(client, "POST", "/chunked", data=_chunks()) == (200, {"n": 3})
    assert server.heard == [("PUT /a%2Fb/_doc/1?x=%26", BIG), ("HEAD /a", b""), ("POST /chunked", b"onetwo")]
    put, stream, *_ = proxy.requests
    assert (put.method, put.target, put.opaque_id, put.body) == ("PUT", "/a%2Fb/_doc/1?x=%26", "rollup/u/1", BIG)
    assert put.sent is not None
    assert put.ended is not None
    assert before < put.arrived <= put.sent <= put.ended < stream.arrived
    assert [(r.status, r.fate) for r in proxy.requests] == [(200, "answered")] * 4


async def test_an_answer_has_ended_when_its_client_can_act_on_it(
    proxy: StoreProxy, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = Wire.write, list[float]()

    async def write_and_lose_the_processor(wire: Wire, data: bytes) -> None:
        await write(wire, data)
        written.append(time.monotonic())
        time.sleep(0.01)  # noqa: ASYNC251 - as where another thread or process has the processor

    monkeypatch.setattr(Wire, "write", write_and_lose_the_processor)
    assert await call(client, "GET", "/passed") == (200, {"n": 1})
    proxy.on("GET", "/made", fault=Answer(503))
    assert (await call(client, "GET", "/made"))[0] == 503
    passed, made = proxy.requests
    assert passed.ended is not None
    assert made.ended is not None
    assert passed.ended <= written[-2]
    assert made.ended <= written[-1]


async def _chunks() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


async def test_one_connection_serves_many_requests(proxy: StoreProxy) -> None:
    async with aiohttp.ClientSession(proxy.url, connector=aiohttp.TCPConnector(limit=1)) as client:
        for n in range(1, 6):
            assert await call(client, "GET", "/") == (200, {"n": n})
        assert len(proxy._connections) == 1


async def test_a_client_that_goes_away_ends_its_request_at_the_node(
    server: Server, proxy: StoreProxy, client: aiohttp.ClientSession
) -> None:
    async with asked(client, "GET", "/forever"):
        request = await proxy.arrival("GET", "/forever")
        await proxy.until(lambda: request.sent)
        await server.hears()
        assert request.ended is None
    async with asyncio.timeout(5):
        await server.cancelled.wait()
    await proxy.ended(request)
    assert request.fate == "gone"


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


async def test_a_cut_inside_an_answer_lets_part_of_it_through(proxy: StoreProxy, client: aiohttp.ClientSession) -> None:
    proxy.on(path="/it", fault=CutInside(0.5))
    async with client.get("/it") as answer:
        assert answer.status == 200
        length = int(answer.headers["Content-Length"])
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    assert length == 8


async def test_rules_choose_by_method_path_and_number(proxy: StoreProxy, client: aiohttp.ClientSession) -> None:
    proxy.on("GET", "/a$", fault=Answer(429), nth=2, times=2)
    proxy.on("GET", "/", fault=lambda request: Answer(503 if "b" in request.target else 408), nth=5, times=None)
    asked = ["/a", "/a", "/a", "/a", "/b", "/a"]
    assert [(await call(client, "GET", path))[0] for path in asked] == [200, 429, 429, 200, 503, 408]
    assert (await call(client, "POST", "/a"))[0] == 200
    proxy.heal()
    assert (await call(client, "GET", "/b"))[0] == 200


async def test_an_answer_of_its_own_is_an_error_as_a_node_gives_it(
    server: Server, proxy: StoreProxy, client: aiohttp.ClientSession
) -> None:
    proxy.on(fault=Answer(429, "es_rejected_execution_exception", "rejected execution"))
    cause = {"type": "es_rejected_execution_exception", "reason": "rejected execution"}
    answered = {"error": {"root_cause": [cause], **cause}, "status": 429}
    assert await call(client, "POST", "/x/_search") == (429, answered)
    assert server.heard == []


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


@pytest.mark.parametrize("filter_path", ["", "?refresh=true&filter_path=errors,items.*.status"])
async def test_half_a_bulk_is_answered_for_every_item(
    server: Server, proxy: StoreProxy, client: aiohttp.ClientSession, filter_path: str
) -> None:
    proxy.on("POST", "_bulk", fault=HalfBulk(lambda n: n not in (1, 2)))
    lines = [part for n in range(4) for part in (f'{{"index":{{"_id":"{n}"}}}}', f'{{"n":{n}}}')]
    data = ("\n".join(lines) + "\n").encode()
    status, answer = await call(client, "POST", f"/target/_bulk{filter_path}", data=data)
    assert (status, answer["errors"]) == (200, True)
    assert [item["index"]["status"] for item in answer["items"]] == [201, 429, 429, 201]
    sent = "\n".join([*lines[0:2], *lines[6:8]]).encode()
    if filter_path:
        assert set(answer) == {"errors", "items"}
        assert all(set(item["index"]) == {"status"} for item in answer["items"])
        assert server.heard == [("POST /target/_bulk?refresh=true", sent)]
    else:
        assert [item["index"]["_id"] for item in answer["items"]] == ["0", "1", "2", "3"]
        assert answer["items"][1]["index"]["_index"] == "target"
        assert answer["items"][1]["index"]["error"]["type"] == "circuit_breaking_exception"
        assert server.heard == [("POST /target/_bulk", sent)]
    assert (await call(client, "POST", "/target/_bulk", data=data))[1]["errors"] is False


async def test_a_bulk_of_which_nothing_gets_through_never_reaches_the_node(
    server: Server, proxy: StoreProxy, client: aiohttp.ClientSession
) -> None:
    proxy.on(fault=HalfBulk(lambda _: False, status=503, type_="unavailable_shards_exception", reason="gone"))
    status, answer = await call(client, "POST", "/_bulk", data=b'{"delete":{"_index":"a","_id":"1"}}\n')
    error = {"type": "unavailable_shards_exception", "reason": "gone"}
    assert (status, answer["items"]) == (
        200,
        [{"delete": {"_index": "a", "_id": "1", "status": 503, "error": error}}],
    )
    assert server.heard == []


def test_filter_path_leaves_what_a_node_leaves() -> None:
    answer = {
        "took": 1,
        "errors": True,
        "items": [{"index": {"_id": "1", "status": 201}}, {"index": {"error": {"a": 1}}}],
    }
    assert filtered(answer, "errors,items.*.error") == {"errors": True, "items": [{"index": {"error": {"a": 1}}}]}
    assert filtered(answer, "**.status") == {"items": [{"index": {"status": 201}}]}
    assert filtered(answer, "nothing") == {}


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


async def test_it_goes_away_and_comes_back_at_the_same_address(
    proxy: StoreProxy, client: aiohttp.ClientSession
) -> None:
    async with asked(client, "GET", "/forever") as under_way:
        await proxy.arrival()
        await proxy.go_away()
        with pytest.raises(aiohttp.ClientError):
            await under_way
    with pytest.raises(aiohttp.ClientConnectorError):
        await call(client, "GET", "/")
    await proxy.come_back()
    assert (await call(client, "GET", "/"))[0] == 200


async def test_a_node_that_is_not_there_is_a_broken_connection() -> None:
    async with StoreProxy("http://127.0.0.1:9") as proxy, aiohttp.ClientSession(proxy.url) as client:
        with pytest.raises(aiohttp.ClientError):
            await call(client, "GET", "/")


async def test_a_proxy_in_a_thread_serves_tests_without_a_loop(server: Server) -> None:
    def use() -> tuple[list[str], list[str]]:
        from local_stores import api

        with ProxyThread(server.url) as thread:
            rule = thread.call(thread.proxy.on, "GET", "/x", fault=Answer(503))
            answers = [str(api.request(thread.proxy.url, "GET", "/x")[0]) for _ in range(2)]
            thread.run(thread.proxy.caught(rule))
            return answers, [request.fate for request in thread.proxy.requests]

    assert await asyncio.to_thread(use) == (["503", "200"], ["answered", "answered"])
