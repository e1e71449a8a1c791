"""Whether requests of earlier epochs are still at work in the cluster.

Closing a connection ends a search, but not a bulk. What a request is part of stands in its `X-Opaque-Id`, and the
cluster's task list shows that of every request, on all nodes, as long as any part of it runs.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rollup_operator.stores.errors import StoreUnavailable
from rollup_operator.stores.opensearch.client import Cluster

_FIRST, _LONGEST = 0.010, 0.250
"""Seconds between two looks at the task list, growing from the first to the longest."""

_ON_ITS_WAY = 0.050
"""Seconds that a request takes from being sent to being in the task list, unless the node is paused."""

_TASKS = {
    "actions": "indices:*",
    "filter_path": "nodes.*.tasks.*.headers.X-Opaque-Id,node_failures,task_failures",
}


def opaque_id(uid: str, epoch: int) -> str:
    """Return what every request of a run carries once it has the claim."""
    return f"rollup/{uid}/{epoch}"


async def quiet(cluster: Cluster, uids: Collection[str], *, before: int, doing: str, arrived: bool = False) -> None:
    """Wait until the cluster does nothing for these owners under an epoch below `before`, however long it takes.

    `arrived`: each of their requests is known to have been read by the cluster, or never will be. Otherwise one that
    was sent just now may begin after the first look: where that shows nothing, there is a second one. A search that is
    held up for longer, by a node that is paused, ends as soon as it begins, since its connection is closed; a write is
    kept out by `gate`. Raises StoreError when the cluster cannot be asked, or not all of it.
    """
    wait = _FIRST
    while True:
        if any(is_of(task, uids, before) for task in await _under_way(cluster, doing)):
            await asyncio.sleep(wait)
            wait, arrived = min(wait * 1.5, _LONGEST), True
        elif arrived:
            return
        else:
            await asyncio.sleep(_ON_ITS_WAY)
            arrived = True


async def _under_way(cluster: Cluster, doing: str) -> Iterable[str]:
    answer: Mapping[str, Any] = await cluster.call("GET", "/_tasks", doing=doing, params=_TASKS)
    failed = [*answer.get("node_failures", ()), *answer.get("task_failures", ())]
    if failed:
        reason = failed[0].get("reason") if isinstance(failed[0], Mapping) else failed[0]
        raise StoreUnavailable(f"{doing}: not all nodes could be asked what they do: {reason}")
    nodes = answer.get("nodes", {}).values()
    return [task["headers"]["X-Opaque-Id"] for node in nodes for task in node["tasks"].values()]


def is_of(task: str, uids: Collection[str], before: int) -> bool:
    """Whether an `X-Opaque-Id` is that of a run of these owners under an epoch below `before`."""
    word, _, rest = task.partition("/")
    uid, _, epoch = rest.rpartition("/")
    return word == "rollup" and uid in uids and epoch.isdecimal() and int(epoch) < before
