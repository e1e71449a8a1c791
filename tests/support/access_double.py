"""A seam to the API server's reviews in memory: everybody is known, and may do what a test has not denied."""

from collections.abc import Collection

from rollup_operator.http.access.permits import Caller, EndpointAction
from rollup_operator.http.protocol import errors

AUTHORIZATION = {"Authorization": "Bearer anybody"}
"""What a test's client sends."""


class Anybody:
    """Lets in `Bearer <name>` as the user of that name. `denied` holds deeds, each with a name or with `` for all."""

    def __init__(self) -> None:
        self.denied: set[tuple[EndpointAction, str]] = set()
        self.gone: set[str] = set()
        """Users whose tokens have ended."""
        self.hidden: set[str] = set()
        """Namespaces without the right to all jobs."""
        self.reads_stores = True
        self.lists_events = True
        self.asked: list[tuple[EndpointAction, str, str]] = []
        """Action, namespace and name of each right that was required."""

    async def identify(self, authorization: str | None, peer: str = "") -> Caller:
        scheme, _, name = (authorization or "").partition(" ")
        if scheme != "Bearer" or not name.strip() or name in self.gone:
            raise errors.bad_credentials()
        return Caller(name)

    async def require(self, caller: Caller, action: EndpointAction, namespace: str, name: str) -> None:
        self.asked.append((action, namespace, name))
        if (action, name) in self.denied:
            raise errors.unauthorized("action", caller.name, "[right]", namespace)

    async def may(self, caller: Caller, action: EndpointAction, namespace: str, name: str) -> bool:
        return (action, name) not in self.denied

    async def may_read_stores(self, caller: Caller, namespace: str) -> bool:
        return self.reads_stores

    async def may_list_events(self, caller: Caller, namespace: str) -> bool:
        return self.lists_events

    async def allowed(
        self, caller: Caller, action: EndpointAction, namespace: str, names: Collection[str]
    ) -> frozenset[str]:
        return frozenset(name for name in names if (action, name) not in self.denied)

    async def namespaces(self, caller: Caller, action: EndpointAction, namespaces: Collection[str]) -> frozenset[str]:
        return frozenset(name for name in namespaces if (action, "") not in self.denied and name not in self.hidden)
