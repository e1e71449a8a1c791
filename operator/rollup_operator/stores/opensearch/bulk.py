"""Writes the documents of a page through a job's gate, and verifies each of them.

An item that failed for want of room or time is sent again, alone, and what is too long for one request goes in two; any
other failure fails the page. Sending an item twice changes nothing: its id and its version say which document it is and
of which epoch.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollup_operator.stores.errors import StoreError, StoreUnavailable
from rollup_operator.stores.opensearch.client import Cluster, name
from rollup_operator.stores.opensearch.encoder import Batch
from rollup_operator.stores.opensearch.errors import (
    Conflict,
    MappingConflict,
    Missing,
    Overloaded,
    Refused,
    Unanswered,
    classify,
)
from rollup_operator.stores.opensearch.retry import Patience

SIDE_BY_SIDE = 2
"""How many requests carry a page at a time: within one request, a shard takes one document after the other."""

_WORTH_A_REQUEST = 500
"""Documents that a request should hold at least."""

_SHARD_SECONDS = 10
"""How long an item waits for a shard that is not there. The cluster's own minute would hold up a stop."""

_PARAMS = {
    "require_alias": "true",
    "timeout": f"{_SHARD_SECONDS}s",
    "filter_path": "errors,items.*.status,items.*.error",
}


class Superseded(StoreError):
    """A document is there with a later version: somebody with a later epoch wrote it."""


class GateGone(StoreError):
    """The alias to write through is not there any more, with its index or without."""


@dataclass(frozen=True, slots=True)
class Landed:
    """All documents of a page are durable."""

    sent_again: int
    """Items that had to be sent more than once."""
    unclean: bool
    """An answer was lost on the way, or between two nodes: what it was to answer may still be at work."""


async def write(cluster: Cluster, gate: str, batch: Batch, *, opaque_id: str, doing: str) -> Landed:
    """Write all documents of a page, in some requests side by side.

    Raises Superseded and GateGone, which `writing.refused` explains; MappingConflict with document and field,
    TargetBlocked, DiskFull, Unauthorized; Overloaded and StoreUnavailable after some time of trying. After any error,
    a part of the page may have been written, or may still be on its way; none of its requests is under way.
    """
    places = asyncio.Semaphore(SIDE_BY_SIDE)

    async def send(begin: int, end: int) -> Landed:
        async with places:
            return await _send(cluster, gate, batch, range(begin, end), opaque_id, doing)

    ended = await asyncio.gather(
        *(send(*part) for part in _requests(batch, cluster.largest_request)), return_exceptions=True
    )
    if failed := [e for e in ended if isinstance(e, BaseException)]:
        raise next((e for e in failed if isinstance(e, GateGone | Superseded)), failed[0])
    landed = [part for part in ended if isinstance(part, Landed)]
    return Landed(sum(part.sent_again for part in landed), any(part.unclean for part in landed))


async def _send(
    cluster: Cluster, gate: str, batch: Batch, waiting: Sequence[int], opaque_id: str, doing: str
) -> Landed:
    """Write these items of a page."""
    patience = Patience()
    sent_again, unclean = 0, False
    while waiting:
        body = b"".join([batch.items[i] for i in waiting])
        try:
            answer = await cluster.call(
                "POST", f"/{name(gate)}/_bulk", doing=doing, params=_PARAMS, body=body, opaque_id=opaque_id
            )
        except StoreError as e:
            if isinstance(e, Refused) and e.status == 413 and len(waiting) > 1:
                cluster.shrink_requests(len(body) // 2)
                middle = len(waiting) // 2
                parts = [
                    await _send(cluster, gate, batch, part, opaque_id, doing)
                    for part in (waiting[:middle], waiting[middle:])
                ]
                sent_again += len(waiting) + sum(part.sent_again for part in parts)
                return Landed(sent_again, unclean or any(part.unclean for part in parts))
            unclean = unclean or (isinstance(e, Unanswered) and e.sent)
            await patience.pause(e)
        else:
            failed = _failed(answer, batch, waiting, doing)
            waiting = [waiting[i] for i in failed]
            unclean = unclean or any(map(_may_go_on, failed.values()))
            if failed:
                await patience.pause(next(iter(failed.values())))
        sent_again += len(waiting)
    return Landed(sent_again, unclean)


def _requests(batch: Batch, largest: int) -> Iterator[tuple[int, int]]:
    """Divide a page evenly: enough requests to be written side by side, of `largest` bytes or so at most."""
    count = len(batch)
    parts = min(count, max(min(SIDE_BY_SIDE, count // _WORTH_A_REQUEST), -(-batch.size // largest), 1))
    for i in range(parts):
        yield count * i // parts, count * (i + 1) // parts


def _failed(answer: Mapping[str, Any], batch: Batch, sent: Sequence[int], doing: str) -> dict[int, StoreError]:
    """Return the items to send again, each with its error. Raises the first error that sending again cannot mend."""
    items = answer.get("items", ())
    if len(items) != len(sent):
        raise StoreUnavailable(f"{doing}: {len(sent)} documents were sent, and {len(items)} answered for")
    if not answer["errors"]:
        return {}
    failed: dict[int, StoreError] = {}
    for i, item in enumerate(items):
        result = item["index"]
        if result["status"] >= 300:
            failed[i] = _judge(result["status"], result.get("error") or {}, f"{doing}: document {batch.id(sent[i])}")
    for kind in (GateGone, Superseded):  # the reason for all the others, where one of them is among the errors
        if found := next((e for e in failed.values() if isinstance(e, kind)), None):
            raise found
    for error in failed.values():
        if not Patience.helps(error):
            raise error
    return failed


def _may_go_on(error: StoreError) -> bool:
    """Whether an item that failed may still be at work on a node that lost contact with the others."""
    return isinstance(error, StoreUnavailable) or (isinstance(error, Overloaded) and error.status >= 500)


def _judge(status: int, error: Mapping[str, Any], doing: str) -> StoreError:
    match classify(status, {"error": error}, doing):
        case Conflict() as judged:
            return Superseded(str(judged))
        case Missing() as judged:
            return GateGone(str(judged))
        case Refused() as judged:  # whatever it does not like about a document
            return MappingConflict(str(judged), status=status, kind=judged.kind)
        case judged:
            return judged
