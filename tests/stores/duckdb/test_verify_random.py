"""Random jobs over random sources are verified: nothing is found where nothing is wrong, and each planted fault is.

Faults are planted in the result, as by somebody who opens the database, and in the source.
"""

import asyncio
import math
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rollup_operator.rollup.comparison import Kind
from rollup_operator.rollup.documents import layout_of
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.duckdb import claims
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.statements import sql
from rollup_operator.stores.duckdb.target import export
from rollup_operator.stores.errors import SourceInvalid
from stores.duckdb.test_truth import MEMORY, MIDDLE, World
from support.embedded import config, spec
from support.random_columns import Value, finite
from support.random_sources import Example, File, examples
from support.verifying import kinds, verified

EXAMPLES = int(os.environ.get("VERIFY_EXAMPLES", "40"))
PARTS = {"min": ["min"], "max": ["max"], "sum": ["sum"], "value_count": ["count"], "avg": ["sum", "count"]}
Found = Counter[Kind]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    reader = duckdb.connect(config={"threads": 1})
    monkeypatch.setattr(export, "_reader", reader.cursor)  # opening one takes longer than all else that is read
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as root:
        yield World(Path(root))


class Planter:
    """Plants one fault in a result, or in its source."""

    def __init__(self, world: World, example: Example, job: JobConfig, exact: frozenset[str], chance: random.Random):
        self._world, self._example, self._job, self._chance = world, example, job, chance
        self._exact = exact
        """Fields of which sums are compared to the last digit."""

    async def plant(self) -> tuple[str, Found] | None:
        """Return what was planted, and what is to be found; None: there is nothing to plant it in."""
        counted = [row for row in self._example.rows if row["t"] is not None and row["t"] >= 0]
        if not counted:
            return None
        if self._chance.randrange(3) == 0:
            return self._in_source(self._chance.choice(counted))
        database = self._world.embedded.base
        lane = await database.lane()
        try:
            return await lane.run("planting a fault", self._in_result, interruptible=False)
        finally:
            await asyncio.to_thread(database.leave, lane)

    def _in_source(self, row: dict[str, Value]) -> tuple[str, Found]:
        """Write a row once more, or leave it out."""
        late = self._chance.random() < 0.5 or self._is_alone(row)
        keys = len({*self._example.keys_of(row)})

        def changed(rows: Sequence[dict[str, Value]]) -> list[dict[str, Value]]:
            return [*rows, row] if late else _without(rows, row)

        files = list(self._example.files)
        i = next(i for i, file in enumerate(files) if any(of is row for of in file.rows))
        files[i] = File(changed(files[i].rows), files[i].columns)
        self._world.put(replace(self._example, rows=changed(self._example.rows), files=files), slice(None))
        return ("late", Counter({Kind.DIFFERS: keys})) if late else ("shrunk", Counter({Kind.EXTRA: keys}))

    def _is_alone(self, row: dict[str, Value]) -> bool:
        """Whether its file has no other row."""
        return any(len(file.rows) == 1 and file.rows[0] is row for file in self._example.files)

    def _in_result(self, lane: Lane) -> tuple[str, Found]:
        record = claims.read(lane, self._job.key)
        assert record is not None
        assert record.target is not None
        table = claims.table(record.target)
        names = [str(name) for name, *_ in lane.execute(f"DESCRIBE {table}")]
        rows = lane.execute(f"SELECT rowid, {', '.join(map(sql.name, names))} FROM {table} ORDER BY rowid")
        number, *values = self._chance.choice(list(rows))
        what, statement, found = self._fault(dict(zip(names, values, strict=True)))
        lane.transaction(lambda lane: lane.execute(statement.format(table=table, row=f"WHERE rowid = {number}")))
        return what, found

    def _fault(self, row: dict[str, Any]) -> tuple[str, str, Found]:
        faults: list[tuple[str, str, Found]] = [
            ("fewer rows", "UPDATE {table} SET _count = _count - 1 {row}", Counter({Kind.DIFFERS: 1})),
            ("more rows", "UPDATE {table} SET _count = _count + 1 {row}", Counter({Kind.EXTRA: 1})),
            ("deleted", "DELETE FROM {table} {row}", Counter({Kind.MISSING: 1})),
            ("doubled", "INSERT INTO {table} SELECT * FROM {table} {row}", Counter({Kind.DUPLICATE: 1})),
        ]
        layout = layout_of(self._job.job_id, self._job.spec)
        for field in layout.terms_fields:
            if isinstance(value := row[name := f"{field}.terms"], str):
                moved = f"UPDATE {{table}} SET {_in_braces(name)} = {_literal(value + '!')} {{row}}"
                faults.append(("moved", moved, Counter({Kind.MISSING: 1, Kind.EXTRA: 1})))
        for field, metrics in layout.metrics:
            for part in sorted({part for metric in metrics for part in PARTS[metric]}):
                if part == "sum" and "sum" not in metrics and not row[f"{field}.count"]:
                    continue  # no document shows it
                name = f"{field}.{part}"
                changed = self._other(field, part, row[name])
                statement = f"UPDATE {{table}} SET {_in_braces(name)} = {changed} {{row}}"
                faults.append((part, statement, Counter({Kind.DIFFERS: 1})))
        rarer = faults[4:] if self._chance.random() < 0.7 else []  # few jobs that complete have metrics or texts
        return self._chance.choice(rarer or faults)

    def _other(self, field: str, part: str, value: float | None) -> str:
        """Return another number: the next one where it is compared to the last digit."""
        if part == "count":
            return f"{(value or 0) + 1}"
        if value is None or not math.isfinite(value):
            return "1.0"
        if part != "sum" or field in self._exact:
            return repr(math.nextafter(value, -math.inf if value > 0 else math.inf))
        if self._chance.random() < 0.3:
            return "NULL" if self._chance.random() < 0.5 else "'inf'::DOUBLE"
        reach = sum(abs(float(v)) for row in self._example.rows for v in finite(self._example.values_of(row, field)))
        other = value * 2 if abs(value) > reach / 1e3 else value + reach + 1
        return repr(other) if math.isfinite(other) else "'inf'::DOUBLE"


