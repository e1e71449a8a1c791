"""A process that cannot go on, or cannot end in order, ends all the same, and says so."""

import time
from pathlib import Path

from support.api import Api
from support.bodies import store
from support.data import small_groups, trips_job, write_trips
from support.operator_fixtures import StartOperator
from support.replicas import SHORT_LEASE, election, wait_leads
from support.waiting import run_completed, status

LONG_LEASE = 60.0
"""Seconds: who gets a lease much sooner did not wait for its end."""

LONG = 60.0
"""Seconds for what takes one or two on a machine with nothing else to do."""

WITHOUT_LEADING = """
from rollup_operator.lifecycle.jobs.actors import Actors

def lead(*_, **__):
    raise RuntimeError("nobody told the jobs")

Actors.lead = lead

from rollup_operator.cli import main

main()
"""

WITHOUT_WRITING = """
import threading
import structlog
from rollup_operator.stores.duckdb.target import writing

def hang(*_):
    structlog.get_logger().info("a write hangs")
    threading.Event().wait()

writing.replace_range = hang

from rollup_operator.cli import main

main()
"""
"""A write that never ends, as on a disk that does not answer."""

WITHOUT_STORES = """
from rollup_operator.lifecycle.stores.book import StoreBook

def observe(*_, **__):
    raise RuntimeError("a store that nobody foresaw")

StoreBook.observe = observe

from rollup_operator.cli import main

main()
"""

WITHOUT_CLOSING = """
from rollup_operator.stores.duckdb import DuckDBStore

async def close(*_):
    raise RuntimeError("a file that cannot be closed")

DuckDBStore.close = close

from rollup_operator.cli import main

main()
"""


def test_a_process_that_cannot_lead_ends_and_lets_another(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    write_trips(folder)
    api.create(store())
    broken = start_operator(
        ready=False,
        settings=election(api, lease_seconds=LONG_LEASE),
        program=("-c", WITHOUT_LEADING),
        expected=("error: leader election: RuntimeError", "nobody told the jobs"),
    )
    assert broken.ended() == 1
    assert broken.records("lease released")
    other = start_operator(settings=election(api, lease_seconds=LONG_LEASE))
    wait_leads(api, other, LONG_LEASE / 2)  # the lease was free
    api.create(trips_job(groups=small_groups()))
    api.wait("trips", run_completed, LONG)


def test_a_process_whose_store_hangs_ends_after_its_grace(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    write_trips(folder)
    api.create(store())
    first = start_operator(
        grace_seconds=1,
        settings=election(api, lease_seconds=SHORT_LEASE),
        program=("-c", WITHOUT_WRITING),
        expected=("runs abandoned at shutdown", "not ended in time: what is left is abandoned"),
    )
    wait_leads(api, first)
    api.create(trips_job(groups=small_groups()))
    deadline = time.monotonic() + LONG
    while not first.records("a write hangs"):  # a run that is ended before it writes ends in order
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.terminate()
    assert first.ended() == 1
    assert first.records("not ended in time: what is left is abandoned")
    # Claim, lease and the lock on the file are a dead process's.
    second = start_operator(settings=election(api, lease_seconds=SHORT_LEASE))
    wait_leads(api, second)
    api.wait("trips", run_completed, LONG)
    api.stop("trips")
    body = api.wait_state("trips", "stopped", LONG)
    assert status(body)["observedGeneration"] == body["metadata"]["generation"]


def test_a_startup_that_fails_as_nobody_foresaw_ends_the_process_in_order(
    start_operator: StartOperator, api: Api
) -> None:
    api.create(store())
    broken = start_operator(
        ready=False,
        settings=election(api),
        program=("-c", WITHOUT_STORES),
        expected=("startup failed", "error: startup: RuntimeError: a store that nobody foresaw"),
    )
    assert broken.ended() == 1
    assert broken.records("serving")
    assert broken.records("ended")
    assert not broken.records("ready")


def test_a_file_that_cannot_be_closed_does_not_keep_the_lease(start_operator: StartOperator, api: Api) -> None:
    api.create(store())
    first = start_operator(
        settings=election(api),
        program=("-c", WITHOUT_CLOSING),
        expected=("a step of the end failed", "a file that cannot be closed"),
    )
    wait_leads(api, first)
    first.terminate()
    assert first.ended() == 0
    assert first.records("lease released")
