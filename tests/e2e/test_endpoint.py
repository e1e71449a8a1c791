"""The endpoint of a running operator: what it answers is what `kubectl get` shows."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from support.api import Api, Body, condition
from support.backfill import PAGE_SECONDS, begin, begun
from support.bodies import store
from support.data import small_groups, trips_job, write_trips
from support.database import opened
from support.operator import Answer, Operator
from support.operator_fixtures import StartOperator
from support.waiting import NEVER, assert_silent, run_completed, status

WAIT = "wait_for_completion=true"


def jobs(operator: Operator, api: Api, job: str = "_all", base: str = "_rollup") -> list[Body]:
    answer = operator.get(f"/namespaces/{api.namespace}/{base}/job/{job}")
    assert answer.status == 200
    assert answer.headers["X-Elastic-Product"] == "Elasticsearch"
    found: list[Body] = answer.body["jobs"]
    return found


@pytest.fixture
def served(start_operator: StartOperator, api: Api, folder: Path) -> Operator:
    """An operator whose default namespace is the test's, with something to roll up."""
    write_trips(folder)
    api.create(store())
    return start_operator(default_namespace=api.namespace, page_seconds=PAGE_SECONDS, grace_seconds=1)


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def blocked(operator: Operator, api: Api, folder: Path) -> None:
    """A job that cannot become quiet while the test holds the database: a dead operator's claim must be released."""
    begun(api, folder, hours=3000, drainTimeoutSeconds=1)
    operator.kill()


def waiting(operator: Operator, api: Api, callers: ThreadPoolExecutor, timeout: str) -> "Future[Answer]":
    """Send a stop that waits, and return once it is recorded."""
    answer = callers.submit(operator.post, f"/_rollup/job/trips/_stop?{WAIT}&timeout={timeout}")
    api.wait("trips", lambda body: body["spec"]["desiredState"] == "stopped")
    return answer


def test_start_stop_and_get_one_and_all(served: Operator, api: Api) -> None:
    assert served.get("/healthz").status == 200
    assert served.get("/readyz").body["status"] == "ready"
    assert jobs(served, api) == []
    for name in ("a", "b"):
        api.create(trips_job(name, groups=small_groups(), cron=NEVER, desiredState=None))
    api.create(trips_job("c", jobId="Job C", groups=small_groups(), desiredState=None))
    for name in ("a", "b", "c"):
        api.wait_state(name, "stopped")
    assert [job["config"]["id"] for job in jobs(served, api)] == ["Job C", "a", "b"]
    assert [job["status"]["job_state"] for job in jobs(served, api)] == ["stopped"] * 3
    assert jobs(served, api, "missing") == []

    answer = served.post("/_xpack/rollup/job/Job%20C/_start")
    assert (answer.status, answer.body) == (200, {"started": True})
    body = api.wait("c", run_completed)
    (shown,) = jobs(served, api, "Job%20C", "_xpack/rollup")
    assert shown["status"]["current_position"] == status(body)["position"]
    assert shown["stats"]["rollups_indexed"] == 48

    assert served.post("/_rollup/job/_all/_start").body == {"started": True}
    for name in ("a", "b", "c"):
        api.wait_condition(name, reason="Running")
    answer = served.post(f"/_rollup/job/_all/_stop?{WAIT}&timeout=10s")
    assert (answer.status, answer.body) == (200, {"stopped": True})
    for name in ("a", "b", "c"):
        body = api.get(name)
        assert status(body)["state"] == "stopped"
        assert status(body)["observedGeneration"] == body["metadata"]["generation"]
    assert_silent(api, body, 1.2)

    answer = served.post("/_rollup/job/missing/_stop")
    assert (answer.status, answer.reason) == (404, "Task for Rollup Job [missing] not found")


def test_a_stop_through_the_endpoint_is_seen_on_the_object(served: Operator, api: Api) -> None:
    api.apply(trips_job(groups=small_groups()), manager="git")
    api.wait_condition("trips", reason="Running")
    assert served.post(f"/_rollup/job/trips/_stop?{WAIT}").body == {"stopped": True}
    body = api.get("trips")
    assert body["spec"]["desiredState"] == "stopped"
    owners = {m["manager"]: m["fieldsV1"] for m in body["metadata"]["managedFields"] if "subresource" not in m}
    assert owners["rollup-api"] == {"f:spec": {"f:desiredState": {}}}
    assert "f:desiredState" not in owners["git"]["f:spec"]


def test_a_stop_of_a_stopped_job_is_answered_at_once_and_writes_nothing(served: Operator, api: Api) -> None:
    api.create(trips_job(desiredState="stopped"))
    api.wait_state("trips", "stopped")
    assert served.post(f"/_rollup/job/trips/_stop?{WAIT}&timeout=10s").status == 200
    body = api.get("trips")
    assert served.post(f"/_rollup/job/trips/_stop?{WAIT}&timeout=0").status == 200
    assert_silent(api, body, 0.5)


def test_a_timeout_says_so_and_undoes_nothing(
    served: Operator, api: Api, folder: Path, callers: ThreadPoolExecutor
) -> None:
    blocked(served, api, folder)
    with opened(folder):
        served.start()
        answer = served.post(f"/_rollup/job/trips/_stop?{WAIT}&timeout=1500ms")
        assert answer.status == 500
        assert answer.body["error"]["type"] == "timeout_exception"
        assert answer.reason == (
            "Timed out after [1500ms] while waiting for rollup job [trips] to stop. State was [STOPPING]"
        )
        body = api.wait_condition("trips", status="False", reason="StoreUnavailable")
        assert status(body)["state"] == "stopping"
        assert (condition(body, "Reconciling") or {})["status"] == "True"
        second = callers.submit(served.post, f"/_rollup/job/trips/_stop?{WAIT}&timeout=30s")
    body = api.wait_state("trips", "stopped")
    assert second.result(20).body == {"stopped": True}
    assert_silent(api, api.get("trips"), 0.5)


def test_a_stop_that_a_start_overtakes_is_told_so_at_once(
    served: Operator, api: Api, folder: Path, callers: ThreadPoolExecutor
) -> None:
    blocked(served, api, folder)
    with opened(folder):
        served.start()
        first = waiting(served, api, callers, "30s")
        stopped = api.get("trips")["metadata"]["generation"]
        started = api.start("trips")["metadata"]["generation"]
        answer = first.result(5)
        assert answer.status == 409
        assert answer.reason == (
            f"Stop of rollup job [trips] (generation [{stopped}]) was overtaken by a newer start "
            f"(generation [{started}])"
        )
    api.wait_state("trips", "indexing", 20)


def test_who_waits_for_a_job_that_is_deleted_is_told_so(
    served: Operator, api: Api, folder: Path, callers: ThreadPoolExecutor
) -> None:
    blocked(served, api, folder)
    with opened(folder):
        served.start()
        first = waiting(served, api, callers, "30s")
        api.delete("trips")
    api.wait_gone("trips")
    assert first.result(10).status == 404


def test_sigterm_answers_those_who_wait(served: Operator, api: Api, folder: Path, callers: ThreadPoolExecutor) -> None:
    blocked(served, api, folder)
    with opened(folder):
        served.start()
        first = waiting(served, api, callers, "30s")
        api.wait_state("trips", "stopping")
        served.terminate()
        answer = first.result(10)
        assert answer.status == 500
        assert answer.reason == "Shutting down while waiting for rollup job [trips] to stop. State was [STOPPING]"
        served.stop()
    assert api.get("trips")["spec"]["desiredState"] == "stopped"
    served.start()
    api.wait_state("trips", "stopped")


def test_sigterm_lets_a_stop_under_way_end_and_answers_it(
    served: Operator, api: Api, folder: Path, callers: ThreadPoolExecutor
) -> None:
    begun(api, folder, hours=3000)
    first = waiting(served, api, callers, "30s")
    served.terminate()
    answer = first.result(10)
    served.stop()
    told = status(api.get("trips"))["state"]
    assert (answer.status, told) == (200, "stopped"), answer.body


def test_many_callers_at_once_get_what_is_true(served: Operator, api: Api, folder: Path) -> None:
    for name in ("a", "b"):
        begin(api, folder, name)
    with ThreadPoolExecutor(40) as pool:
        path = f"/_rollup/job/{{}}/_stop?{WAIT}&timeout=20s"
        answers = list(pool.map(lambda i: served.post(path.format("ab"[i % 2])), range(40)))
    assert {answer.status for answer in answers} == {200}
    for name in ("a", "b"):
        assert status(api.get(name))["state"] == "stopped"
