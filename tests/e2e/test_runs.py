"""A job rolls up what is there, when it should, and says so."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.api import Api, condition
from support.bodies import store
from support.data import (
    end_of,
    epoch_ms,
    export_of,
    exported,
    results_of,
    rolled_up,
    rolled_up_small,
    small_groups,
    trips_job,
    write_trips,
)
from support.database import databases_of
from support.operator import Operator
from support.waiting import NEVER, finished, handled, request_run, run_completed, runs, status


def test_a_run_makes_what_a_direct_query_makes(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder, hours=200, per_hour=60)
    api.create(store())
    before = datetime.now(UTC) - timedelta(seconds=1)
    api.create(trips_job())
    found = status(api.wait("trips", run_completed, 20))
    truth = rolled_up(folder)
    assert exported(folder) == truth
    assert (found["state"], found["desiredState"]) == ("started", "started")
    last = max(truth[1:], key=lambda row: (row[0], *((value is not None, value or 0) for value in row[1:4])))
    keys = ("weight.histogram", "site.terms", "gate.terms")
    begun = {"picked_up.date_histogram": epoch_ms(end_of(199))}
    assert found["position"] == begun | dict(zip(keys, last[1:4], strict=True))
    assert folder.parent / found["result"] == export_of(folder)
    assert folder.parent / status(api.get("default", kind="RollupStore"))["results"] == results_of(folder)
    hour = before.replace(minute=0, second=0, microsecond=0)
    assert hour <= datetime.fromisoformat(found["watermark"]) <= datetime.now(UTC)
    start, end = (datetime.fromisoformat(found["lastRun"][key]) for key in ("startTime", "endTime"))
    assert before <= start <= end <= datetime.now(UTC)
    assert start < datetime.fromisoformat(found["nextRunTime"]) <= datetime.now(UTC) + timedelta(seconds=1)
    stats = found["stats"]
    assert stats["documentsProcessed"] == 200 * 60
    assert stats["rollupsIndexed"] == len(truth) - 1
    assert stats["triggerCount"] == 1
    assert stats["pagesProcessed"] >= 1


def test_every_tick_runs_the_job_and_a_source_that_has_grown_is_read_on(
    operator: Operator, api: Api, folder: Path
) -> None:
    write_trips(folder, "a", hours=24)
    api.create(store())
    api.create(trips_job(groups=small_groups()))
    first = api.wait("trips", finished(end_of(23)), 20)
    idle = api.wait("trips", lambda body: runs(body) >= runs(first) + 2)
    assert status(idle)["stats"]["rollupsIndexed"] == 24
    write_trips(folder, "b", begin=end_of(24), hours=12)
    grown = api.wait("trips", finished(end_of(35)))
    assert status(grown)["stats"]["rollupsIndexed"] == 36
    assert exported(folder) == rolled_up_small(folder)


def test_the_hours_that_are_not_over_are_left_for_later(operator: Operator, api: Api, folder: Path) -> None:
    now = datetime.now(UTC)
    if now.minute == 59:  # pragma: no cover
        return  # the hour would end within the test
    hour = now.replace(minute=0, second=0, microsecond=0)
    write_trips(folder, begin=hour - timedelta(hours=5), hours=8)
    api.create(store())
    delayed = small_groups()
    delayed["dateHistogram"]["delay"] = "2h"
    api.create(trips_job("now", groups=small_groups()))
    api.create(trips_job("later", groups=delayed))
    found = {name: status(api.wait(name, run_completed, 20)) for name in ("now", "later")}
    assert [row[0].hour for row in exported(folder, "now")[1:]] == [
        (hour - timedelta(hours=h)).hour for h in (5, 4, 3, 2, 1)
    ]
    assert len(exported(folder, "later")[1:]) == 3
    assert datetime.fromisoformat(found["now"]["watermark"]) == hour
    assert datetime.fromisoformat(found["later"]["watermark"]) == hour - timedelta(hours=2)


def test_a_run_can_be_asked_for(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job(cron=NEVER))
    api.wait_condition("trips", reason="Waiting")
    request_run(api, "trips", "one")
    body = api.wait("trips", lambda body: handled("one")(body) and run_completed(body))
    assert runs(body) == 1
    assert exported(folder) == rolled_up(folder)

    api.stop("trips")
    api.wait_state("trips", "stopped")
    request_run(api, "trips", "two")
    body = api.wait("trips", handled("two"))
    assert (status(body)["state"], runs(body)) == ("stopped", 1)

    api.start("trips")
    api.wait_state("trips", "started")
    request_run(api, "trips", "three")
    api.wait("trips", lambda body: handled("three")(body) and runs(body) == 2)


def test_a_run_asked_for_together_with_the_start_is_made(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    asked = trips_job(cron=NEVER)
    asked["metadata"]["annotations"] = {"rollup-operator.dev/run-requested-at": "now"}
    api.create(asked)
    body = api.wait("trips", run_completed)
    assert status(body)["lastHandledRunRequest"] == "now"
    assert runs(body) == 1


def test_a_job_that_nobody_has_started_is_stopped_and_says_why(operator: Operator, api: Api, folder: Path) -> None:
    api.create(store())
    api.create(trips_job(desiredState=None))
    body = api.wait_condition("trips", reason="Stopped")
    assert status(body)["state"] == "stopped"
    assert "never started: set spec.desiredState to started" in (condition(body) or {})["message"]
    assert "finalizers" not in body["metadata"]
    api.start("trips")
    api.wait_state("trips", "started")


def test_a_manifest_that_drops_the_desired_state_keeps_it(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    for desired in ("started", "stopped"):
        api.apply(trips_job(desiredState=desired))
        api.wait("trips", lambda body, desired=desired: status(body).get("desiredState") == desired)
        silent = api.apply(trips_job(desiredState=None))
        assert "desiredState" not in silent["spec"]
        body = api.wait_condition("trips")
        assert (status(body)["state"] == "stopped") == (desired == "stopped")
        assert status(body)["desiredState"] == desired


def test_jobs_share_an_index_and_a_store_serves_several(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.create(store("other", duckdb={"database": "other/db.duckdb"}))
    api.create(trips_job("one", groups=small_groups()))
    api.create(trips_job("two", jobId="Second Job", storeRef={"name": "other"}))
    for name in ("one", "two"):
        api.wait(name, run_completed, 20)
    assert exported(folder, "one") == rolled_up_small(folder)
    assert exported(folder, "Second%20Job") == rolled_up(folder)
    assert (databases_of(folder) / "other" / "db.duckdb").exists()
