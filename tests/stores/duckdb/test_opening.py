"""A stop while a database file is being opened or closed for somebody else; and files that an earlier operator had."""

import asyncio
from pathlib import Path

import duckdb
import pytest

from rollup_operator.model.status import Outcome
from rollup_operator.stores.duckdb import Budget
from rollup_operator.stores.duckdb.database.budget import LEAST_MEMORY
from rollup_operator.stores.duckdb.database.database import Database
from support.embedded import Embedded, config

SECONDS = 20.0
"""For what should take some milliseconds, while what it must not wait for goes on."""


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    return Embedded(tmp_path)


def lies_with_users(embedded: Embedded) -> None:
    """Let the file have to be taken over, which can be held up."""
    with duckdb.connect(str(embedded.folder / embedded.database)) as db:
        db.execute("CREATE TABLE rows AS SELECT TIMESTAMP '2020-01-01' AS ts, 1.0 AS value, 'a' AS term, 1 AS size")


async def test_a_stop_waits_for_no_opening_that_another_run_began(embedded: Embedded) -> None:
    lies_with_users(embedded)
    first, second = embedded.make_run(config(job_id="first")), embedded.make_run(config(job_id="second"))
    with embedded.budget.inspections.turn_of("team", lambda: False):  # another file of the namespace takes long
        one, two = asyncio.ensure_future(first.index()), asyncio.ensure_future(second.index())
        await asyncio.sleep(0.2)
        second.halt()
        result = await asyncio.wait_for(asyncio.shield(two), SECONDS)
        assert (result.outcome, result.claim) == (Outcome.HALTED, None)
        assert not one.done()
    assert (await one).outcome == Outcome.COMPLETED


async def test_a_stop_waits_for_no_others_who_wait_for_an_opening(embedded: Embedded) -> None:
    """For instance all jobs of a store that an operator settles when it begins."""
    lies_with_users(embedded)
    run, store = embedded.make_run(config()), embedded.store()
    with embedded.budget.inspections.turn_of("team", lambda: False):
        task = asyncio.ensure_future(run.index())
        await asyncio.sleep(0.1)
        jobs = [config(job_id=f"job{i}") for i in range(200)]
        others = [asyncio.ensure_future(store.settle(job, "me", delete_documents=False)) for job in jobs]
        await asyncio.sleep(0.2)
        run.halt()
        await asyncio.wait_for(asyncio.shield(task), SECONDS)
    async with asyncio.timeout(2 * SECONDS):
        assert {settled.claim for settled in await asyncio.gather(*others)} == {None}
    await store.close()


async def test_a_stop_leaves_the_opening_that_its_run_began_to_others_who_wait_for_it(embedded: Embedded) -> None:
    lies_with_users(embedded)
    first, second = embedded.make_run(config(job_id="first")), embedded.make_run(config(job_id="second"))
    with embedded.budget.inspections.turn_of("team", lambda: False):
        one = asyncio.ensure_future(first.index())
        await asyncio.sleep(0.1)
        two = asyncio.ensure_future(second.index())
        await asyncio.sleep(0.1)
        first.halt()
        result = await asyncio.wait_for(asyncio.shield(one), SECONDS)
        assert (result.outcome, result.claim) == (Outcome.HALTED, None)
        assert not two.done()
    assert (await two).outcome == Outcome.COMPLETED


async def test_a_file_is_closed_with_its_store_although_it_was_just_being_opened(embedded: Embedded) -> None:
    lies_with_users(embedded)
    store = embedded.store()
    with embedded.budget.inspections.turn_of("team", lambda: False):
        checking = asyncio.ensure_future(store.check())
        await asyncio.sleep(0.1)
    await store.close()
    assert not embedded.base.is_open
    await asyncio.wait({checking})
    async with asyncio.timeout(SECONDS):
        while embedded.budget.places.taken:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)


def test_an_operator_that_begins_anew_in_its_process_shares_nothing_with_the_one_before(tmp_path: Path) -> None:
    kept: list[Database] = []  # as long as nobody collects the garbage

    async def live() -> None:
        budget = Budget(4 * LEAST_MEMORY)
        databases = [Embedded(tmp_path, budget=budget, database=f"{name}.duckdb").base for name in ("one", "other")]
        kept.extend(databases)
        assert [database.budget for database in databases] == [budget] * 2
        async with asyncio.timeout(SECONDS):
            lane, _ = await databases[0].lane(), budget.places.take_now("another namespace")
            waiting = [asyncio.create_task(databases[1].lane()) for _ in range(2)]
            await asyncio.sleep(0.05)
            assert budget.places.waiting == 1
            await asyncio.to_thread(databases[0].leave, lane)
            for opened in await asyncio.gather(*waiting):
                await asyncio.to_thread(databases[1].leave, opened)

    for _ in range(2):
        asyncio.run(live())
        for database in kept:
            database.close_if_idle()


async def test_a_file_is_open_once_although_the_operator_before_has_not_closed_it(embedded: Embedded) -> None:
    before, store = Embedded(embedded.root).base, embedded.store()
    lane = await before.lane()
    checking = asyncio.ensure_future(store.check())
    await asyncio.wait({checking}, timeout=0.2)
    assert not checking.done()
    assert not embedded.base.is_open
    await asyncio.to_thread(before.leave, lane)
    async with asyncio.timeout(SECONDS):
        await checking
    assert not before.is_open
    await store.close()
