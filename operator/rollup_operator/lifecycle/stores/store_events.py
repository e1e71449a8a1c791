"""The event to post for an accepted write of a store's status, if any. Pure.

Only the leader checks stores and writes their status, and only if something changed. So each change has one event,
however often the store is checked, and there is none at a restart.
"""

from collections.abc import Mapping
from typing import Any

from rollup_operator.model.conditions import READY, Reason
from rollup_operator.model.status import Condition
from rollup_operator.model.store import RollupStoreStatus


def store_event(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Reason, str] | None:
    """Return reason and note of the event for the change of status from `before` to `after`; None: there is none."""
    was, now = _ready(before), _ready(after)
    if now is None or now.reason not in set(Reason):
        return None
    if now.status != "True":
        known = was is not None and was.status != "True" and was.reason == now.reason
        return None if known else (Reason(now.reason), now.message)
    if was is None or was.status == "True":
        return None
    return Reason.RECOVERED, f"{was.reason} is over: {now.message}"


def _ready(status: Mapping[str, Any]) -> Condition | None:
    return next((c for c in RollupStoreStatus.published(status).conditions if c.type == READY), None)
