"""What happens while no operator runs, and what the next one makes of it."""

from datetime import UTC, datetime
from pathlib import Path

from support.api import Api
from support.backfill import HOURS, PAGE_SECONDS, assert_complete, begin, begun
from support.bodies import store
from support.data import end_of, exported, results_of, rolled_up_small, small_groups, trips_job, write_trips
from support.database import claim, closed, fingerprint
from support.operator_fixtures import StartOperator
from support.waiting import NEVER, assert_silent, finished, newest, position, run_completed, runs, status


def test_ticks_while_the_operator_is_down_are_dropped(start_operator: StartOperator, api: Api, folder: Path) -> None:
    operator = start_operator()
    write_trips(folder)
    api.create(store())
    api.create(trips_job(groups=small_groups()))
    api.wait("trips", lambda body: runs(body) >= 2, 20)
    operator.stop()
    down = api.get("trips")
    assert status(down)["state"] == "started"
    assert_silent(api, down, 3.5)
    back = datetime.now(UTC).replace(microsecond=0)
    operator.start()
    body = api.wait("trips", lambda body: runs(body) > runs(down) and status(body)["state"] == "started")
    assert runs(body) == runs(down) + 1
    assert datetime.fromisoformat(status(body)["lastRun"]["startTime"]) >= back


def test_sigterm_in_a_run_keeps_what_was_written_and_the_next_start_goes_on(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    operator = start_operator(page_seconds=PAGE_SECONDS)
    begun(api, folder)
    operator.stop()
    body = api.get("trips")
    at = position(body)
    assert at is not None
    assert at < end_of(HOURS - 1)
    assert status(body)["state"] == "started"
    record = claim(folder)
    assert record is not None
    assert (record["holder"], record["position"]) == (None, status(body)["position"])
    files = fingerprint(folder)
    assert_silent(api, body, 0.5)
    assert fingerprint(folder) == files
    operator.start()
    assert_complete(api, folder)


def test_a_crash_in_a_run_loses_nothing_and_counts_nothing_twice(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    operator = start_operator(page_seconds=PAGE_SECONDS)
    begun(api, folder)
    operator.kill()
    record = claim(folder)
    assert record is not None
    assert record["holder"]
    assert record["position"]
    operator.start()
    assert_complete(api, folder)
    operator.stop()
    after = claim(folder)
    assert after is not None
    assert after["holder"] is None
    assert after["epoch"] > record["epoch"]


def test_a_stop_while_the_operator_is_down_releases_what_the_dead_one_held(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    operator = start_operator(page_seconds=PAGE_SECONDS)
    begun(api, folder)
    operator.kill()
    api.stop("trips")
    assert status(api.get("trips"))["state"] == "indexing"
    operator.start()
    body = api.wait_state("trips", "stopped")
    at = position(body)
    assert at is not None
    record = claim(folder)
    assert record is not None
    assert record["holder"] is None
    assert status(body)["position"] == record["position"]
    files = fingerprint(folder)
    assert_silent(api, body, 1.5)
    assert fingerprint(folder) == files
    api.start("trips")
    assert_complete(api, folder)


def test_a_stop_and_a_start_while_the_operator_is_down_leave_it_started(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    operator = start_operator(page_seconds=PAGE_SECONDS)
    begun(api, folder)
    operator.kill()
    api.stop("trips")
    api.start("trips")
    operator.start()
    assert_complete(api, folder)


def test_a_restart_over_jobs_at_rest_writes_nothing(start_operator: StartOperator, api: Api, folder: Path) -> None:
    operator = start_operator()
    write_trips(folder)
    api.create(store())
    for name in ("waits", "ran", "idle"):
        api.create(trips_job(name, cron=NEVER, desiredState="stopped" if name == "idle" else "started"))
    api.patch("ran", {"metadata": {"annotations": {"rollup-operator.dev/run-requested-at": "1"}}})
    api.wait("ran", run_completed)
    api.wait_state("ran", "started")
    api.wait_state("waits", "started")
    api.wait_state("idle", "stopped")
    for name in ("waits", "ran"):
        api.wait_event(name, "Started")
    operator.stop()
    last, events = newest(api.list()), api.list(kind="Event")
    operator.start()
    assert_silent(api, last, 1.5)
    assert api.list(kind="Event") == events


def test_deletions_while_the_operator_is_down(start_operator: StartOperator, api: Api, folder: Path) -> None:
    operator = start_operator(page_seconds=PAGE_SECONDS)
    begun(api, folder, deletionPolicy="Delete")
    api.create(trips_job("never-run", cron=NEVER))
    api.create(trips_job("retained", groups=small_groups(), rollupIndex="other"))
    api.wait_state("never-run", "started")
    api.wait("retained", finished(end_of(HOURS - 1)), 60)
    operator.kill()
    for name in ("trips", "retained", "never-run"):
        api.delete(name)
    assert api.find("never-run") is None
    assert api.find("trips") is not None
    operator.start()
    api.wait_gone("trips")
    api.wait_gone("retained")
    closed(folder)
    record = claim(folder)
    assert record is not None
    assert (record["holder"], record["position"]) == (None, None)
    assert not (results_of(folder) / "hourly").exists()
    assert exported(folder, "retained", "other") == rolled_up_small(folder)
    kept = claim(folder, "retained", "other")
    assert kept is not None
    assert kept["holder"] is None
    assert kept["position"] is not None


def test_a_deletion_and_a_new_creation_while_the_operator_is_down(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    operator = start_operator()
    write_trips(folder)
    api.create(store())
    api.create(trips_job(cron=NEVER))
    old = api.wait_state("trips", "started")
    operator.kill()
    api.delete("trips")
    begin(api, folder)
    operator.start()
    assert api.get("trips")["metadata"]["uid"] != old["metadata"]["uid"]
    assert_complete(api, folder)


def test_an_operator_that_waits_for_the_resources_begins_when_they_come(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    write_trips(folder)
    api.create(trips_job(groups=small_groups()))
    api.stop("trips")
    api.create(store())
    operator = start_operator(ready=False)
    api.start("trips")
    operator.wait_ready()
    api.wait("trips", run_completed, 20)
