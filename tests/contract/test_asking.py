"""What is asked of a job reaches this very job, or nobody: on the real API server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from rollup_operator.kube.client import Body, Conflict, KubeClient
from rollup_operator.kube.job_writes import ask, request_run
from rollup_operator.kube.kubeconfig import find_connection
from rollup_operator.model.job import DesiredState
from rollup_operator.model.job_view import JobView
from support.api import Api
from support.bodies import job

Write = Callable[[KubeClient, JobView], Awaitable[Body]]


async def stop(kube: KubeClient, view: JobView) -> Body:
    return await ask(kube, view, DesiredState.STOPPED, manager="somebody")


async def run(kube: KubeClient, view: JobView) -> Body:
    return await request_run(kube, view, "now", manager="somebody")


@pytest.fixture
async def kube(api: Api) -> AsyncIterator[KubeClient]:
    async with KubeClient(find_connection(str(api.plane.kubeconfig))) as client:
        yield client


@pytest.mark.parametrize("write", [stop, run])
async def test_a_write_is_taken_under_its_managers_name(api: Api, kube: KubeClient, write: Write) -> None:
    view = JobView.of(await asyncio.to_thread(api.create, job("flights", desiredState="started")))
    answer = await write(kube, view)
    now = JobView.of(answer)
    assert (now.desired, now.run_request) == (("stopped", None) if write is stop else ("started", "now"))
    assert "somebody" in [entry["manager"] for entry in answer["metadata"]["managedFields"]]


@pytest.mark.parametrize("write", [stop, run])
async def test_a_job_that_took_the_name_or_none_at_all_is_a_conflict(api: Api, kube: KubeClient, write: Write) -> None:
    gone = JobView.of(await asyncio.to_thread(api.create, job("flights", desiredState="started")))
    await asyncio.to_thread(api.delete, "flights")
    with pytest.raises(Conflict):
        await write(kube, gone)
    assert await asyncio.to_thread(api.find, "flights") is None
    other = await asyncio.to_thread(api.create, job("flights", desiredState="started"))
    with pytest.raises(Conflict):
        await write(kube, gone)
    assert await asyncio.to_thread(api.get, "flights") == other
