"""Searches of a cluster: one `_msearch` for all fetches, tried again where the cluster has no time for it now."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson

from rollup_operator.sharing.shares import Held
from rollup_operator.stores.errors import (
    DocumentsChanged,
    SearchAnswerTooLong,
    SearchTooLarge,
    SearchTooWide,
    StoreError,
)
from rollup_operator.stores.opensearch import search_body
from rollup_operator.stores.opensearch.replication import ANY, Copies
from rollup_operator.stores.opensearch.source import sources
from rollup_operator.stores.opensearch.tiers import OPAQUE_ID
from rollup_operator.stores.opensearch.transport import pieces
from rollup_operator.stores.opensearch.transport.answers import LISTING, PAGE, TooRich, readable
from rollup_operator.stores.opensearch.transport.client import Cluster
from rollup_operator.stores.opensearch.transport.errors import TOO_LONG, Answered, Overloaded, classify
from rollup_operator.stores.opensearch.transport.retry import Patience
from rollup_operator.stores.search import Documents, Fetch, Partials, Rows

_ROOM = 2**20
"""Bytes that an answer should take, and twice that of memory; it gets more as it needs it."""
_TOO_MANY = "too_many_buckets_exception"
_BROKEN = "circuit_breaking_exception"
"""The search took more memory than there is: once more, it would again."""
_DOING = "searching"
_NONE = "rollup-operator-none"
"""An index that is not there: no names at all would mean all indices."""
LONGEST_REQUEST = 512 * 1024
"""Bytes. Longer ones would take turns away from others while they are made and sent."""


async def search(
    cluster: Cluster, fetches: Sequence[Fetch], max_buckets: int, seconds: float, copies: Callable[[str], Copies]
) -> Sequence[Partials]:
    """Answer fetches, in their order.

    `copies`: those of a rollup index that show everything. Raises SearchTooLarge, SearchAnswerTooLong, SearchTooWide,
    DocumentsChanged, the errors of a source, and what `Cluster.call` raises.
    """
    if not fetches:
        return []
    for i, fetch in enumerate(fetches):
        if isinstance(of := fetch.relation, Rows) and of.index_pattern != of.spec.index_pattern:
            names = await _found(cluster, of)
            fetches = [*fetches[:i], replace(fetch, relation=replace(of, index_pattern=names)), *fetches[i + 1 :]]
    body = await asyncio.to_thread(request, fetches, copies)
    patience = Patience()
    while True:
        try:
            return await _search(cluster, fetches, body, max_buckets, seconds)
        except StoreError as e:
            if isinstance(e, Answered) and e.kind == TOO_LONG:
                raise SearchAnswerTooLong(str(e)) from e
            if isinstance(e, Answered) and e.kind == _TOO_MANY:
                raise SearchTooLarge(max_buckets) from e
            if isinstance(e, DocumentsChanged) or (isinstance(e, Answered) and e.kind == _BROKEN):
                raise
            await patience.pause(e)


async def _found(cluster: Cluster, of: Rows) -> str:
    """Return those names of indices that the job's own pattern finds: a caller reads no more than the job does.

    A wildcard finds no index that is hidden by its settings; who names it alone would.
    """
    found = set(whole := of.spec.index_pattern.split(","))
    if wide := [part for part in whole if "*" in part or part.startswith("-")]:
        # Not by the indices themselves: a user who may read is not always one who may read settings.
        answer = await cluster.call(
            "GET",
            f"/_resolve/index/{sources.searched(','.join(wide))}",
            doing="finding the indices of a source",
            params={"filter_path": _NAMES},
            opaque_id=OPAQUE_ID,
            longest=LISTING,
        )
        for kind in ("indices", "aliases", "data_streams"):
            found.update(each.at("name").text() for each in answer.find(kind).items())
    return ",".join(name for name in of.index_pattern.split(",") if name in found)


def request(fetches: Sequence[Fetch], copies: Callable[[str], Copies]) -> bytes:
    """Return the body of the `_msearch`. Raises SearchTooWide."""
    lines: list[bytes] = []
    for fetch in fetches:
        lines += [orjson.dumps(_header(fetch, copies)), orjson.dumps(search_body.body(fetch))]
        if sum(map(len, lines)) > LONGEST_REQUEST:
            raise SearchTooWide(LONGEST_REQUEST)
    return b"\n".join([*lines, b""])


async def _search(
    cluster: Cluster, fetches: Sequence[Fetch], body: bytes, max_buckets: int, seconds: float
) -> Sequence[Partials]:
    room = await cluster.searches.take(2 * _ROOM)
    try:
        answer = await cluster.call(
            "POST",
            "/_msearch",
            doing=_DOING,
            params={"filter_path": _FILTER},
            body=body,
            opaque_id=OPAQUE_ID,
            timeout=seconds,
            longest=PAGE,
            parse=bytes,
            page=room,
        )
        return await _understood(cluster, fetches, answer.value, max_buckets, room)
    finally:
        room.end()


_NAMES = "indices.name,aliases.name,data_streams.name"
_FILTER = ",".join(
    f"responses.{part}"
    for part in ("status", "error", "timed_out", "_shards.total", "_shards.failed", "hits.total", "aggregations")
)


async def _understood(
    cluster: Cluster, fetches: Sequence[Fetch], raw: bytes, max_buckets: int, room: Held
) -> Sequence[Partials]:
    def understand() -> list[Partials]:
        return _partials(cluster, fetches, raw, max_buckets)

    if len(raw) <= pieces.PIECE:
        return understand()
    thread = asyncio.ensure_future(asyncio.to_thread(understand))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        # It ends soon, and until then it takes up the room.
        with suppress(StoreError):
            await thread
        raise


def _partials(cluster: Cluster, fetches: Sequence[Fetch], raw: bytes, max_buckets: int) -> list[Partials]:
    with readable(_DOING, "it is no answer of searches"):
        try:
            responses = pieces.load(raw)["responses"]
        except TooRich as e:
            raise Overloaded(f"{_DOING}: the answer {e}", status=413, kind=TOO_LONG) from e
        if len(responses) != len(fetches):
            raise ValueError("there are more or fewer answers than searches")
    found = []
    for fetch, response in zip(fetches, responses, strict=True):
        with readable(_DOING):
            _must_be_whole(cluster, fetch, response)
            found.append(search_body.answer(fetch, response, max_buckets))
    return found


def _must_be_whole(cluster: Cluster, fetch: Fetch, response: dict[str, Any]) -> None:
    """Raise what an answer says that is an error, or that lacks something."""
    if "error" in response:
        status = response.get("status")
        error = classify(status if type(status) is int else 500, response, _DOING, cluster.redact)
        raise error if isinstance(fetch.relation, Documents) else _of_source(fetch, error)
    if response.get("timed_out") or response.get("_shards", {}).get("failed"):
        raise Overloaded(f"{_DOING}: the answer lacks a shard, or the time was up", status=200, kind="partial")
    of = fetch.relation
    if isinstance(of, Documents) and of.end_ms and not response["_shards"]["total"]:
        raise DocumentsChanged(of.job_id)  # there is no such index any more


def _of_source(fetch: Fetch, error: StoreError) -> StoreError:
    assert not isinstance(fetch.relation, Documents)
    if isinstance(error, Answered) and error.kind == _TOO_MANY:
        return error
    return sources.source_error(fetch.relation.index_pattern, error)


def _header(fetch: Fetch, copies: Callable[[str], Copies]) -> dict[str, Any]:
    of = fetch.relation
    header: dict[str, Any] = {"ignore_unavailable": True, "allow_no_indices": True}
    header["allow_partial_search_results"] = False
    if isinstance(of, Documents):
        return {"index": [of.rollup_index], **header, **copies(of.rollup_index).parameters}
    if not of.index_pattern:
        return {"index": [_NONE], **header}
    sources.searched(of.index_pattern)  # raises for what is no pattern of indices
    return {"index": of.index_pattern.split(","), **header, **ANY.parameters}
