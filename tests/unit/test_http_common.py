"""What every call has in common: media types, bodies, methods, compression, and errors for all that goes wrong."""

import gzip
import json
import re
import zlib
from typing import Any

import pytest
from structlog.testing import capture_logs

from rollup_operator.kube.client import KubeError
from support.bodies import hourly, sensor
from support.http_calls import Client, call, deepest, error, served
from support.http_double import Cluster

PATH = "/_rollup/job/sensor"
ARGUMENT = "illegal_argument_exception"
JSON = {"Content-Type": "application/json"}

READS = [
    "/",
    "/_rollup/job",
    PATH,
    "/_rollup/data",
    "/_rollup/data/sensor-*",
    "/*/_rollup/data",
    "/_xpack/usage",
]
CALLS = [
    *(("GET", path) for path in READS),
    ("PUT", PATH),
    ("DELETE", PATH),
    ("POST", f"{PATH}/_start"),
    ("POST", f"{PATH}/_stop"),
]


def body_of(method: str, name: str = "sensor") -> dict[str, Any] | None:
    return sensor(id=name) if method == "PUT" else None


# Parameters


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_every_call_takes_the_common_parameters(client: Client, cluster: Cluster, method: str, path: str) -> None:
    if method != "PUT":
        cluster.create("sensor")
    common = "pretty=true&human=false&error_trace=true&format=json&filter_path=**"
    status, _ = await call(client, method, f"{path}?{common}", body_of(method))
    assert status == 200


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_no_call_takes_others(client: Client, cluster: Cluster, method: str, path: str) -> None:
    cluster.create("sensor")
    reason = f"request [{path}] contains unrecognized parameter: [prety] -> did you mean [pretty]?"
    assert await call(client, method, f"{path}?prety", body_of(method)) == error(400, ARGUMENT, reason)
    reason = f"request [{path}] asks for format [yaml]: only [json] is offered"
    assert await call(client, method, f"{path}?format=yaml", body_of(method)) == error(400, ARGUMENT, reason)
    assert cluster.applied == cluster.posted == cluster.deleted == []


