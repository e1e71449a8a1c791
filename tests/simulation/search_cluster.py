"""A simulated OpenSearch cluster: records with compare-and-set, aliases, bulks with versions, searches, a task list.

It understands the requests that `rollup_operator.stores.opensearch` sends, and nothing else. Short requests are one
moment. A search, a bulk or a deletion takes a while, is in the task list meanwhile, and only a search ends when its
connection does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from rollup_operator.stores.errors import StoreError
from rollup_operator.stores.opensearch.records import ALIAS, INDEX
from rollup_operator.stores.opensearch.source.buckets import PageBuckets
from rollup_operator.stores.opensearch.transport.errors import Broken, Overloaded, classify
from rollup_operator.stores.opensearch.transport.request import Request
from simulation import source
from simulation.clock import BEGIN, Clock
from simulation.network import Way

CANCEL_SECONDS = 0.04
"""A search whose connection is cut ends so soon after."""

DATE = "ts"
SOURCE_INDEX = "events"

FIELDS = {DATE: "date", "x": "long"}
"""What the source has, and the types."""

Answer = Callable[[Any, StoreError | None], None]
"""Takes the answer of a request, or the error."""


@dataclass(slots=True)
class Index:
    """A rollup index."""

    name: str
    uuid: str
    mappings: dict[str, Any]
    aliases: dict[str, Any]
    documents: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    """By id: version and source."""
    rows: dict[tuple[str, int], int] = field(default_factory=dict)
    """By job id and bucket: how many rows the document says."""
    unseen: set[str] = field(default_factory=set)
    """Documents that searches do not find before the next refresh."""


@dataclass(eq=False, slots=True)
class Task:
    """A request at work."""

    opaque_id: str
    doing: str
    cancelled: bool = False
    sender_frozen: bool = False
    """Whether its sender was frozen when it arrived."""


class Witness(Protocol):
    """Sees whatever happens in the cluster."""

    def works(self, task: Task) -> None:
        """A search, a bulk or a deletion is about to begin."""

    def document(self, opaque_id: str, index: str, id_: str, version: int, source: Mapping[str, Any]) -> None:
        """A document is about to be written."""

    def record(self, before: Mapping[str, Any] | None, after: Mapping[str, Any], opaque_id: str) -> None:
        """A job's record is about to change."""

    def deletes(self, opaque_id: str, index: str, job_id: str, epochs: Sequence[int]) -> None:
        """A job's documents of these epochs are about to be deleted."""

    def describes(self, opaque_id: str) -> None:
        """The fields of the source are told."""


