"""What a small cluster answers to each kind of request, in the words of a real one, and ways to spoil it."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from rollup_operator.stores.opensearch import records
from rollup_operator.stores.opensearch.target import gate, mapping
from rollup_operator.stores.opensearch.transport.client import OPAQUE_ID
from support.embedded import config, spec
from support.hostile_host import Asked, Said, said

JOB = config(spec("rows", "out"))
HOUR = 3_600_000
EPOCH = 5
GATE = gate.gate_name(JOB.key, EPOCH)


def _source() -> dict[str, Any]:
    record = records.claimed(records.first(JOB, 3), JOB, "somebody", 4)
    document = records.to_document(record)
    position = {"ts.date_histogram": HOUR, "size.histogram": 10.0, "term.terms": "a"}
    return document | {
        "epoch": EPOCH,
        "target": "u1",
        "gate": GATE,
        "position": position,
        "watermark_ms": 2 * HOUR,
        "edge_ms": HOUR,
    }


def _types() -> dict[str, Any]:
    kinds = {"ts": "date", "value": "double", "term": "keyword", "size": "long"}
    return {field: {kind: {"aggregatable": True}} for field, kind in kinds.items()}


def _stats() -> dict[str, Any]:
    return {"count": 1, "min": 1.0, "max": 2.0, "avg": 1.5, "sum": 3.0}


def _bucket(number: int) -> dict[str, Any]:
    return {"key": {"0": number * HOUR, "1": 10.0, "2": "a"}, "doc_count": 2, "m0": _stats()}


def documents(ids: list[str]) -> dict[str, Any]:
    """Return what is stored under these ids."""
    kept = {"ts.date_histogram._count": 1, "value.sum.value": 7.0, "value.min.value": 1}
    return {"docs": [{"_id": id_, "_source": kept} for id_ in ids]}


SHARDS = {"total": 1, "successful": 1, "skipped": 0, "failed": 0}
TASK = {"n": {"tasks": {"n:1": {"start_time_in_millis": 1_700_000_000_000, "headers": {"X-Opaque-Id": "rollup/x/1"}}}}}
INDEX = {
    "aliases": {GATE: {}},
    "mappings": {
        **mapping.mappings(JOB, {"_rollup.id": "keyword"}),
        "properties": {"_rollup": {"properties": {"id": {"type": "keyword"}}}},
    },
    "settings": {"index": {"uuid": "u1", "number_of_replicas": "1", "auto_expand_replicas": "0-1"}},
}
CLAIMS = {
    "aliases": {records.ALIAS: {}},
    "settings": {"index": {"uuid": "u2", "number_of_replicas": "0"}},
}

HONEST: dict[str, Any] = {
    "about": {"version": {"number": "2.19.1", "distribution": "opensearch"}, "cluster_uuid": "c1"},
    "idle": {"nodes": {"n": {"tasks": {"n:1": {"headers": {"X-Opaque-Id": OPAQUE_ID}}}}}},
    "health": {"status": "green"},
    "time": {"nodes": TASK},
    "tasks": {"nodes": TASK},
    "claim": {"_seq_no": 7, "_primary_term": 1, "found": True, "_source": _source()},
    "lock": {"_seq_no": 3, "_primary_term": 1, "found": True, "_source": {"locked_by": "me"}},
    "recorded": {"_seq_no": 8, "_primary_term": 1, "result": "updated", "_shards": SHARDS},
    "settings": {"rows": {"settings": {"index": {"replication": {"type": "DOCUMENT"}}}}},
    "uuid": {"out": {"settings": {"index": {"uuid": "u1"}}}},
    "look": {"out": INDEX, records.INDEX: CLAIMS},
    "aliases": {"out": {"aliases": {GATE: {}}}},
    "changed": {"acknowledged": True},
    "fields": {"indices": ["rows"], "fields": _types()},
    "counted": {
        "took": 1,
        "timed_out": False,
        "_shards": SHARDS,
        "hits": {"total": {"value": 4, "relation": "eq"}},
        "aggregations": {"s0": {"value": 4}, "s1": {"value": 4}},
    },
    "edge": {"timed_out": False, "_shards": SHARDS, "hits": {"total": {"value": 4, "relation": "eq"}}},
    "summed": {"timed_out": False, "_shards": SHARDS, "aggregations": {"rows": {"value": 4.0}}},
    "ends": {
        "timed_out": False,
        "_shards": SHARDS,
        "aggregations": {"first": {"value": 2.0 * HOUR}, "last": {"value": 4.0 * HOUR}},
    },
    "page": {
        "timed_out": False,
        "_shards": SHARDS,
        "aggregations": {"rollup": {"after_key": {}, "buckets": [_bucket(2), _bucket(3)]}},
    },
    "bulk": {
        "errors": False,
        "items": [{"index": {"status": 201, "result": "created"}}, {"index": {"status": 200, "result": "updated"}}],
    },
    "failed bulk": {
        "errors": True,
        "items": [
            {"index": {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "full"}}},
            {"index": {"status": 200, "result": "updated"}},
        ],
    },
    "refreshed": {"_shards": SHARDS},
    "listed": {"hits": {"hits": [{"_source": _source(), "sort": ["out", "job"]}]}},
    "documents": documents(["x", "y"]),
    "rolled": {"out": INDEX},
    "recalled": {"docs": [{"_id": "claim", "_seq_no": 7, "_primary_term": 1, "found": True, "_source": _source()}]},
    "edges": {
        "responses": [
            {
                "status": 200,
                "hits": {"hits": [{"_version": EPOCH}]},
                "aggregations": {"first": {"value": 2.0 * HOUR}, "last": {"value": 4.0 * HOUR}},
            }
        ]
    },
    "searched": {
        "responses": [
            {
                "status": 200,
                "timed_out": False,
                "_shards": SHARDS,
                "hits": {"total": {"value": 4, "relation": "eq"}},
                "aggregations": {
                    "n0": _stats(),
                    "l0": {
                        "sum_other_doc_count": 0,
                        "buckets": [
                            {
                                "key": "a",
                                "doc_count": 2,
                                "n0": _stats(),
                                "l0": {"buckets": [{"key": 10.0, "doc_count": 2}]},
                            }
                        ],
                    },
                    "l1": {"buckets": [{"doc_count": 4}]},
                },
            }
        ]
    },
    "deleted": {"failures": [], "total": 0, "deleted": 0},
    "found": {"count": 0, "_shards": SHARDS},
}
"""By the kind of the request."""


def kind_of(request: Asked) -> str:
    """Return what a request is."""
    split = urlsplit(request.target)
    params, path = parse_qs(split.query), split.path.strip("/").split("/")
    match request.method, path:
        case "GET", [""]:
            return "about"
        case "GET", ["_tasks"]:
            if not params["actions"][0].startswith("cluster:"):
                return "tasks"
            return "idle" if "X-Opaque-Id" in params["filter_path"][0] else "time"
        case "GET", ["_cluster", "health"]:
            return "health"
        case "GET", [records.ALIAS, "_doc", id_]:
            return "claim" if id_.startswith("claim") else "lock"
        case "PUT" | "DELETE", [records.ALIAS, "_doc" | "_create", _]:
            return "recorded"
        case "GET", [index]:
            if "," in index:
                return "look"
            if "mappings" in params["filter_path"][0]:
                return "rolled"
            return "uuid" if "uuid" in params["filter_path"][0] else "aliases"
        case "POST", [records.ALIAS, "_mget"]:
            return "recalled"
        case "POST", ["_msearch"]:
            return "edges" if "first" in request.body[1].get("aggregations", {}) else "searched"
        case "PUT", _:
            return "changed"
        case _, ["_aliases"]:
            return "changed"
        case _, [_, "_field_caps"]:
            return "fields"
        case "GET", [_, "_settings"]:
            return "settings"
        case _, [records.ALIAS, "_search"]:
            return "listed"
        case _, [_, "_search"]:
            named = {"rollup": "page", "first": "ends", "s0": "counted", "rows": "summed"}
            return next((kind for name, kind in named.items() if name in request.body.get("aggregations", {})), "edge")
        case _, [_, "_bulk"]:
            return "bulk"
        case _, [_, "_refresh"]:
            return "refreshed"
        case _, [_, "_mget"]:
            return "documents"
        case _, [_, "_delete_by_query"]:
            return "deleted"
        case _, [_, "_count"]:
            return "found"
    raise AssertionError(f"{request.method} {request.target}")


_claimed: dict[str, Any] = {}
"""The records of jobs, by their documents, while a run holds the claim."""


def _document(request: Asked) -> str:
    return urlsplit(request.target).path.rpartition("/")[2]


def honest(request: Asked) -> Said:
    """Return what the cluster answers to it."""
    kind = kind_of(request)
    if kind == "recorded" and request.body is not None and "holder" in request.body:
        _claimed[_document(request)] = request.body if request.body["holder"] else None
    if kind == "claim" and (held := _claimed.get(_document(request))):
        return said({**HONEST["claim"], "_source": held})
    if kind == "lock":
        return said({"found": False}, 404)
    if kind == "documents":
        return said(documents(request.body["ids"]))
    if kind == "page" and _after(request) >= 3 * HOUR:
        return said({**HONEST["page"], "aggregations": {"rollup": {"buckets": []}}})
    return said(HONEST[kind])


def _after(request: Asked) -> int:
    """Return behind which bucket a search begins."""
    key: dict[str, int] = request.body["aggregations"]["rollup"]["composite"].get("after", {"0": -1})
    return key["0"]


MISSING = object()
SPOILS: tuple[Any, ...] = (
    MISSING, None, True, "x", "9" * 400, "\x1b[31m\u202e", -1,
    7, 10**18, 10**30, 1e308, [], {}, [[]], [None], {"a": {}},
)  # fmt: skip


def spoiled(answer: Any, spoils: Sequence[Any] = SPOILS) -> Iterator[Any]:
    """Yield an answer with each of its values, and itself, replaced by each of what it should not be."""
    for path in _paths(answer):
        for spoil in spoils:
            if not path:
                if spoil is not MISSING:
                    yield spoil
                continue
            changed = copy.deepcopy(answer)
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            if spoil is MISSING:
                del inner[path[-1]]
            else:
                inner[path[-1]] = spoil
            yield changed


def renamed(answer: Any, name: str) -> Iterator[Any]:
    """Yield an answer with each of its names, one at a time, replaced by another one."""
    for *inner, last in (path for path in _paths(answer) if path and isinstance(path[-1], str)):
        changed = copy.deepcopy(answer)
        there = changed
        for key in inner:
            there = there[key]
        there[name] = there.pop(last)
        yield changed


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from _paths(inner, (*path, key))
