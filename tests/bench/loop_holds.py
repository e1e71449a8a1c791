"""How long each call, and each change that all jobs hear of, holds the event loop at ten thousand jobs.

The endpoint and the actors are real; API server and stores are the unit tests' doubles, so that what is measured is
the operator's own work. A client in a process of its own calls. Meanwhile a task that does nothing but give way says
how long the loop was kept from it: by the clock, and by the processor's time of this thread, which other processes on
the machine do not lengthen. The aim is 50 ms.

    make bench-loop [ARGS='--jobs 1000']
"""

import argparse
import asyncio
import gc
import http.client
import json
import multiprocessing
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import structlog
from rich.console import Console
from rich.table import Table

from local_tools.ports import free_ports
from rollup_operator.collector import RUNNING
from rollup_operator.http.access.kubernetes import KubernetesAccess
from rollup_operator.indexer.progress import Progress
from rollup_operator.kube.authz import Reviews
from rollup_operator.kube.paths import jobs_path
from rollup_operator.lifecycle.jobs.actors import Actors
from rollup_operator.lifecycle.jobs.index import Index
from rollup_operator.lifecycle.jobs.relist import Relisting
from rollup_operator.lifecycle.jobs.run_facts import RunKind
from rollup_operator.lifecycle.jobs.run_task import CHECKS_OF_STORE, Ended, Work
from rollup_operator.lifecycle.leader.gate import Gate
from rollup_operator.model.job_view import JobView
from rollup_operator.observability.metrics import Metrics
from support import serving
from support.http_double import Cluster

AIM_MS = 50.0

METRICS = [{"field": f"field-{n}", "metrics": ["min", "max", "sum", "avg", "value_count"]} for n in range(10)]

Call = tuple[str, str, Mapping[str, str]] | tuple[str, str, Mapping[str, str], str]
"""Method, path, headers, and perhaps a body."""


@dataclass
class Hold:
    """The longest time between two turns of the loop, in milliseconds."""

    clock: float = 0.0
    processor: float = 0.0


@asynccontextmanager
async def watching() -> AsyncIterator[Hold]:
    """Watch the loop while the block runs. What was there before is kept from the collector, as in the operator."""
    hold = Hold()
    gc.collect()
    gc.freeze()

    async def watch() -> None:
        clock, processor = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(0)
            clock_now, processor_now = time.perf_counter(), time.thread_time()
            hold.clock = max(hold.clock, 1000 * (clock_now - clock))
            hold.processor = max(hold.processor, 1000 * (processor_now - processor))
            clock, processor = clock_now, processor_now

    task = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        yield hold
        await asyncio.sleep(0)
    finally:
        task.cancel()
        gc.unfreeze()


