"""What must hold, whatever happens. Sees every change in the API server and in the cluster, and judges each.

Rules of DESIGN.md sections 2 and 3, as far as somebody outside the operator can see them. A promise that is broken is
told to `fail`, in one sentence.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

from rollup_operator.http.jobs.acceptance import ACCEPT_SECONDS
from rollup_operator.kube.client import Body
from rollup_operator.lifecycle.jobs.run_facts import RunKind
from rollup_operator.model.job_view import JobView
from rollup_operator.model.time_values import parse_time_value
from simulation import source
from simulation.api_server import JOBS, LEASES, Change
from simulation.endpoint import Asked
from simulation.search_cluster import DATE, Task

if TYPE_CHECKING:
    from simulation.world import World

Key = tuple[str, str]
"""Rollup index and job id."""

ON = ("started", "indexing")

HALT_SECONDS = 11.0
"""So long after its last renewal began a leader begins nothing, and after two more it leads no more."""

REPEAT_SECONDS = 5.0
"""So long after it was answered a call that comes again is a repeat."""

LONGEST_DELIVERY = 30.0
"""Seconds after which each replica has heard of a change, watch gaps included."""

FIRST_LOOK = 1.0
"""Seconds in which a new leader has read what each store lists of claims."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a job, as the API server had it from a time on."""

    at: float
    revision: int
    generation: int
    desired: str
    state: str
    observed: int


@dataclass(eq=False, slots=True)
class Job:
    """One uid."""

    uid: str
    name: str
    key: Key
    spec: Mapping[str, Any]
    versions: list[Version] = field(default_factory=list)
    gone: bool = False
    torn: bool = False
    """It was removed in spite of its finalizers, or put back by a restore: what it reads says nothing yet."""
    skipped: bool = False
    """It was let go without a word with its store, which is gone."""
    deleting: bool = False
    held: bool = False
    """It has a finalizer."""
    asked_at: float = 0.0
    """When somebody else than its actor changed it last."""
    writes: int = 0
    reworded: int = 0
    """Status writes that changed nothing but the wording of a message."""
    given_back: int | None = None
    """The position that a restore of etcd gave back, shown until the job's next claim: docs/backup.md."""

    @property
    def now(self) -> Version:
        return self.versions[-1]

    @property
    def quiet(self) -> bool:
        """Whether it must be quiet: it reads stopped, or is no more."""
        return not self.torn and not self.skipped and (self.gone or self.now.state == "stopped")

    @property
    def is_unreadable(self) -> bool:
        """Whether this version cannot read its spec."""
        return bool(self.spec["pageSize"] > 10_000)

    @property
    def metric(self) -> str:
        """What its documents are told apart by from those of another configuration."""
        return str(self.spec["metrics"][0]["metrics"][0])


