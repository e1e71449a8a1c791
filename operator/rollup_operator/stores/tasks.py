"""Cancels tasks and waits for their end."""

import asyncio
from typing import Any


async def dropped(*tasks: asyncio.Task[Any]) -> None:
    """End tasks and wait until they have ended, however often this is cancelled; their outcome is of no interest."""
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