class Reviewer:
    """An API server that knows everybody, and lets them do all, or all that has a name."""

    def __init__(self, *, by_name: bool) -> None:
        self._by_name = by_name

    async def post(self, _: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if "token" in body["spec"]:
            return {"status": {"authenticated": True, "user": {"username": "somebody"}}}
        return {"status": {"allowed": not self._by_name or body["spec"]["resourceAttributes"]["name"] != ""}}


def access(*, by_name: bool) -> KubernetesAccess:
    """Return the access of callers whose rights are to all jobs, or to each by its name."""
    return KubernetesAccess(Reviews(Reviewer(by_name=by_name), allowed_seconds=3600, denied_seconds=3600))


def fetch(port: int, call: Call) -> tuple[int, int]:
    """Make a call and read its answer; return its status and bytes."""
    method, path, headers, *body = call
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request(method, path, *body, headers={"Authorization": "Bearer somebody", **headers})
    answer = connection.getresponse()
    return answer.status, len(answer.read())


JSON, LINES = {"Content-Type": "application/json"}, {"Content-Type": "application/x-ndjson"}
PANEL = json.dumps(
    {
        "size": 0,
        "query": {"bool": {"filter": {"range": {"timestamp": {"gte": "now-30d"}}}}},
        "aggs": {
            "1": {
                "terms": {"field": "node"},
                "aggs": {"2": {"date_histogram": {"field": "timestamp", "fixed_interval": "1h"}}},
            }
        },
    }
)


def calls() -> dict[str, Call]:
    """Return what is called, by what to call it in the table."""
    panels = "".join(f'{{"index":"rollup-{n}"}}\n{PANEL}\n' for n in range(40))
    everywhere = ",".join(f"**.*x{n}*" for n in range(64))
    eight = ",".join(f"**.*x{n}*" for n in range(8))
    stars = ",".join(f"*a{n}*" for n in range(1_100))
    return {
        "list": ("GET", "/_rollup/job", {}),
        "list, pretty": ("GET", "/_rollup/job?pretty", {}),
        "list, gzip": ("GET", "/_rollup/job", {"Accept-Encoding": "gzip"}),
        "list, filter of two paths": ("GET", "/_rollup/job?filter_path=jobs.config.id,**.job_state", {}),
        "list, filter of 8 **": ("GET", f"/_rollup/job?filter_path={eight}", {}),
        "list, filter of 64 **": ("GET", f"/_rollup/job?filter_path={everywhere}", {}),
        "data by source": ("GET", "/_rollup/data/_all", {}),
        "data by result": ("GET", "/_all/_rollup/data", {}),
        "data by result, 7.9 KB of wildcards": ("GET", f"/{stars[:7900]}/_rollup/data", {}),
        "data by result, 7.9 KB of stars": ("GET", f"/{'a*' * 3950}/_rollup/data", {}),
        "page of all jobs, the first time": ("GET", "/ui/", {}),
        "page of all jobs": ("GET", "/ui/", {}),
        "page, searched and sorted": ("GET", "/ui/?q=ob-0&sort=-lag", {}),
        "page's part that is kept up to date": ("GET", "/ui/namespaces/default/jobs?part=list", {}),
        "usage": ("GET", "/_xpack/usage", {}),
        "metrics": ("GET", "/metrics", {}),
        "stop all": ("POST", "/_rollup/job/_all/_stop", {}),
        "stop all, and wait 2 s": ("POST", "/_rollup/job/_all/_stop?wait_for_completion=true&timeout=2s", {}),
        "start all": ("POST", "/_rollup/job/_all/_start", {}),
        "search of one index": ("POST", "/rollup-17/_search", JSON, PANEL),
        "search of everything": ("POST", "/_search", JSON, PANEL),
        "search, 7.9 KB of wildcards": ("POST", f"/{stars[:7900]}/_search", JSON, PANEL),
        "search, 7.9 KB of stars": ("POST", f"/{'a*' * 3950}/_search", JSON, PANEL),
        "search of a part of a source": ("POST", "/source-9-2024/_search", JSON, PANEL),
        "40 panels of a dashboard": ("POST", "/_msearch", LINES, panels),
        "fields of one index": ("GET", "/rollup-17/_field_caps?fields=*", {}),
    }


class Indexed(Cluster):
    """Finds a job by its id at once, as the operator's index does."""

    def meant(self, namespace: str, job_id: str) -> Sequence[JobView]:
        view = self.known.get(jobs_path(namespace, job_id))
        return [] if view is None else [view]


def many_jobs(count: int) -> Cluster:
    """Return an API server with so many jobs."""
    cluster = Indexed()
    for n in range(count):
        name = f"job-{n:05}"
        cluster.create(name, metrics=METRICS, rollupIndex=f"rollup-{n}", indexPattern=f"source-{n}-*")
        cluster.status(name, state="stopped", stats={"pagesProcessed": n})
    return cluster


async def endpoint_holds(count: int, add: Callable[[str, Hold, str], None]) -> None:
    """Measure each call."""
    cluster = many_jobs(count)
    metrics = Metrics()

    async def scrape() -> bytes:
        return await metrics.scrape(list(cluster.known.values()), (), limit=count)

    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(10, mp_context=multiprocessing.get_context("spawn")) as pool:

        async def measured(what: str, port: int, call: Call, times: int = 1) -> None:
            async with watching() as hold:
                began = time.perf_counter()
                done = await asyncio.gather(*(loop.run_in_executor(pool, fetch, port, call) for _ in range(times)))
            status, size = done[0]
            add(what, hold, f"{status}, {size / 1e6:.1f} MB, {time.perf_counter() - began:.1f} s")

        [metrics_port] = free_ports(1)
        async with serving.served(
            cluster, access=access(by_name=False), scrape=scrape, metrics_port=metrics_port
        ) as endpoint:
            await asyncio.gather(*(loop.run_in_executor(pool, time.sleep, 0.5) for _ in range(10)))
            for what, call in calls().items():
                await measured(what, metrics_port if what == "metrics" else endpoint.port, call)
            await measured("list, ten callers at a time", endpoint.port, ("GET", "/_rollup/job", {}), 10)
        async with serving.served(cluster, access=access(by_name=True)) as endpoint:
            for what in ("rights on single names, asked for", "rights on single names, known"):
                await measured(what, endpoint.port, ("GET", "/_xpack/usage", {}))


class Kube:
    """An API server that takes every status."""

    def __init__(self, count: int) -> None:
        template = Cluster().create("job", metrics=METRICS)
        self.bodies: dict[str, dict[str, Any]] = {}
        for n in range(count):
            spec = {**template["spec"], "rollupIndex": f"rollup-{n}", "desiredState": "started"}
            self._put(f"job-{n}", {"spec": spec, "status": {"observedGeneration": -1}})
        self.writes = 0

    def _put(self, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        self.version = getattr(self, "version", 0) + 1
        meta = {"uid": f"uid-of-{name}", "name": name, "namespace": "team", "generation": 1, "finalizers": []}
        meta["resourceVersion"] = str(self.version)
        body = self.bodies[name] = {**self.bodies.get(name, {}), **changes, "metadata": meta}
        return body

    async def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        self.writes += 1
        return self._put(path.split("/")[-2], {"status": body["status"]})

    async def get(self, path: str) -> dict[str, Any]:
        await asyncio.sleep(0)
        return self.bodies[path.rsplit("/", maxsplit=1)[-1]]

    async def pages(self, _: str, *, metadata_only: bool = False) -> AsyncIterator[dict[str, Any]]:
        bodies = list(self.bodies.values())
        for begin in range(0, len(bodies), 500):
            items = bodies[begin : begin + 500]
            yield {
                "items": [{"metadata": item["metadata"]} for item in items] if metadata_only else items,
                "metadata": {"resourceVersion": str(self.version)},
            }
            await asyncio.sleep(0)


class Checks:
    """Finds the source of each job good, a few at a time."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(CHECKS_OF_STORE)

    def begin(self, kind: RunKind, view: JobView, **_: object) -> Work:
        return Work(kind, 0.0, view.deleting, Progress(), asyncio.ensure_future(self._check()), lambda: None)

    async def _check(self) -> Ended:
        async with self._places:
            await asyncio.sleep(0)
        return Ended(settled=None, mended=True)


async def job_holds(count: int, add: Callable[[str, Hold, str], None]) -> None:
    """Measure what all jobs hear of."""
    kube, gate = Kube(count), Gate()

    async def nothing(*, whole: bool = False) -> None:
        pass

    changed = list[Callable[[tuple[str, str]], None]]()
    books: Any = SimpleNamespace(
        trouble=lambda _: None, sweep=nothing, subscribe=changed.append, edition=lambda _: ("store", 1)
    )
    events: Any = SimpleNamespace(record=lambda *_: None)
    worker: Any = SimpleNamespace(held=lambda _: False, begin=Checks().begin)
    index = Index(gate=gate, cluster="here")
    api: Any = kube
    actors = Actors(
        index, kube=api, books=books, events=events, worker=worker, gate=gate, now=lambda: datetime.now(UTC)
    )
    relisting = Relisting(index, actors, kube=api, books=books, gate=gate)
    for body in kube.bodies.values():
        actors.observe(body)
    index.synced = True

    async def measured(what: str, do: Callable[[], object]) -> None:
        began, writes = time.perf_counter(), kube.writes
        async with watching() as hold:
            if isinstance(done := do(), Awaitable):
                await done
            for _ in range(3):
                while index.busy:  # noqa: ASYNC110  # nobody tells nobody when it is not any more
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.05)
        add(what, hold, f"{time.perf_counter() - began:.1f} s, {kube.writes - writes} writes")

    gate.lead()
    await measured("lead, first time: each job's status is written", actors.lead)
    if kube.writes < count:
        raise RuntimeError(
            f"{kube.writes} statuses of {count} jobs were written: turns fail, and what is measured is no work"
        )
    await measured("lead again", actors.lead)
    await measured("lead, jobs not listed before", lambda: (relisting.catch_up(), actors.lead()))
    await measured("look again (drain)", actors.recheck)
    await measured("store changed", lambda: changed[0](("team", "default")))
    await measured("in_namespace", lambda: list(index.in_namespace("team")))
    await measured("views", index.views)
    await measured("sweep", relisting.sweep)
    for body in list(kube.bodies.values()):
        kube._put(body["metadata"]["name"], {})
    await measured("sweep that finds each job changed", relisting.sweep)
    await measured("sweep, whole bodies", relisting.list_jobs)
    await measured("stand down", actors.stand_down)
    gate.lead()
    actors.lead()
    kube.bodies.clear()
    await measured("sweep that finds each job gone", relisting.sweep)
    gate.close()
    actors.stand_down()


async def measure(count: int) -> Table:
    """Measure all, and return the table."""
    table = Table("what", "held, ms", "of processor, ms", "", title=f"longest hold of the event loop, {count} jobs")

    def add(what: str, hold: Hold, more: str) -> None:
        mark = " !" if hold.processor > AIM_MS else ""
        table.add_row(what, f"{hold.clock:.1f}", f"{hold.processor:.1f}{mark}", more)

    await endpoint_holds(count, add)
    table.add_section()
    await job_holds(count, add)
    return table


def print_table(about: str, measure: Callable[[int], Awaitable[Table]]) -> None:
    """Read how many jobs there are to be from the command line, and print what is measured with them."""
    parser = argparse.ArgumentParser(description=about.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    gc.set_threshold(*RUNNING)

    async def measured() -> Table:
        return await measure(options.jobs)

    Console(width=140).print(asyncio.run(measured()))


if __name__ == "__main__":
    print_table(__doc__ or "", measure)
