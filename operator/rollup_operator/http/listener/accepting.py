"""Accepts connections, a few in each turn of the event loop, and begins with each when there is a place for it.

asyncio's own server begins with as many at a stroke as its backlog holds, and counts no TLS handshake: thousands of
strangers stop everything else for seconds, and nobody knows how many there are. In the kernel's queue they would stand
in the way of everybody else. Here they wait in a lobby, where each address has its turn.
"""

import asyncio
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import structlog

from rollup_operator.concurrency.background import keep_running, spawn
from rollup_operator.http.listener.admission import Guest, Room
from rollup_operator.sharing.shares import TooManyWait

log = structlog.get_logger(__name__)

AT_ONCE = 64
"""Connections that are taken into the lobby in one turn of the event loop."""

ACCEPTED_AT_ONCE = 512
"""Connections that are accepted in one turn, those included for which the lobby has no room: such a one costs some ten
microseconds. A client behind a flood in the kernel's queue waits for as long as that takes."""

PAUSE_SECONDS = 0.05
"""How long nothing is accepted while there is no file left to open, and between two checks which connection must go."""

LOG_EVERY = 60.0
"""Seconds between two lines of the log about that."""

TLS_BYTES = 2**15
"""What asyncio reserves for what it reads of each TLS connection, instead of 256 KiB."""

Make = Callable[[Guest], asyncio.Protocol]
"""Makes what serves a connection."""


class Listener(asyncio.AbstractServer):
    """Listens on some sockets. Life: `start_serving`, `close`, `wait_closed`."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        room: Room,
        make: Make,
        *,
        tls: ssl.SSLContext | None = None,
        patience: float,
        goodbye_seconds: float,
    ) -> None:
        """`sockets` are bound and listen. `patience`: seconds in the lobby, and again for a TLS handshake."""
        self.sockets = tuple(sockets)
        self._room, self._make, self._tls = room, make, tls
        self._patience, self._goodbye_seconds = patience, goodbye_seconds
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[bool]] = set()
        self._chore: asyncio.Task[None] | None = None
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}
        self._last_logged = float("-inf")

    async def start_serving(self) -> None:
        """Accept from now on."""
        # There is no option for it. It counts for all connections of the process, those to the API server too.
        SSLProtocol.max_size = TLS_BYTES
        self._chore = keep_running("places for strangers", self._keep_places_free)
        for listening in self.sockets:
            listening.setblocking(False)
            self._loop.add_reader(listening, self._accept, listening)

    def close(self) -> None:
        """Accept no more. Connections that have begun go on; those in the lobby and handshakes under way end."""
        if self._chore is not None:
            self._chore.cancel()
        for listening in self.sockets:
            if (timer := self._paused.pop(listening, None)) is not None:
                timer.cancel()
            self._loop.remove_reader(listening)
            listening.close()
        for task in self._beginning:
            task.cancel()

    async def wait_closed(self) -> None:
        """Return once no handshake is under way."""
        await asyncio.gather(*self._beginning, return_exceptions=True)

    async def serve_forever(self) -> NoReturn:
        """Nobody waits for that."""
        raise NotImplementedError

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return all(listening.fileno() >= 0 for listening in self.sockets)

    def _accept(self, listening: socket.socket) -> None:
        taken = 0
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as e:  # no file left, or no memory
                self._pause(listening, e)
                return
            if not self._room.may_enter(place := _place_of(address)):
                connection.close()
                continue
            connection.setblocking(False)
            task = spawn("a connection begins", self._serve(connection, place), follows="it is closed")
            self._beginning.add(task)
            task.add_done_callback(partial(self._begun, connection))
            if (taken := taken + 1) >= AT_ONCE:
                return

    def _begun(self, connection: socket.socket, task: asyncio.Task[bool]) -> None:
        """It is handed over, or it is to be closed."""
        self._beginning.discard(task)
        if task.cancelled() or task.exception() is not None or not task.result():
            connection.close()

    async def _serve(self, connection: socket.socket, address: str) -> bool:
        """Wait for a place, make the handshake, if there is one, and hand the connection over.

        Returns whether that came about: there may be no place in time, or the other side fails.
        """
        this, tls, served = asyncio.current_task(), self._tls is not None, False
        guest: Guest | None = None

        def end() -> None:
            assert this is not None
            this.cancel()

        try:
            async with asyncio.timeout(self._patience):
                guest = await self._room.enter(address, end)
            await self._loop.connect_accepted_socket(
                partial(self._make, guest),
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=self._patience if tls else None,
                ssl_shutdown_timeout=self._goodbye_seconds if tls else None,
            )
            served = True
        except (TooManyWait, OSError):
            pass
        finally:
            if guest is not None and not served:
                guest.leave()
        return served

    async def _keep_places_free(self) -> None:
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            if self._room.waiting:
                self._room.make_place()

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        if self._loop.time() - self._last_logged > LOG_EVERY:
            self._last_logged = self._loop.time()
            log.warning("no connection can be accepted", problem=str(error))
        self._loop.remove_reader(listening)
        self._paused[listening] = self._loop.call_later(PAUSE_SECONDS, self._go_on, listening)

    def _go_on(self, listening: socket.socket) -> None:
        self._paused.pop(listening, None)
        self._loop.add_reader(listening, self._accept, listening)


def _place_of(address: tuple[Any, ...]) -> str:
    """Return what counts as one address: a host has a whole network of 64 bits of IPv6."""
    host = str(address[0])
    return ":".join(host.split(":")[:4]) if ":" in host and "." not in host else host
