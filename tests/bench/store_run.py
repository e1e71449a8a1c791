"""A run against a real node, against a bare composite scan of the same pages; and how soon a halted run is quiet.

Run: `python tests/bench/store_run.py [--rows 1000000] [--rounds 5] [--kind opensearch2] [--only hourly,stops]`.

The node is one process on this machine, compiled for speed, with an index of one shard. The scan asks for the same
pages, one after the other, with as few aggregations as give the numbers, and only looks for where the next page begins;
it is made once more with sums alone, and tells what it costs that a metric's values are counted, too.
The floor is what node and disk need for such a scan and the same documents at the least, see `store_floor.py`.
The run is the operator's own, from claim to release, the rollup index made and refreshed. It is counted from the wall
clock; the operator's processor time and memory are told beside it. Rounds alternate; the figures are medians.
"""

import argparse
import asyncio
import gc
import json
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
import duckdb

from bench.store_calls import ALL_NUMBERS, PLAIN, SHAPES, SUM_ALONE, call, count, job, pages_of, search
from bench.store_floor import Result, floor
from local_stores import Node
from rollup_operator import collector
from rollup_operator.indexer.run import Run
from rollup_operator.indexer.run_slots import RunSlots
from rollup_operator.model.status import Outcome
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.stores.opensearch.store import ClusterStore
from rollup_operator.stores.opensearch.transport.client import Cluster

BEGIN = "2020-01-01"
GOALS = {"hourly": 1.7, "minutely": 1.9}
TICK = 0.002
"""Seconds."""
_CHUNK = 20_000
_MAPPING = {
    "ts": {"type": "date"},
    "few": {"type": "keyword"},
    "many": {"type": "keyword"},
    "unique": {"type": "keyword"},
    "value": {"type": "double"},
}


def lines(shape: str, rows: int) -> Iterator[bytes]:
    """Yield the documents as bodies of bulks."""
    interval, _, buckets = SHAPES[shape]
    span = buckets * (3_600_000 if interval == "1h" else 60_000)
    query = f"""
        SELECT '{{"index":{{}}}}' || chr(10) || '{{"ts":' || (epoch_ms(TIMESTAMP '{BEGIN}') + i * {span} // {rows})
            || ',"few":"h' || hash(i) % 50 || '","many":"n' || hash(i * 7) % 1000 || '","unique":"u' || hash(i * 11)
            || '","value":' || (hash(i * 13) % 1000000) / 1000.0 || '}}' || chr(10)
        FROM range({rows}) r(i)"""
    found = duckdb.connect().execute(query)
    while chunk := found.fetchmany(_CHUNK):
        yield "".join(line for (line,) in chunk).encode()


