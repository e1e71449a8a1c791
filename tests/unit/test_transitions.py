"""One line for each change, stops measured from when they are asked until they are over, whoever brings the bodies."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from rollup_operator.model.job_view import JobView
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
        ready = "True" if state == asked else "False"
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
    subject.sees("started", "started")
    (line,) = subject.sees("started", "indexing", reason="Running")
    assert line == {
        "event": "job changed",
        "log_level": "info",
        "namespace": "team",
        "job": "flights",
        "uid": "u",
        "generation": 1,
        "was": "started",
        "state": "indexing",
        "reason": "Running",
        "message": "so it is",
    }
    assert subject.sees("started", "indexing", reason="Running") == []
    assert [line["reason"] for line in subject.sees("started", "indexing", reason="StoreUnavailable")] == [
        "StoreUnavailable"
    ]


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
