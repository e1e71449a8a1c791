"""The snapshots that other tests show to GitOps controllers are what the operator really writes.

`RECORD_SNAPSHOTS=1 make test TESTS=tests/gitops` records them anew.
"""

from pathlib import Path

from support.api import Api, Body, condition
from support.backfill import PAGE_SECONDS, begin
from support.bodies import store
from support.data import small_groups, trips_job, write_trips
from support.database import opened, written_to
from support.operator_fixtures import StartOperator
from support.snapshots import recorded
from support.waiting import NEVER, WRONG_CRON, run_completed, status


def differences(seen: dict[str, Body]) -> list[str]:
    return [line for name, body in seen.items() for line in recorded(name, body)]


def test_the_life_of_a_job(start_operator: StartOperator, api: Api, folder: Path) -> None:
    api.create(trips_job("early", cron=NEVER))
    seen = {"job-new": api.get("early")}
    operator = start_operator(page_seconds=PAGE_SECONDS, grace_seconds=1)
    seen["job-store-missing"] = api.wait_condition("early", status="False", reason="StoreNotFound")

    api.create(store())
    api.create(trips_job("still", cron=NEVER, groups=small_groups(), desiredState=None))
    seen["job-stopped"] = api.wait_condition("still", reason="Stopped")
    operator.freeze()
    try:
        seen["job-starting"] = api.start("still")
    finally:
        operator.thaw()
    api.wait_condition("still", status="False", reason="SourceNotFound")

    api.create(trips_job("sourceless", cron=NEVER))
    seen["job-source-missing"] = api.wait_condition("sourceless", status="False", reason="SourceNotFound")
    api.delete("sourceless")
    write_trips(folder)
    api.create(trips_job("running", groups=small_groups(), cron="* * * * * ?"))
    api.wait("running", run_completed)
    api.patch_job("running", {"cron": NEVER})
    seen["job-running"] = api.wait_condition("running", reason="Waiting")
    api.create(trips_job("invalid", cron=WRONG_CRON))
    seen["job-invalid"] = api.wait_condition("invalid", "Stalled", reason="InvalidSpec")
    api.create(trips_job("stalled", cron=NEVER, metrics=[{"field": "colour", "metrics": ["max"]}]))
    seen["job-stalled"] = api.wait_condition("stalled", "Stalled", reason="SourceInvalid")

    begin(api, folder, hours=3000)
    seen["job-indexing"] = api.wait(
        "trips",
        lambda body: status(body).get("state") == "indexing" and (condition(body) or {}).get("reason") == "Running",
    )
    written_to(folder)
    api.wait("trips", lambda body: status(body).get("position"))  # without one its source would be checked again
    operator.kill()  # its claim stays, and while the test holds the file nobody can release it
    with opened(folder):
        operator.start()
        api.wait_condition("trips", status="False", reason="StoreUnavailable")
        seen["job-store-down"] = api.wait_state("trips", "started")
        api.stop("trips")
        seen["job-stopping"] = api.wait(
            "trips", lambda body: status(body)["state"] == "stopping" and status(body)["desiredState"] == "stopped"
        )
        api.delete("trips")
        seen["job-deleting"] = api.wait_state("trips", "aborting")
    assert differences(seen) == []


def test_the_life_of_a_store(start_operator: StartOperator, api: Api) -> None:
    api.create(store())
    seen = {"store-new": api.get("default", kind="RollupStore")}
    start_operator(settings={"store_hosts": "127.0.0.1"})
    seen["store-ready"] = api.wait_condition("default", reason="Available", kind="RollupStore")
    api.create(store("down", opensearch={"hosts": ["http://127.0.0.1:1"]}))
    seen["store-down"] = api.wait_condition("down", status="False", reason="StoreUnavailable", kind="RollupStore")
    api.create(store("invalid", opensearch={"hosts": ["http://169.254.169.254"]}))
    seen["store-invalid"] = api.wait_condition("invalid", "Stalled", reason="InvalidSpec", kind="RollupStore")
    assert differences(seen) == []
