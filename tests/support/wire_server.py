"""A server that sees each request as it comes over the wire, and may carry it out without an answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from support.store_wire import Wire, answer_bytes


@dataclass(frozen=True)
class Request:
    """One request as it arrived. `connection` counts from 1, `on_kept` says that it was not the first on it."""

    connection: int
    on_kept: bool
    method: str
    target: str
    body: Any


@dataclass(frozen=True)
class Answer:
    """What the client gets."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


class Broken:
    """The request is carried out, and the connection closes without an answer."""


class Silent:
    """The request is carried out, and no answer comes."""


Behave = Callable[[Request], Answer | Broken | Silent]


class WireServer:
    """Plain HTTP on a port of its own, in the test's loop."""

    def __init__(self, behave: Behave) -> None:
        self.behave = behave
        self.arrived: list[Request] = []
        self.url = ""
        self._connections = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._left: dict[asyncio.StreamWriter, asyncio.Event] = {}

    @property
    def methods(self) -> list[str]:
        """Of the requests that arrived, in order."""
        return [request.method for request in self.arrived]

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    async def close_idle(self) -> None:
        """Close every connection, and return once the client has noticed and closed its end."""
        left = [(writer, self._left[writer]) for writer in self._open]
        for writer, _ in left:
            writer.write_eof()
        for _, gone in left:
            await asyncio.wait_for(gone.wait(), 5)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number, wire = self._connections, Wire(reader, writer)
        self._open.add(writer)
        self._left[writer] = asyncio.Event()
        try:
            first = True
            while (head := await wire.head()) is not None:
                _, raw = await wire.body(head)
                method, target, _ = head.first.split()
                request = Request(number, not first, method, target, json.loads(raw) if raw else None)
                first = False
                self.arrived.append(request)
                match self.behave(request):
                    case Answer(status, body, headers):
                        await wire.write(answer_bytes(status, body, headers))
                    case Broken():
                        return
                    case Silent():
                        await wire.closed()
                        return
        finally:
            self._open.discard(writer)
            self._left[writer].set()
            writer.close()


@asynccontextmanager
async def wire_server(behave: Behave = lambda _: Answer()) -> AsyncIterator[WireServer]:
    """Serve until the end of the block."""
    server = WireServer(behave)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        for writer in tuple(server._open):
            writer.close()