class Promises:
    """The judge."""

    def __init__(self, world: "World", fail: Callable[[str], None]) -> None:
        self._world, self._fail = world, fail
        self.jobs: dict[str, Job] = {}
        self._begun: dict[Key, int] = {}
        """The highest epoch under which a run has begun to work."""
        self._owner: dict[Key, str] = {}
        """The uid whose run has claimed the record last."""
        self._owner_then: dict[str, str | None] = {}
        """By deletion of documents: whose run had claimed the record last when it began."""
        self._epochs: dict[Key, int] = {}
        self._renewed: dict[str, float] = {}
        """When each replica's last write of the lease was carried out."""
        self._ending: set[str] = set()
        self._described: set[str] = set()
        """The uids of jobs for which the cluster has described the source."""
        self._calls: list[Asked] = []
        self._restored_at = -1e9
        self._led_since_restore = True
        self.leaders_unknown_until = 0.0
        """The lease was deleted, so for as long as its holder may not know that nobody can say who leads."""
        self.two_leaders_until = 0.0
        self._of_two_leaders: set[int] = set()
        """Epochs of claims that were taken while two led, one of which may have shown the job as stopped."""
        """A process that began after somebody had deleted the lease has not seen who held it."""

    # The API server

    def changed(self, change: Change) -> None:
        """Judge a change of an object."""
        if change.plural == LEASES:
            self._renewed[change.by] = self._world.clock.now
        if change.plural != JOBS:
            return
        body, before = change.body, change.before
        uid = body["metadata"]["uid"]
        job = self.jobs.get(uid)
        if job is None:
            spec, name = body["spec"], body["metadata"]["name"]
            job = self.jobs[uid] = Job(uid, name, (spec["rollupIndex"], spec.get("jobId") or name), spec)
        self._take_in(job, body, change.revision)
        if change.type == "DELETED":
            job.gone = True
            job.torn = job.torn or change.by == "restore"
            if not job.torn and not job.skipped:
                self._must_be_quiet(job, "is gone")
                self._documents_are_deleted(job)
            return
        if before is None or body.get("status") == before.get("status"):
            job.asked_at = self._world.clock.now
        else:
            self._status(job, before, body)
            if job.now.state == "stopped" and self._world.is_checking(change.by, job.uid):
                self._fail(f"{job.uid} reads stopped while {change.by} checks its source")

    def restored(self) -> None:
        """Take in that etcd was restored: what anybody knows may be of another history."""
        self._restored_at = self._world.clock.now
        self._led_since_restore = False
        self.leaders_unknown_until = self._world.clock.now + LONGEST_DELIVERY
        exist = {body["metadata"]["uid"]: body for body in self._world.api.all(JOBS)}
        for uid, job in self.jobs.items():
            job.gone, job.torn = uid not in exist, True
            if uid in exist:
                self._take_in(job, exist[uid], self._world.api.revision)
                job.given_back = _time((exist[uid].get("status") or {}).get("position"))

    def leads(self) -> None:
        """Take in that a replica leads: until the first one after a restore has looked, statuses are as given back."""
        if not self._led_since_restore:
            self._led_since_restore = True
            self._restored_at = max(self._restored_at, self._world.clock.now + FIRST_LOOK - LONGEST_DELIVERY)

    def _just_restored(self) -> bool:
        return self._world.clock.now < self._restored_at + LONGEST_DELIVERY

    def _take_in(self, job: Job, body: Body, revision: int) -> None:
        """Note a version of a job."""
        job.spec = body["spec"]
        job.deleting = "deletionTimestamp" in body["metadata"]
        job.held = bool(body["metadata"].get("finalizers"))
        status = body.get("status") or {}
        job.versions.append(
            Version(
                self._world.clock.now,
                revision,
                body["metadata"]["generation"],
                JobView.of(body).desired.value,
                status.get("state") or "",
                status.get("observedGeneration", -1),
            )
        )

    def _status(self, job: Job, before: Body, body: Body) -> None:
        now, status = job.now, body["status"]
        job.writes += 1
        if self._just_restored():
            return
        job.torn = False
        if now.observed != now.generation:
            self._fail(f"{job.uid}: the status of generation {now.observed} was written onto {now.generation}")
        if now.state == "started" and job.uid not in self._described and "position" not in status and _is_ready(status):
            self._fail(f"{job.uid}: reads started and Ready, and nobody has looked at its source")
        if now.state in ON and now.desired == "stopped" and not job.deleting:
            self._fail(f"{job.uid}: reads {now.state}, and is asked to stop since generation {now.generation}")
        if now.state == "stopped":
            stalled = any(c["type"] == "Stalled" for c in status["conditions"])
            if now.desired == "started" and not job.deleting and not stalled:
                self._fail(f"{job.uid}: reads stopped, and is asked to start since generation {now.generation}")
            self._must_be_quiet(job, "reads stopped")
            self._position_is_shown(job, status)
        outcome = (status.get("lastVerification") or {}).get("outcome")
        if outcome in ("DocumentsDiffer", "SourceShrunk"):
            self._fail(f"{job.uid}: {outcome} is found, and nothing is wrong: {status['lastVerification']}")
        self._must_differ(job, before.get("status") or {}, status)

    def _must_differ(self, job: Job, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        old, new = _visible(before), _visible(after)
        if old == new and after["state"] != "indexing":
            self._fail(f"{job.uid}: a status was written that nobody can tell from the one before")
        elif _visible(before, words=False) == _visible(after, words=False) and after["state"] != "indexing":
            job.reworded += 1
            if job.reworded > 30:
                self._fail(f"{job.uid}: {job.reworded} statuses differed from those before in their words only")

    def _must_rest(self, job: Job) -> bool:
        return job.quiet and self._world.clock.now >= self.two_leaders_until

    def _must_be_quiet(self, job: Job, what: str) -> None:
        if self._world.clock.now < self.two_leaders_until:
            return
        cluster = self._world.cluster
        for task in cluster.tasks:
            uid, _ = _run(task.opaque_id)
            if uid is not None and self._may_be_of(job, uid) and not task.sender_frozen:
                self._fail(f"{job.uid} {what} while a {task.doing} of {task.opaque_id} is at work")
        record = cluster.record(job.key)
        in_doubt = record is not None and record["epoch"] in self._of_two_leaders
        if record is not None and record["holder"] and not in_doubt and self._may_be_of(job, record["owner"]["uid"]):
            self._fail(f"{job.uid} {what} while {record['holder']} holds its claim, epoch {record['epoch']}")

    def _documents_are_deleted(self, job: Job) -> None:
        index = self._world.cluster.indices.get(job.key[0])
        if index is None or job.spec["deletionPolicy"] != "Delete" or self._owner.get(job.key) != job.uid:
            return
        if left := sum(job_id == job.key[1] for job_id, _ in index.rows):
            self._fail(f"{job.uid} is gone, and {left} of its documents are still there")

    def _may_be_of(self, job: Job, uid: str) -> bool:
        """Whether what a uid has in the cluster is the job's: its own, or with a finalizer its predecessors'.

        What was left there when one of them was let go without its store is nobody's until the store is known again.
        """
        if uid == job.uid or not job.held or self.jobs[uid].name != job.name:
            return uid == job.uid
        if self._world.clock.now - self._world.store_gone_at > LONGEST_DELIVERY:
            return True
        since = dropwhile(lambda other: other.uid != uid, self.jobs.values())
        return not any(other.skipped for other in since if other.name == job.name)

    def _position_is_shown(self, job: Job, status: Mapping[str, Any]) -> None:
        record = self._world.cluster.record(job.key)
        shown = _time(status.get("position"))
        if record is None or record["owner"]["uid"] != job.uid or (shown is not None and shown == job.given_back):
            return
        stored = _time(record["position"])
        if shown is not None and (stored is None or shown > stored):
            self._fail(f"{job.uid}: reads stopped at {shown}, and its record says {stored}")

    # The cluster

    def works(self, task: Task) -> None:
        """Judge a search, a bulk or a deletion that is about to begin.

        A search whose sender froze right after sending it may come as late as the network likes. Nothing can keep it
        out, and it changes nothing.
        """
        uid, epoch = _run(task.opaque_id)
        if uid is None:
            return
        job, doing = self.jobs[uid], task.doing
        if epoch is None:  # a verification
            if not task.sender_frozen and self._must_rest(job) and self._leader_is_known():
                self._fail(f"{uid}: a {doing} of a verification begins, and the job {_what(job)}")
            return
        if doing == "delete":
            self._owner_then[task.opaque_id] = self._owner.get(job.key)
        if task.sender_frozen:
            return
        if self._must_rest(job) and doing != "bulk" and self._leader_is_known():
            self._fail(f"{uid}: a {doing} of epoch {epoch} begins, and the job {_what(job)}")
        for at_work in self._world.cluster.tasks:
            other, before = _run(at_work.opaque_id)
            if before is None:
                continue  # a verification reads beside runs
            if at_work.sender_frozen or ("search" in (at_work.doing, doing) and not self._leader_is_known()):
                continue  # a run reads for a moment until it finds its claim taken
            if other is not None and before != epoch and self.jobs[other].key == job.key:
                self._fail(
                    f"{uid}: a {doing} of epoch {epoch} begins while a {at_work.doing} of epoch {before} is at work"
                )
        if doing == "search":
            if epoch < self._begun.get(job.key, 0) and self._leader_is_known():
                self._fail(f"{uid}: a search of epoch {epoch} begins, and epoch {self._begun[job.key]} has begun")
            self._begun[job.key] = max(epoch, self._begun.get(job.key, 0))

    def document(self, opaque_id: str, index: str, id_: str, version: int, document: Mapping[str, Any]) -> None:
        """Judge a document that is written."""
        uid, epoch = _run(opaque_id)
        assert uid is not None
        assert epoch is not None
        job = self.jobs[uid]
        bucket, rows = document[f"{DATE}.date_histogram.timestamp"], document[f"{DATE}.date_histogram._count"]
        if self._must_rest(job):
            self._fail(f"{uid}: a document of epoch {epoch} is written, and the job {_what(job)}")
        if epoch < self._begun.get(job.key, 0):
            self._fail(f"{uid}: a document of epoch {epoch} is written, and epoch {self._begun[job.key]} has begun")
        if version != epoch:
            self._fail(f"{uid}: a document of epoch {epoch} is written as version {version}")
        if rows != source.count(bucket):
            self._fail(f"{uid}: {rows} rows are written for the bucket {bucket}, which has {source.count(bucket)}")
        if f"x.{job.metric}.value" not in document:
            self._fail(f"{uid}: a document without {job.metric} is written")
        there = self._world.cluster.indices[index].documents.get(id_)
        if there is not None and there[1].keys() != document.keys():
            self._fail(f"{uid}: a document of another configuration is overwritten")

    def record(self, before: Mapping[str, Any] | None, after: Mapping[str, Any], opaque_id: str) -> None:
        """Judge a change of a job's record."""
        key = after["rollup_index"], after["job_id"]
        job = self.jobs[after["owner"]["uid"]]
        epoch, highest = after["epoch"], self._epochs.get(key, 0)
        changed_hands = before is None or (before["holder"], before["epoch"]) != (after["holder"], epoch)
        if epoch < highest or (changed_hands and after["holder"] and epoch <= highest):
            self._fail(f"{key}: the claim's epoch is {epoch} after {highest}")
        self._epochs[key] = max(epoch, highest)
        owner = None if before is None else self.jobs[before["owner"]["uid"]]
        known = self._world.clock.now >= self.two_leaders_until  # which of two leaders is right, both cannot know
        if owner is not None and owner is not job and not owner.gone and not owner.torn and known:
            self._fail(f"{job.uid} takes the record of {owner.uid}, which lives")
        if after["runs_without_page"] > (0 if before is None else before["runs_without_page"]):
            self._owner[key] = job.uid
        elif owner is not None and owner is not job:
            self._fail(f"{job.uid} takes the record of {owner.uid}, and not for a run")
        if after["holder"] and changed_hands and not known:
            self._of_two_leaders.add(epoch)
        if after["holder"] and changed_hands:
            job.given_back = None
        if after["holder"] and changed_hands and self._must_rest(job):
            self._fail(f"{job.uid}: {after['holder']} takes its claim, epoch {epoch}, and the job {_what(job)}")
        self._position(key, None if before is None else _time(before["position"]), _time(after["position"]))

    def evicts(self, uid: str, owner_uid: str) -> None:
        """Judge a job that is about to take a claim in order to settle."""
        owner = self.jobs[owner_uid]
        if uid != owner_uid and not owner.gone and not owner.torn:
            self._fail(f"{uid} takes the claim of {owner_uid} away, which lives")

    def _position(self, key: Key, before: int | None, after: int | None) -> None:
        if after == before or after is None:
            return  # that it was forgotten is judged where its documents are deleted
        if before is not None and after < before:
            self._fail(f"{key}: the position goes back from {before} to {after}")
            return
        for bucket in source.until(after):
            if (before is None or bucket > before) and self.written(key, bucket) != source.count(bucket):
                self._fail(
                    f"{key}: the position passes bucket {bucket}, of which {self.written(key, bucket)} rows are written"
                )
                return

    def written(self, key: Key, bucket: int) -> int | None:
        """Return how many rows the document of a bucket says; None: there is none."""
        index = self._world.cluster.indices.get(key[0])
        return None if index is None else index.rows.get((key[1], bucket))

    def deletes(self, opaque_id: str, index: str, job_id: str, epochs: Sequence[int]) -> None:
        """Judge a deletion of documents.

        A job of the same name may have taken the record over meanwhile, as long as it waits and has written nothing.
        """
        uid, epoch = _run(opaque_id)
        assert uid is not None
        assert epoch is not None
        job, documents = self.jobs[uid], len(epochs)
        owner = self._owner_then[opaque_id]
        if (not job.deleting or job.spec.get("deletionPolicy") != "Delete") and not self._just_restored():
            self._fail(f"{uid}: {documents} documents are deleted, and nobody asked for that")
        if owner != uid:
            self._fail(f"{uid}: {documents} documents are deleted that are {owner}'s")
        if max(epochs) > epoch:
            self._fail(f"{uid}: {documents} documents are deleted, some of a later epoch than its own")
        record = self._world.cluster.record((index, job_id))
        if record is not None and record["position"] is not None:
            self._fail(f"{uid}: {documents} documents are deleted that the job's position says are written")

    def describes(self, opaque_id: str) -> None:
        """Take in that the cluster describes the source to a job."""
        uid, _ = _run(opaque_id)
        if uid is not None:
            self._described.add(uid)

    # The replicas

    def sends(self, replica: str, what: str) -> None:
        """Judge that a replica sends a write to the API server, or a request of a run to the cluster."""
        if "/leases" in what or not self._leader_is_known():
            return
        lease = self._world.api.find(LEASES, "rollup-operator")
        holder = None if lease is None else lease["spec"].get("holderIdentity")
        if holder and holder != replica:
            self._fail(f"{replica} sends a request ({what}) while {holder} leads")

    def stands_by(self, replica: str) -> None:
        """Judge that a replica leads no more."""
        lease = self._world.api.find(LEASES, "rollup-operator")
        holds = lease is not None and lease["spec"].get("holderIdentity") == replica
        if holds and self._leader_is_known() and self._world.is_undisturbed(replica):
            self._fail(f"{replica} stands by, and the lease is its own")

    def _leader_is_known(self) -> bool:
        return self._world.clock.now >= self.leaders_unknown_until

    def ends(self, replica: str) -> None:
        """Take in that a replica ends in order."""
        self._ending.add(replica)

    def opened(self, replica: str, sessions: int) -> None:
        """Judge that a replica has so many runs at work in the store."""
        limits = self._world.limits
        since = self._world.clock.now - LONGEST_DELIVERY
        first = max((i for i, (at, _) in enumerate(limits) if at <= since), default=0)
        if sessions > (most := max(limit for _, limit in limits[first:])):
            self._fail(f"{replica} has {sessions} runs at work, and {most} are allowed")

    def skipped(self, uid: str) -> None:
        """Judge that a job is let go without a word with its store."""
        if self._world.clock.now - self._world.store_gone_at > LONGEST_DELIVERY and not self._just_restored():
            self._fail(f"{uid} is let go unsettled, and its store is there")
        self.jobs[uid].skipped = True

    def begins(self, replica: str, kind: RunKind, view: JobView) -> None:
        """Judge that a replica begins a run task, decided on this version of the job."""
        if kind is RunKind.SETTLE:
            return
        if self._world.clock.now > self._renewed.get(replica, 0.0) + HALT_SECONDS:
            self._fail(f"{replica} begins a run of {view.uid}, and has not renewed its lease for {HALT_SECONDS:g} s")
        if replica in self._ending:
            self._fail(f"{replica} ends, and begins a run of {view.uid}")
        accepted = any(v.state in ON and v.observed == view.generation for v in self.jobs[view.uid].versions)
        if not accepted:
            self._fail(
                f"{replica} begins a run of {view.uid}, which never read started for generation {view.generation}"
            )

    def applied(self, call: Asked, before: Body) -> None:
        """Judge a client's write: it must not undo what came after the same call's first arrival."""
        same = [
            c
            for c in self._calls
            if (c.replica, c.verb, c.job_id, c.timeout) == (call.replica, call.verb, call.job_id, call.timeout)
        ]
        first = same[-1] if same else None
        uid = before["metadata"]["uid"]
        if call.verb != "stop" or first is None or first.uid != uid or not first.reason.startswith("Timed out"):
            return
        assert first.ended is not None
        if call.taken > first.ended + REPEAT_SECONDS or self._just_restored():
            return
        if before["spec"].get("desiredState") != "started":
            return  # nothing is undone
        versions = [v for v in self.jobs[uid].versions if v.generation <= before["metadata"]["generation"]]
        known = [v for v in versions if v.at < call.began]
        if any(v.desired == "stopped" for v in versions if v.at >= call.began):
            return  # the look may have shown that, and the start have come right after it
        if known and known[-1].generation > first.generation and known[-1].desired == "started":
            self._fail(f"{call.replica} repeats the stop of {first.began:.3f} s and undoes a start that came after it")

    def answered(self, call: Asked) -> None:
        """Judge the answer of a call."""
        self._calls.append(call)
        if call.began < self._restored_at + LONGEST_DELIVERY or call.job_id == "_all":
            return
        job = self.jobs.get(call.uid)
        what = f"{call.replica} answers {call.status} {call.reason!r} to {call.verb} {call.job_id}"
        match call.status:
            case 200:
                if job is None:
                    self._fail(f"{what}, and has recorded nothing")
                elif call.timeout is not None and not self._has_stopped(job, call.generation):
                    self._fail(f"{what}, and {job.uid} was never stopped for generation {call.generation}")
                elif not self._is_seen(job, call):
                    self._fail(f"{what}, and a look still shows {job.uid} as before generation {call.generation}")
            case 409 if "overtaken" in call.reason:
                newer = job is not None and any(
                    v.generation > call.generation and v.desired == "started" for v in job.versions
                )
                if not newer:
                    self._fail(f"{what}, and nobody has asked for a start since")
            case 404:
                if job is not None and not job.gone:
                    self._fail(f"{what}, and {job.uid} lives")
            case 503:
                if call.carried_out:
                    self._fail(f"{what}, and the desired state was written")
            case 500 if call.reason.startswith("Timed out"):
                if job is not None and self._was_to_be_seen(job, call):
                    self._fail(f"{what}, and {job.uid} was stopped for generation {call.generation} for long")

    def _is_seen(self, job: Job, call: Asked) -> bool:
        """Whether a look shows what the call has done, or no operator has answered for as long as a call waits."""
        assert call.ended is not None
        waited = call.recorded is not None and call.ended >= call.recorded + ACCEPT_SECONDS
        return waited or job.gone or job.deleting or any(v.observed >= call.generation for v in job.versions)

    def _has_stopped(self, job: Job, generation: int) -> bool:
        return any(_stops(v, generation) for v in job.versions)

    def _was_to_be_seen(self, job: Job, call: Asked) -> bool:
        """Whether the job was stopped for the call's generation before the look at the deadline, and that was answered.

        Where nobody has looked, the job was to be stopped before the deadline.
        """
        assert call.ended is not None
        assert call.timeout is not None
        begin = call.began + parse_time_value(call.timeout, "timeout").seconds
        looks = [look for look in self._world.looks(call.replica) if look.name == job.name and look.sent >= begin]
        if looks:
            if any(look.answered is None or look.answered > call.ended for look in looks):
                return False  # that may have been this call's own, and the others those of other calls
            begin = max(look.sent for look in looks)
        since = [v for v in job.versions if v.at > begin]
        before = [v for v in job.versions if v.at <= begin]
        return bool(before) and all(_stops(v, call.generation) for v in [before[-1], *since])


def _stops(version: Version, generation: int) -> bool:
    return version.state == "stopped" and version.observed >= generation and version.desired == "stopped"


def _is_ready(status: Mapping[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status["conditions"])


def _visible(status: Mapping[str, Any], *, words: bool = True) -> dict[str, Any]:
    """Return what a user can see of a status; without the times of its conditions, and on demand without messages."""
    hidden = ("lastTransitionTime",) if words else ("lastTransitionTime", "message")
    shown = dict(status)
    shown["conditions"] = [{k: v for k, v in c.items() if k not in hidden} for c in status.get("conditions") or ()]
    return shown


def _run(opaque_id: str) -> tuple[str | None, int | None]:
    """Return the uid whose request it is, if it is that of a job, and the epoch; None: it is that of a verification."""
    word, _, rest = opaque_id.partition("/")
    if word != "rollup":
        return None, 0
    uid, _, epoch = rest.rpartition("/")
    return uid, None if epoch == "verify" else int(epoch)


def _time(position: Mapping[str, Any] | None) -> int | None:
    return None if position is None else int(position[f"{DATE}.date_histogram"])


def _what(job: Job) -> str:
    return "is gone" if job.gone else "reads stopped"
