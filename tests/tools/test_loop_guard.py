"""The guard of event loops that all tests have: what it sees, and what is none of its business."""

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from support.loop_guard import BLOCKED_SECONDS, THREAD, LoopGuard

pytestmark = pytest.mark.holds_loop("that is what they are about")

SOURCE = textwrap.dedent(
    """
    import asyncio, time

    async def computes(seconds):
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    async def sleeps(enough):
        while not enough():
            time.sleep(0.05)

    def plain(seconds):
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    async def waits(seconds):
        await asyncio.sleep(seconds)
    """
)

LOOKS = """
import gc, random, sys, threading, time
from support.loop_guard import _frames_of

def told_of_collections(phase, info):
    time.sleep(0)

def look(thread):
    for _ in range(500):
        assert [frame.f_lineno for frame in _frames_of(thread)]
        time.sleep(0)
    over.set()

def deep(calls):
    return [calls] and calls and deep(calls - 1)

gc.callbacks.append(told_of_collections)
gc.set_threshold(50, 2, 2)
sys.setswitchinterval(1e-5)
over = threading.Event()
looking = threading.Thread(target=look, args=(threading.get_ident(),), daemon=True)
looking.start()
while looking.is_alive():
    deep(random.randrange(20, 500))
sys.exit(not over.is_set())
"""
"""A thread looks at the main one again and again, while collections begin and calls end."""


@pytest.fixture
def ours(tmp_path: Path) -> types.ModuleType:
    """A module that counts as the operator's."""
    path = tmp_path / "rollup_operator" / "slow.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    module = types.ModuleType("slow")
    exec(compile(SOURCE, str(path), "exec"), module.__dict__)
    return module


async def reports_of(work: Callable[[], object]) -> list[str]:
    """What the guard reports while something is done in the loop."""
    found: list[str] = []
    with LoopGuard(found.append).on_guard():
        await asyncio.sleep(0)
        if asyncio.iscoroutine(coroutine := work()):
            await coroutine
        await asyncio.sleep(0)
    return found


async def test_who_computes_is_found(ours: types.ModuleType) -> None:
    found = await reports_of(lambda: ours.computes(0.2))
    assert any("of processor time" in text and "in computes" in text for text in found), found


async def test_who_blocks_is_found(ours: types.ModuleType) -> None:
    found: list[str] = []
    guard = LoopGuard(found.append)
    deadline = time.monotonic() + 20

    def has_looked_often() -> bool:
        """However seldom a busy machine lets it look."""
        return any(t.blocked * 0.010 > BLOCKED_SECONDS for t in guard._turns.values()) or time.monotonic() > deadline

    with guard.on_guard():
        await asyncio.create_task(ours.sleeps(has_looked_often))
        await asyncio.sleep(0)
    (text,) = found
    assert text.startswith("blocked for")
    assert "in sleeps" in text


async def test_a_task_of_its_own_is_found(ours: types.ModuleType) -> None:
    found: list[str] = []
    with LoopGuard(found.append).on_guard():
        await asyncio.create_task(ours.computes(0.2))
        await asyncio.sleep(0)
    assert len(found) == 1


async def test_what_a_test_does_itself_is_its_own_affair(ours: types.ModuleType) -> None:
    assert await reports_of(lambda: time.sleep(0.4)) == []
    assert await reports_of(lambda: ours.plain(0.2)) == []
    assert await reports_of(lambda: ours.waits(0.4)) == []
    assert await reports_of(lambda: ours.computes(0.02)) == []


async def test_the_garbage_collector_is_nobodys_fault(ours: types.ModuleType) -> None:
    async def collects() -> None:
        ours.gc = gc
        for _ in range(4):
            gc.collect()

    assert await reports_of(collects) == []


def test_who_is_looked_at_goes_on_unharmed() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", LOOKS], env=environment, check=True)


async def test_it_leaves_nothing_behind() -> None:
    def guards() -> tuple[object, list[object], int]:
        """What a guard adds to. Threads of tests before this one may end meanwhile: they do not count."""
        threads = sum(thread.name == THREAD for thread in threading.enumerate())
        return asyncio.Handle._run, [c for c in gc.callbacks if getattr(c, "__name__", "") == "_collects"], threads

    before = guards()
    await reports_of(lambda: None)
    assert guards() == before
    assert sys.getswitchinterval() == 0.005
