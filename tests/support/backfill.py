"""A long run: many pages of one bucket each, so that there is a middle to stop, kill or cut it in."""

from pathlib import Path
from typing import Any

from support.api import Api, Body
from support.bodies import store
from support.data import end_of, exported, rolled_up_small, small_groups, trips_job, write_trips
from support.database import written_to
from support.waiting import finished, status

PAGE_SECONDS = 0.00002
"""Asks for pages of one bucket."""

HOURS = 600
PER_HOUR = 4


def begin(api: Api, folder: Path, name: str = "trips", *, hours: int = HOURS, **spec: Any) -> None:
    """Create a job with much to do, and what it needs."""
    write_trips(folder, hours=hours, per_hour=PER_HOUR)
    if api.find("default", kind="RollupStore") is None:
        api.create(store())
    api.create(trips_job(name, groups=small_groups(), **spec))


def begun(api: Api, folder: Path, name: str = "trips", *, hours: int = HOURS, **spec: Any) -> Body:
    """The same, and return the job as it is some pages later."""
    begin(api, folder, name, hours=hours, **spec)
    api.wait_state(name, "indexing")
    written_to(folder)
    return api.get(name)


def assert_complete(api: Api, folder: Path, name: str = "trips", *, hours: int = HOURS) -> None:
    """Wait until all is rolled up and assert that it came out as if nothing had interrupted it."""
    body = api.wait(name, finished(end_of(hours - 1)), 60)
    assert exported(folder, name) == rolled_up_small(folder)
    assert status(body)["stats"]["documentsProcessed"] == hours * PER_HOUR
    assert status(body)["stats"]["rollupsIndexed"] == hours
