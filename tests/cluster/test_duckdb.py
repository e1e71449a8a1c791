"""One replica over DuckDB stores, from `kubectl apply -k`: the first steps of a user, then what happens to pods."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cluster import Cluster
from support.api import Api
from support.bodies import store
from support.callers import MANAGER, Account
from support.data import end_of, small_groups, trips_job, write_trips
from support.database import claim
from support.deployed import Deployed
from support.waiting import finished, status

OVERLAY = Path(__file__).parent / "overlays" / "duckdb"
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def deployed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    deployed = Deployed(cluster, tmp_path_factory.mktemp("deployed"))
    deployed.prepare()
    # CRDs first: server-side apply of both in one call is what `kubectl apply -k` does.
    cluster.kubectl("apply", "--server-side", "-k", str(OVERLAY))
    deployed.wait_rolled_out()
    yield deployed
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
