"""Indices that send segments to their replicas: a replica shows rows some time after a refresh."""

from collections.abc import Iterator
from typing import Any

import pytest

from local_stores import Node
from local_tools.ports import free_ports
from support.clustered import Clustered, clustered
from support.rounding import HOUR, ms
from support.store_http import StoreHttp

BEGIN = ms("2024-01-01T00:00")
SLOW = {"persistent": {"indices.replication.max_bytes_per_sec": "20kb"}}
FAST = {"persistent": {"indices.replication.max_bytes_per_sec": None}}


@pytest.fixture(scope="module")
def pair() -> Iterator[StoreHttp]:
    """One of two nodes of a cluster whose indices send segments."""
    (port,) = free_ports(1)
    common = {"discovery.type": "zen", "cluster.name": "pair", "cluster.indices.replication.strategy": "SEGMENT"}
    first = {"node.name": "first", "transport.port": port, "cluster.initial_cluster_manager_nodes": ["first"]}
    with Node.start("opensearch3", settings={**common, **first}) as one:
        second = {"node.name": "second", "discovery.seed_hosts": [f"127.0.0.1:{port}"]}
        with Node.start("opensearch3", settings={**common, **second}):
            yield StoreHttp(one)


def count(at: Clustered, index: str, copy: str) -> int:
    found: dict[str, Any] = at.node.call("POST", f"/{index}/_count", preference=copy)
    return int(found["count"])


async def test_what_replicas_do_not_show_yet_is_rolled_up_and_deleted(pair: StoreHttp) -> None:
    async with clustered(pair) as at:
        at.write([], number_of_shards=1, number_of_replicas=1, refresh_interval=-1)
        pair.wait(lambda node: node.call("GET", f"/_cluster/health/{at.source}")["status"] == "green")
        pair.call("PUT", "/_cluster/settings", SLOW)
        rows = 0
        for hour in range(2):
            new = [(BEGIN + hour * HOUR + i, 1.0, f"t{i % 1009}", i) for i in range(2000)]
            at.write(new)
            rows += len(new)
            claim = await at.completed()
            assert claim.stats.documents_processed == rows, hour
        assert count(at, at.source, "_replica") < rows
        await at.store.settle(at.job(), "me", delete_documents=True)
        assert count(at, at.target, "_primary") == 0
        pair.call("PUT", "/_cluster/settings", FAST)
