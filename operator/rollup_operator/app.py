"""The wiring of one operator process: what is made, in which order it begins, and in which order it ends.

kopf runs the watches; everything else begins in its startup and ends in its cleanup, since kopf waits for every
task of its loop. SIGTERM is ours: runs drain, the lease is given back and waiters are answered while the watch still
lives, then kopf is told to stop.
"""

import asyncio
import os
import random
import resource
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import kopf
import structlog

from rollup_operator import ending, handlers
from rollup_operator.background import in_order, keep_running, spawn
from rollup_operator.collector import Collector
from rollup_operator.ending import Ending, PartFailed
from rollup_operator.http.app import Endpoint
from rollup_operator.http.authorization import KubernetesAccess
from rollup_operator.http.server import CannotListen
from rollup_operator.http.tls import Certificate, CertificateError
from rollup_operator.kube import authz
from rollup_operator.kube.authz import Reviews
from rollup_operator.kube.client import Body, KubeClient, KubeError
from rollup_operator.kube.connection import Connection
from rollup_operator.kube.events import EventRecorder
from rollup_operator.kube.lease import LeaseClient
from rollup_operator.kube.missing import Missing
from rollup_operator.kube.paths import ApiPath, jobs_path, stores_path
from rollup_operator.kube.server_clock import ServerClock
from rollup_operator.kube.watching import Watches
from rollup_operator.lifecycle.actors import Actors
from rollup_operator.lifecycle.election import Election, Followers
from rollup_operator.lifecycle.index import Index
from rollup_operator.lifecycle.leadership import Gate, Terms
from rollup_operator.lifecycle.relist import Relisting
from rollup_operator.lifecycle.stores import StoreBook
from rollup_operator.lifecycle.work import Worker
from rollup_operator.memory import Budgets, memory_limit
from rollup_operator.model.store import RollupStoreSpec
from rollup_operator.observability.watch import Watch
from rollup_operator.settings import Settings
from rollup_operator.shares import Account, Shares
from rollup_operator.stores.base import ClockReading, Store
from rollup_operator.stores.duckdb import Budget, DuckDBStore
from rollup_operator.stores.errors import StoreUnsuitable
from rollup_operator.stores.opensearch import ClusterStore, Connections, Contexts, HostRules, Identities, Kind, Lookups
from rollup_operator.stores.secrets import ReadSecret

log = structlog.get_logger(__name__)

GOODBYE = 0.25
"""Seconds that connections have to close in before the loop does."""


class StartupFailed(Exception):
    """The operator cannot begin, and trying again does not help; the text says why."""


