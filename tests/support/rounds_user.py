"""One who stops, starts, edits, deletes and re-creates one job, and holds the operator to each answer."""

import http.client
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rollup_operator.stores.opensearch import records
from support.api import Api, Body
from support.operator import Answer, Operator
from support.rounds_source import Key, Source, hourly, key_of, rolled
from support.rounds_traffic import Traffic
from support.store_drill import whole_tasks
from support.store_http import StoreHttp
from support.store_proxy import Request
from support.waiting import handled, request_run, run_completed, status

BOUND = 40.0
"""Seconds in which a job must have reacted once nothing goes wrong any more."""


@dataclass
class Scene:
    """What all users share."""

    api: Api
    node: StoreHttp
    traffic: Traffic
    replicas: Sequence[Operator]
    thawed: list[float] = field(default_factory=list)
    """When a replica that had been frozen went on."""
    counts: Counter[str] = field(default_factory=Counter)

    def is_of_thawed(self, request: Request) -> bool:
        """Whether it is what a frozen process had handed to its connection before; searches end with their client."""
        return request.ended is not None and any(
            -0.1 < request.arrived - moment < 2 and request.ended - request.arrived < 1 for moment in self.thawed
        )


@dataclass
class User:
    """The only one who asks for anything of its job; in one thread at a time."""

    scene: Scene
    name: str
    source: Source
    target: str
    asked: str = "stopped"
    """What was asked last and is recorded for certain."""
    perhaps: set[str] = field(default_factory=set)
    """What calls without a certain answer may have asked since the last check."""
    deleting: bool = False
    requests: int = 0

    # -- a round ---------------------------------------------------------------------------------------------------

    def create(self, choose: random.Random, asked: str | None = None) -> None:
        """Create the job, with the identity that it always has."""
        self.asked, self.deleting = asked or choose.choice(("started", "started", "stopped")), False
        self.scene.api.create(
            hourly(
                self.name,
                self.source,
                self.target,
                desiredState=self.asked,
                pageSize=choose.randint(3, 20),
                parallelism=choose.choice((1, 1, 4)),
                deletionPolicy=choose.choice(("Retain", "Delete")),
            )
        )
        self.scene.counts["creations"] += 1

    def act(self, choose: random.Random, until: float) -> None:
        """Do what comes to mind, until a time of time.monotonic()."""
        acts: list[Callable[[random.Random], None]] = [
            self.write,
            self.write,
            self.call,
            self.call,
            self.waiting_stop,
            self.waiting_stop,
            self.burst,
            self.edit,
            self.request_run,
            self.delete,
        ]
        while time.monotonic() < until:
            if self.deleting and not self.recreated(choose):
                time.sleep(0.1)  # the deletion has to wait until nothing goes wrong
                continue
            choose.choice(acts)(choose)
            # No event marks a random moment.
            time.sleep(choose.uniform(0, 0.6))

    def write(self, choose: random.Random) -> None:
        """Start or stop by a patch."""
        self.asked = choose.choice(("started", "stopped"))
        self.scene.api.patch_job(self.name, {"desiredState": self.asked})
        self.scene.counts["patches"] += 1

    def burst(self, choose: random.Random) -> None:
        for _ in range(choose.randint(2, 6)):
            self.write(choose)

    def call(self, choose: random.Random) -> None:
        """Start or stop by a call of either endpoint."""
        verb = choose.choice(("start", "stop"))
        answer = self.post(choose, f"_{verb}")
        if answer is not None and answer.status == 200:
            self.certain(verb)

    def waiting_stop(self, choose: random.Random) -> None:
        """Stop, wait for it, and look whether all is quiet, as the answer says."""
        timeout = choose.randint(6000, 9000)  # in effect another each time, since a stop that is repeated is refused
        answer = self.post(choose, f"_stop?wait_for_completion=true&timeout={timeout}ms")
        answered = time.monotonic()
        if answer is None or (answer.status != 200 and answer.body["error"]["type"] != "timeout_exception"):
            return
        self.certain("stop")
        self.scene.counts[f"waiting stops: {answer.status}"] += 1
        if answer.status != 200 or "started" in self.perhaps:
            return
        assert answer.body == {"stopped": True}
        body = self.scene.api.get(self.name)
        assert status(body)["state"] == "stopped", body
        assert status(body)["observedGeneration"] >= body["metadata"]["generation"], body
        self.assert_free()
        time.sleep(choose.uniform(0, 0.5))
        self.assert_quiet(body["metadata"]["uid"], answered)

    def edit(self, choose: random.Random) -> None:
        spec = choose.choice(
            (
                {"pageSize": choose.randint(3, 20)},
                {"parallelism": choose.choice((1, 2, 4))},
                {"cron": choose.choice(("* * * * * ?", "*/2 * * * * ?"))},
                {"deletionPolicy": choose.choice(("Retain", "Delete"))},
            )
        )
        self.scene.api.patch_job(self.name, spec)
        self.scene.counts["edits"] += 1

    def request_run(self, choose: random.Random) -> None:
        self.requests += 1
        request_run(self.scene.api, self.name, f"{self.requests}")

    def delete(self, choose: random.Random) -> None:
        self.scene.api.delete(self.name)
        self.deleting = True
        self.scene.counts["deletions"] += 1
        if choose.random() < 0.7:
            self.recreated(choose, 3.0)

    def recreated(self, choose: random.Random, seconds: float = 0.0) -> bool:
        """Create the job once more if the one before has gone within so long."""
        deadline = time.monotonic() + seconds
        while self.scene.api.find(self.name) is not None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        self.perhaps.clear()  # a call for the one before does not reach this one
        self.create(choose)
        return True

    # -- calls -----------------------------------------------------------------------------------------------------

    def post(self, choose: random.Random, call: str) -> Answer | None:
        """Call either replica; None where it is not certain what became of it, or it was refused."""
        operator = choose.choice(self.scene.replicas)
        verb = "stop" if call.startswith("_stop") else "start"
        path = f"/namespaces/{self.scene.api.namespace}/_rollup/job/{self.name}/{call}"
        try:
            answer = operator.post(path, timeout=12.0)
        except (OSError, http.client.HTTPException, ValueError) as e:
            self.scene.counts[f"calls: {'refused' if isinstance(e, ConnectionRefusedError) else 'broken'}"] += 1
            if not isinstance(e, ConnectionRefusedError):
                self.perhaps.add(_state(verb))
            return None
        self.scene.counts[f"calls: {answer.status}"] += 1
        if answer.status >= 500 and answer.status != 503:  # 503: it was certainly not written
            self.perhaps.add(_state(verb))
        return answer

    def certain(self, verb: str) -> None:
        self.asked = _state(verb)

    # -- what must hold --------------------------------------------------------------------------------------------

    def assert_free(self) -> Body | None:
        """Assert that nobody holds the job's claim, and that the node does nothing of the job; return the record."""
        id_ = records.document_id((self.target, self.name))
        record: Body | None = (self.scene.node.get(records.ALIAS, id_) or {}).get("_source")
        if record is not None:
            assert record["holder"] is None, record
        return record

    def assert_quiet(self, uid: str, since: float) -> None:
        """Assert that nothing was done for a job since a time of time.monotonic(), at which it was stopped."""
        assert self.scene.traffic.writes(uid, since) == []
        assert self.scene.traffic.searches(uid, since, self.scene.is_of_thawed) == []
        if not any(since - moment < 3 for moment in self.scene.thawed):
            assert whole_tasks(self.scene.node, f"rollup/{uid}/") == []
        self.scene.counts["stops seen quiet"] += 1

    def check(self, choose: random.Random) -> None:
        """Assert that all is as asked, now that nothing goes wrong."""
        api = self.scene.api
        if self.deleting:
            api.wait_gone(self.name, BOUND)
            self.recreated(choose)
        body = api.get(self.name)
        want = body["spec"]["desiredState"]
        assert want == self.asked or want in self.perhaps, (
            f"{self.name}: {self.asked} was recorded last, then perhaps {self.perhaps}, and it is {want}"
        )
        self.asked = want
        self.perhaps.clear()
        generation = api.patch_job(self.name, {"pageSize": choose.randint(21, 60)})["metadata"]["generation"]
        shown = ("stopped",) if want == "stopped" else ("started", "indexing")

        def reacted(body: Body) -> bool:
            return status(body).get("observedGeneration", 0) >= generation and status(body)["state"] in shown

        body = api.wait(self.name, reacted, BOUND)
        decided = time.monotonic()
        if want == "started":
            self.check_complete()
        else:
            record = self.assert_free()
            last = key_of((record or {}).get("position"))
            self.check_documents(last)
            if record is not None:
                assert record["stats"]["documents_processed"] == self.source.rows(last), record
            position = status(body).get("position")  # none, where a job that was re-created has never claimed
            assert position is None or key_of(position) == last, (body, record)
            self.assert_quiet(body["metadata"]["uid"], decided)
        self.scene.counts["checks"] += 1

    def check_complete(self) -> None:
        """Request a run of the started job, and assert that it leads to what the source says."""
        self.requests += 1
        wanted = f"{self.requests}"
        request_run(self.scene.api, self.name, wanted)
        end = self.source.end

        def done(body: Body) -> bool:
            position = (status(body).get("position") or {}).get("ts.date_histogram", -1)
            idle = run_completed(body) and status(body)["state"] == "started"
            return position == end and idle and handled(wanted)(body)

        body = self._wait_while_it_advances(done)
        self.check_documents(key_of(status(body)["position"]))
        assert status(body)["stats"]["documentsProcessed"] == self.source.rows(), body

    def _wait_while_it_advances(self, done: Callable[[Body], bool]) -> Body:
        """Wait for a run over a source that grows from round to round, perhaps behind others for the store's one place.

        Within each BOUND it or one of those must come further.
        """
        api, came_to = self.scene.api, None
        while True:
            try:
                return api.wait(self.name, done, BOUND)
            except AssertionError:
                jobs = api.request("GET", api.path("RollupJob"))["items"]
                positions = {body["metadata"]["name"]: status(body).get("position") for body in jobs}
                if positions == came_to:
                    raise
                came_to = positions

    def check_documents(self, last: Key) -> None:
        """Assert that the documents up to a position are what the rows say, and that none after it says otherwise."""
        found = rolled(self.scene.node, self.target, self.name)
        truth = self.source.summary()
        due = {key: values for key, values in truth.items() if key <= last}
        lost = {key: values for key, values in due.items() if key not in found.values}
        wrong = {key: (values, truth.get(key)) for key, values in found.values.items() if values != truth.get(key)}
        assert (lost, wrong) == ({}, {}), f"{self.name} at {last}; epochs {found.versions}"
        # An epoch begins where the one before came to. An earlier one behind it is of a run that was fenced, and wrote.
        versions = [found.versions[key] for key in sorted(due)]
        assert versions == sorted(versions), f"{self.name}: epochs of documents go back: {found.versions}"
        claimed = {term.epoch for term in self.scene.traffic.terms().get((self.target, self.name), ())}
        assert claimed.issuperset(found.versions.values()), (found.versions, claimed)
        self.scene.counts["documents compared"] += len(due)


def _state(verb: str) -> str:
    return {"start": "started", "stop": "stopped"}[verb]
