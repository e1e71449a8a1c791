"""What stands in a job's way is named in its conditions, and a job goes on by itself once it is out of the way."""

import os
from pathlib import Path

import pytest

from support.api import Api, condition
from support.backfill import HOURS, PAGE_SECONDS, begun
from support.bodies import store
from support.data import end_of, exported, rolled_up_small, small_groups, trips_job, write_trips
from support.database import claim, opened
from support.operator import Operator
from support.waiting import (
    NEVER,
    WRONG_CRON,
    assert_silent,
    finished,
    handled,
    request_run,
    run_completed,
    runs,
    status,
)

SETTINGS = {"page_seconds": PAGE_SECONDS}


def test_a_store_that_does_not_exist_yet_is_waited_for(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(trips_job(storeRef={"name": "later"}, groups=small_groups()))
    body = api.wait_condition("trips", status="False", reason="StoreNotFound")
    assert status(body)["state"] == "started"
    assert (condition(body, "Reconciling") or {})["status"] == "True"
    assert "'later'" in (condition(body) or {})["message"]
    api.create(store("later"))
    api.wait_condition("trips", reason="Waiting")
    api.wait("trips", run_completed)
    assert exported(folder) == rolled_up_small(folder)


@pytest.mark.parametrize("tried", [False, True], ids=["before its first run", "after a run that found no store"])
def test_a_job_can_be_stopped_and_deleted_without_its_store(operator: Operator, api: Api, tried: bool) -> None:
    api.create(trips_job(cron=NEVER))
    api.wait_condition("trips", status="False", reason="StoreNotFound")
    if tried:
        request_run(api, "trips", "now")
        api.wait(
            "trips", lambda body: handled("now")(body) and status(body).get("lastRun", {}).get("outcome") == "Failed"
        )
    api.stop("trips")
    api.wait_state("trips", "stopped")
    told = (condition(api.wait_condition("trips", reason="Stopped")) or {})["message"]
    assert ("; its last run failed: no RollupStore named 'default'" in told) is tried
    api.delete("trips")
    api.wait_gone("trips")


def test_a_source_that_does_not_exist_yet_is_waited_for(operator: Operator, api: Api, folder: Path) -> None:
    api.create(store())
    api.create(trips_job(groups=small_groups()))
    body = api.wait_condition("trips", status="False", reason="SourceNotFound")
    assert status(body)["state"] == "started"
    assert (condition(body, "Reconciling") or {})["status"] == "True"
    assert "trips/*.parquet" in (condition(body) or {})["message"]
    assert "watermark" not in status(body)
    write_trips(folder)
    api.wait_condition("trips", reason="Waiting")
    api.wait("trips", finished(end_of(47)))
    assert exported(folder) == rolled_up_small(folder)


def test_a_field_that_the_source_lacks_stalls_the_job(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job(metrics=[{"field": "colour", "metrics": ["max"]}]))
    body = api.wait_condition("trips", "Stalled", reason="SourceInvalid")
    assert "'colour'" in (condition(body) or {})["message"]
    api.wait("trips", lambda body: status(body).get("lastRun", {}).get("outcome") == "Failed")  # at the next tick
    assert api.wait_event("trips", "SourceInvalid")["type"] == "Warning"


def test_an_invalid_cron_stalls_the_job_until_it_is_mended(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job(cron=WRONG_CRON, groups=small_groups()))
    api.create(trips_job("healthy", groups=small_groups()))
    body = api.wait_condition("trips", "Stalled", reason="InvalidSpec")
    message = (condition(body) or {})["message"]
    assert "spec.cron" in message
    assert "'32'" in message
    assert status(body)["state"] == "stopped"
    event = api.wait_event("trips", "InvalidSpec")
    assert (event["type"], event["message"]) == ("Warning", message)
    api.wait("healthy", lambda body: runs(body) >= 2)
    api.patch_job("trips", {"cron": "* * * * * ?"})
    api.wait_condition("trips", reason="Waiting")
    api.wait("trips", run_completed)


def test_a_cron_that_never_comes_is_invalid_until_the_job_has_run(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job(cron="0 0 0 1 1 ? 2020", groups=small_groups()))
    body = api.wait_condition("trips", "Stalled", reason="InvalidSpec")
    assert (condition(body) or {})["message"].startswith("spec.cron: '0 0 0 1 1 ? 2020' has no further tick")
    assert status(body)["state"] == "started"
    request_run(api, "trips", "now")
    body = api.wait("trips", run_completed)
    assert (condition(body) or {})["reason"] == "Waiting"


def test_stopped_and_invalid_is_stopped_and_stalled(operator: Operator, api: Api, folder: Path) -> None:
    api.create(store())
    api.create(trips_job(cron=WRONG_CRON, desiredState="stopped"))
    body = api.wait_condition("trips", "Stalled", reason="InvalidSpec")
    assert status(body)["state"] == "stopped"
    assert status(body)["observedGeneration"] == body["metadata"]["generation"]


def test_the_same_id_in_the_same_index_is_taken(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job("first", jobId="shared", groups=small_groups()))
    api.wait("first", run_completed)
    api.create(trips_job("second", jobId="shared", groups=small_groups()))
    body = api.wait_condition("second", "Stalled", reason="JobIdTaken")
    assert f"{api.namespace}/first" in (condition(body) or {})["message"]
    before = api.get("first")
    api.wait("first", lambda body: runs(body) > runs(before))
    api.delete("second")
    api.wait_gone("second")
    assert exported(folder, "shared") == rolled_up_small(folder)
    record = claim(folder, "shared")
    assert record is not None


def test_other_groups_may_not_go_on_with_retained_documents(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job(groups=small_groups()))
    api.wait("trips", run_completed)
    api.delete("trips")
    api.wait_gone("trips")
    api.create(trips_job())
    api.wait_condition("trips", "Stalled", reason="ConfigChanged")
    assert exported(folder) == rolled_up_small(folder)
    api.delete("trips")
    api.wait_gone("trips")
    api.create(trips_job(groups=small_groups()))
    api.wait("trips", run_completed)


@pytest.mark.parametrize("asked", ["started", "stopped"])
def test_a_database_that_another_process_holds_is_named_and_waited_for(
    operator: Operator, api: Api, folder: Path, asked: str
) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job(groups=small_groups(), cron=NEVER))
    request_run(api, "trips", "1")
    first = api.wait("trips", lambda body: runs(body) == 1 and run_completed(body))
    with opened(folder):
        request_run(api, "trips", "2")
        body = api.wait_condition("trips", status="False", reason="StoreUnavailable")
        assert (condition(body, "Reconciling") or {})["status"] == "True"
        assert f"process {os.getpid()}" in (condition(body) or {})["message"]
        assert status(body)["state"] == "started"
        if asked == "stopped":
            api.stop("trips")
            api.wait_state("trips", "stopped")
    if asked == "started":
        body = api.wait("trips", lambda body: runs(body) >= 2 and run_completed(body), 20)
        assert status(body)["position"] == status(first)["position"]
        api.wait_condition("trips", reason="Waiting")


