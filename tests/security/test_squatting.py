"""Whoever may create a job can give it any id; that takes the id from nobody whose job's name follows from it."""

import pytest

from rollup_operator.http.access.permits import EndpointAction
from rollup_operator.model.job_ids import candidates, meant
from rollup_operator.model.job_view import JobView
from support.access_double import Anybody
from support.http_calls import Client, call
from support.http_double import Cluster

ODD = "Sensor Data/1"
[HASHED] = candidates(ODD)


def squat(cluster: Cluster, name: str, job_id: str) -> None:
    """A job, and others that claim its id, before and after it by name."""
    cluster.create("aaa", jobId=job_id, desiredState="started")
    cluster.create(name, **({} if name == job_id else {"jobId": job_id}), desiredState="started")
    cluster.create("zzz", jobId=job_id, desiredState="started")


CASES = pytest.mark.parametrize(("name", "job_id"), [("j00001", "j00001"), (HASHED, ODD)], ids=["name", "hash"])


@CASES
@pytest.mark.parametrize("verb", ["_stop", "_start"])
async def test_a_call_means_the_job_that_is_named_so(
    client: Client, cluster: Cluster, name: str, job_id: str, verb: str
) -> None:
    squat(cluster, name, job_id)
    status, answer = await call(client, "POST", f"/_rollup/job/{job_id.replace('/', '%2F')}/{verb}")
    assert status == 200, answer
    assert [body["metadata"]["name"] for _, body in cluster.applied] == [name]


@CASES
async def test_so_does_a_deletion(client: Client, cluster: Cluster, name: str, job_id: str) -> None:
    squat(cluster, name, job_id)
    cluster.ask(name, "stopped")
    cluster.status(name, state="stopped", observedGeneration=2)
    status, answer = await call(client, "DELETE", f"/_rollup/job/{job_id.replace('/', '%2F')}")
    assert status == 200, answer
    assert [path.rsplit("/", 1)[-1] for path in cluster.deleted] == [name]


@CASES
async def test_the_right_is_asked_for_on_it_alone(
    client: Client, cluster: Cluster, access: Anybody, name: str, job_id: str
) -> None:
    squat(cluster, name, job_id)
    access.denied = {(EndpointAction.STOP, name), (EndpointAction.STOP, "")}
    assert (await call(client, "POST", f"/_rollup/job/{job_id.replace('/', '%2F')}/_stop"))[0] == 403
    assert cluster.applied == []


def view(name: str, job_id: str, *, deleting: bool = False) -> JobView:
    meta = {"uid": name, "namespace": "n", "name": name, "resourceVersion": "1"}
    return JobView.of(
        {"metadata": meta | ({"deletionTimestamp": "now"} if deleting else {}), "spec": {"jobId": job_id}}
    )


def test_whose_an_id_is() -> None:
    first, second, gone = view("b", "x"), view("c", "x"), view("a", "x", deleting=True)
    assert meant("x", []) == []
    assert meant("x", [gone]) == [gone]
    assert meant("x", [second, gone, first]) == [first, second], "nobody can tell"
    named = view("x", "x")
    assert meant("x", [first, named, second]) == [named]
    assert meant("x", [view("x", "x", deleting=True), first]) == [first], "it is being handed over"
