"""Classifies the error answers of a cluster. Pure.

| what is seen | error | what becomes of it |
| --- | --- | --- |
| no answer, or a 5xx of something in between | Unanswered | later; it may have been carried out if it was `sent` |
| an answer that is none | Odd | likewise |
| no trust in a certificate | Untrusted | tried again with the Secrets read anew, then later |
| 429, 503, 408, a circuit breaker, too many buckets, a cancelled task | Overloaded | smaller and later |
| 503 for want of a shard, a node or a master | Broken | later |
| 401, 403 | Unauthorized | tried again with the Secrets read anew, then later |
| 409 version conflict | DocumentConflict | whoever asked decides |
| 404 | NotThere | whoever asked decides |
| 404 that does not say what is missing | StoreUnavailable | later: something in between lost its way |
| a block on an index, or on making one | DiskFull, IndexBlocked | that passes by itself, this needs a person |
| a document that does not fit | MappingConflict | needs a person |
| any other 4xx | Refused | needs a person |
| any other 5xx of the cluster's own | Broken | tried again later |

An error names many causes, one in another and one for each shard. The first of a kind that is in the table decides,
else the one that the cluster calls the root cause. Items of a bulk are errors like others.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice, takewhile
from typing import Any

from rollup_operator.model.conditions import Reason
from rollup_operator.stores.errors import StoreError, StoreUnavailable
from rollup_operator.stores.opensearch.transport.aws_errors import explained, message_of

_TOO_MUCH = frozenset({
    "es_rejected_execution_exception", "rejected_execution_exception", "circuit_breaking_exception",
    "too_many_buckets_exception", "task_cancelled_exception", "search_timeout_exception",
    "receive_timeout_transport_exception", "process_cluster_event_timeout_exception",
})  # fmt: skip
_DOWN = frozenset({
    "no_shard_available_action_exception", "unavailable_shards_exception", "primary_missing_action_exception",
    "master_not_discovered_exception", "cluster_manager_not_discovered_exception", "not_master_exception",
    "not_cluster_manager_exception", "node_closed_exception", "node_not_connected_exception",
    "node_disconnected_exception", "connect_transport_exception", "illegal_index_shard_state_exception",
    "search_phase_execution_exception",
})  # fmt: skip
_UNFIT = frozenset(
    {"mapper_parsing_exception", "document_parsing_exception", "strict_dynamic_mapping_exception", "mapper_exception"}
)
_BLOCKED = frozenset({"cluster_block_exception", "index_closed_exception", "index_create_block_exception"})
_UNFIT_TEXT = re.compile(r"cannot be changed from type|cannot merge|Limit of (total fields|mapping depth|nested)")
_DISK = re.compile(r"\[\w+/12/|disk usage exceeded")
"""Block 12 is that of the flood stage, whatever a version calls it."""
_STARTING = "SERVICE_UNAVAILABLE"

_REJECTED = "rejected execution of "
_SOURCE = "at [Source:"
"""Where a parser quotes its input: some versions print the whole request there, credentials included."""

_OF_AWS = (400, 403, 413, 429)
"""Statuses with which AWS refuses a request, with a reason, before it reaches a cluster."""

_READ = 16_384
"""Characters of a reason that are read; what is shown of a longer one stands at its beginning."""

TOO_LONG = "answer_too_long"
"""Kind of the error for an answer that is longer than it may be."""

Redact = Callable[[str], str]

_LONGEST = 1000
"""Characters of it that are shown."""
_MOST_CAUSES = 200
"""Of one error."""


class Unanswered(StoreUnavailable):
    """The connection failed or timed out. `sent`: the cluster may carry the request out, or have done so."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class Cut(Unanswered):
    """The connection ended in place of an answer, for whatever reason the other side had."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=True)


class Odd(Unanswered):
    """The answer does not belong to the request: there is no cluster behind the host, or a broken one."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=True)


