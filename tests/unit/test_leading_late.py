"""A process that comes to lead, and whose watch of RollupStores lags."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from rollup_operator.kube.client import Body, Conflict, KubeError
from rollup_operator.lifecycle.jobs.actors import Actors
from rollup_operator.lifecycle.jobs.index import Index
from rollup_operator.lifecycle.jobs.relist import Relisting
from rollup_operator.lifecycle.jobs.run_task import Worker
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.lifecycle.stores.book import StoreBook
from rollup_operator.stores.base import Checkup
from unit.test_actor import raw
from unit.test_settling_elsewhere import Cluster


class Reachable(Cluster):
    """A cluster that can be used."""

    __eq__, __hash__ = object.__eq__, object.__hash__

    async def check(self) -> Checkup:
        return Checkup("3.0.0")

    async def retire(self) -> None:
        """Nothing is open."""


def rollup_store(version: int, host: str) -> Body:
    meta = {"namespace": "n", "name": "default", "uid": "s", "resourceVersion": str(version), "generation": version}
    return {"metadata": meta, "spec": {"opensearch": {"hosts": [f"https://{host}:9200"]}}}


def flights(version: int, asked: str, shown: dict[str, Any]) -> Body:
    body = raw(1 if asked == "started" else 2, asked)
    body["metadata"]["resourceVersion"] = str(version)
    return body | {"status": shown}


class ApiServer:
    """One store and one job. Statuses that are written are `shown`."""

    def __init__(self, store: Body, job: Body) -> None:
        self.objects = {"rollupstores": store, "rollupjobs": job}
        self.shown: asyncio.Queue[str] = asyncio.Queue()
        self.refusals: list[KubeError] = []

    async def pages(self, path: str, *, metadata_only: bool = False) -> AsyncIterator[Body]:
        plural = path.rpartition("/")[2]
        if plural == "rollupstores" and self.refusals:
            raise self.refusals.pop(0)
        yield {"items": [self.objects[plural]], "metadata": {"resourceVersion": "200"}}

    async def put(self, _: str, sent: Body) -> Body:
        job = self.objects["rollupjobs"]
        version = str(int(job["metadata"]["resourceVersion"]) + 1)
        self.objects["rollupjobs"] = job | {"status": sent["status"]}
        self.objects["rollupjobs"]["metadata"] = job["metadata"] | {"resourceVersion": version}
        self.shown.put_nowait(sent["status"]["state"])
        return self.objects["rollupjobs"]

    async def patch(self, _: str, sent: Body) -> Body:
        store = self.objects["rollupstores"]
        if sent["metadata"]["resourceVersion"] != store["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "the object has been modified")
        version = str(int(store["metadata"]["resourceVersion"]) + 1)
        self.objects["rollupstores"] = store | {"status": sent["status"]}
        self.objects["rollupstores"]["metadata"] = store["metadata"] | {"resourceVersion": version}
        return self.objects["rollupstores"]


UNAVAILABLE = KubeError(500, "InternalError", "etcd has no leader")
FORBIDDEN = KubeError(403, "Forbidden", "cannot list rollupstores")


@pytest.mark.parametrize(
    ("refusals", "knows"),
    [([], True), ([UNAVAILABLE], True), ([FORBIDDEN], False)],
    ids=["at once", "later", "forbidden"],
)
async def test_a_new_leader_settles_where_the_leader_before_it_ran(refusals: list[KubeError], knows: bool) -> None:
    """The store led to a, then to b, where a run held its claim when its process died."""
    clusters = {"a": Reachable("a"), "b": Reachable("b")}
    clusters["b"].held = True
    started = {"state": "started", "observedGeneration": 1}
    server = ApiServer(rollup_store(60, "b"), flights(110, "stopped", started))
    server.refusals += refusals
    kube: Any = server
    events: Any = SimpleNamespace(record=lambda *_: None)

    def made(_: str, spec: Any, __: object) -> Any:
        return clusters[spec.opensearch.hosts[0].removeprefix("https://").removesuffix(":9200")]

    gate = Gate()
    index = Index(gate=gate, cluster="here")
    books = StoreBook(kube=kube, make=made, now=lambda: datetime.now(UTC), gate=gate)
    worker = Worker(books, "me", "here", lambda: datetime.now(UTC), gate)
    actors = Actors(
        index, kube=kube, books=books, events=events, worker=worker, gate=gate, now=lambda: datetime.now(UTC)
    )
    relisting = Relisting(index, actors, kube=kube, books=books, gate=gate)
    books.observe(rollup_store(50, "a"))
    actors.observe(flights(100, "started", started))
    index.synced = True
    gate.lead()
    books.lead()
    relisting.catch_up()
    actors.lead()
    async with asyncio.timeout(10):
        while await server.shown.get() != "stopped":
            pass
    assert clusters["b"].held is not knows
    gate.close()
    relisting.stand_down()
    actors.stand_down()
    await books.close()
