"""Errors of a cluster, each by an answer that OpenSearch 2.19 and 3.8 and Elasticsearch 7.10 give (shortened)."""

from typing import Any

import pytest

from rollup_operator.stores.errors import StoreError, StoreUnavailable
from rollup_operator.stores.opensearch.transport.errors import (
    Broken,
    DiskFull,
    DocumentConflict,
    IndexBlocked,
    MappingConflict,
    NotThere,
    Overloaded,
    Refused,
    Unanswered,
    Unauthorized,
    classify,
)


def whole(type_: str, reason: str, **more: Any) -> dict[str, Any]:
    """An error that is its own root cause."""
    return {"error": {"root_cause": [{"type": type_, "reason": reason}], "type": type_, "reason": reason, **more}}


def search(*shards: tuple[str, str], caused: bool = False) -> dict[str, Any]:
    """A search of which these shards failed; OpenSearch 3 adds what caused it."""
    causes = [{"type": type_, "reason": reason} for type_, reason in shards]
    failed = [{"shard": i, "index": "big", "node": "n", "reason": cause} for i, cause in enumerate(causes)]
    top: dict[str, Any] = {"type": "search_phase_execution_exception", "reason": "all shards failed", "phase": "query"}
    if caused:
        top["caused_by"] = causes[0]
    return {"error": {"root_cause": causes, **top, "grouped": True, "failed_shards": failed}}


def item(type_: str, reason: str, **more: Any) -> dict[str, Any]:
    """The error of one item of a bulk."""
    return {"error": {"type": type_, "reason": reason, **more}}


BUCKETS = (
    "too_many_buckets_exception",
    "Trying to create too many buckets. Must be less than or equal to: [100] but was [1000]. This limit can be set by "
    "changing the [search.max_buckets] cluster level setting.",
)
BREAKER = (
    "circuit_breaking_exception",
    "[request] Data too large, data for [<reused_arrays>] would be [109928/107.3kb], which is larger than the limit of "
    "[102400/100kb]",
)
REJECTED = (
    "rejected_execution_exception",
    "rejected execution of org.opensearch.common.util.concurrent.TimedRunnable@1b52fcf0 on "
    "QueueResizingOpenSearchThreadPoolExecutor[name = Node 1/search, queue capacity = 2, min queue capacity = 1000, "
    "frame size = 2000, org.opensearch.common.util.concurrent.QueueResizingOpenSearchThreadPoolExecutor@3c9ea53a"
    "[Running, pool size = 1, active threads = 1, queued tasks = 2, completed tasks = 0]]",
)
CANCELLED = ("task_cancelled_exception", "cancelled task with reason: by user request")
FLOOD = (
    "cluster_block_exception",
    "index [ro] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has "
    "read-only-allow-delete block];",
)
OTHER_SHARD = ("query_shard_exception", "No mapping found for [x] in order to sort on")

MISSING_SHARDS = {
    "error": {
        "root_cause": [],
        "type": "search_phase_execution_exception",
        "reason": "",
        "failed_shards": [],
        "caused_by": {
            "type": "search_phase_execution_exception",
            "reason": "Search rejected due to missing shards [[un][0]]. Consider using "
            "`allow_partial_search_results` setting to bypass this error.",
        },
    }
}

NO_ROOT_CAUSE = {
    "error": {
        "root_cause": [],
        "type": "search_phase_execution_exception",
        "reason": "",
        "phase": "fetch",
        "grouped": True,
        "failed_shards": [],
        "caused_by": {"type": BUCKETS[0], "reason": BUCKETS[1], "max_buckets": 100},
    },
    "status": 400,
}

