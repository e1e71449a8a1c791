"""A connection of an embedded store is given back, and its file closed, whatever comes at the same moment."""

import asyncio
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from rollup_operator.stores.duckdb import Budget
from rollup_operator.stores.duckdb.database.database import Lane, Lanes
from support.embedded import Embedded


async def test_a_file_is_closed_though_what_used_it_is_cancelled_in_the_moment_in_which_it_ends(tmp_path: Path) -> None:
    base, lanes = Embedded(tmp_path).base, Lanes()
    lane = await base.lane(lanes)
    began, may_end, over, heard = (threading.Event() for _ in range(4))
    dropped: list[object] = []

    def work(_: Lane) -> None:
        began.set()
        may_end.wait(5)

    def last(lane: Lane) -> None:
        over.set()
        heard.wait(5)
        dropped.extend(lane.execute("SELECT 1"))

    task = asyncio.ensure_future(lane.run("reading", work, interruptible=True))
    await asyncio.to_thread(began.wait, 5)
    closing = asyncio.get_running_loop().run_in_executor(None, base.leave_all, lanes, last)
    may_end.set()
    over.wait(5)  # in the event loop, so that nobody here has heard yet that the work is over
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    heard.set()
    await closing
    await asyncio.to_thread(base.close_if_idle)
    assert (dropped, lanes.open, base.is_open) == ([(1,)], [], False)


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own")
async def test_the_event_loop_goes_first_where_processors_are_few(tmp_path: Path) -> None:
    def tasks() -> set[int]:
        return {int(task.name) for task in Path("/proc/self/task").iterdir()}

    ours = tasks()
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    base, lanes = Embedded(tmp_path, budget=Budget(256 << 20, threads=4)).base, Lanes()
    lane = await base.lane(lanes)
    counted = "SELECT count(DISTINCT i % 1000) FROM range(3000000) t(i)"
    assert await lane.run("reading", lambda lane: lane.execute(counted), interruptible=True) == [(1000,)]
    named = {thread.native_id for thread in threading.enumerate() if thread.name.startswith("duckdb")} - ours
    begun = tasks() - ours
    assert named <= begun
    assert len(begun - named) >= 3  # DuckDB's own
    assert {os.getpriority(os.PRIO_PROCESS, task) - usual for task in begun} == {5}
    assert os.getpriority(os.PRIO_PROCESS, 0) == usual
    await asyncio.to_thread(base.leave_all, lanes)
    await asyncio.to_thread(base.close_if_idle)
