"""A host that answers whatever a test wants, byte by byte, from a thread of its own."""

import asyncio
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from support.store_wire import Wire


@dataclass(frozen=True)
class Said:
    """An answer as it goes over the wire."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    more: int = 0
    """Bytes that Content-Length promises and that never come: the connection is closed instead."""
    times: int = 1
    """How often the body is sent, in chunks: one of any length takes no memory here."""

    def head(self) -> bytes:
        length = f"Content-Length: {len(self.body) + self.more}" if self.times == 1 else "Transfer-Encoding: chunked"
        lines = [f"HTTP/1.1 {self.status} Said", *(f"{name}: {value}" for name, value in self.headers), length, "", ""]
        return "\r\n".join(lines).encode()


def said(value: Any, status: int = 200) -> Said:
    """JSON."""
    return Said(json.dumps(value).encode(), status)


def bomb(size: int) -> Said:
    """So many bytes of lists, compressed a thousand times although nobody asked for that."""
    headers = (("Content-Type", "application/json"), ("Content-Encoding", "gzip"))
    return Said(gzip.compress(b"[" + b"[]," * (size // 3) + b"[]]"), headers=headers)


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    target: str
    body: Any
    headers: Any


Answer = Callable[[Asked], Said]


@dataclass
class HostileHost:
    """The host. `answer` may be changed at any time."""

    answer: Answer
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        with suppress(OSError, asyncio.IncompleteReadError), closing(writer):
            while (head := await wire.head()) is not None:
                _, raw = await wire.body(head)
                method, target, _ = head.first.split()
                text = raw.decode()
                body = [json.loads(line) for line in text.splitlines()] if text.count("\n") > 1 else _json(text)
                request = Asked(method, target, body, head.headers)
                self.asked.append(request)
                said = self.answer(request)
                await wire.write(said.head())
                if said.times == 1:
                    await wire.write(said.body)
                else:
                    for _ in range(said.times):
                        await wire.write(b"%x\r\n%b\r\n" % (len(said.body), said.body))
                    await wire.write(b"0\r\n\r\n")
                if said.more:
                    break


def _json(text: str) -> Any:
    return json.loads(text) if text else None


@contextmanager
def hostile_host(answer: Answer) -> Iterator[HostileHost]:
    """Serve until the end of the block."""
    host, ready = HostileHost(answer), threading.Event()
    loop: asyncio.AbstractEventLoop | None = None
    over = asyncio.Event()

    async def listen() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
        host.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await over.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(listen()))
    thread.start()
    ready.wait(5)
    assert loop is not None
    try:
        yield host
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(5)
