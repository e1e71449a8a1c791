"""A verification in full, and one by counts alone, next to a bare reading of the source; and the memory that they take.

Run: `python tests/bench/verify_run.py [--rows 10000000] [--embedded-rows 20000000] [--rounds 3] [--only duckdb]`.

In a cluster the bare reading is a composite scan of the same pages (see `store_run.py`), and in an embedded store one
`CREATE TABLE … AS SELECT … GROUP BY` (see `duckdb_run.py`). Nothing is wrong, so every day is compared once. Rounds
alternate; the figures are medians, and memory is the most that this process grew by during a verification.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bench import duckdb_run, store_run
from local_stores import Node
from rollup_operator.indexer.run import Run
from rollup_operator.indexer.run_slots import RunSlots
from rollup_operator.indexer.verify import Verified, Verifier
from rollup_operator.model.status import Outcome
from rollup_operator.model.store import DuckDBStoreSpec
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.stores.base import Store
from rollup_operator.stores.duckdb import DuckDBStore
from rollup_operator.stores.opensearch.store import ClusterStore

TICK = 0.02
"""Seconds between two looks at the process's memory."""
SHAPE = "hourly"


class Growth:
    """By how many MiB this process grows at most."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self._most = self._process.memory_info().rss

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            self._most = max(self._most, self._process.memory_info().rss)
            await asyncio.sleep(TICK)

    @property
    def mebibytes(self) -> int:
        return (self._most - self._before) >> 20


async def verified(store: Store, config: JobConfig, *, full: bool) -> tuple[float, float, int, Verified]:
    """Return wall and processor seconds, MiB, and what was found."""
    growth = Growth()
    watching = asyncio.create_task(growth.watch())
    verifier = Verifier(config.spec.groups.date_histogram, lambda: store.verification(config, None))
    began, cpu = time.perf_counter(), time.process_time()
    found = await verifier.verify(Span(0, int(datetime.now(UTC).timestamp() * 1000)), full=full)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    watching.cancel()
    if found.findings is not None and found.findings.kinds:
        raise SystemExit(f"a difference where there is none: {found.findings.examples[0]}")
    return took, cpu, growth.mebibytes, found


async def rolled_up(store: Store, config: JobConfig) -> None:
    async def opened() -> Store:
        return store

    result = await Run(config, "bench", opened, RunSlots(1), lambda: datetime.now(UTC)).index()
    if result.outcome is not Outcome.COMPLETED:
        raise SystemExit(f"the run did not complete: {result.message}")


async def measured(
    store: Store, config: JobConfig, bare: Callable[[], Awaitable[float]], rounds: int, rows: int, what: str
) -> dict[str, Any]:
    bares, fulls, counts, cpus, grown, grown_by_counts = [], [], [], [], [], []
    buckets = 0
    for i in range(rounds + 1):
        least = await bare()
        took, cpu, more, found = await verified(store, config, full=True)
        counted, _, more_by_counts, _ = await verified(store, config, full=False)
        buckets = found.buckets
        if i:  # the first warms up
            bares.append(least)
            fulls.append(took)
            cpus.append(cpu)
            counts.append(counted)
        grown.append(more)
        grown_by_counts.append(more_by_counts)
        print(
            f"bench: {what}: bare {least:.2f} s, in full {took:.2f} s, counts {counted:.2f} s, {more} MiB", flush=True
        )
    return {
        "rows": rows,
        "buckets": buckets,
        "bare s": round(statistics.median(bares), 3),
        "in full s": round(statistics.median(fulls), 3),
        "counts s": round(statistics.median(counts), 3),
        "ratio in full": ratio(fulls, bares),
        "ratio of counts": ratio(counts, bares),
        "cpu s of ours in full": round(statistics.median(cpus), 2),
        "MiB more in full": max(grown),
        "MiB more by counts": max(grown_by_counts),
    }


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 2)


async def cluster(node: Node, kind: str, rows: int, rounds: int) -> dict[str, Any]:
    began = time.perf_counter()
    await store_run.load(node.url, SHAPE, rows)
    print(f"bench: {rows:,} documents loaded in {time.perf_counter() - began:.0f} s", flush=True)
    client = store_run.connect(node.url)
    store = ClusterStore("elasticsearch" if kind.startswith("e") else "opensearch", client, is_alive=lambda _: False)
    config = store_run.config_of(SHAPE)
    await rolled_up(store, config)

    async def bare() -> float:
        return (await store_run.scan(node.url, SHAPE))[0]

    table = await measured(store, config, bare, rounds, rows, kind)
    await client.close()
    return table


async def embedded(root: Path, rows: int, rounds: int) -> dict[str, Any]:
    data = root / duckdb_run.NAMESPACE
    data.mkdir(parents=True)
    await asyncio.to_thread(duckdb_run.generate, data, rows, "parquet")
    spec = DuckDBStoreSpec(database=duckdb_run.DATABASE)
    config = JobConfig(
        "bench", duckdb_run.job("ordered.parquet"), Owner("bench", duckdb_run.NAMESPACE, "bench", "1"), "1"
    )
    store = DuckDBStore(
        root, duckdb_run.NAMESPACE, spec, page_seconds=1.0, budget=duckdb_run.BUDGET, is_alive=lambda _: False
    )
    await rolled_up(store, config)

    async def bare() -> float:
        return await asyncio.to_thread(duckdb_run.direct, data, f"'{data}/ordered.parquet'")

    table = await measured(store, config, bare, rounds, rows, "duckdb")
    await store.close()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--embedded-rows", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", default="opensearch2", help="opensearch2, opensearch3 or elasticsearch7")
    parser.add_argument("--only", default="cluster,duckdb")
    options = parser.parse_args()
    table: dict[str, Any] = {}
    if "duckdb" in options.only:
        root = Path(tempfile.mkdtemp(prefix="rollup-bench-"))
        try:
            table["duckdb"] = asyncio.run(embedded(root, options.embedded_rows, options.rounds))
        finally:
            shutil.rmtree(root, ignore_errors=True)
    if "cluster" in options.only:
        with Node.start(options.kind, heap="1g", quick=False) as node:
            table[options.kind] = asyncio.run(cluster(node, options.kind, options.rows, options.rounds))
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
