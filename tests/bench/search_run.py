"""Searches over rolled and live data, beside what their parts cost alone; and runs and stops beside searches.

Run: `tests/bench/run.py --only search`, or this file: `[--rows 1000000] [--duckdb-rows 10000000] [--rounds 15]
[--kind opensearch2] [--only chart,panels,beside] [--stores cluster,duckdb]`.

Operator, API server and node are processes of this machine; every search goes through the endpoint, as a dashboard's
does. One round asks each side for the same chart, in an order that turns; each chart has a time of its own, and the
node's cache of requests is off, so that no answer is remembered. Figures are medians, ratios medians of the rounds'.

- chart: 30 days by day and carrier, beside the bare `_msearch` of its two parts (DuckDB: one statement over the
  exported result and the source), and beside the same chart of all rows, unrolled;
- panels: 20 unlike charts in one `_msearch`, the first time that this process is asked for anything, and later;
- beside: stops in the middle of a run, and whole runs, while 20 clients search all rows through the operator, while
  they search the node itself, and while nobody does.

OpenSearch's own rollup is no side of it: that is the plugin index-management, which the nodes here, made of Maven's
jars, do not have, and Maven Central has no opensearch-index-management 2.19.1.0 to load into them.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import duckdb
import yaml

from bench import subject
from bench.client import Server
from bench.machine import Machine
from bench.samples import milliseconds
from bench.search_charts import (
    INDEX,
    JOB,
    ROLLED,
    UNROLLED,
    Body,
    Span,
    chart,
    panels,
    raw_sql,
    rows_of,
)
from bench.search_place import NDJSON, Place, Side
from bench.store_calls import PLAIN, call
from bench.subject import Subject
from local_control_plane import ControlPlane
from local_stores import Node
from support.api import Api
from support.data import export_of

CHUNK = 20_000
WARM_UP = 3
"""Rounds that do not count, and stops of each mode."""
SEARCHERS = 20
MODES = ("quiet", "ours", "node")
"""Who searches while runs and stops are measured: nobody, clients of the operator, clients of the node."""
ROOT = Path(__file__).resolve().parents[2]


async def compared(sides: dict[str, Side], rounds: int) -> dict[str, Any]:
    """Ask every side in each round, in an order that turns; tell medians, and the ratios to the first."""
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(WARM_UP + rounds):
        names = list(sides)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began = time.perf_counter()
            await sides[name](number)
            if number >= WARM_UP:
                samples[name].append(time.perf_counter() - began)
    ours, *others = samples
    return {
        **{name: milliseconds(taken) for name, taken in samples.items()},
        **{f"over_{name}": _ratio(samples[ours], samples[name]) for name in others},
        **{f"{name}_over_ours": _ratio(samples[name], samples[ours]) for name in others},
    }


def _ratio(mine: Sequence[float], theirs: Sequence[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(mine, theirs, strict=True)), 2)


async def charts(place: Place, rounds: int) -> dict[str, Any]:
    """Compare a chart, after a check that both sides say the same."""
    await same(place)
    return await compared(place.sides(), rounds)


async def same(place: Place) -> None:
    """Check that the operator's chart is that of all rows. Raises SystemExit."""
    asked = chart(place.span, 5)
    ours = _told(await place.search(asked))
    if place.node is not None:
        direct = _told(await place.raw(asked))
    else:
        assert place.files is not None
        with duckdb.connect() as db:
            rows = db.execute(raw_sql(place.span, 5, place.files[1])).fetchall()
        direct = {(day, carrier): docs for day, carrier, docs, _ in rows}
    if ours != direct or not ours:
        raise SystemExit(f"the chart differs from that of all rows: {len(ours)} buckets and {len(direct)}")


def _told(found: Body) -> dict[tuple[int, str], int]:
    return {
        (time_["key"], term["key"]): term["doc_count"]
        for time_ in found["aggregations"]["times"]["buckets"]
        for term in time_["terms"]["buckets"]
    }


async def dashboards(place: Place, rounds: int, cold_ms: float) -> dict[str, Any]:
    """Compare the panels of a dashboard in one `_msearch`."""

    async def ours(shift: int) -> None:
        await place.msearch(panels(place.span, shift))

    async def bare(shift: int) -> None:
        await place.bare_msearch(panels(place.span, shift))

    sides: dict[str, Side] = {"ours": ours, "bare": bare} if place.node is not None else {"ours": ours}
    return {"cold_ms": round(cold_ms, 1), **await compared(sides, rounds)}


