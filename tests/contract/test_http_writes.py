"""What the real API server does with the endpoint's one write."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import aiohttp
import pytest

from rollup_operator.http.app import Endpoint
from rollup_operator.http.desired_state import DesiredStates
from rollup_operator.kube.client import Conflict, KubeClient
from rollup_operator.kube.connection import Connection
from rollup_operator.model.job import DesiredState
from rollup_operator.model.reader import JobView
from rollup_operator.settings import Settings
from support.access_double import AUTHORIZATION, Anybody
from support.api import Api
from support.bodies import job


class Seen:
    """A registry that is told by the test what the watch has shown."""

    synced = True

    def __init__(self) -> None:
        self.views: list[JobView] = []

    def find(self, namespace: str, job_id: str) -> JobView | None:
        return next((v for v in self.views if (v.namespace, v.job_id) == (namespace, job_id)), None)

    def namesakes(self, namespace: str, job_id: str) -> Sequence[JobView]:
        return [v for v in self.views if (v.namespace, v.job_id) == (namespace, job_id)]

    def in_namespace(self, namespace: str) -> Sequence[JobView]:
        return [v for v in self.views if v.namespace == namespace]

    def subscribe(self, uid: str, listener: Callable[[JobView | None], None]) -> Callable[[], None]:
        return lambda: None

    def explain(self, uid: str) -> str:
        return ""

    def is_healthy(self) -> Mapping[str, bool | str]:
        return {}


@pytest.fixture
async def kube(api: Api) -> AsyncIterator[KubeClient]:
    async with KubeClient(Connection.find(str(api.plane.kubeconfig))) as client:
        yield client


@pytest.fixture
def states(kube: KubeClient) -> DesiredStates:
    return DesiredStates(Seen(), kube)


async def test_a_write_owns_the_one_field_and_takes_it_from_others(api: Api, states: DesiredStates) -> None:
    before = JobView.of(await asyncio.to_thread(api.create, job("flights", desiredState="started")))
    answer = await states.write(before, DesiredState.STOPPED)
    assert answer.generation == before.generation + 1
    assert answer.desired is DesiredState.STOPPED
    body = await asyncio.to_thread(api.get, "flights")
    [ours] = [m for m in body["metadata"]["managedFields"] if m["manager"] == "rollup-api"]
    assert (ours["operation"], ours["fieldsV1"]) == ("Apply", {"f:spec": {"f:desiredState": {}}})

    again = await states.write(answer, DesiredState.STOPPED)
    assert again.generation == answer.generation


async def test_a_write_never_creates_a_job(api: Api, states: DesiredStates) -> None:
    gone = JobView.of(await asyncio.to_thread(api.create, job("flights")))
    await asyncio.to_thread(api.delete, "flights")
    with pytest.raises(Conflict):
        await states.write(gone, DesiredState.STARTED)
    assert await asyncio.to_thread(api.find, "flights") is None
    assert await states.now(gone) is None


async def test_a_write_never_hits_the_next_job_of_that_name(api: Api, states: DesiredStates) -> None:
    old = JobView.of(await asyncio.to_thread(api.create, job("flights")))
    await asyncio.to_thread(api.delete, "flights")
    new = JobView.of(await asyncio.to_thread(api.create, job("flights")))
    with pytest.raises(Conflict):
        await states.write(old, DesiredState.STARTED)
    assert "desiredState" not in (await asyncio.to_thread(api.get, "flights"))["spec"]
    assert await states.now(old) is None
    found = await states.replaced(old)
    assert found is not None
    assert found.uid == new.uid


async def test_the_endpoint_on_a_real_api_server(api: Api, kube: KubeClient) -> None:
    settings = Settings(http_port=0, default_namespace=api.namespace)
    endpoint = Endpoint(jobs=Seen(), client=kube, access=Anybody(), settings=settings)
    await endpoint.start()
    try:
        url = f"http://127.0.0.1:{endpoint.port}"
        async with aiohttp.ClientSession(url, headers=AUTHORIZATION) as client:
            # The registry has not heard of it: the API server is asked.
            await asyncio.to_thread(api.create, job("flights", desiredState="started"))
            async with client.post("/_rollup/job/flights/_stop?wait_for_completion=true&timeout=100ms") as answer:
                assert answer.status == 500
                assert (await answer.json())["error"]["reason"] == (
                    "Timed out after [100ms] while waiting for rollup job [flights] to stop. State was [STOPPED]"
                )
            body = await asyncio.to_thread(api.get, "flights")
            status = {"state": "stopped", "observedGeneration": body["metadata"]["generation"]}
            await asyncio.to_thread(api.patch_status, "flights", status)
            async with client.post("/_rollup/job/flights/_stop?wait_for_completion=true&timeout=5s") as answer:
                assert await answer.json() == {"stopped": True}
            async with client.get("/_rollup/job/flights") as answer:
                assert (await answer.json())["jobs"][0]["status"] == {"job_state": "stopped"}
    finally:
        await endpoint.close()
