"""When a wait of `kubectl rollup` ends, and how."""

from typing import Any

import pytest

from rollup_operator.explaining.goals import End, Goal, Ran, Started, Stopped
from rollup_operator.model.job_view import JobView
from support.observed_job import conditions, observed_job, run_ended

NOW_RUN = {"rollup-operator.dev/run-requested-at": "now"}


def view(**parts: Any) -> JobView:
    return JobView.of(observed_job(**parts))


def heard(goal: Goal, *bodies: JobView | None) -> list[End]:
    return [goal.hear(body) for body in bodies]


def test_a_stop_is_judged_as_the_endpoint_judges_it() -> None:
    answer = view(desired="stopped", state="indexing", generation=4, observed=3)
    goal = Stopped(answer)
    assert goal.end is End.PENDING
    older = view(desired="stopped", state="stopped", generation=3, version=99)
    stopping = view(desired="stopped", state="stopping", generation=4, version=101)
    stopped = view(desired="stopped", state="stopped", generation=4, version=102)
    started = view(desired="started", state="stopped", generation=5, observed=4, version=103)
    assert heard(goal, older, stopping, stopped, started, None) == [End.PENDING, End.PENDING, *[End.DONE] * 3]
    assert goal.newest is stopped
    assert Stopped(stopped).end is End.DONE
    goal = Stopped(answer)
    assert heard(goal, started) == [End.OVERTAKEN]
    assert "generation 5" in goal.why
    assert "generation 4" in goal.why
    assert heard(Stopped(answer), None) == [End.GONE]
    assert heard(Stopped(answer), view(desired="stopped", state="stopped", uid="another")) == [End.GONE]


@pytest.mark.parametrize(
    ("body", "end", "why"),
    [
        ({"state": "started", "observed": 4}, End.DONE, ""),
        ({"state": "indexing", "observed": 4}, End.DONE, ""),
        ({"state": "started", "observed": 3}, End.PENDING, ""),
        ({"state": "stopping", "observed": 4}, End.PENDING, ""),
        ({"state": "stopped", "observed": 4}, End.PENDING, ""),
        (
            {"state": "stopped", "observed": 4, "conditions": conditions("InvalidSpec", "spec.cron: x", stalled=True)},
            End.FAILED,
            "InvalidSpec: spec.cron: x",
        ),
        (
            {"state": "stopped", "observed": 3, "conditions": conditions("InvalidSpec", "spec.cron: x", stalled=True)},
            End.PENDING,
            "",
        ),
        (
            {"state": "started", "observed": 4, "conditions": conditions("StoreNotFound", "no store")},
            End.DONE,
            "it is not ready: StoreNotFound: no store",
        ),
        ({"desired": "stopped", "state": "stopped", "generation": 5, "observed": 5}, End.OVERTAKEN, "generation 5"),
        ({"state": "started", "deleting": -1.0}, End.FAILED, "being deleted"),
    ],
)
def test_a_start_is_over_once_it_is_accepted_or_cannot_be(body: dict[str, Any], end: End, why: str) -> None:
    goal = Started(view(state="stopped", generation=4, observed=3))
    assert goal.end is End.PENDING
    assert heard(goal, view(**({"generation": 4, "version": 101} | body))) == [end]
    assert why in goal.why


def test_a_start_does_not_warn_of_the_look_at_the_source_that_comes_first() -> None:
    goal = Started(view(state="stopped", generation=4, observed=3))
    checking = conditions("Reconciling", "checking that the source can be rolled up")
    assert heard(goal, view(state="started", generation=4, version=101, observed=4, conditions=checking)) == [End.DONE]
    assert goal.why == ""


def running(**parts: Any) -> JobView:
    """A job that was asked to run."""
    whole = {"annotations": NOW_RUN, "lastRun": run_ended(ended=-300), "stats": {"triggerCount": 1}}
    return view(**(whole | parts))


