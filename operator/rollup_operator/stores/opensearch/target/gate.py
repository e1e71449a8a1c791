"""The gate through which documents reach a rollup index: an alias of one job and one epoch.

Bulks go to the gate, never to the index itself, with `require_alias`. A process that takes a job over first closes
the gates of earlier epochs. A bulk of an earlier holder that arrives late then finds no gate and writes nothing. An
index that was deleted takes its gates with it, so no bulk creates it anew.
"""

import hashlib
from collections.abc import Collection, Iterable
from typing import Any

from rollup_operator.stores.errors import StoreUnavailable
from rollup_operator.stores.opensearch.quiet import is_epoch
from rollup_operator.stores.opensearch.transport.answers import LISTING
from rollup_operator.stores.opensearch.transport.client import Cluster, name
from rollup_operator.stores.opensearch.transport.errors import NotThere

_ACK_SECONDS = 60
"""How long all nodes may take to apply a change of aliases. A slower node is about to be removed."""


def gate_name(key: tuple[str, str], epoch: int) -> str:
    """Return the alias through which a job writes from this epoch on."""
    return f"{_prefix(key)}{epoch}"


def earlier(key: tuple[str, str], aliases: Iterable[str], epoch: int) -> list[str]:
    """Return those of `aliases` that are gates of this job from before `epoch`."""
    prefix = _prefix(key)
    found = [(a, a.removeprefix(prefix)) for a in aliases if a.startswith(prefix)]
    return [alias for alias, of in found if is_epoch(of) and int(of) < epoch]


async def open_gate(cluster: Cluster, key: tuple[str, str], epoch: int, *, opaque_id: str) -> str:
    """Make the gate of this epoch the job's only one and return its name. Raises NotThere if the index is gone."""
    gate = gate_name(key, epoch)
    add = {"add": {"index": key[0], "alias": gate, "is_hidden": True}}
    await _replace(cluster, key, epoch, [add], opaque_id)
    return gate


async def close_gates(cluster: Cluster, key: tuple[str, str], epoch: int, *, opaque_id: str) -> None:
    """Close the job's gates from before `epoch`, so that no request through them can arrive any more."""
    try:
        await _replace(cluster, key, epoch, [], opaque_id)
    except NotThere:
        return  # no index, no gates


async def _replace(
    cluster: Cluster, key: tuple[str, str], epoch: int, actions: list[dict[str, Any]], opaque_id: str
) -> None:
    doing = f"changing the write alias of {key[0]}"
    while True:
        closed = earlier(key, await aliases(cluster, key[0], opaque_id), epoch)
        todo = [*actions, *({"remove": {"index": key[0], "alias": alias}} for alias in closed)]
        if not todo:
            return
        try:
            answer = await cluster.call(
                "POST",
                "/_aliases",
                doing=doing,
                params={"timeout": f"{_ACK_SECONDS}s"},
                body={"actions": todo},
                opaque_id=opaque_id,
                timeout=2 * _ACK_SECONDS,
            )
        except NotThere as e:
            if e.kind == "aliases_not_found_exception":
                continue  # somebody else closed it meanwhile
            raise
        if answer.find("acknowledged").value is True:
            return
        raise StoreUnavailable(f"{doing}: not all nodes have applied it")


async def aliases(cluster: Cluster, index: str, opaque_id: str) -> Collection[str]:
    """Return the aliases of an index. Raises NotThere."""
    answer = await cluster.call(
        "GET",
        f"/{name(index)}",
        doing=f"reading {index}",
        params={"filter_path": "*.aliases"},
        opaque_id=opaque_id,
        longest=LISTING,
    )
    return [alias for alias, _ in answer.find(index, "aliases").members()]


def _prefix(key: tuple[str, str]) -> str:
    return f".rollup-{hashlib.sha256('/'.join(key).encode()).hexdigest()[:16]}-"
