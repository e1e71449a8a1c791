"""What a view keeps of a body, and how much of it."""

import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from support import bodies

FEW = 24

values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda parts: st.lists(parts, max_size=3))
fields = st.dictionaries(st.text(), values, max_size=4)
asks = st.sampled_from([{}, {"desiredState": "started"}, {"desiredState": "stopped"}])

STATUS = {
    "observedGeneration": 4,
    "state": "started",
    "conditions": [
        {"type": kind, "status": "True", "lastTransitionTime": "2025-10-09T06:00:00Z", "reason": "Running"}
        for kind in ("Ready", "Stalled", "Reconciling")
    ],
    "watermark": "2025-10-09T06:00:00Z",
}


def view(spec: Any, status: Any) -> JobView:
    meta = {"uid": "u", "namespace": "n", "name": "flights", "generation": 4, "resourceVersion": "1000"}
    return JobView.of({"metadata": meta, "spec": spec, "status": status})


@given(fields, asks, fields)
def test_spec_and_status_read_as_they_were_written(spec: dict[str, Any], asked: dict[str, Any], status: dict[str, Any]):
    spec = {**spec, **asked}
    seen = view(spec, status)
    assert (seen.raw_spec, seen.raw_status) == (spec, status)
    assert seen.ever_asked is ("desiredState" in spec or "desiredState" in status)


def reachable(one: object) -> int:
    """Count the objects that something holds, classes and what they hold left out."""
    found: dict[int, object] = {}
    left = [one]
    while left:
        thing = left.pop()
        if id(thing) not in found and not isinstance(thing, type):
            found[id(thing)] = thing
            left += gc.get_referents(thing)
    return len(found)


def test_a_view_is_a_few_objects_also_once_its_status_was_read() -> None:
    seen = view(bodies.job(desiredState="started")["spec"], STATUS)
    assert seen.status.watermark == "2025-10-09T06:00:00Z"
    assert seen.spec().cron == "0 0 * * * ?"
    assert reachable(seen) <= FEW


def test_a_change_of_what_is_asked_leaves_the_lasting_spec_the_same() -> None:
    started, stopped = (view(bodies.job(desiredState=word)["spec"], {}) for word in ("started", "stopped"))
    assert (started.desired, stopped.desired) == (DesiredState.STARTED, DesiredState.STOPPED)
    assert started.lasting_spec == stopped.lasting_spec
    assert view(bodies.job(cron="0 0 1 * * ?")["spec"], {}).lasting_spec != started.lasting_spec


@pytest.mark.parametrize("part", [True, 7, "text", [1]])
def test_a_part_that_is_no_object_counts_as_none(part: Any) -> None:
    seen = view(part, part)
    assert (seen.raw_spec, seen.raw_status, seen.desired) == ({}, {}, DesiredState.STOPPED)
    assert seen.claimed_spec() is None


def test_what_has_not_changed_is_held_once() -> None:
    old = view(bodies.job(desiredState="started")["spec"], STATUS)
    new = JobView.of(
        {
            "metadata": {"uid": "u", "namespace": "n", "name": "flights", "generation": 5, "resourceVersion": "1001"},
            "spec": bodies.job(desiredState="stopped")["spec"],
            "status": dict(STATUS),
        },
        old,
    )
    assert new.desired is DesiredState.STOPPED
    assert new.lasting_spec is old.lasting_spec
    assert new.status_json is old.status_json
    assert view(bodies.job(desiredState="stopped")["spec"], STATUS).status_json is not old.status_json
