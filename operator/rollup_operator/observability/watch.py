"""The one object that watches the process: what the seams of all other parts are told, and where it goes."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

import structlog

from rollup_operator.model.reader import JobView
from rollup_operator.observability.metrics import Metrics
from rollup_operator.observability.transitions import Transitions

if TYPE_CHECKING:
    from rollup_operator.observability.tracing import Tracing


log = structlog.get_logger(__name__)


class Jobs(Protocol):
    """The part of the index of jobs that is shown."""

    @property
    def busy(self) -> int:
        """How many jobs have a turn or a run under way."""

    def views(self) -> Sequence[JobView]:
        """Return the newest view of every job."""


class Stores(Protocol):
    """The part of the book of stores that is shown."""

    def readiness(self) -> Sequence[tuple[tuple[str, str], bool]]:
        """Return every store, and whether it can be used."""


class Worker(Protocol):
    """The part of the lifecycle's worker that is shown."""

    @property
    def runs(self) -> int:
        """How many run tasks exist."""


class Endpoint(Protocol):
    """The part of the endpoint that is shown."""

    @property
    def waiting(self) -> int:
        """How many clients wait for a stop."""


class Certificate(Protocol):
    """The part of the endpoint's certificate that is shown."""

    @property
    def ends(self) -> float:
        """When it ends, in seconds since the epoch."""


class Watch:
    """Watches the jobs (`lifecycle.observer.Observer`) and the endpoint (`http.ports.Watcher`).

    `leading` tells whether this process acts on the jobs; `limit` bounds the jobs, and the stores, that have series of
    their own. `tracing_endpoint` is empty where there are no traces.
    """

    def __init__(
        self, cluster: str, *, leading: Callable[[], bool], limit: int = 1_000, tracing_endpoint: str = ""
    ) -> None:
        self.metrics = Metrics()
        self._leading, self._limit = leading, limit
        self._jobs: Jobs | None = None
        self._stores: Stores | None = None
        self._scraping: asyncio.Future[bytes] | None = None
        self._tracing = tracing = _tracing(tracing_endpoint, cluster)
        self._transitions = Transitions(self.metrics, leading=leading, tracer=tracing)
        self.turned = self.metrics.turned
        self.ran = self.metrics.ran
        self.answered = self.metrics.answered
        self.lagged = self.metrics.lagged
        self.stop_answered = self.metrics.stop_answered

    def show(
        self, jobs: Jobs, stores: Stores, worker: Worker, endpoint: Endpoint, certificate: Certificate | None
    ) -> None:
        """Show what these know; each is asked at a scrape."""
        self._jobs, self._stores = jobs, stores
        gauge = self.metrics.gauge
        gauge("rollup_operator_leader", "1 while this process acts on the jobs.", self._leading)
        gauge("rollup_operator_tasks", "Tasks of the event loop.", lambda: len(asyncio.all_tasks()))
        gauge(
            "rollup_operator_queue_depth",
            "Jobs that wait for their actor, or are at a write of its.",
            lambda: max(0, jobs.busy - worker.runs),
        )
        gauge(
            "rollup_runs_active",
            "Runs under way, those that wait for a place at their store included.",
            lambda: worker.runs,
        )
        gauge("rollup_stop_waiters", "Clients that wait for a stop.", lambda: endpoint.waiting)
        gauge(
            "rollup_tls_certificate_expiry_timestamp_seconds",
            "When the certificate of the HTTP API ends; NaN without TLS.",
            lambda: certificate.ends if certificate is not None else math.nan,
        )

    def seen(self, job: JobView) -> None:
        """Take in a newer view of a job. A mistake in telling of it must not hold up what the job is to do."""
        try:
            self._transitions.seen(job)
        except Exception:
            log.exception("not told of", namespace=job.namespace, job=job.name)

    def gone(self, job: JobView) -> None:
        """Take in that a job no longer exists."""
        try:
            self._transitions.gone(job)
        except Exception:
            log.exception("not told of", namespace=job.namespace, job=job.name)

    def asked(self, job: JobView) -> None:
        """Take in the answer of a write of the endpoint."""
        self._transitions.asked(job, structlog.contextvars.get_contextvars().get("request_id"))
        if self._tracing is not None:
            self._tracing.asked(job.uid, job.generation)

    def request(self, deed: str, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        """Surround a call of the endpoint."""
        return nullcontext() if self._tracing is None else self._tracing.request(deed, headers)

    def step(self, name: str) -> AbstractContextManager[None]:
        """Surround a part of it."""
        return nullcontext() if self._tracing is None else self._tracing.step(name)

    async def scrape(self) -> bytes:
        """Return the text of all metrics, made once for all who ask while it is made: nobody says who may ask.

        Jobs and stores are shown by the process that acts on them alone.
        """
        if self._scraping is None or self._scraping.done():
            self._scraping = asyncio.ensure_future(self._scrape())
        return await asyncio.shield(self._scraping)

    async def _scrape(self) -> bytes:
        if not self._leading() or self._jobs is None or self._stores is None:
            return await self.metrics.scrape((), (), limit=self._limit)
        return await self.metrics.scrape(self._jobs.views(), self._stores.readiness(), limit=self._limit)

    async def close(self) -> None:
        """Send what is still to be sent."""
        if self._tracing is not None:
            await self._tracing.close()


def _tracing(endpoint: str, cluster: str) -> "Tracing | None":
    if not endpoint:
        return None
    # Here, because its packages are an extra, and take a while to import.
    from rollup_operator.observability.tracing import Tracing  # noqa: PLC0415

    return Tracing.to(endpoint, cluster=cluster)
