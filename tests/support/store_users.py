"""Users, roles and API keys of a node with Elastic's own security, and a store that logs in as one of them."""

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from rollup_operator.model.store import ClusterStoreSpec as Spec
from rollup_operator.stores.errors import SecretInvalid
from rollup_operator.stores.opensearch import Connections, HostRules
from rollup_operator.stores.secrets import SecretContent
from support.clustered import Clustered
from support.store_http import Body, StoreHttp

RESULTS = ("out-*", ".rollup-*", "rollup-operator-claims*")


def rights(
    cluster: Sequence[str] = ("monitor",),
    sources: Sequence[str] = ("read", "view_index_metadata"),
    results: Sequence[str] = ("manage", "read", "write"),
) -> Body:
    """A role as docs/rollupstore.md has it, for sources `rows-*` and rollup indices `out-*`, or with less."""
    wanted = ((["rows-*"], sources), (list(RESULTS), results))
    indices = [{"names": names, "privileges": list(these)} for names, these in wanted if these]
    return {"cluster": list(cluster), "indices": indices}


@dataclass
class Users:
    """Those of one node. Every change counts when the call has returned."""

    node: StoreHttp

    def role(self, name: str, role: Body) -> None:
        self.node.call("PUT", f"/_security/role/{name}", role)

    def user(self, name: str, password: str, *roles: str) -> None:
        self.node.call("PUT", f"/_security/user/{name}", {"password": password, "roles": list(roles)})

    def key(self, name: str, role: Body) -> tuple[str, str]:
        """Make an API key that may do this; return its id and the text that logs in."""
        made = self.node.call("POST", "/_security/api_key", {"name": name, "role_descriptors": {"only": role}})
        return made["id"], made["encoded"]

    def revoke(self, key: str) -> None:
        self.node.call("DELETE", "/_security/api_key", {"ids": [key]})


@dataclass
class OneSecret:
    """The Secret of the login. What is in it changes at once."""

    data: Mapping[str, bytes] = field(default_factory=dict)

    async def read(self, name: str) -> SecretContent:
        if not self.data:
            raise SecretInvalid("there is none")
        return SecretContent(self.data)

    def password(self, user: str, password: str) -> None:
        self.data = {"username": user.encode(), "password": password.encode()}

    def key(self, encoded: str) -> None:
        self.data = {"apiKey": encoded.encode()}


@asynccontextmanager
async def logged_in(node: StoreHttp, secret: OneSecret, url: str | None = None) -> AsyncIterator[Clustered]:
    """A store on the node that logs in as the Secret says."""
    spec: dict[str, Any] = {"hosts": [url or node.url], "credentialsSecretRef": {"name": "login"}}
    rules = HostRules.read(["127.0.0.1"])
    connections = Connections("elasticsearch", Spec.model_validate(spec), read_secret=secret.read, rules=rules)
    cluster = connections.cluster()
    moments = itertools.count(1000, 10)  # so that each refusal is a reason to read the Secret
    cluster.clock = lambda: next(moments)
    try:
        yield Clustered(node, cluster)
    finally:
        await cluster.close()
