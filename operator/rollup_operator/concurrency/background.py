"""Work that must not fail in silence, nor take other work with it.

`spawn` starts a background task that runs once, `keep_running` one that begins again when it fails. A part that the
process cannot be without is a task of `spawn` that is given to `Ending.need` as well. `dropped` cancels tasks and waits
for their end, `side_by_side` begins several and waits for all. `in_order` takes steps, one after the other, whether or
not the one before has failed.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds between a failure and the next start, doubling from the first to the last, each shortened by up to half at
random. A task that ran for longer than the longest pause begins with the first again."""


def spawn(name: str, work: Coroutine[Any, Any, T], *, follows: str) -> asyncio.Task[T]:
    """Start a task, and log if it raises. `follows` says in a few words what this process does then.

    Keep the task that is returned: the event loop holds it weakly.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)

    def ended(task: asyncio.Task[T]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background task failed", task=name, follows=follows, exc_info=error)

    task.add_done_callback(ended)
    return task


def keep_running(name: str, begin: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
    """Start a task that runs `begin()` until it returns, and after a pause again if it raises."""
    return spawn(name, _keep_running(name, begin), follows="it does not run any more")


async def _keep_running(name: str, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop, failures = asyncio.get_running_loop(), 0
    while True:
        began = loop.time()
        try:
            return await begin()
        except Exception:
            failures = 0 if loop.time() - began > LONGEST_PAUSE else failures
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**failures) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
            failures += 1
            log.exception("background task failed", task=name, follows=f"it begins again in {pause:.1f} s")
        await asyncio.sleep(pause)


async def dropped(*tasks: asyncio.Task[Any]) -> None:
    """End tasks and wait until they have ended, however often this is cancelled; their outcome is ignored."""
    for task in tasks:
        task.cancel()
    await ended(*tasks)


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Wait until tasks have ended that were cancelled before, however often this is cancelled.

    Cancelled again, they would not wait until the other end of their connection has read that nobody waits for them.
    """
    cancelled = False
    while waiting := {task for task in tasks if not task.done()}:
        try:
            await asyncio.wait(waiting)
        except asyncio.CancelledError:
            cancelled = True
    for task in tasks:
        if not task.cancelled():
            task.exception()
    if cancelled:
        raise asyncio.CancelledError


@asynccontextmanager
async def side_by_side() -> AsyncIterator[asyncio.TaskGroup]:
    """Begin tasks within the block, and wait until all have ended.

    Raises what the first to fail raises; the others are cancelled.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except ExceptionGroup as e:
        raise e.exceptions[0] from None


async def in_order(*steps: tuple[str, Callable[[], Awaitable[object] | None]]) -> None:
    """Take the steps of an end one after the other. A step that fails is logged by its name, then the next is taken."""
    for name, step in steps:
        try:
            if (work := step()) is not None:
                await work
        except Exception:
            log.exception("a step of the end failed", step=name)
