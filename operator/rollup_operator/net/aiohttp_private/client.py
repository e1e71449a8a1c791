"""Undocumented parts of aiohttp's client."""

import contextlib
import socket

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

__all__ = ["Connection", "ObservedConnector", "SparingConnector", "end_sending", "send_once"]


def send_once(session: aiohttp.ClientSession) -> None:
    """Let a session repeat no request when a kept connection breaks."""
    session._retry_connection = False


class SparingConnector(aiohttp.TCPConnector):
    """Sends each request over the free connection that was used last, so that those which only a storm needs end idle.

    aiohttp takes the one that was not used for longest. A few requests a second then keep all of them.
    """

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        super()._release(key, protocol, should_close=should_close)
        if (free := self._conns.get(key)) and free[-1][0] is protocol:
            free.rotate(1)


class ObservedConnector(SparingConnector):
    """Reports the connection that each request goes over."""

    def connected(self, connection: Connection) -> None:
        """Take in the connection of the request that is being sent, in the context of its task."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """Connect as TCPConnector does."""
        connection = await super().connect(req, traces, timeout)
        self.connected(connection)
        return connection


def end_sending(connection: Connection) -> None:
    """Close this end of a connection for sending, TLS or not; it is used for no other request."""
    if connection.protocol is None or connection.transport is None:
        return  # it is closed
    connection.protocol.force_close()
    with contextlib.suppress(OSError):  # the other end was quicker
        connection.transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
