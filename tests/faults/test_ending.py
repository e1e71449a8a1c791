"""A process that cannot go on, or cannot end in order, ends all the same, and says so."""

import time
from pathlib import Path

from support.api import Api
from support.bodies import store
from support.data import small_groups, trips_job, write_trips
from support.operator_fixtures import StartOperator
from support.replicas import election, wait_leads
from support.waiting import run_completed, status

WITHOUT_LEADING = """
from rollup_operator.lifecycle.registry import Registry

def lead(*_, **__):
    raise RuntimeError("nobody told the jobs")

Registry.lead = lead

from rollup_operator.cli import main

main()
"""

WITHOUT_WRITING = """
import threading
import structlog
from rollup_operator.stores.duckdb import writing

def hang(*_):
    structlog.get_logger().info("a write hangs")
    threading.Event().wait()

writing.replace_range = hang

from rollup_operator.cli import main

main()
"""
"""A write that never ends, as on a disk that does not answer."""


def test_a_process_that_cannot_lead_ends_and_lets_another(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    write_trips(folder)
    api.create(store())
    broken = start_operator(
        ready=False,
        settings=election(api),
        program=("-c", WITHOUT_LEADING),
        expected=("a part of this process has failed", "error: leader election: RuntimeError", "nobody told the jobs"),
    )
    assert broken.ended() == 1
    assert broken.records("lease released")
    begun = time.monotonic()
    other = start_operator(settings=election(api))
    wait_leads(api, other)
    assert time.monotonic() - begun < 8  # start included: the lease was free
    api.create(trips_job(groups=small_groups()))
    api.wait("trips", run_completed, 20)


def test_a_process_whose_store_hangs_ends_after_its_grace(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    write_trips(folder)
    api.create(store())
    first = start_operator(
        grace_seconds=1,
        settings=election(api),
        program=("-c", WITHOUT_WRITING),
        expected=("runs abandoned at shutdown", "not ended in time: what is left is abandoned"),
    )
    wait_leads(api, first)
    api.create(trips_job(groups=small_groups()))
    deadline = time.monotonic() + 20
    while not first.records("a write hangs"):  # a run that is ended before it writes ends in order
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.terminate()
    assert first.ended(20) == 1
    assert first.records("not ended in time: what is left is abandoned")
    # Claim, lease and the lock on the file are a dead process's.
    second = start_operator(settings=election(api))
    wait_leads(api, second)
    api.wait("trips", run_completed, 20)
    api.stop("trips")
    body = api.wait_state("trips", "stopped", 20)
    assert status(body)["observedGeneration"] == body["metadata"]["generation"]
