"""One line for each change, stops measured from when they are asked until they are over, whoever brings the bodies."""

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from rollup_operator.lifecycle.telemetry import RunReport
from rollup_operator.model.conditions import Reason, Trouble
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import Outcome
from rollup_operator.observability.metrics import Metrics
from rollup_operator.observability.transitions import Stop, Transitions


class Subject:
    """Transitions with a clock, and what they tell."""

    def __init__(self) -> None:
        self.now, self.step, self.leads = 1000.0, 0.0, True
        self.stops: list[Stop] = []
        self.metrics = Metrics()
        self.transitions = Transitions(
            self.metrics,
            leading=lambda: self.leads,
            tracer=self,
            clock=lambda: self.now + self.step,
            elapsed=lambda: self.now,
        )
        self._version = 0

    def stopped(self, stop: Stop) -> None:
        self.stops.append(stop)

    def sees(
        self, asked: str, state: str | None, *, generation: int = 1, observed: int | None = None, **more: Any
    ) -> list[Any]:
        """Show a body, one second after the one before; returns the lines that it made."""
        self._version += 1
        self.now += 1
        ready = "True" if more.pop("ready", state == asked) else "False"
        conditions = [{"type": "Ready", "status": ready, "reason": more.pop("reason", state), "message": "so it is"}]
        status = {"observedGeneration": observed or generation, "state": state, "conditions": conditions} | more
        meta = {
            "uid": "u",
            "namespace": "team",
            "name": "flights",
            "generation": generation,
            "resourceVersion": str(self._version),
        }
        view = JobView.of({"metadata": meta, "spec": {"desiredState": asked}, "status": status if state else {}})
        with capture_logs() as lines:
            self.transitions.seen(view)
        return lines

    def measured(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0


@pytest.fixture
def subject() -> Subject:
    return Subject()


def test_what_was_the_case_at_the_beginning_is_no_transition(subject: Subject):
    assert subject.sees("started", "started") == []
    assert subject.sees("started", "started") == []


def test_a_change_is_one_line_with_what_one_looks_for(subject: Subject):
    subject.sees("stopped", "stopped")
    (line,) = subject.sees("started", "started", reason="Running", generation=2)
    assert line == {
        "event": "job changed",
        "log_level": "info",
        "namespace": "team",
        "job": "flights",
        "uid": "u",
        "generation": 2,
        "was": "stopped",
        "state": "started",
        "reason": "Running",
    }
    assert subject.sees("started", "started", reason="Running", generation=2) == []


def test_that_a_run_begins_and_ends_is_for_whoever_debugs(subject: Subject):
    subject.sees("started", "started", reason="Running")
    for state, reason in (
        ("indexing", "Running"),
        ("started", "Waiting"),
        ("indexing", "Waiting"),
        ("indexing", "Running"),
    ):
        (line,) = subject.sees("started", state, reason=reason)
        assert line["log_level"] == "debug"
    (line,) = subject.sees("stopped", "stopping", reason="Stopping", generation=2)
    assert (line["log_level"], line["state"]) == ("info", "stopping")


def test_a_check_of_the_source_is_no_news_and_what_it_finds_is(subject: Subject):
    subject.sees("stopped", "stopped")
    (line,) = subject.sees("started", "started", reason="Reconciling", generation=2, ready=False)
    assert (line["log_level"], line["state"]) == ("info", "started")
    (line,) = subject.sees("started", "started", reason="Running", generation=2)
    assert line["log_level"] == "debug"
    assert subject.sees("started", "started", reason="Reconciling", generation=3, ready=False) == []
    (line,) = subject.sees("started", "started", reason="SourceNotFound", generation=3, ready=False)
    assert line["log_level"] == "warning"
    assert subject.sees("started", "started", reason="Reconciling", generation=4, ready=False) == []
    (line,) = subject.sees("started", "started", reason="Running", generation=4)
    assert (line["log_level"], line["reason"]) == ("info", "Running")


def ended(trouble: Trouble | None = None, outcome: Outcome = Outcome.COMPLETED, **more: Any) -> RunReport:
    did = {"rows": 7, "documents": 3, "rewritten": 0, "kept": 0} | more
    return RunReport(outcome, 1.23456, watermark="2026-01-01T00:00:00Z", trouble=trouble, **did)


NOTHING = {"rows": 0, "documents": 0}


def ran(subject: Subject, run: RunReport) -> list[Any]:
    meta = {"uid": "u", "namespace": "team", "name": "flights", "resourceVersion": "9"}
    with capture_logs() as lines:
        subject.transitions.ran(JobView.of({"metadata": meta}), run)
    return lines


def test_a_tick_that_found_nothing_to_do_is_for_whoever_debugs(subject: Subject):
    (line,) = ran(subject, ended(**NOTHING))
    assert (line["event"], line["log_level"], line["rows"]) == ("run completed", "debug", 0)


@pytest.mark.parametrize("did", [{"rows": 7}, {"documents": 1}, {"rewritten": 1}, {"kept": 1}, {"requested": True}])
def test_a_run_that_did_something_or_that_somebody_requested_is_a_line_for_all(subject: Subject, did: dict[str, Any]):
    (line,) = ran(subject, ended(**NOTHING | did))
    assert (line["event"], line["log_level"]) == ("run completed", "info")


def test_a_halt_is_a_line_for_all_though_the_run_did_nothing_yet(subject: Subject):
    (line,) = ran(subject, ended(outcome=Outcome.HALTED, **NOTHING))
    assert (line["event"], line["log_level"]) == ("run halted", "info")


@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.HALTED])
def test_a_run_is_one_line_with_what_it_did(subject: Subject, outcome: Outcome):
    (line,) = ran(subject, ended(outcome=outcome))
    assert line == {
        "event": f"run {outcome.lower()}",
        "log_level": "info",
        "namespace": "team",
        "job": "flights",
        "rows": 7,
        "documents": 3,
        "seconds": 1.235,
        "watermark": "2026-01-01T00:00:00Z",
    }
    (line,) = ran(subject, replace(ended(outcome=outcome), watermark=None))
    assert "watermark" not in line  # nothing is complete yet
    (line,) = ran(subject, replace(ended(), rewritten=2))
    assert (line["rewritten"], "kept" in line) == (2, False)


