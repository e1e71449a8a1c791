"""Settling a job in a real cluster: whoever held it is shut out, and its documents go with it where that is asked."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import quote, urlsplit

import pytest

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.status import JobStats
from rollup_operator.stores.base import Claim
from rollup_operator.stores.errors import Fenced, StoreError, StoreUnavailable
from rollup_operator.stores.opensearch import claims, records
from rollup_operator.stores.opensearch.preparing import publish, refused
from rollup_operator.stores.opensearch.records import Record
from rollup_operator.stores.opensearch.settling import settle
from rollup_operator.stores.opensearch.target import deletion
from rollup_operator.stores.opensearch.target.bulk import GateGone
from rollup_operator.stores.opensearch.transport.client import Cluster
from rollup_operator.stores.opensearch.transport.errors import DiskFull, IndexBlocked, Overloaded
from support.store_faults import Answer, CutSent, Hold
from support.store_http import StoreHttp, unique
from support.store_jobs import batch, connected, held, job, nobody, ready, slow_down, taken, write
from support.store_proxy import StoreProxy


@pytest.fixture
async def cluster(opensearch: StoreHttp) -> AsyncIterator[Cluster]:
    async with connected(opensearch.url) as made:
        yield made


async def written(cluster: Cluster, of: records.JobConfig, count: int = 20) -> Record:
    """A page of a job, committed."""
    record = await ready(cluster, of)
    await write(cluster, record, batch(record, count))
    position = {"ts.date_histogram": count - 1, "size.histogram": 10.0, "term.terms": "a"}
    claim = replace(record.claim, position=position, watermark_ms=5, stats=JobStats(rollups_indexed=count))
    return await claims.commit(cluster, record, claim)


async def settled(cluster: Cluster, of: records.JobConfig, *, delete: bool = False) -> Claim | None:
    return (await settle(cluster, of, "settler", nobody, delete_documents=delete)).claim


FULL = "index.blocks.read_only_allow_delete"
"""What a cluster sets on all indices of a node whose disk is nearly full."""


@pytest.mark.parametrize("delete", [False, True])
async def test_a_full_disk_holds_up_neither_a_stop_nor_a_deletion_that_makes_room(
    cluster: Cluster, opensearch: StoreHttp, delete: bool
) -> None:
    await written(cluster, of := job())
    index, other = of.spec.rollup_index, opensearch.create(unique("other"))
    for each in (records.INDEX, index, other):
        opensearch.set_settings(each, **{FULL: True})
    claim = await settled(cluster, of, delete=delete)
    assert claim is not None
    assert (claim.holder, claim.position is None) == ("", delete)
    assert opensearch.count(index) == (0 if delete else 20)
    assert opensearch.settings(other)[FULL] == "true"


async def test_a_full_disk_is_named_where_the_block_may_not_be_lifted(cluster: Cluster, opensearch: StoreHttp) -> None:
    await written(cluster, of := job())
    opensearch.set_settings(records.INDEX, **{FULL: True})
    async with StoreProxy(opensearch.url) as proxy, connected(proxy.url) as watched:
        proxy.on("PUT", "_settings", fault=Answer(403))
        with pytest.raises(DiskFull, match="recording the claim"):
            await settled(watched, of)


async def test_a_full_disk_unblocks_no_index_that_is_not_the_jobs(cluster: Cluster, opensearch: StoreHttp) -> None:
    await written(cluster, of := job())
    index = of.spec.rollup_index
    opensearch.delete(index)
    opensearch.create(index)
    for each in (records.INDEX, index):
        opensearch.set_settings(each, **{FULL: True})
    assert await settled(cluster, of, delete=True) is not None
    assert opensearch.settings(index)[FULL] == "true"


async def test_a_dead_holder_is_shut_out_and_the_position_stays(cluster: Cluster, opensearch: StoreHttp) -> None:
    dead = await written(cluster, of := job())
    claim = await settled(cluster, of)
    assert claim is not None
    assert (claim.holder, claim.position) == ("", dead.claim.position)
    assert claim.epoch > dead.claim.epoch
    assert await held(cluster) == []
    with pytest.raises(Fenced, match="nobody"):
        await claims.commit(cluster, dead, dead.claim)
    with pytest.raises(GateGone) as gone:
        await write(cluster, dead, batch(dead, 5, begin=20))
    assert isinstance(await refused(cluster, dead, gone.value), Fenced)
    assert opensearch.count(of.spec.rollup_index) == 20
    assert await settled(cluster, of) == claim  # nothing is left to do, and nothing changes
    again = await ready(cluster, of)
    await write(cluster, again, batch(again, 5, begin=20))
    assert opensearch.count(of.spec.rollup_index) == 25


@pytest.mark.parametrize("spoilt", [{"epoch": "soon"}, {"owner": "me"}, {"job_id": "another"}])
async def test_a_record_that_no_operator_wrote_is_named_and_keeps_the_job_from_reading_stopped(
    cluster: Cluster, opensearch: StoreHttp, spoilt: dict[str, object]
) -> None:
    """Who holds the claim stood in it, and may still be at work."""
    dead = await written(cluster, of := job())
    path = f"/{records.ALIAS}/_doc/{quote(id_ := records.document_id(of.key), safe='')}"
    opensearch.call("PUT", path, {**records.to_document(dead), **spoilt}, refresh=True)
    for delete in (False, True):
        with pytest.raises(
            StoreUnavailable, match=f"^no operator wrote document '{re.escape(id_)}' of {records.ALIAS}: "
        ):
            await settled(cluster, of, delete=delete)
    assert opensearch.count(of.spec.rollup_index) == 20
    opensearch.call("DELETE", path, refresh=True)  # as the message says
    assert await settled(cluster, of) is None


async def test_what_is_not_there_or_another_living_jobs_is_left_alone(cluster: Cluster) -> None:
    assert await settled(cluster, job(), delete=True) is None
    mine = await written(cluster, of := job())
    other = replace(of, owner=replace(of.owner, uid="2"))
    left = await settle(cluster, other, "settler", lambda o: o.uid == "1", delete_documents=True)
    assert left.claim is None
    assert "uid 1, made them" in (left.kept or "")
    after = await claims.read(cluster, of.key)
    assert after is not None
    assert records.to_document(after) == records.to_document(mine)


async def test_with_the_documents_go_position_and_entry_but_not_the_epoch(
    cluster: Cluster, opensearch: StoreHttp
) -> None:
    record = await written(cluster, of := job())
    index = of.spec.rollup_index
    neighbour = await written(cluster, job(index, job_id="job-2"))
    await claims.release(cluster, record)
    claim = await settled(cluster, of, delete=True)
    assert claim is not None
    assert (claim.holder, claim.position, claim.watermark_ms, claim.stats) == ("", None, None, JobStats())
    assert claim.epoch > record.claim.epoch
    assert opensearch.mapping(index)["_meta"]["_rollup"].keys() == {"job-2"}
    assert {d["_rollup.id"] for d in opensearch.documents(index).values()} == {"job-2"}
    await write(cluster, neighbour, batch(neighbour, 5, begin=20))  # whose gate is another
    (known,) = [k for k in await claims.known(cluster) if k.key == of.key]
    assert not known.has_documents
    # Another configuration may follow now, with the same ids over what was deleted just now.
    again = await written(cluster, replace(of, config_hash="other"))
    assert again.claim.epoch > claim.epoch
    assert opensearch.count(index, {"term": {"_rollup.id": "job"}}) == 20


async def test_documents_go_whatever_the_spec_says_by_then(cluster: Cluster, opensearch: StoreHttp) -> None:
    record = await written(cluster, of := job())
    await claims.release(cluster, record)
    unread = RollupJobSpec.model_validate(
        {"indexPattern": "-", "cron": "-", "rollupIndex": of.key[0], "groups": {"dateHistogram": {"field": "-"}}}
    )
    claim = await settled(cluster, replace(of, spec=unread, config_hash="unread"), delete=True)
    assert claim is not None
    assert claim.position is None
    assert opensearch.count(of.key[0]) == 0


async def test_very_many_documents_are_deleted_in_bounded_requests(
    cluster: Cluster, opensearch: StoreHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(deletion._BY_QUERY, "max_docs", "300")
    monkeypatch.setattr(deletion, "_AT_ONCE", 300)
    await written(cluster, of := job(), 1000)
    await settled(cluster, of, delete=True)
    assert opensearch.count(of.spec.rollup_index) == 0


async def test_an_index_that_is_gone_or_something_else_has_nothing_to_delete(
    cluster: Cluster, opensearch: StoreHttp
) -> None:
    await written(cluster, of := job())
    opensearch.delete(of.spec.rollup_index)
    claim = await settled(cluster, of, delete=True)
    assert claim is not None
    assert claim.position is None
    await written(cluster, of)  # and may be made anew now
    opensearch.delete(of.spec.rollup_index)
    other = opensearch.create(unique("other"))
    opensearch.call("POST", "/_aliases", {"actions": [{"add": {"index": other, "alias": of.spec.rollup_index}}]})
    assert await settled(cluster, of, delete=True) is not None
    assert opensearch.exists(other)


async def test_deleting_goes_on_where_it_could_not(cluster: Cluster, opensearch: StoreHttp) -> None:
    record = await written(cluster, of := job())
    opensearch.set_settings(of.spec.rollup_index, **{"index.blocks.write": True})
    with pytest.raises(IndexBlocked):
        await settled(cluster, of, delete=True)
    now = await claims.read(cluster, of.key)
    assert now is not None
    # Forgotten first: a job that is created now begins at the beginning. Where the documents are is still known.
    assert (now.claim.position, now.target) == (None, record.target)
    opensearch.set_settings(of.spec.rollup_index, **{"index.blocks.write": None})
    assert await settled(cluster, of, delete=True) is not None
    assert opensearch.count(of.spec.rollup_index) == 0
    assert await held(cluster) == []


async def test_settling_that_failed_midway_is_done_by_the_next(cluster: Cluster, opensearch: StoreHttp) -> None:
    async with StoreProxy(opensearch.url) as proxy, connected(proxy.url) as faulty:
        dead = await written(faulty, of := job())
        slow_down(opensearch, of.spec.rollup_index)
        proxy.on("POST", "/_bulk", fault=CutSent())
        lost = asyncio.ensure_future(write(faulty, dead, batch(dead, 200, begin=20)))
        await asyncio.to_thread(opensearch.wait, lambda node: node.tasks(dead.opaque_id))
        lost.cancel()
        proxy.on("GET", "/_tasks", fault=Answer(500))
        with pytest.raises(StoreError):
            await settled(faulty, of)
        (found,) = await held(cluster)
        assert found.claim.holder == "settler"
        claim = await settled(faulty, of)
        assert claim is not None
        assert claim.holder == ""
        assert not opensearch.tasks(dead.opaque_id)


async def test_a_cluster_that_never_has_room_for_a_claim_is_not_asked_for_ever(
    opensearch: StoreHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollup_operator.stores.opensearch.transport.retry.SECONDS", 0.5)
    async with StoreProxy(opensearch.url) as proxy, connected(proxy.url) as faulty:
        await written(faulty, of := job())
        proxy.on("PUT", "/_doc/claim", fault=Answer(429), times=None)
        async with asyncio.timeout(20):
            with pytest.raises(Overloaded):
                await settled(faulty, of)


@pytest.mark.newest_stores
async def test_a_whole_life_on_every_kind_of_cluster(node: StoreHttp) -> None:
    """Claim, write, be taken over while a bulk is held up, settle with the documents, begin anew."""
    async with StoreProxy(node.url) as proxy, connected(proxy.url) as frozen, connected(node.url) as straight:
        old = await written(frozen, of := job())
        index = of.spec.rollup_index
        hold = Hold(outlives_client=True)
        proxy.on("POST", "/_bulk", fault=hold)
        late = asyncio.ensure_future(write(frozen, old, batch(old, 30, begin=10)))
        await proxy.arrival("POST", "/_bulk", nth=2)
        new = await ready(straight, of, "new")
        assert new.claim.position == old.claim.position
        await write(straight, new, batch(new, 5, begin=20))
        hold.release()
        with pytest.raises(GateGone) as gone:
            await late
        assert isinstance(await refused(frozen, old, gone.value), Fenced)
        await publish(straight, new)
        assert node.search(index, {"size": 0, "track_total_hits": True})["hits"]["total"]["value"] == 25
        assert node.mapping(index)["_meta"]["_rollup"].keys() == {"job"}
        slow_down(node, index)
        proxy.on("POST", "/_bulk", fault=CutSent())
        again = await taken(frozen, of, "again")
        await claims.release(frozen, again)
        newest = await ready(frozen, of, "newest")
        lost = asyncio.ensure_future(write(frozen, newest, batch(newest, 200, begin=25)))
        await asyncio.to_thread(node.wait, lambda n: n.tasks(newest.opaque_id))
        lost.cancel()
        released = await claims.release(frozen, newest, lost_write=True)
        assert released is not None
        assert not node.tasks(newest.opaque_id)
        assert (await settled(straight, of, delete=True)) is not None
        assert node.count(index) == 0
        assert [k.has_documents for k in await claims.known(straight)] == [False]
        node.set_settings(index, **{"index.final_pipeline": None})
        fresh = await written(straight, of)
        assert fresh.claim.epoch > newest.claim.epoch
        assert node.count(index) == 20
        node.delete(index)
        with pytest.raises(GateGone) as gone:
            await write(straight, fresh, batch(fresh, 5))
        assert not node.exists(index)
        assert (await refused(straight, fresh, gone.value)).reason == "TargetMissing"


async def test_publishing_before_anything_was_written_is_nothing(cluster: Cluster) -> None:
    await publish(cluster, await taken(cluster, job()))
    async with connected("http://127.0.0.1:1") as nowhere:
        with pytest.raises(StoreUnavailable):
            await settled(nowhere, job())


@pytest.mark.newest_stores
async def test_a_bulk_that_a_frozen_holder_has_sent_half_of_holds_nobody_up(
    cluster: Cluster, opensearch: StoreHttp
) -> None:
    frozen = await ready(cluster, of := job(), "frozen")
    body = b"".join(batch(frozen, 50).items)
    lines = (
        f"POST /{frozen.gate}/_bulk?require_alias=true HTTP/1.1",
        "Host: node",
        f"X-Opaque-Id: {frozen.opaque_id}",
        "Content-Type: application/x-ndjson",
        f"Content-Length: {len(body)}",
    )
    url = urlsplit(opensearch.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode() + body[: len(body) // 2])
    await writer.drain()
    if opensearch.kind == "elasticsearch9":  # the only one that shows it
        shown = "bulk_session_timeout_tracking_action"
        await asyncio.to_thread(opensearch.wait, lambda node: node.tasks(frozen.opaque_id, actions=shown))
    await asyncio.wait_for(settled(cluster, of), 5)
    writer.write(body[len(body) // 2 :])
    assert b" 200 " in await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    await writer.wait_closed()
    assert opensearch.count(of.spec.rollup_index) == 0
