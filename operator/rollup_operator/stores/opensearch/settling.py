"""Takes a job's claim from whoever has it and leaves it without a holder; on demand the documents go, too."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from rollup_operator.stores.base import Claim, JobConfig, Owner
from rollup_operator.stores.opensearch import claims, gate, records, target
from rollup_operator.stores.opensearch.client import OPAQUE_ID, Cluster, name
from rollup_operator.stores.opensearch.errors import classify
from rollup_operator.stores.opensearch.records import Record
from rollup_operator.stores.opensearch.retry import Patience

_DELETE = {
    "conflicts": "proceed",  # what somebody changes meanwhile is left for the next request
    "refresh": "true",
    "max_docs": "50000",  # a request should take seconds
    "scroll_size": "5000",
}


async def settle(
    cluster: Cluster,
    config: JobConfig,
    holder: str,
    is_alive: Callable[[Owner], bool],
    *,
    delete_documents: bool,
    now: Callable[[], float] = time.time,
) -> Claim | None:
    """Make sure that nothing of an earlier run goes on, and that the claim has no holder.

    With `delete_documents` the job's documents, position and entry in `_meta` go too; the record stays, so that epochs
    only grow. Returns the record as it is then; None where there is none, or where it is another living job's.
    """
    patience = Patience()
    while True:
        seen = await claims.look(cluster, config.key, opaque_id=OPAQUE_ID)
        if seen is None or (seen.owner != config.owner and is_alive(seen.owner)):
            return None
        if not seen.held and not delete_documents:
            return seen.claim
        record = await claims.evict(cluster, config, holder, seen, patience, now=now)
        if record is None:
            continue
        if delete_documents:
            record = await _forget(cluster, config, record)
        if (settled := await claims.release(cluster, record)) is not None:
            return settled.claim


async def _forget(cluster: Cluster, config: JobConfig, record: Record) -> Record:
    await gate.close_gates(cluster, config.key, record.claim.epoch + 1, opaque_id=record.opaque_id)
    try:
        found = await target.look(cluster, config.spec.rollup_index, opaque_id=record.opaque_id)
    except target.Unfit:
        found = None  # the name has come to mean something else
    if found is not None:
        await _delete(cluster, config, record)
        await target.unregister(cluster, config, record)
    record = records.forgotten(record)
    return await claims.commit(cluster, record, record.claim)


async def _delete(cluster: Cluster, config: JobConfig, record: Record) -> None:
    index = config.spec.rollup_index
    doing = f"deleting the documents of {config.job_id} in {index}"
    date = f"{config.spec.groups.date_histogram.field}.date_histogram.timestamp"
    query = {"bool": {"filter": [{"term": {"_rollup.id": config.job_id}}, {"exists": {"field": date}}]}}
    await target.refresh(cluster, index, opaque_id=record.opaque_id)  # what cannot be found is not deleted
    while True:
        answer: Mapping[str, Any] = await cluster.call(
            "POST",
            f"/{name(index)}/_delete_by_query",
            doing=doing,
            params=_DELETE,
            body={"query": query},
            opaque_id=record.opaque_id,
        )
        if answer["failures"]:
            raise classify(answer["failures"][0].get("status", 500), answer, doing)
        if not answer["total"]:
            return
