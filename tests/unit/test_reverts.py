"""Setting a job's desired state back is noticed, whoever does it, and costs a job nothing that nobody fights over."""

from typing import Any

import pytest

from rollup_operator.lifecycle.jobs.reverts import WINDOW, Revert, StateChange, noticed
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView

API, ARGO, KUBECTL = "rollup-api", "argocd-controller", "kubectl-edit"
GITOPS = (ARGO,)


def view(asked: str | None, by: str = "", **meta: Any) -> JobView:
    fields = [{"manager": by, "fieldsV1": {"f:spec": {"f:desiredState": {}}}}] if by else []
    whole = {"uid": "u", "namespace": "n", "name": "j", "resourceVersion": "1", "managedFields": fields} | meta
    spec = {} if asked is None else {"desiredState": asked}
    return JobView.of({"metadata": whole, "spec": spec, "status": {"desiredState": "started"}})


class Job:
    """A job whose views are shown one after the other."""

    def __init__(self) -> None:
        self.view, self.last = view("started", ARGO), None
        self.last: StateChange | None

    def becomes(self, newer: JobView, now: float) -> Revert | None:
        self.last, revert = noticed(self.last, self.view, newer, now)
        self.view = newer
        return revert


def test_a_stop_that_git_undoes_is_a_revert() -> None:
    job = Job()
    assert job.becomes(view("stopped", API), 100.0) is None
    revert = job.becomes(view("started", ARGO), 104.0)
    assert revert == Revert(DesiredState.STOPPED, API, ARGO, 4.0, 1)
    assert revert.describe(GITOPS) == (
        "rollup-api asked for stopped, and 4s later argocd-controller set spec.desiredState back to started: "
        "change desiredState in Git, or leave it out of the manifest so that others may set it"
    )


def test_a_stop_that_git_undoes_within_its_second_is_told_in_words() -> None:
    job = Job()
    job.becomes(view("stopped", API), 100.0)
    revert = job.becomes(view("started", ARGO), 100.3)
    assert revert is not None
    assert "asked for stopped, and less than a second later argocd-controller set" in revert.describe(GITOPS)


def test_whoever_asked_and_whoever_sets_it_back_is_named() -> None:
    job = Job()
    job.becomes(view("stopped", API), 0.0)
    people = job.becomes(view("started", KUBECTL), 60.0)
    assert people is not None
    assert "kubectl-edit set spec.desiredState back to started: agree on who sets it" in people.describe(GITOPS)
    job = Job()
    job.becomes(view("stopped", ARGO), 0.0)
    against_git = job.becomes(view("started", API), 60.0)
    assert against_git is not None
    assert "which the next sync of argocd-controller undoes" in against_git.describe(GITOPS)


@pytest.mark.parametrize(
    ("newer", "later"),
    [
        (view("started", API), 1.0),
        (view("started", ARGO), WINDOW + 1),
        (view("stopped", ARGO), 1.0),
        (view(None), 1.0),
        (view("started", ARGO, deletionTimestamp="2026-01-01T00:00:00Z"), 1.0),
    ],
    ids=["the same manager", "much later", "the same state", "the field is gone", "a deletion"],
)
def test_what_is_no_revert(newer: JobView, later: float) -> None:
    job = Job()
    job.becomes(view("stopped", API), 0.0)
    assert job.becomes(newer, later) is None


def test_a_fight_is_told_ever_more_rarely() -> None:
    job, told = Job(), []
    job.becomes(view("stopped", API), 0.0)
    for number in range(1, 41):
        newer = view("started", ARGO) if number % 2 else view("stopped", API)
        revert = job.becomes(newer, float(number))
        assert revert is not None
        assert revert.times == number
        if revert.is_news:
            told.append(number)
    assert told == [1, 2, 4, 8, 16, 32]


def test_a_job_that_nobody_changes_is_nothing_to_remember() -> None:
    job = Job()
    for number in range(3):
        job.becomes(view("started", ARGO, resourceVersion=str(number + 2)), float(number))
    assert job.last is None