@dataclass
class Operator:
    """One process. `run` returns after a complete, orderly end."""

    settings: Settings
    connection: Connection
    announce: Callable[[str], None] = lambda _: None
    """Called with the endpoint's URL once it serves."""

    async def run(self) -> bool:
        """Run until SIGTERM or SIGINT, or until etcd was restored. Raises StartupFailed, PartFailed.

        Returns whether another operator is to begin in this one's place.
        """
        _allow_many_connections()
        self._collector = Collector()
        self._collector.begin()
        self._ending = Ending()
        self._certificate = _certificate(self.settings)
        self._make()
        watches = kopf.OperatorRegistry()
        handlers.register(watches, actors=self.actors, books=self.books, watches=self._watches)
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
            if self._ending.failure is None:
                raise
        finally:
            signals.cancel()
            await self._end()
            await in_order(*(("connections are closed", client.close) for client in self._clients))
            # A cancelled watch says goodbye over TLS, and aiohttp has nothing to await for that.
            await asyncio.sleep(GOODBYE)
        self._ending.over()
        if self._ending.failure is not None:
            raise PartFailed(self._ending.failure)
        return self._ending.restart is not None

    def _make(self) -> None:
        s = self.settings
        budgets = Budgets.of(s.memory_bytes or memory_limit())
        self._answers, self._pages = Shares(budgets.answers), Shares(budgets.pages)
        self._lookups, self._contexts, self._identities = Lookups(), Contexts(), Identities()
        self._embedded = Budget(s.duckdb_memory_bytes or budgets.embedded, s.duckdb_threads, s.duckdb_spill_bytes)
        self.gate = Gate()
        self.watch = Watch(s.cluster, leading=self._leads, limit=s.metrics_jobs, tracing_endpoint=s.tracing_endpoint)
        metrics = self.watch.metrics
        self._missing, self._server_clock = Missing(), ServerClock()
        self.kube = self._client()
        # Clients of their own: a storm of questions must not hold up what the jobs' actors have to write, and neither
        # the renewal of the lease.
        asking, electing = self._client(authz.CONNECTIONS), self._client(4)
        self._clients = self.kube, asking, electing
        self._watches = Watches(s.namespaces)
        instance = f"{socket.gethostname()}-{os.getpid()}"
        self.events = EventRecorder(
            self.kube, instance=instance, now=_now, leading=self._leads, normal=s.events == "all", observe=metrics.event
        )
        self.index = Index(gate=self.gate, cluster=s.cluster, namespaces=s.namespaces, observer=self.watch)
        self.books = StoreBook(
            kube=self.kube,
            make=self._store,
            now=_now,
            gate=self.gate,
            check_seconds=s.store_check_seconds,
            namespaces=s.namespaces,
        )
        identity = f"{instance}-{uuid.uuid4().hex[:8]}"
        skew = timedelta(seconds=s.clock_skew_seconds)
        worker = Worker(self.books, identity, s.cluster, _now, self.gate, clock_skew=skew, places=Shares(budgets.runs))
        self.actors = Actors(
            self.index,
            kube=self.kube,
            books=self.books,
            events=self.events,
            worker=worker,
            gate=self.gate,
            now=_now,
            observer=self.watch,
            went_back=self._ending.begin_again,
        )
        self.relisting = Relisting(
            self.index,
            self.actors,
            kube=self.kube,
            books=self.books,
            gate=self.gate,
            namespaces=s.namespaces,
            went_back=self._ending.begin_again,
        )
        self._election = self._candidacy(electing, identity) if s.leader_election else None
        reviews = Reviews(
            asking,
            audiences=s.token_audiences,
            allowed_seconds=s.allowed_cache_seconds,
            denied_seconds=s.denied_cache_seconds,
            observe=metrics.reviewed,
        )
        self.endpoint = Endpoint(
            jobs=self.index,
            client=self.kube,
            reads=asking,
            stores=self.books,
            access=KubernetesAccess(reviews),
            settings=s,
            events=self.events,
            certificate=self._certificate,
            watcher=self.watch,
            scrape=self.watch.scrape,
            failure=lambda: self._ending.failure,
            budgets=budgets,
            health=self._health,
            answering=lambda: self.index.leads or (self._election is not None and self._election.is_led),
        )
        self.watch.show(self.index, self.books, worker, self.endpoint, self._certificate)
        self._chores: list[asyncio.Task[None]] = []
        self._cannot_begin: str | None = None
        self._handed_over = self._ended = False

    def _client(self, connections: int = 32) -> KubeClient:
        return KubeClient(
            self.connection,
            connections=connections,
            forbidden=self._missing.tell,
            observe=self.watch.metrics.api_request,
            date=self._server_clock.saw,
        )

    def _candidacy(self, client: KubeClient, identity: str) -> Election:
        s = self.settings
        lease = LeaseClient(client, s.lease_namespace or self.connection.namespace, s.lease_name, _now)
        followers = Followers(self._lead, self.actors.look_again, self._stand_down, self._ending.begin_again)
        return Election(lease, identity, self.gate, followers, Terms.of(s.lease_seconds))

    def _leads(self) -> bool:
        return self.gate.open

    def _lead(self, *, listed: bool = False) -> None:
        self.books.lead()
        if not listed:
            self.relisting.catch_up()
        self.actors.lead()

    def _stand_down(self) -> None:
        self.relisting.stand_down()
        self.actors.stand_down()
        self.books.stand_down()

    def _health(self) -> Mapping[str, bool | str]:
        return {"api_server": self.relisting.problem or True, "watch": self._watches.problem() or True}

    def _store(self, namespace: str, spec: RollupStoreSpec, read_secret: ReadSecret) -> Store:
        store: Store
        if spec.duckdb is not None:
            store = DuckDBStore(
                self.settings.data_root,
                namespace,
                spec.duckdb,
                page_seconds=self.settings.page_seconds,
                budget=self._embedded,
                is_alive=self.index.is_alive,
                other_clock=self._api_server_clock,
                may_run=self._leads,
            )
            return store
        kind: Kind = "opensearch" if spec.opensearch is not None else "elasticsearch"
        if (cluster := spec.opensearch or spec.elasticsearch) is None:
            raise StoreUnsuitable("spec: exactly one kind of store must be set: duckdb, opensearch or elasticsearch")
        rules = HostRules.read(self.settings.store_hosts)
        connections = Connections(
            kind,
            cluster,
            read_secret=read_secret,
            rules=rules,
            plain_credentials=self.settings.store_plain_credentials,
            lookups=self._lookups,
            contexts=self._contexts,
            identity=self._identities.of if namespace in self.settings.store_aws_namespaces else None,
            who=namespace,
        )
        client = connections.cluster(
            self._leads, answers=Account(self._answers, namespace), pages=Account(self._pages, namespace)
        )
        store = ClusterStore(kind, client, is_alive=self.index.is_alive)
        return store

    def _api_server_clock(self) -> ClockReading | None:
        at = self._server_clock.now()
        return ClockReading("the API server's", at) if at is not None else None

    # kopf's hooks

    async def _login(self, **_: Any) -> kopf.AiohttpSession:
        connection = replace(self.connection, middlewares=(self._missing.slow_down, *self.connection.middlewares))
        return kopf.AiohttpSession(
            aiohttp_session=connection.session(connections=8, traces=[self._watches.tracing()]),
            server=self.connection.server,
            default_namespace=self.connection.namespace,
        )

    async def _begin(self, **_: Any) -> None:
        """Start, or end this process in order: kopf would begin what fails once more, on top of what has begun."""
        try:
            await self._start()
        except Exception as e:
            if isinstance(e, CannotListen):
                self._cannot_begin = str(e)
            else:
                log.exception("startup failed")
                self._ending.fail("startup", e)
            await self._end()
            raise kopf.PermanentError(f"startup failed: {e}") from e

    async def _start(self) -> None:
        """Serve, list stores, then jobs, then lead or stand for election; kopf watches next.

        So `synced` means that all jobs are known, and no job looks for a store that is merely not listed yet. Until
        then calls are answered 503 and /healthz tells that this process lives, however long the API server lacks a CRD.
        """
        await self.endpoint.start()
        log.info("serving", url=self.endpoint.url)
        for namespace in self.settings.namespaces or (None,):
            await self._list(stores_path(namespace), "RollupStore", self.books.observe)
        for namespace in self.settings.namespaces or (None,):
            await self._list(jobs_path(namespace), "RollupJob", self.actors.observe)
        self.index.synced = True
        if self._election is None:
            self.gate.lead()
            self._lead(listed=True)
        else:
            self._ending.need(self._election.start())
        self._chores = [
            keep_running("sweep", lambda: self.relisting.keep_sweeping(self.settings.sweep_seconds)),
            keep_running("events", self.events.run),
            keep_running("garbage collection", self._collector.keep_short),
        ]
        log.info("ready", jobs=self.index.size, url=self.endpoint.url)
        self.announce(self.endpoint.url)

    async def _list(self, path: ApiPath, kind: str, observe: Callable[[Body], None]) -> None:
        """Take in all objects of a resource, however long it takes until the API server has it."""
        told = ""
        while True:
            try:
                async for page in self.kube.pages(path):
                    for body in page["items"]:
                        observe(body)
                return
            except KubeError as e:
                missing = f"the {kind} resource is not installed: apply crds/"
                if (problem := missing if e.status == 404 else str(e)) != told:
                    log.warning("waiting for the API server", problem=problem)
                    told = problem
            await asyncio.sleep(random.uniform(0.2, 0.5))  # noqa: S311  # jitter

    async def _end(self, **_: Any) -> None:
        """Close whatever is open, once: in kopf's cleanup, or where that does not come since startup or kopf failed."""
        if self._ended:
            return
        self._ended = True
        if not self._handed_over:
            self._ending.end_within(self.settings.grace_seconds + ending.MARGIN)
            await self._hand_over()
        await in_order(
            ("the endpoint is closed", self.endpoint.close),
            ("actors end", self._end_actors),
            ("background tasks end", self._end_chores),
            ("stores are closed", self.books.close),
            ("telemetry is closed", self.watch.close),
        )
        self._collector.end()
        log.info("ended")

    async def _end_chores(self) -> None:
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)

    # The end

    async def _own_signals(self, ready: asyncio.Event, stop: asyncio.Event) -> None:
        await ready.wait()
        self._ending.on_signals()  # kopf's own handler, set before its ready flag, would end the watch at once
        await self._ending.asked()
        grace = self.settings.grace_seconds
        log.info("draining", grace_seconds=grace)
        self._ending.end_within(grace + ending.MARGIN)
        # After a restore of etcd nobody can see the stop that a client waits for, which may be lost with the rest.
        waiting = grace if self._ending.restart is None else 0.0
        await asyncio.gather(
            in_order(("waiters are answered", partial(self.endpoint.drain, waiting))), self._hand_over()
        )
        stop.set()

    async def _hand_over(self) -> None:
        """Let the runs end, then let another process lead: it finds nothing held, and what waits here sees it act.

        The lease is released whatever fails before: nothing of this process acts any more.
        """
        self._handed_over = True
        self.gate.end()
        await in_order(
            ("runs end", partial(self.actors.drain, self.settings.grace_seconds)),
            ("actors end", self._end_actors),
            ("files of stores are closed", self.books.stand_down),
            ("the lease is released", self._release),
        )

    def _end_actors(self) -> None:
        """End every actor at once, for good."""
        self.gate.close()
        self.relisting.stand_down()
        self.actors.stand_down()

    async def _release(self) -> None:
        if self._election is not None:
            await self._election.release()


def _certificate(settings: Settings) -> Certificate | None:
    try:
        return Certificate(Path(settings.tls_cert_file), Path(settings.tls_key_file)) if settings.tls else None
    except CertificateError as e:
        raise StartupFailed(str(e)) from e


def _allow_many_connections() -> None:
    """Raise the limit of open files as far as allowed: every waiting client holds a connection."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _now() -> datetime:
    return datetime.now(UTC)
