"""A job that an older CRD let in, with a value that is refused now, does not run, and can be stopped and deleted."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local_control_plane import ControlPlane
from support.api import Api, ApiError, Body, condition
from support.bodies import store
from support.data import trips_job
from support.operator import Operator
from support.waiting import NEVER, status

ROOT = Path(__file__).resolve().parents[2]

REFUSED: dict[str, dict[str, Any]] = {
    "control-character": {"jobId": "a\x1b[31mb"},
    "means-all": {"jobId": "_all"},
    "stars": {"indexPattern": f"trips/{'*' * 20}a.parquet"},
    "no-name": {"storeRef": {"name": "../../secrets/x"}},
}


def crds() -> list[Body]:
    return [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]


def loosened(schema: Any) -> Any:
    """The same schema without patterns and without rules for new objects."""
    if isinstance(schema, list):
        return [loosened(item) for item in schema if not (isinstance(item, dict) and item.get("optionalOldSelf"))]
    if isinstance(schema, dict):
        return {key: loosened(value) for key, value in schema.items() if key != "pattern" or not isinstance(value, str)}
    return schema


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """An API server of its own, with CRDs that let anything in."""
    with ControlPlane.start() as plane, Api(plane, "rollups") as api:
        for crd in crds():
            api.install(loosened(crd))
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "rollups"}})
        yield api


def upgrade(api: Api) -> None:
    """Apply the CRDs of today, and return once they are in force."""
    for crd in crds():
        api.apply(crd, force=True)
    deadline = time.monotonic() + 30
    while lets_in(api, trips_job("probe", desiredState=None, jobId="\x1b")):
        assert time.monotonic() < deadline, "the new CRDs do not come into force"


def lets_in(api: Api, body: Body) -> bool:
    try:
        api.create(body)
    except ApiError:
        return False
    api.delete(body["metadata"]["name"])
    return True


def test_such_a_job_is_stalled_and_can_be_stopped_and_deleted(api: Api, tmp_path: Path) -> None:
    api.create(store())
    for name, spec in REFUSED.items():
        api.create(trips_job(name, cron=NEVER, **spec))
    upgrade(api)
    for name, spec in REFUSED.items():
        assert not lets_in(api, trips_job(f"new-{name}", **spec))
    operator = Operator(api.plane.kubeconfig, tmp_path / "operator", data_root=tmp_path / "data")
    try:
        operator.start()
        for name in REFUSED:
            body = api.wait_condition(name, status="False", reason="InvalidSpec")
            assert (condition(body, "Stalled") or {}).get("status") == "True"
            api.stop(name)
            body = api.wait_state(name, "stopped")
            assert status(body)["observedGeneration"] == body["metadata"]["generation"]
            api.delete(name)
            api.wait_gone(name)
        operator.stop()
    finally:
        operator.kill()
