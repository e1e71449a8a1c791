"""A status that another version wrote, less or more than ours, is understood as far as it goes and made whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local_control_plane import ControlPlane
from support.api import Api, Body
from support.bodies import store
from support.data import exported, rolled_up_small, small_groups, trips_job, write_trips
from support.operator import Operator
from support.operator_fixtures import StartOperator
from support.rules import broken_rules
from support.waiting import NEVER, request_run, run_completed, status

ROOT = Path(__file__).resolve().parents[2]

FREE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
OLD: dict[str, tuple[dict[str, Any], str]] = {
    "no conditions": ({"observedGeneration": 1, "state": "started", "desiredState": "started"}, "started"),
    "no generation": ({"state": "started", "desiredState": "started"}, "started"),
    "no state": ({"observedGeneration": 1, "desiredState": "started"}, "started"),
    "no desired state": ({"observedGeneration": 1, "state": "stopped"}, "stopped"),
    "in the middle of a run": ({"observedGeneration": 1, "state": "indexing", "desiredState": "started"}, "started"),
    "in the middle of a stop": ({"observedGeneration": 1, "state": "stopping", "desiredState": "stopped"}, "stopped"),
    "parts of what is counted": (
        {"state": "started", "desiredState": "started", "stats": {"triggerCount": 7}},
        "started",
    ),
    "conditions of others": (
        {
            "state": "stopped",
            "desiredState": "stopped",
            "conditions": [
                {
                    "type": "Progressing",
                    "status": "True",
                    "reason": "Old",
                    "message": "",
                    "lastTransitionTime": "2020-01-01T00:00:00Z",
                }
            ],
        },
        "stopped",
    ),
}
"""What was written, and what becomes of the job whose manifest says nothing of its state."""


def written(api: Api, name: str, old: Body) -> None:
    """Create a job without desiredState and give it that status, as the operator of another version would have."""
    api.create(trips_job(name, desiredState=None, cron=NEVER, groups=small_groups()))
    api.patch_status(name, old)


def test_whatever_an_older_version_wrote(start_operator: StartOperator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    jobs = {text.replace(" ", "-"): case for text, case in OLD.items()}
    for name, (old, _) in jobs.items():
        written(api, name, old)
    start_operator()
    for name, (old, state) in jobs.items():
        body = api.wait_condition(name, reason={"started": "Waiting", "stopped": "Stopped"}[state])
        assert (status(body)["state"], status(body).get("desiredState")) == (state, old.get("desiredState"))
        assert broken_rules(body) == []
        if state == "started":
            request_run(api, name, "1")
            api.wait(name, run_completed)
            assert exported(folder, name) == rolled_up_small(folder)


@pytest.fixture
def newer(tmp_path: Path) -> Iterator[ControlPlane]:
    """An API server whose CRDs are of a newer version: one field more wherever one can be, and one word more."""
    with ControlPlane.start() as plane, Api(plane) as api:
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            crd = yaml.safe_load(path.read_text())
            for part in crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"].values():
                if "properties" in part:
                    part["properties"]["fromTheFuture"] = {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                    part["properties"].get("state", {}).pop("enum", None)
            api.install(crd)
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "rollups"}})
        yield plane


def test_an_operator_that_is_older_than_its_crds(newer: ControlPlane, tmp_path: Path) -> None:
    future = {"a": [1, {"b": None}]}
    with Api(newer, "rollups") as api:
        api.create(store(duckdb={}, fromTheFuture=future))
        write_trips(tmp_path / "data" / "rollups")
        for name, state in (("known", "started"), ("unknown", "hibernating")):
            api.create(trips_job(name, desiredState="started", cron=NEVER, groups=small_groups(), fromTheFuture=future))
            api.patch_status(
                name,
                {"observedGeneration": 1, "state": state, "desiredState": "started", "fromTheFuture": future},
            )
        operator = Operator(newer.kubeconfig, tmp_path / "operator", data_root=tmp_path / "data")
        try:
            operator.start()
            for name in ("known", "unknown"):
                body = api.wait_condition(name, reason="Waiting")
                assert status(body)["state"] == "started"
                assert broken_rules(body) == []
                assert body["spec"]["fromTheFuture"]
                request_run(api, name, "1")
                api.wait(name, run_completed)
                api.stop(name)
                api.wait_state(name, "stopped")
            operator.stop()
        finally:
            operator.kill()
