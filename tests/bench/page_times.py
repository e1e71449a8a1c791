"""How long the page takes at ten thousand jobs: until its first byte and its last, how many bytes, and processor time.

The endpoint is real; the API server is the unit tests' double. A client in a process of its own asks for one page after
another. Processor time is that of the serving process, which other processes on the machine do not lengthen. How long
each page holds the event loop is in `make bench-loop`.

    make bench-page [ARGS='--jobs 1000']
"""

import asyncio
import gc
import http.client
import multiprocessing
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from rich.table import Table

from bench.loop_holds import access, many_jobs, print_table
from support import serving

TIMES = 20
"""How often each page is asked for; the first one counts by itself."""

JOBS = "/ui/namespaces/default/jobs"

PAGES: Mapping[str, str] = {
    "all jobs": "/ui/",
    "all jobs, by what they are behind": "/ui/?sort=-lag",
    "all jobs, searched and sorted": "/ui/?q=ob-0&sort=state",
    "all jobs, the last page": "/ui/?page=200",
    "the list's part that is kept up to date": f"{JOBS}?part=list",
    "one job": f"{JOBS}/job-00017",
    "one job's part that is kept up to date": f"{JOBS}/job-00017?part=live",
    "verify, without a script": f"{JOBS}/job-00017/verify",
    "new job": "/ui/namespaces/default/new-job",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A page that was read, in milliseconds since it was asked for."""

    status: int
    first: float
    whole: float
    size: int


def load(port: int, path: str) -> Loaded:
    """Ask for a page on a connection that is open."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    began = time.perf_counter()
    connection.request("GET", path, headers={"Authorization": "Bearer somebody"})
    answer = connection.getresponse()
    start = answer.read(1)
    first = time.perf_counter()
    size = len(start) + len(answer.read())
    whole = time.perf_counter()
    connection.close()
    return Loaded(answer.status, 1000 * (first - began), 1000 * (whole - began), size)


async def measure(count: int) -> Table:
    """Load each page, and return the table."""
    table = Table(
        "page", "kB", "first byte, ms", "whole, ms", "of processor, ms", "the first time", title=f"{count} jobs"
    )
    loop, cluster = asyncio.get_running_loop(), many_jobs(count)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        await loop.run_in_executor(pool, time.sleep, 0)
        async with serving.served(cluster, access=access(by_name=False)) as endpoint:
            for what, path in PAGES.items():
                gc.collect()
                gc.freeze()
                loaded, processor = list[Loaded](), list[float]()
                for _ in range(TIMES):
                    before = time.process_time()
                    loaded.append(await loop.run_in_executor(pool, load, endpoint.port, path))
                    processor.append(1000 * (time.process_time() - before))
                again = loaded[1:]
                if {each.status for each in loaded} != {200}:
                    raise SystemExit(f"{path} was answered with {loaded[-1].status}")
                table.add_row(
                    what,
                    f"{loaded[-1].size / 1000:.1f}",
                    f"{statistics.median(each.first for each in again):.1f}",
                    f"{statistics.median(each.whole for each in again):.1f}",
                    f"{statistics.median(processor[1:]):.1f}",
                    f"{loaded[0].whole:.1f}, {processor[0]:.1f} of processor",
                )
    return table


if __name__ == "__main__":
    print_table(__doc__ or "", measure)
