"""Settling and deletion act on the records of one job and leave everything else alone."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rollup_operator.model.conditions import Reason
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.base import Claim
from rollup_operator.stores.duckdb import DuckDBStore, claims
from rollup_operator.stores.duckdb.claims import ClaimRow
from rollup_operator.stores.duckdb.database.database import Database
from rollup_operator.stores.duckdb.session import Ahead
from rollup_operator.stores.errors import Fenced, StoreUnavailable
from support.embedded import Embedded, agree, config, spec, truth
from support.rounding import HOUR, hour, ms
from support.store_turns import nobody_writes, waits_to_write

SPAN = Span(0, ms("2030-01-01T00:00"))
ROWS = [(ms("2024-03-01T00:00") + i * HOUR // 7, float(i % 13), "ab"[i % 2], i % 40) for i in range(700)]
JOB = config(spec("in/rows.parquet"))


def renamed(of: JobConfig, name: str, uid: str, *, cluster: str = "c", hash_: str = "h") -> JobConfig:
    """The job under the same id and rollup index as another resource has it."""
    return replace(of, owner=replace(of.owner, cluster=cluster, name=name, uid=uid), config_hash=hash_)


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    made = Embedded(tmp_path)
    made.write("in/rows.parquet", ROWS)
    return made


def database(embedded: Embedded) -> Database:
    return embedded.base


async def record(embedded: Embedded) -> ClaimRow | None:
    """The job's record."""
    lane = await database(embedded).lane()
    try:
        return await lane.run("reading", lambda lane: claims.read(lane, JOB.key), interruptible=False)
    finally:
        await asyncio.to_thread(database(embedded).leave, lane)


async def left(embedded: Embedded) -> tuple[ClaimRow | None, list[dict[str, object]]]:
    """All that a deletion could take: the record, whatever its epoch, and the documents as they were exported."""
    found = await record(embedded)
    if found is not None:
        found = replace(found, claim=replace(found.claim, epoch=0))
    return found, embedded.documents(JOB)


async def hold(store: DuckDBStore, of: JobConfig, holder: str = "dead") -> Claim:
    """Claim a job and never release it, like a process that dies."""
    session = store.session(of, holder)
    claim = await session.claim()
    await session.close()
    return claim


@pytest.mark.parametrize(
    ("refused", "alive", "whose"),
    [
        (renamed(JOB, "other", "2", hash_="changed"), set(), "team/job"),
        (renamed(JOB, "other", "2"), {"1"}, "team/job"),
        (renamed(JOB, "job", "2", hash_="changed"), set(), "an earlier job of the same name"),
        (renamed(JOB, "job", "1", cluster="west"), {"1"}, "of the cluster named 'c'"),
    ],
    ids=["of a dead job", "of a living job", "of its predecessor", "of another cluster"],
)
async def test_a_refused_job_deletes_nothing(
    embedded: Embedded, refused: JobConfig, alive: set[str], whose: str
) -> None:
    await embedded.completed(JOB)
    before = await left(embedded)
    embedded.alive = alive
    store = embedded.store()
    result = await embedded.run(refused, store=store)
    assert result.outcome == "Failed", result
    settled = await store.settle(refused, "me", delete_documents=True)
    assert await left(embedded) == before
    assert settled.kept is not None
    assert whose in settled.kept
    assert "uid 1" in settled.kept
    await store.close()


async def test_a_refused_job_whose_documents_are_gone_leaves_the_record(embedded: Embedded) -> None:
    await embedded.completed(JOB)
    before = await left(embedded)
    assert before[0] is not None
    assert before[0].target is not None
    lane = await database(embedded).lane()
    await asyncio.to_thread(lane.execute, f"DROP TABLE {claims.table(before[0].target)}")
    await asyncio.to_thread(database(embedded).leave, lane)
    store = embedded.store()
    result = await embedded.run(successor := renamed(JOB, "job", "2"), store=store)
    assert getattr(result.error, "reason", None) is Reason.TARGET_REPLACED
    await store.settle(successor, "me", delete_documents=True)
    assert await left(embedded) == before
    await store.close()


async def test_who_deletes_nothing_gets_no_report_that_something_was_kept(embedded: Embedded) -> None:
    store = embedded.store()
    await hold(store, JOB)
    assert (await store.settle(renamed(JOB, "other", "2"), "me", delete_documents=True)).kept is None
    await embedded.completed(JOB, store=store)
    assert (await store.settle(renamed(JOB, "other", "2"), "me", delete_documents=False)).kept is None
    assert (await store.settle(JOB, "me", delete_documents=True)).kept is None
    await store.close()


async def test_a_successor_that_went_on_deletes_what_both_made(embedded: Embedded) -> None:
    await embedded.completed(JOB)
    store = embedded.store()
    await embedded.completed(successor := renamed(JOB, "job", "2"), store=store)
    settled = await store.settle(successor, "me", delete_documents=True)
    assert settled.claim is not None
    assert settled.claim.position is None
    assert not embedded.export(JOB).exists()
    await store.close()


