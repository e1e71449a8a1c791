"""One schedule, from the first manifest to the moment at which everything asked for must have come true."""

import math
import random as global_random
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from random import Random
from typing import Any

from rollup_operator.kube.client import KubeError
from rollup_operator.model.base import API_VERSION, RUN_REQUESTED_AT
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import VerificationOutcome
from rollup_operator.stores.opensearch import quiet
from simulation import source
from simulation.api_server import JOBS, LEASES, STORES, ApiServer, Change
from simulation.clock import Clock, Spins, virtual_time
from simulation.endpoint import Asked
from simulation.kube import Look
from simulation.network import BREEZE, CALM, ROUGH, STORM, Way, Weather
from simulation.promises import Job, Promises
from simulation.replica import LEASE_NAME, SWEEP_SECONDS, Replica
from simulation.schedule import ALL, Schedule, Step
from simulation.search_cluster import DATE, SOURCE_INDEX, SearchCluster
from simulation.store import epochs_in_virtual_time, evictions_are_judged

LEASE_SECONDS = 15.0

WARM_UP = 3.0
"""Seconds from the beginning of the replicas to the first step."""

LONGEST_TAIL = 400.0
"""Seconds after the last fault by which everything asked for has come true: a lease, a list, and a longest retry."""

IDLE = 4.0
"""Seconds after that, in which nothing is written for a stopped job."""

FLIPS, PROMPT = 4, 6.0
"""How often jobs are asked for another state once all is calm, and within how many seconds that comes true. A sweep
comes much later: it must not be needed."""

DELIVERY = 6.0
"""Seconds by which a watch event may be late."""

PERIOD = 4
"""Seconds between two ticks of a job."""

DELAY = 4
"""Seconds that a job waits for late rows; more than the clocks of replicas are wrong by."""


FOREVER = "9999-01-01T00:00:00Z"

UNREADABLE = 20_000
"""A page size that this version refuses, and an older one may have taken."""


class Broken(Exception):
    """A promise was broken. The text says which, and when."""


