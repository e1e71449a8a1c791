"""Turns the result of a health check into the store's status, which `kubectl get rst` shows. Pure."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rollup_operator.model.conditions import READY, Reason, Trouble, verdict
from rollup_operator.model.status import Condition
from rollup_operator.model.store import RollupStoreStatus
from rollup_operator.model.times import rfc3339
from rollup_operator.stores.base import Checkup
from rollup_operator.stores.errors import StoreError

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_CLUSTERS = {"opensearch": "OpenSearch", "elasticsearch": "Elasticsearch"}


def store_status(
    shown: Mapping[str, Any],
    *,
    generation: int,
    distribution: str | None,
    found: Checkup | None,
    problem: StoreError | None,
    now: datetime,
) -> dict[str, Any]:
    """Return the whole status, `shown` being the one before. `found`: the last good result of a check.

    While the store does not answer, the last version and the place of results stay; its health is unknown.
    """
    old = RollupStoreStatus.published(shown)
    seen = found or (old if old.distribution == distribution else None)
    reason = Reason.AVAILABLE if problem is None else problem.reason
    conditions = verdict(
        ready=problem is None,
        stalled=problem is not None and not problem.transient,
        reason=reason,
        message=_connected(distribution, seen) if problem is None else _steady(old.conditions, reason, str(problem)),
        generation=generation,
        now=rfc3339(now),
        before=old.conditions,
    )
    status = RollupStoreStatus(observed_generation=generation, conditions=conditions)
    parts: dict[str, Any] = {
        "distribution": distribution,
        "version": seen.version if seen is not None else None,
        "health": found.health if found is not None else None,
        "results": seen.results if seen is not None else None,
    }
    return status.model_copy(update=parts).model_dump(mode="json", by_alias=True, exclude_none=True)


def trouble_of(name: str, problem: StoreError) -> Trouble:
    """Return what a job shows of its store's problem. Fixing the store is enough, so the job is never stalled."""
    reason = Reason.STORE_UNAVAILABLE if problem.reason is Reason.INVALID_SPEC else problem.reason
    return Trouble(reason, f"RollupStore {name!r}: {problem}", transient=True)


def _connected(distribution: str | None, seen: Checkup | RollupStoreStatus | None) -> str:
    cluster = _CLUSTERS.get(distribution or "")
    if cluster is None:
        return "the database can be used"
    version = seen.version if seen is not None else None
    return f"connected to {cluster} {version}" if version else f"connected to {cluster}"


def _steady(before: list[Condition], reason: Reason, message: str) -> str:
    """Keep the message shown while only numbers in it differ: a breaker's would be a write at each check."""
    old = next((c for c in before if c.type == READY and c.reason == reason), None)
    if old is not None and _NUMBER.sub("0", old.message) == _NUMBER.sub("0", message):
        return old.message
    return message
