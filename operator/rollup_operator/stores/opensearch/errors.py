"""What a cluster answers when it does not do what was asked, classified once. Pure.

| what is seen | error | what becomes of it |
| --- | --- | --- |
| no answer: refused, cut, too slow | Unanswered | tried again later; it may have been carried out if it was `sent` |
| no trust in a certificate | Untrusted | tried again with the Secrets read anew, then later |
| 429, 503, 408, a circuit breaker, too many buckets, a cancelled task | Overloaded | smaller and later |
| 401, 403 | Unauthorized | tried again with the Secrets read anew, then later |
| 409 version conflict | Conflict | whoever asked decides |
| 404 | Missing | whoever asked decides |
| a block on an index | DiskFull or TargetBlocked | the one passes by itself, the other needs a person |
| any other 4xx | Refused | needs a person |
| any other 5xx | StoreUnavailable | tried again later |
"""

from collections.abc import Mapping
from typing import Any

from rollup_operator.model.conditions import Reason
from rollup_operator.stores.base import StoreError, StoreUnavailable

_TOO_MUCH = frozenset({
    "es_rejected_execution_exception", "rejected_execution_exception", "circuit_breaking_exception",
    "too_many_buckets_exception", "task_cancelled_exception", "search_timeout_exception",
    "receive_timeout_transport_exception",
})  # fmt: skip
_FLOODED = "read-only-allow-delete"
_DISK = "disk usage exceeded"


class Unanswered(StoreUnavailable):
    """The connection failed or the time was up. `sent`: the cluster may be carrying the request out, or have done."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class Untrusted(Unanswered):
    """One side does not trust the other's certificate, so that nothing was sent."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class Answered(StoreError):
    """The cluster answered with an error. `kind` is the type of its root cause in snake case."""

    def __init__(self, message: str, *, status: int, kind: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


class Overloaded(Answered):
    """It cannot do so much now."""

    reason = Reason.STORE_OVERLOADED


class Unauthorized(Answered):
    """It does not know us, or does not let us."""

    reason = Reason.STORE_UNAUTHORIZED


class Conflict(Answered):
    """A document is not as it was when it was read."""


class Missing(Answered):
    """No such index, alias or document."""


class DiskFull(Answered):
    """The cluster made an index read-only because a disk is nearly full. It lifts that itself."""

    reason = Reason.DISK_FULL


class TargetBlocked(Answered):
    """Somebody blocked writing to an index, or closed it."""

    reason = Reason.TARGET_BLOCKED
    transient = False


class MappingConflict(Answered):
    """A document does not fit the mapping of its index."""

    reason = Reason.MAPPING_CONFLICT
    transient = False


class Refused(Answered):
    """The request is not possible, whenever it is made."""

    transient = False


class Broken(StoreUnavailable):
    """The cluster failed, by its own fault."""


def classify(status: int, body: object, doing: str) -> StoreError:
    """Return the error for an answer of `status` >= 400. `doing` begins the text, for instance `searching events-*`."""
    kind, text = root_cause(body)
    message = f"{doing}: {text}" if text else f"{doing}: HTTP {status}"
    return judge(status, kind, message)


def judge(status: int, kind: str, message: str) -> StoreError:
    """Return the error for an answer or one item of a bulk, by its status and the type of its root cause."""
    if kind in _TOO_MUCH or status in (408, 429, 503):
        if _FLOODED in message or _DISK in message:
            return DiskFull(message, status=status, kind=kind)
        return Overloaded(message, status=status, kind=kind)
    if kind == "cluster_block_exception":
        if _FLOODED in message or _DISK in message:
            return DiskFull(message, status=status, kind=kind)
        return TargetBlocked(message, status=status, kind=kind)
    if kind == "index_closed_exception":
        return TargetBlocked(message, status=status, kind=kind)
    if kind in ("mapper_parsing_exception", "document_parsing_exception", "strict_dynamic_mapping_exception"):
        return MappingConflict(message, status=status, kind=kind)
    match status:
        case 401 | 403:
            return Unauthorized(message, status=status, kind=kind)
        case 404:
            return Missing(message, status=status, kind=kind)
        case 409:
            return Conflict(message, status=status, kind=kind)
    if status < 500:
        return Refused(message, status=status, kind=kind)
    return Broken(message)


def root_cause(body: object) -> tuple[str, str]:
    """Return type and reason of the innermost cause that an error body names; empty where it names none."""
    if not isinstance(body, Mapping):
        return "", ""
    error = body.get("error", body)
    if isinstance(error, str):
        return "", error
    if not isinstance(error, Mapping):
        return "", ""
    causes: list[Mapping[str, Any]] = [error]
    for shard in error.get("failed_shards") or ():
        if isinstance(shard, Mapping) and isinstance(shard.get("reason"), Mapping):
            causes.append(shard["reason"])
            break
    while isinstance(inner := causes[-1].get("caused_by"), Mapping):
        causes.append(inner)
    known = next((c for c in causes if c.get("type") in _TOO_MUCH), None)
    said = known or next((c for c in reversed(causes) if c.get("reason")), causes[-1])
    return str(said.get("type") or ""), str(said.get("reason") or "")
