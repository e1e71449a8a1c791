"""Writes the documents of a page through a job's gate, and verifies each of them.

An item that failed for lack of space or time is sent again, alone; a page that is too long for one request goes in
two. Any other failure fails the page, and so does an item that is acknowledged but not stored. Sending an item twice
changes nothing: its id and version identify the document and its epoch.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rollup_operator.model.conditions import Reason
from rollup_operator.stores.errors import StoreError, StoreUnavailable
from rollup_operator.stores.opensearch.target.encoder import Batch
from rollup_operator.stores.opensearch.transport.answers import LISTING, Value, readable
from rollup_operator.stores.opensearch.transport.client import Cluster, name
from rollup_operator.stores.opensearch.transport.errors import (
    DocumentConflict,
    MappingConflict,
    NotThere,
    Overloaded,
    Redact,
    Refused,
    Unanswered,
    classify,
)
from rollup_operator.stores.opensearch.transport.retry import Patience

SIDE_BY_SIDE = 2
"""How many requests write a page side by side: within one request, a shard takes the documents one by one."""

_WORTH_A_REQUEST = 500
"""Documents that a request should hold at least."""

_SHARD_SECONDS = 10
"""How long an item waits for a missing shard. The cluster's default of a minute would delay a stop."""

_PARAMS = {
    "require_alias": "true",
    "pipeline": "_none",  # no document may be changed or dropped on its way; a final pipeline runs nevertheless
    "timeout": f"{_SHARD_SECONDS}s",
    "filter_path": ",".join(["errors", *(f"items.*.{part}" for part in ("status", "result"))])
    + "".join(f",items.*.error.{part}" for part in ("type", "reason", "caused_by.type", "caused_by.reason")),
}
_STORED = frozenset({"created", "updated"})
"""The results for a stored document; a document that a pipeline dropped has `noop`."""


_LONGEST_RESULT = 64


class Superseded(StoreError):
    """The document exists in a later version: somebody with a later epoch wrote it."""


class GateGone(StoreError):
    """The alias to write through no longer exists, with or without its index."""


class NotStored(StoreError):
    """The cluster acknowledged a document and did not store it."""

    reason = Reason.TARGET_BLOCKED
    transient = False


@dataclass(frozen=True, slots=True)
class Landed:
    """All documents of a page are durable."""

    sent_again: int
    """The number of items that had to be sent more than once."""
    unclean: bool
    """Whether an answer was lost on the way or between two nodes: its request may still be in progress."""


async def write(cluster: Cluster, gate: str, batch: Batch, *, opaque_id: str, doing: str) -> Landed:
    """Write all documents of a page, in some requests side by side.

    Raises Superseded, GateGone and NotStored, which `writing.refused` explains; MappingConflict with document and
    field, TargetBlocked, DiskFull, Unauthorized; Overloaded and StoreUnavailable after some time of trying. After any
    error, a part of the page may have been written, or may still be on its way; none of its requests is under way.
    """
    places = asyncio.Semaphore(SIDE_BY_SIDE)

    async def send(begin: int, end: int) -> Landed:
        async with places:
            return await _send(cluster, gate, batch, range(begin, end), opaque_id, doing)

    ended = await asyncio.gather(
        *(send(*part) for part in _requests(batch, cluster.largest_request)), return_exceptions=True
    )
    if failed := [e for e in ended if isinstance(e, BaseException)]:
        raise next((e for e in failed if isinstance(e, GateGone | Superseded | NotStored)), failed[0])
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
                "POST",
                f"/{name(gate)}/_bulk",
                doing=doing,
                params=_PARAMS,
                body=body,
                opaque_id=opaque_id,
                longest=LISTING,
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
            failed, first = _failed(answer, batch, waiting, doing, cluster.redact)
            waiting = [waiting[i] for i in failed]
            unclean = unclean or any(map(_may_go_on, failed.values()))
            if first is not None:
                await patience.pause(first)
        sent_again += len(waiting)
    return Landed(sent_again, unclean)


def _requests(batch: Batch, largest: int) -> Iterator[tuple[int, int]]:
    """Divide a page evenly: enough requests to be written side by side, of `largest` bytes or so at most."""
    count = len(batch)
    parts = min(count, max(min(SIDE_BY_SIDE, count // _WORTH_A_REQUEST), -(-batch.size // largest), 1))
    for i in range(parts):
        yield count * i // parts, count * (i + 1) // parts


def _failed(
    answer: Value, batch: Batch, sent: Sequence[int], doing: str, redact: Redact
) -> tuple[dict[int, StoreError], StoreError | None]:
    """Return the items to send again, each with its error, and the first of these errors, fit to be shown.

    Raises the first error that a retry cannot fix.
    """
    answers = answer.find("items").entries() if answer.find("items").given else []
    if len(answers) != len(sent):
        raise StoreUnavailable(f"{doing}: {len(sent)} documents were sent, and {len(answers)} answered for")
    if not answer.at("errors").flag():
        _must_be_stored(answers, range(len(answers)), batch, sent, doing, redact)
        return {}, None
    items = list(answer.find("items").items())

    def judged(i: int, redact: Redact) -> StoreError:
        result = items[i].at("index")
        return _judge(result.at("status").whole(), result.value, f"{doing}: document {batch.id(sent[i])}", redact)

    statuses = [item.at("index", "status").whole(100, 599) for item in items]
    # Removing credentials from the texts of thousands of items would take too long: only the decisive text is redacted.
    failed = {i: judged(i, str) for i, status in enumerate(statuses) if status >= 300}
    for kind in (GateGone, Superseded):  # the cause of all others, if one of them is among the errors
        if (found := next((i for i, e in failed.items() if isinstance(e, kind)), None)) is not None:
            raise judged(found, redact)
    _must_be_stored(answers, [i for i in range(len(items)) if i not in failed], batch, sent, doing, redact)
    for i, error in failed.items():
        if not Patience.helps(error):
            raise judged(i, redact)
    return failed, judged(next(iter(failed)), redact) if failed else None


def _must_be_stored(
    answers: Sequence[Any], which: Sequence[int], batch: Batch, sent: Sequence[int], doing: str, redact: Redact
) -> None:
    """Raise NotStored if an answer without an error does not say that its document is stored."""
    with readable(doing, "its items have another form"):
        results = [answers[i]["index"]["result"] for i in which]
        if _STORED.issuperset(results):
            return
        lost = [(i, result) for i, result in zip(which, results, strict=True) if result not in _STORED]
    (first, said), *_ = lost
    raise NotStored(
        f"{doing}: {len(lost)} of {len(sent)} were answered for and not stored, document {batch.id(sent[first])} "
        f"among them: the answer is {redact(str(said))[:_LONGEST_RESULT]!r}"
    )


def _may_go_on(error: StoreError) -> bool:
    """Whether a failed item may still be in progress on a node that lost contact with the others."""
    return isinstance(error, StoreUnavailable) or (isinstance(error, Overloaded) and error.status >= 500)


def _judge(status: int, item: object, doing: str, redact: Redact) -> StoreError:
    match classify(status, item, doing, redact):
        case DocumentConflict() as judged:
            return Superseded(str(judged))
        case NotThere() as judged:
            return GateGone(str(judged))
        case Refused() as judged:  # whatever it does not like about a document
            return MappingConflict(str(judged), status=status, kind=judged.kind)
        case judged:
            return judged
