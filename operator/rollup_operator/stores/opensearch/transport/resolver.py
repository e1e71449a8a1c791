"""Resolves names of hosts, and returns only addresses that the operator may connect to.

Each lookup has a thread of its own: the system's resolver may take long, and cannot be interrupted. There are few
such threads, divided among namespaces: names of one namespace that do not resolve hold up nobody else's.
"""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from rollup_operator.sharing.shares import Held, Shares
from rollup_operator.stores.host_rules import HostNotAllowed, HostRules

AT_ONCE = 16
"""Threads, for all namespaces together."""

SECONDS = 5.0
"""How long a name may take, once it has its turn."""

Found = tuple[Any, ...]
"""Family, type, protocol, name and address, as `socket.getaddrinfo` has them."""

Resolve = Callable[..., list[Found]]


_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Lookups:
    """The lookups of this process."""

    def __init__(self, *, resolve: Resolve = socket.getaddrinfo, at_once: int = AT_ONCE) -> None:
        """`resolve` blocks."""
        self._resolve, self._places = resolve, Shares(at_once)

    async def find(self, who: Hashable, host: str, port: int, family: socket.AddressFamily) -> list[Found]:
        """Return where a name leads, on behalf of `who`. Raises OSError."""
        held = await self._places.take(who)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Found]] = loop.create_future()
        resolve = partial(self._resolve, host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        # A daemon, so the process need not wait for it at its end.
        threading.Thread(target=_run, args=(loop, resolve, answer, held), daemon=True, name=f"lookup of {host}").start()
        try:
            async with asyncio.timeout(SECONDS):
                return await answer
        except TimeoutError as e:
            raise OSError(None, f"nothing says within {SECONDS:g} s where its name leads") from e


class FilteringResolver(AbstractResolver):
    """Resolves names as the system does, and returns only allowed addresses.

    The connection uses the address that was checked: a name that resolves to another one a moment later gains
    nothing.
    """

    def __init__(self, rules: HostRules, lookups: Lookups, who: Hashable) -> None:
        """`who`: on whose behalf."""
        self._rules, self._lookups, self._who = rules, lookups, who

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raises HostNotAllowed if none is allowed."""
        allowed: list[ResolveResult] = []
        refusal = HostNotAllowed(f"{host} resolves to no address")
        for of, _, protocol, _, (address, _, *rest) in await self._lookups.find(self._who, host, port, family):
            try:
                self._rules.check_address(host, ipaddress.ip_address(address.partition("%")[0]), port)
            except HostNotAllowed as e:
                refusal = e
                continue
            zone = f"%{rest[1]}" if len(rest) > 1 and rest[1] and "%" not in address else ""
            allowed.append(
                ResolveResult(
                    hostname=host, host=f"{address}{zone}", port=port, family=of, proto=protocol, flags=_NUMERIC
                )
            )
        if not allowed:
            raise refusal
        return allowed

    async def close(self) -> None:
        """Do nothing: nothing is kept."""


def _run(loop: asyncio.AbstractEventLoop, resolve: Resolve, answer: "asyncio.Future[list[Found]]", held: Held) -> None:
    found: list[Found] | Exception
    try:
        found = resolve()
    except Exception as e:
        found = e
    with suppress(RuntimeError):  # the event loop has ended meanwhile
        loop.call_soon_threadsafe(_done, found, answer, held)


def _done(found: list[Found] | Exception, answer: "asyncio.Future[list[Found]]", held: Held) -> None:
    held.end()  # not before: a thread counts even if nobody waits for its answer
    if answer.done():
        return
    if isinstance(found, Exception):
        answer.set_exception(found)
    else:
        answer.set_result(found)
