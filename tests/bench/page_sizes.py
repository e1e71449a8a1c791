"""How fast runs are, and how soon a halted one is quiet, by spec.pageSize, on a real node and in an embedded store.

Run: `make bench-page-size [ARGS='--rows 200000 --rounds 5 --halts 6 --kind elasticsearch8']`.

The sizes take turns in each round, and the ratios are medians of those to the size 1,000 in the same round, so that
what else the machine does counts little. A run is halted in one of its pages, at another place each time. Embedded
stores size pages by time, so their figures show the noise. `store_run.py` and `duckdb_run.py` say what a run is.
"""

import argparse
import asyncio
import json
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import duckdb_run, store_run
from bench.store_calls import SHAPES
from local_stores import Node
from rollup_operator.indexer.progress import Progress
from rollup_operator.indexer.run import Run
from rollup_operator.indexer.run_slots import RunSlots
from rollup_operator.model.status import Outcome
from rollup_operator.model.store import DuckDBStoreSpec
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.stores.base import Page, Store
from rollup_operator.stores.duckdb import DuckDBStore
from rollup_operator.stores.opensearch.store import ClusterStore

SIZES = (500, 1_000, 2_000, 5_000, 10_000)
USUAL = 1_000
PAGE_SECONDS = 0.1
"""Of the embedded store: so that a run has several pages."""

Opened = Callable[[JobConfig], AbstractAsyncContextManager[Store]]
"""Opens a store for a run, and removes what the run has left there."""


@dataclass
class CountedPages(Progress):
    """Progress that says when so many pages are written."""

    awaited: int = 0
    there: asyncio.Event = field(default_factory=asyncio.Event)

    def committed(self, page: Page) -> None:
        """Count a page."""
        super().committed(page)
        if self.pages >= self.awaited:
            self.there.set()


@dataclass
class Figures:
    """What was measured of one size."""

    took: list[float] = field(default_factory=list)
    """Seconds of each run, one a round."""
    quiet: list[float] = field(default_factory=list)
    """Seconds from a halt to the end of its run."""
    pages: int = 0
    documents: int = 0
    peak: int = 0
    """Memory of this process at most by then, in MiB: the sizes were tried from small to large."""


def cluster(url: str, kind: str) -> Opened:
    """Return how to open the store of a node."""

    @asynccontextmanager
    async def opened(config: JobConfig) -> AsyncIterator[Store]:
        client = store_run.connect(url)
        try:
            yield ClusterStore(
                "elasticsearch" if kind.startswith("e") else "opensearch", client, is_alive=lambda _: False
            )
        finally:
            await client.close()
            await store_run.forget(url, config)

    return opened


def embedded(root: Path) -> Opened:
    """Return how to open the store of a folder."""

    def store() -> DuckDBStore:
        return DuckDBStore(
            root,
            duckdb_run.NAMESPACE,
            DuckDBStoreSpec(database=duckdb_run.DATABASE),
            page_seconds=PAGE_SECONDS,
            budget=duckdb_run.BUDGET,
            is_alive=lambda _: False,
        )

    @asynccontextmanager
    async def opened(config: JobConfig) -> AsyncIterator[Store]:
        used = store()
        try:
            yield used
        finally:
            await used.close()
            again = store()
            await again.settle(config, "bench", delete_documents=True)
            await again.close()

    return opened


async def run(open_store: Opened, config: JobConfig, size: int, figures: Figures) -> None:
    """Do a whole run, and note how it went."""
    async with open_store(_sized(config, size)) as store:
        made, began = _run(store, _sized(config, size)), time.perf_counter()
        result = await made.index()
        figures.took.append(time.perf_counter() - began)
    if result.outcome is not Outcome.COMPLETED:
        raise SystemExit(f"the run is {result.outcome}: {result.message}")
    figures.pages, figures.documents = made.progress.pages, made.progress.documents
    figures.peak = figures.peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


async def halt(open_store: Opened, config: JobConfig, size: int, part: float, figures: Figures) -> None:
    """Halt a run when this part of its pages is written, and within a page; a run that was too quick is left out."""
    pages = int(part * max(0, figures.pages - 2))
    async with open_store(_sized(config, size)) as store:
        counted = CountedPages(awaited=pages)
        made = _run(store, _sized(config, size), counted)
        task = asyncio.ensure_future(made.index())
        if pages:
            reached = asyncio.ensure_future(counted.there.wait())
            await asyncio.wait({task, reached}, return_when=asyncio.FIRST_COMPLETED)
            reached.cancel()
        await asyncio.sleep(part * statistics.median(figures.took) / max(1, figures.pages))
        began = time.perf_counter()
        made.halt()
        result = await task
        if result.outcome is Outcome.HALTED:
            figures.quiet.append(time.perf_counter() - began)


def measure(open_store: Opened, config: JobConfig, rounds: int, halts: int) -> Iterator[dict[str, Any]]:
    """Measure all sizes in turn, and yield a line for each."""
    found = {size: Figures() for size in SIZES}
    for i in range(rounds + 1):
        for size in SIZES:
            asyncio.run(run(open_store, config, size, found[size]))
            if not i:  # the first of each warms the node's compiler up
                found[size].took.clear()
    for i in range(halts):
        for size in SIZES:
            asyncio.run(halt(open_store, config, size, (i + 0.5) / halts, found[size]))
    for size, figures in found.items():
        yield {
            "page size": size,
            "pages": figures.pages,
            "documents": figures.documents,
            "runs/s": round(1 / statistics.median(figures.took), 3),
            "time, ratio": _ratio(figures.took, found[USUAL].took),
            "quiet ms, median": _ms(statistics.median, figures.quiet),
            "quiet ms, most": _ms(max, figures.quiet),
            "halts": len(figures.quiet),
            "peak MiB": figures.peak,
        }


def bench(kind: str, rows: int, rounds: int, halts: int) -> None:
    """Start a node, load it and a folder, measure, and print a line for each store, shape and size."""
    with Node.start(kind, heap="1g", quick=False) as node:
        for shape in SHAPES:
            asyncio.run(store_run.load(node.url, shape, rows))
            for line in measure(cluster(node.url, kind), store_run.config_of(shape), rounds, halts):
                print(json.dumps({"store": kind, "shape": shape} | line), flush=True)
    with tempfile.TemporaryDirectory(prefix="rollup-bench-") as folder:
        data = Path(folder) / duckdb_run.NAMESPACE
        data.mkdir()
        duckdb_run.generate(data, rows * 10, "parquet")
        owner = Owner("bench", duckdb_run.NAMESPACE, "bench", "1")
        config = JobConfig("bench", duckdb_run.job("ordered.parquet"), owner, "1")
        for line in measure(embedded(Path(folder)), config, rounds, halts):
            print(json.dumps({"store": "duckdb", "shape": "ordered"} | line), flush=True)


def _sized(config: JobConfig, size: int) -> JobConfig:
    return replace(config, spec=config.spec.model_copy(update={"page_size": size}))


def _run(store: Store, config: JobConfig, progress: Progress | None = None) -> Run:
    async def opened() -> Store:
        return store

    return Run(config, "bench", opened, RunSlots(1), lambda: datetime.now(UTC), progress=progress or Progress())


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 2)


def _ms(of: Callable[[Sequence[float]], float], seconds: Sequence[float]) -> float | None:
    return round(of(seconds) * 1000, 1) if seconds else None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000, help="of each shape; ten times as many in the folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--halts", type=int, default=6)
    parser.add_argument("--kind", default="opensearch2")
    options = parser.parse_args()
    bench(options.kind, options.rows, options.rounds, options.halts)


if __name__ == "__main__":
    main()
