"""What freed objects leave behind where something small lasts among them."""

import asyncio
import os
import subprocess
import sys
import sysconfig
import tracemalloc
from contextlib import AsyncExitStack

import pytest

from rollup_operator import freed_memory
from rollup_operator.freed_memory import lasting, serve_by_pages
from rollup_operator.http.listener import admission, server
from support.http_double import Cluster
from support.serving import call, calling, served

WAVE = """
import gc, sys
from contextlib import nullcontext
from rollup_operator.freed_memory import give_back, lasting, serve_by_pages

def resident():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * 4 / 1024

apart = lasting if sys.argv[2] == "apart" else nullcontext()
print(serve_by_pages(True))
before = resident()
passing, kept = [], []
for number in range(150_000):
    if number % int(sys.argv[1]):
        passing.append([number, {"number": number}])
    else:
        with apart:
            kept.append([{}, {"an object": object()}])
most = resident() - before
serve_by_pages(False)
del passing
gc.collect()
give_back()
print(most, resident() - before)
"""


CODE = """
import duckdb
from rollup_operator.freed_memory import unmap_code

def of_files():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[2]) * 4 / 1024

unmap_code()
before = of_files()
query = "SELECT count(*) FROM (SELECT i % 7, i % 49, sum(i) FROM range(10_000) t(i) GROUP BY ALL ORDER BY ALL)"
duckdb.sql(query).fetchall()
used = of_files() - before
unmap_code()
print(used, of_files() - before, duckdb.sql(query).fetchall())
"""


def wave(each: int = 1_000, kept: str = "among them", **environment: str) -> tuple[bool, float, float]:
    """Let objects come and go in a process of its own, but for one of `each`, which are kept `apart` on demand.

    Returns whether the C library served them, and by how many MiB the process has grown: at most, and in the end.
    """
    command = [sys.executable, "-c", WAVE, str(each), kept]
    out = subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True).stdout
    served, most, left = out.split()
    return served == "True", float(most), float(left)


on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")


@on_linux
def test_what_lasts_among_much_that_has_gone_keeps_only_its_own_pages() -> None:
    served, most, left = wave()
    assert served
    assert most > 30
    assert left < most / 8


@on_linux
def test_what_is_known_to_last_keeps_no_pages_of_what_has_gone() -> None:
    _, _, among = wave(50)
    served, most, apart = wave(50, "apart")
    assert served
    assert most > 30
    assert among > 8
    assert apart < 4


@on_linux
def test_code_that_was_used_leaves_memory_and_can_be_called_again() -> None:
    used, left, answer = subprocess.run(
        [sys.executable, "-c", CODE], check=True, capture_output=True, text=True
    ).stdout.split()
    assert float(used) > 10
    assert float(left) < float(used) / 4
    assert answer == "[(49,)]"


def test_who_says_what_serves_small_objects_is_obeyed() -> None:
    served, most, left = wave(PYTHONMALLOC="pymalloc")
    assert not served
    assert left > most / 2


def test_a_python_without_a_global_lock_keeps_its_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": 1}.get)
    freed_memory._found.cache_clear()
    try:
        assert not serve_by_pages(True)
    finally:
        serve_by_pages(False)
        freed_memory._found.cache_clear()


def test_a_debugger_of_memory_is_left_alone() -> None:
    tracemalloc.start()
    try:
        assert not serve_by_pages(True)
        with lasting:
            assert tracemalloc.get_object_traceback(object()) is not None
    finally:
        tracemalloc.stop()


async def test_memory_is_taken_by_pages_while_many_are_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []
    few_again = asyncio.Event()

    def tell(many: bool) -> None:
        told.append(many)
        if not many:
            few_again.set()

    monkeypatch.setattr(server, "serve_by_pages", tell)
    monkeypatch.setattr(admission, "MANY", 3)
    monkeypatch.setattr(admission, "FEW", 2)
    async with served(Cluster.indexing("sensor")) as endpoint:
        async with AsyncExitStack() as open_clients:
            for _ in range(3):
                assert not told
                client = await open_clients.enter_async_context(calling(endpoint))
                assert (await call(client, "GET", "/_rollup/job/sensor"))[0] == 200
            assert told == [True]
        await asyncio.wait_for(few_again.wait(), 5)
    assert told == [True, False]
