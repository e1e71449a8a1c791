"""Decides which documents must be rewritten when buckets are read again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from rollup_operator.concurrency.portions import each, in_portions
from rollup_operator.rollup.documents import SAME_SUM, Layout, is_ambiguous, scheme_2_id, time_of
from rollup_operator.stores.opensearch.records import Record
from rollup_operator.stores.opensearch.target import index as target
from rollup_operator.stores.opensearch.target.encoder import Batch
from rollup_operator.stores.opensearch.transport.answers import LISTING
from rollup_operator.stores.opensearch.transport.client import Cluster, name
from rollup_operator.stores.opensearch.transport.errors import NotThere, classify

_AT_ONCE = 1000
"""The most documents that one request reads."""

_BYTES_AT_ONCE = 1_000_000
"""About how many bytes of documents one request reads: its answer is parsed in one piece, in some 10 ms."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The changes of a page's buckets since they were written."""

    changed: Batch
    """The documents that are new or differ."""
    kept: int
    """The number of documents whose source holds fewer rows now: they are better as they are."""


async def compare(cluster: Cluster, record: Record, layout: Layout, batch: Batch) -> Compared:
    """Compare documents with the stored ones in their current version, including what was just written.

    Raises IdentityConflict if the rollup index is gone, and what `Cluster.call` raises.
    """
    count = f"{layout.group_keys()[0]}._count"
    sums = frozenset(
        f"{field}.{metric}.value" for field, metrics in layout.metrics for metric in metrics if metric in ("sum", "avg")
    )
    changed: list[int] = []
    older: dict[int, str] = {}
    kept = 0

    def compare_one(found: tuple[int, dict[str, Any] | None]) -> None:
        nonlocal kept
        i, before = found
        now = batch.source(i)
        if before is None or differs(before, now, sums):
            if before is not None and _is_number(had := before.get(count)) and had > now[count]:
                kept += 1
            else:
                changed.append(i)

    at_once = max(1, min(_AT_ONCE, _BYTES_AT_ONCE * len(batch) // (batch.size or 1)))
    for begin in range(0, len(batch), at_once):
        ids = [batch.id(i) for i in range(begin, min(begin + at_once, len(batch)))]
        stored = list(await _stored(cluster, record, ids))
        for i, (id_, document) in (await _older(cluster, record, layout, batch, begin, stored)).items():
            stored[i - begin], older[i] = document, id_
        await in_portions(each(compare_one, enumerate(stored, begin)))
    items = [_under(batch.items[i], batch.id(i), older[i]) if i in older else batch.items[i] for i in changed]
    return Compared(Batch.of(items), kept)


async def _older(
    cluster: Cluster,
    record: Record,
    layout: Layout,
    batch: Batch,
    begin: int,
    stored: Sequence[dict[str, Any] | None],
) -> dict[int, tuple[str, dict[str, Any]]]:
    """Return the documents that an earlier version wrote under another id, by their place in the batch.

    It gave ids of scheme 2 to keys that have ids of scheme 3 now. They stay, or they would exist twice.
    """
    names = layout.group_keys()
    wanted: dict[int, str] = {}
    for i, document in enumerate(stored, begin):
        if document is None and any(map(is_ambiguous, keys := _keys(layout, batch.source(i)))):
            wanted[i] = scheme_2_id(layout.job_id, zip(names, keys, strict=True))
    if not wanted:
        return {}
    found = await _stored(cluster, record, list(dict.fromkeys(wanted.values())))
    by_id = dict(zip(dict.fromkeys(wanted.values()), found, strict=True))
    return {
        i: (id_, document)
        for i, id_ in wanted.items()
        if (document := by_id[id_]) is not None and _keys(layout, document) == _keys(layout, batch.source(i))
    }


def _keys(layout: Layout, document: Mapping[str, Any]) -> list[Any]:
    time, *others = layout.group_keys()
    return [time_of(document.get(f"{time}.timestamp")), *(document.get(f"{name}.value") for name in others)]


def _under(item: bytes, id_: str, other: str) -> bytes:
    """Return an item that writes its document under another id."""
    return item.replace(orjson.dumps(id_), orjson.dumps(other), 1)


def differs(before: Mapping[str, Any], now: Mapping[str, Any], sums: frozenset[str]) -> bool:
    """Whether a document has changed. Sums may differ as much as sums of the same numbers in another order."""
    if before == now:
        return False
    if before.keys() != now.keys():
        return True
    for key, new in now.items():
        old = before[key]
        if old == new:
            continue
        if key not in sums or not _is_number(old) or abs(new - old) > SAME_SUM * max(abs(new), abs(old)):
            return True
    return False


def _is_number(value: object) -> bool:
    """Whether the value is a number: stored documents may come from anybody."""
    return isinstance(value, int | float)


async def _stored(cluster: Cluster, record: Record, ids: Sequence[str]) -> Iterator[dict[str, Any] | None]:
    """Return the documents that are stored under the ids; None for a missing one."""
    index = record.claim.key[0]
    doing = f"reading {len(ids)} documents of {index}"
    try:
        answer = await cluster.call(
            "POST",
            f"/{name(index)}/_mget",
            doing=doing,
            params={"filter_path": "docs._id,docs._source,docs.error"},
            body={"ids": ids},
            opaque_id=record.opaque_id,
            longest=LISTING,
        )
        docs = list(answer.at("docs").items())
        for doc in docs:
            if doc.find("error").given:
                status = 404 if doc.find("error", "type").value == "index_not_found_exception" else 400
                raise classify(status, doc.value, doing, cluster.redact)
    except NotThere:
        raise target.missing(record.claim.key) from None
    if [doc.at("_id").value for doc in docs] != list(ids):
        raise answer.odd("holds other documents than were asked for")
    return (dict(source.mapping()) if (source := doc.find("_source")).given else None for doc in docs)