ANSWERS: dict[str, tuple[int, Any, type[StoreError], str]] = {
    "too many buckets": (503, search(BUCKETS), Overloaded, "Trying to create too many buckets"),
    "too many buckets, 3.8": (503, search(BUCKETS, caused=True), Overloaded, "Trying to create too many buckets"),
    "too many buckets, newer": (400, search(BUCKETS), Overloaded, "Trying to create too many buckets"),
    "too many buckets, 8.19 and 9.5": (400, NO_ROOT_CAUSE, Overloaded, "Trying to create too many buckets"),
    "breaker in a search": (429, search(BREAKER), Overloaded, "[request] Data too large"),
    "breaker for a bulk": (429, whole(*BREAKER), Overloaded, "[request] Data too large"),
    "breaker in the second shard": (400, search(OTHER_SHARD, BREAKER), Overloaded, "[request] Data too large"),
    "queue full, search": (429, search(REJECTED, REJECTED), Overloaded, "the queue of Node 1/search is full (2)"),
    "queue full, item": (429, item(*REJECTED), Overloaded, "the queue of Node 1/search is full (2)"),
    "cancelled": (500, search(CANCELLED), Overloaded, "cancelled task with reason: by user request"),
    "cancelled, 7.10": (500, search(("task_cancelled_exception", "cancelled")), Overloaded, "cancelled"),
    "cancelled, 3.8": (500, search(CANCELLED, caused=True), Overloaded, "cancelled task"),
    "busy proxy": (503, None, Overloaded, "HTTP 503"),
    "slow proxy": (408, "timeout", Overloaded, "HTTP 408"),
    "no shard, search": (503, MISSING_SHARDS, Broken, "Search rejected due to missing shards [[un][0]]"),
    "no shard, item": (
        503,
        item("unavailable_shards_exception", "[un][0] primary shard is not active Timeout: [1s]"),
        Broken,
        "[un][0] primary shard is not active",
    ),
    "no shard, document": (
        503,
        whole("no_shard_available_action_exception", "No shard available for [get [un][1]: routing [null]]"),
        Broken,
        "No shard available",
    ),
    "starting": (
        503,
        whole("cluster_block_exception", "blocked by: [SERVICE_UNAVAILABLE/1/state not recovered / initialized];"),
        Broken,
        "state not recovered",
    ),
    "no master": (503, whole("master_not_discovered_exception", ""), Broken, "HTTP 503"),
    "flood stage, item": (429, item(*FLOOD), DiskFull, "disk usage exceeded flood-stage watermark"),
    "flood stage, mapping": (429, whole(*FLOOD), DiskFull, "disk usage exceeded flood-stage watermark"),
    "flood stage, older": (
        403,
        item("cluster_block_exception", "index [a] blocked by: [FORBIDDEN/12/index read-only / allow delete (api)];"),
        DiskFull,
        "read-only / allow delete",
    ),
    "flood stage, new index": (
        403,
        whole("index_create_block_exception", "blocked by: [FORBIDDEN/10/cluster create-index blocked (api)];"),
        DiskFull,
        "create-index blocked",
    ),
    "write block, item": (
        403,
        item("cluster_block_exception", "index [ro] blocked by: [FORBIDDEN/8/index write (api)];"),
        IndexBlocked,
        "index write (api)",
    ),
    "read-only, document": (
        403,
        whole("cluster_block_exception", "index [ro] blocked by: [FORBIDDEN/5/index read-only (api)];"),
        IndexBlocked,
        "index read-only (api)",
    ),
    "closed, item": (400, item("index_closed_exception", "closed", index="closed"), IndexBlocked, "closed"),
    "closed, search": (400, whole("index_closed_exception", "closed"), IndexBlocked, "closed"),
    "no index": (
        404,
        whole("index_not_found_exception", "no such index [nothere]"),
        NotThere,
        "no such index [nothere]",
    ),
    "no alias, item": (
        404,
        item(
            "index_not_found_exception", "no such index [a] and [require_alias] request flag is [true] and [a] is ..."
        ),
        NotThere,
        "no such index [a] and [require_alias]",
    ),
    "no document": (404, {"_index": "big", "_id": "x", "found": False}, NotThere, "HTTP 404"),
    "version, item": (
        409,
        item("version_conflict_engine_exception", "[9]: version conflict, current version [5] is higher than ..."),
        DocumentConflict,
        "[9]: version conflict",
    ),
    "value of another type": (
        400,
        item(
            "mapper_parsing_exception",
            "failed to parse field [n] of type [long] in document with id '1'. Preview of field's value: 'abc'",
            caused_by={"type": "illegal_argument_exception", "reason": 'For input string: "abc"'},
        ),
        MappingConflict,
        "failed to parse field [n] of type [long] in document with id '1'. Preview of field's value: 'abc': For input",
    ),
    "value of another type, newer": (
        400,
        item("document_parsing_exception", "[1:6] failed to parse field [n] of type [long]"),
        MappingConflict,
        "[1:6] failed to parse field [n]",
    ),
    "unknown field": (
        400,
        item(
            "strict_dynamic_mapping_exception", "mapping set to strict, dynamic introduction of [m] within [_doc] ..."
        ),
        MappingConflict,
        "dynamic introduction of [m]",
    ),
    "too many fields": (
        400,
        item("illegal_argument_exception", "Limit of total fields [1] has been exceeded"),
        MappingConflict,
        "Limit of total fields [1]",
    ),
    "mapping of another type": (
        400,
        whole("illegal_argument_exception", "mapper [n] cannot be changed from type [long] to [keyword]"),
        MappingConflict,
        "mapper [n] cannot be changed",
    ),
    "index exists": (
        400,
        whole("resource_already_exists_exception", "index [a/x] already exists"),
        Refused,
        "index [a/x] already exists",
    ),
    "wrong body": (
        400,
        {
            "error": {
                "root_cause": [{"type": "x_content_parse_exception", "reason": "[1:63] [remove] unknown field [x]"}],
                "type": "x_content_parse_exception",
                "reason": "[1:77] [aliases] failed to parse field [actions]",
            }
        },
        Refused,
        "[1:63] [remove] unknown field [x]",
    ),
    "not known": (401, whole("security_exception", "missing authentication credentials"), Unauthorized, "missing auth"),
    "not known, plain": (401, None, Unauthorized, "HTTP 401"),
    "not allowed": (
        403,
        whole("security_exception", "no permissions for [indices:data/read/search] and User [name=u]"),
        Unauthorized,
        "no permissions for [indices:data/read/search]",
    ),
    "not allowed, item": (403, item("security_exception", "action [x] is unauthorized"), Unauthorized, "action [x]"),
    "a text for an error": (400, {"error": "Incorrect HTTP method for uri", "status": 405}, Refused, "Incorrect HTTP"),
    "its own fault": (500, whole("null_pointer_exception", "oops"), Broken, "oops"),
    "no document to delete": (404, {"_id": "x", "result": "not_found", "_seq_no": 0}, NotThere, "HTTP 404"),
    "a proxy's dead end": (404, None, StoreUnavailable, "HTTP 404: this is not the answer of a cluster"),
    "a gateway's dead end": (
        404,
        {"message": "no Route matched"},
        StoreUnavailable,
        "HTTP 404: this is not the answer of a cluster",
    ),
    "a proxy's fault": (502, None, Unanswered, "HTTP 502"),
    "a proxy's patience": (504, {"message": "Endpoint request timed out"}, Unanswered, "HTTP 504"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_classified_and_described(name: str):
    status, body, kind, message = ANSWERS[name]
    error = classify(status, body, "searching big", str)
    assert type(error) is kind
    assert str(error).startswith("searching big: ")
    assert message in str(error)
    assert len(str(error)) < 400


def test_what_only_a_person_can_mend_is_not_tried_again():
    transient = {kind: classify(status, body, "", str).transient for status, body, kind, _ in ANSWERS.values()}
    assert {kind for kind, again in transient.items() if not again} == {IndexBlocked, MappingConflict, Refused}


def test_a_request_that_a_parser_prints_is_not_shown():
    printed = (
        'Current token (START_OBJECT) not numeric, can not use numeric value accessors\n at [Source: (byte[])"POST '
        '/strict/_bulk HTTP/1.1\r\nAuthorization: Basic aHVzaDpodXNo\r\n\r\n{"index":{}}\n'
        '"; line: 1, column: 7]'
    )
    cause = {"type": "json_parse_exception", "reason": printed}
    for body in (
        item("mapper_parsing_exception", "failed to parse field [n] of type [long]", caused_by=cause),
        item("parsing_exception", printed),
        whole("parsing_exception", printed),
        {"error": printed},
    ):
        text = str(classify(400, body, "writing", str))
        assert "Authorization" not in text
        assert text.endswith(": Current token (START_OBJECT) not numeric, can not use numeric value accessors")


def test_what_befell_single_documents_of_a_change_by_query_is_reported():
    cause = {"type": "cluster_block_exception", "reason": "index [x] blocked by: [FORBIDDEN/8/index write (api)];"}
    body = {"took": 1, "deleted": 0, "failures": [{"index": "x", "id": "1", "cause": cause, "status": 403}]}
    error = classify(403, body, "deleting", str)
    assert isinstance(error, IndexBlocked)
    assert str(error) == "deleting: index [x] blocked by: [FORBIDDEN/8/index write (api)];"
