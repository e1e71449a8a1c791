"""Checks that the watches are alive, by their requests and by what they bring: a dead watch brings nothing."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp

SILENCE = 75.0
"""Seconds that a watch may be silent: after 30 without an event or bookmark it begins again, and a bookmark, of which
nothing here is notified, may have come before."""

AWAY = 10.0
"""Seconds for which beginning it again may fail."""


@dataclass(slots=True)
class _Life:
    heard: float | None = None
    failing_since: float | None = None


_PATH = re.compile(r"(?:/namespaces/([^/]+))?/(rollupjobs|rollupstores)$")

Watch = tuple[str, str | None]
"""Resource, in the plural, and namespace; None: all namespaces."""


class Watches:
    """The watches of this process: of both resources, in each namespace."""

    def __init__(self, namespaces: Sequence[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        """No namespace: one watch for all."""
        self._clock = clock
        self._lives: dict[Watch, _Life] = {
            (resource, namespace): _Life()
            for resource in ("rollupjobs", "rollupstores")
            for namespace in namespaces or (None,)
        }

    def brought(self, resource: str, namespace: str) -> None:
        """Note an event about an object of that namespace."""
        for watch in ((resource, None), (resource, namespace)):
            self._heard(watch)

    def problem(self) -> str | None:
        """Say which watch is dead; None: all live."""
        now = self._clock()
        for (resource, namespace), life in self._lives.items():
            name = resource if namespace is None else f"{resource} in {namespace}"
            if life.heard is None:
                return f"the watch of {name} has not begun"
            if life.failing_since is not None and (away := now - life.failing_since) > AWAY:
                return f"the watch of {name} has been down for {away:.0f} s"
            if (silent := now - life.heard) > SILENCE:
                return f"the watch of {name} is silent for {silent:.0f} s"
        return None

    def answered(self, path: str, *, well: bool) -> None:
        """Note how a request for a watch was answered, or that it was not."""
        if (found := _PATH.search(path)) is None:
            return
        watch = found[2], found[1]
        if well:
            self._heard(watch)
        elif (life := self._lives.get(watch)) is not None and life.failing_since is None:
            life.failing_since = self._clock()

    def _heard(self, watch: Watch) -> None:
        if (life := self._lives.get(watch)) is not None:
            life.heard, life.failing_since = self._clock(), None

    def tracing(self) -> aiohttp.TraceConfig:
        """Return the hook by which a session reports its watches."""
        config = aiohttp.TraceConfig()
        config.on_request_end.append(self._answered)
        config.on_request_exception.append(self._broken)
        return config

    async def _answered(
        self, _session: aiohttp.ClientSession, _context: SimpleNamespace, end: aiohttp.TraceRequestEndParams
    ) -> None:
        if "watch" in end.url.query:
            self.answered(end.url.path, well=end.response.status < 300)

    async def _broken(
        self, _session: aiohttp.ClientSession, _context: SimpleNamespace, end: aiohttp.TraceRequestExceptionParams
    ) -> None:
        if "watch" in end.url.query and not isinstance(end.exception, asyncio.CancelledError):
            self.answered(end.url.path, well=False)
