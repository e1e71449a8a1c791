"""Why this process ends, and by when.

A signal asks for it, a part that it cannot be without has failed, or all that it knows is worthless and another
operator is to begin in its place. Either way it ends in order, and what hangs then is not waited for: a thread in a
store's library cannot be interrupted, and a lease that is renewed meanwhile would keep every other process waiting.
"""

import asyncio
import os
import signal
import threading
from typing import Any

import structlog

log = structlog.get_logger(__name__)

MARGIN = 10.0
"""Seconds beyond the grace for what follows the drain: files, lease, last answers. A pod's grace period is longer."""


class PartFailed(Exception):
    """This process has ended because a part of it failed; the text names the part."""


class Ending:
    """The end of this process. All methods belong to one event loop."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._signalled = False
        self._limit: threading.Timer | None = None
        self.failure: str | None = None
        """The first part that failed, and how."""
        self.restart: str | None = None
        """Why another operator begins after this one; None: none does."""

    def on_signals(self) -> None:
        """End on SIGTERM and SIGINT from now on, instead of any earlier handler."""
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, self._on_signal)

    def _on_signal(self) -> None:
        self._signalled, self.restart = True, None
        self._asked.set()

    def begin_again(self, why: str) -> None:
        """End in order, so that an operator that knows nothing yet takes this one's place in the same process."""
        if self.restart is None and not self._signalled:
            log.warning("this operator ends, and another begins in its place", why=why)
            self.restart = why
            self._asked.set()

    def need(self, task: asyncio.Task[Any]) -> None:
        """End this process if `task`, a background task, fails or returns: nothing else would do what it does."""

        def over(task: asyncio.Task[Any]) -> None:
            if task.cancelled():
                return
            if (error := task.exception()) is None:
                log.error("this process ends: a part of it has returned", part=task.get_name())
            self.fail(task.get_name(), "it returned" if error is None else error)

        task.add_done_callback(over)

    def fail(self, part: str, why: BaseException | str) -> None:
        """End this process, because a part of it has failed. The first failure is reported."""
        self.failure = self.failure or f"{part}: {why if isinstance(why, str) else f'{type(why).__name__}: {why}'}"
        self._asked.set()

    async def asked(self) -> None:
        """Return once this process is to end."""
        await self._asked.wait()

    def end_within(self, seconds: float) -> None:
        """End with exit code 1, like a crash, if this process still exists at that time, whatever hangs."""
        self._limit = threading.Timer(seconds, _end_hard, (seconds,))
        self._limit.daemon = True  # a process that ends in time does not wait for it
        self._limit.start()

    def over(self) -> None:
        """The end was in time: the process may continue."""
        if self._limit is not None:
            self._limit.cancel()


def _end_hard(seconds: float) -> None:
    log.error("not ended in time: what is left is abandoned", seconds=seconds)
    os._exit(1)
