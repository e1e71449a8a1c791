"""The steps of docs/backup.md bring jobs back where they were."""

import shutil
from pathlib import Path

from local_control_plane import ControlPlane
from support.api import Api, Body
from support.bodies import store
from support.data import BEGIN, exported, rolled_up_small, small_groups, trips_job, write_trips
from support.database import claim
from support.operator_fixtures import StartOperator, strip
from support.waiting import NEVER, request_run, run_completed, runs, status


def without_identity(body: Body) -> Body:
    """What a backup of resources brings back: no status, and nothing that the API server gave."""
    meta = body["metadata"]
    return {key: body[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": meta["name"]}}


def test_resources_and_the_data_folder_together_go_on_from_the_position(
    start_operator: StartOperator, control_plane: ControlPlane, api: Api, folder: Path, tmp_path: Path
) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job(cron=NEVER, groups=small_groups(), desiredState=None))
    first = start_operator(default_namespace=api.namespace)
    assert first.post("/_rollup/job/trips/_start").status == 200
    request_run(api, "trips", "1")
    before = api.wait("trips", run_completed)
    first.stop()

    saved = [without_identity(api.get("trips")), without_identity(api.get("default", kind="RollupStore"))]
    shutil.copytree(folder, tmp_path / "saved")
    strip(api)  # the disaster
    api.delete("default", kind="RollupStore")
    shutil.rmtree(folder)

    root = tmp_path / "restored"
    shutil.copytree(tmp_path / "saved", root / api.namespace)
    for body in saved:
        api.create(body)
    write_trips(root / api.namespace, "b", begin=BEGIN.replace(day=10))
    second = start_operator(data_root=root)
    after = api.wait_condition("trips", reason="Running")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    request_run(api, "trips", "2")
    after = api.wait("trips", run_completed)
    assert runs(after) == runs(before) + 1, "it went on, it did not begin anew"
    assert status(after)["stats"]["documentsProcessed"] == 2 * 48 * 40
    assert exported(root / api.namespace) == rolled_up_small(root / api.namespace)
    record = claim(root / api.namespace)
    assert record is not None
    second.stop()
