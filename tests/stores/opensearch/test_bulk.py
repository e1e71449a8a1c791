"""Bulks into a real cluster: every item verified, failures told apart, and nothing from whoever was taken over."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from rollup_operator.model.conditions import Reason
from rollup_operator.stores.errors import Fenced, IdentityConflict, StoreError, StoreUnavailable
from rollup_operator.stores.opensearch import claims
from rollup_operator.stores.opensearch.preparing import refused
from rollup_operator.stores.opensearch.records import Record
from rollup_operator.stores.opensearch.target.bulk import GateGone, Superseded
from rollup_operator.stores.opensearch.transport.client import Cluster
from rollup_operator.stores.opensearch.transport.errors import DiskFull, IndexBlocked, MappingConflict
from support.store_faults import Answer, CutAfter, CutBefore, CutSent, HalfBulk, Hold
from support.store_http import StoreHttp
from support.store_jobs import batch, connected, ids_of, job, ready, slow_down, taken, write
from support.store_proxy import Exchange, StoreProxy


@pytest.fixture
async def proxy(opensearch: StoreHttp) -> AsyncIterator[StoreProxy]:
    async with StoreProxy(opensearch.url) as made:
        yield made


@pytest.fixture
async def cluster(proxy: StoreProxy) -> AsyncIterator[Cluster]:
    """The way of the job under test, which can go wrong."""
    async with connected(proxy.url) as made:
        yield made


@pytest.fixture
async def straight(opensearch: StoreHttp) -> AsyncIterator[Cluster]:
    """The way of somebody else, which cannot."""
    async with connected(opensearch.url) as made:
        yield made


def sent(proxy: StoreProxy) -> list[int]:
    """How many items each bulk had so far."""
    return [r.body.count(b"\n") // 2 for r in proxy.requests if "/_bulk" in r.target]


def values(opensearch: StoreHttp, record: Record) -> dict[str, float]:
    """What the documents hold, by id."""
    found = opensearch.documents(record.claim.key[0], {"term": {"_rollup.id": record.claim.key[1]}})
    return {id_: source["value.sum.value"] for id_, source in found.items()}


async def at_work(opensearch: StoreHttp, record: Record) -> None:
    """Wait until a request of the record's is at work in the node."""
    await asyncio.to_thread(opensearch.wait, lambda node: node.tasks(record.opaque_id))


async def why(cluster: Cluster, record: Record, error: StoreError) -> StoreError:
    assert isinstance(error, Superseded | GateGone)
    return await refused(cluster, record, error)


async def test_a_page_is_written_in_requests_of_bounded_size(
    cluster: Cluster, proxy: StoreProxy, opensearch: StoreHttp
) -> None:
    cluster.largest_request = 10_000
    record = await ready(cluster, job())
    page = batch(record, 100)
    landed = await write(cluster, record, page)
    assert (landed.sent_again, landed.unclean) == (0, False)
    sizes = [len(r.body) for r in proxy.requests if "/_bulk" in r.target]
    assert len(sizes) > 3
    assert max(sizes) <= 11_000  # items differ a little
    assert sum(sizes) == page.size
    assert set(opensearch.documents(record.claim.key[0])) == set(ids_of(page))


class Narrow:
    """A proxy that lets no request of more bytes through, as many do with a megabyte."""

    outlives_client = False

    def __init__(self, most: int) -> None:
        self.most = most

    async def apply(self, exchange: Exchange) -> None:
        if len(exchange.request.body) > self.most:
            await exchange.say(413, None)
            return
        await exchange.send()
        await exchange.relay()


