"""Which documents of buckets that are read once more have to be written again."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollup_operator.indexer.documents import Layout
from rollup_operator.stores.opensearch import target
from rollup_operator.stores.opensearch.client import Cluster, name
from rollup_operator.stores.opensearch.encoder import Batch
from rollup_operator.stores.opensearch.errors import Missing, classify
from rollup_operator.stores.opensearch.records import Record

_AT_ONCE = 1000
"""Documents asked for in one request, and compared at a stroke."""

_SAME_SUM = 1e-12
"""Two sums of the same numbers in another order differ by less than this part of them."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What became of a page's buckets since they were written."""

    changed: Batch
    """Those that are new, or differ."""
    kept: int
    """Those that differ in that the source holds less of them now: their documents are better as they are."""


async def compare(cluster: Cluster, record: Record, layout: Layout, batch: Batch) -> Compared:
    """Compare documents with those that are stored, as they are now: what was just written counts.

    Raises IdentityConflict where the rollup index is gone, and what `Cluster.call` raises.
    """
    count = f"{layout.group_keys()[0]}._count"
    sums = frozenset(
        f"{field}.{metric}.value" for field, metrics in layout.metrics for metric in metrics if metric in ("sum", "avg")
    )
    changed: list[int] = []
    kept = 0
    for begin in range(0, len(batch), _AT_ONCE):
        ids = [batch.id(i) for i in range(begin, min(begin + _AT_ONCE, len(batch)))]
        stored = await _stored(cluster, record, ids)
        for i, before in enumerate(stored, begin):
            now = batch.source(i)
            if before is None or differs(before, now, sums):
                if before is not None and before.get(count, 0) > now[count]:
                    kept += 1
                else:
                    changed.append(i)
        await asyncio.sleep(0)
    return Compared(Batch.of([batch.items[i] for i in changed]), kept)


def differs(before: Mapping[str, Any], now: Mapping[str, Any], sums: frozenset[str]) -> bool:
    """Whether a document says something else now. Sums may differ as those of the same numbers in another order do."""
    if before == now:
        return False
    if before.keys() != now.keys():
        return True
    for key, new in now.items():
        old = before[key]
        if old == new:
            continue
        if key not in sums or abs(new - old) > _SAME_SUM * max(abs(new), abs(old)):
            return True
    return False


async def _stored(cluster: Cluster, record: Record, ids: Sequence[str]) -> Iterator[dict[str, Any] | None]:
    """Return the documents that are stored under the ids, None where there is none."""
    index = record.claim.key[0]
    doing = f"looking at {len(ids)} documents of {index}"
    try:
        answer = await cluster.call(
            "POST",
            f"/{name(index)}/_mget",
            doing=doing,
            params={"filter_path": "docs._id,docs._source,docs.error"},
            body={"ids": ids},
            opaque_id=record.opaque_id,
        )
        docs = answer["docs"]
        for doc in docs:
            if "error" in doc:
                status = 404 if doc["error"].get("type") == "index_not_found_exception" else 400
                raise classify(status, doc, doing)
    except Missing:
        raise target.missing(record.claim.key) from None
    return (doc.get("_source") for doc in docs)
