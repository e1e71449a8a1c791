"""Reads of jobs at the API server, shared by all who ask for the same job at the same time.

Ten thousand clients whose wait ends together ask for few jobs. A read is shared only with callers who asked before it
was sent, so each sees the job as it was after it asked.
"""

import asyncio
from collections.abc import Awaitable, Callable

from rollup_operator.model.reader import JobView

Read = Callable[[JobView], Awaitable[JobView | None]]
"""Reads a job; None: it is gone. Raises KubeError, TimeoutError."""


class SharedReads:
    """At most one read of a job is under way, and at most one waits for its end."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._next: dict[str, asyncio.Task[JobView | None]] = {}
        """By uid: the read that is not sent yet, which others may join."""
        self._sent: dict[str, asyncio.Task[JobView | None]] = {}

    async def read(self, job: JobView) -> JobView | None:
        """Return the job as it is now; None: it is gone. Raises what the read raises."""
        task = self._next.get(job.uid)
        if task is None:
            task = self._next[job.uid] = asyncio.create_task(self._after(self._sent.get(job.uid), job))
            task.add_done_callback(_retrieved)
        return await asyncio.shield(task)

    async def _after(self, before: asyncio.Task[JobView | None] | None, job: JobView) -> JobView | None:
        if before is not None:
            await asyncio.wait({before})
        self._sent[job.uid] = self._next.pop(job.uid)
        try:
            return await self._read(job)
        finally:
            if self._sent[job.uid] is asyncio.current_task():
                del self._sent[job.uid]


def _retrieved(task: asyncio.Task[JobView | None]) -> None:
    if not task.cancelled():
        task.exception()  # all who asked may have gone; asyncio would report that nobody took the error