@pytest.mark.parametrize(
    ("settler", "alive", "freed"),
    [
        (JOB, set(), True),
        (renamed(JOB, "job", "2", hash_="changed"), set(), True),
        (renamed(JOB, "job", "1", cluster="west"), set(), True),
        (renamed(JOB, "job", "2"), {"1"}, False),
        (renamed(JOB, "other", "2"), set(), False),
        (renamed(JOB, "other", "2"), {"1"}, False),
    ],
    ids=["its own", "its predecessor's", "its own by another name of the cluster", "a living namesake's",
         "a dead stranger's", "a living stranger's"],
)  # fmt: skip
@pytest.mark.parametrize("delete", [False, True])
async def test_a_claim_is_taken_from_this_job_alone(
    embedded: Embedded, settler: JobConfig, alive: set[str], freed: bool, delete: bool
) -> None:
    store = embedded.store()
    claim = await hold(store, JOB)
    embedded.alive = alive
    settled = await store.settle(settler, "me", delete_documents=delete)
    after = await record(embedded)
    assert after is not None
    assert (after.claim.holder, after.claim.epoch > claim.epoch) == (("", True) if freed else ("dead", False))
    assert (after.owner, after.config_hash) == (JOB.owner, JOB.config_hash)
    assert settled.claim == (after.claim if freed else None)
    await store.close()


@pytest.mark.parametrize("delete", [False, True])
async def test_who_claims_while_another_settles_keeps_claim_and_documents(embedded: Embedded, delete: bool) -> None:
    await embedded.completed(JOB)
    store = embedded.store()
    await hold(store, JOB)
    next_one = renamed(JOB, "other", "2")
    with nobody_writes(database(embedded)) as lane:
        settling = asyncio.ensure_future(store.settle(JOB, "me", delete_documents=delete))
        await waits_to_write(database(embedded), "settling")
        taken = await asyncio.to_thread(claims.take, lane, JOB.key, "next", next_one.owner, next_one.config_hash, "{}")
    await settling
    after = await record(embedded)
    assert after is not None
    assert (after.claim, after.owner) == (taken.claim, next_one.owner)
    agree(embedded.documents(JOB), truth(ROWS, hour))
    await store.close()


async def test_an_export_that_was_under_way_does_not_come_after_the_deletion(embedded: Embedded) -> None:
    store = embedded.store()
    session = store.session(JOB, "slow")
    claim = await session.claim()
    await session.describe(claim, SPAN)
    page = await session.read(claim, SPAN)
    claim = await session.write(claim, page)
    with nobody_writes(database(embedded)) as lane:
        exporting = asyncio.ensure_future(session.publish(claim))
        async with asyncio.timeout(10):
            while not any(p.stat().st_size for p in embedded.results.iterdir()):  # noqa: ASYNC110 - it announces nothing
                await asyncio.sleep(0)
        await asyncio.to_thread(claims.evict, lane, JOB.key)
    with pytest.raises(Fenced):
        await exporting
    assert list(embedded.results.iterdir()) == []
    await session.close()
    await store.close()


async def test_no_claim_lands_after_its_job_was_settled(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    await embedded.completed(JOB)
    before = await record(embedded)
    store = embedded.store()
    session = store.session(JOB, "predecessor")
    commit = session._commit

    async def settle_first(what: str, work: Any) -> Any:
        await store.settle(renamed(JOB, "job", "2"), "me", delete_documents=False)
        return await commit(what, work)

    monkeypatch.setattr(session, "_commit", settle_first)
    with pytest.raises(Fenced):
        await session.claim()
    after = await record(embedded)
    assert before is not None
    assert after is not None
    assert not after.held
    assert (after.revision, after.exported) == (before.revision, before.exported), "nothing is exported again"
    await session.close()
    await store.close()


async def test_no_file_is_open_once_its_store_is_closed_under_a_call(embedded: Embedded) -> None:
    store = embedded.store()
    count = "SELECT count(*) FROM range(3000000000)"
    call = asyncio.create_task(
        store._with_lane("counting", lambda lane: lane.execute(count), [], make=True, interruptible=True)
    )
    async with asyncio.timeout(10):
        while not database(embedded).is_open:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0)
    await store.close()
    assert not database(embedded).is_open
    with pytest.raises(StoreUnavailable, match="closed"):
        await call


async def test_no_file_is_opened_by_a_call_under_which_its_store_is_closed(embedded: Embedded) -> None:
    store = embedded.store()
    with database(embedded)._state:  # the file is about to be opened
        call = asyncio.create_task(store._with_lane("opening", lambda lane: lane.execute("SELECT 1"), [], make=True))
        await asyncio.sleep(0)
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
    await closing
    assert not database(embedded).is_open
    await asyncio.gather(call, return_exceptions=True)  # it may have had its answer before
    assert not database(embedded).is_open


async def test_a_session_whose_closing_is_cancelled_leaves_no_lane_open(embedded: Embedded) -> None:
    store = embedded.store()
    session = store.session(JOB, "me")
    await session.claim()
    ending, may_end = asyncio.Event(), asyncio.Event()

    async def reading_ahead() -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await may_end.wait()

    session._ahead = Ahead(None, asyncio.ensure_future(reading_ahead()))
    await asyncio.sleep(0)
    closing = asyncio.create_task(session.close())
    await ending.wait()
    closing.cancel()
    may_end.set()
    await asyncio.gather(closing, return_exceptions=True)
    assert not database(embedded)._lanes
    await store.close()
