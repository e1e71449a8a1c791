"""On real nodes, what a deleted job left is counted and purged, and nothing of a job that claims it meanwhile."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from rollup_operator.model.conditions import Reason
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.base import Purged, Retained
from rollup_operator.stores.errors import Fenced
from rollup_operator.stores.opensearch import claims
from support.clustered import clustered
from support.embedded import Row, agree, truth
from support.rounding import HOUR, hour
from support.store_faults import Hold
from support.store_http import StoreHttp
from support.store_jobs import taken
from support.store_proxy import StoreProxy

ROWS: list[Row] = [(i * HOUR // 5, float(i % 13), "ab"[i % 2], i % 40) for i in range(200)]


def again(job: JobConfig, **changes: Any) -> JobConfig:
    """The job, created again with other metrics."""
    metrics = [{"field": "value", "metrics": ["max"]}]
    spec = job.spec.model_validate({**job.spec.model_dump(by_alias=True, exclude_none=True), "metrics": metrics})
    return replace(job, owner=replace(job.owner, uid="2"), spec=spec, config_hash="other", **changes)


@pytest.mark.newest_stores
async def test_a_job_that_was_created_again_runs_after_the_purge(node: StoreHttp) -> None:
    async with clustered(node) as at:
        at.write(ROWS)
        await at.completed(job := at.job())
        await at.completed(at.job(job_id="neighbour"))
        assert getattr((await at.run(again(job))).error, "reason", None) is Reason.CONFIG_CHANGED
        count = len(at.documents()) // 2
        assert await at.store.retained(job.key) == Retained(job.owner, count)
        assert await at.store.purge(job.key, job.owner, "me") == Purged(count)
        assert len(at.documents()) == count
        assert at.node.mapping(at.target)["_meta"]["_rollup"].keys() == {"neighbour"}
        assert await at.store.retained(job.key) is None
        await at.completed(again(job))
        assert len(at.documents()) == 2 * count


async def test_what_another_job_has_claimed_meanwhile_stays(opensearch: StoreHttp) -> None:
    async with clustered(opensearch) as at:
        at.write(ROWS)
        await at.completed(job := at.job())
        before = at.documents()
        heir = replace(job, owner=replace(job.owner, uid="2"))
        async with StoreProxy(at.node.url) as proxy, clustered(at.node, proxy.url, target=at.target) as slow:
            hold = Hold()
            evicting = proxy.on("PUT", "/_doc/claim", fault=hold)
            purging = asyncio.ensure_future(slow.store.purge(job.key, job.owner, "purger"))
            await proxy.caught(evicting)
            next_one = await taken(at.cluster, heir, "next")
            hold.release()
            with pytest.raises(Fenced, match="uid 2, has them"):
                await purging
        with pytest.raises(Fenced):
            await at.store.purge(job.key, job.owner, "purger")
        assert at.documents() == before
        after = await claims.read(at.cluster, job.key)
        assert after is not None
        assert (after.claim, after.owner) == (next_one.claim, heir.owner)


async def test_a_run_that_holds_the_claim_of_a_job_that_is_gone_writes_no_more(opensearch: StoreHttp) -> None:
    async with clustered(opensearch) as at:
        at.write(ROWS)
        await at.completed(job := at.job())
        at.write([(1000 * HOUR, 1.0, "a", 1)])
        async with (
            StoreProxy(at.node.url) as proxy,
            clustered(at.node, proxy.url, source=at.source, target=at.target) as dead,
        ):
            hold = Hold(outlives_client=True)
            writing = proxy.on("POST", "/_bulk", fault=hold)
            run = asyncio.ensure_future(dead.run())
            sent = await proxy.caught(writing)
            purging = asyncio.ensure_future(at.store.purge(job.key, job.owner, "me"))
            assert (await purging).documents > 0
            hold.release()
            await proxy.ended(sent)
            assert (await run).outcome != "Completed"
        assert at.documents() == []


async def test_an_index_that_somebody_made_again_keeps_its_documents(opensearch: StoreHttp) -> None:
    async with clustered(opensearch) as at:
        at.write(ROWS)
        await at.completed(job := at.job())
        mapping = at.node.mapping(at.target)
        at.node.delete(at.target)
        at.node.call("PUT", f"/{at.target}", {"mappings": mapping})
        at.node.call("PUT", f"/{at.target}/_doc/1?refresh=true", {"_rollup.id": "job"})
        found = await at.store.retained(job.key)
        assert found == Retained(job.owner, 0)
        purged = await at.store.purge(job.key, job.owner, "me")
        assert "it is not the index that the job wrote to" in (purged.kept or "")
        assert len(at.documents()) == 1
        at.node.delete(at.target)
        await at.completed(replace(job, owner=replace(job.owner, uid="2")))
        agree(at.documents(), truth(ROWS, hour))
