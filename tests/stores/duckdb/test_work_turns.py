"""While several namespaces use databases, each has its part of the processors, and what waits begins soon."""

import asyncio
import threading
from pathlib import Path

import pytest

from rollup_operator.stores.duckdb import Budget
from rollup_operator.stores.duckdb.database import work_turns
from rollup_operator.stores.duckdb.database.database import Database, Lane
from rollup_operator.stores.duckdb.database.folders import Folders

SECONDS = 10.0
"""For what should take some milliseconds."""


class Tenant:
    """A namespace with a database, and what of its work has begun."""

    def __init__(self, root: Path, budget: Budget, namespace: str) -> None:
        (root / namespace).mkdir()
        self.base = Database.at(Folders.of(root, namespace), "rollup.duckdb", budget)
        self.begun: list[int] = []
        self.may_end = threading.Event()
        self.lanes: list[Lane] = []

    async def work(self, number: int, *, at_once: bool = False) -> None:
        lane = await self.base.lane()
        self.lanes.append(lane)

        def work(_: Lane) -> None:
            self.begun.append(number)
            self.may_end.wait(SECONDS)

        await lane.run("working", work, interruptible=True, at_once=at_once)

    def works(self, *numbers: int, at_once: bool = False) -> list[asyncio.Task[None]]:
        return [asyncio.ensure_future(self.work(number, at_once=at_once)) for number in numbers]

    async def has_begun(self, count: int) -> None:
        """Wait for so much, and see that it stays so."""
        async with asyncio.timeout(SECONDS):
            while len(self.begun) < count or len(self.lanes) < count:  # noqa: ASYNC110 - it announces nothing
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert len(self.begun) == count

    async def end(self) -> None:
        self.may_end.set()
        for lane in self.lanes:
            await asyncio.to_thread(self.base.leave, lane)
        await asyncio.to_thread(self.base.close_if_idle)


async def test_one_namespace_has_its_part_of_the_processors_while_another_uses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_turns, "PATIENCE_S", 1e6)
    budget = Budget(1 << 30, threads=4)
    greedy, modest = (Tenant(tmp_path, budget, name) for name in ("greedy", "modest"))
    (quiet,) = modest.works(0)
    await modest.has_begun(1)
    tasks = greedy.works(*range(8))
    await greedy.has_begun(2)
    tasks += greedy.works(8, at_once=True)
    await greedy.has_begun(3)
    assert 8 in greedy.begun
    waiting = next(task for number, task in enumerate(tasks) if number not in greedy.begun)
    waiting.cancel()
    await asyncio.wait({waiting})
    greedy.may_end.set()
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(task for task in tasks if task is not waiting))
    assert len(greedy.begun) == 8
    modest.may_end.set()
    await quiet
    for tenant in (greedy, modest):
        await tenant.end()
    assert budget.turns._lines == {}
    assert not budget.turns._at_work


async def test_who_is_alone_has_all_turns_and_others_wait_for_a_moment(tmp_path: Path) -> None:
    budget = Budget(1 << 30, threads=2)
    greedy, modest = (Tenant(tmp_path, budget, name) for name in ("greedy", "modest"))
    tasks = greedy.works(*range(5))
    await greedy.has_begun(5)
    (quiet,) = modest.works(0)
    await modest.has_begun(1)
    tasks += greedy.works(5, 6)
    async with asyncio.timeout(SECONDS):
        while len(greedy.begun) < 7:  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.01)
    for tenant in (greedy, modest):
        tenant.may_end.set()
    await asyncio.gather(*tasks, quiet)
    for tenant in (greedy, modest):
        await tenant.end()
