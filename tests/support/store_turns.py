"""Keeps a database's turn to write, so that a test can step between what a store reads and what it then writes."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rollup_operator.stores.duckdb.database.database import Database, Lane


@contextmanager
def nobody_writes(base: Database) -> Iterator[Lane]:
    """Keep all others from writing; yields a lane that may."""
    lane = base._join()
    with base.kept.writing():
        yield lane
    base.leave(lane)


async def waits_to_write(base: Database, what: str) -> None:
    """Wait until a lane is about to do something that needs the turn to write."""
    async with asyncio.timeout(10):
        while not any(lane.doing is not None and lane.doing[0] == what for lane in base._lanes):  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0)