def test_an_invalid_edit_lets_the_run_end_and_begins_no_other(operator: Operator, api: Api, folder: Path) -> None:
    begun(api, folder)
    api.patch_job("trips", {"cron": WRONG_CRON})
    body = api.wait("trips", finished(end_of(HOURS - 1)), 60)
    assert exported(folder) == rolled_up_small(folder)
    assert (condition(body, "Stalled") or {})["reason"] == "InvalidSpec"
    assert runs(body) == 1
    assert_silent(api, body, 2.2)
    api.patch_job("trips", {"cron": "* * * * * ?"})
    api.wait("trips", lambda body: runs(body) >= 2)
    api.wait_condition("trips", reason="Waiting")


def test_an_invalid_edit_does_not_hold_a_stop(operator: Operator, api: Api, folder: Path) -> None:
    begun(api, folder)
    api.patch_job("trips", {"cron": WRONG_CRON, "desiredState": "stopped"})
    body = api.wait_state("trips", "stopped")
    assert (condition(body, "Stalled") or {})["reason"] == "InvalidSpec"
    record = claim(folder)
    assert record is not None
    assert record["holder"] is None
    assert_silent(api, body, 0.5)


def test_ready_never_speaks_of_an_older_generation(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job(groups=small_groups(), cron=NEVER))
    for i in range(30):
        asked = ("stopped", "started")[i % 2]
        api.patch_job("trips", {"desiredState": asked, "pageSize": i + 1})
        body = api.wait_condition("trips")  # what kubectl wait heeds: the condition's observedGeneration
        assert (status(body)["state"] == "stopped") == (asked == "stopped")
        assert status(body)["desiredState"] == asked
