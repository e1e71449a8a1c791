"""A stop where too many databases are open: a run that waits for a place ends, and settling waits for none."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rollup_operator.model.status import Outcome
from rollup_operator.stores.duckdb import Budget
from rollup_operator.stores.duckdb.database.budget import LEAST_MEMORY
from support.embedded import Embedded, config

SECONDS = 5.0
"""For what should take some milliseconds."""


@pytest.fixture
async def crowded(tmp_path: Path) -> AsyncIterator[Embedded]:
    """A store where a dead process has left its claim, and whose database finds no place: another one is open."""
    budget = Budget(4 * LEAST_MEMORY)
    other = Embedded(tmp_path, budget=budget, database="other.duckdb")
    here = Embedded(tmp_path, budget=budget)
    session = here.store().session(config(), "a dead one")
    await session.claim()
    await session.close()
    await asyncio.to_thread(here.base.close_if_idle)
    await all_closed(budget)
    lane = await other.base.lane()
    yield here
    await asyncio.to_thread(other.base.leave, lane)
    await asyncio.to_thread(other.base.close_if_idle)
    await all_closed(budget)


async def all_closed(budget: Budget) -> None:
    async with asyncio.timeout(SECONDS):
        while budget.places.taken or budget.spare.taken:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)


async def test_a_run_that_waits_for_a_place_stops_at_once(crowded: Embedded) -> None:
    run = crowded.make_run(config())
    task = asyncio.ensure_future(run.index())
    await until_crowded(crowded)
    run.halt()
    async with asyncio.timeout(SECONDS):
        result = await task
    assert (result.outcome, result.released, result.claim) == (Outcome.HALTED, None, None)
    assert "before it claimed" in result.message


async def test_settling_waits_for_no_place(crowded: Embedded) -> None:
    waiting = asyncio.ensure_future(crowded.make_run(config(job_id="another")).index())
    await until_crowded(crowded)
    async with asyncio.timeout(SECONDS):
        settled = await crowded.store().settle(config(), "me", delete_documents=False)
    assert settled.claim is not None
    assert not settled.claim.holder
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait({waiting})


async def test_a_run_takes_no_place_that_is_kept_for_settling(crowded: Embedded) -> None:
    lane = await crowded.base.lane(waits=False)
    waiting = asyncio.ensure_future(crowded.base.lane())
    await until_crowded(crowded)
    await asyncio.wait({waiting}, timeout=0.1)
    assert not waiting.done(), "the file would stay open as long as the run takes"
    again = await crowded.base.lane(waits=False)
    assert crowded.budget.spare.taken == 1
    for each in (lane, again):
        await asyncio.to_thread(crowded.base.leave, each)
    waiting.cancel()
    await asyncio.wait({waiting})


async def until_crowded(store: Embedded) -> None:
    async with asyncio.timeout(SECONDS):
        while not store.budget.places.waiting:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)
