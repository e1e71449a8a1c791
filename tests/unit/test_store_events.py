"""Which changes of a store's status are worth an event: each change of whether it can be used, and no check."""

from typing import Any

import pytest

from rollup_operator.lifecycle.stores.store_events import store_event
from rollup_operator.model.conditions import Reason

Status = dict[str, Any]


def shown(reason: str, message: str = "it is so") -> Status:
    ready = "True" if reason == "Available" else "False"
    condition = {"type": "Ready", "status": ready, "reason": reason, "message": message}
    return {"conditions": [condition | {"lastTransitionTime": "2030-01-01T00:00:00Z"}]}


GOOD, GONE, REFUSED = shown("Available", "the store can be used"), shown("StoreUnavailable"), shown("StoreUnauthorized")


@pytest.mark.parametrize(
    ("before", "after", "event"),
    [
        (GOOD, GONE, (Reason.STORE_UNAVAILABLE, "it is so")),
        ({}, GONE, (Reason.STORE_UNAVAILABLE, "it is so")),
        (GONE, REFUSED, (Reason.STORE_UNAUTHORIZED, "it is so")),
        (GONE, GOOD, (Reason.RECOVERED, "StoreUnavailable is over: the store can be used")),
    ],
    ids=["it goes", "it was never there", "another reason", "it is back"],
)
def test_a_change_has_an_event(before: Status, after: Status, event: tuple[Reason, str]) -> None:
    assert store_event(before, after) == event


@pytest.mark.parametrize(
    ("before", "after"),
    [({}, GOOD), (GOOD, GOOD), (GOOD, GOOD | {"health": "red"}), (GONE, shown("StoreUnavailable", "in other words"))],
    ids=["a new store", "the same", "its health", "the same trouble"],
)
def test_what_is_no_change_has_none(before: Status, after: Status) -> None:
    assert store_event(before, after) is None
