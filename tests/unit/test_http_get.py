"""The call that shows jobs: each row of table 1.3."""

from collections.abc import AsyncIterator

import pytest

from support.http_calls import Client, call, served
from support.http_double import Cluster

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
    status, told = await call(client, "GET", path)
    assert status == 200
    return [job["config"]["id"] for job in told["jobs"]]


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
