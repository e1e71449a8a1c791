"""Searches through the endpoint, over stores in memory."""

from typing import Any

from support.http_calls import Client, call, deepest
from support.http_double import Cluster

GROUPS: dict[str, Any] = {
    "dateHistogram": {"field": "timestamp", "fixedInterval": "1h"},
    "terms": {"fields": ["node"]},
}
SPEC = {"indexPattern": "sensor-*", "rollupIndex": "sensor_rollup", "groups": GROUPS, "metrics": []}
BY_NODE = {"size": 0, "aggs": {"n": {"terms": {"field": "node"}}}}


async def test_a_job_that_has_not_written_yet_hides_no_field_of_its_source(client: Client, cluster: Cluster) -> None:
    """It has claimed its index, or its documents were deleted: it does not know what its groups hold."""
    cluster.create("sensor", **SPEC)
    cluster.shelf.roll_up("sensor", SPEC, until=0)
    status, found = await call(client, "POST", "/sensor-*/_search", BY_NODE)
    assert (status, found["aggregations"]["n"]["buckets"]) == (200, [])
    status, found = await call(client, "GET", "/sensor_rollup/_field_caps?fields=*")
    assert (status, set(found["fields"])) == (200, {"timestamp", "node"})


async def test_a_query_in_another_language_is_refused_in_a_sentence(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", **SPEC)
    status, answer = await call(client, "POST", "/_query?format=json", {"query": "FROM sensor-* | LIMIT 10"})
    reason = deepest(answer)["reason"]
    assert status == 400
    assert all(word in reason for word in ("ES|QL", "[_search]", "aggregations", "Grafana"))


async def test_names_of_fields_without_end_are_refused(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", **SPEC)
    cluster.shelf.roll_up("sensor", SPEC)
    names = {"fields": [f"a*b{i}*c" for i in range(1_001)]}
    status, answer = await call(client, "POST", "/sensor-*/_field_caps", names)
    assert (status, deepest(answer)["reason"]) == (400, "[fields] has [1001] names, more than the limit of [1000]")
    names["fields"][0:2] = ["timestamp"]
    status, answer = await call(client, "POST", "/sensor-*/_field_caps", names)
    assert (status, set(answer["fields"])) == (200, {"timestamp"})


async def test_a_job_that_has_not_written_yet_hides_no_field_beside_one_that_has(
    client: Client, cluster: Cluster
) -> None:
    plain = {**SPEC, "groups": {"dateHistogram": GROUPS["dateHistogram"]}}
    for name, spec, until in (("plain", plain, 1_700_000_000_000), ("sensor", SPEC, 0)):
        cluster.create(name, **spec)
        cluster.shelf.roll_up(name, spec, until=until)
    later = {"range": {"timestamp": {"gte": "2024-01-01"}}}
    status, found = await call(client, "POST", "/sensor-*/_search", {**BY_NODE, "query": later})
    assert (status, found["aggregations"]["n"]["buckets"]) == (200, [])
