"""Checks whether requests of earlier epochs still run in the cluster.

Closing a connection ends a search, but not a bulk. The `X-Opaque-Id` of a request names the run that it belongs to,
and the cluster's task list shows it for every request, on all nodes, as long as any part of the request runs.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable

from rollup_operator.stores.errors import StoreUnavailable
from rollup_operator.stores.opensearch.transport.answers import LISTING, Value
from rollup_operator.stores.opensearch.transport.client import OF_RUN, Cluster
from rollup_operator.stores.opensearch.transport.errors import reason_of

_FIRST, _LONGEST = 0.010, 0.250
"""Seconds between two reads of the task list, growing from the first to the longest."""

ON_ITS_WAY = 0.050
"""Assumed seconds from sending a request until it is in the task list, unless the node is paused."""

_LONGEST_EPOCH = 19
"""Digits."""

_TASKS = {
    # Not `bulk_session_timeout_tracking_action`, which in Elasticsearch 9 lasts as long as a bulk is being received:
    # one that a frozen holder has sent half of would hold up its successor, and its gate keeps it out as it is.
    "actions": "indices:*",
    "filter_path": "nodes.*.tasks.*.headers.X-Opaque-Id,node_failures,task_failures",
}


def opaque_id(uid: str, epoch: int) -> str:
    """Return the `X-Opaque-Id` of every request of a run once it has the claim."""
    return f"{OF_RUN}{uid}/{epoch}"


def verification_id(uid: str) -> str:
    """Return the `X-Opaque-Id` of every request of a verification that a stop of the job waits for.

    No epoch is part of it: a run does not wait for a verification.
    """
    return f"rollup/{uid}/verify"


async def quiet(cluster: Cluster, uids: Collection[str], *, before: int, doing: str, arrived: bool = False) -> None:
    """Wait until the cluster does nothing for these owners under an epoch below `before`, however long it takes.

    `arrived`: each of their requests is known to have been read by the cluster, or never will be. Otherwise one that
    was sent just now may begin after the first reads, so there is one more when it must have arrived. A search that is
    held up for longer, by a node that is paused, ends as soon as it begins, since its connection is closed; a write is
    kept out by `gate`. Raises StoreError when the cluster cannot be asked, or not all of it.
    """
    await _until_none(cluster, lambda task: is_of(task, uids, before), doing, arrived=arrived)


async def over(cluster: Cluster, opaque_id: str, *, doing: str) -> None:
    """Wait until the cluster does nothing under this id, as `quiet` does. Raises StoreError likewise."""
    await _until_none(cluster, lambda task: task == opaque_id, doing)


async def _until_none(cluster: Cluster, is_ours: Callable[[str], bool], doing: str, *, arrived: bool = False) -> None:
    clock, wait = asyncio.get_running_loop().time, _FIRST
    all_there = clock() + (0.0 if arrived else ON_ITS_WAY)
    while True:
        listed_at = clock()
        if any(is_ours(task) for task in await under_way(cluster, doing)):
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, _LONGEST)
        elif listed_at >= all_there:
            return
        else:
            await asyncio.sleep(max(0.0, all_there - clock()))


async def under_way(cluster: Cluster, doing: str) -> Iterable[str]:
    """Return the `X-Opaque-Id` of each request that the cluster has in progress.

    Raises StoreError when it cannot be asked, or not all of it.
    """
    answer = await cluster.call("GET", "/_tasks", doing=doing, params=_TASKS, longest=LISTING)
    for failed in (*answer.find("node_failures").items(), *answer.find("task_failures").items()):
        raise StoreUnavailable(f"{doing}: not all nodes listed their tasks: {reason_of(failed.value, cluster.redact)}")
    return owners(answer)


def owners(tasks: Value) -> list[str]:
    """Return the `X-Opaque-Id` of each request in an answer of the task list that is cut down to them."""
    return [
        task.at("headers", "X-Opaque-Id").text()
        for _, node in tasks.find("nodes").members()
        for _, task in node.at("tasks").members()
    ]


def is_epoch(text: str) -> bool:
    """Whether a text is the number of an epoch: texts of others may have any number of digits, in any script."""
    return len(text) <= _LONGEST_EPOCH and text.isascii() and text.isdecimal()


def is_of(task: str, uids: Collection[str], before: int) -> bool:
    """Whether an `X-Opaque-Id` is that of a run of these owners under an epoch below `before`."""
    word, _, rest = task.partition("/")
    uid, _, epoch = rest.rpartition("/")
    return word == "rollup" and uid in uids and is_epoch(epoch) and int(epoch) < before