class SearchCluster:
    """One cluster."""

    def __init__(self, clock: Clock, way: Way, witness: Witness) -> None:
        self.clock, self.way, self._witness = clock, way, witness
        self.indices: dict[str, Index] = {}
        self.records: dict[str, tuple[int, dict[str, Any]]] = {}
        """By id: sequence number and source. Locks of `_meta` are among them."""
        self.tasks: dict[Task, None] = {}
        self._count = 0
        self.has_claims = False

    def now_ms(self) -> float:
        """What the cluster's clock shows."""
        return (BEGIN.timestamp() + self.clock.now) * 1000

    def record(self, key: tuple[str, str]) -> dict[str, Any] | None:
        """Return a job's record."""
        found = self.records.get(f"claim/{key[0]}/{key[1]}")
        return None if found is None else found[1]

    def receive(self, request: Request, answer: Answer, *, sender_frozen: bool = False) -> Task | None:
        """Take a request in, and call `answer` when it is done. Returns the task of one that takes a while."""
        path, params = target(request.target)
        opaque_id = request.headers["X-Opaque-Id"]
        last = path[-1] if path else ""
        if last == "_bulk":
            return self._bulk(request, path[0], opaque_id, answer)
        if last == "_search" and path[0] != ALIAS:
            return self._search(request, opaque_id, answer, sender_frozen=sender_frozen)
        if last == "_delete_by_query":
            return self._delete(request, path[0], opaque_id, answer)
        try:
            result = self._at_once(request.method, path, params, request.data, opaque_id)
        except _Refused as e:
            answer(
                None, classify(e.status, {"error": {"type": e.kind, "reason": e.kind}, **e.body}, request.doing, str)
            )
        except StoreError as e:
            answer(None, e)
        else:
            answer(result, None)
        return None

    def cut(self, task: Task) -> None:
        """The connection of a request at work is gone; only a search ends with it."""

        def cancel() -> None:
            task.cancelled = True
            self.tasks.pop(task, None)

        if task.doing == "search":
            self.clock.after(self.way.random.uniform(0, CANCEL_SECONDS), cancel)

    # What takes a while

    def _begin(self, opaque_id: str, doing: str, *, sender_frozen: bool = False) -> Task:
        task = Task(opaque_id, doing, sender_frozen=sender_frozen)
        self._witness.works(task)
        self.tasks[task] = None
        return task

    def _work(self) -> float:
        return self.way.random.choice(self.way.weather.works)

    def _search(self, request: Request, opaque_id: str, answer: Answer, *, sender_frozen: bool) -> Task:
        body, name = orjson.loads(request.data or b"{}"), target(request.target)[0][0]
        task = self._begin(opaque_id, "search", sender_frozen=sender_frozen)

        def done() -> None:
            if not task.cancelled:
                del self.tasks[task]
                answer(self._written(name, body) if name in self.indices else self._found(body), None)

        self.clock.after(self._work(), done)
        return task

    def _found(self, body: Mapping[str, Any]) -> dict[str, Any]:
        head = {"_shards": {"total": 1, "failed": 0}, "timed_out": False}
        span = body["query"]["range"][DATE]
        if "aggregations" not in body:
            found = source.buckets(None, span["gte"], span["lt"], self.now_ms(), 10_000)
            rows = sum(rows for _, rows in found)
            ends = (found[0][0], found[-1][0] + source.WIDTH - 1) if found else None
            return {**head, "rows": rows, "ends": ends}
        composite = body["aggregations"]["rollup"]["composite"]
        after = composite["after"]["0"] if "after" in composite else None
        found = source.buckets(after, span["gte"], span["lt"], self.now_ms(), composite["size"])
        buckets = [{"key": {"0": begin}, "doc_count": rows, "m0": {"value": float(rows)}} for begin, rows in found]
        return {**head, "aggregations": {"rollup": {"buckets": PageBuckets.of(buckets)}}}

    def _written(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the documents of a job that searches find, each with its bucket and its number of rows."""
        index, span = self.indices[name], body["query"]["range"][DATE]
        found = {
            str(bucket): index.documents[id_][1][f"{DATE}.date_histogram._count"]
            for id_ in index.documents
            if id_ not in index.unseen
            and (key := _bucket(index.documents[id_][1]))[0] == body["job_id"]
            and span["gte"] <= (bucket := key[1]) < span["lt"]
        }
        return {"_shards": {"total": 1, "failed": 0}, "timed_out": False, "documents": found}

    def _bulk(self, request: Request, gate: str, opaque_id: str, answer: Answer) -> Task | None:
        index = next((index for index in self.indices.values() if gate in index.aliases), None)
        lines = (request.data or b"").splitlines()
        items = [(orjson.loads(lines[i])["index"], orjson.loads(lines[i + 1])) for i in range(0, len(lines), 2)]
        if index is None:
            refused = [_failed(404, "index_not_found_exception") for _ in items]
            answer({"errors": True, "items": refused}, None)
            return None
        task = self._begin(opaque_id, "bulk")
        results: list[dict[str, Any]] = []
        half = len(items) // 2

        def land(part: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
            results.extend(self._item(index, opaque_id, action, document) for action, document in part)

        def done() -> None:
            land(items[half:])
            del self.tasks[task]
            answer({"errors": any("error" in r["index"] for r in results), "items": results}, None)

        seconds = self._work()
        self.clock.after(seconds / 2, land, items[:half])
        self.clock.after(seconds, done)
        return task

    def _item(self, index: Index, opaque_id: str, action: Mapping[str, Any], document: dict[str, Any]) -> Any:
        if self.way.happens(self.way.weather.item_failures):
            return _failed(429, "es_rejected_execution_exception")
        id_ = action["_id"]
        there = index.documents.get(id_)
        version = action.get("version")
        if version is None:
            version = 1 if there is None else there[0] + 1
        elif there is not None and there[0] > version:
            return _failed(409, "version_conflict_engine_exception")
        self._witness.document(opaque_id, index.name, id_, version, document)
        index.documents[id_] = version, document
        index.unseen.add(id_)
        index.rows[_bucket(document)] = document[f"{DATE}.date_histogram._count"]
        return {"index": {"status": 200, "result": "created" if there is None else "updated"}}

    def _delete(self, request: Request, name: str, opaque_id: str, answer: Answer) -> Task | None:
        query = orjson.loads(request.data or b"{}")
        try:
            index = self._index(name)
        except _Refused as e:
            answer(None, classify(e.status, {"error": {"type": e.kind, "reason": e.kind}}, request.doing, str))
            return None
        task = self._begin(opaque_id, "delete")

        def done() -> None:
            del self.tasks[task]
            mine = self._documents(index.name, query)
            if mine:
                self._witness.deletes(opaque_id, index.name, _job_id(query), [index.documents[id_][0] for id_ in mine])
            for id_ in mine:
                del index.rows[_bucket(index.documents.pop(id_)[1])]
            answer({"failures": [], "total": len(mine), "deleted": len(mine)}, None)

        self.clock.after(self._work(), done)
        return task

    def _documents(self, name: str, query: Mapping[str, Any]) -> list[str]:
        """Return the ids of the documents of one job that searches find."""
        index, job_id = self._index(name), _job_id(query)
        return [id_ for id_, (_, d) in index.documents.items() if d["_rollup.id"] == job_id and id_ not in index.unseen]

    # What is one moment

    def _at_once(
        self, method: str, path: tuple[str, ...], params: Mapping[str, str], data: bytes | None, opaque_id: str
    ) -> Any:
        match method, path:
            case "GET", (index, "_field_caps"):
                return self._fields(index, opaque_id)
            case "GET", ("_tasks",):
                return self._clock() if "lists" in params.get("actions", "") else self._listed()
            case "GET", (index, "_doc", id_) if index == ALIAS:
                return self._stored(id_)
            case "PUT", (index, "_doc" | "_create" as how, id_) if index == ALIAS:
                return self._put(id_, orjson.loads(data or b""), params, opaque_id, create=how == "_create")
            case "DELETE", (_, "_doc", id_):
                self._compare(id_, params)
                del self.records[id_]
                return {}
            case "POST", (index, "_refresh"):
                return self._refresh(index)
            case "POST", (index, "_search") if index == ALIAS:
                return self._held(orjson.loads(data or b""))
            case "POST", ("_aliases",):
                return self._aliases(orjson.loads(data or b"")["actions"])
            case "POST", (index, "_count"):
                return {"count": len(self._documents(index, orjson.loads(data or b"")))}
            case "PUT", (index, "_mapping"):
                self._meta(index, orjson.loads(data or b""))
                return {"acknowledged": True}
            case "PUT", (index, "_settings"):
                return {"acknowledged": True}
            case "PUT", (index,):
                return self._make(index, orjson.loads(data or b""))
            case "GET", (names,):
                return self._shown(names.split(","), params)
            case "GET", ():
                return {"version": {"number": "3.0.0", "distribution": "opensearch"}}
        raise NotImplementedError(f"{method} {path}")

    def _fields(self, index: str, opaque_id: str) -> dict[str, Any]:
        self._witness.describes(opaque_id)
        fields = {name: {kind: {"aggregatable": True}} for name, kind in FIELDS.items()}
        return {"indices": [index], "fields": fields}

    def _clock(self) -> dict[str, Any]:
        """Show the request for the task list, which says what time it is."""
        return {"nodes": {"node": {"tasks": {"own": {"start_time_in_millis": int(self.now_ms())}}}}}

    def _listed(self) -> dict[str, Any]:
        if self.way.happens(self.way.weather.deaf):
            return {"node_failures": [{"reason": "the node does not answer"}]}
        tasks = {str(i): {"headers": {"X-Opaque-Id": task.opaque_id}} for i, task in enumerate(self.tasks)}
        return {"nodes": {"node": {"tasks": tasks}}}

    def _stored(self, id_: str) -> dict[str, Any]:
        if not self.has_claims:
            raise _Refused(404, "index_not_found_exception")
        if (found := self.records.get(id_)) is None:
            raise _Refused(404, "", {"found": False})
        return {"_seq_no": found[0], "_primary_term": 1, "_source": found[1]}

    def _compare(self, id_: str, params: Mapping[str, str]) -> None:
        found = self.records.get(id_)
        if "if_seq_no" in params and (found is None or str(found[0]) != params["if_seq_no"]):
            raise _Refused(409, "version_conflict_engine_exception")

    def _put(
        self, id_: str, document: dict[str, Any], params: Mapping[str, str], opaque_id: str, *, create: bool
    ) -> dict[str, Any]:
        if not self.has_claims:
            raise _Refused(404, "index_not_found_exception")
        before = self.records.get(id_)
        if before is not None and (create or params.get("op_type") == "create"):
            raise _Refused(409, "version_conflict_engine_exception")
        self._compare(id_, params)
        self._count += 1
        if id_.startswith("claim/"):
            self._witness.record(None if before is None else before[1], document, opaque_id)
        self.records[id_] = self._count, document
        return {"_seq_no": self._count, "_primary_term": 1}

    def _held(self, body: Mapping[str, Any]) -> dict[str, Any]:
        hits = [
            {"_source": document, "sort": [document["rollup_index"], document["job_id"]]}
            for id_, (_, document) in sorted(self.records.items())
            if id_.startswith("claim/") and document.get("holder")
        ]
        return {"hits": {"hits": hits}}

    def _refresh(self, index: str) -> dict[str, Any]:
        if index == ALIAS:
            if not self.has_claims:
                raise _Refused(404, "index_not_found_exception")
        else:
            self._index(index).unseen.clear()
        return {"_shards": {"failed": 0}}

    def _index(self, name: str) -> Index:
        """Return an index by its name or by an alias."""
        found = self.indices.get(name) or next((i for i in self.indices.values() if name in i.aliases), None)
        if found is None:
            raise _Refused(404, "index_not_found_exception")
        return found

    def _aliases(self, actions: list[dict[str, Any]]) -> dict[str, Any]:
        for action in actions:
            (verb, of), *_ = action.items()
            if of["index"] == INDEX:
                continue
            index = self._index(of["index"])
            if verb == "remove" and of["alias"] not in index.aliases:
                raise _Refused(404, "aliases_not_found_exception")
        for action in actions:
            (verb, of), *_ = action.items()
            if of["index"] != INDEX and verb == "add":
                self.indices[of["index"]].aliases[of["alias"]] = {}
            elif of["index"] != INDEX:
                self.indices[of["index"]].aliases.pop(of["alias"], None)
        return {"acknowledged": True}

    def _make(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if name == INDEX:
            if self.has_claims:
                raise _Refused(400, "resource_already_exists_exception")
            self.has_claims = True
        elif name in self.indices:
            raise _Refused(400, "resource_already_exists_exception")
        else:
            self._count += 1
            self.indices[name] = Index(name, f"uuid{self._count}", nested(body["mappings"]), dict(body["aliases"]))
        return {"acknowledged": True}

    def _meta(self, name: str, body: Mapping[str, Any]) -> None:
        index = self._index(name)
        new = nested(body)
        if "_meta" in new:
            index.mappings = {**index.mappings, "_meta": new["_meta"]}
        if "properties" in new:
            index.mappings = {**index.mappings, "properties": _joined(index.mappings["properties"], new["properties"])}

    def _shown(self, names: list[str], params: Mapping[str, str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in names:
            if name == ALIAS:
                if self.has_claims:
                    found[INDEX] = {"aliases": {ALIAS: {}}, "settings": {"index": {"number_of_replicas": "0"}}}
            elif (index := self.indices.get(name)) is not None:
                settings = {"index": {"uuid": index.uuid, "number_of_replicas": "0"}}
                found[name] = {"aliases": dict(index.aliases), "mappings": index.mappings, "settings": settings}
            elif "ignore_unavailable" not in params:
                raise _Refused(404, "index_not_found_exception")
        return found


class _Refused(Exception):
    """The cluster answers with an error of this status and type."""

    def __init__(self, status: int, kind: str, body: Mapping[str, Any] | None = None) -> None:
        super().__init__(kind)
        self.status, self.kind, self.body = status, kind, body or {}


def failure(random_choice: int, doing: str) -> StoreError:
    """Return an error that a cluster answers now and then."""
    if random_choice:
        return Overloaded(f"{doing}: too many requests", status=429, kind="es_rejected_execution_exception")
    return Broken(f"{doing}: a shard is not there")


def _job_id(query: Mapping[str, Any]) -> str:
    return str(next(f["term"]["_rollup.id"] for f in query["query"]["bool"]["filter"] if "term" in f))


def _bucket(document: Mapping[str, Any]) -> tuple[str, int]:
    return document["_rollup.id"], document[f"{DATE}.date_histogram.timestamp"]


def _failed(status: int, kind: str) -> dict[str, Any]:
    return {"index": {"status": status, "error": {"type": kind, "reason": kind}}}


def nested(mappings: Mapping[str, Any]) -> dict[str, Any]:
    """Return mappings with an object for each part of a dotted name, as a cluster keeps them."""
    properties: dict[str, Any] = {}
    for name, of in mappings.get("properties", {}).items():
        *outer, last = name.split(".")
        node = properties
        for part in outer:
            node = node.setdefault(part, {"properties": {}})["properties"]
        node[last] = of
    return {**mappings, "properties": properties} if properties else dict(mappings)


def _joined(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(old)
    for name, of in new.items():
        if name in both and "properties" in both[name] and "properties" in of:
            both[name] = {"properties": _joined(both[name]["properties"], of["properties"])}
        else:
            both[name] = of
    return both


@lru_cache(maxsize=4096)
def target(text: str) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Return the parts of a path and its parameters."""
    split = urlsplit(text)
    return tuple(unquote(part) for part in split.path.split("/") if part), dict(parse_qsl(split.query))
