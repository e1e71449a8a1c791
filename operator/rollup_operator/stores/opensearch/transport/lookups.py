"""Looks the names of hosts up, each in a thread of its own: a resolver may take long, and cannot be interrupted.

There are few such threads, divided among namespaces: names of one that lead nowhere hold up nobody else's.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from typing import Any

from rollup_operator.sharing.shares import Held, Shares

AT_ONCE = 16
"""Threads, for all namespaces together."""

SECONDS = 5.0
"""How long a name may take, once it has its turn."""

Found = tuple[Any, ...]
"""Family, type, protocol, name and address, as `socket.getaddrinfo` has them."""

Look = Callable[..., list[Found]]


class Lookups:
    """The lookups of this process."""

    def __init__(self, *, look: Look = socket.getaddrinfo, at_once: int = AT_ONCE) -> None:
        """`look` blocks."""
        self._look, self._places = look, Shares(at_once)

    async def find(self, who: Hashable, host: str, port: int, family: socket.AddressFamily) -> list[Found]:
        """Return where a name leads, on behalf of `who`. Raises OSError."""
        held = await self._places.take(who)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Found]] = loop.create_future()
        look = partial(self._look, host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        # A daemon, so that the process need not wait for it at its end.
        threading.Thread(target=_run, args=(loop, look, answer, held), daemon=True, name=f"lookup of {host}").start()
        try:
            async with asyncio.timeout(SECONDS):
                return await answer
        except TimeoutError as e:
            raise OSError(None, f"nothing says within {SECONDS:g} s where its name leads") from e


def _run(loop: asyncio.AbstractEventLoop, look: Look, answer: "asyncio.Future[list[Found]]", held: Held) -> None:
    found: list[Found] | Exception
    try:
        found = look()
    except Exception as e:
        found = e
    with suppress(RuntimeError):  # the event loop has ended meanwhile
        loop.call_soon_threadsafe(_done, found, answer, held)


def _done(found: list[Found] | Exception, answer: "asyncio.Future[list[Found]]", held: Held) -> None:
    held.end()  # not before: a thread whose answer nobody waits for is one all the same
    if answer.done():
        return
    if isinstance(found, Exception):
        answer.set_exception(found)
    else:
        answer.set_result(found)
