"""Makes every part of one operator process, in the order in which they need each other. Nothing begins here.

gate ─ telemetry ─ clients ─ events ─ index ─ stores ─ worker ─ actors ─ lists ─ election ─ endpoint ─ metrics
"""

import os
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rollup_operator.http.access.kubernetes import KubernetesAccess
from rollup_operator.http.app import Endpoint
from rollup_operator.http.jobs.desired_state import SHARED_AT_ONCE
from rollup_operator.http.listener.scrape import MetricsListener
from rollup_operator.http.listener.tls import Certificate
from rollup_operator.http.ui.recent_runs import RecentRuns
from rollup_operator.kube import authz
from rollup_operator.kube.authz import Reviews
from rollup_operator.kube.client import KubeClient
from rollup_operator.kube.connection import Connection
from rollup_operator.kube.events import EventRecorder
from rollup_operator.kube.forbidden import MissingRights
from rollup_operator.kube.lease import LeaseClient
from rollup_operator.kube.server_clock import ServerClock
from rollup_operator.kube.watch_liveness import Watches
from rollup_operator.lifecycle.jobs.actors import Actors
from rollup_operator.lifecycle.jobs.index import Index
from rollup_operator.lifecycle.jobs.relist import Relisting
from rollup_operator.lifecycle.jobs.run_task import Worker
from rollup_operator.lifecycle.leader.election import Election, Followers
from rollup_operator.lifecycle.leader.gate import Gate, Terms
from rollup_operator.lifecycle.stores.book import StoreBook
from rollup_operator.lifecycle.telemetry import JobObservers
from rollup_operator.model.store import RollupStoreSpec
from rollup_operator.observability.figures import Figures
from rollup_operator.observability.telemetry import Telemetry
from rollup_operator.observability.volume import Volume
from rollup_operator.settings import Settings
from rollup_operator.sharing.memory import Budgets, memory_limit
from rollup_operator.sharing.shares import Account, Shares
from rollup_operator.shutdown import Ending
from rollup_operator.stores.base import ClockReading, Store
from rollup_operator.stores.duckdb import Budget, DuckDBStore, Judged
from rollup_operator.stores.errors import StoreUnsuitable
from rollup_operator.stores.opensearch import ClusterStore, Connections, Contexts, HostRules, Identities, Kind, Lookups
from rollup_operator.stores.secrets import ReadSecret


@dataclass(frozen=True)
class Parts:
    """One process."""

    gate: Gate
    telemetry: Telemetry
    kube: KubeClient
    clients: tuple[KubeClient, ...]
    """All of them, to be closed at the end."""
    missing: MissingRights
    watches: Watches
    events: EventRecorder
    index: Index
    books: StoreBook
    actors: Actors
    relisting: Relisting
    followers: Followers
    election: Election | None
    """None: this process is the only one, and leads."""
    endpoint: Endpoint
    metrics: MetricsListener


