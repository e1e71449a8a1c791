"""An operator that gives way to another, as an upgrade does it, takes no state and no work with it."""

from pathlib import Path

import pytest

from support.api import Api, Body
from support.bodies import store
from support.data import BEGIN, exported, rolled_up_small, small_groups, trips_job, write_trips
from support.operator_fixtures import StartOperator
from support.waiting import NEVER, handled, position, reached, request_run, run_completed, runs, status

JOBS = 100
GENEROUS = 60.0


def run_again(body: Body) -> bool:
    """Whether the run that the next operator was asked for is over; a halt may have cut off the last one's result."""
    return handled("2")(body) and run_completed(body) and status(body)["state"] == "started"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_hundred_running_jobs_go_on_under_the_next_operator(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    write_trips(folder)
    api.create(store(duckdb={}, maxConcurrentRuns=1))
    names = [f"trips-{number:03}" for number in range(JOBS)]
    asked = {name: "started" if number % 10 else "stopped" for number, name in enumerate(names)}
    for name in names:
        api.create(trips_job(name, cron=NEVER, groups=small_groups()))
    old = start_operator()
    for name in names:
        request_run(api, name, "1")
    api.wait(names[0], run_completed, GENEROUS)  # some runs are over, some are under way, most are still queued
    for name, state in asked.items():
        if state == "stopped":
            api.stop(name)
    old.stop()

    before = {body["metadata"]["name"]: body for body in api.list()}
    assert any(not run_completed(body) for body in before.values())
    new = start_operator()
    for name, state in asked.items():
        request_run(api, name, "2")
        body = api.wait_condition(name, reason="Stopped" if state == "stopped" else "Waiting", timeout=GENEROUS)
        assert status(body)["desiredState"] == state
    for name in (name for name, state in asked.items() if state == "started"):
        body = api.wait(name, run_again, GENEROUS)
        assert reached(position(before[name]) or BEGIN)(body)
        assert exported(folder, name) == rolled_up_small(folder)
        assert status(body)["stats"]["documentsProcessed"] == 48 * 40, "each row is counted once"
    for name in (name for name, state in asked.items() if state == "stopped"):
        assert runs(api.get(name)) == runs(before[name])
    new.stop()