async def test_what_is_too_long_for_something_on_the_way_goes_in_parts(
    cluster: Cluster, proxy: StoreProxy, opensearch: StoreHttp
) -> None:
    record = await ready(cluster, job())
    proxy.on("POST", "/_bulk", fault=(narrow := Narrow(10_000)), times=None)
    landed = await write(cluster, record, page := batch(record, 100))
    assert not landed.unclean
    assert set(opensearch.documents(record.claim.key[0])) == set(ids_of(page))
    before = len(proxy.requests)
    assert (await write(cluster, record, batch(record, 100))).sent_again == 0  # it is known by now
    assert all(r.status == 200 for r in proxy.requests[before:])
    narrow.most = 10
    with pytest.raises(StoreError, match="413") as caught:
        await write(cluster, record, batch(record, 3))
    assert not caught.value.transient


async def test_only_the_items_that_failed_are_sent_again(
    cluster: Cluster, proxy: StoreProxy, opensearch: StoreHttp
) -> None:
    record = await ready(cluster, job())
    rejected = HalfBulk(status=429, type_="es_rejected_execution_exception", reason="rejected execution of primary")
    proxy.on("POST", "/_bulk", fault=rejected, times=2)
    landed = await write(cluster, record, page := batch(record, 40))
    assert sent(proxy) == [40, 20, 10]
    assert (landed.sent_again, landed.unclean) == (30, False)
    assert set(values(opensearch, record)) == set(ids_of(page))


async def test_an_item_that_a_node_lost_may_still_be_at_work(cluster: Cluster, proxy: StoreProxy) -> None:
    record = await ready(cluster, job())
    for status, kind in ((500, "node_disconnected_exception"), (503, "receive_timeout_transport_exception")):
        proxy.on("POST", "/_bulk", fault=HalfBulk(status=status, type_=kind, reason="disconnected"))
        landed = await write(cluster, record, batch(record, 4))
        assert (landed.sent_again, landed.unclean) == (2, True)


@pytest.mark.parametrize(
    "fault",
    [Answer(429), Answer(503), CutBefore(), CutAfter(), CutSent()],
    ids=["429", "503", "before", "after", "sent"],
)
async def test_a_storm_that_passes_delays_the_page(
    cluster: Cluster, proxy: StoreProxy, opensearch: StoreHttp, fault: Answer | CutAfter
) -> None:
    record = await ready(cluster, job())
    proxy.on("POST", "/_bulk", fault=fault, times=3)
    landed = await write(cluster, record, page := batch(record, 40))
    assert sent(proxy) == [40] * 4
    assert landed.unclean == (not isinstance(fault, Answer))
    assert set(values(opensearch, record)) == set(ids_of(page))
    assert {d["_version"] for id_ in ids_of(page) if (d := opensearch.get(record.claim.key[0], id_))} == {
        record.claim.epoch
    }


