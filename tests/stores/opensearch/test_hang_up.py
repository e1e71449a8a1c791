"""Requests that are cut off: when the claim is released, each has been read and is over, or can never begin."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local_stores import Node
from local_tools.ports import free_ports
from rollup_operator.stores.opensearch import quiet
from support.clustered import clustered
from support.embedded import Row
from support.rounding import HOUR
from support.store_drill import whole_tasks
from support.store_faults import CutOnTheWay, Hold
from support.store_http import StoreHttp, unique
from support.store_jobs import connected
from support.store_proxy import StoreProxy
from support.store_steps import on_step

PAUSE = 0.3
"""Seconds for which a node reads nothing."""


def rows(hours: int) -> list[Row]:
    return [(h * HOUR + m * 60_000, float(m), "a", m) for h in range(hours) for m in range(60)]


async def test_a_search_that_is_read_late_is_over_when_the_claim_is_released(opensearch: StoreHttp) -> None:
    async with StoreProxy(opensearch.url) as proxy, clustered(opensearch, proxy.url) as at:
        at.write(rows(48))
        paused = Hold(outlives_client=True)
        page = proxy.on("POST", "_search", fault=paused, nth=3)  # the first two measure
        run = at.begin(at.job(pageSize=10))
        task = asyncio.ensure_future(run.index())
        late = await proxy.caught(page)
        asyncio.get_running_loop().call_later(PAUSE, paused.release)
        run.halt()
        result = await task
        assert (result.outcome, result.released) == ("Halted", True)
        *_, released = [r for r in proxy.requests if r.method == "PUT" and b'"holder":null' in r.body]
        assert late.sent is not None
        assert late.ended is not None
        assert late.ended <= released.arrived
        assert whole_tasks(opensearch) == []


async def test_a_search_that_is_never_read_holds_the_claim_no_longer_than_a_request_may_take(
    opensearch: StoreHttp,
) -> None:
    async with StoreProxy(opensearch.url) as proxy, clustered(opensearch, proxy.url) as at:
        at.write(rows(48))
        at.cluster.timeout = 1.0
        page = proxy.on("POST", "_search", fault=Hold(outlives_client=True), nth=3)
        run = at.begin(at.job(pageSize=10))
        task = asyncio.ensure_future(run.index())
        late = await proxy.caught(page)
        run.halt()
        assert (await task).released is True
        *_, released = [r for r in proxy.requests if r.method == "PUT" and b'"holder":null' in r.body]
        assert 1.0 <= released.arrived - late.arrived < 5.0


async def test_a_connection_that_breaks_by_itself_leaves_the_request_time_to_arrive(opensearch: StoreHttp) -> None:
    """As when what stands between breaks: the node may read later what it was given."""
    async with StoreProxy(opensearch.url) as proxy, clustered(opensearch, proxy.url) as at:
        at.write(rows(2))
        broken = on_step(proxy, "make target", fault=CutOnTheWay(0.02))
        result = await at.run(at.job())
        assert (result.outcome, result.released) == ("Failed", True)
        (late,) = broken
        assert late.sent is not None
        listings = [r.arrived for r in proxy.requests if r.target.startswith("/_tasks")]
        assert late.sent < listings[-1]


async def test_a_node_closes_its_end_when_it_has_read_that_the_client_hangs_up(node: StoreHttp) -> None:
    index, body = slow_search(node)
    async with connected(node.url) as cluster:
        search = asyncio.ensure_future(
            cluster.call("POST", f"/{index}/_search", doing="searching", body=body, opaque_id="rollup/u/1")
        )
        await asyncio.to_thread(node.wait, lambda it: it.tasks("rollup/u/1"))
        search.cancel()
        begun = time.monotonic()
        await asyncio.wait({search})
        assert search.cancelled()
        assert time.monotonic() - begun < 5
        assert not cluster.is_unread("rollup/u/1")
        await quiet.quiet(cluster, {"u"}, before=2, doing="waiting", arrived=True)
        assert node.tasks("rollup/u/1") == []


def slow_search(node: StoreHttp) -> tuple[str, dict[str, object]]:
    """An index, and a search of it that takes many seconds if nothing cancels it."""
    index = node.create(unique("many"))
    node.load(index, ({"n": n} for n in range(30_000)))
    source = "long x = doc['n'].value; for (int i = 0; i < 200000; i++) { x = x * 31 + i } return x != 1"
    return index, {"size": 0, "track_total_hits": True, "query": {"script": {"script": {"source": source}}}}


# Two nodes: the one that was asked is frozen, and the other one tells what the cluster does


@dataclass(frozen=True)
class Pair:
    """A cluster."""

    first: Node
    second: Node
    index: str
    body: dict[str, object]


@pytest.fixture(scope="module", params=["opensearch2", "elasticsearch7", "opensearch3"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A cluster of two nodes, the first of which leads it, and a slow search."""
    folder: Path = tmp_path_factory.mktemp("pair")
    (port,) = free_ports(1)
    master = "master" if request.param.startswith("elasticsearch") else "cluster_manager"
    common = {"discovery.type": "zen", "cluster.name": f"pair-{port}"}
    first = {"transport.port": port, "node.name": "first", f"cluster.initial_{master}_nodes": ["first"]}
    second = {"discovery.seed_hosts": [f"127.0.0.1:{port}"], "node.name": "second", "node.roles": "data,ingest"}
    with (
        Node.start(request.param, directory=folder / "first", settings={**common, **first}) as one,
        Node.start(request.param, directory=folder / "second", settings={**common, **second}) as two,
    ):
        assert StoreHttp(one).call("GET", "/_cluster/health")["number_of_nodes"] == 2
        yield Pair(one, two, *slow_search(StoreHttp(one)))


@pytest.mark.parametrize("time_around", range(5))
async def test_a_search_in_the_socket_of_a_frozen_node_is_over_before_the_cluster_counts_as_quiet(
    pair: Pair, time_around: int
) -> None:
    opaque_id, see = "rollup/u/1", StoreHttp(pair.first)
    async with connected(pair.second.url) as second, connected(pair.first.url) as first:
        await second.call("GET", "/", doing="connecting", opaque_id=opaque_id)
        pair.second.freeze()
        try:
            path = f"/{pair.index}/_search"
            search = asyncio.ensure_future(
                second.call("POST", path, doing="searching", body=pair.body, opaque_id=opaque_id)
            )
            await asyncio.sleep(0.05)  # the bytes are in its socket; nothing tells
            search.cancel()
            done, _ = await asyncio.wait({search}, timeout=PAUSE)
            assert not done
        finally:
            pair.second.thaw()
        await asyncio.wait({search})
        assert not second.is_unread(opaque_id)
        await quiet.quiet(first, {"u"}, before=2, doing="waiting", arrived=True)
    for _ in range(50):
        assert await asyncio.to_thread(see.tasks, opaque_id) == []
