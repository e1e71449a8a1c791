"""What the real API server does with the endpoint's one write."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import aiohttp
import pytest

from rollup_operator.http.app import Endpoint
from rollup_operator.http.jobs.desired_state import DesiredStates
from rollup_operator.kube.client import KubeClient
from rollup_operator.kube.events import Regarding
from rollup_operator.kube.kubeconfig import find_connection
from rollup_operator.model.conditions import Reason
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from rollup_operator.settings import Settings
from support.access_double import AUTHORIZATION, Anybody
from support.api import Api
from support.bodies import job
from support.http_double import Cluster


class Seen:
    """An index that is told by the test what the watch has shown."""

    synced = True
    leads = False

    def is_writing(self, uid: str) -> bool:
        return False

    def __init__(self) -> None:
        self.views: list[JobView] = []

    def find(self, namespace: str, job_id: str) -> JobView | None:
        return next((v for v in self.views if (v.namespace, v.job_id) == (namespace, job_id)), None)

    def meant(self, namespace: str, job_id: str) -> Sequence[JobView]:
        return [v for v in self.views if (v.namespace, v.job_id) == (namespace, job_id)]

    def in_namespace(self, namespace: str) -> Sequence[JobView]:
        return [v for v in self.views if v.namespace == namespace]

    def subscribe(self, uid: str, listener: Callable[[JobView | None], None]) -> Callable[[], None]:
        return lambda: None

    def reading(self, uid: str) -> AbstractContextManager[None]:
        return nullcontext()

    def explain(self, uid: str) -> str:
        return ""


class Posted:
    """Keeps the reasons of events."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def record(self, about: Regarding, reason: Reason, note: str) -> None:
        assert about.name == "flights"
        assert note
        self.reasons.append(reason)


@pytest.fixture
async def kube(api: Api) -> AsyncIterator[KubeClient]:
    async with KubeClient(find_connection(str(api.plane.kubeconfig))) as client:
        yield client


@pytest.fixture
def states(kube: KubeClient) -> DesiredStates:
    return DesiredStates(Seen(), kube, kube)


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


async def test_what_became_of_a_job_is_found(api: Api, states: DesiredStates) -> None:
    old = JobView.of(await asyncio.to_thread(api.create, job("flights")))
    await asyncio.to_thread(api.delete, "flights")
    assert await states.now(old) is None
    new = JobView.of(await asyncio.to_thread(api.create, job("flights")))
    assert await states.now(old) is None
    found = await states.replaced(old)
    assert found is not None
    assert found.uid == new.uid


async def test_the_endpoint_on_a_real_api_server(api: Api, kube: KubeClient) -> None:
    settings = Settings(http_port=0, leader_election=False, default_namespace=api.namespace)
    endpoint = Endpoint(jobs=Seen(), client=kube, stores=Cluster(), access=Anybody(), settings=settings)
    await endpoint.start()
    try:
        url = f"http://127.0.0.1:{endpoint.port}"
        async with aiohttp.ClientSession(url, headers=AUTHORIZATION) as client:
            # The index has not heard of it: the API server is asked.
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


async def test_git_owned_state_is_changed_with_a_warning_and_an_event(api: Api, kube: KubeClient) -> None:
    posted = Posted()
    endpoint = Endpoint(
        jobs=Seen(),
        client=kube,
        stores=Cluster(),
        access=Anybody(),
        events=posted,
        settings=Settings(http_port=0, leader_election=False, default_namespace=api.namespace),
    )
    await endpoint.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{endpoint.port}", headers=AUTHORIZATION) as client:

            async def ask(verb: str) -> list[str]:
                async with client.post(f"/_rollup/job/flights/_{verb}") as answer:
                    assert answer.status == 200
                    return answer.headers.getall("Warning", [])

            manifest = job("flights", desiredState="started")
            body = await asyncio.to_thread(api.apply, manifest, manager="argocd-controller")
            assert JobView.of(body).owners == ("argocd-controller",)
            [warning] = await ask("stop")
            assert "spec.desiredState of rollup job [flights] is owned by [argocd-controller]" in warning
            assert JobView.of(await asyncio.to_thread(api.get, "flights")).owners == ("rollup-api",)
            assert await ask("stop") == []

            # The next sync takes the field back, as Argo CD does.
            body = await asyncio.to_thread(api.apply, manifest, manager="argocd-controller", force=True)
            assert JobView.of(body).desired is DesiredState.STARTED
            assert JobView.of(body).owners == ("argocd-controller",)

            # Asking for what Git asks for makes two owners, and takes nothing from anybody.
            assert await ask("start") == []
            both = JobView.of(await asyncio.to_thread(api.get, "flights")).owners
            assert sorted(both) == ["argocd-controller", "rollup-api"]
            [warning] = await ask("stop")
            assert "[argocd-controller]" in warning

            # A manifest that leaves the field out leaves it to the API.
            await asyncio.to_thread(api.apply, job("flights"), manager="argocd-controller")
            assert await ask("start") == []
            assert await ask("stop") == []
    finally:
        await endpoint.close()
    assert posted.reasons == ["GitOpsOwned", "GitOpsOwned"]
