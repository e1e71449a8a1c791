"""Random sources and jobs: where a job completes, its documents are what Python makes of the rows; where it does not,
the message names the field and what would do."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.source_rules import broken_rules
from rollup_operator.stores.duckdb import Budget, DuckDBStore
from rollup_operator.stores.duckdb.target import export
from rollup_operator.stores.errors import SourceInvalid
from support.embedded import Embedded, config, spec
from support.random_sources import TWINS, Example, agree, examples, written
from support.rounding import ms

EXAMPLES = int(os.environ.get("TRUTH_EXAMPLES", "2000"))
MIDDLE = ms("2024-03-20T00:00")
_JOBS = 40
"""Of one database: looking at the records takes longer the more there are."""
MEMORY = Path("/dev/shm")


class World:
    """Databases for all examples, each with sources and a job of its own."""

    def __init__(self, root: Path) -> None:
        self.embedded = Embedded(root, page_seconds=0.001, budget=Budget(2 << 30, threads=1))
        self.writing = duckdb.connect(config={"threads": 1})
        self.writing.execute("SET TimeZone = 'UTC'")
        self.store: DuckDBStore = self.embedded.store()
        self.number = 0

    async def next(self) -> None:
        """Begin another example, now and then in another database."""
        if self.number % _JOBS == 0:
            await self.store.close()
            self.embedded.database = f"rollup{self.number}.duckdb"
            self.store = self.embedded.store()
        self.number += 1
        (self.embedded.folder / f"s{self.number}").mkdir()

    def put(self, example: Example, which: slice) -> str:
        """Write those files of the source, and return the pattern that names it."""
        folder = self.embedded.folder / f"s{self.number}"
        if example.form == "csv":
            (folder / "a.csv").write_text(example.text(), encoding="utf-8")
            return f"{folder.name}/a.csv"
        for name, file in list(zip("ab", example.files, strict=False))[which]:
            path = folder / f"{name}.parquet"
            self.writing.execute(f"COPY ({example.select(file)}) TO '{path}'")
            if TWINS[1] in file.columns:
                path.write_bytes(path.read_bytes().replace(written(TWINS[1]).encode(), TWINS[1].encode()))
        return f"{folder.name}/*.parquet"

    def remove(self) -> None:
        shutil.rmtree(self.embedded.folder / f"s{self.number}")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    reader = duckdb.connect(config={"threads": 1})
    monkeypatch.setattr(export, "_reader", reader.cursor)  # opening one takes longer than all else that is read
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as root:
        yield World(Path(root))


async def check(world: World, example: Example) -> str:
    await world.next()
    try:
        return await outcome(world, example)
    finally:
        world.remove()


async def outcome(world: World, example: Example) -> str:
    embedded = world.embedded
    name = world.put(example, slice(0, 1) if example.late else slice(None))
    job = config(spec(name, index=f"out{world.number}", **example.spec))
    now = embedded.now
    if example.runs == 2:
        embedded.now = now.fromtimestamp(MIDDLE / 1000, now.tzinfo)
        await embedded.run(job, store=world.store)
        embedded.now = now
    if example.late:
        world.put(example, slice(1, 2))
    result = await embedded.run(job, store=world.store)
    if refused := example.refused():
        assert isinstance(result.error, SourceInvalid), (result, refused)
        assert any(repr(column) in result.message for column in refused), (result.message, refused)
        assert "spec" in result.message
        assert await refusal(world, job.spec, name), refused
        return "refused"
    untold = example.untold()
    if isinstance(result.error, SourceInvalid) and (beyond := example.overflowing() | untold):
        assert any(repr(column) in result.message for column in beyond), (result.message, beyond)
        return "refused"
    assert not untold, result
    assert result.outcome == "Completed", result
    if world.number % 8 == 0:
        assert not await refusal(world, job.spec, name)
    agree(example, embedded.documents(job) if embedded.export(job).exists() else [])
    return "completed"


async def refusal(world: World, of: RollupJobSpec, name: str) -> Sequence[str]:
    """What creating the job through the API would say of its source."""
    try:
        return broken_rules(of, await world.store.fields(name, "out", of))
    except SourceInvalid as e:
        return [str(e)]


@pytest.mark.timeout(60 + EXAMPLES)
def test_documents_are_what_the_rows_come_to(world: World) -> None:
    seen: dict[str, int] = {}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(every, loop)
        await world.store.close()

    def every(loop: asyncio.AbstractEventLoop) -> None:
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            print_blob=True,
        )
        @given(examples())
        def one(example: Example) -> None:
            verdict = asyncio.run_coroutine_threadsafe(check(world, example), loop).result()
            seen[verdict] = seen.get(verdict, 0) + 1

        one()

    asyncio.run(main())
    assert seen["completed"] > EXAMPLES // 3
    assert seen["refused"] > 0
