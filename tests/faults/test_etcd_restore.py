"""Etcd is restored under operators that run: the API server goes back in time, and they recover by themselves."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from local_control_plane import ControlPlane
from support.api import Api, Body
from support.bodies import store
from support.data import BEGIN, exported, rolled_up_small, small_groups, trips_job, write_trips
from support.etcd_backup import EtcdBackup
from support.operator import BEGINS_AGAIN, Operator
from support.replicas import election
from support.rules import check_rules
from support.waiting import NEVER, handled, request_run, run_completed, status

ROOT = Path(__file__).resolve().parents[2]

LATER = BEGIN.replace(day=20)
SWEEP_SECONDS = 2.0
WRITES = 300
"""More than there are from the backup to its restore, and after that in a test."""

RECOVERED = 40.0
"""Seconds in which a job must have reacted, whatever it is that the operator has to notice first."""

AWAY = (
    BEGINS_AGAIN,
    "sweep failed",
    "write failed",
    "status of a store not written",
    "event not posted",
    "cannot ask the API server",
    "the lease cannot be used",
    "halting: the lease is not renewed",
    "lease not released",
    "watch-stream",
    "Watch",
    "watching",
    "Request attempt",
    "Broken connection",
)
"""What an operator may say of an API server that goes away and comes back with old data."""


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    """A control plane of the test's own, with crds/ applied and a namespace."""
    with ControlPlane.start() as plane, Api(plane) as api:
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            api.install(yaml.safe_load(path.read_text()))
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "rollups"}})
        yield plane


def job(name: str, state: str) -> Body:
    return trips_job(name, desiredState=state, cron=NEVER, groups=small_groups(), rollupIndex=f"{name}-rolled")


def ran(api: Api, name: str, request: str) -> None:
    """Request a run of a started job, and wait until it has ended well."""
    last = status(request_run(api, name, request)).get("lastRun")
    api.wait(name, lambda body: run_completed(body) and status(body)["lastRun"] != last and handled(request)(body))


def written(api: Api, times: int) -> None:
    """Let etcd's revision grow by something that is no operator's business."""
    for number in range(times):
        api.patch(api.namespace, {"metadata": {"labels": {"number": str(number)}}}, kind="Namespace")


@pytest.mark.skipif(sys.platform != "linux", reason="the processes' command lines are read from /proc")
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("replicas", "caught_up"),
    [
        pytest.param(1, False, id="one replica"),
        pytest.param(2, False, id="two replicas"),
        pytest.param(1, True, id="a replica that sees the API server when its revisions have caught up"),
    ],
)
def test_a_restored_etcd_is_noticed_and_every_job_reacts_again(
    plane: ControlPlane, tmp_path: Path, replicas: int, caught_up: bool
) -> None:
    with Api(plane, "rollups") as api, EtcdBackup(plane) as etcd:
        settings = election(api, lease_seconds=6) if replicas > 1 else {}
        operators = [
            Operator(
                plane.kubeconfig,
                tmp_path / f"operator-{number}",
                data_root=tmp_path / "data",
                sweep_seconds=SWEEP_SECONDS,
                settings=settings,
                expected=AWAY,
            )
            for number in range(replicas)
        ]
        folder = tmp_path / "data" / "rollups"
        write_trips(folder)
        try:
            for operator in operators:
                operator.start()
            api.create(store())
            before = {"left": "started", "stopped": "started", "started": "stopped", "deleted": "started"}
            for name, state in before.items():
                api.create(job(name, state))
            for name, state in before.items():
                api.wait_state(name, state)
                if state == "started":
                    ran(api, name, "1")
            etcd.save(tmp_path / "saved")

            for name in ("stopped", "deleted"):
                api.stop(name)
                api.wait_state(name, "stopped", RECOVERED)
            api.start("started")
            api.wait_state("started", "started")
            ran(api, "started", "1")
            api.delete("deleted")
            api.wait_gone("deleted")
            api.create(job("created", "started"))
            api.wait_state("created", "started")
            ran(api, "created", "1")
            write_trips(folder, "b", hours=24, begin=LATER)
            for name in ("left", "created"):
                ran(api, name, "2")

            if caught_up:
                operators[0].freeze()
                etcd.restore(tmp_path / "saved")
                written(api, WRITES)
                operators[0].thaw()
            else:
                written(api, WRITES)
                etcd.restore(tmp_path / "saved")
            assert {body["metadata"]["name"] for body in api.list()} == set(before)

            for name, state in before.items():
                body = api.wait_state(name, state, RECOVERED)
                assert body["spec"]["desiredState"] == state
                api.stop(name)
                api.wait_state(name, "stopped", RECOVERED)
                api.start(name)
                api.wait_state(name, "started", RECOVERED)
                ran(api, name, "3")
                assert exported(folder, name, f"{name}-rolled") == rolled_up_small(folder)
            api.create(job("created", "started"))  # it goes on where it was
            api.wait_state("created", "started", RECOVERED)
            ran(api, "created", "3")
            assert exported(folder, "created", "created-rolled") == rolled_up_small(folder)
            for operator in operators:
                operator.wait_begun_again(RECOVERED)  # a replica that stands by may notice last
                for name in (*before, "created"):
                    path = f"/namespaces/rollups/_rollup/job/{name}"
                    answer = operator.post(f"{path}/_stop?wait_for_completion=true&timeout=20s")
                    assert (answer.status, answer.body) == (200, {"stopped": True})
                    assert operator.get(path).body["jobs"][0]["status"]["job_state"] == "stopped"
                    api.start(name)
            check_rules(api)
            for operator in operators:
                operator.stop()
        finally:
            for operator in operators:
                operator.kill()
