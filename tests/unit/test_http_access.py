"""Nobody gets past the endpoint's door unknown, and nobody does to a job what they may not."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from rollup_operator.http.access.permits import EndpointAction
from rollup_operator.http.app import Endpoint
from rollup_operator.kube.paths import jobs_path
from support.access_double import AUTHORIZATION, Anybody
from support.http_double import Cluster

Client = aiohttp.ClientSession

HOW = "send [Authorization: Bearer <token>] with the token of a Kubernetes user or service account"


@pytest.fixture
async def client(endpoint: Endpoint) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{endpoint.port}", headers=AUTHORIZATION) as session:
        yield session


@pytest.fixture
async def stranger(endpoint: Endpoint) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{endpoint.port}") as session:
        yield session


async def call(client: Client, method: str, path: str, **more: Any) -> tuple[int, Any]:
    async with client.request(method, path, **more) as answer:
        return answer.status, await answer.json(content_type=None)


# 401


async def test_every_route_but_the_probes_and_the_login_asks_who_calls(stranger: Client, endpoint: Endpoint) -> None:
    open_to_all = set()
    for route in endpoint.app.router.routes():
        assert route.resource is not None
        path = route.resource.canonical.replace("{namespace}", "other").replace("{", "").replace("}", "")
        async with stranger.request(route.method, path, allow_redirects=False) as answer:
            if answer.status == 303:  # a page leads to the login
                assert answer.headers["Location"].startswith("/ui/")
            elif path.startswith("/ui/") and answer.status == 401:
                assert answer.content_type == "text/html"
            elif answer.status != 401:
                open_to_all.add(path)
            else:
                assert answer.status == 401, path
                assert answer.headers["WWW-Authenticate"] == 'Bearer realm="rollup-operator"'
                assert answer.headers["X-Elastic-Product"] == "Elasticsearch"
    assert open_to_all == {"/healthz", "/readyz", "/ui/login", "/ui/static/digest/name"}


@pytest.mark.parametrize("path", ["/nothing?x=1", "/_rollup/job/sensor/_stop", "/healthz/"])
async def test_a_stranger_learns_nothing_of_paths(stranger: Client, path: str) -> None:
    reason = f"missing authentication credentials for REST request [{path}]; {HOW}"
    cause = {"type": "security_exception", "reason": reason}
    assert await call(stranger, "DELETE", path) == (401, {"error": {"root_cause": [cause], **cause}, "status": 401})


async def test_what_is_no_good_token_is_refused_with_what_would_be(stranger: Client, cluster: Cluster) -> None:
    cluster.create("sensor")
    status, reply = await call(stranger, "POST", "/_rollup/job/sensor/_stop", headers={"Authorization": "Basic YTpi"})
    assert (status, reply["error"]["type"]) == (401, "security_exception")
    assert reply["error"]["reason"] == (
        f"unable to authenticate with provided credentials and anonymous access is not allowed for this request; {HOW}"
    )
    assert cluster.applied == []


# 403, and only then 404


CALLS = [
    pytest.param(EndpointAction.STOP, "POST", "/_rollup/job/{}/_stop", id="stop"),
    pytest.param(
        EndpointAction.STOP, "POST", "/_xpack/rollup/job/{}/_stop?wait_for_completion=true", id="waiting-stop"
    ),
    pytest.param(EndpointAction.START, "POST", "/_rollup/job/{}/_start", id="start"),
    pytest.param(EndpointAction.GET, "GET", "/_rollup/job/{}", id="get"),
]


@pytest.mark.parametrize(("action", "method", "path"), CALLS)
async def test_who_may_not_learns_neither_that_a_job_exists_nor_that_it_does_not(
    client: Client, cluster: Cluster, access: Anybody, action: EndpointAction, method: str, path: str
) -> None:
    cluster.create("sensor-1f3a", jobId="sensor")
    access.denied = {(action, "sensor-1f3a"), (action, "nobody")}
    there, missing = [await call(client, method, path.format(job)) for job in ("sensor", "nobody")]
    assert there == missing
    assert there[0] == 403
    assert cluster.applied == []


@pytest.mark.parametrize(("action", "method", "path"), CALLS)
async def test_the_right_counts_on_the_name_of_the_resource(
    client: Client, cluster: Cluster, access: Anybody, action: EndpointAction, method: str, path: str
) -> None:
    cluster.create("sensor-1f3a", jobId="sensor", desiredState="stopped")
    cluster.status("sensor-1f3a", state="stopped")
    access.denied = {(action, "sensor")}
    assert (await call(client, method, path.format("sensor")))[0] == 200


async def test_the_right_is_asked_for_again_where_the_job_turns_out_to_be_another(
    client: Client, cluster: Cluster, access: Anybody
) -> None:
    cluster.create("mine", jobId="sensor")
    stale = dict(cluster.known)
    cluster.remove("mine")
    cluster.create("theirs", jobId="sensor")
    newest, cluster.known = cluster.known, stale

    def hear() -> None:
        cluster.known = newest

    cluster.before_write = hear
    access.denied = {(EndpointAction.STOP, "theirs")}
    assert (await call(client, "POST", "/_rollup/job/sensor/_stop"))[0] == 403
    assert [body["metadata"]["name"] for _, body in cluster.applied] == ["mine"]


# All jobs


@pytest.mark.parametrize(("action", "method", "path"), CALLS[2:])
async def test_a_call_on_all_means_those_that_the_caller_may(
    client: Client, cluster: Cluster, access: Anybody, action: EndpointAction, method: str, path: str
) -> None:
    for name in ("a", "b", "c"):
        cluster.create(name)
    access.denied = {(action, "b"), (action, "")}
    status, reply = await call(client, method, path.format("_all"))
    assert status == 200
    seen = [body["metadata"]["name"] for _, body in cluster.applied] or [job["config"]["id"] for job in reply["jobs"]]
    assert sorted(seen) == ["a", "c"]


@pytest.mark.parametrize("jobs", [[], ["a"]], ids=["none-there", "one-there"])
@pytest.mark.parametrize(("action", "path"), [(EndpointAction.STOP, "_stop"), (EndpointAction.START, "_start")])
async def test_who_may_do_it_to_none_is_answered_so(
    client: Client, cluster: Cluster, access: Anybody, jobs: list[str], action: EndpointAction, path: str
) -> None:
    for name in jobs:
        cluster.create(name)
    access.denied = {(action, ""), (action, "a")}
    assert (await call(client, "POST", f"/_rollup/job/_all/{path}"))[0] == 403
    assert cluster.applied == []


@pytest.mark.parametrize(("action", "path"), [(EndpointAction.STOP, "_stop"), (EndpointAction.START, "_start")])
async def test_a_call_on_all_spares_a_job_that_the_watch_has_not_brought_and_the_caller_may_not(
    client: Client, cluster: Cluster, access: Anybody, action: EndpointAction, path: str
) -> None:
    for name in ("a", "b", "c"):
        cluster.create(name)
    for name in ("b", "c"):
        del cluster.known[jobs_path("default", name)]
    access.denied = {(action, "b"), (action, "")}
    assert (await call(client, "POST", f"/_rollup/job/_all/{path}"))[0] == 200
    assert [body["metadata"]["name"] for _, body in cluster.applied] == ["a", "c"]


@pytest.mark.parametrize(("action", "path"), [(EndpointAction.STOP, "_stop"), (EndpointAction.START, "_start")])
async def test_who_may_do_it_to_none_causes_no_list(
    client: Client, cluster: Cluster, access: Anybody, action: EndpointAction, path: str
) -> None:
    cluster.create("a")
    access.denied = {(action, ""), (action, "a")}
    assert (await call(client, "POST", f"/_rollup/job/_all/{path}"))[0] == 403
    assert (cluster.lists, cluster.reads) == ([], [])


async def test_who_may_see_none_sees_none(client: Client, cluster: Cluster, access: Anybody) -> None:
    cluster.create("a")
    access.denied = {(EndpointAction.GET, ""), (EndpointAction.GET, "a")}
    assert await call(client, "GET", "/_rollup/job/_all") == (200, {"jobs": []})


async def test_no_right_is_needed_to_learn_who_is_there(client: Client, access: Anybody) -> None:
    access.denied = {(action, "") for action in EndpointAction}
    assert (await call(client, "GET", "/"))[0] == 200
