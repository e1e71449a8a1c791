"""Nothing is written while nothing changes."""

from pathlib import Path

import pytest

from support.api import Api
from support.bodies import store
from support.data import small_groups, trips_job, write_trips
from support.operator_fixtures import StartOperator
from support.waiting import NEVER, assert_silent, newest, request_run, runs

JOBS = 100
SWEEP_SECONDS = 5
SECONDS = 35
"""As long as a run under way, and a store at rest, go without a write, and several sweeps."""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_hundred_idle_jobs_are_not_written_to(start_operator: StartOperator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    start_operator(sweep_seconds=SWEEP_SECONDS)
    names = [f"trips-{i:03}" for i in range(JOBS)]
    for i, name in enumerate(names):
        api.create(trips_job(name, cron=NEVER, groups=small_groups(), desiredState=("started", "stopped", None)[i % 3]))
    for i, name in enumerate(names):
        api.wait_condition(name, reason="Waiting" if i % 3 == 0 else "Stopped")
    for name in names[:30:3]:
        request_run(api, name, "once")
    for name in names[:30:3]:
        api.wait(name, lambda body: runs(body) == 1 and body["status"]["state"] == "started", 30)
    started = [name for i, name in enumerate(names) if i % 3 == 0]
    for name in started:
        api.wait_event(name, "Started")  # they are posted at a pace
    events = api.list(kind="Event")
    assert_silent(api, newest(api.list()), SECONDS)
    assert api.list(kind="Event") == events
