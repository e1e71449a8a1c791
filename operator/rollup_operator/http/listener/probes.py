"""Probes: /healthz answers while the process can, /readyz says whether it should be given work.

The event loop answers both, so a blocked loop answers neither: the prober's own timeout notices it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from aiohttp import web

from rollup_operator.concurrency.background import keep_running
from rollup_operator.http.ports import Jobs
from rollup_operator.http.protocol import answers
from rollup_operator.http.protocol.answers import Form

OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that answer anybody, at any time: a kubelet has no token."""

BEAT = 0.5
"""Seconds between two beats of the pulse."""

Found = tuple[bool, dict[str, Any]]
"""Whether all is well, and the document to answer."""


def add_probes(router: web.UrlDispatcher, live: Callable[[], Found], ready: Callable[[], Found]) -> None:
    """Add /healthz and /readyz to the routes of any server of this process."""

    def add(path: str, ask: Callable[[], Found]) -> None:
        async def probe(_: web.Request) -> web.Response:
            good, document = ask()
            return await answers.answer(document, Form(), status=200 if good else 503)

        router.add_get(path, probe)

    add("/healthz", live)
    add("/readyz", ready)


class Pulse:
    """A task that measures how late the event loop gets to it."""

    def __init__(self, lagged: Callable[[float], None]) -> None:
        """`lagged` is called at each beat with the seconds by which it was late."""
        self._lagged = lagged
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to beat."""
        self._task = keep_running("pulse of the event loop", self._beat)

    def stop(self) -> None:
        """Beat no more."""
        if self._task is not None:
            self._task.cancel()

    async def _beat(self) -> None:
        while True:
            asked = time.monotonic()
            await asyncio.sleep(BEAT)
            self._lagged(max(0.0, time.monotonic() - asked - BEAT))


def liveness(failure: str | None) -> Found:
    """Return whether this process goes on, and what to report. `failure`: a part of it has failed."""
    if failure is not None:
        return False, {"status": "failed", "checks": {"parts": failure}}
    return True, {"status": "ok"}


class Waiting(Protocol):
    """Those who wait for a stop."""

    draining: bool
    """They are being sent away: this process shuts down."""

    def __len__(self) -> int: ...


def readiness(jobs: Jobs, waiters: Waiting, health: Mapping[str, bool | str]) -> Found:
    """Return whether this process is ready, and of each part `true` or what is wrong with it. `health`: other parts."""
    parts: dict[str, bool | str] = {
        **health,
        "synced": jobs.synced or "the first list of jobs is not complete",
        "serving": not waiters.draining or "this process shuts down",
    }
    ready = all(part is True for part in parts.values())
    return ready, {"status": "ready" if ready else "unready", "checks": parts, "waiters": len(waiters)}
