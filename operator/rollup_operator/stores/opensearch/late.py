"""Which documents of buckets that are read once more have to be written again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from rollup_operator.stores.opensearch import target
from rollup_operator.stores.opensearch.client import Cluster, name
from rollup_operator.stores.opensearch.encoder import Batch
from rollup_operator.stores.opensearch.errors import Missing
from rollup_operator.stores.opensearch.records import Record

_AT_ONCE = 1000
"""Documents asked for in one request."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What became of a page's buckets since they were written."""

    changed: Batch
    """Those that are new, or differ."""
    kept: int
    """Those that differ in that the source holds less of them now: their documents are better as they are."""


async def compare(cluster: Cluster, record: Record, batch: Batch, *, count: str) -> Compared:
    """Compare documents with those that are stored. `count` names the key that holds a bucket's number of documents.

    Raises IdentityConflict where the rollup index is gone.
    """
    index = record.claim.key[0]
    changed: list[int] = []
    kept = 0
    for begin in range(0, len(batch.ids), _AT_ONCE):
        ids = batch.ids[begin : begin + _AT_ONCE]
        try:
            answer = await cluster.call(
                "POST",
                f"/{name(index)}/_mget",
                doing=f"looking at {len(ids)} documents of {index}",
                params={"filter_path": "docs.found,docs._source"},
                body={"ids": ids},
                opaque_id=record.opaque_id,
            )
        except Missing:
            raise target.missing(record.claim.key) from None
        stored: Sequence[dict[str, Any]] = answer["docs"]
        for i, there in enumerate(stored, begin):
            now = orjson.loads(batch.items[i].split(b"\n", 2)[1])
            before = there.get("_source")
            if before == now:
                continue
            if before is not None and before[count] > now[count]:
                kept += 1
            else:
                changed.append(i)
    items = tuple(batch.items[i] for i in changed)
    return Compared(Batch(tuple(batch.ids[i] for i in changed), items, sum(map(len, items))), kept)