async def test_a_filter_of_very_many_paths_is_refused_before_anything_is_done(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor")
    paths = ",".join(f"a{i}" for i in range(65))
    reason = "[filter_path] has more than [64] paths, which is the limit; give fewer paths"
    assert await call(client, "POST", f"{PATH}/_stop?filter_path={paths}") == error(400, ARGUMENT, reason)
    assert cluster.applied == []


TRACED = ["error_trace=true", "error_trace", "error_trace=true&pretty"]
UNTRACED = ["", "error_trace=false", "pretty"]


@pytest.mark.parametrize("query", UNTRACED)
async def test_no_stack_trace_is_shown_unasked(client: Client, query: str) -> None:
    status, reply = await call(client, "POST", f"{PATH}/_start?{query}")
    assert status == 404
    assert reply["error"].keys() == {"root_cause", "type", "reason"}
    assert reply["error"]["root_cause"][0].keys() == {"type", "reason"}


def traces(reply: Any) -> list[str]:
    """The stack traces of an error, which has one in itself, in each root cause and in each cause."""
    error = reply["error"]
    causes = [error, *error["root_cause"]]
    while "caused_by" in error:
        causes.append(error := error["caused_by"])
    for cause in causes:
        first, *frames = cause["stack_trace"].split("\n")
        assert first == f"{cause['type']}: {cause['reason']}"
        assert frames
        assert all(re.fullmatch(r"\tat rollup_operator(\.[\w<>]+)+\(line \d+\)", frame) for frame in frames), frames
    return [cause["stack_trace"] for cause in causes]


@pytest.mark.parametrize("query", TRACED)
async def test_a_stack_trace_is_shown_where_one_is_asked_for(client: Client, query: str) -> None:
    status, reply = await call(client, "POST", f"{PATH}/_start?{query}")
    assert status == 404
    assert reply["error"].keys() == {"root_cause", "type", "reason", "stack_trace"}
    of_error, of_root_cause = traces(reply)
    assert of_error == of_root_cause
    assert "\n\tat rollup_operator.http.jobs.attempt.Attempts.one(line " in of_error


async def test_a_stack_trace_of_each_cause(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="started")
    cluster.fail_write = KubeError(403, "Forbidden", "no patch")
    status, reply = await call(client, "POST", f"{PATH}/_start?error_trace=true")
    assert status == 500
    assert len(traces(reply)) == 3
    cluster.fail_write = None
    cluster.create("other", desiredState="started")
    cluster.fail_write = KubeError(422, "Invalid", "no")
    _, reply = await call(client, "POST", "/_rollup/job/_all/_start?error_trace")
    assert len(reply["error"]["root_cause"]) == 2
    assert len(traces(reply)) == 4


async def test_a_stack_trace_of_a_deletion_that_is_refused(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="started")
    cluster.status("sensor", state="started")
    _, reply = await call(client, "DELETE", f"{PATH}?error_trace=true")
    [failure] = reply["task_failures"]
    assert failure["reason"]["stack_trace"].startswith("illegal_state_exception: Could not delete job [sensor]")
    _, reply = await call(client, "DELETE", PATH)
    assert "stack_trace" not in reply["task_failures"][0]["reason"]


async def test_a_stack_trace_names_no_value_no_token_and_no_path(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor")
    cluster.fail_write = ZeroDivisionError("secret-of-a-value")
    with capture_logs():
        status, reply = await call(client, "POST", f"{PATH}/_start?error_trace=true", headers={"X-Opaque-Id": "secret"})
    assert status == 500
    text = "".join(traces(reply))
    assert "Attempts.write(line " in text
    for hidden in ("secret", "token", "/", "site-packages", ".py"):
        assert hidden not in text


@pytest.mark.parametrize("path", ["/nowhere", f"{PATH}/_stop/more"])
async def test_a_stack_trace_of_a_path_that_is_not_there(client: Client, path: str) -> None:
    status, reply = await call(client, "GET", f"{path}?error_trace=true")
    assert status == 404
    assert traces(reply)


# Methods


@pytest.mark.parametrize("path", READS)
async def test_a_head_is_a_get_without_a_body(client: Client, cluster: Cluster, path: str) -> None:
    cluster.create("sensor")
    async with client.get(path) as get, client.head(path) as head:
        assert head.status == get.status == 200
        assert head.headers["Content-Length"] == get.headers["Content-Length"]
        assert await head.read() == b""
        assert head.headers["X-Elastic-Product"] == "Elasticsearch"


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/", "GET, HEAD"),
        ("/_rollup/job", "GET, HEAD"),
        (PATH, "DELETE, GET, HEAD, PUT"),
        (f"{PATH}/_stop", "POST"),
        (f"/_xpack{PATH.replace('_rollup', 'rollup')}/_start", "POST"),
        ("/_rollup/data/x", "GET, HEAD"),
        ("/x/_rollup/data", "GET, HEAD"),
        ("/namespaces/x/_xpack/usage", "GET, HEAD"),
    ],
)
async def test_other_methods_are_answered_with_those_there_are(client: Client, path: str, methods: str) -> None:
    async with client.options(path) as answer:
        assert (answer.status, answer.headers["Allow"], await answer.read()) == (200, methods, b"")
    for method in {"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "TRACE"} - set(methods.split(", ")):
        async with client.request(method, path) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, methods)
            if method != "HEAD":
                assert (await answer.json())["error"]["reason"] == (
                    f"Incorrect HTTP method for uri [{path}] and method [{method}], allowed: [{methods}]"
                )


@pytest.mark.parametrize(
    "path", ["/nothing", "/_rollup", "/_rollup/job/a/b/c", "/_rollup/%2E%2E/job", "/%ff", "/_rollup/job/x/_pause"]
)
async def test_paths_that_are_no_call(client: Client, path: str) -> None:
    async with client.get(path) as answer:
        reply = await answer.json()
        assert (answer.status, reply["status"]) == (404, 404)
        assert reply["error"]["reason"].startswith("no handler found for uri [/")


@pytest.mark.parametrize(
    "path", ["/_rollup/job/%ff%fe/_stop", "/_rollup/job/%00/_stop", "/_rollup/job/%ED%A0%80/_stop"]
)
async def test_ids_that_are_no_text(client: Client, path: str) -> None:
    assert (await call(client, "POST", path))[0] == 404


# Bodies


@pytest.mark.parametrize(("method", "path"), [c for c in CALLS if c[0] != "PUT"])
async def test_calls_without_a_body_refuse_one(client: Client, cluster: Cluster, method: str, path: str) -> None:
    cluster.create("sensor")
    reason = f"request [{method} {path}] does not support having a body"
    assert await call(client, method, path, {"a": 1}) == error(400, ARGUMENT, reason)
    # A client that says what it would send sends nothing yet.
    assert (await call(client, method, path, headers=JSON))[0] == 200


@pytest.mark.parametrize(
    "given",
    [
        "application/json",
        "application/json; charset=UTF-8",
        "APPLICATION/JSON",
        "application/vnd.elasticsearch+json",
        *(f"application/vnd.elasticsearch+json; compatible-with={version}" for version in (7, 8, 9)),
        "application/vnd.elasticsearch+json;compatible-with=8",
    ],
)
async def test_media_types_of_bodies(client: Client, given: str) -> None:
    data = json.dumps(sensor())
    assert (await call(client, "PUT", PATH, data=data, headers={"Content-Type": given}))[0] == 200


