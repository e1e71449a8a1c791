"""Two replicas over an OpenSearch outside the cluster, from `helm install`: stops while pods come and go."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local_cluster import Cluster
from local_control_plane import binaries
from local_stores import Node
from support.api import Api, Body
from support.bodies import job, store
from support.callers import MANAGER, Account
from support.data import BEGIN, epoch_ms
from support.deployed import NAME, NAMESPACE, Deployed
from support.store_http import StoreHttp
from support.waiting import NEVER, request_run, run_completed, status

CHART = Path(__file__).resolve().parents[2] / "deploy" / "chart"
HOURS = 3000
PAGE = 5
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def store_address(cluster: Cluster, opensearch2_node: Node) -> str:
    """Where pods find the OpenSearch of this machine's loopback."""
    port = urlsplit(opensearch2_node.url).port
    assert port is not None
    return cluster.forward_inwards(port)


@pytest.fixture(scope="module")
def deployed(cluster: Cluster, store_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    deployed = Deployed(cluster, tmp_path_factory.mktemp("helm"))
    deployed.make_namespace()
    helm = str(binaries(["helm"])["helm"])
    values = json.dumps({"settings": {"store_hosts": [store_address]}})
    cluster.run(helm, "install", NAME, str(CHART), "-n", NAMESPACE, "-f", "-", text=values)
    deployed.wait_rolled_out()
    yield deployed
    cluster.kubectl("delete", "rollupjobs", "--all-namespaces", "--all", "--timeout=60s")
    cluster.run(helm, "uninstall", NAME, "-n", NAMESPACE, "--wait", "--timeout", "60s")
    cluster.kubectl("delete", "crd", "rollupjobs.rollup-operator.dev", "rollupstores.rollup-operator.dev")
    cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")
    deployed.close()


def load(api: Api, opensearch: StoreHttp, store_address: str, hours: int) -> str:
    """Make the store, and a source of four documents an hour; return its name."""
    api.create(store(opensearch={"hosts": [f"http://{store_address}"]}))
    index = opensearch.create(f"{api.namespace}-rows", {"ts": "date", "size": "long"})
    times = ((BEGIN + timedelta(hours=hour)).isoformat() for hour in range(hours) for _ in range(4))
    opensearch.load(index, ({"ts": time, "size": 1} for time in times))
    return index


def counting(index: str, name: str = "rows", **more: object) -> Body:
    """A job that sums by the hour, in many small pages."""
    spec = {"groups": {"dateHistogram": {"field": "ts", "fixedInterval": "1h"}}, "cron": NEVER, "pageSize": PAGE}
    metrics = [{"field": "size", "metrics": ["sum"]}]
    whole = {"indexPattern": index, "rollupIndex": f"{index}-{name}", "desiredState": "started", "metrics": metrics}
    return job(name, **(spec | whole | more))


def sums(opensearch: StoreHttp, index: str) -> list[float]:
    opensearch.refresh(index)
    return [each["size.sum.value"] for each in opensearch.documents(index).values()]


def quiet(opensearch: StoreHttp) -> bool:
    return not opensearch.tasks(actions="*search*,*bulk*")


def test_from_nothing_to_a_job_stopped_through_the_service(
    deployed: Deployed, api: Api, opensearch: StoreHttp, store_address: str
) -> None:
    assert len(deployed.pods()) == 2
    index = load(api, opensearch, store_address, 10)
    caller = Account(api).bind(MANAGER).in_force("update", "rollupjobs/stop")
    api.create(counting(index))
    request_run(api, "rows", "now")
    api.wait("rows", run_completed, 30)
    path = f"/namespaces/{api.namespace}/_rollup/job/rows/_stop?wait_for_completion=true&timeout=20s"
    answer = deployed.request("POST", path, caller.token)
    assert (answer.status, answer.body) == (200, {"stopped": True})
    assert status(api.get("rows"))["state"] == "stopped"
    assert sums(opensearch, f"{index}-rows") == [4] * 10


def test_stops_that_wait_while_all_pods_are_replaced_are_answered(
    deployed: Deployed, api: Api, opensearch: StoreHttp, opensearch2_node: Node, store_address: str
) -> None:
    """The store answers nobody when they come, so that they wait until it does; meanwhile each pod goes."""
    names = [f"rows-{number}" for number in range(5)]
    index = load(api, opensearch, store_address, HOURS)
    caller = Account(api).bind(MANAGER).in_force("update", "rollupjobs/stop")
    for name in names:
        api.create(counting(index, name))
        request_run(api, name, "now")
    for name in names:
        api.wait_state(name, "indexing", 30)
    before = {pod["metadata"]["uid"] for pod in deployed.pods()}
    opensearch2_node.freeze()
    try:
        with ThreadPoolExecutor(len(names)) as callers:
            path = f"/namespaces/{api.namespace}/_rollup/job/{{}}/_stop?wait_for_completion=true&timeout=90s"
            answers = [callers.submit(deployed.insist, "POST", path.format(name), caller.token) for name in names]
            for name in names:
                api.wait(name, lambda body: body["spec"]["desiredState"] == "stopped", 20)
            deployed.cluster.kubectl("rollout", "restart", "-n", NAMESPACE, f"deployment/{NAME}")
            deployed.wait_pod_besides(before)
            opensearch2_node.thaw()
            said = [each.result() for each in answers]
    finally:
        opensearch2_node.thaw()
    assert [(each.status, each.body) for each in said] == [(200, {"stopped": True})] * len(names)
    assert {status(api.get(name))["state"] for name in names} == {"stopped"}
    assert quiet(opensearch)
    deployed.wait_rolled_out()
    assert not before & {pod["metadata"]["uid"] for pod in deployed.pods()}


def test_a_frozen_leaders_run_is_finished_by_the_other_and_nothing_is_counted_twice(
    deployed: Deployed, api: Api, opensearch: StoreHttp, store_address: str
) -> None:
    deployed.wait_rolled_out()
    index = load(api, opensearch, store_address, HOURS)
    api.create(counting(index, cron="*/2 * * * * ?"))
    api.wait_state("rows", "indexing", 30)
    opensearch.wait(lambda node: node.exists(f"{index}-rows") and node.count(f"{index}-rows") > PAGE, seconds=20)
    leader = deployed.wait_leader()
    pid = deployed.freeze(leader)
    try:
        deployed.wait_leader(besides=leader)
    finally:
        os.kill(pid, signal.SIGCONT)
    last = {"ts.date_histogram": epoch_ms(BEGIN + timedelta(hours=HOURS - 1))}
    api.wait("rows", lambda body: status(body).get("position") == last and run_completed(body), 60)
    assert sums(opensearch, f"{index}-rows") == [4] * HOURS
