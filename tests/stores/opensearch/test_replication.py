"""Indices that send segments to their replicas: a replica shows rows some time after a refresh."""

from collections.abc import Iterator
from typing import Any

import pytest

from local_stores import Node
from local_tools.ports import free_ports
from rollup_operator.rollup.bounds import Span
from rollup_operator.stores.opensearch import records
from rollup_operator.stores.search import EVERYTHING, Documents, Fetch
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


async def searched(at: Clustered) -> int:
    """How many rows a search finds in the documents."""
    (tier,) = await at.store.tiers([at.target])
    assert tier.end_ms > BEGIN
    (found,) = await at.store.search([Fetch(Documents(*tier.key), EVERYTHING, "ts.date_histogram._count")])
    return found[()].rows[()].count


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
        for _ in range(4):  # copies take turns
            assert await searched(at) == rows
        await at.store.settle(at.job(), "me", delete_documents=True)
        assert count(at, at.target, "_primary") == 0
        pair.call("PUT", "/_cluster/settings", FAST)


async def test_previews_and_lists_of_jobs_show_what_replicas_do_not_yet(pair: StoreHttp) -> None:
    async with clustered(pair) as at:
        at.write([(BEGIN, 1.0, "t", 1)], number_of_shards=1, number_of_replicas=1, refresh_interval=-1)
        await at.completed()
        for index in (at.source, records.ALIAS):
            pair.wait(lambda node, of=index: node.call("GET", f"/_cluster/health/{of}")["status"] == "green")
        pair.call("PUT", "/_cluster/settings", SLOW)
        jobs = [at.job(job_id=f"job{i}", uid=f"{i}") for i in range(3)]
        at.write([(BEGIN + i, 1.0, f"t{i % 1009}", i) for i in range(2000)])
        for job in jobs:
            await at.store.session(job, "a dead one").claim()
        for _ in range(4):  # copies take turns
            assert {job.owner for job in jobs} <= set(await at.store.held("me"))
            assert {job.key for job in jobs} <= {known.key for known in await at.store.known_jobs()}
            assert (await at.store.preview(jobs[0], Span(0, BEGIN + HOUR), 1)).rows == 2001
        assert count(at, records.ALIAS, "_replica") < 1 + len(jobs)
        assert count(at, at.source, "_replica") < 2001
        pair.call("PUT", "/_cluster/settings", FAST)
