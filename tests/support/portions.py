"""Work in portions, done at once, and what holds the event loop."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from rollup_operator.concurrency.portions import Work

R = TypeVar("R")


def result(work: Work[R]) -> R:
    """Do the work without a pause."""
    while True:
        try:
            next(work)
        except StopIteration as e:
            done: R = e.value
            return done


@dataclass
class Holds:
    """How the event loop was held."""

    turns: int = 0
    longest: float = 0.0
    """Seconds of this thread's processor between two turns: what other processes take does not count."""


@asynccontextmanager
async def watched() -> AsyncIterator[Holds]:
    """Watch the event loop while the block runs. No garbage is collected: its time depends on what else ran."""
    holds = Holds()
    gc.collect()
    gc.disable()

    async def watch() -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            holds.turns += 1
            holds.longest = max(holds.longest, now - before)
            before = now

    task = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        yield holds
        await asyncio.sleep(0)  # what was done last counts, too
    finally:
        task.cancel()
        gc.enable()
