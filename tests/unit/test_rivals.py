"""A job that another operator acts on is left alone, until that one does not do what is due."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from rollup_operator.lifecycle.jobs.rivals import MOST_TOLD, PATIENCE, RETRY, SAY_AGAIN, Notes, left_for
from rollup_operator.model.job_view import JobView
from rollup_operator.observability.telemetry import MOST_RIVALS, Telemetry

NOW = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)
ME, OTHER = "ops/rollup-operator", "team/rollup"


def test_another_operator_is_told_once_in_an_hour() -> None:
    notes = Notes()
    due = []
    for operator, now in (("a", 0), ("a", 3599), ("b", 5), ("a", 3600), (None, 9)):
        due.append(notes.is_due(operator, now))
        if due[-1]:
            notes.said(operator, now)
    assert due == [True, False, True, True, False]


def test_what_could_not_be_written_is_due_again_soon() -> None:
    notes = Notes()
    assert [notes.is_due("a", now) for now in (0.0, 5.0, RETRY, RETRY + 1.0)] == [True, False, True, False]


def test_names_that_somebody_makes_up_are_told_a_few_times_only() -> None:
    notes, told = Notes(), list[str]()
    for n in range(500):
        if notes.is_due(name := f"made-up/{n}", 0.0):
            notes.said(name, 0.0)
            told.append(name)
    assert len(told) == MOST_TOLD
    assert not notes.is_due("real", 1.0)
    assert notes.is_due("real", SAY_AGAIN)


@pytest.mark.parametrize("hear", [Telemetry.rival, Telemetry.left])
def test_names_that_a_caller_makes_up_are_logged_and_remembered_a_few_times_only(
    hear: Callable[[Telemetry, JobView, str], None],
) -> None:
    """Who may change a job may write any name on it, as often as the API server takes it."""
    telemetry = Telemetry("here", leading=lambda: True)
    with capture_logs() as logged:
        for n in range(500):
            hear(telemetry, job(ME), f"made-up/{n % 250}")
    assert [entry["operator"] for entry in logged] == [f"made-up/{n}" for n in range(MOST_RIVALS)]


def job(operator: str | None, *, generation: int = 1, **status: Any) -> JobView:
    meta = {"uid": "u", "namespace": "n", "name": "j", "generation": generation, "resourceVersion": "1"}
    shown = {"observedGeneration": 1, "state": "stopped"} | status
    return JobView.of({"metadata": meta, "status": shown if operator is None else shown | {"operator": operator}})


def next_run(seconds: float) -> dict[str, str]:
    return {"state": "started", "nextRunTime": (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")}


@pytest.mark.parametrize("me", [ME, None])
def test_who_acts_on_a_job_is_its_own_operator_or_anybody(me: str | None) -> None:
    assert left_for(job(None), me, NOW, 0.0) is None
    assert left_for(job(me), me, NOW, 0.0) is None


@pytest.mark.parametrize("me", [ME, None])
def test_a_job_of_another_operator_is_left_alone_for_as_long_as_nothing_is_due(me: str | None) -> None:
    assert left_for(job(OTHER), me, NOW, 1e9) == float("inf")
    assert left_for(job(OTHER, **next_run(3600)), me, NOW, 1e6) == 3600 + PATIENCE


@pytest.mark.parametrize(
    "shown",
    [
        job(OTHER, generation=2),
        job(OTHER, state="indexing"),
        job(OTHER, state="stopping"),
        job(OTHER, state="aborting"),
        job(OTHER, generation=2, **next_run(3600)),
    ],
    ids=["a change", "a run", "a stop", "a deletion", "a change of a started job"],
)
def test_what_is_under_way_is_overdue_if_there_is_no_news_of_it(shown: JobView) -> None:
    assert left_for(shown, ME, NOW, 10.0) == PATIENCE - 10
    assert left_for(shown, ME, NOW, PATIENCE) is None


def test_a_run_that_does_not_begin_is_overdue() -> None:
    assert left_for(job(OTHER, **next_run(1 - PATIENCE)), ME, NOW, 1e6) == 1
    assert left_for(job(OTHER, **next_run(-PATIENCE)), ME, NOW, 0.0) is None
