"""An API server and an index of jobs in memory, as far as the endpoint's routing and decisions need them.

What a real API server does with the endpoint's writes is tested on a real one.
"""

import asyncio
import copy
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, Self

from rollup_operator.kube.client import Conflict, KubeError, NotFound, may_stand
from rollup_operator.kube.events import Regarding
from rollup_operator.kube.paths import jobs_path
from rollup_operator.model.conditions import Reason
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.job_ids import meant
from rollup_operator.model.job_view import JobView
from rollup_operator.rollup.bounds import HOUR, Span
from rollup_operator.rollup.comparison import BucketNumbers, Findings, Judge
from rollup_operator.rollup.documents import layout_of
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.stores.base import KnownJob, Preview, Purged, Retained, RollupIndex
from rollup_operator.stores.errors import DocumentsChanged, SourceNotFound, StoreNotFound
from rollup_operator.stores.search import Documents, Fetch, FieldKind, Partials, Tier, nothing
from rollup_operator.stores.verification import DayCount, Extent
from support import bodies

Body = dict[str, Any]


class Comparison:
    """What a store reads of two days to verify a job: every bucket is missing whose hour is in `missing`."""

    def __init__(self) -> None:
        self.judge: Judge
        self.opened: list[tuple[JobConfig, Collection[str] | None]] = []
        self.left = 0
        self.asked: list[Span] = []
        self.missing: set[int] = set()
        self.rows = 48
        self.compared = asyncio.Event()
        """Set when the first bucket is compared."""
        self.gate: asyncio.Event | None = None
        """What a comparison waits for then."""
        self.ended = 0
        """How many comparisons have ended, in whatever way."""

    async def begin(self, span: Span) -> Extent:
        self.asked.append(span)
        end = 48 * HOUR
        return Extent(Span(span.start_ms, max(span.start_ms, min(span.end_ms, end))), end, self.rows, ["a note"])

    async def count(self, days: Sequence[Span]) -> Sequence[DayCount]:
        hours = [(day.end_ms - day.start_ms) // HOUR for day in days]
        lost = [sum(day.start_ms <= hour * HOUR < day.end_ms for hour in self.missing) for day in days]
        return [DayCount(of, of - less) for of, less in zip(hours, lost, strict=True)]

    async def compare(self, span: Span, into: Findings, reached: Callable[[int], None]) -> None:
        try:
            for begin in range(span.start_ms, span.end_ms, HOUR):
                bucket = BucketNumbers((begin,), {self.judge.count: 1})
                into.take(None if begin // HOUR in self.missing else bucket, bucket)
                reached(begin + HOUR)
                self.compared.set()
                if self.gate is not None:
                    await self.gate.wait()
        finally:
            self.ended += 1


class Shelf:
    """A store in memory: what the sources have, by the one pattern that matches anything, and what is remembered."""

    def __init__(self) -> None:
        self.pattern = "sensor-*"
        self.has: dict[str, SourceField] = {
            "timestamp": SourceField(frozenset({"date"})),
            "temperature": SourceField(frozenset({"double"})),
            "load": SourceField(frozenset({"long"})),
            "node": SourceField(frozenset({"keyword"})),
        }
        self.remembered: list[KnownJob] = []
        self.target: RollupIndex | None = None
        self.fail: Exception | None = None
        self.previewed: list[tuple[JobConfig, Span]] = []
        self.preview_found = Preview((), 5000, 40, 3, 0.25)
        self.comparison = Comparison()
        self.rolled_up: list[Tier] = []
        self.fetched: list[Fetch] = []
        self.read: set[tuple[str, str]] = set()
        """The keys of all jobs whose documents were searched."""
        self.changing = 0
        """How many searches find that documents were deleted meanwhile."""
        self.purged: list[tuple[str, str]] = []
        self.fail_purge: Exception | None = None

    def remember(
        self,
        job_id: str,
        spec: Mapping[str, Any] | None,
        *,
        index: str,
        documents: bool = True,
        cluster: str = "local",
        namespace: str = "default",
        name: str | None = None,
    ) -> None:
        """Leave the record of a job that is gone."""
        owner = Owner(cluster, namespace, name or job_id, f"uid-of-{job_id}")
        self.remembered.append(KnownJob((index, job_id), owner, spec, documents))

    def roll_up(
        self,
        job_id: str,
        spec: Mapping[str, Any],
        *,
        index: str = "sensor_rollup",
        cluster: str = "local",
        namespace: str | None = "default",
        name: str | None = None,
        lost: bool = False,
        until: int = 1_700_000_000_000,
    ) -> None:
        """Hold documents of a job. Without a namespace: Elasticsearch made them, unless they are `lost`."""
        owner = None if namespace is None else Owner(cluster, namespace, name or job_id, f"uid-of-{job_id}")
        whole = RollupJobSpec.model_validate(bodies.job(job_id, **spec)["spec"])
        kinds: dict[str, FieldKind] = {whole.groups.date_histogram.field: "date"}
        self.rolled_up.append(Tier((index, job_id), whole, 0, until, kinds, owner, lost))

    async def tiers(self, rollup_indices: Collection[str]) -> Sequence[Tier]:
        if self.fail is not None:
            raise self.fail
        return [tier for tier in self.rolled_up if tier.key[0] in rollup_indices]

    async def search(self, fetches: Sequence[Fetch], **_: Any) -> Sequence[Partials]:
        self.fetched += fetches
        self.read |= {
            (f.relation.rollup_index, f.relation.job_id) for f in fetches if isinstance(f.relation, Documents)
        }
        if self.changing:
            self.changing -= 1
            raise DocumentsChanged("job")
        return [nothing(fetch) for fetch in fetches]

    async def fields(
        self, index_pattern: str, rollup_index: str, spec: RollupJobSpec | None = None, *, uid: str | None = None
    ) -> Mapping[str, SourceField]:
        if self.fail is not None:
            raise self.fail
        if index_pattern != self.pattern:
            raise SourceNotFound(f"spec.indexPattern {index_pattern!r} matches nothing")
        return self.has

    async def preview(self, config: JobConfig, span: Span, documents: int) -> Preview:
        self.previewed.append((config, span))
        date = f"{config.spec.groups.date_histogram.field}.date_histogram"
        fields = {"_rollup.id": config.job_id, f"{date}.timestamp": 1_388_530_800_000, f"{date}._count": 2}
        document = (f"{config.job_id}$1", fields)
        return replace(self.preview_found, documents=[document] * min(2, documents))

    @asynccontextmanager
    async def verification(
        self, config: JobConfig, fields: Collection[str] | None = None
    ) -> AsyncIterator["Comparison"]:
        if self.fail is not None:
            raise self.fail
        self.comparison.opened.append((config, fields))
        self.comparison.judge = Judge(layout_of(config.job_id, config.spec))
        yield self.comparison
        self.comparison.left += 1

    async def rollup_index(self, index: str) -> RollupIndex | None:
        return self.target

    async def retained(self, key: tuple[str, str]) -> Retained | None:
        """Three documents of each job that is remembered."""
        if self.fail is not None:
            raise self.fail
        return next((Retained(known.owner, 3) for known in self.remembered if known.key == key), None)

    async def purge(self, key: tuple[str, str], owner: Owner, holder: str) -> Purged:
        if self.fail_purge is not None:
            raise self.fail_purge
        self.purged.append(key)
        return Purged(3)

    async def known_jobs(self) -> Sequence[KnownJob]:
        if self.fail is not None:
            raise self.fail
        return self.remembered


class Cluster:
    """All seams of the endpoint. `tell` passes what the API server holds on to the index and its listeners.

    `shelves` holds the stores by namespace and name.
    """

    @classmethod
    def indexing(cls, name: str) -> Self:
        """A cluster with a job in the middle of a run."""
        made = cls()
        made.create(name, desiredState="started")
        made.status(name, state="indexing")
        return made

    def __init__(self) -> None:
        self.objects: dict[str, Body] = {}
        self.known: dict[str, JobView] = {}
        self.removed: set[str] = set()
        self.listeners: dict[str, list[Callable[[JobView | None], None]]] = {}
        self.checked: list[tuple[str, Body]] = []
        self.fail_check: KubeError | None = None
        self.synced = True
        self.healthy: dict[str, bool | str] = {"watch": True}
        self.applied: list[tuple[str, Body]] = []
        self.patched: list[tuple[str, Body]] = []
        self.posted: list[Body] = []
        self.deleted: list[str] = []
        self.shelves: dict[tuple[str, str], Shelf] = {("default", "default"): Shelf()}
        self.lags = False
        self.fail_post: list[Exception | None] = []
        self.fail_delete: Exception | None = None
        self.before_delete: Callable[[], None] = lambda: None
        self.drains = False
        self.reported: list[Body] = []
        """The Events that the API server holds."""
        self.selected: list[tuple[str, str]] = []
        self.fail_events: Exception | None = None
        self.reads: list[str] = []
        self.lists: list[str] = []
        self.fail_write: Exception | None = None
        self.fail_read: Exception | None = None
        self.fail_list: Exception | None = None
        self.before_write: Callable[[], None] = lambda: None
        self.after_write: Callable[[str], None] = lambda _: None
        self.write_gate: asyncio.Event | None = None
        self.read_gate: asyncio.Event | None = None
        self.found: Counter[str] = Counter()
        self.read: Counter[str] = Counter()
        """How many blocks of `reading` each uid has."""
        self.writing: set[str] = set()
        self.events: list[tuple[str, str, str]] = []
        self._begun = asyncio.Condition()
        self._subscribed = asyncio.Event()
        self._writes = 0
        self._version = 100

    # What a test does to the cluster

    def create(self, name: str, namespace: str = "default", **spec: Any) -> Body:
        path = jobs_path(namespace, name)
        whole = {
            "indexPattern": "sensor-*",
            "rollupIndex": "sensor_rollup",
            "cron": "0 0 * * * ?",
            "groups": {"dateHistogram": {"field": "timestamp", "fixedInterval": "1h"}},
        } | spec
        meta = {"name": name, "namespace": namespace, "uid": f"uid-{self._next()}", "generation": 1}
        self.objects[path] = {"metadata": meta, "spec": whole, "status": {"observedGeneration": -1}}
        self._touch(path)
        self.tell(path)
        return self.objects[path]

    def status(self, name: str, namespace: str = "default", *, tell: bool = True, **status: Any) -> None:
        """Write a status, by default one on the newest generation, as the operator does."""
        path = jobs_path(namespace, name)
        body = self.objects[path]
        body["status"] = {"observedGeneration": body["metadata"]["generation"]} | status
        self._touch(path)
        if tell:
            self.tell(path)

    def ask(self, name: str, state: str, namespace: str = "default", *, tell: bool = True) -> None:
        path = jobs_path(namespace, name)
        self._ask(path, state)
        if tell:
            self.tell(path)

    def edit(self, name: str, namespace: str = "default", **spec: Any) -> None:
        """Change other fields of a spec than the state that is asked for."""
        path = jobs_path(namespace, name)
        self.objects[path]["spec"] |= spec
        self.objects[path]["metadata"]["generation"] += 1
        self._touch(path)
        self.tell(path)

    def own(self, name: str, *managers: str, namespace: str = "default") -> None:
        """Let field managers own what is asked, as after an apply of theirs."""
        path = jobs_path(namespace, name)
        self.objects[path]["metadata"]["managedFields"] = [
            {"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": {"f:desiredState": {}, "f:cron": {}}}}
            for manager in managers
        ]
        self._touch(path)
        self.tell(path)

    def begin_deletion(self, name: str, namespace: str = "default") -> None:
        path = jobs_path(namespace, name)
        self.objects[path]["metadata"] |= {"deletionTimestamp": "2024-01-01T00:00:00Z"}
        self.objects[path]["metadata"]["generation"] += 1
        self._touch(path)
        self.tell(path)

    def remove(self, name: str, namespace: str = "default", *, tell: bool = True) -> None:
        path = jobs_path(namespace, name)
        uid = self.objects.pop(path)["metadata"]["uid"]
        if tell:
            self.removed.add(uid)
            self.known.pop(path, None)
            for listener in list(self.listeners.get(uid, ())):
                listener(None)

    def tell(self, path: str) -> None:
        view = JobView.of(copy.deepcopy(self.objects[path]))
        self.known[path] = view
        for listener in list(self.listeners.get(view.uid, ())):
            listener(view)

    async def writes(self, count: int) -> None:
        """Wait until so many writes have been sent."""
        async with asyncio.timeout(5), self._begun:
            await self._begun.wait_for(lambda: self._writes >= count)

    async def listened(self, count: int) -> None:
        """Wait until so many listen."""
        while sum(map(len, self.listeners.values())) < count:
            await self._subscribed.wait()
            self._subscribed.clear()

    # The index of jobs

    leads = False

    def is_writing(self, uid: str) -> bool:
        return uid in self.writing

    def find(self, namespace: str, job_id: str) -> JobView | None:
        self.found[job_id] += 1
        return next(iter(self.meant(namespace, job_id)), None)

    def meant(self, namespace: str, job_id: str) -> Sequence[JobView]:
        return meant(job_id, (v for v in self.in_namespace(namespace) if v.job_id == job_id))

    def is_gone(self, job: JobView) -> bool:
        return job.uid in self.removed

    def namespaces(self) -> Sequence[str]:
        return list(dict.fromkeys(v.namespace for v in self.known.values()))

    def in_namespace(self, namespace: str) -> Sequence[JobView]:
        return [v for v in self.known.values() if v.namespace == namespace]

    def subscribe(self, uid: str, listener: Callable[[JobView | None], None]) -> Callable[[], None]:
        self.listeners.setdefault(uid, []).append(listener)
        self._subscribed.set()
        return lambda: self.listeners[uid].remove(listener)

    @contextmanager
    def reading(self, uid: str) -> Iterator[None]:
        self.read[uid] += 1
        try:
            yield
        finally:
            self.read[uid] -= 1

    def explain(self, uid: str) -> str:
        return f"the phase of {uid}"

    def health(self) -> Mapping[str, bool | str]:
        return self.healthy

    # Events

    def record(self, about: Regarding, reason: Reason, note: str) -> None:
        self.events.append((about.name, reason, note))

    # The stores

    @property
    def shelf(self) -> Shelf:
        return self.shelves["default", "default"]

    def usable(self, namespace: str) -> Sequence[str]:
        return [name for of, name in self.shelves if of == namespace]

    async def open(self, key: tuple[str, str]) -> Any:
        if key not in self.shelves:
            raise StoreNotFound(f"no RollupStore named {key[1]!r} in namespace {key[0]!r}")
        return self.shelves[key]

    # The API server

    async def post(self, path: str, body: Mapping[str, Any], *, manager: str = "") -> Body:
        """Create a job. Of `fail_post` each call takes one: it fails so, after the job was made if it is a lost answer.

        `lags`: the index does not hear of it.
        """
        self.posted.append({**body, "manager": manager})
        failure = self.fail_post.pop(0) if self.fail_post else None
        if failure is not None and not may_stand(failure):
            raise failure
        namespace = path.split("/")[-2]
        at = jobs_path(namespace, body["metadata"]["name"])
        if at in self.objects:
            raise Conflict(409, "AlreadyExists", f"{at} already exists")
        meta = {**body["metadata"], "namespace": namespace, "uid": f"uid-{self._next()}", "generation": 1}
        self.objects[at] = {"metadata": meta, "spec": dict(body["spec"]), "status": {"observedGeneration": -1}}
        self._touch(at)
        if not self.lags:
            self.tell(at)
        if failure is not None:
            raise failure
        return copy.deepcopy(self.objects[at])

    async def check(self, path: str, body: Mapping[str, Any], *, manager: str, change: bool = False) -> None:
        self.checked.append((path, dict(body)))
        if self.fail_check is not None:
            raise self.fail_check

    async def delete(self, path: str, *, uid: str, version: int) -> Body:
        """Delete a job. `drains`: it is only marked, until `remove`."""
        self.before_delete()
        if self.fail_delete is not None and not may_stand(self.fail_delete):
            raise self.fail_delete
        held = self.objects.get(path)
        if held is None:
            raise NotFound(404, "NotFound", f"{path} not found")
        if (held["metadata"]["uid"], held["metadata"]["resourceVersion"]) != (uid, str(version)):
            raise Conflict(409, "Conflict", "the ResourceVersion in the precondition does not match")
        self.deleted.append(path)
        name, namespace = held["metadata"]["name"], held["metadata"]["namespace"]
        if self.drains:
            self.begin_deletion(name, namespace)
        else:
            self.remove(name, namespace)
        if self.fail_delete is not None:
            raise self.fail_delete
        return held

    async def get(self, path: str, **params: str) -> Body:
        if path.endswith("/events"):
            self.selected.append((path, params["fieldSelector"]))
            if self.fail_events is not None:
                raise self.fail_events
            return {"items": copy.deepcopy(self.reported)}
        self.reads.append(path)
        if self.read_gate is not None:
            await self.read_gate.wait()
        if self.fail_read is not None:
            raise self.fail_read
        if path not in self.objects:
            raise NotFound(404, "NotFound", f"{path} not found")
        return copy.deepcopy(self.objects[path])

    async def pages(self, path: str, *, metadata_only: bool = False) -> AsyncIterator[Body]:
        """List metadata, two jobs a page."""
        assert metadata_only
        self.lists.append(path)
        if self.read_gate is not None:
            await self.read_gate.wait()
        if self.fail_list is not None:
            raise self.fail_list
        found = [{"metadata": dict(body["metadata"])} for at, body in self.objects.items() if at.startswith(f"{path}/")]
        for begin in range(0, max(len(found), 1), 2):
            yield {"metadata": {"resourceVersion": str(self._version)}, "items": found[begin : begin + 2]}

    async def apply(self, path: str, body: Mapping[str, Any], *, manager: str, force: bool = True) -> Body:
        async with self._begun:
            self._writes += 1
            self._begun.notify_all()
        if self.write_gate is not None:
            await self.write_gate.wait()
        self.before_write()
        self.applied.append((path, {**body, "manager": manager, "force": force}))
        if self.fail_write is not None:
            raise self.fail_write
        held = self.objects.get(path)
        if held is None:
            raise Conflict(409, "Conflict", "uid mismatch: no existing object was found")
        if held["metadata"]["uid"] != body["metadata"]["uid"]:
            raise KubeError(422, "Invalid", "metadata.uid: Invalid value: field is immutable")
        self._ask(path, body["spec"]["desiredState"])
        answer = copy.deepcopy(held)
        self.after_write(path)
        return answer

    async def patch(self, path: str, body: Mapping[str, Any], *, manager: str = "") -> Body:
        """Merge annotations into those of a job."""
        if self.fail_write is not None:
            raise self.fail_write
        held = self.objects.get(path)
        if held is None:
            raise NotFound(404, "NotFound", f"{path} not found")
        self.patched.append((path, {**body, "manager": manager}))
        held["metadata"].setdefault("annotations", {}).update(body["metadata"]["annotations"])
        self._touch(path)
        self.tell(path)
        answer = copy.deepcopy(held)
        self.after_write(path)
        return answer

    def _ask(self, path: str, state: str) -> None:
        body = self.objects[path]
        if body["spec"].get("desiredState") != state:
            body["spec"]["desiredState"] = state
            body["metadata"]["generation"] += 1
            self._touch(path)

    def _touch(self, path: str) -> None:
        self.objects[path]["metadata"]["resourceVersion"] = str(self._next())

    def _next(self) -> int:
        self._version += 1
        return self._version
