"""The connections of a listener: how long each may take to say what it wants, and how much of it is read meanwhile.

Connections above the limit are answered 503 for want of room, except by the probes; a margin above that is closed
unheard. A connection that brings no request in time is closed. Of a body some KiB are read until somebody wants it.
"""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import structlog
from aiohttp import HttpVersion11, web

from rollup_operator.http.listener.admission import Guest
from rollup_operator.http.listener.probes import OPEN
from rollup_operator.http.protocol import answers, errors
from rollup_operator.http.protocol.answers import Form
from rollup_operator.http.protocol.media_types import header
from rollup_operator.net.aiohttp_private.server import (
    ContentEncodingError,
    Handler,
    LineTooLong,
    ServerConnection,
    around_all_requests,
    ask_to_continue,
    protocol_of,
)

log = structlog.get_logger(__name__)

MARGIN = 256
"""Connections above the limit that are still heard, so that probes are answered and others learn why they are not."""

MAX_HEADERS = 64
"""Header lines of a request."""

READ_AT_ONCE = 2**14
"""Bytes that are taken from a connection at a time, and about what is kept of a body that nobody reads yet."""

LINGER_SECONDS = 5.0
"""How long an answered connection may go on to send a body that nobody wants."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of connections and of what each may send. Sizes in bytes, times in seconds."""

    connections: int
    line: int
    header: int
    head_seconds: float
    idle_seconds: float

    @property
    def head(self) -> int:
        """Of a request line and all headers together."""
        return self.line + 2 * self.header


class ClientConnection(ServerConnection):
    """One connection."""

    __slots__ = ("_guest", "_limits", "_patience", "_unheard")

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop, limits: Limits, guest: Guest) -> None:
        super().__init__(
            server,
            loop,
            line=limits.line,
            header=limits.header,
            headers=MAX_HEADERS,
            idle_seconds=limits.idle_seconds,
            linger_seconds=LINGER_SECONDS,
            buffer=READ_AT_ONCE,
        )
        self._limits, self._guest = limits, guest
        self._patience: asyncio.TimerHandle | None = None
        self._unheard = 0
        """Bytes of a head that has not come to its end."""

    @property
    def crowded(self) -> bool:
        """Whether it came above the limit."""
        return self._guest.crowded

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in, or close it where there is no room at all."""
        super().connection_made(transport)
        self._guest.close = self.drop
        if hasattr(transport, "max_size"):
            transport.max_size = READ_AT_ONCE
        if self._guest.room.over(MARGIN):
            self.force_close()
        else:
            self._patience = asyncio.get_running_loop().call_later(self._limits.head_seconds, self.force_close)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room."""
        self.heard()
        self._guest.leave()
        super().connection_lost(exc)

    def took(self, size: int, *, in_head: bool) -> None:
        """Take no head that goes on and on: the limit of aiohttp is for each of many lines."""
        self._unheard = self._unheard + size if in_head else 0
        if self._unheard > self._limits.head:
            self.drop()

    def heard(self) -> None:
        """Note that the head of a request has come. From the second on, the limit of idleness is the limit."""
        self._guest.heard = True
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def answered(self) -> None:
        """Note that the answer to the last request is made."""
        self._guest.answered()

    def known(self, caller: Hashable) -> bool:
        """Note whose it is. False: this caller has too many connections for another one to be answered."""
        return self._guest.known(caller)

    def failed(self, status: int, error: BaseException | None, message: str) -> web.StreamResponse:
        """Answer what is no request, and what went wrong outside of the routes, in the envelope too."""
        self.heard()
        if status >= 500:
            log.error("request failed", exc_info=error)
            answer = errors.internal()
        elif isinstance(error, LineTooLong):
            answer = errors.too_long(self._limits.line, self._limits.header)
        elif isinstance(error, ContentEncodingError):  # one that the server has heard of, but cannot inflate
            answer = errors.unsupported_encoding()
        else:
            answer = errors.illegal_argument(f"this is no HTTP request: {message.strip().partition(chr(10))[0]}")
        response = answers.failure(answer, Form())
        response.force_close()
        return response


def connection_of(request: web.BaseRequest) -> ClientConnection | None:
    """Return the connection that a request came over; None: a server of another kind has it."""
    found = protocol_of(request)
    return found if isinstance(found, ClientConnection) else None


def has_room(request: web.Request) -> bool:
    """Take in that a request has come on its connection, and return whether it is to be answered."""
    connection = connection_of(request)
    if connection is None:
        return True
    connection.heard()
    return not connection.crowded or request.path in OPEN


def connection_factory(server: web.Server, limits: Limits) -> Callable[[Guest], ClientConnection]:
    """Return what makes the connections of a server."""
    loop = asyncio.get_running_loop()
    around_all_requests(server, _expecting)
    return lambda guest: ClientConnection(server, loop, limits, guest)


def _expecting(handler: Handler) -> Handler:
    """Take `Expect` from aiohttp, which would handle it before the caller is known, and in a form of its own.

    What nobody can meet is refused; whether a client waits until it may send its body is noted for `ask_for_body`.
    """

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if expected := header(request, "Expect"):
            if expected.lower() != "100-continue":
                response = answers.failure(errors.not_expected(expected), Form())
                response.force_close()
                return response
            headers = request.headers.copy()
            del headers["Expect"]
            request = request.clone(headers=headers)
            request[_WAITS] = True
        try:
            return await handler(request)
        finally:
            if (connection := connection_of(request)) is not None:
                connection.answered()

    return handle


_WAITS: web.RequestKey[bool] = web.RequestKey("waits_to_send_body", bool)


async def ask_for_body(request: web.Request) -> None:
    """Tell a client that waits for it that it may send its body now."""
    if request.pop(_WAITS, False) and request.version >= HttpVersion11:
        await ask_to_continue(request)