async def load(url: str, shape: str, rows: int) -> None:
    """Make the source index."""
    index = f"rows-{shape}"
    settings = {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": -1}
    async with aiohttp.ClientSession() as session:
        body = {"settings": settings, "mappings": {"properties": _MAPPING}}
        await call(session, "PUT", f"{url}/{index}", json=body)
        headers = {"Content-Type": "application/x-ndjson"}
        waiting: set[asyncio.Task[Any]] = set()
        for body_lines in lines(shape, rows):
            if len(waiting) == 2:
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            path = f"{url}/{index}/_bulk?filter_path=errors"
            waiting.add(asyncio.ensure_future(call(session, "POST", path, data=body_lines, headers=headers)))
        await asyncio.gather(*waiting)
        await call(session, "POST", f"{url}/{index}/_refresh")
        found = await call(session, "GET", f"{url}/{index}/_count")
        if found["count"] != rows:
            raise SystemExit(f"{found['count']} documents of {rows} are there")


async def scan(url: str, shape: str, metrics: str = ALL_NUMBERS) -> tuple[float, int, int]:
    """Return seconds, pages and buckets of the bare scan."""
    pages = buckets = 0
    began = time.perf_counter()
    async with aiohttp.ClientSession(headers=PLAIN) as session:
        async for found in pages_of(session, url, shape, metrics):
            pages, buckets = pages + 1, buckets + found
    return time.perf_counter() - began, pages, buckets


async def counts(url: str, shape: str) -> list[float]:
    """Return the seconds of counting the documents alone, with their times, and with a number's values as well."""
    taken = []
    async with aiohttp.ClientSession(headers=PLAIN) as session:
        for fields in ((), ("ts",), ("ts", "value")):
            began = time.perf_counter()
            await count(session, url, shape, fields)
            taken.append(time.perf_counter() - began)
    return taken


def connect(url: str) -> Cluster:
    """Return the store's client."""

    async def make_session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(headers=PLAIN)

    return Cluster((url,), make_session)


def config_of(shape: str) -> JobConfig:
    """Return what a run of that shape is told."""
    return JobConfig("bench", job(shape), Owner("bench", "bench", "bench", "1"), "1")


async def watch_loop(held: list[float]) -> None:
    """Note, until cancelled, how much processor time others took of the event loop at a stroke, in seconds.

    Not wall time: the node takes the processor away for longer than that.
    """
    while True:
        began = time.thread_time()
        await asyncio.sleep(TICK)
        held.append(time.thread_time() - began)


async def ours(url: str, kind: str, shape: str) -> tuple[float, float, float, int, int]:
    """Return wall and processor seconds, the longest hold of the event loop, pages and documents of a run.

    Its result stays, see `forget`.
    """
    config = config_of(shape)
    cluster = connect(url)
    store = ClusterStore("elasticsearch" if kind.startswith("e") else "opensearch", cluster, is_alive=lambda _: False)

    async def opened() -> ClusterStore:
        return store

    run = Run(config, "bench", opened, RunSlots(1), lambda: datetime.now(UTC))
    held: list[float] = []
    watching = asyncio.create_task(watch_loop(held))
    began, cpu = time.perf_counter(), time.process_time()
    result = await run.index()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    watching.cancel()
    if result.outcome is not Outcome.COMPLETED:
        raise SystemExit(f"the run did not complete: {result.message}")
    await cluster.close()
    return took, cpu, max(held), run.progress.pages, run.progress.documents


async def forget(url: str, config: JobConfig) -> None:
    """Remove the rollup index and the job's record."""
    async with aiohttp.ClientSession() as session:
        for index in (config.spec.rollup_index, "rollup-operator-claims-1"):
            await call(session, "DELETE", f"{url}/{index}?ignore_unavailable=true")


async def stops(url: str, kind: str, tries: int) -> dict[str, Any]:
    """Halt a run in the middle so many times, every other one in a search of some seconds; milliseconds until quiet."""
    taken: list[float] = []
    cluster = connect(url)
    store = ClusterStore("elasticsearch" if kind.startswith("e") else "opensearch", cluster, is_alive=lambda _: False)

    async def opened() -> ClusterStore:
        return store

    uncancelled = await uncancelled_search(url)
    async with aiohttp.ClientSession() as session:
        for i in range(tries):
            shape = "slow" if i % 2 else "minutely"
            config = JobConfig(shape, job(shape), Owner("bench", "bench", shape, f"u{i % 2}"), "1")
            run = Run(config, "bench", opened, RunSlots(1), lambda: datetime.now(UTC))
            task = asyncio.ensure_future(run.index())
            await asyncio.sleep(0.5 + 0.031 * (i % 17))
            began = time.perf_counter()
            run.halt()
            result = await task
            taken.append((time.perf_counter() - began) * 1000)
            if result.outcome is not Outcome.HALTED or not result.released:
                raise SystemExit(f"not halted: {result.outcome} {result.message}")
            # What a node does by itself for a shard, after a claim was written, is no work of a run.
            actions = "indices:data/*"
            tasks = await call(session, "GET", f"{url}/_tasks?actions={actions}&filter_path=nodes.*.tasks.*.headers")
            if "rollup/" in json.dumps(tasks):
                raise SystemExit(f"not quiet: {tasks}")
            await forget(url, config)  # or it would come to its end some time
    await cluster.close()
    taken.sort()
    return {
        "tries": tries,
        "a slow search takes, uncancelled": f"{uncancelled:.2f} s",
        "p50 ms": round(statistics.median(taken), 1),
        "p99 ms": round(taken[min(len(taken) - 1, int(len(taken) * 0.99))], 1),
        "max ms": round(taken[-1], 1),
        "goal": "p50 <= 200, p99 <= 1000",
    }


async def uncancelled_search(url: str) -> float:
    """Return how long a search of the slow job takes when nobody halts it."""
    async with aiohttp.ClientSession() as session:
        began = time.perf_counter()
        path = f"{url}/{job('slow').index_pattern}/_search?request_cache=false"
        await call(session, "POST", path, json=search("slow", None))
        return time.perf_counter() - began


def bench(kind: str, rows: int, rounds: int, only: set[str], tries: int) -> dict[str, Any]:
    """Start a node, load, measure, and return the figures."""
    table: dict[str, Any] = {}
    gc.set_threshold(*collector.RUNNING)  # as the operator does
    with Node.start(kind, heap="1g", quick=False) as node:
        for shape, goal in GOALS.items():
            if shape not in only and not (shape == "minutely" and "stops" in only):
                continue
            began = time.perf_counter()
            asyncio.run(load(node.url, shape, rows))
            print(f"bench: {rows:,} documents loaded for {shape} in {time.perf_counter() - began:.0f} s", flush=True)
            if shape not in only:
                continue
            scans, floors, runs, cpus, holds = [], [], [], [], []
            sums: list[float] = []
            counted: list[list[float]] = []
            scanned = written = (0, 0)
            result: Result | None = None
            for i in range(rounds + 1):
                took, *scanned = asyncio.run(scan(node.url, shape))
                summed, *_ = asyncio.run(scan(node.url, shape, SUM_ALONE))
                counting = asyncio.run(counts(node.url, shape))
                ran, cpu, hold, *written = asyncio.run(ours(node.url, kind, shape))
                result = result or asyncio.run(Result.of(node.url, job(shape).rollup_index))
                asyncio.run(forget(node.url, config_of(shape)))
                least = asyncio.run(floor(node.url, shape, result))
                if i:  # the first of each warms the node's compiler up
                    scans.append(took)
                    sums.append(summed)
                    counted.append(counting)
                    floors.append(least)
                    runs.append(ran)
                    cpus.append(cpu)
                    holds.append(hold)
                figures = f"scan {took:.2f} s, floor {least:.2f} s, run {ran:.2f} s, ours {cpu:.2f} s of it"
                print(f"bench: {shape}: {figures}", flush=True)
            if scanned[1] != written[1]:
                raise SystemExit(f"{scanned[1]} buckets scanned, {written[1]} documents written")
            table[shape] = {
                "rows": rows,
                "documents": written[1],
                "pages": written[0],
                "scan s": round(statistics.median(scans), 3),
                "floor s": round(statistics.median(floors), 3),
                "run s": round(statistics.median(runs), 3),
                "ratio": ratio(runs, scans),
                "floor's ratio": ratio(floors, scans),
                "ratio to the floor": ratio(runs, floors),
                "goal": goal,
                "all metrics of a page over a sum alone": ratio(scans, sums),
                "counting documents, and their times, and a number's values: ms": [
                    round(statistics.median(of) * 1000, 1) for of in zip(*counted, strict=True)
                ],
                "counting their times over the run": ratio([of[1] for of in counted], runs),
                "and a number's values over the run": ratio([of[2] for of in counted], runs),
                "cpu s per million documents": round(statistics.median(cpus) / written[1] * 1e6, 2),
                "loop held at the longest, cpu ms": round(max(holds) * 1000, 1),
            }
        if "stops" in only:
            table["stops"] = asyncio.run(stops(node.url, kind, tries))
    table["peak MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return table


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the rounds' ratios."""
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kind", default="opensearch2", help="opensearch2, opensearch3 or elasticsearch7")
    parser.add_argument("--only", default="hourly,minutely", help="of hourly, minutely, stops")
    parser.add_argument("--tries", type=int, default=50)
    a = parser.parse_args()
    print(json.dumps(bench(a.kind, a.rows, a.rounds, set(a.only.split(",")), a.tries), indent=2))


if __name__ == "__main__":
    main()
