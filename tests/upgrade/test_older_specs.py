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
from support.refusals import date
from support.waiting import NEVER, status

ROOT = Path(__file__).resolve().parents[2]

REFUSED: dict[str, dict[str, Any]] = {
    "control-character": {"jobId": "a\x1b[31mb"},
    "means-all": {"jobId": "_all"},
    "stars": {"indexPattern": f"trips/{'*' * 20}a.parquet"},
    "unix-cron": {"cron": "*/5 * * * *"},
    "list-with-blanks": {"indexPattern": "trips/*.parquet, other/*"},
    "capital": {"rollupIndex": "Trips_Hourly"},
    "no-zone": {"groups": date(field="at", timeZone="Europe Berlin")},
    "no-unit": {"lookback": "6"},
    "no-name": {"storeRef": {"name": "../../secrets/x"}},
}


def crds() -> list[Body]:
    return [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]


def loosened(schema: Any) -> Any:
    """The same schema without patterns and without rules for what is new."""
    if isinstance(schema, list):
        return [loosened(item) for item in schema if not (isinstance(item, dict) and _is_of_a_new_value(item))]
    if isinstance(schema, dict):
        return {key: loosened(value) for key, value in schema.items() if key != "pattern" or not isinstance(value, str)}
    return schema


def _is_of_a_new_value(rule: dict[str, Any]) -> bool:
    return bool(rule.get("optionalOldSelf")) or "matches(" in str(rule.get("rule"))


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
        api.create(trips_job(name, **({"cron": NEVER} | spec)))
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


def test_such_a_store_can_be_reported_on_and_mended(api: Api) -> None:
    api.create(store("bare", opensearch={"hosts": ["search:9200", "https://b"]}, maxConcurrentRuns=1))
    upgrade(api)
    kind = "RollupStore"
    assert api.patch_status("bare", {"observedGeneration": 1}, kind=kind)["status"]["observedGeneration"] == 1
    api.patch("bare", {"spec": {"maxConcurrentRuns": 2}}, kind=kind)
    with pytest.raises(ApiError, match="begins with http:// or https://"):
        api.patch("bare", {"spec": {"opensearch": {"hosts": ["search:9200"]}}}, kind=kind)
    api.patch("bare", {"spec": {"opensearch": {"hosts": ["https://search:9200"]}}}, kind=kind)
