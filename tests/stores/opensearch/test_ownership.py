"""On a real cluster, settling and deletion act on the record and the documents of one job and leave all else alone."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from rollup_operator.model.conditions import Reason
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.base import Settled
from rollup_operator.stores.errors import Fenced, StoreUnavailable
from rollup_operator.stores.opensearch import claims, records
from rollup_operator.stores.opensearch.target import gate
from support.clustered import Clustered, clustered
from support.embedded import Row, agree, truth
from support.rounding import HOUR, hour
from support.store_faults import Answer, Hold
from support.store_http import StoreHttp, unique
from support.store_jobs import taken
from support.store_proxy import StoreProxy
from support.store_steps import on_step

ROWS: list[Row] = [(i * HOUR // 5, float(i % 13), "ab"[i % 2], i % 40) for i in range(200)]


def renamed(of: JobConfig, name: str, uid: str, *, cluster: str = "c", hash_: str = "h") -> JobConfig:
    """The job under the same id and rollup index as another resource has it."""
    return replace(of, owner=replace(of.owner, cluster=cluster, name=name, uid=uid), config_hash=hash_)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollup_operator.stores.opensearch.transport.retry.SECONDS", 1.0)


@pytest.fixture
async def at(opensearch: StoreHttp) -> AsyncIterator[Clustered]:
    async with clustered(opensearch) as made:
        made.write(ROWS)
        yield made


def entries(at: Clustered) -> dict[str, Any]:
    """The jobs that the rollup index names."""
    found: dict[str, Any] = at.node.mapping(at.target)["_meta"]["_rollup"]
    return found


def aliases(at: Clustered) -> set[str]:
    return set(at.node.call("GET", f"/{at.target}/_alias")[at.target]["aliases"])


async def content(at: Clustered, job: JobConfig) -> dict[str, Any]:
    """What the job's record says."""
    record = await claims.read(at.cluster, job.key)
    assert record is not None
    return records.to_document(record)


async def left(at: Clustered, job: JobConfig) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """All that a deletion could take."""
    return await content(at, job), at.documents(), entries(at)


def remade(at: Clustered) -> None:
    """Put another index in the place of the rollup index, with the same documents, as from a snapshot."""
    mapping, aside = at.node.mapping(at.target), unique("aside")
    for source, to in ((at.target, aside), (aside, at.target)):
        at.node.call("PUT", f"/{to}", {"mappings": mapping})
        at.node.refresh(source)
        at.node.copy(source, to)
        at.node.delete(source)


@pytest.mark.parametrize(
    ("name", "uid", "cluster", "hash_", "alive", "whose"),
    [
        ("other", "2", "c", "changed", False, "the job team/job, uid 1, made them"),
        ("other", "2", "c", "h", True, "the job team/job, uid 1, made them"),
        ("job", "2", "c", "changed", False, "an earlier job of the same name, uid 1, made them"),
        ("job", "1", "west", "h", True, "the job team/job of the cluster named 'c', uid 1, made them"),
    ],
    ids=["of a dead job", "of a living job", "of its predecessor", "of another cluster"],
)
async def test_a_refused_job_deletes_nothing(
    at: Clustered, name: str, uid: str, cluster: str, hash_: str, alive: bool, whose: str
) -> None:
    await at.completed(job := at.job())
    before = await left(at, job)
    at.alive = {"1"} if alive else set()
    refused = renamed(job, name, uid, cluster=cluster, hash_=hash_)
    assert (await at.run(refused)).outcome == "Failed"
    settled = await at.store.settle(refused, "me", delete_documents=True)
    assert await left(at, job) == before
    assert whose in (settled.kept or "")
    assert at.target in (settled.kept or "")


@pytest.mark.newest_stores
async def test_a_refused_job_deletes_nothing_on_any_kind_of_cluster(node: StoreHttp) -> None:
    async with clustered(node) as at:
        at.write(ROWS)
        await at.completed(job := at.job())
        before = await left(at, job)
        refused = renamed(job, "other", "2", hash_="changed")
        assert (await at.run(refused)).outcome == "Failed"
        await at.store.settle(refused, "me", delete_documents=True)
        assert await left(at, job) == before
        settled = await at.store.settle(job, "me", delete_documents=True)
        assert settled.kept is None
        assert (at.documents(), entries(at), aliases(at)) == ([], {}, set())


async def test_a_successor_that_went_on_deletes_what_both_made(at: Clustered) -> None:
    await at.completed(job := at.job())
    await at.completed(successor := renamed(job, "job", "2"))
    assert (await at.store.settle(successor, "me", delete_documents=True)).kept is None
    assert at.documents() == []