def build(settings: Settings, connection: Connection, ending: Ending) -> Parts:
    """Make all parts. Raises CertificateError."""
    certificate = Certificate(Path(settings.tls_cert_file), Path(settings.tls_key_file)) if settings.tls else None
    budgets = Budgets.of(settings.memory_bytes or memory_limit())
    gate = Gate()

    def leads() -> bool:
        return gate.open

    telemetry = Telemetry(settings.cluster, leading=leads, tracing_endpoint=settings.tracing_endpoint)
    missing, server_clock = MissingRights(), ServerClock()

    def client(connections: int = 32) -> KubeClient:
        return KubeClient(
            connection,
            connections=connections,
            forbidden=missing.log_refusal,
            observe=telemetry.metrics.api_request,
            date=server_clock.saw,
        )

    # Clients of their own: a storm of questions must not hold up what the jobs' actors have to write, and neither
    # the renewal of the lease.
    kube, asking, electing = client(), client(authz.CONNECTIONS + SHARED_AT_ONCE), client(4)
    lease: LeaseClient | None = None
    if settings.leader_election:
        lease = LeaseClient(electing, settings.lease_namespace or connection.namespace, settings.lease_name, now)
    watches = Watches(settings.namespaces)
    instance = f"{socket.gethostname()}-{os.getpid()}"
    identity = f"{instance}-{uuid.uuid4().hex[:8]}"
    events = EventRecorder(
        kube,
        instance=instance,
        now=now,
        leading=leads,
        normal=settings.events == "all",
        observe=telemetry.metrics.event,
    )
    recent_runs = RecentRuns()
    index = Index(
        gate=gate,
        cluster=settings.cluster,
        namespaces=settings.namespaces,
        observer=JobObservers(telemetry, recent_runs) if settings.ui else telemetry,
    )
    books = StoreBook(
        kube=kube,
        make=StoreMaker(settings, budgets, index, server_clock, leads),
        now=now,
        gate=gate,
        holder=identity,
        check_seconds=settings.store_check_seconds,
        namespaces=settings.namespaces,
        record=events.record,
        others_act=index.others_act,
        went_back=ending.begin_again,
    )
    skew = timedelta(seconds=settings.clock_skew_seconds)
    worker = Worker(books, identity, settings.cluster, now, gate, clock_skew=skew, places=Shares(budgets.runs))
    actors = Actors(
        index,
        kube=kube,
        books=books,
        events=events,
        worker=worker,
        gate=gate,
        now=now,
        observer=telemetry,
        operator=None if lease is None else str(lease),
        gitops_managers=settings.gitops_managers,
        went_back=ending.begin_again,
    )
    relisting = Relisting(
        index,
        actors,
        kube=kube,
        books=books,
        gate=gate,
        namespaces=settings.namespaces,
        went_back=ending.begin_again,
    )

    def lead(*, listed: bool = False) -> None:
        books.lead()
        if not listed:
            relisting.catch_up()
        actors.lead()

    def stand_down() -> None:
        relisting.stand_down()
        actors.stand_down()
        books.stand_down()

    followers = Followers(lead, actors.recheck, stand_down, ending.begin_again)
    election: Election | None = None
    if lease is not None:
        election = Election(lease, identity, gate, followers, Terms.of(settings.lease_seconds))
    reviews = Reviews(
        asking,
        audiences=settings.token_audiences,
        allowed_seconds=settings.allowed_cache_seconds,
        denied_seconds=settings.denied_cache_seconds,
        observe=telemetry.metrics.reviewed,
    )

    def health() -> Mapping[str, bool | str]:
        return {"api_server": relisting.problem or True, "watch": watches.problem() or True}

    endpoint = Endpoint(
        jobs=index,
        client=kube,
        reads=asking,
        stores=books,
        access=KubernetesAccess(reviews),
        settings=settings,
        events=events,
        certificate=certificate,
        telemetry=telemetry,
        failure=lambda: ending.failure,
        health=health,
        budgets=budgets,
        recent_runs=recent_runs,
        answering=lambda: index.leads or (election is not None and election.is_led),
        holder=identity,
    )
    figures = Figures(
        telemetry.metrics,
        jobs=index,
        stores=books,
        worker=worker,
        endpoint=endpoint,
        certificate=certificate,
        volume=Volume(settings.data_root),
        leading=leads,
        limit=settings.metrics_jobs,
    )
    return Parts(
        gate=gate,
        telemetry=telemetry,
        kube=kube,
        clients=(kube, asking, electing),
        missing=missing,
        watches=watches,
        events=events,
        index=index,
        books=books,
        actors=actors,
        relisting=relisting,
        followers=followers,
        election=election,
        endpoint=endpoint,
        metrics=MetricsListener(settings, figures.scrape, endpoint.liveness, endpoint.readiness),
    )


class StoreMaker:
    """Makes the clients of RollupStores, which share what the process has for all of them."""

    def __init__(
        self, settings: Settings, budgets: Budgets, index: Index, server_clock: ServerClock, leads: Callable[[], bool]
    ) -> None:
        self._settings, self._index, self._server_clock, self._leads = settings, index, server_clock, leads
        self._answers, self._pages = Shares(budgets.answers), Shares(budgets.pages)
        self._searches = Shares(budgets.searches)
        self._lookups, self._contexts, self._identities = Lookups(), Contexts(), Identities()
        self._embedded = Budget(
            settings.duckdb_memory_bytes or budgets.embedded, settings.duckdb_threads, settings.duckdb_spill_bytes
        )
        self._judged = Judged()

    def __call__(self, namespace: str, spec: RollupStoreSpec, read_secret: ReadSecret) -> Store:
        """Make the client of a store in a namespace. Raises StoreError. No I/O."""
        if spec.duckdb is not None:
            return DuckDBStore(
                self._settings.data_root,
                namespace,
                spec.duckdb,
                page_seconds=self._settings.page_seconds,
                budget=self._embedded,
                is_alive=self._index.is_alive,
                other_clock=self._api_server_clock,
                may_run=self._leads,
                judged=self._judged,
            )
        kind: Kind = "opensearch" if spec.opensearch is not None else "elasticsearch"
        if (cluster := spec.opensearch or spec.elasticsearch) is None:
            raise StoreUnsuitable("spec: exactly one kind of store must be set: duckdb, opensearch or elasticsearch")
        connections = Connections(
            kind,
            cluster,
            read_secret=read_secret,
            rules=HostRules.read(self._settings.store_hosts),
            plain_credentials=self._settings.store_plain_credentials,
            lookups=self._lookups,
            contexts=self._contexts,
            identity=self._identities.of if namespace in self._settings.store_aws_namespaces else None,
            who=namespace,
        )
        client = connections.cluster(
            self._leads,
            answers=Account(self._answers, namespace),
            pages=Account(self._pages, namespace),
            searches=Account(self._searches, namespace),
        )
        return ClusterStore(kind, client, is_alive=self._index.is_alive)

    def _api_server_clock(self) -> ClockReading | None:
        at = self._server_clock.now()
        return ClockReading("the API server's", at) if at is not None else None


def now() -> datetime:
    """Return the time of this machine's clock."""
    return datetime.now(UTC)
