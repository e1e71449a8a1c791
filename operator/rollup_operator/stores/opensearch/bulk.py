"""Writes the documents of a page through a job's gate, and verifies each of them.

An item that failed for want of room or time is sent again, alone; any other failure fails the page. Sending an item
twice changes nothing: its id and its version say which document it is and of which epoch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollup_operator.stores.base import StoreError, StoreUnavailable
from rollup_operator.stores.opensearch.client import Cluster, name
from rollup_operator.stores.opensearch.encoder import Batch
from rollup_operator.stores.opensearch.errors import Conflict, MappingConflict, Missing, Refused, Unanswered, classify
from rollup_operator.stores.opensearch.retry import Patience

REQUEST_BYTES = 8 * 2**20
"""How large a request may become; what is more goes with the next one."""

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
    """An answer was lost on the way: what it was to answer may still be at work."""


async def write(cluster: Cluster, gate: str, batch: Batch, *, opaque_id: str, doing: str) -> Landed:
    """Write all documents of a page.

    Raises Superseded and GateGone, which `target.refused` explains; MappingConflict with document and field,
    TargetBlocked, DiskFull, Unauthorized; Overloaded and StoreUnavailable after some time of trying. After any error,
    a part of the page may have been written, or may still be on its way.
    """
    patience = Patience()
    sent_again, unclean = 0, False
    for begin, end in _requests(batch.items):
        waiting: Sequence[int] = range(begin, end)
        while waiting:
            body = b"".join([batch.items[i] for i in waiting])
            try:
                answer = await cluster.call(
                    "POST", f"/{name(gate)}/_bulk", doing=doing, params=_PARAMS, body=body, opaque_id=opaque_id
                )
            except StoreError as e:
                unclean = unclean or (isinstance(e, Unanswered) and e.sent)
                await patience.pause(e)
            else:
                failed = _failed(answer, [batch.ids[i] for i in waiting], doing)
                waiting = [waiting[i] for i in failed]
                if failed:
                    await patience.pause(next(iter(failed.values())))
            sent_again += len(waiting)
    return Landed(sent_again, unclean)


def _requests(items: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Divide the items into stretches of at most REQUEST_BYTES, an item at least."""
    begin = size = 0
    for i, item in enumerate(items):
        if size and size + len(item) > REQUEST_BYTES:
            yield begin, i
            begin, size = i, 0
        size += len(item)
    if begin < len(items):
        yield begin, len(items)


def _failed(answer: Mapping[str, Any], ids: Sequence[str], doing: str) -> dict[int, StoreError]:
    """Return the items to send again, each with its error. Raises the first error that sending again cannot mend."""
    items = answer.get("items", ())
    if len(items) != len(ids):
        raise StoreUnavailable(f"{doing}: {len(ids)} documents were sent, and {len(items)} answered for")
    if not answer["errors"]:
        return {}
    failed: dict[int, StoreError] = {}
    for i, item in enumerate(items):
        result = item["index"]
        if result["status"] >= 300:
            failed[i] = _judge(result["status"], result.get("error") or {}, f"{doing}: document {ids[i]}")
    for kind in (GateGone, Superseded):  # the reason for all the others, where one of them is among the errors
        if found := next((e for e in failed.values() if isinstance(e, kind)), None):
            raise found
    for error in failed.values():
        if not Patience.helps(error):
            raise error
    return failed


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
