"""Any order of events: clients, watch, runs, time, crashes. `stopped` is always quiet, and what is asked is reached.

The world is a model: one object with versions, one claim, one process at a time that sees bodies late and out of
order. Every decision is taken by the real `decide` and every status made by the real `status_of`.
"""

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rollup_operator.lifecycle.report import Report, difference, status_of
from rollup_operator.lifecycle.states import Act, Decision, Facts, RunFacts, RunKind, Trouble, decide
from rollup_operator.model.base import DRAIN_FINALIZER
from rollup_operator.model.conditions import Reason
from rollup_operator.model.job import DeletionPolicy
from rollup_operator.model.reader import JobView
from rollup_operator.model.schedule import Schedule

SCHEDULE = Schedule.parse("0 * * * * ?")


class Server:
    """The API server's one object."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.version = 1
        self.body: dict[str, Any] | None = {
            "metadata": {"uid": "u", "namespace": "n", "name": "j", "generation": 1, "finalizers": []},
            "spec": {},
            "status": {"observedGeneration": -1},
        }
        self.undelivered: list[dict[str, Any]] = []
        self.stamp()

    def stamp(self) -> None:
        """Give the object its next version and tell the watch."""
        assert self.body is not None
        self.version += 1
        self.body["metadata"]["resourceVersion"] = str(self.version)
        if "deletionTimestamp" in self.body["metadata"] and not self.body["metadata"]["finalizers"]:
            self.body = None
            return
        self.undelivered.append(copy.deepcopy(self.body))

    def ask(self, state: str) -> None:
        assert self.body is not None
        if self.body["spec"].get("desiredState") != state:
            self.body["spec"]["desiredState"] = state
            self.body["metadata"]["generation"] += 1
            self.stamp()

    def delete(self) -> None:
        assert self.body is not None
        if "deletionTimestamp" not in self.body["metadata"]:
            self.body["metadata"]["deletionTimestamp"] = "x"
            self.body["metadata"]["generation"] += 1
            self.stamp()

    def write(self, version: int, change: Any) -> dict[str, Any] | None:
        """Change the object if it still is of that version; None: conflict or gone."""
        if self.body is None or self.version != version:
            return None
        change(self.body)
        self.stamp()
        return copy.deepcopy(self.body)


class Process:
    """One operator process: what it has seen, and its one run task."""

    def __init__(self, holder: int, body: dict[str, Any]) -> None:
        self.holder = holder
        self.view = JobView.of(body)
        self.facts = Facts(schedule=SCHEDULE, deletion_policy=DeletionPolicy.DELETE)
        self.run: RunKind | None = None
        self.began = self.halted = None  # type: datetime | None
        self.gone = False

    def observe(self, body: dict[str, Any]) -> None:
        view = JobView.of(body)
        if view.age > self.view.age:
            self.view = view


class World(RuleBasedStateMachine):
    """Rules are what can happen; the invariant is the promise."""

    @initialize()
    def begin(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.server = Server(self.now)
        self.claim: int | None = None  # which process holds the claim in the store
        self.holders = 0
        self.process: Process | None = None

    # Clients

    @precondition(lambda self: self.server.body is not None)
    @rule(state=st.sampled_from(["started", "stopped"]))
    def ask(self, state: str) -> None:
        self.server.ask(state)

    @precondition(lambda self: self.server.body is not None)
    @rule(often=st.integers(0, 9))
    def delete(self, often: int) -> None:
        if often == 0:
            self.server.delete()

    # The watch

    @precondition(lambda self: self.process is not None and self.server.undelivered)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        """An event arrives: any of those under way, old ones too."""
        at = data.draw(st.integers(0, len(self.server.undelivered) - 1))
        self.process.observe(self.server.undelivered.pop(at))

    @precondition(lambda self: self.process is not None and self.server.body is None)
    @rule()
    def notice_deletion(self) -> None:
        self.process.gone = True

    # Time and processes

    @rule(seconds=st.sampled_from([0.05, 0.2, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.process is not None)
    @rule(often=st.integers(0, 2))
    def crash(self, often: int) -> None:
        """The process dies: its run with it, its claim stays."""
        if often == 0:
            self.process = None

    @precondition(lambda self: self.process is None and self.server.body is not None)
    @rule()
    def start(self) -> None:
        self.holders += 1
        self.process = Process(self.holders, copy.deepcopy(self.server.body))

    @precondition(lambda self: self.process is not None and self.process.run is not None)
    @rule(good=st.booleans())
    def run_ends(self, good: bool) -> None:
        self.end_run(good)

    @precondition(lambda self: self.process is not None)
    @rule(fault=st.sampled_from(["none", "none", "none", "lost request", "lost answer"]))
    def turn(self, fault: str) -> None:
        """The actor has a turn; its write may be lost on the way, or its answer."""
        self.act(arrives=fault != "lost request", answered=fault == "none")

    @precondition(lambda self: self.process is not None)
    @rule(turns=st.integers(1, 6))
    def go_on_undisturbed(self, turns: int) -> None:
        """For a while everything arrives."""
        for _ in range(turns):
            for body in self.server.undelivered:
                self.process.observe(body)
            self.server.undelivered.clear()
            self.act()

    @precondition(lambda self: self.process is not None and self.process.run is None and self.server.body is not None)
    @rule()
    def reach_a_run(self) -> None:
        """The job is asked to run and does, if it can: the moments after this are the interesting ones."""
        self.server.ask("started")
        self.go_on_undisturbed(3)
        self.wait(61.0)
        self.go_on_undisturbed(2)

    # What the actor does

    def decision(self) -> Decision:
        p = self.process
        assert p is not None
        run = None
        if p.run is not None:
            assert p.began is not None
            halted = None if p.halted is None else (self.now - p.halted).total_seconds()
            run = RunFacts(p.run, (self.now - p.began).total_seconds(), halted, "reading")
        return decide(p.view, replace(p.facts, run=run, gone=p.gone), self.now)

    def act(self, *, arrives: bool = True, answered: bool = True) -> None:
        p = self.process
        assert p is not None
        decision = self.decision()
        p.facts = replace(p.facts, next_tick=decision.next_tick)
        match decision.act:
            case Act.FORGET:
                return
            case Act.RUN:
                p.run, p.began, p.halted = RunKind.INDEX, self.now, None
                p.facts = replace(p.facts, settled=False)
                self.claim = p.holder
            case Act.SETTLE:
                p.run, p.began, p.halted = RunKind.SETTLE, self.now, None
            case Act.HALT:
                p.halted = self.now
        change = self.change(decision)
        if change is None or not arrives:
            return
        answer = self.server.write(p.view.version, change)
        if answered and answer is not None:
            p.observe(answer)

    def change(self, decision: Decision) -> Any:
        p = self.process
        assert p is not None
        if decision.act is Act.HOLD:
            return lambda body: body["metadata"]["finalizers"].append(DRAIN_FINALIZER)
        if decision.act is Act.LET_GO:
            return lambda body: body["metadata"]["finalizers"].remove(DRAIN_FINALIZER)
        if decision.show is None:
            return None
        status = status_of(p.view, decision, Report.published(p.view.status), self.now)
        if not difference(p.view.raw_status, status):
            return None
        return lambda body: body.update(status=status)

    def end_run(self, good: bool) -> None:
        p = self.process
        assert p is not None
        kind, p.run, p.halted = p.run, None, None
        if kind is RunKind.SETTLE and not good:
            p.facts = replace(p.facts, trouble=Trouble(Reason.STORE_UNAVAILABLE, "x", transient=True), retry_in=0.0)
            return
        # An index run releases its claim whatever became of its pages.
        self.claim = None
        trouble = None if good else Trouble(Reason.RUN_FAILED, "x", transient=True)
        p.facts = replace(
            p.facts, settled=True, trouble=trouble, retry_in=None if good else 0.0, cleaned=p.view.deleting
        )

    # The promises

    @invariant()
    def stopped_means_quiet(self) -> None:
        if not hasattr(self, "server") or self.server.body is None:
            return
        status = self.server.body["status"]
        if status.get("state") == "stopped":
            assert self.claim is None
            assert self.process is None or self.process.run is None

    @invariant()
    def an_object_goes_only_when_its_job_is_quiet(self) -> None:
        if hasattr(self, "server") and self.server.body is None:
            assert self.claim is None
            assert self.process is None or self.process.run is None

    def teardown(self) -> None:
        """Once faults stop and nobody asks for more, what is asked is reached, and then nothing is written."""
        if not hasattr(self, "server"):
            return
        if self.process is None and self.server.body is not None:
            self.start()
        for _ in range(40):
            if self.server.body is None:
                return
            for body in self.server.undelivered:
                self.process.observe(body)
            self.server.undelivered.clear()
            self.act()
            if self.process.run is not None:
                self.end_run(True)
        body = self.server.body
        assert body is not None
        assert "deletionTimestamp" not in body["metadata"]
        assert body["status"]["observedGeneration"] == body["metadata"]["generation"]
        assert body["status"]["state"] == body["spec"].get("desiredState", "stopped")
        version = self.server.version
        for _ in range(5):
            self.act()
        assert self.server.version == version


World.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestAnyOrderOfEvents = World.TestCase
