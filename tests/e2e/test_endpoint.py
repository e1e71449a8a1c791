"""The endpoint of a running operator: what it answers is what `kubectl get` shows."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.api import Api, Body
from support.backfill import PAGE_SECONDS, begin
from support.bodies import store
from support.data import small_groups, trips_job, write_trips
from support.operator import Operator
from support.waiting import NEVER, assert_silent, newest, run_completed, status

SETTINGS = {"page_seconds": PAGE_SECONDS}
WAIT = "wait_for_completion=true"


@pytest.fixture(autouse=True)
def _something_to_roll_up(api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())


def jobs(operator: Operator, api: Api, job: str = "_all", base: str = "_rollup") -> list[Body]:
    answer = operator.get(f"/namespaces/{api.namespace}/{base}/job/{job}")
    assert answer.status == 200
    assert answer.headers["X-Elastic-Product"] == "Elasticsearch"
    found: list[Body] = answer.body["jobs"]
    return found


def test_start_stop_and_get_one_and_all(operator: Operator, api: Api) -> None:
    assert operator.get("/healthz").status == 200
    assert operator.get("/readyz").body["status"] == "ready"
    assert jobs(operator, api) == []
    for name in ("a", "b"):
        api.create(trips_job(name, groups=small_groups(), cron=NEVER, desiredState=None))
    api.create(trips_job("c", jobId="Job C", groups=small_groups(), desiredState=None))
    for name in ("a", "b", "c"):
        api.wait_state(name, "stopped")
    assert [job["config"]["id"] for job in jobs(operator, api)] == ["Job C", "a", "b"]
    assert [job["status"]["job_state"] for job in jobs(operator, api)] == ["stopped"] * 3
    assert jobs(operator, api, "missing") == []

    answer = operator.post(f"/namespaces/{api.namespace}/_xpack/rollup/job/Job%20C/_start")
    assert (answer.status, answer.body) == (200, {"started": True})
    body = api.wait("c", run_completed)
    (shown,) = jobs(operator, api, "Job%20C", "_xpack/rollup")
    assert shown["status"]["current_position"] == status(body)["position"]
    assert shown["stats"]["rollups_indexed"] == 48

    assert operator.post(f"/namespaces/{api.namespace}/_rollup/job/_all/_start").body == {"started": True}
    for name in ("a", "b", "c"):
        api.wait_condition(name, reason="Waiting")
    answer = operator.post(f"/namespaces/{api.namespace}/_rollup/job/_all/_stop?{WAIT}&timeout=10s")
    assert (answer.status, answer.body) == (200, {"stopped": True})
    bodies = [api.get(name) for name in ("a", "b", "c")]
    for body in bodies:
        assert status(body)["state"] == "stopped"
        assert status(body)["observedGeneration"] == body["metadata"]["generation"]
    assert_silent(api, newest(bodies), 1.2)

    answer = operator.post(f"/namespaces/{api.namespace}/_rollup/job/missing/_stop")
    assert (answer.status, answer.reason) == (404, "Task for Rollup Job [missing] not found")


def test_a_stop_through_the_endpoint_is_seen_on_the_object(operator: Operator, api: Api) -> None:
    api.apply(trips_job(groups=small_groups()), manager="git")
    api.wait_condition("trips", reason="Waiting")
    assert operator.post(f"/namespaces/{api.namespace}/_rollup/job/trips/_stop?{WAIT}").body == {"stopped": True}
    body = api.get("trips")
    assert body["spec"]["desiredState"] == "stopped"
    owners = {m["manager"]: m["fieldsV1"] for m in body["metadata"]["managedFields"] if "subresource" not in m}
    assert owners["rollup-api"] == {"f:spec": {"f:desiredState": {}}}
    assert "f:desiredState" not in owners["git"]["f:spec"]


def test_a_stop_of_what_git_owns_warns_the_caller_and_the_job(operator: Operator, api: Api) -> None:
    manifest = trips_job(groups=small_groups(), cron=NEVER)
    api.apply(manifest, manager="argocd-controller")
    api.wait_condition("trips", reason="Waiting")
    answer = operator.post(f"/namespaces/{api.namespace}/_rollup/job/trips/_stop?{WAIT}")
    assert (answer.status, answer.body) == (200, {"stopped": True})
    assert "spec.desiredState of rollup job [trips] is owned by [argocd-controller]" in answer.headers["Warning"]
    assert "owned by argocd-controller" in api.wait_event("trips", "GitOpsOwned")["message"]
    api.apply(manifest, manager="argocd-controller", force=True)  # the next sync
    api.wait_state("trips", "started")


def test_a_started_job_waits_for_its_tick(operator: Operator, api: Api) -> None:
    api.create(trips_job(groups=small_groups(), cron=NEVER, desiredState=None))
    api.wait_state("trips", "stopped")
    assert operator.post(f"/namespaces/{api.namespace}/_rollup/job/trips/_start").body == {"started": True}
    body = api.wait_condition("trips", reason="Waiting")
    assert_silent(api, body, 0.5)
    assert "lastRun" not in status(body)
    assert operator.post(f"/namespaces/{api.namespace}/_rollup/job/trips/_start").body == {"started": True}
    assert_silent(api, body, 0.5)


def test_an_id_that_two_jobs_have_is_refused_until_one_goes(operator: Operator, api: Api) -> None:
    for name in ("a", "b"):
        api.create(trips_job(name, jobId="same", cron=NEVER))
        api.wait_state(name, "started")
    stop = f"/namespaces/{api.namespace}/_rollup/job/same/_stop?{WAIT}"
    answer = operator.post(stop)
    assert (answer.status, answer.body["error"]["type"]) == (500, "failed_node_exception")
    assert [api.get(name)["spec"]["desiredState"] for name in ("a", "b")] == ["started", "started"]
    api.delete("a")
    api.wait_gone("a")
    deadline = time.monotonic() + 20
    while (answer := operator.post(stop)).status == 500 and time.monotonic() < deadline:
        time.sleep(0.02)  # the operator hears of the deletion a moment after we do
    assert answer.body == {"stopped": True}
    assert status(api.get("b"))["state"] == "stopped"


def test_two_hundred_stops_at_once_are_one_transition(operator: Operator, api: Api) -> None:
    api.create(trips_job(cron=NEVER))
    before = api.wait_state("trips", "started")
    with ThreadPoolExecutor(200) as pool:
        path = f"/namespaces/{api.namespace}/_rollup/job/trips/_stop?{WAIT}&timeout=20s"
        answers = list(pool.map(lambda _: operator.post(path), range(200)))
    assert {(answer.status, str(answer.body)) for answer in answers} == {(200, "{'stopped': True}")}
    after = api.get("trips")
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
    changes = [body for _, body in itertools.islice(api.watch(since=before["metadata"]["resourceVersion"]), 2)]
    assert [(body["spec"]["desiredState"], status(body)["state"]) for body in changes] == [
        ("stopped", "started"),
        ("stopped", "stopped"),
    ]
    assert changes[-1] == after
    assert_silent(api, after, 0.5)


def test_a_stop_of_a_stopped_job_is_answered_at_once_and_writes_nothing(operator: Operator, api: Api) -> None:
    api.create(trips_job(desiredState="stopped"))
    api.wait_state("trips", "stopped")
    assert operator.post(f"/namespaces/{api.namespace}/_rollup/job/trips/_stop?{WAIT}&timeout=10s").status == 200
    body = api.get("trips")
    assert operator.post(f"/namespaces/{api.namespace}/_rollup/job/trips/_stop?{WAIT}&timeout=0").status == 200
    assert_silent(api, body, 0.5)


def test_many_callers_at_once_get_what_is_true(operator: Operator, api: Api, folder: Path) -> None:
    for name in ("a", "b"):
        begin(api, folder, name)
    with ThreadPoolExecutor(40) as pool:
        path = f"/namespaces/{api.namespace}/_rollup/job/{{}}/_stop?{WAIT}&timeout=20s"
        answers = list(pool.map(lambda i: operator.post(path.format("ab"[i % 2])), range(40)))
    assert {answer.status for answer in answers} == {200}
    for name in ("a", "b"):
        assert status(api.get(name))["state"] == "stopped"