@pytest.mark.parametrize("given", ["application/x-www-form-urlencoded", "text/plain", "application/yaml", ""])
async def test_a_body_that_says_it_is_no_json(client: Client, cluster: Cluster, given: str) -> None:
    answer = await call(client, "PUT", PATH, data=json.dumps(sensor()), headers={"Content-Type": given})
    assert answer == error(406, "media_type_header_exception", f"Content-Type header [{given}] is not supported")
    assert cluster.posted == []


async def test_a_body_of_another_version(client: Client) -> None:
    given = "application/vnd.elasticsearch+json;compatible-with=6"
    status, reply = await call(client, "PUT", PATH, data="{}", headers={"Content-Type": given})
    assert (status, reply["error"]["reason"]) == (400, "Invalid media-type value on headers [Content-Type]")
    assert deepest(reply) == {
        "type": "status_exception",
        "reason": f"Content-Type version must be one of [7, 8, 9], but found [6]. Content-Type={given}",
    }


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)]
)
async def test_a_compressed_body(client: Client, encoding: str, compress: Any) -> None:
    data = compress(json.dumps(sensor()).encode())
    async with client.put(PATH, data=data, headers=JSON | {"Content-Encoding": encoding}) as answer:
        assert await answer.json() == {"acknowledged": True}


async def test_a_body_that_is_compressed_otherwise(client: Client) -> None:
    status, reply = await call(client, "PUT", PATH, data=b"x", headers=JSON | {"Content-Encoding": "compress"})
    reason = "Content-Encoding header [compress] is not supported; use gzip"
    assert (status, reply["error"]["reason"]) == (415, reason)


@pytest.mark.parametrize("compressed", [True, False])
async def test_a_body_that_is_too_large(client: Client, cluster: Cluster, compressed: bool) -> None:
    data = b'{"id": "' + b"x" * 300_000 + b'"}'
    headers = JSON
    if compressed:
        data, headers = gzip.compress(data), JSON | {"Content-Encoding": "gzip"}
    status, reply = await call(client, "PUT", PATH, data=data, headers=headers)
    assert (status, reply["error"]["type"]) == (413, "content_too_long_exception")
    assert cluster.posted == []


async def test_a_bomb_is_not_inflated(client: Client) -> None:
    bomb = gzip.compress(b" " * 200_000_000)
    status, _ = await call(client, "PUT", PATH, data=bomb, headers=JSON | {"Content-Encoding": "gzip"})
    assert status == 413


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_a_body_that_is_not_what_it_says(
    client: Client, caplog: pytest.LogCaptureFixture, method: str, path: str
) -> None:
    answer = await call(client, method, path, data=b"not gzip", headers=JSON | {"Content-Encoding": "gzip"})
    taken = method == "PUT" or path.endswith("_preview")
    needless = f"request [{method} {path}] does not support having a body"
    assert answer == error(400, ARGUMENT, "The body cannot be read as [gzip]" if taken else needless)
    assert (await call(client, "GET", "/"))[0] == 200
    assert caplog.records == []


# Answers


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        ("application/vnd.elasticsearch+json", "application/json"),
        (
            "application/vnd.elasticsearch+json; compatible-with=7",
            "application/vnd.elasticsearch+json;compatible-with=7",
        ),
        (
            "application/vnd.elasticsearch+json; compatible-with=9,text/plain",
            "application/vnd.elasticsearch+json;compatible-with=9",
        ),
    ],
)
async def test_media_types_of_answers(client: Client, accept: str, answered: str) -> None:
    async with client.get("/_rollup/job", headers={"Accept": accept}) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, answered)
    async with client.post(f"{PATH}/_stop", headers={"Accept": accept}) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (404, answered)


async def test_a_caller_that_takes_no_json(client: Client) -> None:
    assert await call(client, "GET", PATH, headers={"Accept": "application/yaml"}) == error(
        406, "media_type_header_exception", "Accept header [application/yaml] is not supported; take JSON"
    )


async def test_a_caller_that_takes_another_version(client: Client) -> None:
    accept = "application/vnd.elasticsearch+json; compatible-with=10"
    status, reply = await call(client, "GET", PATH, headers={"Accept": accept})
    assert (status, reply["error"]["reason"]) == (400, "Invalid media-type value on headers [Accept]")
    assert deepest(reply)["reason"] == f"Accept version must be one of [7, 8, 9], but found [10]. Accept={accept}"