async def test_an_index_that_was_put_in_the_place_of_the_jobs_is_left_alone(at: Clustered) -> None:
    await at.completed(job := at.job())
    remade(at)
    before = at.documents(), entries(at), aliases(at)
    assert getattr((await at.run(job)).error, "reason", None) is Reason.TARGET_REPLACED
    settled = await at.store.settle(job, "me", delete_documents=True)
    assert (at.documents(), entries(at), aliases(at)) == before
    assert "it is not the index that the job wrote to" in (settled.kept or "")
    # What the condition says to do: the position is gone, and the job begins at the beginning.
    assert settled.claim is not None
    assert settled.claim.position is None
    await at.completed(job)
    agree(at.documents(), truth(ROWS, hour))


async def test_a_successor_whose_predecessors_index_was_replaced_leaves_all_as_it_is(at: Clustered) -> None:
    await at.completed(job := at.job())
    remade(at)
    before = await left(at, job)
    successor = renamed(job, "job", "2")
    result = await at.run(successor)
    assert getattr(result.error, "reason", None) is Reason.TARGET_REPLACED
    assert "deletionPolicy" not in result.message
    settled = await at.store.settle(successor, "me", delete_documents=True)
    assert await left(at, job) == before
    assert "an earlier job of the same name" in (settled.kept or "")


async def test_a_successor_whose_predecessors_index_is_gone_begins_anew_as_it_is_advised(at: Clustered) -> None:
    await at.completed(job := at.job())
    at.node.delete(at.target)
    successor = renamed(job, "job", "2")
    result = await at.run(successor)
    assert getattr(result.error, "reason", None) is Reason.TARGET_MISSING
    assert "set spec.deletionPolicy to Delete" in result.message
    assert (await at.store.settle(successor, "me", delete_documents=True)).kept is None
    await at.completed(renamed(job, "job", "3"))
    agree(at.documents(), truth(ROWS, hour))


async def test_documents_that_were_there_before_the_job_stay(at: Clustered) -> None:
    """As of a rollup job of Elasticsearch's own: our job is refused before it writes, though the record is its own."""
    other = at.job(metrics=[{"field": "value", "metrics": ["max"]}])
    await at.completed(other)
    at.node.delete(records.INDEX)  # so that nobody here knows of that job
    before = at.documents(), entries(at)
    job = at.job()
    assert getattr((await at.run(job)).error, "reason", None) is Reason.CONFIG_CHANGED
    await at.store.settle(job, "me", delete_documents=True)
    assert (at.documents(), entries(at)) == before


async def test_the_entry_of_a_first_run_that_wrote_nothing_goes(at: Clustered) -> None:
    async with StoreProxy(at.node.url) as proxy, clustered(at.node, proxy.url, source=at.source) as faulty:
        on_step(proxy, "commit", fault=Answer(503), times=None)
        await faulty.run(job := faulty.job())
        proxy.heal()
        assert entries(faulty).keys() == {"job"}
        await faulty.store.settle(job, "me", delete_documents=True)
        assert entries(faulty) == {}
        await faulty.completed(replace(job, config_hash="other"))


@pytest.mark.parametrize(
    ("name", "uid", "cluster", "alive", "freed"),
    [
        ("job", "1", "c", False, True),
        ("job", "2", "c", False, True),
        ("job", "1", "west", False, True),
        ("job", "2", "c", True, False),
        ("other", "2", "c", False, False),
        ("other", "2", "c", True, False),
    ],
    ids=["its own", "its predecessor's", "its own by another name of the cluster", "a living namesake's",
         "a dead stranger's", "a living stranger's"],
)  # fmt: skip
@pytest.mark.parametrize("delete", [False, True])
async def test_a_claim_is_taken_from_this_job_alone(
    at: Clustered, name: str, uid: str, cluster: str, alive: bool, freed: bool, delete: bool
) -> None:
    held = await taken(at.cluster, job := at.job(), "dead")
    at.alive = {"1"} if alive else set()
    settled = await at.store.settle(renamed(job, name, uid, cluster=cluster), "me", delete_documents=delete)
    after = await claims.read(at.cluster, job.key)
    assert after is not None
    if freed:
        assert (after.claim.holder, after.claim.epoch > held.claim.epoch) == ("", True)
        assert settled.claim == after.claim
    else:
        assert settled == Settled(None)
        assert records.to_document(after) == records.to_document(held)


async def test_a_refused_job_that_is_stopped_still_may_not_continue(at: Clustered) -> None:
    """Its predecessor died in a run: taking the claim from it in order to settle makes nobody its owner."""
    await at.completed(job := at.job())
    dead = await taken(at.cluster, job, "dead")
    refused = renamed(job, "job", "2", hash_="changed")
    assert getattr((await at.run(refused)).error, "reason", None) is Reason.CONFIG_CHANGED
    await at.store.settle(refused, "me", delete_documents=False)
    after = await claims.read(at.cluster, job.key)
    assert after is not None
    assert (after.claim.holder, after.owner, after.config_hash, after.spec) == ("", dead.owner, "h", dead.spec)
    assert getattr((await at.run(refused)).error, "reason", None) is Reason.CONFIG_CHANGED


