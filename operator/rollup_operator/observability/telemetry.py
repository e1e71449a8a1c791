"""The telemetry of the process: receives the reports of all other parts, and passes them on."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import structlog

from rollup_operator.lifecycle.telemetry import RunReport
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import LastVerification, VerificationOutcome
from rollup_operator.observability.metrics import Metrics
from rollup_operator.observability.transitions import Transitions

if TYPE_CHECKING:
    from rollup_operator.observability.tracing import Tracing


log = structlog.get_logger(__name__)

MOST_RIVALS = 100
"""Other operators that are logged: who may change a job may write any name on it."""

_ONE_OF_TWO = "remove one of the two, or let each watch namespaces of its own (ROLLUP_NAMESPACES)"


class Telemetry:
    """Telemetry of the jobs (`lifecycle.telemetry.Observer`) and the endpoint (`http.ports.EndpointTelemetry`).

    `leading` says whether this process acts on the jobs. `tracing_endpoint` is empty if there are no traces.
    """

    def __init__(self, cluster: str, *, leading: Callable[[], bool], tracing_endpoint: str = "") -> None:
        self.metrics = Metrics()
        self._tracing = tracing = _tracing(tracing_endpoint, cluster)
        self._transitions = Transitions(self.metrics, leading=leading, tracer=tracing)
        self._others: set[str] = set()
        self._rivals: set[str] = set()
        self.turned = self.metrics.turned
        self.answered = self.metrics.answered
        self.lagged = self.metrics.lagged
        self.stop_answered = self.metrics.stop_answered

    def seen(self, job: JobView) -> None:
        """Take in a newer view of a job. An error in reporting it must not hold up the job."""
        try:
            self._transitions.seen(job)
        except Exception:
            log.exception("telemetry failed", namespace=job.namespace, job=job.name)

    def gone(self, job: JobView) -> None:
        """Take in that a job no longer exists."""
        try:
            self._transitions.gone(job)
        except Exception:
            log.exception("telemetry failed", namespace=job.namespace, job=job.name)

    def ran(self, job: JobView, run: RunReport) -> None:
        """Take in that a run has ended."""
        self.metrics.ran(run.outcome, run.seconds)
        try:
            self._transitions.ran(job, run)
        except Exception:
            log.exception("telemetry failed", namespace=job.namespace, job=job.name)

    def verified(self, job: JobView, report: LastVerification, seconds: float) -> None:
        """Take in that a verification by spec.verify has ended."""
        self.metrics.verified(report.outcome, seconds)
        is_well = report.outcome not in (VerificationOutcome.DOCUMENTS_DIFFER, VerificationOutcome.FAILED)
        found = report.model_dump(mode="json", include={"outcome", "message", "buckets"}, exclude_none=True)
        level = log.info if is_well else log.warning
        level("verification ended", namespace=job.namespace, job=job.name, seconds=round(seconds, 3), **found)

    def reverted(self, job: JobView, message: str) -> None:
        """Take in that somebody set the desired state of a job back."""
        self.metrics.reverted()
        log.warning("desired state set back", namespace=job.namespace, job=job.name, message=message)

    def left(self, job: JobView, operator: str | None) -> None:
        """Take in that a job is left to another operator; None: it no longer is. Each operator is logged once."""
        if operator is None:
            log.info("taking over a job from another operator", namespace=job.namespace, job=job.name, was=job.operator)
            return
        _warn_once(
            self._others, operator, job, "another operator acts on jobs that this one watches: they are left to it"
        )

    def rival(self, job: JobView, operator: str) -> None:
        """Take in that another operator leaves jobs to this one. Each is logged once, the first of them."""
        text = "another operator watches jobs that this one acts on, and leaves them alone"
        _warn_once(self._rivals, operator, job, text)

    def asked(self, job: JobView) -> None:
        """Take in the answer of a write of the endpoint."""
        self._transitions.asked(job, structlog.contextvars.get_contextvars().get("request_id"))
        if self._tracing is not None:
            self._tracing.asked(job.uid, job.generation)

    def request(self, action: str, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        """Surround a call of the endpoint."""
        return nullcontext() if self._tracing is None else self._tracing.request(action, headers)

    def step(self, name: str) -> AbstractContextManager[None]:
        """Surround a part of it."""
        return nullcontext() if self._tracing is None else self._tracing.step(name)

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


def _warn_once(warned: set[str], operator: str, job: JobView, text: str) -> None:
    if operator not in warned and len(warned) < MOST_RIVALS:
        warned.add(operator)
        log.warning(text, namespace=job.namespace, job=job.name, operator=operator, cure=_ONE_OF_TWO)
