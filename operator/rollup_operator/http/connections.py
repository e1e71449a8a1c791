"""The connections of a listener: how many there may be, how long each may take to say what it wants.

Connections above the limit are answered 503 for want of room, except by the probes; a margin above that is closed
unheard. A connection that brings no request in time is closed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError, LineTooLong

from rollup_operator.http import answers, errors
from rollup_operator.http.answers import Form
from rollup_operator.http.media_types import header

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

log = structlog.get_logger(__name__)

MARGIN = 256
"""Connections above the limit that are still heard, so that probes are answered and others told why they are not."""

MAX_HEADERS = 64
"""Header lines of a request."""

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


class Connection(web.RequestHandler):
    """One connection. `crowded` tells whether it came above the limit."""

    __slots__ = ("_limits", "_patience", "_room", "crowded")

    def __init__(
        self, server: web.Server, loop: asyncio.AbstractEventLoop, limits: Limits, room: "set[Connection]"
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.idle_seconds,
            access_log=None,  # type: ignore[arg-type]  # what aiohttp takes for "none", but does not say
            max_line_size=limits.line,
            max_field_size=limits.header,
            max_headers=MAX_HEADERS,
            lingering_time=LINGER_SECONDS,
        )
        self._limits, self._room = limits, room
        self._patience: asyncio.TimerHandle | None = None
        self.crowded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in, or close it where there is no room at all."""
        super().connection_made(transport)
        self._room.add(self)
        self.crowded = len(self._room) > self._limits.connections
        if len(self._room) > self._limits.connections + MARGIN:
            self.force_close()
        else:
            self._patience = asyncio.get_running_loop().call_later(self._limits.head_seconds, self.force_close)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room."""
        self.heard()
        self._room.discard(self)
        super().connection_lost(exc)

    def heard(self) -> None:
        """Note that the head of a request has come. From the second on, the limit of idleness is the limit."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request, and what went wrong outside of the routes, in the envelope too."""
        self.heard()
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has been sent already")
        if status >= 500:
            log.error("request failed", exc_info=exc)
            error = errors.internal()
        elif isinstance(exc, LineTooLong):
            error = errors.too_long(self._limits.line, self._limits.header)
        elif isinstance(exc, ContentEncodingError):  # one that the server has heard of, but cannot inflate
            error = errors.unsupported_encoding()
        else:
            error = errors.illegal_argument(f"this is no HTTP request: {(message or '').strip().partition(chr(10))[0]}")
        response = answers.failure(error, Form())
        response.force_close()
        return response


def connection_factory(server: web.Server, limits: Limits) -> Callable[[], Connection]:
    """Return what makes the connections of a server."""
    loop = asyncio.get_running_loop()
    room: set[Connection] = set()
    server.request_handler = _expecting(server.request_handler)
    return lambda: Connection(server, loop, limits, room)


def _expecting(handler: Handler) -> Handler:
    """Refuse what nobody can meet: aiohttp looks at `Expect` before the application does, and has a form of its own."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        expected = header(request, "Expect")
        if expected and expected.lower() != "100-continue":
            response = answers.failure(errors.not_expected(expected), Form())
            response.force_close()
            return response
        return await handler(request)

    return handle
