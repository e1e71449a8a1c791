"""What the calls to stop and to start answer in each case that Elasticsearch knows, and where we differ on purpose.

One test for each case; where versions differ, one for each of them.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest
from structlog.testing import capture_logs

from rollup_operator.http.access.permits import Caller, EndpointAction
from rollup_operator.kube.client import KubeError
from support.access_double import Anybody
from support.http_double import Cluster
from support.portions import watched
from support.serving import Answer, Client, call, calling, error, served, when_waiting

STOP = "/_rollup/job/sensor/_stop"
WAIT = f"{STOP}?wait_for_completion=true"
START = "/_rollup/job/sensor/_start"
STOPPED: Answer = (200, {"stopped": True})
STARTED: Answer = (200, {"started": True})
VERSIONS = (6, 7, 8, 9)
LIVING = ("stopped", "started", "indexing", "stopping")
NOT_FOUND = error(404, "resource_not_found_exception", "Task for Rollup Job [sensor] not found")


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def settings() -> dict[str, Any]:
    """Override with `parametrize` where a test is about a setting."""
    return {}


@pytest.fixture
def least_seconds() -> float:
    """What the API server gets in any case: a busy machine is none that hangs. Override where a test is about one."""
    return 60.0


@pytest.fixture(autouse=True)
def _least_seconds(monkeypatch: pytest.MonkeyPatch, least_seconds: float) -> None:
    monkeypatch.setattr("rollup_operator.http.api.stop.LEAST_SECONDS", least_seconds)


api_server_that_hangs = pytest.mark.parametrize("least_seconds", [0.2], ids=[""])


@pytest.fixture
async def client(cluster: Cluster, settings: dict[str, Any]) -> AsyncIterator[Client]:
    async with served(cluster, **settings) as endpoint, calling(endpoint) as client:
        yield client


def speaking(*versions: int, **more: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "settings", [{"compat_version": v, **more} for v in versions], ids=[f"{v}.x" for v in versions]
    )


def a_job(cluster: Cluster, state: str | None, desired: str = "started") -> None:
    """A job that asks for something and has been seen in a state; None: no operator has looked at it."""
    cluster.create("sensor", desiredState=desired)
    if state is not None:
        cluster.status("sensor", state=state)


def asked(cluster: Cluster) -> list[str]:
    return [body["spec"]["desiredState"] for _, body in cluster.applied]


# Stop, without waiting


@pytest.mark.parametrize("state", LIVING)
async def test_a_stop_is_recorded_whatever_the_state(client: Client, cluster: Cluster, state: str) -> None:
    a_job(cluster, state)
    assert await call(client, "POST", STOP) == STOPPED
    assert asked(cluster) == ["stopped"]


async def test_a_stop_of_a_stopped_job_changes_nothing(client: Client, cluster: Cluster) -> None:
    a_job(cluster, "stopped", desired="stopped")
    before = cluster.known.copy()
    assert await call(client, "POST", STOP) == STOPPED
    [body] = cluster.objects.values()
    assert body["metadata"]["generation"] == next(iter(before.values())).generation


async def test_a_stop_of_a_job_that_no_operator_looks_at_is_recorded(client: Client, cluster: Cluster) -> None:
    a_job(cluster, None)
    assert await call(client, "POST", STOP) == STOPPED
    assert asked(cluster) == ["stopped"]


@pytest.mark.parametrize("call_", ["stop", "start"])
async def test_neither_stop_nor_start_of_an_aborting_job(client: Client, cluster: Cluster, call_: str) -> None:
    a_job(cluster, "indexing")
    cluster.begin_deletion("sensor")
    assert await call(client, "POST", f"/_rollup/job/sensor/_{call_}") == error(
        500, "exception", f"Cannot {call_} task for Rollup Job [sensor] because state was [ABORTING]"
    )
    assert cluster.applied == []


@pytest.mark.parametrize(("call_", "state"), [("stop", "STOPPED"), ("start", "STARTED")])
async def test_a_state_that_could_not_be_recorded(client: Client, cluster: Cluster, call_: str, state: str) -> None:
    a_job(cluster, "indexing")
    cluster.fail_write = KubeError(403, "Forbidden", "no patch")
    reason = f"Error while updating state for rollup job [sensor] to [{state}]."
    status, answered = error(500, "exception", reason)
    answered["error"]["caused_by"] = {"type": "status_exception", "reason": "403 Forbidden: no patch"}
    assert await call(client, "POST", f"/_rollup/job/sensor/_{call_}") == (status, answered)


@pytest.mark.parametrize("path", [STOP, WAIT, START])
async def test_an_unknown_id(client: Client, path: str) -> None:
    assert await call(client, "POST", path) == NOT_FOUND


@pytest.mark.parametrize("path", [STOP, WAIT, START])
async def test_an_id_that_two_jobs_have(client: Client, cluster: Cluster, path: str) -> None:
    cluster.create("one", jobId="sensor", desiredState="started")
    cluster.create("copy", jobId="sensor", desiredState="started")
    status, answered = await call(client, "POST", path)
    assert (status, answered["error"]["type"]) == (500, "failed_node_exception")
    assert answered["error"]["reason"] == (
        "Found more than one matching task for rollup job [sensor] when there should only be one."
    )
    assert answered["error"]["caused_by"]["reason"].startswith(
        "2 RollupJobs of the namespace have this id; nothing was changed"
    )
    assert cluster.applied == []


async def test_all_jobs_are_stopped_whatever_their_ids(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="started")
    cluster.create("copy", jobId="sensor", desiredState="started")
    assert await call(client, "POST", "/_rollup/job/_all/_stop") == STOPPED
    assert sorted(body["metadata"]["name"] for _, body in cluster.applied) == ["copy", "sensor"]


async def test_an_id_that_is_being_handed_over_means_the_living_job(client: Client, cluster: Cluster) -> None:
    cluster.create("a", jobId="sensor")
    cluster.begin_deletion("a")
    cluster.create("b", jobId="sensor")
    assert await call(client, "POST", STOP) == STOPPED
    assert [body["metadata"]["name"] for _, body in cluster.applied] == ["b"]


# Stop and wait


async def test_a_wait_ends_when_the_job_is_seen_stopped(client: Client, cluster: Cluster) -> None:
    a_job(cluster, "indexing")
    stop = asyncio.create_task(call(client, "POST", WAIT))
    await when_waiting(client)
    cluster.status("sensor", state="stopping")
    cluster.status("sensor", state="stopped")
    assert await stop == STOPPED


TIMED_OUT = "Timed out after [20ms] while waiting for rollup job [sensor] to stop"


@speaking(6)
async def test_a_wait_that_takes_too_long_answered_without_the_state(client: Client, cluster: Cluster) -> None:
    a_job(cluster, "stopping")
    status, answered = await call(client, "POST", f"{WAIT}&timeout=20ms")
    assert (status, answered["error"]["type"], answered["error"]["reason"]) == (500, "timeout_exception", TIMED_OUT)


@speaking(7, 8, 9)
async def test_a_wait_that_takes_too_long_answered_with_the_state(client: Client, cluster: Cluster) -> None:
    a_job(cluster, "stopping")
    status, answered = await call(client, "POST", f"{WAIT}&timeout=20ms")
    reason = f"{TIMED_OUT}. State was [STOPPING]"
    assert (status, answered["error"]["type"], answered["error"]["reason"]) == (500, "timeout_exception", reason)
    assert answered["error"]["root_cause"] == [{"type": "timeout_exception", "reason": reason}]
    assert answered["error"]["caused_by"]["reason"] == (
        "The stop is recorded as generation [2] and stands; the operator has reported on generation [1]"
    )
    assert len(cluster.reads) == 1


@pytest.mark.parametrize(
    ("ready", "named"),
    [
        (("False", "DiskFull"), True),
        (("False", "StoreUnavailable"), True),
        (("False", "DrainTimeout"), True),
        (("False", "Stopping"), False),
        (("False", "Nonsense"), False),
        (("True", "DiskFull"), False),
        (None, False),
    ],
)
async def test_what_a_stop_waits_for_is_named_beside_the_text_of_elasticsearch(
    client: Client, cluster: Cluster, ready: tuple[str, str] | None, named: bool
) -> None:
    a_job(cluster, "stopping")
    shown = (
        {} if ready is None else {"type": "Ready", "status": ready[0], "reason": ready[1], "lastTransitionTime": "t"}
    )
    cluster.status("sensor", state="stopping", conditions=[shown | {"message": "of a store"}] if shown else [])
    _, answer = await call(client, "POST", f"{WAIT}&timeout=20ms")
    assert answer["error"]["reason"] == f"{TIMED_OUT}. State was [STOPPING]"
    word = "" if ready is None else ready[1]
    cause = "The stop is recorded as generation [2] and stands; the operator has reported on generation [1]"
    why = f"; the job's Ready condition is False with reason [{word}], and its message says what it waits for"
    assert answer["error"]["caused_by"]["reason"] == cause + (why if named else "")


@speaking(*VERSIONS, stop_timeout_status=429)
async def test_a_wait_that_takes_too_long_is_answered_429_by_a_setting_only(client: Client, cluster: Cluster) -> None:
    a_job(cluster, "stopping")
    status, answered = await call(client, "POST", f"{WAIT}&timeout=20ms")
    assert (status, answered["status"], answered["error"]["type"]) == (429, 429, "timeout_exception")


async def test_a_timeout_undoes_nothing_and_the_call_can_be_repeated(client: Client, cluster: Cluster) -> None:
    a_job(cluster, "indexing")
    assert (await call(client, "POST", f"{WAIT}&timeout=20ms"))[0] == 500
    again = asyncio.create_task(call(client, "POST", f"{WAIT}&timeout=20s"))
    await when_waiting(client)
    cluster.status("sensor", state="stopped")
    assert await again == STOPPED
    [body] = cluster.objects.values()
    assert (body["spec"]["desiredState"], body["metadata"]["generation"]) == ("stopped", 2)


async def test_an_unexpected_error_while_waiting(client: Client, cluster: Cluster) -> None:
    a_job(cluster, "stopping")
    cluster.fail_read = ZeroDivisionError("secret")
    with capture_logs() as logs:
        assert await call(client, "POST", f"{WAIT}&timeout=20ms") == error(
            500,
            "timeout_exception",
            "Encountered unexpected error while waiting for rollup job [sensor] to stop.  State was [STOPPING].",
        )
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["waiting failed"]
    assert asked(cluster) == ["stopped"]


@pytest.mark.parametrize("timeout", ["0", "00", "-1", "-1s", "-01"])
async def test_no_time_means_one_look_after_the_write(client: Client, cluster: Cluster, timeout: str) -> None:
    a_job(cluster, "started")
    cluster.after_write = lambda _: cluster.status("sensor", state="stopped", tell=False)
    assert await call(client, "POST", f"{WAIT}&timeout={timeout}") == STOPPED
    assert len(cluster.reads) == 1


async def test_a_timeout_is_checked_without_waiting_and_then_ignored(client: Client, cluster: Cluster) -> None:
    a_job(cluster, "indexing")
    assert (await call(client, "POST", f"{STOP}?timeout=soon"))[0] == 400
    assert await call(client, "POST", f"{STOP}?timeout=0") == STOPPED


@pytest.mark.parametrize("query", ["wait_for_completion", "wait_for_completion=", "wait_for_completion=true"])
async def test_an_empty_value_means_true(client: Client, cluster: Cluster, query: str) -> None:
    a_job(cluster, "stopping")
    assert (await call(client, "POST", f"{STOP}?{query}&timeout=0"))[0] == 500


@pytest.mark.parametrize("value", ["x", "TRUE", "1", "yes"])
async def test_a_bad_wait_for_completion(client: Client, cluster: Cluster, value: str) -> None:
    a_job(cluster, "started")
    reason = f"Failed to parse value [{value}] as only [true] or [false] are allowed."
    path = f"{STOP}?wait_for_completion={value}"
    assert await call(client, "POST", path) == error(400, "illegal_argument_exception", reason)
    assert cluster.applied == []


# The deadline


@api_server_that_hangs
async def test_the_deadline_covers_a_write_that_hangs_and_the_stop_still_goes_out(
    client: Client, cluster: Cluster
) -> None:
    a_job(cluster, "indexing")
    cluster.write_gate = asyncio.Event()
    async with asyncio.timeout(10):
        status, answered = await call(client, "POST", f"{WAIT}&timeout=300ms")
    assert (status, answered["error"]["type"]) == (500, "timeout_exception")
    assert answered["error"]["reason"] == (
        "Timed out after [300ms] while waiting for rollup job [sensor] to stop. State was [INDEXING]"
    )
    assert "it is not known whether the stop is recorded" in answered["error"]["caused_by"]["reason"]
    cluster.write_gate.set()
    assert await call(client, "POST", STOP) == STOPPED
    assert asked(cluster)[0] == "stopped"


@api_server_that_hangs
async def test_the_deadline_covers_the_lookup_and_then_nothing_is_written(client: Client, cluster: Cluster) -> None:
    a_job(cluster, "indexing")
    cluster.known.clear()
    cluster.read_gate = asyncio.Event()
    async with asyncio.timeout(10):
        status, answered = await call(client, "POST", f"{WAIT}&timeout=10ms")
    assert status == 503
    assert answered["error"]["reason"] == "The API server does not answer in time; nothing was changed"
    assert cluster.applied == []


@api_server_that_hangs
@pytest.mark.parametrize("whom", ["sensor", "_all"])
async def test_the_deadline_covers_the_question_who_may(cluster: Cluster, whom: str) -> None:
    class Silent(Anybody):
        async def require(self, caller: Caller, action: EndpointAction, namespace: str, name: str) -> None:
            await asyncio.Event().wait()

        async def allowed(
            self, caller: Caller, action: EndpointAction, namespace: str, names: Collection[str]
        ) -> frozenset[str]:
            await asyncio.Event().wait()
            return frozenset()

    a_job(cluster, "indexing")
    async with served(cluster, access=Silent()) as endpoint, calling(endpoint) as client, asyncio.timeout(10):
        path = f"/_rollup/job/{whom}/_stop?wait_for_completion=true&timeout=10ms"
        status, answered = await call(client, "POST", path)
    assert (status, "nothing was changed" in answered["error"]["reason"]) == (503, True)
    assert cluster.applied == []


@api_server_that_hangs
async def test_the_last_look_does_not_keep_the_client_waiting(client: Client, cluster: Cluster) -> None:
    a_job(cluster, "indexing")
    cluster.read_gate = asyncio.Event()
    async with asyncio.timeout(10):
        status, answered = await call(client, "POST", f"{WAIT}&timeout=10ms")
    assert (status, answered["error"]["type"]) == (500, "timeout_exception")


# Start


@pytest.mark.parametrize("state", LIVING)
async def test_a_start_is_recorded_and_queued_behind_a_stop(client: Client, cluster: Cluster, state: str) -> None:
    a_job(cluster, state, desired="stopped")
    assert await call(client, "POST", START) == STARTED
    assert asked(cluster) == ["started"]


@speaking(8, 9)
@pytest.mark.parametrize("state", ["started", "indexing"])
async def test_a_start_of_a_running_job_changes_nothing(client: Client, cluster: Cluster, state: str) -> None:
    a_job(cluster, state)
    assert await call(client, "POST", START) == STARTED
    [body] = cluster.objects.values()
    assert body["metadata"]["generation"] == 1


@speaking(6, 7)
@pytest.mark.parametrize("state", ["started", "indexing"])
async def test_a_start_of_a_running_job_is_an_error(client: Client, cluster: Cluster, state: str) -> None:
    a_job(cluster, state)
    reason = f"Cannot start task for Rollup Job [sensor] because state was [{state.upper()}]"
    assert await call(client, "POST", START) == error(500, "exception", reason)
    assert cluster.applied == []
    assert await call(client, "POST", "/_rollup/job/_all/_start") == STARTED


@speaking(6, 7)
async def test_a_start_of_a_job_that_was_asked_to_stop_is_queued_in_old_versions_too(
    client: Client, cluster: Cluster
) -> None:
    a_job(cluster, "indexing", desired="stopped")
    assert await call(client, "POST", START) == STARTED


@pytest.mark.parametrize(
    ("settings", "was"),
    [({"compat_version": v}, "state was" if v < 8 else "new state was") for v in VERSIONS],
    ids=[f"{v}.x" for v in VERSIONS],
)
async def test_a_start_that_loses_a_race(client: Client, cluster: Cluster, was: str) -> None:
    a_job(cluster, "stopped", desired="stopped")
    cluster.before_write = lambda: cluster.begin_deletion("sensor")
    reason = f"Cannot start task for Rollup Job [sensor] because {was} [ABORTING]"
    assert await call(client, "POST", START) == error(500, "exception", reason)


# Time values, as far as a stop shows them

PRINTED = [
    ("10nanos", "10nanos"), ("10micros", "10micros"), ("20ms", "20ms"), ("0s", "0s"), ("0m", "0m"), ("0h", "0h"),
    ("0d", "0d"), ("0S", "0s"), ("20MS", "20ms"), ("%2B20ms", "20ms"), ("%2020%20ms%20", "20ms"), ("0", "0ms"),
    ("00", "0ms"), ("-1", "-1"), ("-01", "-1"), ("-1s", "-1"), ("-1ms", "-1"),
]  # fmt: skip
UNIT = "failed to parse setting [timeout] with value [{}] as a time value: unit is missing or unrecognized"
NEGATIVE = "failed to parse setting [timeout] with value [{}] as a time value: negative durations are not supported"
FRACTION = "failed to parse [{}], fractional time values are not supported"
PLAIN = "failed to parse [{}]"
REFUSED = [
    ("10", UNIT), ("", UNIT), ("5M", UNIT), ("5m ", UNIT), ("1w", UNIT), ("1M", UNIT), ("1y", UNIT), ("abc", UNIT),
    ("1.5s", FRACTION), ("1e3s", FRACTION), ("1ds", FRACTION), ("9223372036854775808s", FRACTION),
    ("s", PLAIN), ("xs", PLAIN),
]  # fmt: skip


@speaking(*VERSIONS)
@pytest.mark.parametrize(("given", "printed"), PRINTED)
async def test_a_timeout_is_printed_in_the_unit_that_was_given(
    client: Client, cluster: Cluster, given: str, printed: str
) -> None:
    a_job(cluster, "stopping")
    status, answered = await call(client, "POST", f"{WAIT}&timeout={given}")
    assert status == 500
    assert answered["error"]["reason"].startswith(f"Timed out after [{printed}] while")


@pytest.mark.parametrize("value", ["1d", "999999999d", "9223372036854775807d"])
async def test_a_very_long_timeout_is_taken(client: Client, cluster: Cluster, value: str) -> None:
    a_job(cluster, "stopping")
    stop = asyncio.create_task(call(client, "POST", f"{WAIT}&timeout={value}"))
    await when_waiting(client)
    cluster.status("sensor", state="stopped")
    assert await stop == STOPPED


@speaking(*VERSIONS)
@pytest.mark.parametrize(("value", "text"), REFUSED)
async def test_a_bad_timeout(client: Client, cluster: Cluster, settings: dict[str, Any], value: str, text: str) -> None:
    a_job(cluster, "started")
    type_ = "parse_exception" if settings["compat_version"] == 6 else "illegal_argument_exception"
    answer = await call(client, "POST", STOP, params={"timeout": value})
    assert answer == error(400, type_, text.format(value))
    assert cluster.applied == []


@speaking(7, 8, 9)
@pytest.mark.parametrize("value", ["-2s", "-5ms", "-100d"])
async def test_a_negative_timeout_is_refused(client: Client, cluster: Cluster, value: str) -> None:
    a_job(cluster, "started")
    answer = await call(client, "POST", f"{WAIT}&timeout={value}")
    assert answer == error(400, "illegal_argument_exception", NEGATIVE.format(value))


@speaking(6)
@pytest.mark.parametrize(("value", "printed"), [("-2s", "-2"), ("-5ms", "-5"), ("-100d", "-100")])
async def test_a_negative_timeout_means_one_look(client: Client, cluster: Cluster, value: str, printed: str) -> None:
    a_job(cluster, "stopping")
    status, answered = await call(client, "POST", f"{WAIT}&timeout={value}")
    assert (status, answered["error"]["reason"]) == (500, TIMED_OUT.replace("20ms", printed))


# Very many jobs


@pytest.mark.parametrize("call_of_all", ["_stop", "_stop?wait_for_completion=true&timeout=0", "_start"])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_call_on_very_many_jobs_holds_the_loop_for_few_of_them(call_of_all: str, fails: bool) -> None:
    cluster = Cluster()
    for n in range(3_000):
        cluster.create(f"job-{n}")
        cluster.status(f"job-{n}", state="stopped")
    cluster.fail_write = KubeError(422, "Invalid", "no") if fails else None
    async with served(cluster) as endpoint, calling(endpoint) as client:
        await call(client, "GET", "/")
        async with watched() as loop:
            status, _ = await call(client, "POST", f"/_rollup/job/_all/{call_of_all}")
    assert (status == 200) is not (fails or "wait" in call_of_all)  # nobody stops what is waited for
    assert loop.longest < 0.06
