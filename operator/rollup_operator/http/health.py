"""Probes: /healthz answers while the process can, /readyz tells whether it should be given work."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from rollup_operator.background import keep_running
from rollup_operator.http import answers
from rollup_operator.http.answers import Form
from rollup_operator.http.ports import Jobs
from rollup_operator.http.waiters import Waiters

BEAT = 0.5
"""Seconds between two beats of the pulse."""

BLOCKED = 10.0
"""Seconds without a beat after which the event loop counts as blocked."""


Found = tuple[bool, dict[str, Any]]
"""Whether all is well, and what to tell."""


def add_probes(router: web.UrlDispatcher, live: Callable[[], Found], ready: Callable[[], Found]) -> None:
    """Add /healthz and /readyz to the routes of any server of this process."""

    def add(path: str, ask: Callable[[], Found]) -> None:
        async def probe(_: web.Request) -> web.Response:
            good, told = ask()
            return answers.answer(told, Form(), status=200 if good else 503)

        router.add_get(path, probe)

    add("/healthz", live)
    add("/readyz", ready)


class Pulse:
    """A task that does nothing but tell that the event loop has had time for it, and how late."""

    def __init__(self, lagged: Callable[[float], None] = lambda _: None) -> None:
        """`lagged` is told at each beat by how many seconds it was late."""
        self._lagged = lagged
        self._last = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to beat."""
        self._task = keep_running("pulse of the event loop", self._beat)

    def stop(self) -> None:
        """Beat no more."""
        if self._task is not None:
            self._task.cancel()

    @property
    def age(self) -> float:
        """Seconds since the last beat; 0 before the first and after the end."""
        return time.monotonic() - self._last if self._task is not None and not self._task.done() else 0.0

    async def _beat(self) -> None:
        while True:
            self._last = asked = time.monotonic()
            await asyncio.sleep(BEAT)
            self._lagged(max(0.0, time.monotonic() - asked - BEAT))


def liveness(pulse: Pulse, failure: str | None = None) -> Found:
    """Return whether this process goes on, and what to tell. `failure`: a part of it has failed."""
    if failure is not None:
        return False, {"status": "failed", "checks": {"parts": failure}}
    if (age := pulse.age) < BLOCKED:
        return True, {"status": "ok"}
    return False, {"status": "blocked", "checks": {"event_loop": f"it had no time for {age:.0f} s"}}


def readiness(jobs: Jobs, waiters: Waiters) -> Found:
    """Return whether this process is ready, and of each part `true` or what is wrong with it."""
    parts: dict[str, bool | str] = {
        **jobs.is_healthy(),
        "synced": jobs.synced or "the first list of jobs is not complete",
        "serving": not waiters.draining or "this process shuts down",
    }
    ready = all(part is True for part in parts.values())
    return ready, {"status": "ready" if ready else "unready", "checks": parts, "waiters": len(waiters)}
