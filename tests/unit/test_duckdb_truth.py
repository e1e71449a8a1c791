"""Random sources and jobs: where a job completes, its documents are what Python makes of the rows; where it does not,
the message names the field and what would do."""

import asyncio
import os
import shutil
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings

from rollup_operator.stores.duckdb import DuckDBStore
from rollup_operator.stores.errors import SourceInvalid
from support.embedded import Embedded, config, spec
from support.random_sources import Example, agree, examples
from support.rounding import ms

EXAMPLES = int(os.environ.get("ROLLUP_TRUTH_EXAMPLES", "500"))
MIDDLE = ms("2024-03-20T00:00")


class World:
    """One database for all examples, each with sources and a job of its own."""

    def __init__(self, root: Path) -> None:
        self.embedded = Embedded(root, page_seconds=0.001)
        self.writing = duckdb.connect()
        self.writing.execute("SET TimeZone = 'UTC'")
        self.store: DuckDBStore = self.embedded.store()
        self.number = 0

    def put(self, example: Example) -> str:
        """Write the source and return the pattern that names it."""
        self.number += 1
        folder = self.embedded.folder / f"s{self.number}"
        folder.mkdir()
        if example.form == "csv":
            (folder / "a.csv").write_text(example.text(), encoding="utf-8")
            return f"{folder.name}/a.csv"
        middle = len(example.rows) // 2 if example.form == "files" else 0
        for name, rows in (("a", example.rows[middle:]), ("b", example.rows[:middle])):
            if rows:
                self.writing.execute(f"COPY ({example.select(rows)}) TO '{folder}/{name}.parquet'")
        return f"{folder.name}/*.parquet"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def check(world: World, example: Example) -> str:
    name = world.put(example)
    try:
        return await outcome(world, example, name)
    finally:
        shutil.rmtree(world.embedded.folder / name.split("/")[0])


async def outcome(world: World, example: Example, name: str) -> str:
    embedded = world.embedded
    job = config(spec(name, index=f"out{world.number}", **example.spec))
    now = embedded.now
    if example.runs == 2:
        embedded.now = now.fromtimestamp(MIDDLE / 1000, now.tzinfo)
        await embedded.run(job, store=world.store)
        embedded.now = now
    result = await embedded.run(job, store=world.store)
    if refused := example.refused():
        assert isinstance(result.error, SourceInvalid), (result, refused)
        assert any(repr(column) in result.message for column in refused), (result.message, refused)
        assert "spec." in result.message
        return "refused"
    assert result.outcome == "Completed", result
    agree(example, embedded.documents(job) if embedded.export(job).exists() else [])
    return "completed"


def test_documents_are_what_the_rows_come_to(world: World) -> None:
    seen: dict[str, int] = {}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(every, loop)
        await world.store.close()

    def every(loop: asyncio.AbstractEventLoop) -> None:
        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(examples())
        def one(example: Example) -> None:
            told = asyncio.run_coroutine_threadsafe(check(world, example), loop).result()
            seen[told] = seen.get(told, 0) + 1

        one()

    asyncio.run(main())
    assert seen["completed"] > EXAMPLES // 3
    assert seen["refused"] > 0
