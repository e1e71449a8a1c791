"""A faulty way to the API server: a proxy that cuts, delays, swallows and answers by itself, as a test tells it.

It speaks plain HTTP to the operator, so that it can tell requests apart, and TLS to the API server.
"""

import asyncio
import json
import re
import ssl
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
from aiohttp import web

from local_control_plane import ControlPlane
from support.listening import stop_listening

T = TypeVar("T")

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "content-encoding", "date", "server"}


class Fault(Enum):
    """What happens to a request."""

    CUT = auto()
    """The connection breaks; the request never arrives."""
    SWALLOW = auto()
    """The request is carried out, and the connection breaks before the answer."""
    ANSWER = auto()
    """It gets an error of the proxy's own; the request never arrives."""
    DELAY = auto()
    """It arrives later, by the rule's seconds."""
    HOLD = auto()
    """The request is carried out, and its answer never comes."""


@dataclass
class Rule:
    """A fault for the next `times` requests whose `METHOD /path` the pattern matches."""

    pattern: re.Pattern[str]
    fault: Fault
    times: int
    status: int = 500
    seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    hits: int = 0


class FaultyProxy:
    """A context manager. Its methods may be called from the test's thread."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self._plane = plane
        self._rules: list[Rule] = []
        self._watches: set[asyncio.Task[Any]] = set()
        self._silent: set[asyncio.Task[Any]] = set()
        self._silent_from_now_on = False
        self.kubeconfig = folder / "faulty-kubeconfig"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._begin())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- what a test asks for ----------------------------------------------------------------------------------------

    def fail(self, pattern: str, fault: Fault, *, times: int = 1, status: int = 500, seconds: float = 0.0) -> Rule:
        """Let the next requests that match go wrong. `hits` of the rule counts them."""
        headers = {"Retry-After": "1"} if status == 429 else {}
        rule = Rule(re.compile(pattern), fault, times, status, seconds, headers)
        self._loop.call_soon_threadsafe(self._rules.append, rule)
        return rule

    def heal(self) -> None:
        """Forget all faults. Watches that were silenced stay so."""
        self._loop.call_soon_threadsafe(self._rules.clear)

    def cut_watches(self) -> None:
        """Break all connections of watches, without a word."""
        self._call(self._cut_watches())

    def silence_watches(self, *, new_too: bool = False) -> None:
        """Let the watches that are open now stay open and bring nothing any more: what a dead network looks like."""
        self._loop.call_soon_threadsafe(self._silence, new_too)

    def go_away(self) -> None:
        """Refuse connections, and break all that there are."""
        self._call(self._go_away())

    def come_back(self) -> None:
        """Listen again, on the same port."""
        self._call(self._listen())

    # -- inside ------------------------------------------------------------------------------------------------------

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _begin(self) -> None:
        tls = ssl.create_default_context(cafile=str(self._plane.ca))
        self._session = aiohttp.ClientSession(
            self._plane.server,
            connector=aiohttp.TCPConnector(ssl=tls, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        self._port = 0
        await self._listen()
        config = json.loads(self._plane.kubeconfig.read_text())
        for entry in config["clusters"]:
            entry["cluster"] = {"server": f"http://127.0.0.1:{self._port}"}
        self.kubeconfig.write_text(json.dumps(config))

    async def _listen(self) -> None:
        assert self._runner.server is not None
        self._listening = await self._loop.create_server(self._runner.server, "127.0.0.1", self._port)
        self._port = self._listening.sockets[0].getsockname()[1]

    async def _go_away(self) -> None:
        await stop_listening(self._listening)
        server = self._runner.server
        assert server is not None
        for connection in server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def _end(self) -> None:
        await stop_listening(self._listening)
        for task in self._watches:
            task.cancel()
        await self._runner.cleanup()
        # A call whose client has gone may still be connecting, and its socket is closed one turn of the loop later.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._session.close()
        await asyncio.sleep(0)

    async def _cut_watches(self) -> None:
        for task in self._watches:
            task.cancel()

    def _silence(self, new_too: bool) -> None:
        self._silent |= self._watches
        self._silent_from_now_on = new_too

    def _fault(self, request: web.Request) -> Rule | None:
        line = f"{request.method} {request.path_qs}"
        for rule in self._rules:
            if rule.times > rule.hits and rule.pattern.search(line):
                rule.hits += 1
                return rule
        return None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        rule = self._fault(request)
        if rule is not None and rule.fault is Fault.CUT:
            return _broken(request)
        if rule is not None and rule.fault is Fault.ANSWER:
            body = {
                "kind": "Status",
                "status": "Failure",
                "code": rule.status,
                "reason": "Injected",
                "message": "fault",
            }
            return web.json_response(body, status=rule.status, headers=rule.headers)
        if rule is not None and rule.fault is Fault.DELAY:
            await asyncio.sleep(rule.seconds)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        data = await request.read()
        async with self._session.request(request.method, request.rel_url, headers=headers, data=data or None) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
            if "watch=true" in request.query_string:
                return await self._stream(request, answer, kept)
            text = await answer.read()
        if rule is not None and rule.fault is Fault.HOLD:
            await asyncio.Event().wait()
        if rule is not None and rule.fault is Fault.SWALLOW:
            return _broken(request)
        encoding = answer.headers.get("Content-Encoding")
        if encoding:
            kept["Content-Encoding"] = encoding
        return web.Response(status=answer.status, body=text, headers=kept)

    async def _stream(
        self, request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        task = asyncio.current_task()
        assert task is not None
        self._watches.add(task)
        if self._silent_from_now_on:
            self._silent.add(task)
        try:
            async for chunk in answer.content.iter_any():
                if task in self._silent:
                    await asyncio.Event().wait()
                await response.write(chunk)
        except asyncio.CancelledError:
            if request.transport is not None:
                request.transport.abort()
            raise
        finally:
            self._watches.discard(task)
        return response


def _broken(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response(status=500)
