"""Strangers on the network: what they send is not kept, and callers who are known have their share of connections."""

import asyncio
import contextlib
import gc
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from local_tools.ports import free_ports
from rollup_operator.http.access.permits import Caller
from rollup_operator.http.app import Endpoint
from rollup_operator.http.protocol import errors
from support.access_double import Anybody
from support.http_double import Cluster
from support.portions import watched
from support.serving import served
from support.store_front import Authority

MIB = 2**20

ELSEWHERE = "127.0.0.2"
"""Where strangers come from: an address that is not that of the others."""


class Slow(Anybody):
    """Knows nobody until `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def identify(self, authorization: str | None, peer: str = "") -> Caller:
        await self.go.wait()
        return await super().identify(authorization, peer)


class OnlyAnn(Anybody):
    """Knows one user."""

    async def identify(self, authorization: str | None, peer: str = "") -> Caller:
        if authorization != "Bearer ann":
            await asyncio.sleep(0.01)
            raise errors.bad_credentials()
        return await super().identify(authorization, peer)


class Strangers:
    """Connections that a test opens and keeps, from outside of any event loop's buffers."""

    def __init__(self, port: int, address: str = ELSEWHERE) -> None:
        self._port, self._address = port, address
        self.sockets: list[socket.socket] = []

    async def come(self, count: int, *, saying: bytes = b"") -> None:
        for begun in range(0, count, 50):
            self.come_at_once(min(50, count - begun))
            await asyncio.sleep(0)
        if saying:
            await self.say(saying)

    def come_at_once(self, count: int) -> None:
        """Connect before the event loop has another turn."""
        for _ in range(count):
            one = socket.socket()
            one.setblocking(False)
            one.bind((self._address, 0))
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", self._port))
            self.sockets.append(one)

    async def say(self, text: bytes) -> None:
        """Send as much of it as the kernel takes."""
        for _ in range(20):
            for one in self.sockets:
                with contextlib.suppress(OSError):
                    one.send(text)
            await asyncio.sleep(0.01)

    def leave(self) -> None:
        for one in self.sockets:
            one.close()


@asynccontextmanager
async def strangers(endpoint: Endpoint | int, address: str = ELSEWHERE) -> AsyncIterator[Strangers]:
    found = Strangers(endpoint if isinstance(endpoint, int) else endpoint.port, address)
    try:
        yield found
    finally:
        found.leave()


async def ask(port: int, user: str = "ann", tls: ssl.SSLContext | None = None) -> tuple[int, float]:
    """Connect, ask once, and return status and seconds."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        return await again(reader, writer, user), time.monotonic() - began
    finally:
        writer.close()


async def again(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, user: str = "ann") -> int:
    writer.write(f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {user}\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
    return int(head.split()[1])


def resident() -> int:
    """Bytes that this process takes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.mark.parametrize("tls", [False, True])
async def test_silent_strangers_keep_nobody_out(cluster: Cluster, tls: bool, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"http_connections": 300}
    client = None
    if tls:
        authority = Authority.make(tmp_path / "ca")
        pair = authority.issue("endpoint")
        settings |= {"tls_cert_file": str(pair.certificate), "tls_key_file": str(pair.key)}
        client = ssl.create_default_context(cafile=str(authority.certificate))
    async with served(cluster, **settings) as endpoint, strangers(endpoint) as many:
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port, ssl=client)
        assert await again(reader, writer) == 200
        await many.come(1_000)
        async with asyncio.timeout(5):
            assert await again(reader, writer) == 200
        async with asyncio.timeout(20):
            status, seconds = await ask(endpoint.port, "ben", client)
        assert (status, seconds < 5) == (200, True)
        writer.close()


async def test_bodies_of_strangers_are_not_kept(cluster: Cluster) -> None:
    access = Slow()
    head = b"PUT /_rollup/job/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Length: 262144\r\n\r\n"
    async with served(cluster, access=access) as endpoint, strangers(endpoint) as many:
        await many.come(300, saying=head + b"x" * 4_096)
        await asyncio.sleep(0.2)
        before = resident()
        await many.say(b"x" * 65_536)
        await asyncio.sleep(0.2)
        grown = (resident() - before) / MIB
        access.go.set()
    assert grown < 20


async def test_a_head_without_end_is_not_listened_to(cluster: Cluster) -> None:
    async with served(cluster) as endpoint:
        _, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        writer.write(b"GET / HTTP/1.1\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                for number in range(60):
                    line = b"X-%d: %b\r\n" % (number, b"x" * 8_000)
                    writer.write(line)
                    await writer.drain()
                    sent += len(line)
                    await asyncio.sleep(0.01)
        assert sent < 200_000
        writer.close()


async def test_thousands_who_come_at_once_hold_nobody_up(cluster: Cluster) -> None:
    async with served(cluster) as endpoint, strangers(endpoint) as many:
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        assert await again(reader, writer) == 200
        slowest = 0.0
        async with watched() as loop:
            coming = asyncio.create_task(many.come(3_000, saying=b"\x00\x01nonsense\r\n\r\n"))
            while not coming.done():
                began = time.monotonic()
                assert await again(reader, writer) == 200
                slowest = max(slowest, time.monotonic() - began)
            await coming
        writer.close()
    assert loop.longest < 0.25
    assert slowest < 5


async def test_whoever_comes_behind_a_flood_has_to_wait_for_few_turns_of_the_loop(cluster: Cluster) -> None:
    """Those for whom there is no room are turned away quickly, or all others would wait behind them."""
    async with served(cluster, http_connections=300) as endpoint, strangers(endpoint) as many:
        many.come_at_once(3_000)
        asking = asyncio.create_task(ask(endpoint.port, "ben"))
        turns = 0
        while not asking.done():
            await asyncio.sleep(0)
            turns += 1
        assert (await asking)[0] == 200
    assert turns < 60


async def probed(port: int, path: str) -> float:
    """Ask as a kubelet does, on a new connection; return how long the answer took."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n")).split()[1] == b"200", path
        return time.monotonic() - began
    finally:
        writer.close()


@pytest.mark.parametrize("flooded", ["the endpoint, from the prober's own address", "the probes, from another one"])
async def test_probes_and_metrics_are_answered_during_a_flood(cluster: Cluster, flooded: str) -> None:
    (metrics_port,), own = free_ports(1), flooded.startswith("the endpoint")
    head = b"PUT /_rollup/job/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %d\r\nContent-Length: 262144\r\n\r\n"
    async with (
        served(cluster, access=OnlyAnn(), metrics_port=metrics_port) as endpoint,
        strangers(endpoint.port if own else metrics_port, "127.0.0.1" if own else ELSEWHERE) as silent,
        strangers(endpoint.port if own else metrics_port, "127.0.0.1" if own else ELSEWHERE) as loud,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        assert await again(reader, writer) == 200
        took = []
        for number in range(8):
            silent.come_at_once(100)
            await loud.come(100, saying=head % number + b"x" * 10_000)
            took += [await probed(metrics_port, path) for path in ("/healthz", "/readyz", "/metrics")]
            assert await again(reader, writer) == 200  # nor is who is connected held up
        writer.close()
    assert max(took) < 2.5  # half of a probe's time


async def test_one_caller_leaves_connections_to_others(cluster: Cluster) -> None:
    async with served(cluster, http_connections=60) as endpoint, AsyncExitStack() as stack:
        statuses = []
        for _ in range(58):
            reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
            stack.callback(writer.close)
            statuses.append(await again(reader, writer, "greedy"))
        assert statuses.count(200) == 50
        assert set(statuses[50:]) == {429}
        assert (await ask(endpoint.port, "ben"))[0] == 200
