"""What is written is what differs, and the smallest of it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollup_operator.kube.job_writes import difference
from rollup_operator.lifecycle.jobs.job_status import Report, status_of
from rollup_operator.lifecycle.jobs.states import Decision
from rollup_operator.model.base import RUN_REQUESTED_AT
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import LONGEST_MESSAGE, FailedCheck, LastRun, Outcome, RunProgress, State
from rollup_operator.model.times import rfc3339_ms
from rollup_operator.stores.base import Position

keys = st.sampled_from("abcd")
values = st.recursive(st.integers(0, 3) | st.text("xy", max_size=2), lambda inner: st.lists(inner, max_size=2))
maps = st.recursive(
    st.dictionaries(keys, values, max_size=3), lambda inner: st.dictionaries(keys, values | inner, max_size=3)
)


def merge(target: Any, patch: Any) -> Any:
    """Apply a merge patch as RFC 7396 says."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


@given(maps, maps)
def test_the_difference_turns_the_old_status_into_the_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merge(old, difference(old, new)) == new


@given(maps)
def test_nothing_differs_from_itself(status: dict[str, Any]) -> None:
    assert difference(status, status) == {}


def test_only_what_changed_is_in_the_patch() -> None:
    old = {"state": "started", "stats": {"pagesProcessed": 1, "indexTotal": 1}, "nextRunTime": "x"}
    new = {"state": "stopped", "stats": {"pagesProcessed": 2, "indexTotal": 1}}
    assert difference(old, new) == {"state": "stopped", "stats": {"pagesProcessed": 2}, "nextRunTime": None}


def test_instants_are_written_as_kubernetes_does() -> None:
    assert rfc3339_ms(0) == "1970-01-01T00:00:00Z"
    assert rfc3339_ms(1_388_534_399_001) == "2013-12-31T23:59:59.001Z"


def view(**status: Any) -> JobView:
    meta = {"uid": "u", "namespace": "n", "name": "j", "generation": 1, "resourceVersion": "5"}
    return JobView.of({"metadata": meta, "spec": {"desiredState": "started"}, "status": status})


def test_progress_is_shown_while_a_run_is_under_way_and_gone_with_it() -> None:
    now = datetime(2024, 3, 1, tzinfo=UTC)
    report = Report(None, None, None, None, progress=RunProgress(percent=45, remaining_seconds=300))
    shown = {
        state: status_of(view(), Decision(show=state, refresh=True), report, now).get("progress") for state in State
    }
    assert shown.pop(State.INDEXING) == {"percent": 45, "remainingSeconds": 300}
    assert set(shown.values()) == {None}


def test_a_restarted_operator_does_not_tell_of_a_run_of_before() -> None:
    before = view(state="indexing", progress={"percent": 45}, watermark="2024-03-01T00:00:00Z")
    report = Report.published(before.status)
    assert (report.watermark, report.progress) == ("2024-03-01T00:00:00Z", None)


def test_a_job_whose_state_nobody_asked_for_says_so_however_often_it_is_looked_at() -> None:
    meta = {"uid": "u", "namespace": "n", "name": "j", "generation": 1, "resourceVersion": "5"}
    report = Report(None, None, None, None)
    status: dict[str, Any] = {}
    for _ in range(2):
        seen = JobView.of({"metadata": meta, "spec": {}, "status": status})
        assert not seen.ever_asked
        status = status_of(seen, Decision(show=State.STOPPED), report, datetime(2024, 3, 1, tzinfo=UTC))
    assert "desiredState" not in status


def test_a_status_has_room_for_whatever_it_is_about() -> None:
    """What the API server refuses would never be shown, and a stop would never be over."""
    position = {"ts.date_histogram": 1, "term.terms": "x" * 2_000_000, "size.histogram": 1.5, "gate.terms": None}
    report = Report(None, position, None, None)
    decision = Decision(show=State.STOPPED, message="m" * 9_000, handled_request="r")
    shown = status_of(view(), decision, report, datetime(2024, 3, 1, tzinfo=UTC))
    assert {len(each["message"]) for each in shown["conditions"]} == {LONGEST_MESSAGE}
    assert shown["position"] == position | {"term.terms": "x" * 253 + "..."}
    assert len(json.dumps(shown)) < 10_000


def test_a_request_to_run_is_handled_however_long_its_value_is() -> None:
    asked = {RUN_REQUESTED_AT: "now " * 50_000}
    meta = {"uid": "u", "namespace": "n", "name": "j", "resourceVersion": "5", "annotations": asked}
    request = JobView.of({"metadata": meta}).run_request
    now = datetime(2024, 3, 1, tzinfo=UTC)
    nothing = Report(None, None, None, None)
    shown = status_of(view(), Decision(show=State.STARTED, handled_request=request), nothing, now)
    assert JobView.of({"metadata": meta, "status": shown}).status.last_handled_run_request == request


@pytest.mark.parametrize(("outcome", "position", "kept"), [
    (Outcome.HALTED, None, True), (Outcome.HALTED, {"ts.date_histogram": 1}, False), (Outcome.COMPLETED, None, False),
    (Outcome.FAILED, None, False),
])  # fmt: skip
def test_a_failed_check_is_over_once_a_run_has_read_the_source(
    outcome: Outcome, position: Position | None, kept: bool
) -> None:
    failed = FailedCheck(reason="SourceNotFound", message="no file")
    last = LastRun(start_time="2026-01-01T11:00:00Z", end_time="2026-01-01T11:00:01Z", outcome=outcome)
    report = Report(None, position, None, None, failed_check=failed).after_run(last)
    assert (report.failed_check, report.last_run) == (failed if kept else None, last)
