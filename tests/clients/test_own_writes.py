"""What official clients see of their own writes, with two replicas and nobody else that acts on the job."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from local_control_plane import ControlPlane
from support.api import Api
from support.bodies import store
from support.data import trips_job, write_trips
from support.operator import Operator
from support.replicas import election
from support.speaker import Client, Speaker
from support.waiting import NEVER

pytestmark = pytest.mark.timeout(300)  # the first test of each client makes its environment

REPLICATED = "replicated-clients"


@pytest.fixture(scope="module")
def replicas(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Client]]:
    """Two replicas, as clients without a speaker, and a job of theirs that no tick comes to."""
    with Api(control_plane, REPLICATED) as api:
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": REPLICATED}})
        root = tmp_path_factory.mktemp("replicas")
        (root / "data" / REPLICATED).mkdir(parents=True)
        write_trips(root / "data" / REPLICATED)
        made = [
            Operator(
                control_plane.kubeconfig,
                root / str(number),
                data_root=root / "data",
                namespaces=[REPLICATED],
                settings=election(api),
            )
            for number in range(2)
        ]
        try:
            for one in made:
                one.start()
            api.create(store())
            api.create(trips_job(cron=NEVER, desiredState="stopped"))
            api.wait_state("trips", "stopped")
            yield [Client(None, f"{one.url}/namespaces/{REPLICATED}", one.token) for one in made]
            api.delete("trips")
            api.wait_gone("trips", 30)
            for one in made:
                one.stop()
        finally:
            for one in made:
                one.kill()


NO_TIME = ("0", "-1", "0s", "0ms")


def test_a_script_sees_what_it_has_done_whichever_replica_it_asks(speaker: Speaker, replicas: list[Client]) -> None:
    turns = itertools.cycle(itertools.product([replace(one, speaker=speaker) for one in replicas], repeat=4))
    for breath in range(80):  # each of them after each other one, with each way to stop
        starting, looking, stopping, looking_again = next(turns)
        assert starting("start_job", id="trips").ok == {"started": True}
        assert state(looking) == "started"
        waits = {"wait_for_completion": True, "timeout": NO_TIME[breath % 4]} if breath % 5 else {}
        assert stopping("stop_job", id="trips", **waits).ok == {"stopped": True}
        assert state(looking_again) == "stopped"


def state(client: Client) -> str:
    (job,) = client("get_jobs", id="trips").ok["jobs"]
    found: str = job["status"]["job_state"]
    return found
