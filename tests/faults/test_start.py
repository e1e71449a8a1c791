"""An operator that starts while its API server is away."""

from pathlib import Path

from local_control_plane import ControlPlane
from support.api import Api
from support.bodies import store
from support.data import small_groups, trips_job, write_trips
from support.operator_fixtures import StartOperator
from support.proxy import FaultyProxy
from support.waiting import assert_silent, run_completed


def test_an_api_server_that_is_away_at_the_start_is_waited_for(
    control_plane: ControlPlane, start_operator: StartOperator, api: Api, folder: Path, tmp_path: Path
) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job(groups=small_groups()))
    with FaultyProxy(control_plane, tmp_path) as proxy:
        proxy.go_away()
        operator = start_operator(kubeconfig=proxy.kubeconfig, ready=False)
        assert_silent(api, api.get("trips"), 2)
        proxy.come_back()
        operator.wait_ready()
        api.wait("trips", run_completed, 20)
        operator.stop()
