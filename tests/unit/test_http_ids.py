"""Every id that a job can have: it is created, shown, started, stopped, deleted under it, and free afterwards."""

from typing import Any
from urllib.parse import quote

import pytest
from yarl import URL

from rollup_operator.kube.paths import jobs_path
from rollup_operator.model.validation import problems
from support import bodies
from support.http_calls import Client, call
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
    "a*",
    "**",
    "_search",
    "_all,a",
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

CONFIG = {
    "index_pattern": "sensor-*",
    "rollup_index": "sensor_rollup",
    "cron": "0 0 * * * ?",
    "page_size": 1000,
    "groups": {"date_histogram": {"field": "timestamp", "fixed_interval": "1h"}},
}


def path(job_id: str, end: str = "") -> URL:
    """Its path as a client writes it that leaves nothing to be guessed."""
    quoted = quote(job_id, safe="").replace(".", "%2E")
    return URL(f"/_rollup/job/{quoted}{end}", encoded=True)


@pytest.mark.parametrize("job_id", IDS)
async def test_any_id_can_be_used_for_all(client: Client, cluster: Cluster, job_id: str) -> None:
    async def ask(method: str, end: str = "", body: Any = None) -> Any:
        status, answer = await call(client, method, path(job_id, end), body)  # type: ignore[arg-type]
        assert status == 200, (method, end, answer)
        return answer

    for _ in range(2):  # it is free once the job is gone
        assert await ask("PUT", body=CONFIG) == {"acknowledged": True}
        [body] = cluster.objects.values()
        name = body["metadata"]["name"]
        cluster.status(name, state="stopped")
        assert [job["config"]["id"] for job in (await ask("GET"))["jobs"]] == [job_id]
        assert await ask("POST", "/_start") == {"started": True}
        assert await ask("POST", "/_stop") == {"stopped": True}
        cluster.status(name, state="stopped")
        assert await ask("DELETE") == {"acknowledged": True}
        assert cluster.objects == {}
        assert await ask("GET") == {"jobs": []}


@pytest.mark.parametrize("job_id", IDS)
async def test_any_id_that_kubectl_gives_can_be_used_for_all(client: Client, cluster: Cluster, job_id: str) -> None:
    cluster.create("named", jobId=job_id)
    for method, end in (("POST", "/_start"), ("POST", "/_stop"), ("DELETE", "")):
        cluster.status("named", state="stopped")
        assert (await call(client, method, path(job_id, end)))[0] == 200  # type: ignore[arg-type]
    assert cluster.deleted == [jobs_path("default", "named")]


@pytest.mark.parametrize("job_id", ["_all", "*"])
def test_an_id_that_means_every_job_is_refused(job_id: str) -> None:
    (found,) = problems(bodies.job("a", jobId=job_id)["spec"])
    assert found.field == "spec.jobId"
    assert "every job" in found.message