def _without(rows: Sequence[dict[str, Value]], row: dict[str, Value]) -> list[dict[str, Value]]:
    return [of for of in rows if of is not row]


def _in_braces(name: str) -> str:
    """A column in a text that is to be formatted."""
    return sql.name(name).replace("{", "{{").replace("}", "}}")


def _literal(value: str) -> str:
    return sql.text(value).replace("{", "{{").replace("}", "}}")


async def check(world: World, example: Example, chance: random.Random) -> str:
    await world.next()
    try:
        return await outcome(world, example, chance)
    finally:
        world.remove()


async def outcome(world: World, example: Example, chance: random.Random) -> str:
    embedded, store = world.embedded, world.store
    name = world.put(example, slice(0, 1) if example.late else slice(None))
    job = config(spec(name, index=f"out{world.number}", **example.spec))
    if example.runs == 2:
        now = embedded.now
        embedded.now = now.fromtimestamp(MIDDLE / 1000, now.tzinfo)
        await embedded.run(job, store=store)
        embedded.now = now
    if example.late:
        world.put(example, slice(1, 2))
    result = await embedded.run(job, store=store)
    if isinstance(result.error, SourceInvalid):
        return "refused"
    assert result.outcome == "Completed", result
    right = await verified(store, job)
    assert not kinds(right), right.findings
    assert not (await verified(store, job, full=False)).compared
    if right.findings is None:
        return "empty"
    planted = await Planter(world, example, job, right.findings.judge.exact, chance).plant()
    if planted is None:
        return "empty"
    what, expected = planted
    wrong = await verified(store, job)
    assert kinds(wrong) == expected, (what, wrong.findings)
    if what in ("late", "shrunk", "fewer rows", "more rows", "deleted", "doubled"):
        assert kinds(await verified(store, job, full=False)) == expected, what
    return what


@pytest.mark.timeout(60 + EXAMPLES)
def test_nothing_is_found_where_nothing_is_wrong_and_each_fault_is(world: World) -> None:
    seen: Counter[str] = Counter()

    async def main() -> None:
        await asyncio.to_thread(every, asyncio.get_running_loop())
        await world.store.close()

    def every(loop: asyncio.AbstractEventLoop) -> None:
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            print_blob=True,
        )
        @given(examples(), st.integers(0, 2**32))
        def one(example: Example, seed: int) -> None:
            mixed = f"{seed} {example.spec} {len(example.rows)}"  # the numbers that are drawn are small ones
            work = check(world, example, random.Random(mixed))
            seen[asyncio.run_coroutine_threadsafe(work, loop).result()] += 1

        one()

    asyncio.run(main())
    print(dict(seen))
    assert seen.total() - seen["refused"] - seen["empty"] > EXAMPLES // 3
