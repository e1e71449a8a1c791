"""What this process counts and measures, and the text of a scrape.

Input: calls of the seams that the rest of the operator has for it, and at a scrape the jobs and stores as they are
then. Output: Prometheus' text format. docs/metrics.md describes each series.
"""

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from rollup_operator import __version__
from rollup_operator.concurrency.portions import each, in_portions
from rollup_operator.model.event_reasons import EventType
from rollup_operator.model.job_view import JobView
from rollup_operator.observability.job_series import ScrapePage

M = TypeVar("M", Counter, Histogram)

SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Buckets of durations that should be milliseconds."""

LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
"""Buckets of durations that may be as long as a page or a run."""


class Metrics:
    """All metrics of one process. Methods are called in the event loop and take microseconds."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody reads
        self.registry = registry = CollectorRegistry()
        self._children: dict[tuple[object, ...], Counter | Histogram] = {}
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        build = Gauge(
            "rollup_operator_build_info", "Always 1; the labels name what runs.", ["version", "python"],
            registry=registry,
        )  # fmt: skip
        build.labels(__version__, platform.python_version()).set(1)
        self._turns = Counter(
            "rollup_operator_reconcile_total",
            "Reconciliations of jobs: success, or error (a bug in the operator; it retries).",
            ["result"],
            registry=registry,
        )
        self._turn_seconds = Histogram(
            "rollup_operator_reconcile_time_seconds",
            "How long such a turn took, its write included.",
            buckets=SHORT,
            registry=registry,
        )
        self._requests = Counter(
            "rollup_operator_api_requests_total",
            "Requests to the API server by the operator's own client. Code 0: no answer.",
            ["verb", "code"],
            registry=registry,
        )
        self._request_seconds = Histogram(
            "rollup_operator_api_request_duration_seconds",
            "How long they took, the wait for a connection included.",
            ["verb"],
            buckets=SHORT,
            registry=registry,
        )
        self._events = Counter(
            "rollup_operator_events_total",
            "Kubernetes Events: posted, failed (the API server refused), dropped (too many waited).",
            ["type", "result"],
            registry=registry,
        )
        self._lag = Histogram(
            "rollup_operator_loop_lag_seconds",
            "How much later than asked the event loop came back, looked at twice a second.",
            buckets=SHORT,
            registry=registry,
        )
        self._reviews = Counter(
            "rollup_auth_reviews_total",
            "Questions who a token belongs to (kind token) and what its user may do (kind access): allowed, denied or "
            "error; cached: answered without asking the API server.",
            ["kind", "result", "cached"],
            registry=registry,
        )
        self._calls = Counter(
            "rollup_http_requests_total",
            "Calls of the HTTP API that start, stop, create or delete, and all others as action get. Code 499: the "
            "client hung up.",
            ["action", "code"],
            registry=registry,
        )
        self._call_seconds = Histogram(
            "rollup_http_request_seconds",
            "How long they took, the wait for a stop included.",
            ["action"],
            buckets=LONG,
            registry=registry,
        )
        self._stops = Counter(
            "rollup_stop_requests_total",
            "Stops asked through the HTTP API, one for each job: recorded (the client did not wait), stopped, timeout, "
            "overtaken (by a newer start), gone, shutdown, refused.",
            ["result"],
            registry=registry,
        )
        self._stop_wait = Histogram(
            "rollup_stop_wait_seconds",
            "How long clients waited for a stop, whether or not they saw it done.",
            buckets=LONG,
            registry=registry,
        )
        self._stop = Histogram(
            "rollup_stop_seconds",
            "From when the leader learns that a job shall stop until its status says stopped: the write is accepted.",
            buckets=LONG,
            registry=registry,
        )
        self._runs = Counter("rollup_runs_total", "Runs that ended, by outcome.", ["outcome"], registry=registry)
        self._run_seconds = Histogram(
            "rollup_run_seconds",
            "How long they took, the wait for a place at their store included.",
            buckets=LONG,
            registry=registry,
        )

        self._verifications = Counter(
            "rollup_verifications_total",
            "Verifications by spec.verify that ended, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self._verification_seconds = Histogram(
            "rollup_verification_seconds",
            "How long they took, the wait for a place included.",
            buckets=LONG,
            registry=registry,
        )
        self._reverts = Counter(
            "rollup_desired_state_reverts_total",
            "Changes of a job's desired state that undid another field manager's within ten minutes.",
            registry=registry,
        )

        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Show rare series from the start: a counter that appears with its first count has not increased."""
        for metric, results in (
            (self._turns, ("success", "error")),
            (self._stops, ("recorded", "stopped", "timeout", "overtaken", "gone", "shutdown")),
            (self._runs, ("Completed", "Halted", "Failed", "Fenced")),
        ):
            for result in results:
                self._of(metric, result)
        for result in ("posted", "failed", "dropped"):
            for type_ in EventType:
                self._of(self._events, type_, result)
        for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            self._of(self._requests, verb, 403)
        for kind in ("token", "access"):
            self._of(self._reviews, kind, "error", "false")

    # What the rest of the operator reports

    def turned(self, result: str, seconds: float) -> None:
        """An actor had a turn: success or error."""
        self._of(self._turns, result).inc()
        self._turn_seconds.observe(seconds)

    def api_request(self, verb: str, code: int, seconds: float) -> None:
        """The API server answered a request; code 0: it did not."""
        self._of(self._requests, verb, code).inc()
        self._of(self._request_seconds, verb).observe(seconds)

    def event(self, type_: str, result: str) -> None:
        """An event of that type was posted, failed or was dropped."""
        self._of(self._events, type_, result).inc()

    def reviewed(self, kind: str, result: str, cached: bool) -> None:
        """A token or a right was reviewed."""
        self._of(self._reviews, kind, result, "true" if cached else "false").inc()

    def answered(self, action: str, code: int, seconds: float) -> None:
        """A call of the HTTP API was answered."""
        self._of(self._calls, action, code).inc()
        self._of(self._call_seconds, action).observe(seconds)

    def stop_answered(self, result: str, waited: float | None) -> None:
        """A stop of one job was answered; `waited`: how long the client waited for it, in seconds, if it did."""
        self._of(self._stops, result).inc()
        if waited is not None:
            self._stop_wait.observe(waited)

    def stopped(self, seconds: float) -> None:
        """A job has come to rest, that many seconds after its stop was seen."""
        self._stop.observe(seconds)

    def reverted(self) -> None:
        """The desired state of a job was set back."""
        self._reverts.inc()

    def ran(self, outcome: str, seconds: float) -> None:
        """A run ended."""
        self._of(self._runs, outcome).inc()
        self._run_seconds.observe(seconds)

    def verified(self, outcome: str, seconds: float) -> None:
        """A verification by spec.verify ended."""
        self._of(self._verifications, outcome).inc()
        self._verification_seconds.observe(seconds)

    def _of(self, metric: M, *labels: str | int) -> M:
        """Return the child with these labels. The library's own lookup takes a lock and several times as long."""
        key = (metric, *labels)
        if (child := self._children.get(key)) is None:
            child = self._children[key] = metric.labels(*labels)
        return cast("M", child)

    # What is read at a scrape

    def gauge(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Add a value that is read at each scrape; it must be cheap."""
        Gauge(name, help_text, registry=self.registry).set_function(value)

    def lagged(self, seconds: float) -> None:
        """The event loop was late by this much."""
        self._lag.observe(seconds)

    async def scrape(
        self, jobs: Sequence[JobView], stores: Iterable[tuple[tuple[str, str], bool]], *, limit: int
    ) -> bytes:
        """Return the text of all metrics, with series of their own for at most `limit` jobs and as many stores."""
        page = ScrapePage(limit, time.time())
        page.add_stores(stores)
        await in_portions(each(page.add, jobs))
        parts = [generate_latest(self.registry)]
        await in_portions(each(lambda text: parts.append(text.encode()), page.text()))
        return b"".join(parts)