@pytest.mark.parametrize("delete", [False, True])
async def test_who_claims_while_another_settles_keeps_claim_and_documents(at: Clustered, delete: bool) -> None:
    await at.completed(job := at.job())
    await taken(at.cluster, job, "dead")
    before = at.documents()
    async with StoreProxy(at.node.url) as proxy, clustered(at.node, proxy.url, target=at.target) as slow:
        hold = Hold()
        evicting = proxy.on("PUT", "/_doc/claim", fault=hold)
        settling = asyncio.ensure_future(slow.store.settle(job, "settler", delete_documents=delete))
        await proxy.caught(evicting)
        next_one = await taken(at.cluster, renamed(job, "other", "2"), "next")
        hold.release()
        await settling
    after = await claims.read(at.cluster, job.key)
    assert after is not None
    assert (after.claim, after.owner) == (next_one.claim, next_one.owner)
    assert at.documents() == before


async def test_a_deletion_that_arrives_after_another_claim_deletes_nothing(at: Clustered) -> None:
    await at.completed(job := at.job())
    before = at.documents()
    async with StoreProxy(at.node.url) as proxy, clustered(at.node, proxy.url, target=at.target) as frozen:
        hold = Hold(outlives_client=True)
        deleting = proxy.on("POST", "/_delete_by_query", fault=hold)
        settling = asyncio.ensure_future(frozen.store.settle(job, "frozen", delete_documents=True))
        await proxy.caught(deleting)
        record = await taken(at.cluster, job, "next")
        hold.release()
        with pytest.raises(Fenced):
            await settling
    assert at.documents() == before
    assert entries(at).keys() == {"job"}
    after = await claims.read(at.cluster, job.key)
    assert after is not None
    assert after.claim == record.claim
    assert gate.gate_name(job.key, record.claim.epoch - 1) not in aliases(at)


@pytest.mark.parametrize("step", ["settle", "claim"])
async def test_a_claim_that_others_keep_changing_is_not_asked_for_without_a_pause(at: Clustered, step: str) -> None:
    await taken(at.cluster, job := at.job(), "dead")
    async with StoreProxy(at.node.url) as proxy, clustered(at.node, proxy.url, target=at.target) as busy:
        proxy.on("PUT", "/_doc/claim", fault=Answer(409), times=None)
        if step == "settle":
            work = asyncio.ensure_future(busy.store.settle(job, "me", delete_documents=False))
        else:
            work = asyncio.ensure_future(busy.store.session(job, "me").claim())
        with pytest.raises(StoreUnavailable, match="another process keeps taking the claim of 'job'") as error:
            await asyncio.wait_for(work, 20)
        assert not error.value.uncertain
        assert 2 <= sum(r.method == "PUT" for r in proxy.requests) <= 8


@pytest.mark.parametrize("before", ["no record", "its own record", "a dead stranger's record"])
@pytest.mark.parametrize("delete", [False, True])
async def test_a_claim_that_was_on_its_way_when_the_job_was_settled_does_not_land(
    at: Clustered, before: str, delete: bool
) -> None:
    """As of a leader that froze as it sent its claim: its successor settles the job, and `stopped` stays true."""
    job = at.job()
    await taken(at.cluster, at.job(job_id="neighbour"))  # there is an index of claims
    if before != "no record":
        await at.completed(job if before == "its own record" else renamed(job, "other", "2"))
    documents = at.documents() if before != "no record" else []
    async with StoreProxy(at.node.url) as proxy, clustered(at.node, proxy.url, target=at.target) as frozen:
        hold = Hold(outlives_client=True)
        claiming = proxy.on("PUT", "/(_create|_doc)/claim", fault=hold)
        late = asyncio.ensure_future(frozen.store.session(job, "frozen").claim())
        sent = await proxy.caught(claiming)
        settled = await at.store.settle(job, "successor", delete_documents=delete)
        assert (settled.claim is not None) == (before == "its own record")
        frozen.cluster.may_run = lambda: False  # it thaws, and learns that it leads no more
        hold.release()
        await proxy.ended(sent)
        with pytest.raises(StoreUnavailable, match="no longer leads"):
            await late
    record = await claims.read(at.cluster, job.key)
    assert record is None or record.claim.holder == ""
    if not (delete and before == "its own record"):
        assert at.documents() == documents if before != "no record" else not at.node.exists(at.target)
    at.alive = set()
    await at.completed(job)
    agree(at.documents(), truth(ROWS, hour))
