"""Looks names of hosts up, and gives out only the addresses that the operator may connect to."""

import ipaddress
import socket
from collections.abc import Hashable

from aiohttp.abc import AbstractResolver, ResolveResult

from rollup_operator.stores.host_rules import HostNotAllowed, HostRules
from rollup_operator.stores.opensearch.transport.lookups import Lookups

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class FilteringResolver(AbstractResolver):
    """Looks names up as the system does, and lets only allowed addresses through.

    The answer that was judged is the one that is connected to: a name that leads elsewhere a moment later gains
    nothing.
    """

    def __init__(self, rules: HostRules, lookups: Lookups, who: Hashable) -> None:
        """`who`: on whose behalf."""
        self._rules, self._lookups, self._who = rules, lookups, who

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raises HostNotAllowed where none may be connected to."""
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
