"""Undocumented parts of aiohttp's server."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import ContentEncodingError, LineTooLong

__all__ = [
    "ContentEncodingError",
    "Handler",
    "LineTooLong",
    "ServerConnection",
    "Site",
    "around_all_requests",
    "ask_to_continue",
    "end_of_body",
    "protocol_of",
]

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class ServerConnection(web.RequestHandler):
    """One connection of a server."""

    __slots__ = ("_body",)

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        *,
        line: int,
        header: int,
        headers: int,
        idle_seconds: float,
        linger_seconds: float,
        buffer: int,
    ) -> None:
        """Sizes are in bytes: of a line, of one header, and about what is read of a body that nobody reads yet.

        `linger_seconds`: how long an answered connection may go on to send a body that nobody wants.
        """
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=idle_seconds,
            access_log=None,  # type: ignore[arg-type]  # what aiohttp takes for "none", but does not say
            max_line_size=line,
            max_field_size=header,
            max_headers=headers,
            lingering_time=linger_seconds,
            read_bufsize=buffer // 4,  # it takes twice as much before it reads no further
        )
        self._body: StreamReader | None = None
        """Of the last request whose head has come."""

    def took(self, size: int, *, in_head: bool) -> None:
        """Take in that bytes have come. `in_head`: the head that they are part of has not come to its end."""

    def failed(self, status: int, error: BaseException | None, message: str) -> web.StreamResponse:
        """Return the answer to what is no request, or failed outside of the routes."""
        raise NotImplementedError

    def drop(self) -> None:
        """End it without a word."""
        if self.transport is not None:
            self.transport.abort()
        self.force_close()

    def data_received(self, data: bytes) -> None:
        """See `took`."""
        super().data_received(data)
        if self._messages:
            self._body = self._messages[-1][1]
            self.took(len(data), in_head=False)
        else:
            self.took(len(data), in_head=self._body is None or self._body.is_eof())

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """See `failed`."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has been sent already")
        return self.failed(status, exc, message or "")

    def log_exception(self, *args: Any, **more: Any) -> None:
        """Log what went wrong outside of the routes, but for a body that cannot be read and that nobody wants."""
        if not isinstance(more.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **more)


class Site(web.BaseSite):
    """One address that is listened on in a way of our own: by `listen`."""

    async def listen(self, server: web.Server, tls: ssl.SSLContext | None) -> asyncio.AbstractServer:
        """Begin to listen. Raises OSError."""
        raise NotImplementedError

    async def start(self) -> None:
        """Listen. Raises OSError."""
        await super().start()
        server = self._runner.server
        assert server is not None
        self._server = await self.listen(server, self._ssl_context)


def around_all_requests(server: web.Server, wrap: Callable[[Handler], Handler]) -> None:
    """Put something around the handling of each request, before aiohttp itself handles its `Expect`."""
    server.request_handler = wrap(server.request_handler)


def protocol_of(request: web.BaseRequest) -> object:
    """Return the object that serves a request's connection, as the server's factory has made it."""
    return request.protocol


async def ask_to_continue(request: web.BaseRequest) -> None:
    """Send `100 Continue`. The answer has not begun by that."""
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0


def end_of_body(request: web.BaseRequest) -> None:
    """Take a body for read whose rest cannot be read; the server would go on reading it, to throw it away."""
    request.content.feed_eof()