class Untrusted(Unanswered):
    """One side does not trust the other's certificate, so nothing was sent."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class Answered(StoreError):
    """The cluster answered with an error. `kind` is the type of its root cause in snake case."""

    def __init__(self, message: str, *, status: int, kind: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


class Overloaded(Answered):
    """The cluster cannot do that much now."""

    reason = Reason.STORE_OVERLOADED


class Unauthorized(Answered):
    """The cluster does not accept the credentials, or denies the request."""

    reason = Reason.STORE_UNAUTHORIZED


class DocumentConflict(Answered):
    """A document has changed since it was read."""


class NotThere(Answered):
    """No such index, alias or document."""


class DiskFull(Answered):
    """The cluster made an index read-only because a disk is nearly full. It lifts that itself."""

    reason = Reason.DISK_FULL


class IndexBlocked(Answered):
    """Somebody blocked writing to an index, or closed it."""

    reason = Reason.TARGET_BLOCKED
    transient = False


class MappingConflict(Answered):
    """A document does not fit the mapping of its index."""

    reason = Reason.MAPPING_CONFLICT
    transient = False


class Refused(Answered):
    """The request is never possible."""

    transient = False


class Broken(StoreUnavailable):
    """The cluster failed through a fault of its own."""


def may_go_on(error: StoreError) -> bool:
    """Whether the cluster may still work on a request that ended so. If one shard has failed, others may still work."""
    return not isinstance(error, Unanswered) or error.sent


def classify(status: int, body: object, doing: str, redact: Redact) -> StoreError:
    """Return the error for an answer of `status` >= 400, or for `{"error": ...}` of a bulk's item with its status.

    `doing` begins the text, for example `searching events-*`. `redact` removes credentials from the text.
    """
    kind, text = root_cause(body, redact)
    if not text and status in _OF_AWS:
        said = message_of(body)
        text = explained(said) or _shown(said, redact)
    message = f"{doing}: {text or f'HTTP {status}'}"
    if not kind and status >= 500 and status != 503:
        # A proxy's word. It has given up waiting, and the cluster may be at it still.
        return Unanswered(message, sent=True)
    if status == 404 and not kind and not _names_document(body):
        # A cluster says what is missing. An answer that does not say it comes from something else, and proves nothing.
        return StoreUnavailable(f"{message}: this is not the answer of a cluster; does the host lead to one?")
    return judge(status, kind, message)


def judge(status: int, kind: str, message: str) -> StoreError:
    """Return the error by the status and the type of the decisive cause."""
    if kind in _BLOCKED:
        if kind == "index_create_block_exception" or _DISK.search(message):
            return DiskFull(message, status=status, kind=kind)
        if status == 503 or _STARTING in message:
            return Broken(message)
        return IndexBlocked(message, status=status, kind=kind)
    if kind in _TOO_MUCH or status in (408, 429) or (status == 503 and kind not in _DOWN):
        return Overloaded(message, status=status, kind=kind)
    if kind in _UNFIT or (kind == "illegal_argument_exception" and _UNFIT_TEXT.search(message)):
        return MappingConflict(message, status=status, kind=kind)
    match status:
        case 401 | 403:
            return Unauthorized(message, status=status, kind=kind)
        case 404:
            return NotThere(message, status=status, kind=kind)
        case 409:
            return DocumentConflict(message, status=status, kind=kind)
    if status < 500:
        return Refused(message, status=status, kind=kind)
    return Broken(message)


def root_cause(body: object, redact: Redact) -> tuple[str, str]:
    """Return type and reason of the decisive cause in an error body, fit to be shown; empty if it names none."""
    error = _error(body)
    if isinstance(error, str):
        return "", _shown(error, redact)
    if not isinstance(error, Mapping):
        return "", ""
    causes = list(islice(_causes(error), _MOST_CAUSES))
    # What is too much for one shard is too much, whatever happened to the others.
    for kinds in (_TOO_MUCH, _BLOCKED, _UNFIT):
        if found := next((c for c in causes if _kind(c) in kinds), None):
            return _kind_and_reason(found, redact, with_cause=kinds is _UNFIT)
    root = error.get("root_cause")
    if isinstance(root, list) and root and isinstance(root[0], Mapping):
        return _kind_and_reason(root[0], redact)
    kind, text = _kind_and_reason(error, redact)
    return kind, text or next((said for c in causes if (said := _kind_and_reason(c, redact)[1])), "")


def reason_of(failure: object, redact: Redact) -> str:
    """Return the reason of a failure that is a part of an answer, fit to be shown."""
    reason = failure.get("reason") if isinstance(failure, Mapping) else failure
    return root_cause({"error": reason}, redact)[1] or "it does not say why"


def _names_document(body: object) -> bool:
    """Whether an answer is about one document, which has no error where it is missing."""
    return isinstance(body, Mapping) and ("found" in body or "result" in body)


def _error(body: object) -> object:
    if not isinstance(body, Mapping):
        return None
    failures = body.get("failures")  # of a change by query, for single documents
    if isinstance(failures, list) and failures and isinstance(failures[0], Mapping):
        return failures[0].get("cause") or failures[0].get("reason")
    return body.get("error", body)


def _causes(error: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield an error and all its causes, from the outside in."""
    waiting: list[Any] = [error]
    while waiting:
        if isinstance(cause := waiting.pop(), Mapping):
            yield cause
            shards = cause.get("failed_shards")
            waiting.append(cause.get("caused_by"))
            if isinstance(shards, list):
                waiting += [shard.get("reason") for shard in reversed(shards) if isinstance(shard, Mapping)]


def _kind_and_reason(cause: Mapping[str, Any], redact: Redact, *, with_cause: bool = False) -> tuple[str, str]:
    texts = [_shown(cause.get("reason"), redact)]
    if with_cause and isinstance(inner := cause.get("caused_by"), Mapping):
        texts.append(_shown(inner.get("reason"), redact))
    return _kind(cause), ": ".join(text for text in texts if text)


def _kind(cause: Mapping[str, Any]) -> str:
    kind = cause.get("type")
    return kind[:_LONGEST] if isinstance(kind, str) else ""


def _shown(reason: object, redact: Redact) -> str:
    """Return what a text says, fit to be shown, in time that does not depend on how long it is."""
    if not isinstance(reason, str):
        return ""
    text, _, _ = reason[:_READ].partition(_SOURCE)
    return " ".join(redact(_without_task(text)).split())[:_LONGEST]


def _without_task(text: str) -> str:
    """Shorten what a full queue says: it prints the task that it has rejected, which may be a whole request."""
    before, rejected, rest = text.partition(_REJECTED)
    _, named, queue = rest.partition("[name = ")
    name, separator, capacity = queue.partition(", queue capacity = ")
    if not (rejected and named and separator):
        return text
    return f"{before}the queue of {name} is full ({''.join(takewhile(str.isdigit, capacity))})"
