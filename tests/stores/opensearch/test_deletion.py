"""A job's documents are deleted where the cluster knows no `_delete_by_query`: searched for, and deleted as found."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.errors import Fenced, StoreUnavailable
from rollup_operator.stores.opensearch.target import deletion
from rollup_operator.stores.opensearch.transport.errors import Overloaded, Refused
from support.clustered import Clustered, clustered
from support.embedded import Row
from support.rounding import HOUR
from support.store_faults import Answer, CutAfter, HalfBulk, Hold
from support.store_http import StoreHttp
from support.store_jobs import taken
from support.store_proxy import StoreProxy

pytestmark = pytest.mark.newest_stores

UNKNOWN = "no handler found for uri [/out/_delete_by_query?conflicts=proceed] and method [POST]"
ROWS: list[Row] = [(i % 7 * HOUR, float(i), f"t{i % 50}", i % 40) for i in range(2000)]
"""They make several hundred buckets of a few hours."""


@pytest.fixture
async def proxy(opensearch: StoreHttp) -> AsyncIterator[StoreProxy]:
    """A way to the node on which that call is not known, whatever the node knows."""
    async with StoreProxy(opensearch.url) as proxy:
        proxy.on("POST", "/_delete_by_query", fault=Answer(400, body={"error": UNKNOWN}), times=None)
        yield proxy


@pytest.fixture
async def at(opensearch: StoreHttp, proxy: StoreProxy) -> AsyncIterator[Clustered]:
    """A store behind it, with the documents of two jobs in one index; portions are small."""
    async with clustered(opensearch, proxy.url) as made:
        made.write(ROWS)
        for job_id in ("job", "neighbour"):
            await made.completed(made.job(job_id=job_id))
        assert len(of_job(made, "job")) > 300
        yield made


@pytest.fixture(autouse=True)
def _small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "_AT_ONCE", 64)


def of_job(at: Clustered, job_id: str) -> dict[str, object]:
    return dict(at.node.documents(at.target, {"term": {"_rollup.id": job_id}}))


async def delete(at: Clustered, job: JobConfig | None = None) -> None:
    settled = await at.store.settle(job or at.job(), "settler", delete_documents=True)
    assert settled.claim is not None
    assert settled.claim.position is None


async def test_all_of_the_jobs_documents_go_and_no_others(at: Clustered, proxy: StoreProxy) -> None:
    others = of_job(at, "neighbour")
    await delete(at)
    assert of_job(at, "job") == {}
    assert of_job(at, "neighbour") == others
    assert at.node.mapping(at.target)["_meta"]["_rollup"].keys() == {"neighbour"}
    assert sum("_delete_by_query" in request.target for request in proxy.requests) == 1  # it is not asked again
    await at.completed()
    assert len(of_job(at, "job")) == len(others)


async def test_documents_that_somebody_changes_meanwhile_go_too(at: Clustered, proxy: StoreProxy) -> None:
    hold = Hold()
    bulk = proxy.on("POST", "/_bulk", fault=hold)
    deleting = asyncio.ensure_future(delete(at))
    await proxy.caught(bulk)
    changed = list(of_job(at, "job").items())
    for id_, source in changed[:3]:
        at.node.call("PUT", f"/{at.target}/_doc/{id_.replace('$', '%24')}", source)
    at.node.call("DELETE", f"/{at.target}/_doc/{changed[3][0].replace('$', '%24')}")
    hold.release()
    await deleting
    assert of_job(at, "job") == {}


async def test_a_bulk_that_arrives_after_another_claim_deletes_nothing(at: Clustered, proxy: StoreProxy) -> None:
    before = of_job(at, "job")
    hold = Hold(outlives_client=True)
    bulk = proxy.on("POST", "/_bulk", fault=hold)
    deleting = asyncio.ensure_future(delete(at))
    await proxy.caught(bulk)
    async with clustered(at.node, source=at.source, target=at.target) as other:
        await taken(other.cluster, other.job(), "next")
    hold.release()
    with pytest.raises(Fenced):
        await deleting
    assert of_job(at, "job") == before


async def test_a_deletion_that_is_half_done_is_done_by_the_next(at: Clustered, proxy: StoreProxy) -> None:
    proxy.on("POST", "/_bulk", fault=HalfBulk(), nth=2)
    with pytest.raises(Overloaded):
        await delete(at)
    proxy.on("POST", "/_bulk", fault=CutAfter(), nth=2)
    with pytest.raises(StoreUnavailable):
        await delete(at)
    assert 0 < len(of_job(at, "job")) < len(of_job(at, "neighbour"))
    await delete(at)
    assert of_job(at, "job") == {}


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"root_cause": [], "type": "illegal_argument_exception", "reason": UNKNOWN}, "status": 400},
        {"error": "something else"},
    ],
    ids=["of a type", "in other words"],
)
async def test_another_refusal_is_reported_as_what_it_is(at: Clustered, body: object) -> None:
    async with StoreProxy(at.node.url) as proxy, clustered(at.node, proxy.url, target=at.target) as other:
        proxy.on("POST", "/_delete_by_query", fault=Answer(400, body=body), times=None)
        before = of_job(at, "job")
        with pytest.raises(Refused):
            await delete(other)
        assert of_job(at, "job") == before
