"""Claims in a real cluster: compare-and-set, take-over, lost answers, what is listed, what cannot be continued."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from rollup_operator.model.conditions import Reason
from rollup_operator.model.status import JobStats
from rollup_operator.stores.errors import Fenced, IdentityConflict, StoreUnavailable
from rollup_operator.stores.opensearch import claims, records
from rollup_operator.stores.opensearch.records import Record
from rollup_operator.stores.opensearch.transport.client import Cluster
from rollup_operator.stores.opensearch.transport.errors import Unanswered
from support.store_http import StoreHttp
from support.store_jobs import connected, held, job, nobody, taken

POSITION = {"ts.date_histogram": 1_700_000_000_000, "size.histogram": 10.0, "term.terms": "a/b"}


@pytest.fixture
async def cluster(opensearch: StoreHttp) -> AsyncIterator[Cluster]:
    async with connected(opensearch.url) as made:
        yield made


class Losing(Cluster):
    """Loses the answers to the next `lose` requests of a method; `first` runs in between, as somebody else's work."""

    lose: int = 0
    method = "PUT"
    reaches = True

    async def call(self, method: str, path: str, **more: Any) -> Any:
        if method != self.method or self.lose == 0:
            return await super().call(method, path, **more)
        self.lose -= 1
        if self.reaches:
            await super().call(method, path, **more)
        raise Unanswered("cut", sent=True)


async def lossy(cluster: Cluster) -> Losing:
    return Losing(cluster.hosts, cluster.make_session, timeout=cluster.timeout)


async def test_a_claim_is_seen_until_it_is_released(cluster: Cluster) -> None:
    of = job()
    record = await taken(cluster, of)
    assert (record.claim.holder, record.claim.position, record.claim.watermark_ms) == ("me", None, None)
    (found,) = await held(cluster)
    assert (found.claim, found.owner) == (record.claim, of.owner)
    assert await claims.release(cluster, record) is not None
    assert await held(cluster) == []
    assert (await taken(cluster, of)).claim.epoch > record.claim.epoch


async def test_what_is_committed_is_read_back_to_the_letter(cluster: Cluster) -> None:
    of = job(job_id="räder/№ 5 %2F?" + "x" * 480)
    record = await taken(cluster, of)
    stats = JobStats(pages_processed=3, documents_processed=2**40)
    claim = replace(record.claim, position=POSITION, watermark_ms=2**41, stats=stats, page_hint=123.5)
    record = await claims.commit(cluster, replace(record, target="uuid", gate="gate"), claim)
    assert await claims.read(cluster, of.key) == record
    assert record.claim == claim
    assert isinstance(record.claim.position and record.claim.position["size.histogram"], float)
    (known,) = await claims.known(cluster)
    assert (known.key, known.owner, known.has_documents) == (of.key, of.owner, True)
    assert known.spec is not None
    assert known.spec["groups"]["dateHistogram"] == {"field": "ts", "fixedInterval": "1h", "timeZone": "UTC"}


@pytest.mark.newest_stores
async def test_only_one_of_many_takers_at_once_goes_on(cluster: Cluster) -> None:
    of = job()
    ends = await asyncio.gather(*(taken(cluster, of, f"holder {i}") for i in range(8)), return_exceptions=True)
    records = [end for end in ends if isinstance(end, Record)]
    assert all(isinstance(end, Record | Fenced) for end in ends)  # who hears of a later claim in time does not begin
    assert len({r.claim.epoch for r in records}) == len(records)
    last = max(records, key=lambda r: r.claim.epoch)
    for record in records:
        if record is last:
            continue
        with pytest.raises(Fenced, match=last.claim.holder):
            await claims.commit(cluster, record, replace(record.claim, position=POSITION))
        assert await claims.release(cluster, record) is None
    await claims.commit(cluster, last, replace(last.claim, position=POSITION))
    now = await claims.read(cluster, of.key)
    assert now is not None
    assert (now.claim.holder, now.claim.position) == (last.claim.holder, POSITION)


async def test_a_commit_whose_answer_was_lost_is_found_to_have_succeeded(cluster: Cluster) -> None:
    record = await taken(cluster, of := job())
    losing = await lossy(cluster)
    losing.lose = 1
    record = await claims.commit(losing, record, replace(record.claim, position=POSITION))
    assert await claims.read(cluster, of.key) == record
    losing.lose, losing.reaches = 1, False  # this one never arrived: it is sent again
    record = await claims.commit(losing, record, replace(record.claim, watermark_ms=5))
    assert await claims.read(cluster, of.key) == record
    assert record.claim.watermark_ms == 5
    await losing.close()


@pytest.mark.newest_stores
async def test_a_commit_whose_answer_was_lost_is_fenced_after_a_take_over(cluster: Cluster) -> None:
    record = await taken(cluster, of := job())

    class TakenOver(Losing):
        async def call(self, method: str, path: str, **more: Any) -> Any:
            try:
                return await super().call(method, path, **more)
            except Unanswered:
                await taken(cluster, of, "other")
                raise

    losing = TakenOver(cluster.hosts, cluster.make_session)
    losing.lose = 1
    with pytest.raises(Fenced, match="other"):
        await claims.commit(losing, record, replace(record.claim, position=POSITION))
    await losing.close()
    now = await claims.read(cluster, of.key)
    assert now is not None
    assert now.claim.position == POSITION  # it had been carried out before the take-over, which went on from there


