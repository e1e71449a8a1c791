"""Reads the next page ahead while the current one is written."""

import asyncio
from dataclasses import dataclass

from rollup_operator.stores.base import Page, Position
from rollup_operator.stores.tasks import dropped


@dataclass(frozen=True, slots=True)
class Ahead:
    """The page after `position`, being read before it was asked for."""

    position: Position | None
    task: asyncio.Task[Page]


async def finished(task: asyncio.Task[Page]) -> None:
    """Wait for a task that is ours: a cancellation ends it first."""
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        await dropped(task)
        raise
