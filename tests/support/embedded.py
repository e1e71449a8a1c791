"""An embedded store in a folder of its own, rows for it, and what a run over them must come to."""

import asyncio
import json
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from rollup_operator.indexer.run import Run, RunResult
from rollup_operator.indexer.run_slots import RunSlots
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.store import DuckDBStoreSpec as StoreSpec
from rollup_operator.rollup.documents import time_of
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.stores.base import Claim, ClockReading
from rollup_operator.stores.duckdb import Budget, DuckDBStore, claims
from rollup_operator.stores.duckdb.claims import ClaimRow
from rollup_operator.stores.duckdb.database.database import Database
from rollup_operator.stores.duckdb.database.folders import Folders
from rollup_operator.stores.duckdb.target.export import documents_of, export_path
from support.data import results_of
from support.database import databases_of
from support.rounding import HOUR

NAMESPACE = "team"
Row = tuple[int | None, float | None, str | None, int | None]
"""Time in epoch milliseconds, value, term, size."""
COLUMNS = ("ts", "value", "term", "size")


def spec(pattern: str = "rows", index: str = "out", **changes: Any) -> RollupJobSpec:
    """Return a job over COLUMNS: hours, terms and a histogram, all metrics."""
    return RollupJobSpec.model_validate(
        {
            "indexPattern": pattern,
            "rollupIndex": index,
            "cron": "0 0 * * * ?",
            "groups": {
                "dateHistogram": {"field": "ts", "fixedInterval": "1h"},
                "terms": {"fields": ["term"]},
                "histogram": {"fields": ["size"], "interval": 10},
            },
            "metrics": [{"field": "value", "metrics": ["min", "max", "sum", "avg", "value_count"]}],
            **changes,
        }
    )


def config(of: RollupJobSpec | None = None, job_id: str = "job", uid: str = "1", hash_: str = "h") -> JobConfig:
    return JobConfig(job_id, of or spec(), Owner("c", NAMESPACE, job_id, uid), hash_)


@dataclass
class Embedded:
    """A store's folder; `alive` holds the uids that live."""

    root: Path
    alive: set[str] = field(default_factory=set)
    now: datetime = datetime(2030, 1, 1, tzinfo=UTC)
    clock_skew: timedelta | None = None
    other_clock: ClockReading | None = None
    page_seconds: float = 0.5
    database: str = "rollup.duckdb"
    budget: Budget = field(default_factory=lambda: Budget(2 << 30))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file.parent.mkdir(parents=True, exist_ok=True)

    @property
    def folder(self) -> Path:
        return self.root / NAMESPACE

    @property
    def file(self) -> Path:
        return databases_of(self.folder) / self.database

    @property
    def results(self) -> Path:
        return results_of(self.folder)

    @property
    def base(self) -> Database:
        return Database.at(Folders.of(self.root, NAMESPACE), self.database, self.budget)

    def export(self, of: JobConfig) -> Path:
        """Where the job's result is."""
        return self.results / export_path(*of.key)

    def store(self, page_seconds: float | None = None, **seams: Any) -> DuckDBStore:
        return DuckDBStore(
            self.root,
            NAMESPACE,
            StoreSpec(database=self.database),
            page_seconds=page_seconds or self.page_seconds,
            budget=self.budget,
            is_alive=lambda owner: owner.uid in self.alive,
            other_clock=lambda: self.other_clock,
            **seams,
        )

    async def held(self) -> list[ClaimRow]:
        """The records whose claim somebody holds."""
        database = self.base
        lane = await database.lane()
        try:
            known = await lane.run("reading", claims.known, interruptible=False)
        finally:
            await asyncio.to_thread(database.leave, lane)
        return [record for record, _ in known if record.held]

    def make_run(self, of: JobConfig, *, store: DuckDBStore | None = None, holder: str = "me") -> Run:
        """A run of the operator's own loop, not begun yet."""
        own = store or self.store()

        async def opened() -> DuckDBStore:
            return own

        return Run(of, holder, opened, RunSlots(1), lambda: self.now, clock_skew=self.clock_skew)

    async def run(
        self,
        of: JobConfig | None = None,
        *,
        store: DuckDBStore | None = None,
        holder: str = "me",
        halt_when: Callable[[Run], bool] | None = None,
    ) -> RunResult:
        """Run the job with the operator's own loop, until its end or until `halt_when`."""
        own = store or self.store()
        run = self.make_run(of or config(), store=own, holder=holder)
        task = asyncio.ensure_future(run.index())
        while halt_when is not None and not task.done():
            if halt_when(run):
                run.halt()
                break
            await asyncio.sleep(0)
        result = await task
        if store is None:
            await own.close()
        return result

    async def completed(self, of: JobConfig | None = None, **kwargs: Any) -> Claim:
        """Run to the end and return the record."""
        result = await self.run(of, **kwargs)
        assert result.outcome == "Completed", result
        assert result.claim is not None
        return result.claim

    def documents(self, of: JobConfig | None = None) -> list[dict[str, Any]]:
        """Return the exported documents."""
        of = of or config()
        found = list(documents_of(self.export(of)))
        assert len({identity for identity, _ in found}) == len(found)
        return [source for _, source in found]

    def write(self, name: str, rows: Iterable[Row], time: str = "TIMESTAMP") -> None:
        """Write rows as a Parquet or CSV file below the folder, or as a table where the name has no ending."""
        as_time = {
            "TIMESTAMP": "make_timestamp(t * 1000)",
            "TIMESTAMPTZ": "to_timestamp(t / 1000)",
            "DATE": "make_timestamp(t * 1000)::DATE",
            "BIGINT": "t",
        }[time]
        data = json.dumps([dict(zip("tvkn", row, strict=True)) for row in rows])
        shape = json.dumps([{"t": "BIGINT", "v": "DOUBLE", "k": "VARCHAR", "n": "BIGINT"}])
        select = (
            f"SELECT {as_time} AS ts, v AS value, k AS term, n AS size "
            f"FROM (SELECT unnest(from_json(?, '{shape}'), recursive := true))"
        )
        path = self.folder / name
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            if path.suffix:
                path.parent.mkdir(parents=True, exist_ok=True)
                connection.execute(f"COPY ({select}) TO '{path}'", [data])
            else:
                connection.execute(f"ATTACH '{self.file}' AS file")
                connection.execute(f'CREATE OR REPLACE TABLE file.main."{name}" AS {select}', [data])


