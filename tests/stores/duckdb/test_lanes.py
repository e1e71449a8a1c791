"""A connection of an embedded store is given back, and its file closed, whatever comes at the same moment."""

import asyncio
import threading
from contextlib import suppress
from pathlib import Path

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