AWAY = Trouble(Reason.STORE_UNAVAILABLE, "no answer", transient=True)


def test_a_failed_run_is_a_warning_once_for_each_step_of_the_backoff(subject: Subject):
    (line,) = ran(subject, ended(AWAY, Outcome.FAILED, failures=3))
    assert (line["event"], line["log_level"]) == ("run failed", "warning")
    assert (line["reason"], line["message"], line["failures"]) == ("StoreUnavailable", "no answer", 3)
    (line,) = ran(subject, ended(AWAY, Outcome.FAILED, failures=4, is_step=False))
    assert line["log_level"] == "debug"


def test_a_bug_is_an_error_with_its_place_in_the_code(subject: Subject):
    error = ZeroDivisionError("of ours")
    (line,) = ran(subject, ended(Trouble(Reason.RUN_FAILED, "x", transient=True), Outcome.FAILED, error=error))
    assert (line["log_level"], line["exc_info"]) == ("error", error)


def test_a_trouble_is_told_once_by_the_run_or_else_by_the_change(subject: Subject):
    subject.sees("started", "started", reason="Running")
    ran(subject, ended(AWAY, Outcome.FAILED))
    subject.sees("started", "indexing", reason="Running")  # a report from before the end of the run
    (line,) = subject.sees("started", "started", reason="StoreUnavailable", ready=False)
    assert line["log_level"] == "debug"
    (line,) = subject.sees("started", "started", reason="InvalidSpec", ready=False)
    assert (line["log_level"], line["message"]) == ("warning", "so it is")
    (line,) = subject.sees("started", "started", reason="Running")
    assert line["log_level"] == "info"