class World:
    """API server, cluster, two replicas, and their clients."""

    def __init__(self, schedule: Schedule, tell: Callable[[float, str, str], None] | None = None) -> None:
        """`tell` is called with time, who, and what for each thing that happens."""
        self.schedule, self._tell = schedule, tell
        self.clock = Clock()
        random = Random(f"world {schedule.seed}")
        self.api_way, store_way = Way(random, CALM), Way(random, CALM)
        self.promises = Promises(self, self.fail)
        self.api = ApiServer(self._changed)
        self.cluster = SearchCluster(self.clock, store_way, self.promises)
        self.replicas: list[Replica] = []
        self._dead: list[Replica] = []
        """Kept, because what is left of a process must not be taken apart while the world goes on."""
        self.calls: list[Asked] = []
        self.problems: list[str] = []
        self._born = 0
        self._rough_until = 0.0
        """Until when requests to the API server were lost."""
        self._store_gone_at = -1e9
        self._calm_since = math.inf
        self._lease_deleted_at = -math.inf
        self._is_restored = False
        self._backup = self.api.backup()
        self.limits: list[tuple[float, int]] = []
        """From when on how many runs a store allowed."""

    def run(self) -> None:
        """Run the schedule. Raises Broken."""
        global_random.seed(self.schedule.seed)  # the product's jitter
        with virtual_time(self.clock), epochs_in_virtual_time(), evictions_are_judged(self.promises.evicts):
            try:
                self._begin()
                for step in self.schedule.steps:
                    self._advance(WARM_UP + step.at)
                    self.story("", f"-- {step}")
                    getattr(self, f"do_{step.do}")(step)
                    self._check()
                self._end_faults()
                self._come_true()
                if self.schedule.flips:
                    self._flip()
                self._be_idle()
            except Spins as e:
                raise Broken(str(e)) from e
            finally:
                for replica in tuple(self.replicas):
                    self._bury(replica)

    # What others tell the world

    @property
    def is_logged(self) -> bool:
        """Whether somebody reads the story."""
        return self._tell is not None

    def story(self, who: str, what: str) -> None:
        """Write a line of the story, where somebody reads it."""
        if self._tell is not None:
            self._tell(self.clock.now, who, what)

    def fail(self, problem: str) -> None:
        """A promise was broken."""
        self.story("!!!", problem)
        self.problems.append(f"at {self.clock.now:.3f} s: {problem}")

    def looks(self, replica: str) -> list[Look]:
        """Return the GETs that a replica has sent."""
        return next((r.link.looks for r in self.replicas if r.name == replica), [])

    def is_checking(self, replica: str, uid: str) -> bool:
        """Whether a replica has sent a request to check or to verify a job that is not over."""
        wire = next((r.wire for r in self.replicas if r.name == replica), None)
        asked = (quiet.opaque_id(uid, 0), quiet.verification_id(uid))
        return wire is not None and any(wire.is_asked_for(opaque_id) for opaque_id in asked)

    def is_undisturbed(self, name: str) -> bool:
        """Whether nothing has kept a replica from its lease for as long as that lasts."""
        replica = next((r for r in self.replicas if r.name == name), None)
        calm = self.clock.now > self._rough_until + LEASE_SECONDS
        return calm and replica is not None and self.clock.now > replica.disturbed_at + LEASE_SECONDS

    def ended(self, replica: Replica) -> None:
        """A replica has ended in order."""
        self.story(replica.name, "has ended")
        self._bury(replica)
        self._add_replica()

    def restart(self, replica: Replica) -> None:
        """A replica ends in order, and begins again."""
        replica.terminate()

    # Steps: users

    def do_create(self, step: Step) -> None:
        if self.api.find(JOBS, step.on) is None:
            self.api.create(JOBS, self.manifest(step.on), "kubectl")

    def do_ask(self, step: Step) -> None:
        self._edit(step.on, spec={"desiredState": step.value})

    def do_edit(self, step: Step) -> None:
        body = self.api.find(JOBS, step.on)
        if body is None:
            return
        spec = body["spec"]
        date = spec["groups"]["dateHistogram"]
        change: dict[str, Any] = {
            "pageSize": {"pageSize": spec["pageSize"] % 4 + 1},
            "cron": {"cron": _every(5 if spec["cron"] == _every(PERIOD) else PERIOD)},
            "delay": {
                "groups": {"dateHistogram": {"delay": f"{DELAY + 1}s" if date["delay"] == f"{DELAY}s" else f"{DELAY}s"}}
            },
            "verify": {"verify": None if "verify" in spec else {"cron": _every(3)}},
            "unreadable": {"pageSize": UNREADABLE if spec["pageSize"] != UNREADABLE else 2},
            "drainTimeoutSeconds": {"drainTimeoutSeconds": 1 + spec.get("drainTimeoutSeconds", 30) % 3},
        }
        self._edit(step.on, spec=change[step.value])

    def do_run_now(self, step: Step) -> None:
        self._edit(step.on, annotations={RUN_REQUESTED_AT: f"{self.clock.now:.3f}"})

    def do_run_now_all(self, _: Step) -> None:
        for body in self.api.all(JOBS):
            self.do_run_now(Step(0, "", body["metadata"]["name"]))

    def do_delete(self, step: Step) -> None:
        if self.api.find(JOBS, step.on) is not None:
            self.api.delete(JOBS, step.on, "kubectl")

    def do_replace(self, step: Step) -> None:
        self.do_delete(step)
        self.do_create(step)

    def do_lose_status(self, step: Step) -> None:
        if self.api.find(JOBS, step.on) is not None:
            self.api.lose_status(step.on, "restore")

    def do_backup(self, _: Step) -> None:
        self._backup = self.api.backup()

    def do_restore(self, step: Step) -> None:
        """Put etcd back to what the last backup holds. Every watch breaks off.

        `cold`: all replicas die first, and what comes in their place knows of no restore.
        """
        if step.value == "cold":
            for replica in tuple(self.replicas):
                self._bury(replica)
                self.clock.after(1.0, self._add_replica)
        for replica in self.replicas:
            for watch in replica.link.watches:
                watch.broken()
                self.clock.after(self._watch_delay(), watch.resume)
        self._is_restored = True
        self.api.restore(self._backup)
        self._note_limit(self.api.find(STORES, "default"))
        self.promises.restored()

    # Steps: clients of the endpoint

    def do_call_stop(self, step: Step) -> None:
        number, timeout = step.value
        self._call("stop", number, step.on, timeout)

    def do_call_start(self, step: Step) -> None:
        number, _ = step.value
        self._call("start", number, step.on, None)

    # Steps: stores

    def do_edit_store(self, step: Step) -> None:
        if self.api.find(STORES, "default") is not None:
            self.api.edit(STORES, "default", "kubectl", spec={"maxConcurrentRuns": step.value})

    def do_delete_store(self, step: Step) -> None:
        if self.api.find(STORES, "default") is not None:
            self.api.delete(STORES, "default", "kubectl")

    @property
    def store_gone_at(self) -> float:
        """When there was no store last."""
        return self.clock.now if self.api.find(STORES, "default") is None else self._store_gone_at

    def do_create_store(self, step: Step) -> None:
        if self.api.find(STORES, "default") is None:
            self._store_gone_at = self.clock.now
            self.api.create(STORES, _store(), "kubectl")

    # Steps: faults

    def do_kill(self, step: Step) -> None:
        replica = self._replica(step.on)
        if replica is not None:
            self._bury(replica)
            self.clock.after(step.value, self._add_replica)

    def do_terminate(self, step: Step) -> None:
        replica = self._replica(step.on)
        if replica is not None:
            replica.terminate()

    def do_freeze(self, step: Step) -> None:
        replica = self._replica(step.on)
        if replica is not None and not replica.loop.frozen:
            replica.loop.freeze()
            self.clock.after(step.value, self._thaw, replica)
            replica.disturbed_at = self.clock.now + step.value

    def do_cut_api(self, step: Step) -> None:
        replica = self._replica(step.on)
        if replica is not None and not replica.link.cut:
            replica.link.set_cut(True)
            self.clock.after(step.value, replica.link.set_cut, False)
            replica.disturbed_at = self.clock.now + step.value

    def do_cut_store(self, step: Step) -> None:
        replica = self._replica(step.on)
        if replica is not None:
            self._cut_store(replica, True)
            self.clock.after(step.value, self._cut_store, replica, False)

    def do_watch_gap(self, step: Step) -> None:
        replica = self._replica(step.on)
        if replica is not None and not replica.link.cut:
            seconds, expired = step.value
            for watch in replica.link.watches:
                watch.broken()
                self.clock.after(seconds, lambda watch=watch: watch.resume(expired=expired))

    def do_miss(self, step: Step) -> None:
        """The watch of the jobs says nothing of the next change."""
        if (replica := self._replica(step.on)) is not None:
            for watch in replica.link.watches:
                watch.misses += watch.plural == JOBS

    def do_step_clock(self, step: Step) -> None:
        replica = self._replica(step.on)
        if replica is not None:
            replica.loop.wall_offset = step.value

    def do_delete_lease(self, step: Step) -> None:
        if self.api.find(LEASES, LEASE_NAME) is not None:
            self.api.delete(LEASES, LEASE_NAME, "kubectl")
            self._lease_deleted_at = self.clock.now
            if not all(self._has_read_the_lease(replica) for replica in self.replicas):
                self.promises.two_leaders_until = self.clock.now + LEASE_SECONDS
            self.promises.leaders_unknown_until = self.clock.now + LEASE_SECONDS

    def _has_read_the_lease(self, replica: Replica) -> bool:
        return any(look.name == LEASE_NAME and look.answered is not None for look in replica.link.looks)

    def do_weather(self, step: Step) -> None:
        weather = {"calm": CALM, "breeze": BREEZE, "rough": ROUGH, "storm": STORM}[step.value]
        self._set_weather(weather, weather)

    # The course of a schedule

    def _begin(self) -> None:
        self.api.create(STORES, _store(), "kubectl")
        for name in self.schedule.jobs:
            self.api.create(JOBS, self.manifest(name), "kubectl")
        self._backup = self.api.backup()
        for _ in range(2):
            self._add_replica()
        self._advance(WARM_UP)
        self._set_weather(self.schedule.api, self.schedule.store)

    def _end_faults(self) -> None:
        self.story("", "-- faults end")
        self._calm_since = self.clock.now
        self._set_weather(CALM, CALM)
        for replica in self.replicas:
            self._thaw(replica)
            replica.link.set_cut(False)
            replica.wire.cut = False
            replica.loop.wall_offset = 0.0
            for watch in replica.link.watches:
                watch.misses = 0
                watch.resume(expired=True)
        self.do_create_store(Step(0, ""))

    def _come_true(self) -> None:
        end = self.clock.now + LONGEST_TAIL
        self._advance(self.clock.now + 2)
        while missing := self.missing():
            if self.clock.now > end:
                raise Broken(f"{LONGEST_TAIL:g} s after the last fault: {'; '.join(missing)}")
            self._advance(self.clock.now + 2)
        self._documents_are_true()
        self._check()

    def _let_requests_end(self) -> None:
        """Wait until no request from the time of the faults is on its way, and for what follows from the last.

        Of jobs that an answer shows which is older than a restore, a replica hears with its next sweep.
        """
        while any(self._is_old(replica) for replica in self.replicas):
            self._advance(self.clock.now + 1)
        self._advance(self.clock.now + PROMPT + (SWEEP_SECONDS if self._is_restored else 0.0))

    def _is_old(self, replica: Replica) -> bool:
        sent = [*replica.link.sent.values(), *(flight.sent for flight in replica.wire.flights)]
        return any(moment < self._calm_since for moment in sent)

    def _flip(self) -> None:
        """Ask for one state and the other in quick succession: where nothing is lost, that is a matter of seconds."""
        self._let_requests_end()
        self.story("", "-- flips")
        names = [body["metadata"]["name"] for body in self.api.all(JOBS)]
        random = self.api_way.random
        for _ in range(FLIPS):
            for name in names:
                self._edit(name, spec={"desiredState": random.choice(("started", "stopped"))})
                self._advance(self.clock.now + random.choice((0.0, 0.002, 0.008, 0.03)))
        self._advance(self.clock.now + PROMPT)
        if missing := self.missing(rolled_up=False):
            raise Broken(f"{PROMPT:g} s after the last change: {'; '.join(missing)}")

    def _be_idle(self) -> None:
        self._let_requests_end()
        stopped = [j for j in self.promises.jobs.values() if not j.gone and j.now.state == "stopped"]
        # A claim that a dead process sent may land after the leader's first list: its next list settles the job.
        jobs = [job for job in stopped if not (self.cluster.record(job.key) or {}).get("holder")]
        before = {job.uid: job.writes for job in jobs}
        self._advance(self.clock.now + IDLE)
        for job in jobs:
            if job.writes != before[job.uid] and job.asked_at < self.clock.now - IDLE - DELIVERY:
                raise Broken(f"{job.uid}: a stopped job of which nothing is asked got a new status")
        for call in self.calls:
            if call.ended is None and any(r.name == call.replica for r in self.replicas):
                raise Broken(f"{call.verb} {call.job_id} of {call.began:.3f} s has no answer from {call.replica}")

    def missing(self, *, rolled_up: bool = True) -> list[str]:
        """Return what has not come true yet of what is asked; without `rolled_up`, how far jobs have come apart."""
        leaders = [r for r in self.replicas if r.gate.open and not r.gate.draining]
        if len(leaders) != 1:
            return [f"{len(leaders)} replicas lead"]
        missing = []
        jobs = {body["metadata"]["uid"]: JobView.of(body) for body in self.api.all(JOBS)}
        for replica in self.replicas:
            known = {view.uid for view in replica.index.views()}
            if known != jobs.keys():
                missing.append(f"{replica.name} knows {sorted(known)}, and {sorted(jobs)} exist")
        waiting = [c for c in self.calls if c.ended is None and any(r.name == c.replica for r in self.replicas)]
        missing += [f"{call.verb} {call.job_id} of {call.began:.3f} s has no answer" for call in waiting]
        for uid, job in jobs.items():
            missing += self._missing_of(job, self.promises.jobs[uid], rolled_up=rolled_up)
        return missing

    def _missing_of(self, view: JobView, job: Job, *, rolled_up: bool) -> list[str]:
        status = view.status
        if view.deleting:
            return [f"{view.uid} is still being deleted, {status.state}"]
        if status.observed_generation != view.generation:
            return [f"{view.uid} is at generation {view.generation}, and {status.observed_generation} is observed"]
        record = self.cluster.record(job.key)
        if status.state == "stopped" and record and record["holder"] and record["owner"]["uid"] == view.uid:
            return [f"{view.uid} reads stopped, and {record['holder']} holds its claim"]
        handled = view.run_request in (None, status.last_handled_run_request)
        if not handled and not job.is_unreadable:
            return [f"{view.uid} is asked to run at {view.run_request}, and nobody has handled that"]
        if view.desired.value == "stopped":
            return [] if status.state == "stopped" else [f"{view.uid} is {status.state}, and asked to stop"]
        if status.state not in ("started", "indexing") and not job.is_unreadable:
            return [f"{view.uid} is {status.state}, and asked to start"]
        if any(c.type == "Stalled" for c in status.conditions):
            return [] if self._has_twin(job) or job.is_unreadable else [f"{view.uid} is stalled: {status.conditions}"]
        ahead = datetime.fromisoformat(status.next_run_time or FOREVER) - self.clock.wall()
        if ahead > timedelta(seconds=2 * PERIOD):
            return [f"{view.uid} is started, and runs next at {status.next_run_time}"]
        if not rolled_up:
            return []
        if record is None or record["owner"]["uid"] != view.uid:
            return [f"{view.uid} is started, and has not claimed its job"]
        position = (record["position"] or {}).get(f"{DATE}.date_histogram", 0)
        if "verify" in job.spec and (verified := status.last_verification) is None:
            return [f"{view.uid} was never verified"]
        if "verify" in job.spec and verified.outcome is VerificationOutcome.FAILED:
            return [f"{view.uid} could not be verified: {verified.message}"]
        if position < self.cluster.now_ms() - (DELAY + 2 + 2 * PERIOD + 10) * 1000 - source.WIDTH:
            return [f"{view.uid} is started, and has come to {position} only"]
        return []

    def _has_twin(self, job: Job) -> bool:
        return any(other.key == job.key and other.name != job.name for other in self.promises.jobs.values())

    def _documents_are_true(self) -> None:
        for job in self.promises.jobs.values():
            record = self.cluster.record(job.key)
            if job.gone or record is None or record["owner"]["uid"] != job.uid or record["position"] is None:
                continue
            for bucket in source.until(record["position"][f"{DATE}.date_histogram"]):
                if (rows := self.promises.written(job.key, bucket)) != source.count(bucket):
                    self.fail(f"{job.uid}: the document of {bucket} says {rows} instead of {source.count(bucket)}")

    # Inside

    def manifest(self, name: str) -> dict[str, Any]:
        """Return the manifest of a job."""
        spec = {
            "indexPattern": SOURCE_INDEX,
            "rollupIndex": f"rolled-{name}",
            "cron": _every(PERIOD),
            "groups": {
                "dateHistogram": {"field": DATE, "fixedInterval": f"{source.WIDTH // 1000}s", "delay": f"{DELAY}s"}
            },
            "metrics": [{"field": "x", "metrics": ["value_count"]}],
            **self.schedule.jobs[name],
        }
        return {"apiVersion": API_VERSION, "kind": "RollupJob", "metadata": {"name": name}, "spec": spec}

    def _advance(self, until: float) -> None:
        self.clock.advance(until)
        self._check()

    def _check(self) -> None:
        if self.problems:
            raise Broken(self.problems[0])

    def _edit(self, name: str, *, spec: Mapping[str, Any] | None = None, **meta: Any) -> None:
        if self.api.find(JOBS, name) is not None:
            try:
                self.api.edit(JOBS, name, "kubectl", spec=spec, **meta)
            except KubeError as e:
                self.story("kubectl", f"{name}: refused: {e.message}")

    def _call(self, verb: str, number: str, job_id: str, timeout: str | None) -> None:
        replica = self._replica(number)
        if replica is None or not replica.index.synced:
            return
        if timeout == ALL:
            job_id, timeout = "_all", "1s"
        call = Asked(verb, job_id, timeout, replica.name, self.clock.now)
        self.calls.append(call)
        replica.spawn(self._answer(replica, call))

    async def _answer(self, replica: Replica, call: Asked) -> None:
        await replica.endpoint.ask(call)
        self.story(
            replica.name, f"answers {call.status} {call.reason} to {call.verb} {call.job_id} of {call.began:.3f} s"
        )
        self.promises.answered(call)

    def _replica(self, which: str) -> Replica | None:
        if which == "leader":
            return next((r for r in self.replicas if r.gate.open), None)
        return self.replicas[int(which)] if int(which) < len(self.replicas) else None

    def _add_replica(self) -> None:
        self._born += 1
        replica = Replica(self, f"r{self._born}")
        self.replicas.append(replica)
        self.story(replica.name, "begins")
        if self.clock.now < self._lease_deleted_at + LEASE_SECONDS:
            self.promises.two_leaders_until = self._lease_deleted_at + LEASE_SECONDS
        replica.start()

    def _watch_delay(self) -> float:
        return self.api_way.random.choice((0.05, 1.0, 5.0))

    def _bury(self, replica: Replica) -> None:
        replica.kill()
        self.replicas.remove(replica)
        self._dead.append(replica)

    def _thaw(self, replica: Replica) -> None:
        if replica.loop.frozen:
            self.story(replica.name, "goes on")
            replica.loop.thaw()

    def _cut_store(self, replica: Replica, cut: bool) -> None:
        replica.wire.cut = cut

    def _set_weather(self, api: Weather, store: Weather) -> None:
        if self.api_way.weather is not CALM:
            self._rough_until = self.clock.now
        self.api_way.weather, self.cluster.way.weather = api, store
        if api is not CALM:
            self._rough_until = float("inf")

    def _changed(self, change: Change) -> None:
        if self._tell is not None:
            self.story(change.by, _described(change))
        if change.plural == STORES and change.type != "DELETED":
            self._note_limit(change.body)
        self.promises.changed(change)

    def _note_limit(self, store: Mapping[str, Any] | None) -> None:
        if store is not None:
            self.limits.append((self.clock.now, store["spec"]["maxConcurrentRuns"]))


