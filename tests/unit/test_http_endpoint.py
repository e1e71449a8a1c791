"""The endpoint over HTTP: paths, parameters, texts, and what it does with each kind of news."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from rollup_operator.http.app import Endpoint
from rollup_operator.http.jobs.desired_state import DesiredStates
from rollup_operator.kube.client import KubeError, Unreachable
from rollup_operator.kube.paths import jobs_path
from support.http_double import Cluster
from support.serving import Client, call, calling, error, served, when_waiting

STOP = "/_rollup/job/sensor/_stop"
WAIT = f"{STOP}?wait_for_completion=true"


# Paths


@pytest.mark.parametrize("base", ["/_rollup", "/_xpack/rollup"])
@pytest.mark.parametrize("space", ["", "/namespaces/default", "/namespaces/other"])
@pytest.mark.parametrize("end", ["", "/"])
async def test_every_path_of_old_and_new_clients(
    client: Client, cluster: Cluster, base: str, space: str, end: str
) -> None:
    namespace = "other" if "other" in space else "default"
    cluster.create("sensor", namespace)
    job = f"{space}{base}/job"
    assert await call(client, "POST", f"{job}/sensor/_start{end}") == (200, {"started": True})
    assert await call(client, "POST", f"{job}/sensor/_stop{end}") == (200, {"stopped": True})
    assert (await call(client, "GET", f"{job}/sensor{end}"))[1]["jobs"][0]["config"]["id"] == "sensor"
    assert len((await call(client, "GET", f"{job}{end}"))[1]["jobs"]) == 1
    assert [path for path, _ in cluster.applied] == [
        f"/apis/rollup-operator.dev/v1alpha1/namespaces/{namespace}/rollupjobs/sensor"
    ] * 2


async def test_a_stop_writes_one_field_of_one_uid(client: Client, cluster: Cluster) -> None:
    uid = cluster.create("sensor")["metadata"]["uid"]
    await call(client, "POST", STOP)
    [(_, body)] = cluster.applied
    assert body == {
        "apiVersion": "rollup-operator.dev/v1alpha1",
        "kind": "RollupJob",
        "metadata": {"name": "sensor", "namespace": "default", "uid": uid},
        "spec": {"desiredState": "stopped"},
        "manager": "rollup-api",
        "force": True,
    }


async def test_the_id_of_elasticsearch_finds_the_job(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", jobId="Sensor Data/1")
    assert await call(client, "POST", "/_rollup/job/Sensor%20Data%2F1/_stop") == (200, {"stopped": True})
    assert (await call(client, "POST", STOP))[0] == 404


async def test_unknown_paths_and_methods(client: Client) -> None:
    assert await call(client, "GET", "/nothing?x=1") == error(
        404, "resource_not_found_exception", "no handler found for uri [/nothing?x=1] and method [GET]"
    )
    async with client.put(STOP) as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "POST"
        assert (await answer.json())["error"]["reason"] == (
            f"Incorrect HTTP method for uri [{STOP}] and method [PUT], allowed: [POST]"
        )


async def test_clients_recognise_elasticsearch(client: Client) -> None:
    for path in ("/", "/namespaces/other", "/namespaces/other/"):
        status, answered = await call(client, "GET", path)
        assert status == 200
        assert answered["tagline"] == "You Know, for Search"
        assert answered["version"]["number"].startswith("8.")
    async with client.head("/") as answer:
        assert answer.status == 200


async def test_typed_clients_find_every_field_that_they_fail_without(client: Client) -> None:
    """Elasticsearch's Java client, which makes a class of each answer."""
    _, about = await call(client, "GET", "/")
    assert about["version"].keys() >= {
        "build_date",
        "build_flavor",
        "build_hash",
        "build_snapshot",
        "build_type",
        "lucene_version",
        "minimum_index_compatibility_version",
        "minimum_wire_compatibility_version",
        "number",
    }
    _, health = await call(client, "GET", "/_cluster/health")
    assert {"unassigned_shards", "unassigned_primary_shards", "task_max_waiting_in_queue_millis"} <= health.keys()


@pytest.mark.parametrize("version", ["7", "8", "9"])
async def test_a_version_asked_for_is_echoed(client: Client, version: str) -> None:
    kind = f"application/vnd.elasticsearch+json;compatible-with={version}"
    async with client.get("/_rollup/job", headers={"Accept": kind.replace(";", "; ")}) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == kind
    status, answered = await call(client, "GET", "/", headers={"Accept": kind.replace(version, "6")})
    assert (status, answered["error"]["type"]) == (400, "media_type_header_exception")


