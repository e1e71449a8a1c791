"""`kubectl rollup explain`: from what the API server shows, to sentences and what helps."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from rollup_operator.model.conditions import Reason
from rollup_operator.plugin.cures import CURES
from rollup_operator.plugin.explain import Seen, explain
from support.observed_job import NOW, at, conditions, observed_job, run_ended

DRAIN = "rollup-operator.dev/drain"
STORE = {"metadata": {"name": "default"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
WAITING = conditions("Running", "waiting for the next tick of spec.cron", ready=True)
QUIET = conditions("Stopped", "nothing of the job is in flight", ready=True)


@dataclass
class Case:
    name: str
    body: dict[str, Any]
    says: list[str]
    """Texts that the sentences hold, in this order."""
    cures: list[str] = field(default_factory=list)
    """Texts that what helps holds, one for each cure, in this order."""
    store: dict[str, Any] | None = field(default_factory=lambda: STORE)
    store_known: bool = True
    events: list[dict[str, Any]] = field(default_factory=list)


def event(reason: str, message: str, *, when: float = -60, type_: str = "Warning") -> dict[str, Any]:
    return {"metadata": {}, "type": type_, "reason": reason, "message": message, "eventTime": at(when)}


def last_applied(state: str) -> dict[str, str]:
    return {"kubectl.kubernetes.io/last-applied-configuration": f'{{"spec": {{"desiredState": "{state}"}}}}'}


CASES = [
    Case(
        "just created",
        observed_job(state=None, generation=1, observed=-1, created=-3),
        ["created 3s ago, and the operator has not seen that yet"],
    ),
    Case(
        "created, and no operator",
        observed_job(state=None, generation=1, observed=-1, created=-300),
        ["created 5m ago, and no operator seems to run", "generation 1, observed -1"],
        ["ROLLUP_NAMESPACES"],
    ),
    Case(
        "just changed",
        observed_job(desired="stopped", state="started", generation=4, observed=3, changed=-4, conditions=WAITING),
        ["changed 4s ago, and the operator has not seen that yet"],
    ),
    Case(
        "changed, and no operator",
        observed_job(desired="stopped", state="indexing", generation=4, observed=3, changed=-90, conditions=WAITING),
        ["changed 90s ago, and no operator seems to run", "state, indexing, dates from before that"],
        ["The request stands"],
    ),
    Case(
        "never started",
        observed_job(desired=None, state="stopped", conditions=QUIET),
        ["never started: spec.desiredState has never been set"],
        ["kubectl rollup start flights"],
    ),
    Case(
        "stopped",
        observed_job(desired="stopped", state="stopped", conditions=QUIET),
        ["stopped, as kubectl-rollup (10m ago) asked: nothing of it is in flight"],
    ),
    Case(
        "stopped, as recorded",
        observed_job(desired=None, state="stopped", desiredState="stopped", conditions=QUIET),
        ["stopped", "nothing of it is in flight"],
    ),
    Case(
        "waits for its tick",
        observed_job(nextRunTime=at(90), conditions=WAITING),
        [f"waits for the tick of spec.cron at {at(90)} (in 90s)"],
    ),
    Case(
        "its tick has passed",
        observed_job(nextRunTime=at(-600), conditions=WAITING),
        ["(overdue for 10m) has passed without a run: no operator seems to run"],
        ["Check whether the operator runs"],
    ),
    Case("no tick comes", observed_job(conditions=WAITING), ["its schedule never comes again"], ["Change spec.cron"]),
    Case(
        "a run is under way",
        observed_job(
            state="indexing", reported=-12, conditions=conditions("Running", "reading (3 pages so far)", ready=True)
        ),
        ["A run is under way, as reported 12s ago: reading (3 pages so far)"],
    ),
    Case(
        "a run that reports no more",
        observed_job(state="indexing", reported=-700, conditions=conditions("Running", "reading", ready=True)),
        ["A run is under way, as reported 11m ago", "this one has not for 11m"],
        ["Check whether the operator runs"],
    ),
    Case(
        "stopping",
        observed_job(
            desired="stopped", state="stopping", conditions=conditions("Stopping", "the job is being stopped", since=-4)
        ),
        ["It has been stopping for 4s, as kubectl-rollup (10m ago) asked", "What is in flight ends first"],
    ),
    Case(
        "stopping, then started",
        observed_job(desired="started", state="stopping", conditions=conditions("Stopping", "x", since=-4)),
        ["A stop has been in progress for 4s; a start was requested since, and follows it"],
    ),
    Case(
        "stopping for too long",
        observed_job(
            desired="stopped",
            state="stopping",
            conditions=conditions(
                "DrainTimeout", "the job is being stopped; after 30 s it still waits for: writing 4 rows", since=-75
            ),
        ),
        ["It has been stopping for 75s", "DrainTimeout for 75s", "it still waits for: writing 4 rows."],
        ["Check what it waits for in store 'default'. The halt goes on"],
    ),
    Case(
        "an invalid spec, started",
        observed_job(state="stopped", conditions=conditions("InvalidSpec", "spec.cron: has 5 fields", stalled=True)),
        ["A start is requested, but the job cannot begin", "InvalidSpec", "needs a change", "spec.cron: has 5 fields."],
        ["Fix the fields that the message names"],
    ),
    Case(
        "an invalid spec, stopped",
        observed_job(
            desired="stopped",
            state="stopped",
            conditions=conditions("InvalidSpec", "spec.cron: has 5 fields", stalled=True),
        ),
        ["It is stopped", "spec.cron: has 5 fields."],
        ["A stop works whatever the spec says"],
    ),
    Case(
        "a condition of an earlier spec",
        observed_job(
            state="stopped",
            generation=4,
            observed=3,
            changed=-1,
            conditions=conditions("InvalidSpec", "spec.cron: has 5 fields", stalled=True, generation=3),
        ),
        ["changed 1s ago", "as of an earlier version of the spec"],
        ["Fix the fields"],
    ),
    Case(
        "no store",
        observed_job(nextRunTime=at(5), conditions=conditions("StoreNotFound", "no RollupStore 'default' in team")),
        ["StoreNotFound for 2m; the operator retries it. no RollupStore 'default' in team."],
        ["Create the RollupStore 'default' in namespace team"],
        store=None,
    ),
    Case(
        "the store has come",
        observed_job(nextRunTime=at(5), conditions=conditions("StoreNotFound", "no RollupStore 'default' in team")),
        ["StoreNotFound", "RollupStore 'default' exists now"],
        ["Create the RollupStore"],
    ),
    Case(
        "no store for the next run",
        observed_job(nextRunTime=at(5), conditions=WAITING),
        ["waits for the tick", "There is no RollupStore 'default' in this namespace, which its next run needs"],
        ["Create the RollupStore"],
        store=None,
    ),
    Case(
        "a store that may not be read",
        observed_job(nextRunTime=at(5), conditions=WAITING),
        ["waits for the tick"],
        store=None,
        store_known=False,
    ),
    Case(
        "a store that does not answer",
        observed_job(nextRunTime=at(5), conditions=conditions("StoreUnavailable", "the file is locked by process 7")),
        [
            "StoreUnavailable",
            "the file is locked by process 7.",
            "RollupStore 'default' is not ready: StoreUnavailable: locked.",
        ],
        ["which process holds its file"],
        store={
            "status": {
                "conditions": [{"type": "Ready", "status": "False", "reason": "StoreUnavailable", "message": "locked"}]
            }
        },
    ),
    Case(
        "Git owns the state",
        observed_job(manager="argocd-controller", nextRunTime=at(5), conditions=WAITING),
        ["Git owns spec.desiredState, by argocd-controller", "undone at its next sync"],
        ["leave desiredState out of the manifest"],
    ),
    Case(
        "the manifest says otherwise",
        observed_job(desired="stopped", state="stopped", annotations=last_applied("started"), conditions=QUIET),
        ["It is stopped", "The manifest that was applied last has desiredState: started"],
        ["leave desiredState out of the manifest"],
    ),
    Case(
        "the manifest says the same",
        observed_job(desired="stopped", state="stopped", annotations=last_applied("stopped"), conditions=QUIET),
        ["It is stopped"],
    ),
    Case(
        "being deleted",
        observed_job(
            desired="stopped",
            state="aborting",
            deleting=-20,
            finalizers=(DRAIN,),
            conditions=conditions("Deleting", "the job is being deleted"),
        ),
        [
            "being deleted, as requested 20s ago",
            f"The finalizer {DRAIN} holds it",
            "It waits: the job is being deleted",
        ],
    ),
    Case(
        "being deleted, and no operator",
        observed_job(state="started", generation=4, observed=3, deleting=-200, finalizers=(DRAIN,), conditions=WAITING),
        ["being deleted", "No operator seems to run"],
        ["rollup-operator release --yes"],
    ),
    Case(
        "being deleted, held by another",
        observed_job(state="stopped", deleting=-200, finalizers=("example.com/audit",), conditions=QUIET),
        ["being deleted", "The finalizer example.com/audit holds it too, which is not ours"],
        ["Find out who set that finalizer"],
    ),
    Case(
        "the last run failed, and all is well since",
        observed_job(
            nextRunTime=at(5), conditions=WAITING, lastRun=run_ended("Fenced", "another holder took the claim")
        ),
        ["waits for the tick", "Its last run, ended 30s ago, fenced: another holder took the claim."],
    ),
    Case(
        "a run was requested",
        observed_job(
            nextRunTime=at(5),
            conditions=WAITING,
            annotations={"rollup-operator.dev/run-requested-at": "now"},
            lastHandledRunRequest="before",
        ),
        ["A run was requested (now) and has not been handled yet"],
    ),
    Case(
        "warnings are told once, and old ones not",
        observed_job(nextRunTime=at(5), conditions=WAITING),
        ["waits for the tick", "60s ago: StopTimedOut: it took long."],
        events=[
            event("StopTimedOut", "an earlier one", when=-90),
            event("StopTimedOut", "it took long"),
            event("RunFailed", "long ago", when=-86_400),
            event("Running", "no news"),
            event("Other", "no warning", type_="Normal"),
        ],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_job_is_explained(case: Case) -> None:
    said = explain(Seen(case.body, case.store, case.store_known, case.events), NOW)
    text = "\n".join(sentence.text for sentence in said)
    start = 0
    for words in case.says:
        found = text.find(words, start)
        assert found >= 0, f"{words!r} is not said after {text[:start]!r}, in:\n{text}"
        start = found + len(words)
    cures = [sentence.text for sentence in said if sentence.cure]
    assert len(cures) == len(case.cures), text
    for cure, words in zip(cures, case.cures, strict=True):
        assert words in cure


@pytest.mark.parametrize("reason", CURES)
def test_every_trouble_comes_with_its_cure(reason: Reason) -> None:
    stalled = reason in (Reason.SOURCE_INVALID, Reason.JOB_ID_TAKEN, Reason.CONFIG_CHANGED, Reason.TARGET_REPLACED)
    body = observed_job(nextRunTime=at(5), conditions=conditions(reason, "it is so", stalled=stalled))
    said = explain(Seen(body, STORE), NOW)
    at_it = next(i for i, sentence in enumerate(said) if sentence.text.startswith(f"{reason} for 2m"))
    assert said[at_it + 1].cure
    assert "{" not in said[at_it + 1].text


def test_a_body_that_tells_next_to_nothing_is_explained_too() -> None:
    bare = {"metadata": {"uid": "u", "namespace": "team", "name": "flights", "resourceVersion": "1", "generation": 2}}
    said = explain(Seen(bare, store_known=False), NOW)
    assert "no operator seems to run" in said[0].text