async def test_a_storm_that_goes_on_is_reported(
    cluster: Cluster, proxy: StoreProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollup_operator.stores.opensearch.transport.retry.SECONDS", 0.5)
    record = await ready(cluster, job())
    proxy.on("POST", "/_bulk", fault=HalfBulk(status=429, type_="es_rejected_execution_exception"), times=None)
    with pytest.raises(StoreError) as caught:
        await write(cluster, record, batch(record, 40))
    assert (caught.value.reason, caught.value.transient) == (Reason.STORE_OVERLOADED, True)


async def test_an_answer_about_fewer_items_is_no_success(cluster: Cluster, proxy: StoreProxy) -> None:
    record = await ready(cluster, job())
    few = {"errors": False, "items": [{"index": {"status": 200}}]}
    proxy.on("POST", "/_bulk", fault=Answer(200, body=few), times=None)
    with pytest.raises(StoreUnavailable, match="2 documents were sent, and 1 answered for"):
        await write(cluster, record, batch(record, 2))


async def test_a_document_that_does_not_fit_is_named_with_its_field(cluster: Cluster) -> None:
    record = await ready(cluster, job())
    page = batch(record, 1, **{"size.histogram.value": "wide"})
    with pytest.raises(MappingConflict) as caught:
        await write(cluster, record, page)
    assert (caught.value.reason, caught.value.transient) == (Reason.MAPPING_CONFLICT, False)
    assert page.id(0) in str(caught.value)
    assert "size.histogram.value" in str(caught.value)


async def test_a_block_says_whether_it_passes_by_itself(cluster: Cluster, opensearch: StoreHttp) -> None:
    record = await ready(cluster, of := job())
    index, page = of.spec.rollup_index, batch(record, 3)
    opensearch.set_settings(index, **{"index.blocks.read_only_allow_delete": True})
    with pytest.raises(DiskFull) as full:
        await write(cluster, record, page)
    assert (full.value.reason, full.value.transient) == (Reason.DISK_FULL, True)
    opensearch.set_settings(index, **{"index.blocks.read_only_allow_delete": None})
    opensearch.set_settings(index, **{"index.blocks.write": True})
    with pytest.raises(IndexBlocked) as blocked:
        await write(cluster, record, page)
    assert (blocked.value.reason, blocked.value.transient) == (Reason.TARGET_BLOCKED, False)
    opensearch.set_settings(index, **{"index.blocks.write": None})
    opensearch.call("POST", f"/{index}/_close")
    with pytest.raises(IndexBlocked):
        await write(cluster, record, page)
    opensearch.call("POST", f"/{index}/_open", wait_for_active_shards=1)
    await write(cluster, record, page)
    assert opensearch.count(index) == 3


async def test_a_target_that_goes_in_the_middle_is_never_made_anew(cluster: Cluster, opensearch: StoreHttp) -> None:
    record = await ready(cluster, of := job())
    await write(cluster, record, batch(record, 3))
    before = opensearch.indices()
    opensearch.delete(of.spec.rollup_index)
    with pytest.raises(GateGone) as gone:
        await write(cluster, record, batch(record, 3, begin=3))
    assert opensearch.indices() == before - {of.spec.rollup_index}
    meant = await why(cluster, record, gone.value)
    assert isinstance(meant, IdentityConflict)
    assert (meant.reason, meant.transient) == (Reason.TARGET_MISSING, False)
    opensearch.create(of.spec.rollup_index)
    with pytest.raises(GateGone) as gone:
        await write(cluster, record, batch(record, 3, begin=3))
    assert (await why(cluster, record, gone.value)).reason is Reason.TARGET_REPLACED
    assert opensearch.count(of.spec.rollup_index) == 0


async def test_a_gate_that_somebody_removed_is_made_anew_by_the_next_run(
    cluster: Cluster, opensearch: StoreHttp
) -> None:
    record = await ready(cluster, of := job())
    remove = {"remove": {"index": of.spec.rollup_index, "alias": record.gate}}
    opensearch.call("POST", "/_aliases", {"actions": [remove]})
    with pytest.raises(GateGone) as gone:
        await write(cluster, record, batch(record, 3))
    meant = await why(cluster, record, gone.value)
    assert isinstance(meant, StoreUnavailable)
    await claims.release(cluster, record, lost_write=True)
    await write(cluster, again := await ready(cluster, of), batch(again, 3))
    assert len(values(opensearch, again)) == 3


async def test_a_bulk_of_a_frozen_holder_writes_nothing_after_the_take_over(
    cluster: Cluster, straight: Cluster, proxy: StoreProxy, opensearch: StoreHttp
) -> None:
    """Neither over documents that were written anew, nor such as are not there."""
    frozen = await ready(cluster, of := job())
    hold = Hold(outlives_client=True)
    proxy.on("POST", "/_bulk", fault=hold)
    late = asyncio.ensure_future(write(cluster, frozen, batch(frozen, 40)))
    request = await proxy.arrival("POST", "/_bulk")
    new = await ready(straight, of, "new")
    assert new.gate != frozen.gate
    page = batch(new, 20)
    await write(straight, new, page)
    hold.release()
    with pytest.raises(GateGone) as gone:
        await late
    assert request.status == 200  # it did arrive
    assert isinstance(await why(cluster, frozen, gone.value), Fenced)
    assert set(values(opensearch, new)) == set(ids_of(page))
    found = [opensearch.get(of.spec.rollup_index, id_) for id_ in ids_of(page)]
    assert {d["_version"] for d in found if d} == {new.claim.epoch}
    assert await claims.release(cluster, frozen, lost_write=True) is None
    await write(straight, new, batch(new, 20, begin=20))  # the frozen one closed no gate but its own


async def test_documents_of_a_later_epoch_stay(cluster: Cluster, straight: Cluster, opensearch: StoreHttp) -> None:
    """What holds even if both had one gate."""
    old = await ready(cluster, of := job())
    new = await ready(straight, of, "new")
    await write(straight, new, batch(new, 10, **{"value.sum.value": -1.0}))
    with pytest.raises(Superseded, match="document") as superseded:
        await write(cluster, replace(old, gate=new.gate), batch(old, 20))
    assert isinstance(await why(cluster, old, superseded.value), Fenced)
    assert list(values(opensearch, new).values()).count(-1.0) == 10
    answered = await why(straight, new, superseded.value)  # nobody else has a claim
    assert isinstance(answered, StoreUnavailable)
    assert "clock" in str(answered)


async def test_a_bulk_that_was_cut_off_is_waited_for(
    cluster: Cluster, proxy: StoreProxy, opensearch: StoreHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster goes on with it: the claim is released when it has ended."""
    monkeypatch.setattr("rollup_operator.stores.opensearch.transport.retry.SECONDS", 0.0)
    record = await ready(cluster, of := job())
    slow_down(opensearch, of.spec.rollup_index)
    proxy.on("POST", "/_bulk", fault=CutSent())
    with pytest.raises(StoreUnavailable):
        await write(cluster, record, batch(record, 300))
    await at_work(opensearch, record)
    released = await claims.release(cluster, record, lost_write=True)
    assert not opensearch.tasks(record.opaque_id)
    assert sum(r.target.startswith("/_tasks") for r in proxy.requests) > 1
    assert released is not None
    assert (released.claim.holder, released.gate) == ("", None)


async def test_a_take_over_waits_for_what_a_dead_holder_left_at_work(
    cluster: Cluster, straight: Cluster, proxy: StoreProxy, opensearch: StoreHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollup_operator.stores.opensearch.transport.retry.SECONDS", 0.0)
    dead = await ready(cluster, of := job())
    slow_down(opensearch, of.spec.rollup_index)
    proxy.on("POST", "/_bulk", fault=CutSent())
    with pytest.raises(StoreUnavailable):
        await write(cluster, dead, batch(dead, 300))
    await at_work(opensearch, dead)
    # One that took it over and died while it waited does not make the next forget whom to wait for.
    waiting = asyncio.ensure_future(taken(cluster, replace(of, owner=replace(of.owner, uid="2")), "second"))
    await proxy.arrival("GET", "/_tasks")
    waiting.cancel()
    now = await claims.read(straight, of.key)
    assert now is not None
    assert (now.claim.holder, now.awaited) == ("second", ("1",))
    third = await taken(straight, replace(of, owner=replace(of.owner, uid="3")), "third")
    assert not opensearch.tasks(dead.opaque_id)
    assert third.claim.epoch > now.claim.epoch
    count = opensearch.count(of.spec.rollup_index)
    assert opensearch.count(of.spec.rollup_index) == count


async def test_a_cluster_that_cannot_tell_is_not_quiet(cluster: Cluster, straight: Cluster, proxy: StoreProxy) -> None:
    record = await ready(cluster, of := job())
    failed = {"nodes": {}, "node_failures": [{"type": "failed_node_exception", "reason": "Failed node [x]"}]}
    for fault in (Answer(200, body=failed), Answer(500), Answer(403)):
        proxy.on("GET", "/_tasks", fault=fault)
        with pytest.raises(StoreError):
            await claims.release(cluster, record, lost_other=True)
    now = await claims.read(straight, of.key)
    assert now is not None
    assert now.held
    assert await claims.release(cluster, record, lost_other=True) is not None