def scattered(count: int, first: int, hours: int, seed: int = 1) -> list[Row]:
    """Rows at random times of so many hours, some without a term or a size, in order of time."""
    chance = random.Random(seed)
    return sorted(
        (
            first + chance.randrange(hours * HOUR),
            chance.uniform(-1e6, 1e6),
            chance.choice(["a", "b", None]),
            chance.choice([1, 15, None]),
        )
        for _ in range(count)
    )


def truth(
    rows: Sequence[Row],
    bucket: Callable[[int], int],
    *,
    below: int | None = None,
    interval: int = 10,
) -> dict[tuple[int, str | None, float | None], dict[str, Any]]:
    """Summarise rows one by one, as a user would with pencil and paper."""
    out: dict[tuple[int, str | None, float | None], dict[str, Any]] = {}
    for t, value, term, size in rows:
        if t is None or t < 0 or (below is not None and t >= below):
            continue
        key = (bucket(t), term, None if size is None else float(math.floor(size / interval) * interval))
        entry = out.setdefault(key, {"count": 0, "values": []})
        entry["count"] += 1
        if value is not None and math.isfinite(value):
            entry["values"].append(value)
    return out


def agree(
    documents: Sequence[dict[str, Any]], expected: dict[tuple[int, str | None, float | None], dict[str, Any]]
) -> None:
    """Assert that documents say what the truth says, nothing more."""
    found = {
        (time_of(d["ts.date_histogram.timestamp"]), d["term.terms.value"], d["size.histogram.value"]): d
        for d in documents
    }
    assert len(found) == len(documents)
    assert found.keys() == expected.keys()
    for key, entry in expected.items():
        d, values = found[key], entry["values"]
        assert {d[f"{g}._count"] for g in ("ts.date_histogram", "term.terms", "size.histogram")} == {entry["count"]}
        assert d["value.value_count.value"] == len(values)
        assert math.isclose(d["value.sum.value"], math.fsum(values), rel_tol=1e-9, abs_tol=1e-9)
        if values:
            assert (d["value.min.value"], d["value.max.value"]) == (min(values), max(values))
            assert math.isclose(
                d["value.avg.value"] / d["value.avg._count"], math.fsum(values) / len(values), abs_tol=1e-9
            )
        else:
            assert not {"value.min.value", "value.max.value", "value.avg.value", "value.avg._count"} & d.keys()


def with_groups(of: RollupJobSpec, **date_histogram: str) -> RollupJobSpec:
    """Return the job with another date histogram."""
    groups = of.groups.model_dump(by_alias=True, exclude_none=True)
    groups["dateHistogram"] = {"field": "ts", **date_histogram}
    return RollupJobSpec.model_validate({**of.model_dump(by_alias=True, exclude_none=True), "groups": groups})


__all__ = ["Embedded", "Row", "agree", "config", "replace", "scattered", "spec", "truth", "with_groups"]
