"""Listening: plain HTTP or TLS, with the limits of the settings."""

import asyncio
import contextlib
import os
import resource
import socket
import ssl
from collections.abc import Iterator
from functools import partial

import structlog
from aiohttp import web

from rollup_operator.concurrency.background import keep_running
from rollup_operator.freed_memory import serve_by_pages
from rollup_operator.http.listener.accepting import Listener
from rollup_operator.http.listener.admission import Room
from rollup_operator.http.listener.connections import MARGIN, Limits, connection_factory
from rollup_operator.http.listener.tls import Certificate
from rollup_operator.net.aiohttp_private.server import Site
from rollup_operator.settings import Settings

log = structlog.get_logger(__name__)

BACKLOG = 4096
"""Connections that may wait to be accepted: thousands of clients can stop their jobs in one second."""

FILES_FOR_OTHERS = 512 + 256 + MARGIN
"""Open files that connections leave to the rest of the operator: stores, its own connections, the second listener."""

CONNECTION_BYTES = 2**15
"""What a connection takes, one whose caller waits, or one of TLS that has said nothing yet."""

FEWEST_CONNECTIONS = 100

ANYWHERE = "*"
"""Every address of this machine, IPv4 and IPv6, as far as it has them."""

GOODBYE_SECONDS = 2.0
"""How long answers and farewells under way at the end may take."""


class CannotListen(Exception):
    """An address cannot be listened on; the text names it, and the setting to change."""


class EndpointServer:
    """Serves an application. Life: `start`, then `close`."""

    def __init__(
        self,
        app: web.Application,
        settings: Settings,
        certificate: Certificate | None,
        memory: int | None = None,
    ) -> None:
        """`memory`: bytes that all connections together may take; None: any number."""
        self._settings, self._memory = settings, memory
        self._certificate = certificate
        # A client that hangs up must free its waiter at once.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=GOODBYE_SECONDS)
        self._refreshing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises CannotListen, with nothing left open."""
        try:
            await self._listen()
        except CannotListen:
            await self.close()
            raise
        if self._certificate is not None:
            refresh = partial(self._certificate.keep_fresh, self._settings.tls_check_seconds)
            self._refreshing = keep_running("refresh of the certificate", refresh)

    async def _listen(self) -> None:
        s = self._settings
        with listening("http", s.http_host, s.http_port):
            await self._runner.setup()
            limits = Limits(
                connections=_room_for(s.http_connections, self._memory),
                line=s.http_line_bytes,
                header=s.http_header_bytes,
                head_seconds=s.http_head_seconds,
                idle_seconds=s.http_idle_seconds,
            )
            await LimitedSite(self._runner, s.http_host, s.http_port, limits, self._certificate).start()

    async def close(self) -> None:
        """Stop listening, finish current answers."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refreshing
        await self._runner.cleanup()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        port: int = self._runner.addresses[0][1]
        return port

    @property
    def url(self) -> str:
        """The URL that is listened on."""
        host = self._settings.http_host
        host = "localhost" if host == ANYWHERE else host
        return f"http{'s' * self._settings.tls}://{f'[{host}]' if ':' in host else host}:{self.port}"


class LimitedSite(Site):
    """One address, whose connections have limits."""

    def __init__(
        self, runner: web.AppRunner, host: str, port: int, limits: Limits, certificate: Certificate | None = None
    ) -> None:
        super().__init__(runner, ssl_context=certificate.context if certificate else None, backlog=BACKLOG)
        self._host, self._port, self._limits = host, port, limits

    @property
    def name(self) -> str:
        """The address."""
        return f"{self._host}:{self._port}"

    async def listen(self, server: web.Server, tls: ssl.SSLContext | None) -> asyncio.AbstractServer:
        """Listen. Raises OSError."""
        listener = Listener(
            await _bound(None if self._host == ANYWHERE else self._host, self._port),
            Room(self._limits.connections, many=serve_by_pages),
            connection_factory(server, self._limits),
            tls=tls,
            patience=self._limits.head_seconds,
            goodbye_seconds=GOODBYE_SECONDS,
        )
        await listener.start_serving()
        return listener


async def _bound(host: str | None, port: int) -> list[socket.socket]:
    """Return sockets that listen on a host; None: one for each family of addresses that there is. Raises OSError."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port, start_serving=False)
    sockets = [socket.socket(fileno=os.dup(bound.fileno())) for bound in server.sockets]
    server.close()
    try:
        for bound in sockets:
            bound.listen(BACKLOG)
    except OSError:
        for bound in sockets:
            bound.close()
        raise
    return sockets


@contextlib.contextmanager
def listening(setting: str, host: str, port: int) -> Iterator[None]:
    """Surround the beginning of a listener, whose settings begin with that word. Raises CannotListen."""
    try:
        yield
    except OSError as e:
        where = f"{host}:{port}"
        raise CannotListen(
            f"cannot serve on {where}: {e.strerror}; choose another {setting}_port or {setting}_host"
        ) from e


def _room_for(connections: int, memory: int | None) -> int:
    """Return how many connections there may be, given how many files this process may open, and its memory."""
    if memory is not None and connections > (room := max(memory // CONNECTION_BYTES, FEWEST_CONNECTIONS)):
        log.info("fewer connections than http_connections: memory is limited", connections=room, memory=memory)
        connections = room
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = (files - FILES_FOR_OTHERS - MARGIN) * 2 // 3  # the rest is for those in the lobby
    if files == resource.RLIM_INFINITY or connections <= room:
        return connections
    log.info("fewer connections than http_connections: open files are limited", connections=room, open_files=files)
    return max(room, 1)