@pytest.mark.parametrize("path", ["/_rollup/job", "/nothing", "/healthz", f"{PATH}/_stop"])
async def test_the_callers_opaque_id_is_echoed(client: Client, path: str) -> None:
    async with client.get(path, headers={"X-Opaque-Id": "job 7"}) as answer:
        assert answer.headers["X-Opaque-Id"] == "job 7"
    async with client.get(path, headers={"X-Opaque-Id": "ü"}) as answer:
        assert answer.status < 500
        assert "X-Opaque-Id" not in answer.headers


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [("gzip", True), ("deflate, gzip;q=0.5", True), ("*", True), ("gzip;q=0", False), ("identity", False)],
)
async def test_large_answers_are_compressed(cluster: Cluster, accepted: str, compressed: bool) -> None:
    for i in range(20):
        cluster.create(f"sensor-{i}")
    async with served(cluster) as client:
        client._auto_decompress = False
        async with client.get("/_rollup/job", headers={"Accept-Encoding": accepted}) as answer:
            assert answer.headers.get("Content-Encoding") == ("gzip" if compressed else None)
            assert answer.headers["Vary"] == "Accept-Encoding"
            data = await answer.read()
            assert int(answer.headers["Content-Length"]) == len(data)
        assert len(json.loads(gzip.decompress(data) if compressed else data)["jobs"]) == 20
        async with client.get("/_xpack/usage", headers={"Accept-Encoding": accepted}) as answer:
            assert "Content-Encoding" not in answer.headers


# Mistakes of ours


@pytest.mark.parametrize(("method", "path"), [("PUT", PATH), ("GET", "/_rollup/data"), ("GET", "/*/_rollup/data")])
async def test_a_crash_is_answered_without_details(client: Client, cluster: Cluster, method: str, path: str) -> None:
    cluster.shelf.fail = ZeroDivisionError("secret")
    with capture_logs() as logs:
        status, reply = await call(client, method, path, body_of(method))
    assert (status, reply["error"]["type"]) == (500, "exception")
    assert "secret" not in str(reply)
    assert [entry["log_level"] for entry in logs if entry["event"] != "audit"] == ["error"]


# Versions


@pytest.mark.parametrize(("version", "number"), [(6, "6.8.23"), (7, "7.17.28"), (8, "8.17.0"), (9, "9.0.0")])
async def test_the_version_that_clients_see(cluster: Cluster, version: int, number: str) -> None:
    async with served(cluster, compat_version=version) as client:
        for path in ("/", "/namespaces/other"):
            assert (await call(client, "GET", path))[1]["version"]["number"] == number


@pytest.mark.parametrize("version", [6, 7, 8, 9])
async def test_what_a_job_shows(cluster: Cluster, version: int) -> None:
    cluster.create("sensor")
    async with served(cluster, compat_version=version) as client:
        [shown] = (await call(client, "GET", PATH))[1]["jobs"]
    assert ("upgraded_doc_id" in shown["status"]) is (version < 8)
    assert ("processing_total" in shown["stats"]) is (version > 6)
    assert ("processing_time_in_ms" in shown["stats"]) is (version > 6)
    legacy = shown["config"]["groups"]["date_histogram"]
    assert ("interval" in legacy) is (version == 6)
    assert ("fixed_interval" in legacy) is (version > 6)


@pytest.mark.parametrize("version", [6, 7, 8, 9])
async def test_types_of_errors(cluster: Cluster, version: int) -> None:
    async with served(cluster, compat_version=version) as client:
        _, reply = await call(client, "PUT", PATH, sensor(headers={}))
        assert reply["error"]["type"] == (ARGUMENT if version == 6 else "x_content_parse_exception")
        _, reply = await call(client, "PUT", PATH, sensor(groups=hourly(delay="7")))
        assert deepest(reply)["type"] == ("parse_exception" if version == 6 else ARGUMENT)
        _, reply = await call(client, "PUT", PATH, data="{", headers=JSON)
        assert reply["error"]["type"] == ("json_parse_exception" if version < 8 else "x_content_parse_exception")


@pytest.mark.parametrize("version", [6, 7, 8, 9])
async def test_the_usage(cluster: Cluster, version: int) -> None:
    cluster.create("a")
    cluster.create("b")
    cluster.create("c", "other")
    reply = {"available": True, "enabled": True}
    async with served(cluster, compat_version=version) as client:
        for space, count in (("", 2), ("/namespaces/other", 1), ("/namespaces/none", 0)):
            counted = {"number_of_rollup_jobs": count} if version >= 8 else {}
            assert await call(client, "GET", f"{space}/_xpack/usage") == (200, {"rollup": reply | counted})
