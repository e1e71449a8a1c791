"""When a run that failed is tried again."""

from itertools import pairwise

import pytest

from rollup_operator.lifecycle.jobs.retry import FIRST_RETRY, LAST_RETRY, Recovery, backoff
from rollup_operator.model.conditions import Reason, Trouble
from rollup_operator.model.job_view import JobView

AWAY = Trouble(Reason.STORE_UNAVAILABLE, "locked", transient=True)
TAKEN = Trouble(Reason.JOB_ID_TAKEN, "by n/other", transient=False)


def job(*conditions: tuple[str, str, str]) -> JobView:
    shown = [
        {"type": t, "status": s, "reason": r, "message": "why", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        for t, s, r in conditions
    ]
    meta = {"uid": "u", "namespace": "n", "name": "j", "resourceVersion": "1"}
    return JobView.of({"metadata": meta, "spec": {}, "status": {"conditions": shown}})


def test_delays_double_up_to_a_limit_and_never_come_in_step() -> None:
    for failures in range(1, 100):
        whole = min(LAST_RETRY, FIRST_RETRY * 2.0 ** (failures - 1))
        delays = {backoff(FIRST_RETRY, LAST_RETRY, failures) for _ in range(20)}
        assert all(whole / 2 <= d <= whole for d in delays)
        assert len(delays) > 1


def test_a_transient_failure_is_tried_again_by_itself_and_a_permanent_one_is_not() -> None:
    recovery = Recovery(job())
    assert (recovery.trouble, recovery.retry_in(0.0)) == (None, None)
    recovery.failed(AWAY, 100.0)
    wait = recovery.retry_in(100.0)
    assert wait is not None
    assert 0 < wait <= FIRST_RETRY
    assert recovery.retry_in(1_000.0) == 0.0
    recovery.failed(TAKEN, 100.0)
    assert recovery.retry_in(10_000.0) is None


def test_a_failure_counts_once_for_each_step_of_the_backoff_however_often_ticks_retry() -> None:
    recovery = Recovery(job())
    steps = []
    for second in range(3_600):
        if recovery.failed(AWAY, float(second)):
            steps.append(second)
        recovery.is_new(AWAY.reason)
    waits = [later - earlier for earlier, later in pairwise(steps)]
    assert waits[:9] == [1, 1, 2, 4, 8, 16, 32, 64, 128]
    assert set(waits[9:]) == {LAST_RETRY / 2}
    assert recovery.failures == 3_600


@pytest.mark.parametrize("again", ["another reason", "a new generation", "a good run"])
def test_what_is_new_is_a_step_at_once(again: str) -> None:
    recovery = Recovery(job())
    for _ in range(20):
        recovery.failed(AWAY, 0.0)
        recovery.is_new(AWAY.reason)
    assert not recovery.failed(AWAY, 0.1)
    match again:
        case "a new generation":
            recovery.new_generation()
        case "a good run":
            recovery.mended()
    assert recovery.failed(TAKEN if again == "another reason" else AWAY, 0.2)


@pytest.mark.parametrize("trouble", [AWAY, TAKEN])
def test_a_change_makes_any_failure_due_at_once(trouble: Trouble) -> None:
    recovery = Recovery(job())
    recovery.something_changed()
    assert recovery.retry_in(0.0) is None
    recovery.failed(trouble, 100.0)
    recovery.something_changed()
    assert recovery.retry_in(100.0) == 0.0
    recovery.mended()
    assert (recovery.trouble, recovery.retry_in(100.0)) == (None, None)


def test_what_an_earlier_process_published_is_tried_once_more() -> None:
    stalled = Recovery(job(("Ready", "False", "ConfigChanged"), ("Stalled", "True", "ConfigChanged")))
    assert stalled.trouble == Trouble(Reason.CONFIG_CHANGED, "why", transient=False)
    assert stalled.retry_in(5.0) == 0.0
    away = Recovery(job(("Ready", "False", "StoreUnavailable"), ("Reconciling", "True", "StoreUnavailable")))
    assert away.trouble == Trouble(Reason.STORE_UNAVAILABLE, "why", transient=True)


@pytest.mark.parametrize(
    "conditions",
    [
        [("Ready", "True", "Running")],
        [("Ready", "False", "Stopping"), ("Reconciling", "True", "Stopping")],
        [("Ready", "False", "InvalidSpec"), ("Stalled", "True", "InvalidSpec")],
        [("Ready", "False", "SomethingOfAnotherVersion")],
    ],
)
def test_other_conditions_say_nothing_about_the_last_run(conditions: list[tuple[str, str, str]]) -> None:
    assert Recovery(job(*conditions)).trouble is None


def test_a_reason_is_new_once_for_a_generation_until_all_is_well_again() -> None:
    recovery = Recovery(job())
    for trouble in (AWAY, TAKEN, AWAY, TAKEN):  # two that alternate are not told of for ever
        recovery.failed(trouble, 0.0)
    assert [recovery.is_new(r) for r in (AWAY.reason, TAKEN.reason, AWAY.reason)] == [True, True, False]
    recovery.mended()
    assert recovery.is_new(AWAY.reason)
    recovery.new_generation()
    assert recovery.is_new(AWAY.reason)


def test_good_runs_in_a_row_make_nothing_new_again() -> None:
    recovery = Recovery(job())
    assert recovery.is_new(Reason.SOURCE_SHRUNK)
    recovery.mended()
    assert not recovery.is_new(Reason.SOURCE_SHRUNK)


def test_what_an_earlier_process_published_is_not_new() -> None:
    away = Recovery(job(("Ready", "False", "StoreUnavailable"), ("Reconciling", "True", "StoreUnavailable")))
    assert not away.is_new(Reason.STORE_UNAVAILABLE)
    assert away.is_new(Reason.DISK_FULL)
