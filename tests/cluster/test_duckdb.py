"""One replica over DuckDB stores, from `kubectl apply -k`: the first steps of a user, then what happens to pods."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cluster import Cluster
from support.api import Api
from support.backfill import HOURS, assert_complete, begun
from support.bodies import store
from support.callers import MANAGER, READER, Account
from support.data import end_of, small_groups, trips_job, write_trips
from support.database import claim, opened
from support.deployed import NAMESPACE, Deployed, restarts
from support.waiting import NEVER, finished, handled, position, request_run, run_completed, status

OVERLAY = Path(__file__).parent / "overlays" / "duckdb"
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def deployed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    deployed = Deployed(cluster, tmp_path_factory.mktemp("deployed"))
    deployed.prepare()
    cluster.kubectl("apply", "--server-side", "-k", str(OVERLAY))
    deployed.wait_rolled_out()
    yield deployed
    # Jobs first, while somebody is there who lets them go.
    cluster.kubectl("delete", "rollupjobs", "--all-namespaces", "--all", "--timeout=60s")
    cluster.kubectl("delete", "-k", str(OVERLAY), "--ignore-not-found", "--timeout=90s")
    deployed.close()


def test_from_nothing_to_a_job_stopped_through_the_service(deployed: Deployed, api: Api, folder: Path) -> None:
    write_trips(folder, hours=6)
    api.create(store())
    caller = Account(api).bind(MANAGER).in_force("update", "rollupjobs/stop")
    api.create(trips_job(groups=small_groups()))
    api.wait("trips", finished(end_of(5)), 30)
    path = f"/namespaces/{api.namespace}/_rollup/job/trips"
    answer = deployed.request("POST", f"{path}/_stop?wait_for_completion=true&timeout=20s", caller.token)
    assert (answer.status, answer.body) == (200, {"stopped": True})
    assert status(api.get("trips"))["state"] == "stopped"
    stranger = Account(api)
    assert deployed.request("POST", f"{path}/_start", stranger.token).status == 403
    assert deployed.request("POST", f"{path}/_start", "nobody").status == 401
    assert status(api.get("trips"))["state"] == "stopped"
    left = claim(folder)
    assert left is not None
    assert left["holder"] is None


def test_commands_that_call_the_endpoint_reach_it_through_a_port_forward(
    deployed: Deployed, api: Api, folder: Path
) -> None:
    write_trips(folder, hours=6)
    api.create(store())
    api.create(trips_job(cron=NEVER, groups=small_groups()))
    request_run(api, "trips", "now")
    api.wait("trips", run_completed, 30)
    caller = Account(api).bind(MANAGER).bind(READER)
    caller.in_force("get", "rollupjobs/verify").in_force("create").in_force("delete", "rollupjobs/documents")

    def rollup(*words: str) -> str:
        program = str(Path(sys.executable).parent / "kubectl-rollup")
        return deployed.cluster.run(program, *words, "-n", api.namespace, "--service-account", caller.account).stdout

    previewed = json.loads(rollup("preview", "trips", "-o", "json"))
    assert previewed["estimate"]["source_documents"] == 6 * 40
    (head, total) = rollup("query", "trips").splitlines()
    assert (head.split(), total.split()[0]) == (["count", "DATA"], "240")
    assert " equal" in rollup("verify", "trips")
    api.delete("trips")
    api.wait_gone("trips")
    assert "6 documents" in rollup("purge", "trips", "--index", "hourly", "--yes")


def test_an_operator_out_of_memory_in_a_run_starts_again_and_goes_on(
    deployed: Deployed, api: Api, folder: Path
) -> None:
    deployed.wait_rolled_out()
    before = restarts(deployed.pod())
    begun(api, folder)
    deployed.exhaust_memory()
    api.stop("trips")
    pod = deployed.wait_restarted(before)
    (container,) = pod["status"]["containerStatuses"]
    assert container["lastState"]["terminated"]["reason"] == "OOMKilled"
    body = api.wait_state("trips", "stopped", 30)
    at = position(body)
    assert at is not None
    assert at < end_of(HOURS - 1)
    api.start("trips")
    assert_complete(api, folder)


def test_a_pod_deleted_in_a_run_is_followed_by_one_that_goes_on(deployed: Deployed, api: Api, folder: Path) -> None:
    before = deployed.pod()["metadata"]
    begun(api, folder)
    pid = deployed.freeze()  # the pod rests for some seconds before it ends its runs, and this one would be over
    try:
        deployed.cluster.kubectl("delete", "pod", "-n", NAMESPACE, before["name"], "--wait=false")
        deployed.wait_asked_to_end(pid)
    finally:
        os.kill(pid, signal.SIGCONT)
    deployed.cluster.kubectl("wait", "-n", NAMESPACE, "--for=delete", f"pod/{before['name']}", "--timeout=60s")
    at = position(api.get("trips"))
    assert at is not None
    assert at < end_of(HOURS - 1)
    assert_complete(api, folder)
    assert deployed.pod()["metadata"]["uid"] != before["uid"]


def test_a_stop_of_a_frozen_operators_run_is_not_lost(deployed: Deployed, api: Api, folder: Path) -> None:
    deployed.wait_rolled_out()
    before = restarts(deployed.pod())
    begun(api, folder)
    deployed.freeze()
    api.stop("trips")
    deployed.wait_restarted(before)
    body = api.wait_state("trips", "stopped", 30)
    left = claim(folder)
    assert left is not None
    assert left["holder"] is None
    assert status(body)["position"] == left["position"]


def test_a_namespace_with_running_jobs_can_be_deleted(deployed: Deployed, api: Api, folder: Path) -> None:
    begun(api, folder)
    for number in range(5):
        api.create(trips_job(f"more-{number}", rollupIndex=f"more-{number}", groups=small_groups()))
    api.wait("more-4", lambda body: status(body).get("state"), 30)
    deployed.cluster.kubectl("delete", "namespace", api.namespace, "--timeout=60s")
    deployed.wait_rolled_out(5)


@pytest.mark.parametrize(("role", "may_stop"), [("view", False), ("edit", True), ("admin", True)])
def test_the_roles_that_every_cluster_has_hold_ours(deployed: Deployed, api: Api, role: str, *, may_stop: bool) -> None:
    caller = Account(api).bind(role).in_force("get", "rollupjobs")
    api.create(trips_job(desiredState="stopped"))
    api.wait_state("trips", "stopped")
    path = f"/namespaces/{api.namespace}/_rollup/job/trips"
    assert deployed.request("GET", path, caller.token).status == 200
    assert deployed.request("POST", f"{path}/_stop", caller.token).status == (200 if may_stop else 403)


def test_a_rolling_update_with_many_running_jobs_loses_nothing_of_any(
    deployed: Deployed, api: Api, folder: Path
) -> None:
    """Each has rolled up six hours and goes on with six more as the pod ends; then its next run does what is left."""
    names = [f"job-{number:03}" for number in range(40)]
    write_trips(folder, hours=6, per_hour=4)
    api.create(store())
    for name in names:
        api.create(trips_job(name, rollupIndex=name, cron=NEVER, groups=small_groups()))
        request_run(api, name, "first")
    before = {name: api.wait(name, finished(end_of(5)), 60) for name in names}
    write_trips(folder, "b", begin=end_of(6), hours=6, per_hour=4)
    for name in names:
        request_run(api, name, "second")
    deployed.cluster.kubectl("rollout", "restart", "-n", NAMESPACE, "deployment/rollup-operator")
    deployed.wait_rolled_out()
    for name in names:
        request_run(api, name, "third")
    for name in names:
        body = api.wait(name, lambda body: handled("third")(body) and finished(end_of(11))(body), 60)
        assert status(body)["state"] == "started"
        assert body["metadata"]["generation"] == before[name]["metadata"]["generation"]
        assert status(body)["stats"]["documentsProcessed"] == 12 * 4
        assert status(body)["stats"]["rollupsIndexed"] == 12
    for name in names:
        api.stop(name)
    for name in names:
        api.wait_state(name, "stopped", 30)
    with opened(folder) as db:
        assert db.execute("SELECT count(*), count(holder) FROM _rollup.claims").fetchall() == [(len(names), 0)]
