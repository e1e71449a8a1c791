"""Every id that a job can have: it is created, shown, started, stopped, deleted under it, and free afterwards."""

from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
from yarl import URL

from rollup_operator.model.validation import problems
from support import bodies
from support.http_calls import Client, call, served
from support.http_double import Cluster

IDS = [
    "{a}",
    "{",
    "a}b{",
    "{id}",
    "{id:[^/]+}",
    "a b",
    "a/b",
    "/",
    "a%2Fb",
    "%",
    ".",
    "..",
    "a,b",
    "💡",
    "é",
    "e\u0301",
    "_stop",
    "_start",
    "_preview",
    '" < > # % { } | \\ ^ ~ [ ] "',
    "it's",
    "?x=1",
    "a;b",
    "a+b",
    "x" * 512,
]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    async with served(cluster) as client:
        yield client


def path(job_id: str, end: str = "") -> URL:
    """Its path as a client writes it that leaves nothing to be guessed."""
    quoted = quote(job_id, safe="").replace(".", "%2E")
    return URL(f"/_rollup/job/{quoted}{end}", encoded=True)


@pytest.mark.parametrize("job_id", IDS)
async def test_any_id_can_be_used_for_all(client: Client, cluster: Cluster, job_id: str) -> None:
    cluster.create("named", jobId=job_id)
    status, told = await call(client, "GET", path(job_id))  # type: ignore[arg-type]
    assert status == 200
    assert [job["config"]["id"] for job in told["jobs"]] == [job_id]
    assert (await call(client, "POST", path(job_id, "/_start")))[0] == 200  # type: ignore[arg-type]
    assert (await call(client, "POST", path(job_id, "/_stop")))[0] == 200  # type: ignore[arg-type]


@pytest.mark.parametrize("job_id", ["_all", "*"])
def test_an_id_that_means_every_job_is_refused(job_id: str) -> None:
    (found,) = problems(bodies.job("a", jobId=job_id)["spec"])
    assert found.field == "spec.jobId"
    assert "every job" in found.message
