"""A run of the embedded store against one direct statement that does the same grouping.

Run: `python tests/bench/duckdb_run.py [--rows 20000000] [--rounds 5] [--source parquet|table] [--page-seconds 0.1]`.

The run is the operator's own: opening the database, claim, pages with a durable commit each, watermark, export as
Parquet, release. The direct one is opening the database and `CREATE TABLE … AS SELECT … GROUP BY` into it. Closing the
database is counted on neither side: the operator does it after the run. Pages are aimed at a part of the direct time;
only rounds with at least ten pages count.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from rollup_operator.indexer.run import Run
from rollup_operator.indexer.run_slots import RunSlots
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.status import Outcome
from rollup_operator.model.store import DuckDBStoreSpec as StoreSpec
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.stores.duckdb import Budget, DuckDBStore

NAMESPACE = "bench"
DAYS, CARRIERS = 724, 16  # 724 * 24 * 16 = 278,016 documents
DATABASE = "bench.duckdb"
BUDGET = Budget(8 << 30)
GOALS = {"ordered": 1.5, "shuffled": 3.0}
PARTS = {"ordered": 8.0, "shuffled": 200.0}
"""A page is aimed at this part of the direct time; shuffled rows are summarised once, and their pages cut from that."""
LEAST_PAGES = 10
"""A round with fewer pages does not count, and the next one's pages are made smaller."""

DIRECT = """
CREATE TABLE direct AS
SELECT date_trunc('hour', ts) AS ts, carrier, count(*) AS n,
       min(delay::DOUBLE), max(delay::DOUBLE), sum(delay::DOUBLE), avg(delay::DOUBLE), count(delay::DOUBLE),
       sum(distance), avg(distance)
FROM {source} GROUP BY ALL
"""


def job(pattern: str) -> RollupJobSpec:
    """Return the job that does what DIRECT does."""
    return RollupJobSpec.model_validate(
        {
            "indexPattern": pattern,
            "rollupIndex": "hourly",
            "cron": "0 0 * * * ?",
            "groups": {"dateHistogram": {"field": "ts", "fixedInterval": "1h"}, "terms": {"fields": ["carrier"]}},
            "metrics": [
                {"field": "delay", "metrics": ["min", "max", "sum", "avg", "value_count"]},
                {"field": "distance", "metrics": ["sum", "avg"]},
            ],
        }
    )


def own(folder: Path) -> Path:
    """Return where the operator has the database of the namespace with this folder."""
    return folder.parent / ".rollup-operator" / folder.name / "databases" / DATABASE


def generate(folder: Path, rows: int, source: str) -> None:
    """Write the rows twice, in the order of time and shuffled, as Parquet files or as tables of the database."""
    step = DAYS * 86_400_000 // rows
    database = own(folder)
    database.parent.mkdir(parents=True)
    with duckdb.connect(str(database)) as connection:
        connection.execute(
            "CREATE TABLE ordered AS SELECT TIMESTAMP '2013-01-01' + to_milliseconds(i * ?) AS ts, "
            f"'c' || (hash(i) % {CARRIERS}) AS carrier, (hash(i * 7) % 1000)::INTEGER AS delay, "
            "(hash(i * 13) % 100000) / 100.0::DOUBLE AS distance FROM range(?) r(i)",
            [step, rows],
        )
        connection.execute("CREATE TABLE shuffled AS SELECT * FROM ordered ORDER BY hash(ts)")
        if source == "parquet":
            for name in ("ordered", "shuffled"):
                connection.execute(f"COPY {name} TO '{folder}/{name}.parquet' (FORMAT parquet)")
    if source == "parquet":
        database.unlink()


def direct(folder: Path, source: str) -> float:
    """Return the seconds of the direct statement."""
    began = time.perf_counter()
    database = own(folder)
    with duckdb.connect(str(database.with_name("direct.duckdb") if source.endswith("'") else database)) as connection:
        connection.execute(DIRECT.format(source=source))
        took = time.perf_counter() - began
        connection.execute("DROP TABLE direct")
    return took


async def ours(root: Path, pattern: str, page_seconds: float) -> tuple[float, int, int]:
    """Return the seconds, pages and documents of a run, then delete its result."""
    config = JobConfig("bench", job(pattern), Owner("bench", NAMESPACE, "bench", "1"), "1")
    began = time.perf_counter()
    store = DuckDBStore(
        root,
        NAMESPACE,
        StoreSpec(database=DATABASE),
        page_seconds=page_seconds,
        budget=BUDGET,
        is_alive=lambda _: False,
    )

    async def opened() -> DuckDBStore:
        return store

    run = Run(config, "bench", opened, RunSlots(1), lambda: datetime.now(UTC))
    result = await run.index()
    took = time.perf_counter() - began
    await store.close()
    if result.outcome is not Outcome.COMPLETED:
        raise SystemExit(f"the run did not complete: {result.message}")
    again = DuckDBStore(
        root, NAMESPACE, StoreSpec(database=DATABASE), page_seconds=1, budget=BUDGET, is_alive=lambda _: False
    )
    await again.settle(config, "bench", delete_documents=True)
    await again.close()
    return took, run.progress.pages, run.progress.documents


def bench(
    rows: int, rounds: int, source: str, page_seconds: float | None = None, folder: Path | None = None
) -> dict[str, Any]:
    """Generate, measure `rounds` times in turn, and return medians, ratios and pages. `folder` keeps the rows."""
    root = folder or Path(tempfile.mkdtemp(prefix="rollup-bench-"))
    data = root / NAMESPACE
    try:
        if not (data.exists() and any(data.iterdir())):
            data.mkdir(parents=True)
            generate(data, rows, source)
        table: dict[str, Any] = {}
        for order, goal in GOALS.items():
            pattern = f"{order}.parquet" if source == "parquet" else order
            relation = f"'{data}/{pattern}'" if source == "parquet" else order
            theirs, mine, pages = [], [], []
            documents = 0
            parts, least = PARTS[order], 0 if page_seconds else LEAST_PAGES
            while len(mine) < rounds:
                bare = direct(data, relation)
                aim = page_seconds or max(0.005, statistics.median([*theirs, bare]) / parts)
                took, count, documents = asyncio.run(ours(root, pattern, aim))
                if count < least:
                    parts *= 1.04
                    continue
                theirs.append(bare)
                mine.append(took)
                pages.append(count)
            ratio = statistics.median(mine) / statistics.median(theirs)
            table[order] = {
                "rows": rows,
                "source": source,
                "documents": documents,
                "pages": min(pages),
                "direct_s": round(statistics.median(theirs), 3),
                "run_s": round(statistics.median(mine), 3),
                "ratio": round(ratio, 2),
                "goal": goal,
            }
        return table
    finally:
        if folder is None:
            shutil.rmtree(root, ignore_errors=True)


def lines(table: dict[str, Any]) -> list[str]:
    """Return one line for people per measurement."""
    return [
        f"DuckDB run, {row['rows']:,} rows {order} ({row['source']}) -> {row['documents']:,} documents "
        f"in {row['pages']} pages: {row['run_s']:.2f} s, "
        f"direct {row['direct_s']:.2f} s, ratio {row['ratio']:.2f} (goal {row['goal']})"
        for order, row in table.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--source", choices=["parquet", "table"], default="parquet")
    parser.add_argument("--page-seconds", type=float, help="default: see PARTS")
    parser.add_argument("--folder", type=Path, help="keep the generated rows here and use them again")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    table = bench(options.rows, options.rounds, options.source, options.page_seconds, options.folder)
    print("\n".join(lines(table)))
    if options.json:
        options.json.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
