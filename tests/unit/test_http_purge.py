"""The purge calls, over the doubles: whose documents they show, which they delete, and which they leave alone."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from rollup_operator.kube.client import Unreachable
from rollup_operator.stores.errors import Fenced, StoreUnavailable
from support.bodies import job
from support.http_calls import Client, call
from support.http_double import Cluster

DOCUMENT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text())
PATH = "/_rollup/documents/sensor_rollup/sensor"
UID = "uid-of-sensor"


def is_as_described(answer: Any, schema: str) -> bool:
    described = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    return Draft202012Validator(described).is_valid(answer)


@pytest.fixture(autouse=True)
def left(cluster: Cluster) -> None:
    """What a deleted job has left, at the replica that leads."""
    cluster.leads = True
    cluster.shelf.remember("sensor", job()["spec"], index="sensor_rollup")


@pytest.mark.parametrize("base", ["/_rollup", "/_xpack/rollup"])
@pytest.mark.parametrize("space", ["", "/namespaces/default"])
async def test_they_are_shown_and_then_deleted(client: Client, cluster: Cluster, base: str, space: str) -> None:
    path = f"{space}{base}/documents/sensor_rollup/sensor"
    status, found = await call(client, "GET", path)
    assert (status, found["documents"], found["owner"]) == (200, 3, {"name": "sensor", "uid": UID, "exists": False})
    assert is_as_described(found, "Documents")
    status, purged = await call(client, "DELETE", f"{path}?owner={UID}")
    assert (status, purged) == (200, {"acknowledged": True, "documents": 3})
    assert is_as_described(purged, "Purged")
    assert cluster.shelf.purged == [("sensor_rollup", "sensor")]


@pytest.mark.parametrize("owner", ["", "?owner=", "?owner=uid-of-another"])
async def test_an_owner_that_was_not_looked_at_is_refused_with_the_one_that_is(
    client: Client, cluster: Cluster, owner: str
) -> None:
    status, answer = await call(client, "DELETE", PATH + owner)
    assert (status, UID in answer["error"]["reason"]) == (409, True)
    assert cluster.shelf.purged == []


async def test_documents_of_a_job_that_exists_stay(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="stopped")
    uid = cluster.shelf.remembered[0].owner.uid
    cluster.objects["/apis/rollup-operator.dev/v1alpha1/namespaces/default/rollupjobs/sensor"]["metadata"]["uid"] = uid
    _, found = await call(client, "GET", PATH)
    assert found["owner"]["exists"] is True
    status, answer = await call(client, "DELETE", f"{PATH}?owner={uid}")
    assert (status, "which exists: delete it first" in answer["error"]["reason"]) == (409, True)
    assert cluster.shelf.purged == []


async def test_a_job_that_was_created_again_is_not_the_owner(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", desiredState="started")
    assert (await call(client, "DELETE", f"{PATH}?owner={UID}"))[0] == 200


async def test_whether_the_owner_exists_must_be_known(client: Client, cluster: Cluster) -> None:
    cluster.fail_read = Unreachable("the API server does not answer", sent=True)
    assert (await call(client, "DELETE", f"{PATH}?owner={UID}"))[0] == 503
    assert cluster.shelf.purged == []


async def test_only_the_leader_purges(client: Client, cluster: Cluster) -> None:
    cluster.leads = False
    for method in ("GET", "DELETE"):
        assert (await call(client, method, f"{PATH}"))[0] == 503
    assert cluster.shelf.purged == []


@pytest.mark.parametrize(
    ("index", "job_id", "store"),
    [("other", "sensor", "default"), ("sensor_rollup", "other", "default"), ("sensor_rollup", "sensor", "second")],
)
async def test_what_is_not_there_is_not_found(
    client: Client, cluster: Cluster, index: str, job_id: str, store: str
) -> None:
    cluster.shelves["default", "second"] = type(cluster.shelf)()
    status, answer = await call(client, "GET", f"/_rollup/documents/{index}/{job_id}?store={store}")
    assert (status, f"[{store}] holds no documents" in answer["error"]["reason"]) == (404, True)
    assert (await call(client, "GET", f"{PATH}?store=nothing"))[0] == 400


@pytest.mark.parametrize("whose", [{"namespace": "team-b"}, {"cluster": "west"}])
async def test_what_others_left_on_a_shared_store_is_not_found(
    client: Client, cluster: Cluster, whose: dict[str, str]
) -> None:
    cluster.shelf.remember("theirs", None, index="payroll", **whose)
    for method in ("GET", "DELETE"):
        assert (await call(client, method, "/_rollup/documents/payroll/theirs"))[0] == 404


async def test_a_job_that_claims_them_meanwhile_keeps_them(client: Client, cluster: Cluster) -> None:
    cluster.shelf.fail_purge = Fenced("the documents have changed hands")
    status, answer = await call(client, "DELETE", f"{PATH}?owner={UID}")
    assert (status, "have changed hands" in answer["error"]["reason"]) == (409, True)
    cluster.shelf.fail_purge = StoreUnavailable("no answer")
    status, answer = await call(client, "DELETE", f"{PATH}?owner={UID}")
    assert (status, "can be purged again" in answer["error"]["reason"]) == (500, True)
