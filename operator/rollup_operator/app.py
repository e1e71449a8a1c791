"""One operator process: in which order its parts begin, and in which order they end.

kopf runs the watches; everything else begins in its startup and ends in its cleanup, since kopf waits for every
task of its loop. SIGTERM is ours: runs drain, the lease is given back and waiters are answered while the watch still
lives, then kopf is stopped.
"""

import asyncio
import random
import resource
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import kopf
import structlog

from rollup_operator import handlers, shutdown
from rollup_operator.collector import Collector
from rollup_operator.concurrency.background import in_order, keep_running, spawn
from rollup_operator.http.listener.server import CannotListen
from rollup_operator.http.listener.tls import CertificateError
from rollup_operator.kube.client import KubeError
from rollup_operator.kube.connection import Connection
from rollup_operator.settings import Settings
from rollup_operator.shutdown import Ending, PartFailed
from rollup_operator.wiring import Parts, build

log = structlog.get_logger(__name__)

SWITCH_SECONDS = 0.001
"""How long a thread that computes may keep the event loop from going on, at each of its reads and writes. Python's own
5 ms add up to a tenth of a second and more for a call, once bodies or pages are parsed meanwhile."""

GOODBYE = 0.25
"""Seconds that connections have to close in before the loop does."""


class StartupFailed(Exception):
    """The operator cannot start, and a retry does not help; the text says why."""


async def run_operator(
    settings: Settings, connection: Connection, announce: Callable[[str], None] = lambda _: None
) -> bool:
    """Run one operator until SIGTERM or SIGINT, or until etcd was restored. Raises StartupFailed, PartFailed.

    `announce` is called with the endpoint's URL once it serves. Returns, after a complete, orderly end, whether another
    operator is to begin in this one's place.
    """
    _allow_many_connections()
    sys.setswitchinterval(SWITCH_SECONDS)
    collector, ending = Collector(), Ending()
    collector.begin()
    try:
        parts = build(settings, connection, ending)
    except CertificateError as e:
        raise StartupFailed(str(e)) from e
    return await Operator(settings, connection, announce, parts, ending, collector).run()


