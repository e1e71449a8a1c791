"""What a client may take: connections, places to wait in, time, and bytes. Spoken over plain sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from local_tools.ports import free_ports
from rollup_operator.http.listener import admission, connections
from rollup_operator.http.listener import scrape as second
from rollup_operator.http.listener.server import CannotListen
from support.client_wire import GENEROUS, Wire
from support.http_double import Cluster
from support.serving import served

WAIT = "/_rollup/job/sensor/_stop?wait_for_completion=true"
Connect = Callable[[], Awaitable[Wire]]
Serve = Callable[..., Awaitable[Callable[..., Awaitable[Wire]]]]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster.indexing("sensor")


@pytest.fixture
async def serve(cluster: Cluster) -> AsyncIterator[Serve]:
    """Serve with some settings; the answer opens connections."""
    async with AsyncExitStack() as stack:

        async def begin(**settings: Any) -> Callable[..., Awaitable[Wire]]:
            endpoint = await stack.enter_async_context(served(cluster, **settings))

            async def connect(address: str = "127.0.0.1") -> Wire:
                come = asyncio.open_connection("127.0.0.1", endpoint.port, local_addr=(address, 0))
                wire = Wire(*await come)
                stack.push_async_callback(wire.hang_up)
                return wire

            return connect

        yield begin


@pytest.fixture
async def scraping(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """Open connections to a second listener that has room for one, and for another that is still heard."""
    monkeypatch.setattr(second, "LIMITS", replace(second.LIMITS, connections=1, head_seconds=1.0))
    monkeypatch.setattr(connections, "MARGIN", 1)
    [port] = free_ports(1)

    async def scrape() -> bytes:
        return b"up 1\n"

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(served(cluster, scrape=scrape, metrics_port=port))

        async def connect() -> Wire:
            wire = Wire(*await asyncio.open_connection("127.0.0.1", port))
            stack.push_async_callback(wire.hang_up)
            return wire

        yield connect


async def when_waiting(connect: Callable[[], Awaitable[Wire]], count: int) -> None:
    wire = await connect()
    async with asyncio.timeout(GENEROUS):
        while (await wire.ask("GET /readyz"))[2]["waiters"] != count:
            pass
    await wire.hang_up()


# Connections


async def test_probes_that_stay_connected_keep_nobody_out(
    serve: Serve, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "CROWDED_SECONDS", 0.1)
    connect = await serve(http_connections=64)  # sixteen places for strangers
    for address in range(2, 18):
        wire = await connect(f"127.0.0.{address}")
        assert await wire.status("GET /healthz") == 200
    async with asyncio.timeout(GENEROUS):
        assert (await (await connect()).ask("GET /_rollup/job/sensor"))[0] == 200


async def test_connections_above_the_limit_are_reported_and_closed_but_probes_are_answered(
    serve: Serve, cluster: Cluster
) -> None:
    connect = await serve(http_connections=2)
    first, second = await connect(), await connect()
    for wire, user in ((first, "ann"), (second, "ben")):
        assert (await wire.ask("GET /", user=user))[0] == 200
    third, probe = await connect(), await connect()
    status, headers, answer = await third.ask("POST /_rollup/job/sensor/_stop")
    assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
    assert "nothing was changed" in answer["error"]["reason"]
    assert await third.closed()
    for _ in range(2):
        assert (await probe.ask("GET /healthz"))[0] == 200
        assert (await probe.ask("GET /readyz"))[0] == 200
    assert cluster.applied == []
    await first.hang_up()
    await probe.hang_up()
    assert (await second.ask("GET /", user="ben"))[0] == 200
    async with asyncio.timeout(GENEROUS):
        while (await (fresh := await connect()).ask("GET /"))[0] != 200:
            await fresh.hang_up()


async def test_connections_without_end_are_closed_unheard(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MARGIN", 1)
    connect = await serve(http_connections=1)
    first, second, third = [await connect() for _ in range(3)]
    assert await third.closed()
    assert (await second.ask("GET /"))[0] == 503
    assert (await first.ask("GET /"))[0] == 200


async def test_the_second_listener_has_room_for_some_and_for_probes(scraping: Connect) -> None:
    first, second, third = [await scraping() for _ in range(3)]
    assert await third.closed()
    assert await first.status("GET /metrics") == 200
    assert await second.status("GET /healthz") == 200
    assert await second.status("GET /metrics") == 503
    assert await second.closed()
    assert await first.status("GET /metrics") == 200


async def test_the_second_listener_does_not_wait_for_who_says_nothing(scraping: Connect) -> None:
    assert await (await scraping()).closed()


async def test_a_stranger_keeps_no_connection(serve: Serve) -> None:
    connect = await serve()
    wire = await connect()
    status, headers, _ = await wire.ask("GET /", user=None)
    assert (status, headers["connection"]) == (401, "close")
    assert await wire.closed()


# Addresses


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@contextlib.asynccontextmanager
async def anywhere(cluster: Cluster, **more: Any) -> AsyncIterator[tuple[Any, int, int]]:
    """Serve on ports that are free on every address; what is free on one may be in use on another, by a client."""
    for left in reversed(range(5)):
        port, metrics_port = free_ports(2)
        async with AsyncExitStack() as stack:
            try:
                serving = served(cluster, http_port=port, metrics_port=metrics_port, **more)
                endpoint = await stack.enter_async_context(serving)
            except CannotListen:
                if not left:
                    raise
                continue
            yield endpoint, port, metrics_port
            return


async def test_every_address_is_listened_on_whichever_kinds_there_are(cluster: Cluster) -> None:
    async def scrape() -> bytes:
        return b""

    hosts = {"http_host": "*", "metrics_host": "*", "allow_plain_http": True}
    async with anywhere(cluster, scrape=scrape, **hosts) as (endpoint, port, metrics_port):
        assert endpoint.url == f"http://localhost:{port}"
        for address in ["127.0.0.1", *(["::1"] if has_ipv6() else [])]:
            for listener in (port, metrics_port):
                wire = Wire(*await asyncio.open_connection(address, listener))
                assert await wire.status("GET /healthz") == 200
                await wire.hang_up()


@pytest.mark.parametrize("busy", ["http", "metrics"])
async def test_a_listener_that_cannot_listen_leaves_no_other_open(cluster: Cluster, busy: str) -> None:
    [free] = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"http_port": free, "metrics_port": free} | {f"{busy}_port": taken.getsockname()[1]}
        with pytest.raises(CannotListen, match=f"choose another {busy}_port"):
            async with served(cluster, **ports):
                pass
    socket.create_server(("127.0.0.1", free)).close()


# Time


@pytest.mark.parametrize("said", ["", "GET / HTTP/1.1\r\nHost: here\r\n"])
async def test_a_connection_that_brings_no_request_is_closed(serve: Serve, said: str) -> None:
    connect = await serve(http_head_seconds=0.2)
    wire = await connect()
    await wire.send(said)
    assert await wire.closed()


async def test_a_request_that_comes_letter_by_letter_is_not_waited_for(serve: Serve) -> None:
    connect = await serve(http_head_seconds=0.2)
    wire = await connect()
    closed = asyncio.create_task(wire.closed())
    await wire.send("GET /")
    with contextlib.suppress(ConnectionError):
        while not closed.done():
            await wire.send("x")
            await asyncio.sleep(0.02)
    assert await closed


async def test_a_connection_that_is_idle_for_long_is_closed(serve: Serve) -> None:
    connect = await serve(http_idle_seconds=0.2)
    wire = await connect()
    assert (await wire.ask("GET /"))[0] == 200
    await wire.send("GET / HT")
    assert await wire.closed()


async def test_who_waits_is_not_idle(serve: Serve, cluster: Cluster) -> None:
    connect = await serve(http_head_seconds=0.1, http_body_seconds=0.1, http_idle_seconds=0.1)
    wire = await connect()
    stop = asyncio.create_task(wire.ask(f"POST {WAIT}"))
    await when_waiting(connect, 1)
    await asyncio.sleep(0.5)
    cluster.status("sensor", state="stopped")
    assert (await stop)[0] == 200


async def test_a_body_that_does_not_come_is_408(serve: Serve, cluster: Cluster) -> None:
    connect = await serve(http_body_seconds=0.1)
    wire = await connect()
    status, headers, answer = await wire.ask("PUT /_rollup/job/sensor", "Content-Length: 10", body='{"a":')
    assert (status, headers["connection"]) == (408, "close")
    assert answer["error"]["reason"] == "the body has not arrived within [0.1s]"
    assert cluster.applied == []


async def test_the_body_of_a_stranger_is_not_waited_for(serve: Serve) -> None:
    connect = await serve(http_body_seconds=60)
    wire = await connect()
    assert (await wire.ask("POST /_rollup/job/sensor/_stop", "Content-Length: 1000000", user=None))[0] == 401


# Bytes


@pytest.mark.parametrize(
    ("headers", "body"),
    [(["Content-Length: 101"], ""), (["Transfer-Encoding: chunked"], "65\r\n" + "x" * 101 + "\r\n0\r\n\r\n")],
    ids=["declared", "chunked"],
)
async def test_a_body_that_is_too_large_is_413(serve: Serve, cluster: Cluster, headers: list[str], body: str) -> None:
    connect = await serve(http_body_bytes=100)
    wire = await connect()
    status, answered, answer = await wire.ask("PUT /_rollup/job/sensor", *headers, body=body)
    assert (status, answered["connection"], answer["status"]) == (413, "close", 413)
    assert answer["error"]["type"] == "content_too_long_exception"
    assert answer["error"]["reason"] == "the body is larger than the limit of [100] bytes"
    assert cluster.applied == []


@pytest.mark.parametrize(
    ("line", "headers", "type_"),
    [
        ("GET /" + "x" * 300, [], "too_long_http_line_exception"),
        ("GET /", ["X-Long: " + "x" * 300], "too_long_http_line_exception"),
        ("GET /", [f"X-{i}: x" for i in range(connections.MAX_HEADERS)], "illegal_argument_exception"),
        ("\x16\x03\x01", [], "illegal_argument_exception"),
    ],
    ids=["line", "header", "headers", "tls"],
)
async def test_what_is_no_request_is_400_in_the_envelope(
    serve: Serve, line: str, headers: list[str], type_: str
) -> None:
    connect = await serve(http_line_bytes=200, http_header_bytes=200)
    wire = await connect()
    status, answered, answer = await wire.ask(line, *headers)
    assert (status, answer["status"], answer["error"]["type"]) == (400, 400, type_)
    assert answered["x-elastic-product"] == "Elasticsearch"
    assert await wire.closed()


NO_TEXT = b"\xff".decode(errors="surrogateescape")
"""A byte that is no UTF-8."""


@pytest.mark.parametrize(
    ("header", "status", "reason"),
    [
        (f"Accept: application/{NO_TEXT}", 406, "Accept header [application/?] is not supported; take JSON"),
        (f"Content-Type: text/{NO_TEXT}", 406, "Content-Type header [text/?] is not supported"),
        (f"Content-Encoding: {NO_TEXT}", 415, "Content-Encoding header [?] is not supported; use gzip"),
        ("Content-Encoding: br", 415, "Content-Encoding header is not supported; use gzip"),
        (f"Expect: {NO_TEXT}", 417, "Expect header [?] is not supported; use 100-continue"),
        ("Expect: 200-ok", 417, "Expect header [200-ok] is not supported; use 100-continue"),
    ],
)
async def test_headers_that_cannot_be_met_are_quoted_in_the_envelope(
    serve: Serve, header: str, status: int, reason: str
) -> None:
    wire = await (await serve())()
    with capture_logs() as logs:
        got, answered, answer = await wire.ask("PUT /_rollup/job/new", header, "Content-Length: 2", body="{}")
    assert (got, answer["error"]["reason"]) == (status, reason)
    assert answered["x-elastic-product"] == "Elasticsearch"
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


async def test_a_stranger_cannot_fill_the_log_with_mistakes(serve: Serve) -> None:
    wire = await (await serve())()
    with capture_logs() as logs:
        assert (await wire.ask("GET /nowhere", f"Expect: {NO_TEXT}", user=None))[0] == 417
    assert logs == []


@pytest.mark.parametrize("user", [None, "ann"])
async def test_a_body_that_nobody_wants_and_nobody_can_read_is_not_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture, user: str | None
) -> None:
    wire = await (await serve())()
    head = ["Content-Encoding: gzip", "Content-Type: application/json", "Content-Length: 8"]
    assert (await wire.ask("POST /_rollup/job/sensor/_stop", *head, body="not gzip", user=user))[0] in (400, 401)
    assert await wire.closed()
    assert caplog.records == []


# Places to wait in


async def test_nobody_takes_all_places_to_wait_in(serve: Serve, cluster: Cluster) -> None:
    connect = await serve(http_waiters_per_caller=2)
    waiting = [await connect() for _ in range(3)]
    stops = [
        asyncio.create_task(wire.ask(f"POST {WAIT}", user=user))
        for wire, user in zip(waiting, ("ann", "ann", "bob"), strict=True)
    ]
    await when_waiting(connect, 3)
    cluster.applied.clear()
    wire = await connect()
    status, _, answer = await wire.ask(f"POST {WAIT}")
    assert (status, answer["error"]["type"]) == (429, "es_rejected_execution_exception")
    assert "user [ann] may wait for [2] jobs at a time, waits for [2] already" in answer["error"]["reason"]
    assert cluster.applied == []
    assert (await wire.ask("POST /_rollup/job/sensor/_stop"))[0] == 200

    stops[0].cancel()
    await waiting[0].hang_up()
    await when_waiting(connect, 2)
    again = asyncio.create_task(wire.ask(f"POST {WAIT}"))
    await when_waiting(connect, 3)
    cluster.status("sensor", state="stopped")
    assert [(await stop)[0] for stop in (*stops[1:], again)] == [200] * 3


async def test_a_stop_of_all_jobs_takes_a_place_for_each(serve: Serve, cluster: Cluster) -> None:
    for name in ("valve", "pump"):
        cluster.create(name, desiredState="started")
        cluster.status(name, state="indexing")
    connect = await serve(http_waiters_per_caller=4)
    first, second, third = [await connect() for _ in range(3)]
    every = f"POST {WAIT.replace('sensor', '_all')}"
    stops = [asyncio.create_task(first.ask(every))]
    await when_waiting(connect, 3)
    cluster.applied.clear()
    status, _, answer = await second.ask(every)
    assert status == 429
    assert "waits for [3] already, and this call is about [3]" in answer["error"]["reason"]
    assert cluster.applied == []
    stops += [asyncio.create_task(second.ask(f"POST {WAIT}")), asyncio.create_task(third.ask(every, user="bob"))]
    await when_waiting(connect, 7)
    for name in ("sensor", "valve", "pump"):
        cluster.status(name, state="stopped")
    assert [(await stop)[0] for stop in stops] == [200] * 3
