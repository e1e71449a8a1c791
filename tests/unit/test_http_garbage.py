"""What a call leaves behind: nothing that only a full collection of garbage would free."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

import rollup_operator
from rollup_operator.kube.paths import jobs_path
from rollup_operator.model.job_view import JobView
from support.http_double import Cluster
from support.serving import Client, call, when_waiting

CALLS = 20
PACKAGE = str(Path(rollup_operator.__file__).parent)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster.indexing("sensor")


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/_rollup/job/sensor", 200),
        ("GET", "/_rollup/job", 200),
        ("GET", "/_rollup/data/sensor-1", 200),
        ("POST", "/_rollup/job/sensor/_start", 200),
        ("POST", "/_rollup/job/none/_stop", 404),
        ("POST", "/_rollup/job/sensor/_stop?wait_for_completion=true&timeout=1ms", 500),
        ("POST", "/_rollup/job/_all/_stop?wait_for_completion=true&timeout=1ms", 500),
        ("PUT", "/_rollup/job/new", 400),
    ],
)
async def test_a_call_leaves_no_cycles(client: Client, cluster: Cluster, method: str, path: str, status: int) -> None:
    for _ in range(3):  # what is made once, at the first call, does not count
        assert (await call(client, method, path))[0] == status
    gc.collect()
    for _ in range(CALLS):
        await call(client, method, path)
    assert gc.collect() < CALLS


async def test_a_client_that_hangs_up_leaves_no_cycles(client: Client) -> None:
    path = "/_rollup/job/sensor/_stop?wait_for_completion=true"

    async def hang_up() -> None:
        task = asyncio.create_task(call(client, "POST", path))
        await when_waiting(client)
        task.cancel()
        await asyncio.wait({task})
        await when_waiting(client, 0)

    await hang_up()
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await hang_up()
        gc.collect()
        # The client is in this process, too, so only frames of the endpoint's own code count.
        left = [
            o.f_code.co_qualname for o in gc.garbage if isinstance(o, FrameType) and PACKAGE in o.f_code.co_filename
        ]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert left == []


def _views() -> list[JobView]:
    return [thing for thing in gc.get_objects() if isinstance(thing, JobView)]


async def test_all_who_wait_for_a_job_hold_the_same_body(client: Client, cluster: Cluster) -> None:
    path = "/_rollup/job/sensor/_stop?wait_for_completion=true&timeout=30s"
    waits = []
    before = _views()
    for number in range(CALLS):  # one after the other, so that each has a write of its own
        waits.append(asyncio.create_task(call(client, "POST", path)))
        await when_waiting(client, number + 1)
        await cluster.writes(number + 1)
        await asyncio.wait(waits, timeout=0.01)
        if number == 0:
            cluster.tell(jobs_path("default", "sensor"))
    gc.collect()  # of earlier tests
    known = set(map(id, before))
    held = [view for view in _views() if id(view) not in known]
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)
    await when_waiting(client, 0)
    assert len(held) < CALLS // 2
