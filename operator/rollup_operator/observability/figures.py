"""What a scrape shows beside counters: figures that other parts know, each asked when somebody scrapes."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from rollup_operator.model.job_view import JobView
from rollup_operator.observability.metrics import Metrics


class JobFigures(Protocol):
    """The part of the index of jobs that a scrape shows."""

    @property
    def busy(self) -> int:
        """How many jobs have a turn or a run in progress."""

    @property
    def left(self) -> int:
        """How many jobs are left to another operator."""

    def views(self) -> Sequence[JobView]:
        """Return the newest view of every job."""


class StoreFigures(Protocol):
    """The part of the book of stores that a scrape shows."""

    def readiness(self) -> Sequence[tuple[tuple[str, str], bool]]:
        """Return every store, and whether it can be used."""


class RunFigures(Protocol):
    """The part of the lifecycle's worker that a scrape shows."""

    @property
    def runs(self) -> int:
        """How many run tasks exist."""

    @property
    def verifying(self) -> int:
        """How many verifications by spec.verify exist."""


class EndpointFigures(Protocol):
    """The part of the endpoint that a scrape shows."""

    @property
    def waiting(self) -> int:
        """How many clients wait for a stop."""


class CertificateFigures(Protocol):
    """The part of the endpoint's certificate that a scrape shows."""

    @property
    def ends(self) -> float:
        """When it ends, in seconds since the epoch."""


class VolumeFigures(Protocol):
    """What a scrape shows of the volume of the embedded stores."""

    size_bytes: float
    available_bytes: float

    async def measure(self) -> None:
        """Bring both up to date."""


class Figures:
    """All that a scrape shows."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        jobs: JobFigures,
        stores: StoreFigures,
        worker: RunFigures,
        endpoint: EndpointFigures,
        certificate: CertificateFigures | None,
        volume: VolumeFigures,
        leading: Callable[[], bool],
        limit: int = 1_000,
    ) -> None:
        """`leading` says whether this process acts on the jobs.

        `limit` bounds the jobs, and the stores, with their own series.
        """
        self._metrics, self._jobs, self._stores = metrics, jobs, stores
        self._volume, self._leading, self._limit = volume, leading, limit
        self._scraping: asyncio.Future[bytes] | None = None
        gauge = metrics.gauge
        gauge("rollup_operator_leader", "1 while this process acts on the jobs.", leading)
        gauge("rollup_operator_tasks", "Tasks of the event loop.", lambda: len(asyncio.all_tasks()))
        gauge(
            "rollup_operator_queue_depth",
            "Jobs that wait for their actor, or for a write of it.",
            lambda: max(0, jobs.busy - worker.runs - worker.verifying),
        )
        gauge(
            "rollup_jobs_left_to_another_operator",
            "Jobs that this process watches and leaves alone, because another operator acts on them.",
            lambda: jobs.left,
        )
        gauge(
            "rollup_runs_active",
            "Runs under way, those that wait for a place at their store included.",
            lambda: worker.runs,
        )
        gauge(
            "rollup_verifications_active",
            "Verifications by spec.verify under way, those that wait for a place included.",
            lambda: worker.verifying,
        )
        gauge("rollup_stop_waiters", "Clients that wait for a stop.", lambda: endpoint.waiting)
        gauge(
            "rollup_tls_certificate_expiry_timestamp_seconds",
            "When the certificate of the HTTP API ends; NaN without TLS.",
            lambda: certificate.ends if certificate is not None else math.nan,
        )
        gauge(
            "rollup_volume_size_bytes",
            "Size of the volume of the embedded stores; NaN while none was used.",
            lambda: volume.size_bytes,
        )
        gauge("rollup_volume_available_bytes", "What is free of it.", lambda: volume.available_bytes)

    async def scrape(self) -> bytes:
        """Return the text of all metrics, made once for all concurrent callers, since any caller is served.

        Only the process that acts on jobs and stores shows them.
        """
        if self._scraping is None or self._scraping.done():
            self._scraping = asyncio.ensure_future(self._scrape())
        return await asyncio.shield(self._scraping)

    async def _scrape(self) -> bytes:
        await self._volume.measure()
        if not self._leading():
            return await self._metrics.scrape((), (), limit=self._limit)
        return await self._metrics.scrape(self._jobs.views(), self._stores.readiness(), limit=self._limit)