# Parameters


PARAMETERS = [
    ("pretty=no", "Failed to parse value [no] as only [true] or [false] are allowed."),
    (
        "timeout=1s&timeout=x",
        "failed to parse setting [timeout] with value [x] as a time value: unit is missing or unrecognized",
    ),
    ("timout=1s", f"request [{STOP}] contains unrecognized parameter: [timout] -> did you mean [timeout]?"),
    ("xyzzy=1", f"request [{STOP}] contains unrecognized parameter: [xyzzy]"),
    (
        "zzz=1&wait_for_complete=true",
        f"request [{STOP}] contains unrecognized parameters: "
        "[wait_for_complete] -> did you mean [wait_for_completion]?, [zzz]",
    ),
    ("format=yaml", f"request [{STOP}] asks for format [yaml]: only [json] is offered"),
]


@pytest.mark.parametrize(("query", "reason"), PARAMETERS)
async def test_parameters_that_cannot_be_used(client: Client, cluster: Cluster, query: str, reason: str) -> None:
    cluster.create("sensor")
    assert await call(client, "POST", f"{STOP}?{query}") == error(400, "illegal_argument_exception", reason)
    assert cluster.applied == []


@pytest.mark.parametrize(
    "query",
    [
        "wait_for_completion=false&timeout=-1",
        "wait_for_completion&timeout=0",
        "wait_for_completion=true&timeout=+5s",
        "wait_for_completion=true&timeout=999999999d",
        "timeout=10nanos",
        "pretty&human&error_trace=false&format=json",
    ],
)
async def test_parameters_that_can(client: Client, cluster: Cluster, query: str) -> None:
    cluster.create("sensor", desiredState="stopped")
    cluster.status("sensor", state="stopped")
    assert await call(client, "POST", f"{STOP}?{query}") == (200, {"stopped": True})


