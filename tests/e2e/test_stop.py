"""Stopped means quiet, and what was asked last is what becomes of a job."""

import random
from pathlib import Path

from support.api import Api, condition
from support.backfill import HOURS, PAGE_SECONDS, PER_HOUR, assert_complete, begin, begun
from support.bodies import store
from support.data import end_of, export_of, exported, results_of, rolled_up_small, small_groups, trips_job, write_trips
from support.database import claim, closed, fingerprint
from support.operator import Operator
from support.waiting import NEVER, assert_silent, finished, position, run_completed, status

SETTINGS = {"page_seconds": PAGE_SECONDS}
QUIET_SECONDS = 1.5


def test_a_stop_in_the_middle_of_a_backfill_is_quiet_and_a_start_goes_on(
    operator: Operator, api: Api, folder: Path
) -> None:
    begun(api, folder)
    answer = operator.post(f"/namespaces/{api.namespace}/_rollup/job/trips/_stop?wait_for_completion=true&timeout=10s")
    assert (answer.status, answer.body) == (200, {"stopped": True})
    body = api.get("trips")
    assert status(body)["state"] == "stopped"
    assert status(body)["observedGeneration"] == body["metadata"]["generation"]
    assert status(body)["lastRun"]["outcome"] == "Halted"
    at = position(body)
    assert at is not None
    assert at < end_of(HOURS - 1)
    record = claim(folder)
    assert record is not None
    assert (record["holder"], record["position"]) == (None, status(body)["position"])

    files = fingerprint(folder)
    assert_silent(api, body, QUIET_SECONDS)
    assert fingerprint(folder) == files

    api.start("trips")
    assert_complete(api, folder)
    after = claim(folder)
    assert after is not None
    assert after["epoch"] > record["epoch"]


def test_a_stop_leaves_the_export_to_the_next_run_that_comes_to_its_end(
    operator: Operator, api: Api, folder: Path
) -> None:
    begun(api, folder)
    api.stop("trips")
    api.wait_state("trips", "stopped")
    assert not export_of(folder).exists()
    api.start("trips")
    assert_complete(api, folder)
    api.stop("trips")
    api.wait_state("trips", "stopped")
    assert exported(folder) == rolled_up_small(folder)


def test_random_bursts_over_several_jobs_end_as_asked_last(operator: Operator, api: Api, folder: Path) -> None:
    names = [f"trips-{i}" for i in range(3)]
    for name in names:
        begin(api, folder, name)
    choose = random.Random(3)
    last: dict[str, str] = {}
    for _ in range(40):
        name = choose.choice(names)
        last[name] = choose.choice(("started", "stopped"))
        api.patch_job(name, {"desiredState": last[name]})
    assert set(last.values()) == {"started", "stopped"}
    for name, asked in last.items():
        states = ("stopped",) if asked == "stopped" else ("started", "indexing")
        body = api.wait(
            name,
            lambda body, states=states: (
                status(body)["observedGeneration"] == body["metadata"]["generation"]
                and status(body)["state"] in states
                and (condition(body) or {})["status"] == "True"
            ),
            30,
        )
        assert status(body)["desiredState"] == asked
        if asked == "stopped":
            api.start(name)
    for name in names:
        assert_complete(api, folder, name)


def test_a_stop_before_the_first_run_leaves_no_trace(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job(cron=NEVER))
    api.wait_state("trips", "started")
    api.stop("trips")
    body = api.wait_state("trips", "stopped")
    assert "finalizers" not in body["metadata"]
    assert "lastRun" not in status(body)
    assert "nextRunTime" not in status(body)
    assert not (results_of(folder) / "hourly").exists()
    assert_silent(api, body, 0.5)


def test_a_stop_at_once_after_the_creation_wins(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job())
    api.stop("trips")
    body = api.wait_state("trips", "stopped")
    closed(folder)
    assert_silent(api, body, QUIET_SECONDS)


def test_a_stopped_job_stays_stopped_over_ticks(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job(groups=small_groups()))
    api.wait("trips", run_completed)
    api.stop("trips")
    body = api.wait_state("trips", "stopped")
    write_trips(folder, "b", begin=end_of(48), hours=5)
    assert_silent(api, body, 2.2)
    api.start("trips")
    body = api.wait("trips", finished(end_of(52)))
    assert exported(folder) == rolled_up_small(folder)


def test_queued_runs_wait_their_turn_and_stop_at_once(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder, hours=HOURS, per_hour=PER_HOUR)
    api.create(store(duckdb={}, maxConcurrentRuns=1))
    names = ["first", "second", "third"]
    for name in names:
        api.create(trips_job(name, groups=small_groups()))
    bodies = [api.wait_state(name, "indexing") for name in names]
    queued = [
        name
        for name, body in zip(names, bodies, strict=True)
        if "spec.maxConcurrentRuns of RollupStore 'default' allows 1 run at a time"
        in (condition(body) or {})["message"]
    ]
    assert len(queued) == 2
    first = next(name for name in names if name not in queued)
    assert (condition(api.wait_state(first, "indexing")) or {})["reason"] in ("Running", "Waiting", "Reconciling")
    assert {(condition(api.get(name)) or {})["reason"] for name in queued} <= {"Waiting", "Reconciling"}
    api.stop(queued[0])
    stopped = api.wait_state(queued[0], "stopped")
    stats = status(stopped)["stats"]
    assert (stats["triggerCount"], stats["pagesProcessed"]) == (1, 0)  # it was triggered, and never had its turn
    assert position(stopped) is None
    assert_complete(api, folder, next(name for name in names if name not in queued))
    api.start(queued[0])
    for name in queued:
        assert_complete(api, folder, name)
