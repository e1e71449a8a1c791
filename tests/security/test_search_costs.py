"""What searches, and the calls before them, may cost: time of the event loop, and memory."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from rollup_operator.http.app import Endpoint
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.sharing.memory import MIB, Budgets
from support.access_double import Anybody
from support.http_double import Cluster
from support.serving import Client, call, served

FIELDS = [{"field": f"metric-{n}", "metrics": ["min"]} for n in range(200)]


@pytest.fixture(autouse=True)
def rolled_up(cluster: Cluster) -> None:
    """A job with many fields, of which nothing is rolled up yet."""
    cluster.create("sensor", indexPattern="sensor-*", rollupIndex="rolled", metrics=FIELDS)


@pytest.fixture
async def endpoint(cluster: Cluster, access: Anybody) -> AsyncIterator[Endpoint]:
    async with served(cluster, access=access, budgets=replace(Budgets.of(512 * MIB), memory=64 * MIB)) as endpoint:
        yield endpoint


# The guard of the event loop fails each of these that holds it.


@pytest.mark.parametrize("names", [[f"q{n:x}*" for n in range(25_000)], ["q*" * 100_000], ["a,b*," * 40_000]])
async def test_names_of_fields_hold_up_nobody(client: Client, names: list[str]) -> None:
    status, reply = await call(client, "POST", "/rolled/_field_caps", json={"fields": names})
    assert (status, reply["error"]["type"] if status != 200 else "") in [(400, "illegal_argument_exception"), (200, "")]


async def test_names_of_fields_in_a_path_hold_up_nobody(client: Client) -> None:
    for names in (",".join(f"q{n:x}*" for n in range(1_000)), "q*" * 3_000):
        status, _ = await call(client, "GET", f"/rolled/_mapping/field/{names}")
        assert status in (200, 400)


async def test_wildcards_of_all_fields_are_answered(client: Client) -> None:
    found: dict[str, Any] = (await call(client, "POST", "/rolled/_field_caps", json={"fields": ["*", "metric-1*"]}))[1]
    assert found["indices"] == ["rolled"]


def histogram(buckets: int, **metrics: Any) -> dict[str, Any]:
    """A search for empty buckets. A few hundred bytes ask for any number of them."""
    time = {
        "field": "timestamp",
        "fixed_interval": "1h",
        "extended_bounds": {"min": 0, "max": (buckets - 1) * 3_600_000},
    }
    return {"size": 0, "aggs": {"t": {"date_histogram": time, "aggs": metrics}}}


METRICS = {f"m{n}": {"stats": {"field": f"metric-{n}"}} for n in range(50)}


async def test_one_search_takes_a_share_of_the_memory(client: Client) -> None:
    for _ in range(3):
        status, reply = await call(client, "POST", "/rolled/_search", json=histogram(4_000))
        assert (status, len(reply["aggregations"]["t"]["buckets"])) == (200, 4_000)
        status, reply = await call(client, "POST", "/rolled/_search", json=histogram(4_000, **METRICS))
        assert (status, reply["error"]["type"]) == (429, "es_rejected_execution_exception")


async def test_searches_of_one_call_share_the_memory(client: Client) -> None:
    body = f"{{}}\n{json.dumps(histogram(1_500, **METRICS))}\n" * 4
    headers = {"Content-Type": "application/x-ndjson"}
    status, reply = await call(client, "POST", "/rolled/_msearch", data=body, headers=headers)
    assert (status, {each["status"] for each in reply["responses"]}) == (200, {200, 429})


async def test_a_name_of_hundreds_of_parts_is_shown(client: Client, cluster: Cluster) -> None:
    deep = ".".join(["a"] * 255)  # objects within objects, as deep as a resource lets a name be long
    cluster.shelf.has |= {deep: SourceField(frozenset({"double"})), "a": SourceField(frozenset({"long"}))}
    cluster.create("deep", indexPattern="sensor-*", rollupIndex="deep", metrics=[{"field": deep, "metrics": ["min"]}])
    status, reply = await call(client, "GET", "/deep/_mapping")
    assert (status, reply["deep"]["mappings"]["properties"][deep]) == (200, {"type": "double"})
