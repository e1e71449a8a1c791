"""A call that several stores of a namespace answer, while one of them cannot be asked."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rollup_operator.http.api import every_store
from rollup_operator.stores.errors import StoreElsewhere, StoreUnavailable
from support.access_double import Anybody
from support.http_double import Cluster, Shelf
from support.serving import Client, calling, served

SPEC = {"indexPattern": "sensor-*", "rollupIndex": "sensor_rollup"}
OTHER = {"indexPattern": "other-*", "rollupIndex": "other_rollup", "storeRef": {"name": "search"}}
BROKEN = StoreUnavailable('Secret "login": there is none')
WHY = 'RollupStore [search]: Secret \\"login\\": there is none'
WARNING = f'299 rollup-operator "This answer is not whole: {WHY}"'
PANEL = {"size": 0, "aggs": {"most": {"max": {"field": "distance"}}}}


@pytest.fixture
def cluster() -> Cluster:
    """Two jobs, each in a store of its own, of which one is broken."""
    made = Cluster()
    for name, store, spec in (("sensor", "default", SPEC), ("other", "search", OTHER)):
        shelf = made.shelves["default", store] = Shelf()
        shelf.pattern = str(spec["indexPattern"])
        made.create(name, desiredState="stopped", **spec)
        made.status(name, state="stopped")
        shelf.roll_up(name, spec, index=str(spec["rollupIndex"]))
    made.shelves["default", "default"].remember("gone", SPEC, index="sensor_rollup")
    made.shelves["default", "search"].fail = BROKEN
    return made


@pytest.fixture
def access() -> Anybody:
    return Anybody()


@pytest.fixture
async def client(cluster: Cluster, access: Anybody) -> AsyncIterator[Client]:
    async with served(cluster, access=access) as endpoint, calling(endpoint) as made:
        yield made


async def ask(client: Client, path: str, body: Any = None) -> tuple[int, Any, str | None]:
    """Status, body and warning of an answer."""
    method = "GET" if body is None else "POST"
    async with client.request(method, path, json=body) as answer:
        return answer.status, await answer.json(content_type=None), answer.headers.get("Warning")


async def test_capabilities_say_what_is_known_and_which_store_is_missing(client: Client) -> None:
    status, answer, warning = await ask(client, "/_rollup/data/_all")
    assert (status, warning) == (200, WARNING)
    assert {key: [job["job_id"] for job in value["rollup_jobs"]] for key, value in answer.items()} == {
        "sensor-*": ["gone", "sensor"],
        "other-*": ["other"],
    }
    status, answer, warning = await ask(client, "/*/_rollup/data")
    assert (status, sorted(answer), warning) == (200, ["other_rollup", "sensor_rollup"], WARNING)


@pytest.mark.parametrize("path", ["/_rollup/data/unknown-*", "/unknown/_rollup/data", "/unknown/_search"])
async def test_what_only_the_broken_store_may_know_is_503(client: Client, cluster: Cluster, path: str) -> None:
    status, answer, warning = await ask(client, path, PANEL if "_search" in path else None)
    assert (status, warning) == (503, None)
    assert answer["error"]["reason"] == 'RollupStore [search]: Secret "login": there is none'
    cluster.shelves["default", "search"].fail = None
    status, _, warning = await ask(client, path, PANEL if "_search" in path else None)
    assert (status, warning) == (200 if path.startswith("/_rollup") else 404, None)


async def test_a_search_of_several_stores_answers_what_is_there(client: Client) -> None:
    status, answer, warning = await ask(client, "/sensor_rollup,other_rollup/_search", PANEL)
    assert (status, warning) == (200, WARNING)
    assert answer["_shards"]["failed"] == 1
    assert answer["_shards"]["total"] == answer["_shards"]["successful"] + 1
    status, answer, warning = await ask(client, "/sensor_rollup/_search", PANEL)
    assert (status, answer["_shards"]["failed"], warning) == (200, 0, None)
    status, _, warning = await ask(client, "/*/_field_caps?fields=*")
    assert (status, warning) == (200, WARNING)
    status, answer, warning = await ask(client, "/*_rollup/_mapping")
    assert (status, sorted(answer), warning) == (200, ["sensor_rollup"], WARNING)


@pytest.mark.parametrize("path", ["/other_rollup/_search", "/*/_search?allow_partial_search_results=false"])
async def test_a_search_of_the_broken_store_alone_or_of_all_or_nothing_is_503(client: Client, path: str) -> None:
    status, answer, warning = await ask(client, path, PANEL)
    assert (status, answer["error"]["reason"], warning) == (503, WHY.replace("\\", ""), None)


async def test_the_reason_is_for_who_may_read_the_store(client: Client, access: Anybody) -> None:
    access.reads_stores = False
    status, _, warning = await ask(client, "/_rollup/data/_all")
    assert status == 200
    assert warning is not None
    assert "login" not in warning
    assert "A RollupStore of the namespace cannot be used" in warning


async def test_where_another_replica_can_answer_nothing_is_left_out(client: Client, cluster: Cluster) -> None:
    cluster.shelves["default", "search"].fail = StoreElsewhere("open in another replica")
    for path in ("/_rollup/data/_all", "/*/_search"):
        status, _, warning = await ask(client, path, PANEL if "_search" in path else None)
        assert (status, warning) == (503, None)


async def test_a_store_that_does_not_answer_holds_nobody_for_long(
    client: Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(every_store, "SECONDS", 0.05)

    async def silent() -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(cluster.shelves["default", "search"], "known_jobs", silent)
    status, answer, warning = await ask(client, "/_rollup/data/_all")
    assert (status, sorted(answer)) == (200, ["other-*", "sensor-*"])
    assert (
        warning == '299 rollup-operator "This answer is not whole: RollupStore [search] has not answered within 0.05s"'
    )
