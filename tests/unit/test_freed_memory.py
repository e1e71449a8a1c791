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
from rollup_operator.freed_memory import serve_by_pages
from rollup_operator.http.listener import admission, server
from support.http_double import Cluster
from support.serving import call, calling, served

WAVE = """
import gc
from rollup_operator.freed_memory import give_back, serve_by_pages

def resident():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * 4 / 1024

print(serve_by_pages(True))
before = resident()
passing = [[number, {"number": number}] for number in range(150_000)]
most = resident() - before
lasting = passing[::1_000]
serve_by_pages(False)
del passing
gc.collect()
give_back()
print(most, resident() - before)
"""


def wave(**environment: str) -> tuple[bool, float, float]:
    """Let objects come and go in a process of its own, but for every thousandth.

    Returns whether the C library served them, and by how many MiB the process has grown: at most, and in the end.
    """
    out = subprocess.run(
        [sys.executable, "-c", WAVE], env=os.environ | environment, check=True, capture_output=True, text=True
    ).stdout.split()
    return out[0] == "True", float(out[1]), float(out[2])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_what_lasts_among_much_that_has_gone_keeps_only_its_own_pages() -> None:
    served, most, left = wave()
    assert served
    assert most > 30
    assert left < most / 8


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