def _every(seconds: int) -> str:
    return f"0/{seconds} * * * * ?"


def _store() -> dict[str, Any]:
    spec = {"opensearch": {"hosts": ["https://sim:9200"]}, "maxConcurrentRuns": 2}
    return {"apiVersion": API_VERSION, "kind": "RollupStore", "metadata": {"name": "default"}, "spec": spec}


def _described(change: Change) -> str:
    meta, before = change.body["metadata"], change.before or {}
    parts = [f"{change.type.lower()} {change.plural[:-1]} {meta['uid']}, revision {change.revision}"]
    parts.append(f"generation {meta['generation']}")
    if change.plural == JOBS:
        parts += [f"{part}: {change.body.get(part)}" for part in ("spec",) if change.body.get(part) != before.get(part)]
        if (meta.get("finalizers") or []) != (before.get("metadata", {}).get("finalizers") or []):
            parts.append(f"finalizers: {meta.get('finalizers')}")
        if change.body.get("status") != before.get("status"):
            status = change.body.get("status") or {}
            ready = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), {})
            position = (status.get("position") or {}).get(f"{DATE}.date_histogram")
            parts.append(f"status: {status.get('state')}, observed {status.get('observedGeneration')}")
            if (verified := status.get("lastVerification")) != (before.get("status") or {}).get("lastVerification"):
                parts.append(f"verified: {verified and verified['outcome']}")
            parts.append(f"position {position}, {ready.get('reason')}: {ready.get('message')}")
    elif change.plural == LEASES:
        parts.append(f"holder: {change.body['spec'].get('holderIdentity')}")
    return ", ".join(parts)