@dataclass
class Operator:
    """The life of one operator. Used once, by `run`."""

    settings: Settings
    connection: Connection
    announce: Callable[[str], None]
    parts: Parts
    ending: Ending
    collector: Collector
    _chores: list[asyncio.Task[None]] = field(default_factory=list)
    _cannot_begin: str | None = None
    """Why it cannot listen."""
    _handed_over: bool = False
    _ended: bool = False

    async def run(self) -> bool:
        """Run to the end. Returns whether another operator is to begin. Raises StartupFailed, PartFailed."""
        parts = self.parts
        watches = kopf.OperatorRegistry()
        handlers.register(watches, actors=parts.actors, books=parts.books, watches=parts.watches)
        kopf.on.startup(registry=watches)(self._begin)
        kopf.on.cleanup(registry=watches)(self._end)
        kopf.on.login(registry=watches)(self._login)
        settings = kopf.OperatorSettings()
        handlers.configure(settings)
        ready, stop = asyncio.Event(), asyncio.Event()
        namespaces = self.settings.namespaces
        work = asyncio.create_task(
            kopf.operator(
                registry=watches,
                settings=settings,
                clusterwide=not namespaces,
                namespaces=namespaces,
                ready_flag=ready,
                stop_flag=stop,
            )
        )
        signals = spawn("shutdown", self._own_signals(ready, stop), follows="this process ends")
        try:
            await work
        except Exception as e:
            if self._cannot_begin is not None:
                raise StartupFailed(self._cannot_begin) from e
            if self.ending.failure is None:
                raise
        finally:
            signals.cancel()
            await self._end()
            await in_order(*(("connections are closed", client.close) for client in parts.clients))
            # A cancelled watch says goodbye over TLS, and aiohttp has nothing to await for that.
            await asyncio.sleep(GOODBYE)
        self.ending.over()
        if self.ending.failure is not None:
            raise PartFailed(self.ending.failure)
        return self.ending.restart is not None

    # kopf's hooks

    async def _login(self, **_: Any) -> kopf.AiohttpSession:
        connection = replace(self.connection, middlewares=(self.parts.missing.slow_down, *self.connection.middlewares))
        return kopf.AiohttpSession(
            aiohttp_session=connection.session(connections=8, traces=[self.parts.watches.tracing()]),
            server=self.connection.server,
            default_namespace=self.connection.namespace,
        )

    async def _begin(self, **_: Any) -> None:
        """Start, or end this process in order: kopf would start again what fails, on top of what is running."""
        try:
            await self._start()
        except Exception as e:
            if isinstance(e, CannotListen):
                self._cannot_begin = str(e)
            else:
                log.exception("startup failed")
                self.ending.fail("startup", e)
            await self._end()
            raise kopf.PermanentError(f"startup failed: {e}") from e

    async def _start(self) -> None:
        """Serve, list stores, then jobs, then lead or stand for election; then kopf watches.

        So `synced` means that all jobs are known, and no job misses a store that is merely not listed yet. Until
        then calls are answered 503 and /healthz says that this process lives, however long the API server lacks a CRD.
        """
        await self.parts.metrics.start()
        await self.parts.endpoint.start()
        log.info("serving", url=self.parts.endpoint.url)
        await _until_listed("RollupStore", partial(self.parts.books.sweep, whole=True))
        await _until_listed("RollupJob", self.parts.relisting.list_jobs)
        if self.ending.restart is not None:
            return  # some of what was listed is from before a restore of etcd: another operator takes this one's place
        self.parts.index.synced = True
        if self.parts.election is None:
            self.parts.gate.lead()
            self.parts.followers.lead(listed=True)
        else:
            self.ending.need(self.parts.election.start())
        self._chores = [
            keep_running("sweep", lambda: self.parts.relisting.keep_sweeping(self.settings.sweep_seconds)),
            keep_running("events", self.parts.events.run),
            keep_running("garbage collection", self.collector.keep_short),
        ]
        log.info("ready", jobs=self.parts.index.size, url=self.parts.endpoint.url)
        self.announce(self.parts.endpoint.url)

    async def _end(self, **_: Any) -> None:
        """Close everything, once: in kopf's cleanup, or without it if startup or kopf failed."""
        if self._ended:
            return
        self._ended = True
        if not self._handed_over:
            self.ending.end_within(self.settings.grace_seconds + shutdown.MARGIN)
            await self._hand_over()
        await in_order(
            ("the second listener is closed", self.parts.metrics.close),
            ("the endpoint is closed", self.parts.endpoint.close),
            ("actors end", self._end_actors),
            ("background tasks end", self._end_chores),
            ("stores are closed", self.parts.books.close),
            ("telemetry is closed", self.parts.telemetry.close),
        )
        self.collector.end()
        log.info("ended")

    async def _end_chores(self) -> None:
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)

    # The end

    async def _own_signals(self, ready: asyncio.Event, stop: asyncio.Event) -> None:
        await ready.wait()
        self.ending.on_signals()  # kopf's own handler, set before its ready flag, would end the watch at once
        await self.ending.asked()
        grace = self.settings.grace_seconds
        log.info("draining", grace_seconds=grace)
        self.ending.end_within(grace + shutdown.MARGIN)
        # After a restore of etcd the stop that a client waits for may be lost with the rest.
        waiting = grace if self.ending.restart is None else 0.0
        await asyncio.gather(
            in_order(("waiters are answered", partial(self.parts.endpoint.drain, waiting))), self._hand_over()
        )
        stop.set()

    async def _hand_over(self) -> None:
        """Let the runs end, then let another process lead: it finds no held claims, and waiters here see it act.

        The lease is released even if something fails before: nothing of this process acts any more.
        """
        self._handed_over = True
        self.parts.gate.end()
        await in_order(
            ("runs end", partial(self.parts.actors.drain, self.settings.grace_seconds)),
            ("actors end", self._end_actors),
            ("files of stores are closed", self.parts.books.stand_down),
            ("the lease is released", self._release),
        )

    def _end_actors(self) -> None:
        """End every actor at once, for good."""
        self.parts.gate.close()
        self.parts.relisting.stand_down()
        self.parts.actors.stand_down()

    async def _release(self) -> None:
        if self.parts.election is not None:
            await self.parts.election.release()


async def _until_listed(kind: str, take_in: Callable[[], Awaitable[object]]) -> None:
    """Take in all objects of a resource, however long it takes until the API server serves it."""
    logged = ""
    while True:
        try:
            await take_in()
            return
        except KubeError as e:
            missing = f"the {kind} resource is not installed: apply crds/"
            if (problem := missing if e.status == 404 else str(e)) != logged:
                log.warning("waiting for the API server", problem=problem)
                logged = problem
        await asyncio.sleep(random.uniform(0.2, 0.5))  # noqa: S311  # jitter


def _allow_many_connections() -> None:
    """Raise the limit of open files as far as allowed: every waiting client holds a connection."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
