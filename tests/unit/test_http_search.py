"""Searches through the endpoint, over stores in memory."""

from typing import Any

from support.http_calls import Client, call
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
