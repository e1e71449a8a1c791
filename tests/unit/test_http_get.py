"""The call that shows jobs: each row of table 1.3."""

from collections.abc import AsyncIterator

import pytest

from support.http_calls import Client, call, served
from support.http_double import Cluster
from support.portions import watched

NOTHING = (200, {"jobs": []})


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    cluster = Cluster()
    for name in ("b", "a"):
        cluster.create(name)
    cluster.create("c", "other")
    cluster.create("gone")
    cluster.remove("gone")
    cluster.shelf.remember("gone", {}, index="sensor_rollup")
    async with served(cluster) as client:
        yield client


async def ids(client: Client, path: str) -> list[str]:
    status, answered = await call(client, "GET", path)
    assert status == 200
    return [job["config"]["id"] for job in answered["jobs"]]


async def test_exact_id(client: Client) -> None:
    assert await ids(client, "/_rollup/job/a") == ["a"]


@pytest.mark.parametrize("job_id", ["missing", "gone", "c"])
async def test_missing_id_deleted_job_and_job_of_another_namespace(client: Client, job_id: str) -> None:
    assert await call(client, "GET", f"/_rollup/job/{job_id}") == NOTHING


@pytest.mark.parametrize("path", ["/_rollup/job/_all", "/_rollup/job/*", "/_rollup/job/", "/_rollup/job"])
async def test_all_jobs(client: Client, path: str) -> None:
    assert await ids(client, path) == ["a", "b"]
    assert await ids(client, path.replace("_rollup", "_xpack/rollup")) == ["a", "b"]
    assert await ids(client, f"/namespaces/other{path}") == ["c"]


@pytest.mark.parametrize("job_id", ["a*", "a,b", "?", "_all,a"])
async def test_other_globs_and_lists(client: Client, job_id: str) -> None:
    assert await call(client, "GET", f"/_rollup/job/{job_id.replace('?', '%3F')}") == NOTHING


@pytest.mark.parametrize("query", ["", "?pretty", "?filter_path=**.job_state,-**.id"])
async def test_a_long_list_holds_the_loop_for_a_portion_at_a_time(query: str) -> None:
    cluster = Cluster()
    metrics = [{"field": f"field-{n}", "metrics": ["min", "max", "sum", "avg"]} for n in range(10)]
    for n in range(3_000):
        cluster.create(f"job-{n}", metrics=metrics)
    async with served(cluster) as client, watched() as loop, client.get(f"/_rollup/job{query}") as answer:
        assert answer.status == 200
        await answer.content.readany()
        async for _ in answer.content.iter_chunked(1 << 16):
            pass
    assert loop.longest < 0.06