def test_a_requested_run_is_over_when_it_has_ended_not_when_it_was_seen() -> None:
    goal = Ran(running())
    seen = running(version=101, lastHandledRunRequest="now")
    indexing = running(version=102, lastHandledRunRequest="now", state="indexing", stats={"triggerCount": 2})
    ended = running(
        version=103,
        lastHandledRunRequest="now",
        stats={"triggerCount": 2},
        lastRun=run_ended(message="3 pages", ended=-1),
    )
    assert heard(goal, seen, indexing, ended) == [End.PENDING, End.PENDING, End.DONE]
    assert goal.why == "3 pages"


def test_a_run_that_ends_before_the_request_is_seen_is_another_one() -> None:
    goal = Ran(running())
    other = running(version=101, stats={"triggerCount": 2}, lastRun=run_ended(ended=-2))
    seen = running(version=102, stats={"triggerCount": 2}, lastRun=run_ended(ended=-2), lastHandledRunRequest="now")
    own = running(version=103, stats={"triggerCount": 3}, lastRun=run_ended(ended=-2), lastHandledRunRequest="now")
    assert heard(goal, other, seen, own) == [End.PENDING, End.PENDING, End.DONE]


def test_a_run_under_way_takes_the_request_in() -> None:
    goal = Ran(running(state="indexing"))
    ended = running(version=101, stats={"triggerCount": 2}, lastRun=run_ended(ended=-2), lastHandledRunRequest="now")
    assert heard(goal, ended) == [End.DONE]


def test_another_request_during_the_run_does_not_keep_its_end_from_being_heard() -> None:
    goal, later = Ran(running()), {"annotations": {"rollup-operator.dev/run-requested-at": "later"}}
    begun = running(version=101, state="indexing", lastHandledRunRequest="now")
    taken = running(version=102, state="indexing", lastHandledRunRequest="later", **later)
    ended = {"stats": {"triggerCount": 2}, "lastRun": run_ended(message="3 pages", ended=-1)}
    over = running(version=103, lastHandledRunRequest="later", **ended, **later)
    assert heard(goal, begun, taken, over) == [End.PENDING, End.PENDING, End.DONE]
    assert goal.why == "3 pages"


def test_a_request_that_another_one_has_replaced_is_not_waited_for() -> None:
    goal, later = Ran(running()), {"annotations": {"rollup-operator.dev/run-requested-at": "later"}}
    replaced = running(version=101, **later)
    seen = running(version=102, lastHandledRunRequest="later", **later)
    assert heard(goal, replaced, seen) == [End.PENDING, End.OVERTAKEN]
    assert goal.why == "another request for a run has replaced it"


def test_a_request_that_was_removed_before_it_was_seen_is_not_waited_for() -> None:
    """For instance by a GitOps controller that sets all annotations to what is in Git."""
    goal = Ran(running())
    assert heard(goal, running(version=101, annotations=None)) == [End.OVERTAKEN]
    assert goal.why == "the request for a run was removed before the operator saw it"


@pytest.mark.parametrize(
    ("outcome", "end"), [("Failed", End.FAILED), ("Fenced", End.FAILED), ("Halted", End.OVERTAKEN)]
)
def test_how_a_requested_run_ended_is_reported(outcome: str, end: End) -> None:
    goal = Ran(running())
    ended = running(version=101, lastHandledRunRequest="now", lastRun=run_ended(outcome, "the disk is full", ended=-1))
    assert heard(goal, ended) == [end]
    assert "the disk is full" in goal.why


def test_a_request_of_which_no_run_can_come_is_not_waited_for() -> None:
    invalid = {"conditions": conditions("InvalidSpec", "spec.cron: x", stalled=True)}
    goal = Ran(running(**invalid))
    assert (goal.end, goal.why) == (End.FAILED, "InvalidSpec: spec.cron: x")
    goal = Ran(running())
    stopped = running(desired="stopped", state="stopped", generation=4, version=101, lastHandledRunRequest="now")
    assert heard(goal, stopped) == [End.OVERTAKEN]
    assert heard(Ran(running()), running(version=101, deleting=-1.0)) == [End.FAILED]
    assert heard(Ran(running()), None) == [End.GONE]


def test_a_run_that_is_being_stopped_has_not_ended() -> None:
    goal = Ran(running())
    counted = {"stats": {"triggerCount": 7}, "lastHandledRunRequest": "now"}
    assert heard(goal, running(version=101, state="stopping", **counted)) == [End.PENDING]
