"""A cluster's client and jobs for tests that use the parts of a cluster's store directly."""

import http.client
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.documents import document, layout_of
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.stores.opensearch import claims
from rollup_operator.stores.opensearch.preparing import prepare
from rollup_operator.stores.opensearch.records import Record
from rollup_operator.stores.opensearch.target import bulk
from rollup_operator.stores.opensearch.target.bulk import Landed
from rollup_operator.stores.opensearch.target.encoder import Batch
from rollup_operator.stores.opensearch.transport.client import Cluster
from rollup_operator.stores.opensearch.transport.wire import WireConnector
from support.embedded import config, spec
from support.rounding import HOUR
from support.store_http import StoreError as StoreHttpError
from support.store_http import StoreHttp, unique

IsAlive = Callable[[Owner], bool]

HELD_SECONDS = 1.5
"""How long `slow_down` lets writes be held up where it cannot make each take its time."""

FIELDS = {
    "ts": SourceField(frozenset({"date"})),
    "size": SourceField(frozenset({"long"})),
    "term": SourceField(frozenset({"keyword"})),
    "value": SourceField(frozenset({"double"})),
}
"""What the sources of `job` have."""


@asynccontextmanager
async def connected(*urls: str, timeout: float = 30.0) -> AsyncIterator[Cluster]:
    """The client of the cluster behind these URLs."""

    async def make_session() -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(connector=WireConnector(), headers={"Accept-Encoding": "identity"})
        session._retry_connection = False  # as the operator's own sessions
        return session

    cluster = Cluster(urls, make_session, timeout=timeout)
    try:
        yield cluster
    finally:
        await cluster.close()


def job(
    index: str | None = None, *, job_id: str = "job", uid: str = "1", hash_: str = "h", **changes: Any
) -> JobConfig:
    """A job that writes to `index`, or to one of its own."""
    return config(spec("events-*", index or unique("rolled"), **changes), job_id, uid, hash_)


def nobody(owner: Owner) -> bool:
    """No other owner lives."""
    return False


async def held(cluster: Cluster) -> list[Record]:
    """The records whose claim somebody holds."""
    found = [await claims.read(cluster, known.key) for known in await claims.known(cluster)]
    return [record for record in found if record is not None and record.held]


async def taken(cluster: Cluster, of: JobConfig, holder: str = "me", is_alive: IsAlive = nobody) -> Record:
    """Take the job's claim."""
    return await claims.take(cluster, of, holder, is_alive)


def batch(record: Record, count: int, *, begin: int = 0, **changes: Any) -> Batch:
    """So many hourly documents of a job, as a page would hold them. `changes` go over the fields of each."""
    layout = layout_of(record.claim.key[1], RollupJobSpec.model_validate(record.spec))
    items = []
    for i in range(begin, begin + count):
        values = {f"value.{m}.value": float(i) for m in ("min", "max", "sum", "avg")} | {"value.avg._count": 1.0}
        id_, source = document(layout, (i * HOUR, 10.0, "a"), 1, values)
        action = {"index": {"_id": id_, "version": record.claim.epoch, "version_type": "external_gte"}}
        items.append(orjson.dumps(action) + b"\n" + orjson.dumps({**source, **changes}) + b"\n")
    return Batch.of(items)


def ids_of(page: Batch) -> list[str]:
    """The ids of its documents."""
    return [page.id(i) for i in range(len(page))]


async def ready(cluster: Cluster, of: JobConfig, holder: str = "me", is_alive: IsAlive = nobody) -> Record:
    """Take the job's claim and make its rollup index ready."""
    return await prepare(cluster, of, await taken(cluster, of, holder, is_alive), FIELDS)


async def write(cluster: Cluster, record: Record, page: Batch) -> Landed:
    """Write a page through the record's gate."""
    assert record.gate is not None
    return await bulk.write(cluster, record.gate, page, opaque_id=record.opaque_id, doing="writing")


def slow_down(node: StoreHttp, index: str) -> None:
    """Let the node take its time for what goes into an index: milliseconds a document.

    Where it knows no scripts, writes of the next HELD_SECONDS wait for a copy that there is not, until they time out.
    """
    if not node.has_scripts:
        replicas = node.settings(index)["index.number_of_replicas"]
        waiting = {"index.number_of_replicas": 1, "index.write.wait_for_active_shards": "all"}
        node.set_settings(index, **waiting)

        as_before = {"index.number_of_replicas": replicas, "index.write.wait_for_active_shards": None}

        def go_on() -> None:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                try:
                    node.set_settings(index, **as_before)
                except StoreHttpError:
                    return  # the index is gone by then
                except (OSError, http.client.HTTPException):
                    time.sleep(0.05)  # the node is
                else:
                    return

        timer = threading.Timer(HELD_SECONDS, go_on)
        timer.daemon = True
        timer.start()
        return
    name = unique("slow")
    source = "long n = 0; for (int i = 0; i < 300000; i++) { n += i % 7; } ctx.slow = n;"
    node.call("PUT", f"/_ingest/pipeline/{name}", {"processors": [{"script": {"source": source}}]})
    node.set_settings(index, **{"index.final_pipeline": name})