async def test_a_start_has_no_parameters(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor")
    path = "/_rollup/job/sensor/_start"
    assert await call(client, "POST", f"{path}?timeout=1s") == error(
        400, "illegal_argument_exception", f"request [{path}] contains unrecognized parameter: [timeout]"
    )


@pytest.mark.parametrize("data", [b"{}", b"x" * 100_000])
async def test_a_body_is_refused(client: Client, cluster: Cluster, data: bytes) -> None:
    cluster.create("sensor")
    reason = f"request [POST {STOP}] does not support having a body"
    assert await call(client, "POST", STOP, data=data) == error(400, "illegal_argument_exception", reason)

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    assert await call(client, "POST", STOP, data=chunks()) == error(400, "illegal_argument_exception", reason)
    assert cluster.applied == []


async def test_pretty_and_filter_path(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor")
    async with client.get("/_rollup/job/sensor?pretty&filter_path=jobs.status") as answer:
        assert await answer.text() == (
            '{\n  "jobs": [\n    {\n      "status": {\n        "job_state": "stopped"\n      }\n    }\n  ]\n}\n'
        )
    # Errors are not filtered.
    status, answered = await call(client, "POST", "/_rollup/job/nobody/_stop?filter_path=status")
    assert (status, set(answered)) == (404, {"error", "status"})


# Stop


NOT_FOUND = error(404, "resource_not_found_exception", "Task for Rollup Job [sensor] not found")


@pytest.mark.parametrize(
    "path", [STOP, WAIT, "/_rollup/job/sensor/_start", "/namespaces/..%2Fother/_rollup/job/sensor/_stop"]
)
async def test_a_job_that_is_not_there(client: Client, path: str) -> None:
    assert await call(client, "POST", path) == NOT_FOUND


async def test_a_job_of_another_namespace_is_not_found(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", "other")
    assert await call(client, "POST", STOP) == NOT_FOUND


async def test_a_job_that_the_watch_has_not_shown_yet_is_found(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor")
    cluster.known.clear()
    assert await call(client, "POST", STOP) == (200, {"stopped": True})
    assert len((await call(client, "GET", "/_rollup/job/sensor"))[1]["jobs"]) == 1


async def test_a_waiting_stop_answers_when_the_job_is_stopped(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="started")
    cluster.status("sensor", state="indexing")
    stop = asyncio.create_task(call(client, "POST", WAIT))
    await when_waiting(client)
    cluster.status("sensor", state="stopping")
    await asyncio.sleep(0)
    assert not stop.done()
    cluster.status("sensor", state="stopped")
    assert await stop == (200, {"stopped": True})
    assert cluster.reads == []


async def test_a_job_that_is_stopped_already_needs_no_event(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="stopped")
    cluster.status("sensor", state="stopped")
    assert await call(client, "POST", WAIT) == (200, {"stopped": True})


async def test_a_watch_event_that_overtakes_the_answer_of_the_write_counts(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="started")
    cluster.status("sensor", state="started")
    cluster.after_write = lambda _: cluster.status("sensor", state="stopped")
    assert await call(client, "POST", WAIT) == (200, {"stopped": True})


async def test_at_the_deadline_the_api_server_decides(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="started")
    cluster.after_write = lambda _: cluster.status("sensor", state="stopped", tell=False)
    assert await call(client, "POST", f"{WAIT}&timeout=20ms") == (200, {"stopped": True})


async def test_at_the_deadline_a_silent_api_server_leaves_what_is_known(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="started")
    cluster.status("sensor", state="indexing")
    cluster.fail_read = Unreachable("refused", sent=False)
    status, answered = await call(client, "POST", f"{WAIT}&timeout=20ms")
    assert (status, answered["error"]["type"]) == (500, "timeout_exception")
    assert answered["error"]["reason"].endswith("State was [INDEXING]")


async def test_a_newer_start_ends_the_wait_at_once(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="started")
    stop = asyncio.create_task(call(client, "POST", WAIT))
    await when_waiting(client)
    cluster.ask("sensor", "started")
    assert await stop == error(
        409,
        "status_exception",
        "Stop of rollup job [sensor] (generation [2]) was overtaken by a newer start (generation [3])",
    )


async def test_a_job_that_goes_while_waited_for_is_not_found(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="started")
    stop = asyncio.create_task(call(client, "POST", WAIT))
    await when_waiting(client)
    cluster.remove("sensor")
    assert await stop == NOT_FOUND


async def test_a_job_that_went_unseen_is_not_found_at_the_deadline(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="started")
    cluster.after_write = lambda _: cluster.remove("sensor", tell=False)
    assert await call(client, "POST", f"{WAIT}&timeout=20ms") == NOT_FOUND


async def test_a_job_that_was_replaced_is_looked_up_again(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor")
    stale = dict(cluster.known)
    cluster.remove("sensor")
    new = cluster.create("sensor")["metadata"]["uid"]
    cluster.known = stale
    assert await call(client, "POST", STOP) == (200, {"stopped": True})
    assert [body["metadata"]["uid"] == new for _, body in cluster.applied] == [False, True]


async def test_a_job_that_is_deleted_under_our_hands_is_not_found(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor")
    cluster.remove("sensor", tell=False)
    assert await call(client, "POST", STOP) == NOT_FOUND


async def test_a_job_that_was_replaced_by_one_with_another_id_is_not_found(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor")
    stale = dict(cluster.known)
    cluster.remove("sensor")
    cluster.create("sensor", jobId="another")
    cluster.known = stale
    assert await call(client, "POST", STOP) == NOT_FOUND
    assert len(cluster.applied) == 1


async def test_a_client_that_hangs_up_frees_its_waiter_and_still_stops_the_job(
    client: Client, cluster: Cluster, endpoint: Endpoint
) -> None:
    cluster.create("sensor", desiredState="started")
    stop = asyncio.create_task(call(client, "POST", WAIT))
    await when_waiting(client)
    stop.cancel()
    await when_waiting(client, 0)
    assert list(cluster.listeners.values()) == [[]]
    assert cluster.objects.popitem()[1]["spec"]["desiredState"] == "stopped"


# What the API server may do to a write


@pytest.mark.parametrize("verb", ["start", "stop"])
@pytest.mark.parametrize(
    ("failure", "status", "cause"),
    [
        (Unreachable("connection refused", sent=False), 503, None),
        (KubeError(429, "TooManyRequests", "later"), 503, None),
        (Unreachable("no answer", sent=True), 500, "It is not known whether the state was recorded"),
        (KubeError(500, "InternalError", "etcdserver: request timed out"), 500, "It is not known whether"),
        (KubeError(504, "Timeout", "slow"), 500, "It is not known whether"),
        (KubeError(403, "Forbidden", "no patch"), 500, "403 Forbidden: no patch"),
        (KubeError(422, "Invalid", "spec.cron: too long"), 500, "spec.cron: too long"),
    ],
)
async def test_a_write_that_fails(
    client: Client, cluster: Cluster, verb: str, failure: Exception, status: int, cause: str | None
) -> None:
    cluster.create("sensor")
    cluster.fail_write = failure
    path = f"/_rollup/job/sensor/_{verb}" + ("?wait_for_completion=true" if verb == "stop" else "")
    got, answered = await call(client, "POST", path)
    assert got == status
    assert len(cluster.applied) == 1
    if cause is None:
        assert "nothing was changed" in answered["error"]["reason"]
    else:
        state = "STARTED" if verb == "start" else "STOPPED"
        assert answered["error"]["reason"] == f"Error while updating state for rollup job [sensor] to [{state}]."
        assert cause in answered["error"]["caused_by"]["reason"]


async def test_unavailable_tells_when_to_come_back(client: Client, cluster: Cluster) -> None:
    cluster.synced = False
    cluster.fail_read = Unreachable("refused", sent=False)
    async with client.post(STOP) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_a_job_is_not_denied_before_all_jobs_are_known(client: Client, cluster: Cluster) -> None:
    cluster.synced = False
    for method, path in (
        ("POST", STOP),
        ("GET", "/_rollup/job/sensor"),
        ("GET", "/_rollup/job"),
        ("POST", "/_rollup/job/_all/_stop"),
    ):
        assert (await call(client, method, path))[0] == 503
    cluster.create("sensor")
    assert (await call(client, "POST", STOP))[0] == 200


async def test_a_mistake_of_ours_is_logged_and_answered_without_details(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor")
    cluster.fail_write = ZeroDivisionError("secret")
    with capture_logs() as logs:
        status, answered = await call(client, "POST", STOP)
    assert (status, answered["error"]["type"]) == (500, "exception")
    assert "secret" not in str(answered)
    assert [entry["log_level"] for entry in logs if entry["event"] != "audit"] == ["error"]


# All jobs


@pytest.mark.parametrize("all_", ["_all", "*", "%2A"])
async def test_all_jobs_of_the_namespace(client: Client, cluster: Cluster, all_: str) -> None:
    for name in ("b", "a", "c"):
        cluster.create(name)
    cluster.create("d", "other")
    path = f"/_rollup/job/{all_}"
    assert [job["config"]["id"] for job in (await call(client, "GET", path))[1]["jobs"]] == ["a", "b", "c"]
    assert await call(client, "POST", f"{path}/_start") == (200, {"started": True})
    assert await call(client, "POST", f"{path}/_stop") == (200, {"stopped": True})
    assert sorted(body["metadata"]["name"] for _, body in cluster.applied) == ["a", "a", "b", "b", "c", "c"]


async def test_no_jobs_at_all(client: Client) -> None:
    assert await call(client, "GET", "/_rollup/job/_all") == (200, {"jobs": []})
    assert await call(client, "POST", "/_rollup/job/_all/_stop?wait_for_completion=true") == (200, {"stopped": True})
    assert await call(client, "POST", "/_rollup/job/*/_start") == (200, {"started": True})


async def test_a_stop_of_all_waits_for_each_and_for_those_being_deleted(client: Client, cluster: Cluster) -> None:
    for name in ("a", "b", "c"):
        cluster.create(name, desiredState="started")
    cluster.begin_deletion("c")
    stop = asyncio.create_task(call(client, "POST", "/_rollup/job/_all/_stop?wait_for_completion=true"))
    await when_waiting(client, 3)
    cluster.status("a", state="stopped")
    await when_waiting(client, 2)
    cluster.remove("c")
    await when_waiting(client, 1)
    assert not stop.done()
    cluster.remove("b")
    assert await stop == (200, {"stopped": True})


async def test_a_stop_of_all_tells_who_did_not_stop(client: Client, cluster: Cluster) -> None:
    for name in ("a", "b", "c"):
        cluster.create(name, desiredState="stopped" if name == "a" else "started")
        cluster.status(name, state="stopped" if name == "a" else "stopping")
    status, answered = await call(client, "POST", "/_rollup/job/_all/_stop?wait_for_completion=true&timeout=20ms")
    text = "Timed out after [20ms] while waiting for rollup job [{}] to stop. State was [STOPPING]"
    assert status == 500
    assert answered["error"]["type"] == "timeout_exception"
    assert answered["error"]["reason"] == f"2 of 3 rollup jobs failed, the first with: {text.format('b')}"
    assert [cause["reason"] for cause in answered["error"]["root_cause"]] == [text.format("b"), text.format("c")]


@pytest.mark.parametrize(("reached", "status"), [(0, 503), (1, 500)])
async def test_all_is_unavailable_only_when_nothing_was_changed(
    client: Client, cluster: Cluster, reached: int, status: int
) -> None:
    for name in ("a", "b"):
        cluster.create(name)

    def fail_after_some() -> None:
        if len(cluster.applied) >= reached:
            cluster.fail_write = Unreachable("refused", sent=False)

    cluster.before_write = fail_after_some
    assert (await call(client, "POST", "/_rollup/job/_all/_stop"))[0] == status


@pytest.mark.parametrize(
    ("call_", "before", "after"), [("_stop", "started", "stopped"), ("_start", "stopped", "started")]
)
async def test_all_reaches_jobs_that_the_watch_has_not_brought(
    client: Client, cluster: Cluster, call_: str, before: str, after: str
) -> None:
    for name in ("a", "b", "c", "d"):
        cluster.create(name, desiredState=before)
    cluster.create("elsewhere", "other", desiredState=before)
    for name in ("a", "c", "d"):
        del cluster.known[jobs_path("default", name)]
    assert (await call(client, "POST", f"/_rollup/job/_all/{call_}"))[0] == 200
    asked = {body["metadata"]["name"]: body["spec"]["desiredState"] for body in cluster.objects.values()}
    assert asked == {"a": after, "b": after, "c": after, "d": after, "elsewhere": before}
    assert len(cluster.reads) == 3  # none of a job that is known


async def test_a_stop_of_all_waits_for_a_job_that_the_watch_has_not_brought(client: Client, cluster: Cluster) -> None:
    cluster.create("new", desiredState="started")
    cluster.known.clear()
    stop = asyncio.create_task(call(client, "POST", "/_rollup/job/_all/_stop?wait_for_completion=true"))
    await when_waiting(client)
    cluster.status("new", state="stopped")
    assert await stop == (200, {"stopped": True})


async def test_all_reaches_the_job_that_took_the_name_of_one_that_is_known(client: Client, cluster: Cluster) -> None:
    cluster.create("a", desiredState="started")
    cluster.remove("a", tell=False)
    known = dict(cluster.known)
    cluster.create("a", desiredState="started")
    cluster.known = known
    assert await call(client, "POST", "/_rollup/job/_all/_stop") == (200, {"stopped": True})
    assert [body["spec"]["desiredState"] for body in cluster.objects.values()] == ["stopped"]


@pytest.mark.parametrize("action", ["_stop", "_stop?wait_for_completion=true", "_start"])
@pytest.mark.parametrize("failing", ["list", "read"])
async def test_all_changes_nothing_where_the_api_server_cannot_tell_which_jobs_there_are(
    client: Client, cluster: Cluster, failing: str, action: str
) -> None:
    cluster.create("known")
    cluster.create("new")
    del cluster.known[jobs_path("default", "new")]
    away = Unreachable("refused", sent=False)
    if failing == "list":
        cluster.fail_list = away
    else:
        cluster.fail_read = away
    status, answered = await call(client, "POST", f"/_rollup/job/_all/{action}")
    assert (status, cluster.applied) == (503, [])
    assert "nothing was changed" in answered["error"]["reason"]


async def test_calls_on_all_jobs_at_once_share_a_list(cluster: Cluster) -> None:
    cluster.create("a")
    states = DesiredStates(cluster, cluster, cluster)
    found = await asyncio.gather(*(states.missing_from([], "default") for _ in range(20)))
    assert [[job.name for job in jobs] for jobs in found] == [["a"]] * 20
    assert len(cluster.lists) == 1


async def test_all_jobs_of_a_namespace_that_is_not_watched_are_none_and_are_not_listed() -> None:
    cluster = Cluster()
    async with served(cluster, namespaces=("default",)) as endpoint, calling(endpoint) as client:
        assert (await call(client, "POST", "/namespaces/other/_rollup/job/_all/_stop"))[0] == 200
    assert cluster.lists == []


# Health and the end


async def test_probes(client: Client, cluster: Cluster, endpoint: Endpoint) -> None:
    async def ready() -> tuple[int, Any]:
        status, answered = await call(client, "GET", "/readyz")
        return status, {name: part for name, part in answered["checks"].items() if part is not True}

    assert await call(client, "GET", "/healthz?verbose") == (200, {"status": "ok"})
    assert await ready() == (200, {})
    cluster.synced = False
    assert await ready() == (503, {"synced": "the first list of jobs is not complete"})
    cluster.synced, cluster.healthy = True, {"watch": "no event for 90s"}
    assert await ready() == (503, {"watch": "no event for 90s"})
    cluster.healthy = {"watch": False}
    assert await ready() == (503, {"watch": False})
    cluster.healthy = {}
    await endpoint.drain(0)
    assert await ready() == (503, {"serving": "this process shuts down"})
    assert await call(client, "GET", "/healthz") == (200, {"status": "ok"})


async def test_a_shutdown_answers_waiters_and_refuses_new_ones_before_writing(
    client: Client, cluster: Cluster, endpoint: Endpoint
) -> None:
    cluster.create("sensor", desiredState="started")
    cluster.status("sensor", state="indexing")
    stop = asyncio.create_task(call(client, "POST", WAIT))
    await when_waiting(client)
    assert await endpoint.drain(0.01) == 1
    status, answered = await stop
    assert (status, answered["error"]["type"]) == (500, "timeout_exception")
    assert answered["error"]["reason"] == (
        "Shutting down while waiting for rollup job [sensor] to stop. State was [INDEXING]"
    )
    cluster.applied.clear()
    assert (await call(client, "POST", WAIT))[0] == 503
    assert (await call(client, "POST", "/_rollup/job/_all/_stop?wait_for_completion=true"))[0] == 503
    assert cluster.applied == []
    assert await call(client, "POST", STOP) == (200, {"stopped": True})


# Many at once


async def test_calls_that_wait_for_their_turn_share_writes_in_order(client: Client, cluster: Cluster) -> None:
    for i in range(40):
        cluster.create(f"busy-{i}")
    cluster.create("sensor", desiredState="started")
    gate = asyncio.Event()
    cluster.write_gate = gate
    storm = [asyncio.create_task(call(client, "POST", f"/_rollup/job/busy-{i}/_stop")) for i in range(40)]
    await cluster.writes(16)

    async def ask(verb: str, count: int, expected: int) -> list[asyncio.Task[tuple[int, Any]]]:
        asked = [asyncio.create_task(call(client, "POST", f"/_rollup/job/sensor/_{verb}")) for _ in range(count)]
        async with asyncio.timeout(5):
            while cluster.found["sensor"] < expected:
                await call(client, "GET", "/healthz")
        return asked

    sensor = [*await ask("stop", 20, 20), *await ask("start", 20, 40), *await ask("stop", 20, 60)]
    gate.set()
    assert {status for status, _ in await asyncio.gather(*storm, *sensor)} == {200}
    asked = [body["spec"]["desiredState"] for path, body in cluster.applied if path.endswith("/sensor")]
    assert asked == ["stopped", "started", "stopped"]


async def test_a_call_never_shares_a_write_that_was_sent_before(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="started")
    cluster.write_gate = asyncio.Event()
    first = asyncio.create_task(call(client, "POST", STOP))
    await cluster.writes(1)
    second = asyncio.create_task(call(client, "POST", STOP))
    async with asyncio.timeout(5):
        while cluster.found["sensor"] < 2:
            await call(client, "GET", "/healthz")
    cluster.write_gate.set()
    assert await asyncio.gather(first, second) == [(200, {"stopped": True})] * 2
    assert len(cluster.applied) == 2


async def test_who_comes_while_a_write_is_under_way_does_not_queue_behind_other_jobs(
    client: Client, cluster: Cluster
) -> None:
    cluster.create("sensor", desiredState="started")
    for i in range(200):
        cluster.create(f"busy-{i}")
    gate = cluster.write_gate = asyncio.Event()
    first = asyncio.create_task(call(client, "POST", STOP))
    await cluster.writes(1)
    storm = [asyncio.create_task(call(client, "POST", f"/_rollup/job/busy-{i}/_stop")) for i in range(200)]
    await cluster.writes(16)
    second = asyncio.create_task(call(client, "POST", STOP))
    async with asyncio.timeout(5):
        while cluster.found["sensor"] < 2:
            await call(client, "GET", "/healthz")
    gate.set()
    await asyncio.gather(first, second, *storm)
    turns = [i for i, (path, _) in enumerate(cluster.applied) if path.endswith("/sensor")]
    assert turns[1] < 100
