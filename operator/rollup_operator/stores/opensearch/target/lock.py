"""One writer at a time for the `_meta` of a rollup index, which has no compare-and-set of its own.

The lock is a document beside the claims. A process that finds it taken waits until it is gone. If it has not changed
for a while by the process's own clock, its holder has died, and the process takes it over. A holder finishes well
within that time.
"""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from rollup_operator.stores.errors import StoreError
from rollup_operator.stores.opensearch.transport.answers import Value
from rollup_operator.stores.opensearch.transport.client import Cluster, name
from rollup_operator.stores.opensearch.transport.errors import DocumentConflict, NotThere
from rollup_operator.stores.opensearch.transport.retry import Patience

ABANDONED_SECONDS = 10.0
"""A lock that has not changed for this long has no living holder."""

_FIRST, _LONGEST = 0.02, 0.25


@asynccontextmanager
async def locked(
    cluster: Cluster, claims: str, index: str, *, opaque_id: str, abandoned: float = ABANDONED_SECONDS
) -> AsyncIterator[None]:
    """Hold the lock of a rollup index. `claims` names the alias that it is kept under."""
    path = f"/{claims}/_doc/{name(f'lock/{index}')}"
    doing = f"waiting for the lock of {index}"
    ours = await _acquire(cluster, path, doing, opaque_id, abandoned)
    try:
        yield
    finally:
        await _release(cluster, path, doing, opaque_id, ours)


Place = tuple[str, str]
"""`_seq_no` and `_primary_term` of the lock, as query parameters."""


async def _acquire(cluster: Cluster, path: str, doing: str, opaque_id: str, abandoned: float) -> Place:
    mine = {"locked_by": uuid.uuid4().hex}
    seen: Place | None = None
    since, wait, patience = time.monotonic(), _FIRST, Patience()
    while True:
        try:
            there: Value | None = await cluster.call("GET", path, doing=doing, opaque_id=opaque_id)
        except NotThere as e:
            if e.kind:  # not the document, but the index of claims
                raise
            there = None
        try:
            if there is None:
                return await _put(cluster, path, doing, {"op_type": "create"}, mine, opaque_id)
            place = _place(there)
            if there.at("_source").mapping() == mine:
                return place  # an answer was lost
            if place != seen:
                seen, since = place, time.monotonic()
            elif time.monotonic() - since >= abandoned:
                return await _put(cluster, path, doing, _at(place), mine, opaque_id)
        except DocumentConflict:
            continue  # somebody was quicker
        except StoreError as e:
            await patience.pause(e)
            continue
        await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311  # jitter
        wait = min(wait * 1.5, _LONGEST)


async def _put(
    cluster: Cluster, path: str, doing: str, params: Mapping[str, str], body: Mapping[str, Any], opaque_id: str
) -> Place:
    answer = await cluster.call(
        "PUT", path, doing=doing, params={**params, "require_alias": "true"}, body=body, opaque_id=opaque_id
    )
    return _place(answer)


async def _release(cluster: Cluster, path: str, doing: str, opaque_id: str, ours: Place) -> None:
    patience = Patience()
    while True:
        try:
            await cluster.call("DELETE", path, doing=doing, params=_at(ours), opaque_id=opaque_id)
        except (DocumentConflict, NotThere):
            return  # an answer was lost, or we were taken for dead
        except StoreError as e:
            try:
                await patience.pause(e)
            except StoreError:
                return  # it is taken over in a while
        else:
            return


def _place(answer: Value) -> Place:
    return str(answer.at("_seq_no").whole()), str(answer.at("_primary_term").whole())


def _at(place: Place) -> dict[str, str]:
    return {"if_seq_no": place[0], "if_primary_term": place[1]}
