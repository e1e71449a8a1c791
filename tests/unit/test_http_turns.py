"""The turns in which the endpoint writes: how many at once, in which order, and which come too late."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from rollup_operator.http.jobs import desired_state
from rollup_operator.http.jobs.desired_state import WRITES_AT_ONCE, DesiredStates
from rollup_operator.kube.client import Conflict
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from support.http_double import Body, Cluster
from support.serving import call, calling, served

JOBS = 60


class Slow(Cluster):
    """A cluster whose writes end when the test says so, and which counts those under way."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.under_way = self.most = 0

    async def apply(self, path: str, body: Mapping[str, Any], *, manager: str, force: bool = True) -> Body:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.go_on.wait()
            return await super().apply(path, body, manager=manager, force=force)
        finally:
            self.under_way -= 1


@pytest.fixture
def cluster() -> Slow:
    cluster = Slow()
    for number in range(JOBS):
        cluster.create(f"job-{number:02}", desiredState="started")
    return cluster


def view(cluster: Cluster, name: str) -> JobView:
    found = cluster.find("default", name)
    assert found is not None
    return found


async def test_calls_on_all_jobs_keep_to_the_writes_at_once_however_soon_they_follow(cluster: Slow) -> None:
    cluster.go_on.set()
    async with served(cluster) as endpoint, calling(endpoint) as client:
        for verb in ("_stop", "_start", "_stop"):
            assert (await call(client, "POST", f"/_rollup/job/_all/{verb}"))[0] == 200
    assert cluster.most <= 2 * WRITES_AT_ONCE


async def test_a_write_whose_turn_comes_late_overrules_nobody(cluster: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desired_state, "LATE_SECONDS", 0.0)
    states = DesiredStates(cluster, cluster, cluster)
    stops = [
        asyncio.create_task(states.write(view(cluster, f"job-{number:02}"), DesiredState.STOPPED))
        for number in range(WRITES_AT_ONCE + 2)
    ]
    await asyncio.sleep(0.01)
    assert cluster.under_way == WRITES_AT_ONCE
    started, same = f"job-{WRITES_AT_ONCE:02}", f"job-{WRITES_AT_ONCE + 1:02}"
    for state in ("stopped", "started"):
        cluster.ask(started, state)
    cluster.go_on.set()
    answers = await asyncio.gather(*stops, return_exceptions=True)
    assert isinstance(answers[WRITES_AT_ONCE], Conflict)
    assert view(cluster, started).desired == "started"
    other = answers[WRITES_AT_ONCE + 1]
    assert isinstance(other, JobView)
    assert (other.name, other.desired) == (same, "stopped")
    again = await states.write(view(cluster, started), DesiredState.STOPPED)
    assert again.desired == "stopped"


@pytest.mark.parametrize(("verb", "asked"), [("_stop", "stopped"), ("_start", "started")])
async def test_of_a_call_on_all_jobs_no_late_write_is_left_out(
    cluster: Slow, monkeypatch: pytest.MonkeyPatch, verb: str, asked: str
) -> None:
    """Somebody edits a job, or asks it for the opposite, while its write waits: what the call answers comes true."""
    monkeypatch.setattr(desired_state, "LATE_SECONDS", 0.0)
    opposite = "started" if asked == "stopped" else "stopped"
    for number in range(JOBS):
        cluster.ask(f"job-{number:02}", opposite)
    cluster.go_on.set()
    cluster.write_gate = asyncio.Event()
    async with served(cluster) as endpoint, calling(endpoint) as client:
        answer = asyncio.create_task(call(client, "POST", f"/_rollup/job/_all/{verb}"))
        await cluster.writes(WRITES_AT_ONCE)
        cluster.edit("job-40", cron="0 30 * * * ?")
        for state in (asked, opposite):
            cluster.ask("job-50", state)
        cluster.write_gate.set()
        assert (await answer)[0] == 200
    assert {view.desired for view in cluster.known.values()} == {opposite}
    for at in cluster.objects:
        cluster.tell(at)
    assert {view.name for view in cluster.known.values() if view.desired != asked} == set()