def test_a_stop_is_measured_from_its_asking_to_its_end(subject: Subject):
    subject.sees("started", "indexing")
    subject.sees("stopped", "indexing", generation=2, observed=1)
    subject.sees("stopped", "stopping", generation=2)
    subject.sees("stopped", "stopping", generation=3)  # another change of the spec meanwhile is no other stop
    subject.sees("stopped", "stopped", generation=3)
    (stop,) = subject.stops
    assert (stop.uid, stop.generation, stop.asked_at) == ("u", 2, 1002.0)
    assert stop.steps == (("stopping", 1003.0), ("stopped", 1005.0))
    assert subject.measured("rollup_stop_seconds_sum") == 3
    assert subject.measured("rollup_stop_seconds_count") == 1


@pytest.mark.parametrize("step", [-1e8, 1e8])
def test_a_step_of_the_clock_does_not_count_as_time_that_a_stop_took(subject: Subject, step: float):
    subject.sees("started", "indexing")
    subject.sees("stopped", "stopping", generation=2)
    subject.step = step
    subject.sees("stopped", "stopped", generation=2)
    assert subject.measured("rollup_stop_seconds_sum") == 1


def test_a_stop_that_a_start_overtakes_is_none(subject: Subject):
    subject.sees("started", "indexing")
    subject.sees("stopped", "stopping", generation=2)
    subject.sees("started", "started", generation=3)
    assert subject.stops == []
    subject.sees("stopped", "started", generation=4, observed=3)
    subject.sees("stopped", "stopped", generation=4)
    assert [stop.generation for stop in subject.stops] == [4]


def test_stopped_of_an_older_generation_ends_no_stop(subject: Subject):
    subject.sees("stopped", "stopped")
    subject.sees("stopped", "stopped", generation=2, observed=1)
    assert subject.stops == []
    subject.sees("stopped", "stopped", generation=2)
    assert [stop.generation for stop in subject.stops] == [2]


def test_the_request_that_asked_is_named(subject: Subject):
    subject.sees("started", "started")
    meta = {"uid": "u", "namespace": "team", "name": "flights", "generation": 2, "resourceVersion": "9"}
    asked = JobView.of({"metadata": meta, "spec": {"desiredState": "stopped"}})
    with capture_logs() as lines:
        subject.transitions.asked(asked, "ab12")
    assert lines == []
    (line,) = subject.sees("stopped", "stopped", generation=2)
    assert line["request_id"] == "ab12"


def test_a_standby_tells_what_was_asked_of_it_and_leaves_the_rest_to_the_leader(subject: Subject):
    subject.leads = False
    subject.sees("started", "started")
    meta = {"uid": "u", "namespace": "team", "name": "flights", "generation": 2, "resourceVersion": "9"}
    asked = JobView.of({"metadata": meta, "spec": {"desiredState": "stopped"}})
    with capture_logs() as lines:
        subject.transitions.asked(asked, "ab12")
    assert [(line["event"], line["uid"], line["generation"], line["state"]) for line in lines] == [
        ("asked", "u", 2, "stopped")
    ]
    assert {line["log_level"] for line in subject.sees("stopped", "stopped", generation=2)} == {"debug"}
    assert subject.stops == []
    assert subject.measured("rollup_stop_seconds_count") == 0


def test_a_job_that_goes_is_reported_and_forgotten(subject: Subject):
    subject.sees("started", "started")
    meta = {"uid": "u", "namespace": "team", "name": "flights", "generation": 2, "resourceVersion": "9"}
    view = JobView.of({"metadata": meta})
    with capture_logs() as lines:
        subject.transitions.gone(view)
        subject.transitions.gone(view)
    assert [line["event"] for line in lines] == ["job gone"]
    assert subject.sees("started", "indexing") == []


@pytest.mark.parametrize("status", [{"state": 5, "conditions": "x"}, {"conditions": [3]}])
def test_nonsense_raises_nothing(subject: Subject, status: dict[str, Any]):
    meta = {"uid": "u", "namespace": "team", "name": "flights", "generation": 2, "resourceVersion": "9"}
    for _ in range(2):
        subject.transitions.seen(JobView.of({"metadata": meta, "status": status}))
        subject.sees("started", "started")
