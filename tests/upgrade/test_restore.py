"""The steps of docs/backup.md, done as they are written there, bring jobs back where they were."""

import shutil
from pathlib import Path

import pytest

from support.api import Api, Body
from support.backfill import PAGE_SECONDS, assert_complete, begun
from support.bodies import store
from support.data import BEGIN, exported, rolled_up_small, small_groups, trips_job, write_trips
from support.database import claim, opened
from support.operator_fixtures import StartOperator, strip
from support.waiting import NEVER, request_run, run_completed, runs, status

KINDS = "RollupStore", "RollupJob"
"""In the order in which they are brought back."""


def saved(api: Api) -> list[Body]:
    """What `kubectl get -o yaml` shows of all stores and jobs."""
    return [body for kind in KINDS for body in api.list(kind=kind)]


def lose(api: Api, folder: Path) -> None:
    """Lose all stores, jobs and data."""
    strip(api)
    for body in api.list(kind="RollupStore"):
        api.delete(body["metadata"]["name"], kind="RollupStore")
    shutil.rmtree(folder.parent)


def restore(api: Api, bodies: list[Body]) -> None:
    """Bring objects back with all that was saved but status, metadata.uid and metadata.resourceVersion."""
    for body in bodies:
        meta = {key: value for key, value in body["metadata"].items() if key not in ("uid", "resourceVersion")}
        api.create({key: value for key, value in body.items() if key != "status"} | {"metadata": meta})


def test_resources_and_the_data_folder_together_go_on_from_the_position(
    start_operator: StartOperator, api: Api, folder: Path, tmp_path: Path
) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job(cron=NEVER, groups=small_groups(), desiredState=None))
    first = start_operator(default_namespace=api.namespace)
    assert first.post("/_rollup/job/trips/_start").status == 200
    request_run(api, "trips", "1")
    before = api.wait("trips", run_completed)
    first.stop()

    bodies = saved(api)
    shutil.copytree(folder.parent, tmp_path / "saved")
    lose(api, folder)

    root = tmp_path / "restored"
    restore(api, bodies)
    shutil.copytree(tmp_path / "saved", root)
    write_trips(root / api.namespace, "b", begin=BEGIN.replace(day=10))
    second = start_operator(data_root=root)
    after = api.wait_condition("trips", reason="Waiting")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    request_run(api, "trips", "2")
    after = api.wait("trips", lambda body: run_completed(body) and status(body)["lastHandledRunRequest"] == "2")
    assert status(after)["stats"]["documentsProcessed"] == 2 * 48 * 40, "it went on, it did not begin again"
    assert runs(after) > runs(before)
    assert exported(root / api.namespace) == rolled_up_small(root / api.namespace)
    record = claim(root / api.namespace)
    assert record is not None
    second.stop()


@pytest.mark.parametrize("asked", ["stopped", None])
def test_a_claim_that_was_saved_is_released_before_its_job_reads_stopped(
    start_operator: StartOperator, api: Api, folder: Path, tmp_path: Path, asked: str | None
) -> None:
    first = start_operator(page_seconds=PAGE_SECONDS)
    begun(api, folder)
    first.kill()
    api.patch_job("trips", {"desiredState": asked})
    held = claim(folder)
    assert held is not None
    assert held["holder"] is not None

    bodies = saved(api)
    shutil.copytree(folder.parent, tmp_path / "saved")
    lose(api, folder)

    restore(api, bodies)
    shutil.copytree(tmp_path / "saved", folder.parent)
    with opened(folder):  # nobody else can read the claim, and far less release it
        start_operator(page_seconds=PAGE_SECONDS)
        body = api.wait("trips", lambda body: status(body).get("state"))
        assert status(body)["state"] == "stopping"
    api.wait_state("trips", "stopped")
    record = claim(folder)
    assert record is not None
    assert record == held | {"holder": None, "epoch": record["epoch"]}
    api.start("trips")
    assert_complete(api, folder)