async def test_a_claim_or_release_whose_answer_was_lost_is_carried_out(cluster: Cluster) -> None:
    losing = await lossy(cluster)
    losing.lose = 2  # the second is that of the index
    record = await taken(losing, of := job())
    assert await claims.read(cluster, of.key) == record
    losing.lose = 1
    assert await claims.release(losing, record) == await claims.read(cluster, of.key)
    assert await held(cluster) == []
    await losing.close()


async def test_releasing_keeps_what_a_lost_commit_had_come_to(cluster: Cluster) -> None:
    record = await taken(cluster, of := job())
    await claims.commit(cluster, record, replace(record.claim, position=POSITION))  # and never heard of it
    released = await claims.release(cluster, record)
    assert released is not None
    assert (released.claim.holder, released.claim.position) == ("", POSITION)
    assert await claims.read(cluster, of.key) == released


async def test_claims_that_were_removed_are_made_anew_by_a_claim_only(cluster: Cluster, opensearch: StoreHttp) -> None:
    record = await taken(cluster, of := job())
    opensearch.delete(records.INDEX)
    with pytest.raises(Fenced, match="gone"):
        await claims.commit(cluster, record, replace(record.claim, position=POSITION))
    assert await claims.release(cluster, record) is None
    assert not opensearch.exists(records.ALIAS)
    assert await held(cluster) == [] == await claims.known(cluster)
    again = await taken(cluster, of)
    assert again.claim.epoch >= record.claim.epoch  # by the time of the day, not from 1 on
    opensearch.call("POST", "/_aliases", {"actions": [{"remove": {"index": records.INDEX, "alias": records.ALIAS}}]})
    assert (await taken(cluster, of)).claim.epoch > again.claim.epoch


async def test_epochs_begin_with_the_time(cluster: Cluster) -> None:
    record = await claims.take(cluster, of := job(), "me", nobody, now=lambda: 1_800_000_000.7)
    assert record.claim.epoch == 1_800_000_000
    assert (await claims.take(cluster, of, "me", nobody, now=lambda: 1.0)).claim.epoch == 1_800_000_001


async def test_a_record_of_another_living_job_or_configuration_is_not_continued(cluster: Cluster) -> None:
    record = await taken(cluster, of := job())
    other = job(of.spec.rollup_index, uid="2", hash_="other")
    with pytest.raises(IdentityConflict, match="set another") as caught:
        await taken(cluster, other, is_alive=lambda owner: owner.uid == "1")
    assert caught.value.reason is Reason.JOB_ID_TAKEN
    taken_over = await taken(cluster, other)  # nothing was written yet
    assert (taken_over.owner.uid, taken_over.config_hash) == ("2", "other")
    await claims.commit(cluster, taken_over, replace(taken_over.claim, position=POSITION))
    with pytest.raises(IdentityConflict, match="other groups or metrics") as caught:
        await taken(cluster, of)
    assert caught.value.reason is Reason.CONFIG_CHANGED
    moved = replace(other, spec=other.spec.model_copy(update={"index_pattern": "moved"}))
    with pytest.raises(IdentityConflict, match=r"from 'events-\*'") as caught:
        await taken(cluster, moved)
    assert caught.value.reason is Reason.CONFIG_CHANGED
    assert record.claim.epoch < taken_over.claim.epoch


async def test_a_record_whose_index_is_gone_or_another_is_not_continued(
    cluster: Cluster, opensearch: StoreHttp
) -> None:
    record = await taken(cluster, of := job())
    index = opensearch.create(of.spec.rollup_index)
    uuid = opensearch.settings(index)["index.uuid"]
    await claims.release(cluster, await claims.commit(cluster, replace(record, target=uuid), record.claim))
    await claims.release(cluster, await taken(cluster, of))
    opensearch.delete(index)
    with pytest.raises(IdentityConflict, match="deleted") as caught:
        await taken(cluster, of)
    assert caught.value.reason is Reason.TARGET_MISSING
    opensearch.create(index)
    with pytest.raises(IdentityConflict, match="not the one that the job wrote to") as caught:
        await taken(cluster, of)
    assert caught.value.reason is Reason.TARGET_REPLACED
    assert await held(cluster) == []


async def test_runs_that_commit_nothing_are_counted(cluster: Cluster) -> None:
    of = job()
    for runs in range(3):
        record = await taken(cluster, of)
        assert record.failed_runs == runs
        await claims.release(cluster, record)
    record = await taken(cluster, of)
    record = await claims.commit(cluster, record, replace(record.claim, position=POSITION))
    await claims.release(cluster, record)
    assert (await taken(cluster, of)).failed_runs == 0


async def test_a_thousand_claims_are_listed_in_order(cluster: Cluster) -> None:
    async def one(i: int) -> Record:
        return await taken(cluster, job(f"rolled-{i % 7}", job_id=f"job-{i:04}"))

    for begin in range(0, 1020, 60):
        await asyncio.gather(*(one(i) for i in range(begin, begin + 60)))
    known = [k.key for k in await claims.known(cluster)]
    assert known == sorted((f"rolled-{i % 7}", f"job-{i:04}") for i in range(1020))


async def test_a_cluster_that_is_away_is_unavailable(opensearch: StoreHttp) -> None:
    async with connected("http://127.0.0.1:1") as nowhere:
        with pytest.raises(StoreUnavailable):
            await taken(nowhere, job())
        with pytest.raises(StoreUnavailable):
            await claims.known(nowhere)
