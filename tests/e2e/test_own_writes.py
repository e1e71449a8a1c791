"""A call reads its own write: who starts, looks, stops and looks in one breath sees what was done, at any replica."""

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.api import Api
from support.bodies import store
from support.data import trips_job, write_trips
from support.operator import Operator
from support.operator_fixtures import StartOperator
from support.replicas import election, leader_of
from support.waiting import NEVER

BREATHS = 600
"""With those of tests/clients/test_own_writes.py, a thousand in a row."""

STOPS = ("", *(f"?wait_for_completion=true&timeout={timeout}" for timeout in ("0", "-1", "0s", "0ms")))


@pytest.fixture
def replicas(start_operator: StartOperator, api: Api, folder: Path) -> list[Operator]:
    """Two replicas, the leader first, and a job of theirs that no tick comes to."""
    made = [start_operator(settings=election(api)) for _ in range(2)]
    leader = leader_of(api, made)
    write_trips(folder)
    api.create(store())
    api.create(trips_job(cron=NEVER, desiredState="stopped"))
    api.wait_state("trips", "stopped")
    return sorted(made, key=lambda one: one is not leader)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_script_sees_what_it_has_done_whichever_replica_it_asks(replicas: list[Operator], api: Api) -> None:
    path = f"/namespaces/{api.namespace}/_rollup/job/trips"
    # So that each of the four calls of a breath comes to each replica, after each other one.
    turns = itertools.cycle(itertools.product(replicas, repeat=4))
    seen: Counter[tuple[Any, ...]] = Counter()

    def state(replica: Operator) -> str:
        found: str = replica.get(path).body["jobs"][0]["status"]["job_state"]
        return found

    for breath in range(BREATHS):
        starting, looking, stopping, looking_again = next(turns)
        started = starting.post(f"{path}/_start")
        then = state(looking)
        stop = stopping.post(f"{path}/_stop{STOPS[breath % len(STOPS)]}")
        at_last = state(looking_again)
        seen[started.status, then, stop.status, at_last] += 1
    assert seen == {(200, "started", 200, "stopped"): BREATHS}
