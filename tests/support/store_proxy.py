"""A faulty way to a node: a proxy in the test's own event loop that lets through, holds, cuts and makes up answers.

What passes is not changed by a byte, connections live as long as their other ends do, and a client that closes has its
request closed at the node, unless a fault says otherwise. `support.store_faults` has what can go wrong.
"""

import asyncio
import re
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import urlsplit

from support.listening import stop_listening
from support.store_wire import Head, Wire, answer_bytes

T = TypeVar("T")
_BROKEN = (OSError, asyncio.IncompleteReadError)


@dataclass
class Request:
    """One request as it went through; times are of time.monotonic()."""

    number: int
    """Counted from 0 over the proxy's life."""
    head: Head
    body: bytes
    arrived: float
    """When all of it was here."""
    sent: float | None = None
    """When all of it was on its way to the node; None: it never was."""
    ended: float | None = None
    """When its last byte of an answer was about to leave, or it was cut, or its client went away."""
    status: int | None = None
    """Of the answer that was given, or that the node gave in vain."""
    subject: str = ""
    """The common name in the client's certificate, if it showed one."""
    fate: str = "under way"
    """`answered`, `cut`, or `gone` when the client went away."""

    @property
    def method(self) -> str:
        return self.head.first.split()[0]

    @property
    def target(self) -> str:
        """Path and query, as sent."""
        return self.head.first.split()[1]

    @property
    def opaque_id(self) -> str:
        return self.head.headers.get("x-opaque-id", "")

    def __str__(self) -> str:
        return f"#{self.number} {self.method} {self.target} [{self.opaque_id}] {self.fate} {self.status or ''}".rstrip()


class Exchange:
    """A request and the two connections that it is about, for faults to work with."""

    def __init__(
        self, request: Request, raw_body: bytes, *, client: Wire, node: Wire, tell: Callable[[], None]
    ) -> None:
        self.request = request
        self._raw_body = raw_body
        self._client = client
        self._node = node
        self._tell = tell
        self._left: float | None = None
        self.over = False
        """Whether the client's connection is of no more use."""

    async def send(self) -> None:
        """Send the request on to the node, as it came."""
        await self.send_raw(self.request.head.raw + self._raw_body)

    async def send_raw(self, data: bytes) -> None:
        """Send another request than the one that came."""
        await self._node.write(data)
        self.request.sent = time.monotonic()
        self._tell()

    async def relay(self, *, share: float = 1.0) -> None:
        """Pass the node's answer on as it comes; with a smaller share, cut when that much of its body has passed."""
        head = await self._answer_head()
        limit = int(int(head.headers.get("content-length", "1000")) * share) if share < 1 else None
        passed = 0
        await self._answer(head.raw)
        async for raw, _ in self._node.pieces(head, to_head_request=self.request.method == "HEAD"):
            piece = raw if limit is None else raw[: limit - passed]
            passed += len(piece)
            await self._answer(piece)
            if passed == limit:
                break
        if limit is None:
            self.over = head.closes
            self._end("answered")
        else:
            self.cut()

    async def collect(self) -> tuple[Head, bytes, bytes]:
        """Read the node's whole answer and pass nothing on; return its head and its body, raw and plain."""
        head = await self._answer_head()
        return head, *await self._node.body(head, to_head_request=self.request.method == "HEAD")

    async def say(self, status: int, body: Any) -> None:
        """Answer with something of the proxy's own."""
        self.request.status = status
        await self.pass_on(answer_bytes(status, body))

    async def pass_on(self, data: bytes) -> None:
        """Give the client these bytes for its whole answer."""
        await self._answer(data)
        self._end("answered")

    def cut(self) -> None:
        """Break the client's connection, when what was written to it has gone out."""
        self.over = True
        self._client.close()
        self._end("cut")

    def gone(self) -> None:
        """Record that the client went away."""
        self.over = True
        self._end("gone")

    async def _answer_head(self) -> Head:
        head = await self._node.head()
        if head is None:
            raise ConnectionResetError("the node closed without an answer")
        self.request.status = head.status
        return head

    async def _answer(self, data: bytes) -> None:
        # The client may act on its answer before this thread runs again, so the moment is taken before.
        self._left = time.monotonic()
        await self._client.write(data)

    def _end(self, fate: str) -> None:
        if self.request.ended is None:
            self.request.ended = self._left if fate == "answered" and self._left is not None else time.monotonic()
            self.request.fate = fate
            self._tell()


