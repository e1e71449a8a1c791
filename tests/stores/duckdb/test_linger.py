"""A file that was searched stays open for the next search, and keeps nobody from a place meanwhile."""

import asyncio
import time
from pathlib import Path

import pytest

from rollup_operator.stores.duckdb import Budget
from rollup_operator.stores.duckdb.database import lingering
from rollup_operator.stores.duckdb.database.budget import LEAST_MEMORY
from rollup_operator.stores.duckdb.database.database import Database
from rollup_operator.stores.duckdb.database.folders import Folders
from support.embedded import Embedded

SECONDS = 10.0
"""For what should take some milliseconds."""


async def made(at: Embedded) -> None:
    """Make the file."""
    lane = await at.base.lane()
    await asyncio.to_thread(at.base.leave, lane)


async def closed(at: Embedded) -> None:
    async with asyncio.timeout(SECONDS):
        while at.base.is_open:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)


async def test_a_file_stays_open_between_two_searches_and_is_closed_after_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "SEARCHED_S", 1.0)
    at = Embedded(tmp_path)
    store, other = at.store(), at.store()
    await made(at)
    began = time.monotonic()
    await store.tiers(["out"])
    await other.check()  # which others do that search nothing
    await closed(at)
    assert time.monotonic() - began >= lingering.SEARCHED_S
    await store.close()
    await other.close()


async def test_a_file_that_was_searched_is_closed_with_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "SEARCHED_S", 1e6)
    at = Embedded(tmp_path)
    store = at.store()
    await made(at)
    await store.tiers(["out"])
    assert at.base.is_open
    await store.close()
    assert not at.base.is_open


async def test_whoever_waits_for_a_place_gets_that_of_a_file_that_was_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "SEARCHED_S", 1e6)
    budget = Budget(4 * LEAST_MEMORY)
    searched = [Embedded(tmp_path, budget=budget, database=f"{name}.duckdb") for name in ("one", "two", "three")]
    stores = [at.store() for at in searched]
    for at, store in zip(searched, stores, strict=True):
        async with asyncio.timeout(SECONDS):
            await made(at)
            await store.tiers(["out"])
    assert searched[-1].base.is_open
    assert not all(at.base.is_open for at in searched)
    for store in stores:
        await store.close()


async def test_a_namespace_that_waits_for_more_places_takes_none_of_one_that_has_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "SEARCHED_S", 1e6)
    budget = Budget(12 * LEAST_MEMORY)
    at = Embedded(tmp_path, budget=budget)
    store = at.store()
    (tmp_path / "greedy").mkdir()
    greedy = [Database.at(Folders.of(tmp_path, "greedy"), f"{n}.duckdb", budget) for n in range(4)]
    lanes = [await database.lane() for database in greedy[:3]]
    waiting = asyncio.ensure_future(greedy[3].lane())
    await made(at)
    await store.tiers(["out"])
    await asyncio.sleep(3 * lingering.LINGER_S)
    assert (at.base.is_open, waiting.done()) == (True, False)
    await store.close()
    waiting.cancel()
    await asyncio.wait({waiting})
    for database, lane in zip(greedy, lanes, strict=False):
        await asyncio.to_thread(database.leave, lane)
        await asyncio.to_thread(database.close_if_idle)


async def test_a_timer_that_is_late_ends_nothing_of_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fired as somebody began to use the file, who has given it back meanwhile."""
    linger, closed = lingering.Linger(), list[str]()
    linger.begin(lambda: False, lambda: closed.append("at first"))
    first = linger._timer
    assert first is not None
    linger.end()
    linger.begin(lambda: False, lambda: closed.append("in the end"))
    first.function()
    linger.end()
    await asyncio.sleep(2 * lingering.LINGER_S)
    assert closed == []
