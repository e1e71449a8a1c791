"""`kubectl rollup explain`: from what the API server shows, to sentences and what helps."""

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from rollup_operator.explaining.cures import CURES, cure_of
from rollup_operator.explaining.explain import Seen, explain
from rollup_operator.model.conditions import Reason
from rollup_operator.model.hints import nothing_matches
from rollup_operator.model.job_view import JobView
from rollup_operator.plugin.tables import wrapped
from support.observed_job import NOW, at, conditions, observed_job, run_ended

DRAIN = "rollup-operator.dev/drain"
STORE = {"metadata": {"name": "default"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
WAITING = conditions("Running", "waiting for the next tick of spec.cron", ready=True)
QUIET = conditions("Stopped", "no queries or writes are running", ready=True)


@dataclass
class Case:
    name: str
    body: dict[str, Any]
    says: list[str]
    """Texts that the sentences hold, in this order."""
    never: list[str] = field(default_factory=list)
    """Texts that no sentence holds."""
    cures: list[str] = field(default_factory=list)
    """Texts that what helps holds, one for each cure, in this order."""
    store: dict[str, Any] | None = field(default_factory=lambda: STORE)
    store_known: bool = True
    events: list[dict[str, Any]] = field(default_factory=list)


def unready_store(message: str) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "False", "reason": "StoreUnavailable", "message": message}
    return {"status": {"conditions": [ready]}}


def event(reason: str, message: str, *, when: float = -60, type_: str = "Warning") -> dict[str, Any]:
    return {"metadata": {}, "type": type_, "reason": reason, "message": message, "eventTime": at(when)}


def last_applied(state: str) -> dict[str, str]:
    return {"kubectl.kubernetes.io/last-applied-configuration": f'{{"spec": {{"desiredState": "{state}"}}}}'}


def verification(outcome: str, message: str) -> dict[str, Any]:
    word = {"Equal": "True", "DocumentsDiffer": "False"}.get(outcome, "Unknown")
    condition = {"type": "Verified", "status": word, "reason": outcome, "message": message}
    condition |= {"lastTransitionTime": at(-7200), "observedGeneration": 3}
    last = {"startTime": at(-7260), "endTime": at(-7200), "outcome": outcome, "message": message}
    return {"conditions": [*WAITING, condition], "lastVerification": last}


DIFFER = (
    "of 72 buckets compared from A to B, 1 is missing. To see them: kubectl rollup verify flights; to repair them, add"
)
CASES = [
    Case(
        "verified, and all is equal",
        observed_job(nextRunTime=at(60), **verification("Equal", "72 buckets are equal")),
        ["The job is started."],
        never=["erif"],
    ),
    Case(
        "verified, and documents differ",
        observed_job(nextRunTime=at(60), **verification("DocumentsDiffer", f"{DIFFER} --repair")),
        [
            "The verification that ended 2 hours ago found differences: ",
            "of 72 buckets compared from A to B, 1 is missing.",
        ],
        cures=["To see them: kubectl rollup verify flights; to repair them, add --repair."],
        events=[event("DocumentsDiffer", "is in the condition already")],
    ),
    Case(
        "could not be verified",
        observed_job(nextRunTime=at(60), **verification("VerificationFailed", "no answer. The next one begins soon")),
        ["The last verification failed 2 hours ago: no answer. The next one begins soon"],
    ),
    Case(
        "just created",
        observed_job(state=None, generation=1, observed=-1, created=-3),
        ["The job was created 3 seconds ago, and the operator has not seen that yet"],
    ),
    Case(
        "created, and no operator",
        observed_job(state=None, generation=1, observed=-1, created=-300),
        [
            "created 5 minutes ago, and no operator has seen that yet",
            "(generation 1, observed -1): the operator may be down",
        ],
        cures=["ROLLUP_NAMESPACES"],
    ),
    Case(
        "just changed",
        observed_job(desired="stopped", state="started", generation=4, observed=3, changed=-4, conditions=WAITING),
        ["The job was changed 4 seconds ago, and the operator has not seen that yet"],
    ),
    Case(
        "changed, and no operator",
        observed_job(desired="stopped", state="indexing", generation=4, observed=3, changed=-90, conditions=WAITING),
        ["changed 90 seconds ago, and no operator has seen that yet", "state, indexing, dates from before that"],
        cures=["The request stands"],
    ),
    Case(
        "never started",
        observed_job(desired=None, state="stopped", conditions=QUIET),
        ["The job was never started: spec.desiredState is not set"],
        cures=["kubectl rollup start flights"],
    ),
    Case(
        "stopped",
        observed_job(desired="stopped", state="stopped", conditions=QUIET),
        ["The job is stopped, as kubectl-rollup requested 10 minutes ago. No queries or writes are running."],
    ),
    Case(
        "stopped after a failed check",
        observed_job(
            desired="stopped",
            state="stopped",
            conditions=QUIET,
            failedCheck={"reason": "SourceNotFound", "message": "no table 'x'"},
        ),
        [
            "The job is stopped, as kubectl-rollup requested 10 minutes ago. No queries or writes are running.",
            "The last check of its source failed: SourceNotFound: no table 'x'.",
        ],
    ),
    Case(
        "stopped, as recorded",
        observed_job(desired=None, state="stopped", desiredState="stopped", conditions=QUIET),
        ["The job is stopped, as last requested. No queries or writes are running."],
    ),
    Case(
        "waits for its tick",
        observed_job(nextRunTime=at(90), conditions=WAITING),
        ["The job is started. Its next run is at 2030-01-01 12:01:30Z (in 90 seconds)."],
    ),
    Case(
        "its tick has passed",
        observed_job(nextRunTime=at(-600), conditions=WAITING),
        ["its run at 2030-01-01 11:50Z is overdue for 10 minutes: the operator may be down."],
        cures=["Check whether the operator runs"],
    ),
    Case(
        "no tick comes",
        observed_job(conditions=WAITING),
        ["The job is started, but its schedule has no future run times."],
        cures=["Change spec.cron"],
    ),
    Case(
        "a run is under way",
        observed_job(
            state="indexing", reported=-12, conditions=conditions("Running", "reading (3 pages so far)", ready=True)
        ),
        ["A run is in progress, as reported 12 seconds ago: reading (3 pages so far)."],
    ),
    Case(
        "a run that is half done",
        observed_job(state="indexing", reported=-12, progress={"percent": 57, "remainingSeconds": 22}),
        ["A run is in progress, 57 % done and about 22 seconds left, as reported 12 seconds ago."],
    ),
    Case(
        "a run that reports no more",
        observed_job(state="indexing", reported=-700, conditions=conditions("Running", "reading", ready=True)),
        ["A run is in progress, as reported 12 minutes ago: reading.", "the last report of this one is 12 minutes old"],
        cures=["Check whether the operator runs"],
    ),
    Case(
        "stopping",
        observed_job(
            desired="stopped", state="stopping", conditions=conditions("Stopping", "the job is being stopped", since=-4)
        ),
        [
            "The job has been stopping for 4 seconds, as kubectl-rollup requested 10 minutes ago.",
            "What is in flight ends",
        ],
    ),
    Case(
        "stopping, then started",
        observed_job(desired="started", state="stopping", conditions=conditions("Stopping", "x", since=-4)),
        ["The job has been stopping for 4 seconds; a start was requested since, and follows the stop."],
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
        [
            "DrainTimeout for 75 seconds; the operator keeps waiting.",
            "it still waits for: writing 4 rows.",
            "The job has been stopping for 75 seconds",
        ],
        cures=["Check what it waits for in store 'default'. The halt goes on"],
    ),
    Case(
        "an invalid spec, started",
        observed_job(state="stopped", conditions=conditions("InvalidSpec", "spec.cron: has 5 fields", stalled=True)),
        [
            "InvalidSpec for 2 minutes; retrying cannot help, something has to change.",
            "spec.cron: has 5 fields.",
            "A start was requested; the job cannot begin until this is solved.",
        ],
        cures=["Fix the fields that the message names"],
    ),
    Case(
        "an invalid spec, stopped",
        observed_job(
            desired="stopped",
            state="stopped",
            conditions=conditions("InvalidSpec", "spec.cron: has 5 fields", stalled=True),
        ),
        ["spec.cron: has 5 fields.", "The job is stopped"],
        cures=["A stop works whatever the spec says"],
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
        ["changed 1 second ago", "this is about an earlier version of the spec"],
        cures=["Fix the fields"],
    ),
    Case(
        "no store",
        observed_job(nextRunTime=at(5), conditions=conditions("StoreNotFound", "no RollupStore 'default' in team")),
        [
            "StoreNotFound for 2 minutes; the operator keeps retrying.",
            "no RollupStore 'default' in team.",
            "The job stays started. Its next run is at 2030-01-01 12:00:05Z",
        ],
        cures=["Create the RollupStore 'default' in namespace team, or name another in spec.storeRef"],
        store=None,
    ),
    Case(
        "no source: the fix is told once",
        observed_job(
            nextRunTime=at(5),
            conditions=conditions("SourceNotFound", nothing_matches("spec.indexPattern 'a/*' matches no file", "")),
        ),
        ["Correct it, or create what it names: the job then goes on by itself."],
        cures=["To run at once after that: kubectl rollup run flights"],
    ),
    Case(
        "a source that may not be read: the fix is told once",
        observed_job(
            nextRunTime=at(5),
            conditions=conditions(
                "ForbiddenSource", "spec.indexPattern '/etc/a' leads out of the folder", stalled=True
            ),
        ),
        ["spec.indexPattern '/etc/a' leads out of the folder."],
        cures=["Correct it, or, once anything is rolled up, create another job."],
    ),
    Case(
        "the store has come",
        observed_job(nextRunTime=at(5), conditions=conditions("StoreNotFound", "no RollupStore 'default' in team")),
        ["StoreNotFound", "RollupStore 'default' exists now"],
        cures=["Create the RollupStore"],
    ),
    Case(
        "no store for the next run",
        observed_job(nextRunTime=at(5), conditions=WAITING),
        ["Its next run is at", "There is no RollupStore 'default' in this namespace, which the next run needs"],
        cures=["Create the RollupStore"],
        store=None,
    ),
    Case(
        "a store that may not be read",
        observed_job(nextRunTime=at(5), conditions=WAITING),
        ["Its next run is at"],
        store=None,
        store_known=False,
    ),
    Case(
        "a store that does not answer",
        observed_job(nextRunTime=at(5), conditions=conditions("StoreUnavailable", "the file is locked by process 7")),
        ["StoreUnavailable", "the file is locked by process 7.", "is not ready: StoreUnavailable: no volume."],
        cures=["which process holds its file"],
        store=unready_store("no volume"),
    ),
    Case(
        "a message is told once",
        observed_job(
            nextRunTime=at(5), conditions=conditions("StoreUnavailable", "store 'default': locked by process 7..")
        ),
        ["store 'default': locked by process 7."],
        never=["7..", "is not ready"],
        cures=["which process holds its file"],
        store=unready_store("locked by process 7"),
    ),
    Case(
        "Git owns the state",
        observed_job(manager="argocd-controller", nextRunTime=at(5), conditions=WAITING),
        ["Git owns spec.desiredState, by argocd-controller", "undone at its next sync"],
        cures=["leave desiredState out of the manifest"],
    ),
    Case(
        "Git owns the rest, and has not synced since",
        observed_job(desired="stopped", state="stopped", applier="argocd-controller", conditions=QUIET),
        [
            "The job is stopped, as kubectl-rollup requested",
            "argocd-controller applies this job from Git, and kubectl-rollup set desiredState 10 minutes ago",
            "the next sync undoes that",
        ],
        cures=["leave desiredState out of the manifest"],
    ),
    Case(
        "Git owns the rest, and leaves the state alone",
        observed_job(desired="stopped", state="stopped", applier="argocd-controller", changed=-7200, conditions=QUIET),
        ["The job is stopped"],
        never=["from Git"],
    ),
    Case(
        "the state was set back",
        observed_job(manager="argocd-controller", nextRunTime=at(5), conditions=WAITING),
        ["Git owns spec.desiredState", "60 seconds ago: DesiredStateReverted: rollup-api asked for stopped"],
        cures=["leave desiredState out of the manifest"],
        events=[event("DesiredStateReverted", "rollup-api asked for stopped, and …")],
    ),
    Case(
        "the manifest says otherwise",
        observed_job(desired="stopped", state="stopped", annotations=last_applied("started"), conditions=QUIET),
        ["The job is stopped", "The manifest that was applied last has desiredState: started"],
        cures=["leave desiredState out of the manifest"],
    ),
    Case(
        "the manifest says the same",
        observed_job(desired="stopped", state="stopped", annotations=last_applied("stopped"), conditions=QUIET),
        ["The job is stopped"],
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
            "The job is being deleted, as requested 20 seconds ago.",
            f"The finalizer {DRAIN} holds it",
            "It waits: the job is being deleted.",
        ],
    ),
    Case(
        "being deleted, and no operator",
        observed_job(state="started", generation=4, observed=3, deleting=-200, finalizers=(DRAIN,), conditions=WAITING),
        ["being deleted", "No operator has seen the deletion yet: the operator may be down."],
        cures=["rollup-operator release --yes"],
    ),
    Case(
        "being deleted, held by another",
        observed_job(state="stopped", deleting=-200, finalizers=("example.com/audit",), conditions=QUIET),
        ["being deleted", "The finalizer example.com/audit holds it too."],
        cures=["Find out who set that finalizer"],
    ),
    Case(
        "the last run failed, and all is well since",
        observed_job(
            nextRunTime=at(5), conditions=WAITING, lastRun=run_ended("Fenced", "another holder took the claim")
        ),
        ["Its next run is at", "The last run was fenced 30 seconds ago: another holder took the claim."],
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
        ["Its next run is at", "60 seconds ago: StopTimedOut: it took long."],
        never=["an earlier one", "long ago", "no news", "no warning"],
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
    for words in case.never:
        assert words not in text
    cures = [sentence.text for sentence in said if sentence.cure]
    assert len(cures) == len(case.cures), text
    for cure, words in zip(cures, case.cures, strict=True):
        assert words in cure


@pytest.mark.parametrize("reason", CURES)
def test_every_trouble_comes_with_its_cure(reason: Reason) -> None:
    stalled = reason in (Reason.SOURCE_INVALID, Reason.JOB_ID_TAKEN, Reason.CONFIG_CHANGED, Reason.TARGET_REPLACED)
    body = observed_job(nextRunTime=at(5), conditions=conditions(reason, "it is so", stalled=stalled))
    said = explain(Seen(body, STORE), NOW)
    assert said[0].text.startswith(f"{reason} for 2 minutes")
    assert said[1].text == "it is so."
    assert said[2].cure
    assert "{" not in said[2].text


@pytest.mark.parametrize("columns", [40, 80, 100, 140])
def test_commands_that_help_are_whole_lines(columns: int) -> None:
    job = JobView.of(observed_job(name="flights-of-a-long-name", spec={"rollupIndex": "flights of a day"}))
    for reason in CURES:
        lines = wrapped(cure := cure_of(reason, job), columns)
        for line in lines:
            whole = line.startswith("kubectl ") and re.search(r" -n [a-z]+( -o yaml)?$", line)
            assert whole or "kubectl" not in line or lines == [cure], (reason, lines)


def test_a_body_that_tells_next_to_nothing_is_explained_too() -> None:
    bare = {"metadata": {"uid": "u", "namespace": "team", "name": "flights", "resourceVersion": "1", "generation": 2}}
    said = explain(Seen(bare, store_known=False), NOW)
    assert "no operator has seen that yet" in said[0].text