class Fault(Protocol):
    """What happens to a request."""

    outlives_client: bool
    """Whether it goes on when the client has gone."""

    async def apply(self, exchange: Exchange) -> None:
        """See the exchange to its end."""


class Pass:
    """Nothing goes wrong."""

    outlives_client = False

    async def apply(self, exchange: Exchange) -> None:
        await exchange.send()
        await exchange.relay()


@dataclass
class Rule:
    """What goes wrong, and for which of the requests that match."""

    fault: Fault | Callable[[Request], Fault]
    method: str
    pattern: re.Pattern[str]
    nth: int
    times: int | None
    matched: int = 0
    caught: list[Request] = field(default_factory=list)
    """The requests that it has been applied to."""

    def meets(self, request: Request) -> bool:
        """Count a request that matches; whether its turn has come."""
        if self.method not in ("", request.method) or not self.pattern.search(request.target):
            return False
        self.matched += 1
        return self.matched >= self.nth and (self.times is None or self.matched < self.nth + self.times)

    def choose(self, request: Request) -> Fault:
        """Return what goes wrong with a request whose turn it is."""
        self.caught.append(request)
        return self.fault(request) if callable(self.fault) else self.fault


class StoreProxy:
    """An async context manager; `url` is where clients find it.

    With `tls` it is spoken to over TLS. `guard` may refuse a request: it returns status and body of an answer then.
    """

    def __init__(
        self,
        node_url: str,
        *,
        tls: ssl.SSLContext | None = None,
        guard: Callable[[Request], tuple[int, Any] | None] | None = None,
    ) -> None:
        where = urlsplit(node_url)
        self._node = where.hostname or "", where.port or 80
        self._tls = tls
        self._guard = guard
        self._port = 0
        self._rules: list[Rule] = []
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], Wire] = {}
        self._change = asyncio.Event()
        self._errors: list[Exception] = []
        self.requests: list[Request] = []
        """All that have arrived, in order."""

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.come_back()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.go_away()
        # Those that hold something outlive their clients.
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._errors:
            raise ExceptionGroup("the proxy or a fault in it has a bug", self._errors)

    # -- what a test asks for ----------------------------------------------------------------------------------------

    def on(
        self,
        method: str = "",
        path: str = "",
        *,
        fault: Fault | Callable[[Request], Fault],
        nth: int = 1,
        times: int | None = 1,
    ) -> Rule:
        """Let requests that match go wrong: the nth from now and `times` in all, None being every further one.

        `path` is a pattern to search for in path and query; `fault` may choose by the request. The first rule counts
        whose turn has come.
        """
        rule = Rule(fault, method, re.compile(path), nth, times)
        self._rules.append(rule)
        return rule

    def heal(self) -> None:
        """Forget all rules; what they hold stays held until it is released."""
        self._rules.clear()

    async def until(self, question: Callable[[], T], *, seconds: float = 10.0) -> T:
        """Wait for the first true answer, asked again whenever a request arrives, is sent or ends."""
        async with asyncio.timeout(seconds):
            while not (answer := question()):
                await self._change.wait()
        return answer

    async def arrival(self, method: str = "", path: str = "", *, nth: int = 1, seconds: float = 10.0) -> Request:
        """Wait for the nth request that matches, counted over the proxy's life."""

        def found() -> list[Request]:
            fitting = [r for r in self.requests if method in ("", r.method) and re.search(path, r.target)]
            return fitting[nth - 1 : nth]

        return (await self.until(found, seconds=seconds))[0]

    async def caught(self, rule: Rule, *, count: int = 1, seconds: float = 10.0) -> Request:
        """Wait until a rule has met so many requests; return the last of them."""
        await self.until(lambda: len(rule.caught) >= count, seconds=seconds)
        return rule.caught[count - 1]

    async def ended(self, request: Request, *, seconds: float = 10.0) -> Request:
        """Wait until a request has been answered, cut, or left by its client."""
        await self.until(lambda: request.ended is not None, seconds=seconds)
        return request

    def busy_since(self, moment: float, *, opaque_id: str = "") -> list[Request]:
        """What arrived after a moment of time.monotonic() or was still under way at it, of such an X-Opaque-Id."""
        return [
            r
            for r in self.requests
            if r.opaque_id.startswith(opaque_id) and (r.arrived > moment or r.ended is None or r.ended > moment)
        ]

    def quiet_since(self, moment: float, *, opaque_id: str = "") -> bool:
        """Whether no request arrived after a moment and none was under way at it."""
        return not self.busy_since(moment, opaque_id=opaque_id)

    async def come_back(self) -> None:
        """Listen, on the same port as ever."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]

    async def go_away(self) -> None:
        """Refuse connections, and break those that there are."""
        assert self._server is not None
        await stop_listening(self._server)
        for client in self._connections.values():
            client.abort()

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client, task = Wire(reader, writer), asyncio.current_task()
        assert task is not None
        self._connections[task] = client
        node: Wire | None = None
        try:
            node = await Wire.connect(*self._node)
            await self._pass_messages(client, node)
        except _BROKEN:  # one end went away, or the node is not there: neither end is of use any more
            pass
        except asyncio.CancelledError:
            pass  # the proxy ends
        except Exception as bug:
            self._errors.append(bug)
        finally:
            del self._connections[task]
            for wire in (client, node) if node is not None else (client,):
                await wire.end()

    async def _pass_messages(self, client: Wire, node: Wire) -> None:
        while True:
            head = await _unless(client.head(), node.closed())
            if head is None:
                return
            raw, plain = await client.body(head)
            request = Request(len(self.requests), head, plain, time.monotonic(), subject=client.subject)
            self.requests.append(request)
            exchange = Exchange(request, raw, client=client, node=node, tell=self._tell)
            # Every rule counts every request, so that their numbers do not depend on one another.
            due = [rule for rule in self._rules if rule.meets(request)]
            fault = due[0].choose(request) if due else Pass()
            self._tell()
            try:
                refusal = self._guard(request) if self._guard else None
                if refusal is not None:
                    await exchange.say(*refusal)
                elif fault.outlives_client:
                    await fault.apply(exchange)
                else:
                    await _unless(fault.apply(exchange), client.closed())
                    if request.ended is None:
                        exchange.gone()
            except _BROKEN:
                exchange.cut()
            finally:
                if request.ended is None:
                    exchange.gone()
            if exchange.over or head.closes:
                return

    def _tell(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


async def _unless(work: Coroutine[Any, Any, T], end: Coroutine[Any, Any, None]) -> T | None:
    """Do the work unless the end comes first, which cancels it."""
    tasks = asyncio.ensure_future(work), asyncio.ensure_future(end)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class ProxyThread:
    """A proxy in a thread of its own, for tests without an event loop. A context manager.

    `run` carries out its coroutines, `call` anything else, in the thread that owns it.
    """

    def __init__(self, node_url: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="store proxy", daemon=True)
        self._make = lambda: StoreProxy(node_url, **options)

    def __enter__(self) -> Self:
        self._thread.start()
        self.proxy = self.call(self._make)
        self.run(self.proxy.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self.proxy.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something of the proxy's."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def call(self, function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
        """Call something of the proxy's that awaits nothing."""

        async def called() -> T:
            return function(*arguments, **keywords)

        return self.run(called())