@asynccontextmanager
async def searching(place: Place, mode: str) -> AsyncIterator[list[float]]:
    """Have clients search all rows meanwhile; yields what each search took, in seconds."""
    taken: list[float] = []

    async def client(number: int) -> None:
        count = number
        while True:
            began, body = time.perf_counter(), chart(place.span, count)
            with suppress(aiohttp.ClientError):  # its connection ends with the bench
                await (place.search(body, "rolled-live") if mode == "ours" else place.raw(body))
            taken.append(time.perf_counter() - began)
            count += SEARCHERS

    tasks = [asyncio.create_task(client(n)) for n in range(SEARCHERS)] if mode != "quiet" else []
    try:
        await asyncio.sleep(0.5 if tasks else 0)
        yield taken
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, SystemExit):
                raise result
        await asyncio.sleep(0.5 if tasks else 0)


async def beside(place: Place, rounds: int, stops: int, seed: int) -> dict[str, Any]:
    """Measure stops and runs in each mode; the modes take turns within each round."""
    chance = random.Random(seed)
    modes = MODES if place.node is not None else MODES[:2]
    stop: dict[str, list[float]] = {mode: [] for mode in modes}
    run: dict[str, list[float]] = {mode: [] for mode in modes}
    searches: dict[str, list[float]] = {mode: [] for mode in modes}
    long = Long(place)
    for number in range(rounds + 1):
        for mode in modes[number % len(modes) :] + modes[: number % len(modes)]:
            async with searching(place, mode) as taken:
                name = f"timed-{place.store}-{mode}-{number}"
                await place.create(name, rollupIndex=f"rolled-{name}", deletionPolicy="Delete", groups=_HOURS)
                await place.until(name, lambda status: status.get("state") == "started")
                ran = await place.run(name, "1")
                halted = [await long.stop(chance) for _ in range(-(-stops // rounds) if number else WARM_UP)]
            await place.delete(name)
            if number:  # the first of each warms up
                run[mode].append(ran)
                stop[mode] += halted
                searches[mode] += taken
    await long.forget()
    return {
        "stop": {mode: milliseconds(taken) for mode, taken in stop.items()},
        "run": {mode: milliseconds(taken) for mode, taken in run.items()},
        "run_over_quiet": {mode: _ratio(run[mode], run["quiet"]) for mode in modes[1:]},
        "searches": {mode: milliseconds(taken) for mode, taken in searches.items() if taken},
    }


_HOURS = {"dateHistogram": {"field": "ts", "fixedInterval": "1h"}, "terms": {"fields": ["carrier"]}}
_MINUTES = {"dateHistogram": {"field": "ts", "fixedInterval": "1m"}, "terms": {"fields": ["carrier", "route"]}}


class Long:
    """A job whose run takes long enough to be stopped in its middle; begun anew when it has come to its end."""

    def __init__(self, place: Place) -> None:
        self._place, self._count, self._name = place, 0, ""

    async def stop(self, chance: random.Random) -> float:
        """Stop it while it runs; return the seconds until the endpoint says that it is quiet."""
        while True:
            await self._start()
            await asyncio.sleep(chance.uniform(0.05, 0.6))
            if (await self._place.status(self._name)).get("state") != "indexing":
                await self.forget()
                continue
            began = time.perf_counter()
            path = f"/_rollup/job/{self._name}/_stop?wait_for_completion=true&timeout=30s"
            await call(self._place.ours, "POST", path)
            return time.perf_counter() - began

    async def _start(self) -> None:
        if not self._name:
            self._count += 1
            self._name = f"long-{self._place.store}-{self._count}"
            index = f"rolled-{self._name}"
            more = {"cron": "* * * * * ?", "deletionPolicy": "Delete", "pageSize": 1000, "desiredState": "stopped"}
            await self._place.create(self._name, rollupIndex=index, groups=_MINUTES, **more)
            await self._place.until(self._name, lambda status: status.get("state") == "stopped")
        await call(self._place.ours, "POST", f"/_rollup/job/{self._name}/_start")
        await self._place.until(self._name, lambda status: status.get("state") == "indexing")

    async def forget(self) -> None:
        """Delete it."""
        if self._name:
            await self._place.delete(self._name)
            self._name = ""


async def load(node: aiohttp.ClientSession, span: Span, rows: int) -> None:
    """Make the source in the cluster."""
    kinds = {"ts": "date", "carrier": "keyword", "route": "keyword", "delay": "double"}
    settings = {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": -1}
    body = {"settings": settings, "mappings": {"properties": {name: {"type": kind} for name, kind in kinds.items()}}}
    await call(node, "PUT", f"/{INDEX}", json=body)
    made = rows_of(span, rows, "{ms}")
    query = f"""SELECT '{{"index":{{}}}}' || chr(10) || '{{"ts":' || ts || ',"carrier":"' || carrier || '","route":"'
        || route || '","delay":' || delay || '}}' || chr(10) FROM ({made})"""
    found = duckdb.connect().execute(query)
    waiting: set[asyncio.Task[Any]] = set()
    while chunk := found.fetchmany(CHUNK):
        if len(waiting) == 2:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        data = "".join(line for (line,) in chunk).encode()
        bulk = call(node, "POST", f"/{INDEX}/_bulk?filter_path=errors", data=data, headers=NDJSON)
        waiting.add(asyncio.create_task(bulk))
    await asyncio.gather(*waiting)
    await call(node, "POST", f"/{INDEX}/_refresh")
    # What a source of some age looks like; merging in the background would be in the figures.
    await call(node, "POST", f"/{INDEX}/_forcemerge?max_num_segments=5", timeout=aiohttp.ClientTimeout(total=1800))
    if (count := (await call(node, "GET", f"/{INDEX}/_count"))["count"]) != rows:
        raise SystemExit(f"{count} documents of {rows} are there")


def write(folder: Path, span: Span, rows: int) -> Path:
    """Write the source of the embedded store."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{INDEX}.parquet"
    with duckdb.connect() as db:
        db.execute(f"COPY ({rows_of(span, rows, 'epoch_ms({ms}::BIGINT)')}) TO '{path}' (FORMAT parquet)")
    return path


def say(text: str) -> None:
    print(f"bench: {text}", flush=True)


@dataclass
class Bench:
    """One run. `result` grows with each store."""

    options: argparse.Namespace
    folder: Path
    result: dict[str, Any] = field(default_factory=dict)

    async def run(self, plane: ControlPlane, url: str) -> None:
        """Measure on each store; `url` is the node's."""
        async with AsyncExitStack() as stack:
            server = Server(plane)
            stack.push_async_callback(server.close)
            machine = Machine(self.options.calm, say)
            one = subject.ours(plane, server, machine, self.folder)
            one.environment = {**one.environment, "ROLLUP_STORE_HOSTS": "127.0.0.1"}
            span = Span.until_today()
            places: dict[str, Callable[[aiohttp.ClientSession], Awaitable[Place]]] = {}
            if "cluster" in self.options.stores:
                node = await stack.enter_async_context(aiohttp.ClientSession(url, headers=PLAIN, connector=_plenty()))
                began = time.perf_counter()
                await load(node, span, self.options.rows)
                say(f"{self.options.rows:,} documents loaded in {time.perf_counter() - began:.0f} s")

                async def cluster(ours: aiohttp.ClientSession) -> Place:
                    return Place("cluster", INDEX, UNROLLED, ours, server, one, span, node=node)

                places["cluster"] = cluster
            if "duckdb" in self.options.stores:
                data = self.folder / "data" / "default"
                source = write(data, span, self.options.duckdb_rows)
                files = str(export_of(data, JOB, ROLLED)), str(source)

                async def embedded(ours: aiohttp.ClientSession) -> Place:
                    pattern, unrolled = f"{INDEX}.parquet", f"{UNROLLED}.parquet"
                    return Place("default", pattern, unrolled, ours, server, one, span, files=files)

                places["duckdb"] = embedded
            try:
                for name, make in places.items():
                    await self._one(name, one, make)
            finally:
                await one.stop()

    async def _one(self, name: str, one: Subject, make: Callable[[aiohttp.ClientSession], Awaitable[Place]]) -> None:
        options, figures = self.options, self.result.setdefault(name, {})
        one.start()
        await one.serving()
        async with _client(one) as ours:
            place = await make(ours)
            await place.create(JOB)
            await place.create("live", rollupIndex="rolled-live", indexPattern=place.unrolled, desiredState="stopped")
            await place.until(JOB, lambda status: status.get("state") == "started")
            figures["rolled_up_s"] = round(await place.run(JOB, "1"), 1)
            status = await place.status(JOB)
            figures["documents"] = status["stats"]["rollupsIndexed"]
            figures["rows"] = options.rows if name == "cluster" else options.duckdb_rows
            say(f"{name}: {figures['documents']:,} documents rolled up in {figures['rolled_up_s']} s")
        # A process that has answered no search yet.
        await one.stop()
        one.start()
        await one.serving()
        async with _client(one) as ours:
            place = await make(ours)
            await place.until(JOB, lambda status: status.get("state") == "started")
            await self._knows_jobs(ours)
            began = time.perf_counter()
            await place.msearch(panels(place.span, 0))
            cold_ms = (time.perf_counter() - began) * 1000
            with one.machine.measured() as usage:
                if "panels" in options.only:
                    figures["panels"] = await dashboards(place, options.rounds, cold_ms)
                    say(f"{name}: panels: {_short(figures['panels'])}")
                if "chart" in options.only:
                    figures["chart"] = await charts(place, options.rounds)
                    say(f"{name}: chart: {_short(figures['chart'])}")
                if "beside" in options.only:
                    figures["beside"] = await beside(place, options.beside_rounds, options.stops, options.seed)
                    say(f"{name}: beside: {json.dumps(figures['beside'])}")
            figures["usage"] = usage.as_json()
        for job in (JOB, "live"):
            await place.delete(job)
        await one.stop()

    @staticmethod
    async def _knows_jobs(ours: aiohttp.ClientSession) -> None:
        """Return once the operator knows its jobs: a start is not what is measured."""
        while True:
            async with ours.get("/_rollup/job/_all") as answer:
                if answer.status == 200 and len((await answer.json())["jobs"]) >= 2:
                    return
            await asyncio.sleep(0.02)


def _short(figures: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value['p50'] if isinstance(value, dict) else value}" for name, value in figures.items())


def _plenty() -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(limit=0)


def _client(one: Subject) -> aiohttp.ClientSession:
    headers = {**PLAIN, "Authorization": f"Bearer {one.token}"}
    return aiohttp.ClientSession(one.url, headers=headers, connector=_plenty())


def prepare(plane: ControlPlane, url: str) -> None:
    """Install the resources and both stores."""
    with Api(plane) as api:
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            api.install(yaml.safe_load(path.read_text()))
        api.create(subject.STORE)
        if url:
            cluster = {"metadata": {"name": "cluster"}, "spec": {"opensearch": {"hosts": [url]}}}
            api.create({**subject.STORE, **cluster})


def bench(options: argparse.Namespace) -> dict[str, Any]:
    """Start what is needed, measure, and return the figures."""
    with tempfile.TemporaryDirectory(prefix="rollup-bench-search-") as temporary, ControlPlane.start() as plane:
        made = Bench(options, options.keep or Path(temporary))
        made.folder.mkdir(parents=True, exist_ok=True)
        if "cluster" in options.stores:
            with Node.start(options.kind, heap="1g", quick=False) as node:
                prepare(plane, node.url)
                asyncio.run(made.run(plane, node.url))
        else:
            prepare(plane, "")
            asyncio.run(made.run(plane, ""))
        return made.result


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what `run.py` passes on."""
    parser.add_argument("--rows", type=int, default=1_000_000, help="in the cluster (default: 1,000,000)")
    parser.add_argument("--duckdb-rows", type=int, default=10_000_000, help="of the file (default: 10,000,000)")
    parser.add_argument("--rounds", type=int, default=15, help="charts of each side (default: 15)")
    parser.add_argument("--beside-rounds", type=int, default=4, help="rounds of runs and stops (default: 4)")
    parser.add_argument("--stops", type=int, default=40, help="stops in each mode (default: 40)")
    parser.add_argument(
        "--kind", default="opensearch2", help="of the node: opensearch2, opensearch3 (default: opensearch2)"
    )
    parser.add_argument("--only", default="panels,chart,beside", help="of panels, chart, beside")
    parser.add_argument("--stores", default="cluster,duckdb", help="of cluster, duckdb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--calm", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the operator's log and data here")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    options.only, options.stores = options.only.split(","), options.stores.split(",")
    found = bench(options)
    text = json.dumps(found, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
