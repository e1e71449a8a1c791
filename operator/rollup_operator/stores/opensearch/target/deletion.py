"""Deletes a job's documents, through a gate of the epoch that was taken.

The cluster does it with `_delete_by_query`. If it does not support that call, the documents are searched for and
deleted by bulk, each in the version that was found: a document that changed meanwhile is left for the next search.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.errors import StoreError, StoreUnavailable
from rollup_operator.stores.opensearch.records import Record
from rollup_operator.stores.opensearch.replication import ANY, Copies
from rollup_operator.stores.opensearch.target import gate
from rollup_operator.stores.opensearch.target import index as target
from rollup_operator.stores.opensearch.transport.answers import LISTING, Value
from rollup_operator.stores.opensearch.transport.client import Cluster, name
from rollup_operator.stores.opensearch.transport.errors import DocumentConflict, Refused, classify
from rollup_operator.stores.opensearch.transport.retry import Patience

_BY_QUERY = {
    "conflicts": "proceed",  # what somebody changes meanwhile is left for the next request
    "refresh": "true",
    "max_docs": "50000",  # a request should take seconds
    "scroll_size": "5000",
}
_AT_ONCE = 2000
"""Documents that one search finds and one bulk deletes: their ids have 512 bytes at most."""
_HITS = ",".join(f"hits.hits.{part}" for part in ("_id", "_routing", "_seq_no", "_primary_term", "sort"))
_ITEMS = "items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason"

_MOST_REQUESTS = 10_000
"""Deletes a job's documents."""

_NO_SUCH_CALL = ("no handler found for uri", "Incorrect HTTP method for uri")


async def delete(cluster: Cluster, config: JobConfig, record: Record, *, copies: Copies = ANY) -> int:
    """Delete all documents of the job in its rollup index, and return how many there were.

    Raises NotThere if a later claim has closed the gate. `copies`: those of the index that show all of them.
    """
    index = config.spec.rollup_index
    way = await gate.open_gate(cluster, config.key, record.claim.epoch, opaque_id=record.opaque_id)
    deletion = _Deletion(cluster, config, record, way, copies, f"deleting the documents of {config.job_id} in {index}")
    await target.refresh(cluster, index, opaque_id=record.opaque_id)  # what cannot be found is not deleted
    step = deletion.by_query
    patience, deleted = Patience(), 0
    for _ in range(_MOST_REQUESTS):
        try:
            found, gone = await step()
        except Refused as e:
            if step == deletion.by_bulk or not _is_unknown(e):
                raise
            step = deletion.by_bulk
            continue
        if not found:
            return deleted
        deleted += gone
        if not gone:
            changed = f"{deletion.doing}: another client changes all of them just now"
            await patience.pause(StoreUnavailable(changed))
    raise StoreUnavailable(f"{deletion.doing}: there is no end of them")


def _is_unknown(error: Refused) -> bool:
    """Whether the cluster lacks the call: such an answer has no type."""
    return not error.kind and error.status in (400, 405) and any(words in str(error) for words in _NO_SUCH_CALL)


class _Deletion:
    """The two ways to delete documents. Each returns how many were found and how many of them are gone."""

    def __init__(
        self, cluster: Cluster, config: JobConfig, record: Record, way: str, copies: Copies, doing: str
    ) -> None:
        self._cluster, self._opaque_id, self._copies = cluster, record.opaque_id, copies
        self._query = target.documents(config)
        self._time = f"{config.spec.groups.date_histogram.field}.date_histogram.timestamp"
        self._way = way
        self.doing = doing

    async def by_query(self) -> tuple[int, int]:
        """Let the cluster find and delete them."""
        answer = await self._call("_delete_by_query", {**_BY_QUERY, **self._copies.parameters}, {"query": self._query})
        for failure in answer.at("failures").items():
            status = failure.find("status")
            raise self._judged(status.whole(400, 599) if status.given else 500, answer)
        return answer.at("total").whole(), answer.at("deleted").whole()

    async def by_bulk(self) -> tuple[int, int]:
        """Search from the oldest to the newest, a portion at a time, and delete what is found.

        Documents with the same time after the end of a portion are left for the next search from the oldest.
        """
        found, gone = 0, 0
        after: Sequence[Any] | None = None
        while hits := await self._next(after):
            after = hits[-1].at("sort").entries()
            found, gone = found + len(hits), gone + await self._delete(hits)
        if found:
            await target.refresh(self._cluster, self._way, opaque_id=self._opaque_id)
        return found, gone

    async def _next(self, after: Sequence[Any] | None) -> list[Value]:
        """Return documents later than `after`; none: there are none."""
        body: dict[str, Any] = {
            "size": _AT_ONCE,
            "query": self._query,
            "sort": [{self._time: "asc"}],
            "_source": False,
            "seq_no_primary_term": True,
            "track_total_hits": False,
        }
        if after is not None:
            body["search_after"] = after
        params = {"allow_partial_search_results": "false", "filter_path": _HITS, **self._copies.parameters}
        return list((await self._call("_search", params, body)).find("hits", "hits").items())

    async def _delete(self, hits: Sequence[Value]) -> int:
        """Delete documents unless they have changed since they were found; return how many are gone."""
        body = b"".join(orjson.dumps({"delete": _named(hit)}) + b"\n" for hit in hits)
        answer = await self._call("_bulk", {"filter_path": _ITEMS}, body)
        items = [item.at("delete") for item in answer.find("items").items()]
        if len(items) != len(hits):
            raise StoreUnavailable(f"{self.doing}: {len(hits)} were to go, and {len(items)} are answered for")
        gone = 0
        for item in items:
            status = item.at("status").whole(100, 599)
            if status < 300 or (status == 404 and not item.find("error").given):  # somebody else deleted it
                gone += 1
            elif not isinstance(error := self._judged(status, item), DocumentConflict):
                raise error
        return gone

    async def _call(self, path: str, params: Mapping[str, str], body: bytes | Mapping[str, Any]) -> Value:
        return await self._cluster.call(
            "POST",
            f"/{name(self._way)}/{path}",
            doing=self.doing,
            params=params,
            body=body,
            opaque_id=self._opaque_id,
            longest=LISTING,
        )

    def _judged(self, status: int, part: Value) -> StoreError:
        return classify(status, part.value, self.doing, self._cluster.redact)


def _named(hit: Value) -> Mapping[str, Any]:
    """Return the action that names a document in a bulk, in the version that was found."""
    named = {
        "_id": hit.at("_id").text(),
        "if_seq_no": hit.at("_seq_no").whole(),
        "if_primary_term": hit.at("_primary_term").whole(),
    }
    routing = hit.find("_routing")
    return named | ({"routing": routing.text()} if routing.given else {})
