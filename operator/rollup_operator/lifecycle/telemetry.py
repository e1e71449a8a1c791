"""Telemetry of the lifecycle: callbacks about jobs and their runs, which change nothing in the lifecycle."""

import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from rollup_operator.model.conditions import Trouble
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import LastVerification, Outcome


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run ended, and what it did."""

    outcome: Outcome
    seconds: float
    """How long it took, the wait for a place at its store included."""
    rows: int
    """Source rows read."""
    documents: int
    """Rolled-up documents written."""
    rewritten: int
    """Documents rewritten because rows came late."""
    kept: int
    """Documents left as they were because their source holds fewer rows now."""
    watermark: str | None
    """Everything before it is rolled up."""
    trouble: Trouble | None = None
    """Why it failed."""
    requested: bool = False
    """Whether somebody requested it; else a tick or a retry began it."""
    failures: int = 0
    """How many runs of the job have failed in a row."""
    is_step: bool = True
    """Whether a failure begins another step of the back-off; ticks may retry far more often."""
    error: Exception | None = None
    """The error that no store is known to raise: a bug."""

    @property
    def is_idle(self) -> bool:
        """Whether a tick has found nothing to do: no rows, nothing to write, no trouble."""
        did = self.rows or self.documents or self.rewritten or self.kept
        return self.outcome is Outcome.COMPLETED and not did and not self.requested


class JobObserver(Protocol):
    """Called in the event loop; must not block, and must not raise."""

    def seen(self, job: JobView) -> None:
        """Take in each newer view of a job, whoever brought it."""

    def gone(self, job: JobView) -> None:
        """Take in that a job no longer exists."""


class Observer(JobObserver, Protocol):
    """Hears of runs and turns, too."""

    def ran(self, job: JobView, run: RunReport) -> None:
        """Take in that a run of an actor has ended, once per run."""

    def verified(self, job: JobView, report: LastVerification, seconds: float) -> None:
        """Take in that a verification by spec.verify has ended, after so many seconds."""

    def reverted(self, job: JobView, message: str) -> None:
        """Take in that somebody set the desired state of a job back."""

    def left(self, job: JobView, operator: str | None) -> None:
        """Take in that a job is left to another operator; None: it no longer is."""

    def rival(self, job: JobView, operator: str) -> None:
        """Take in that another operator watches a job of this one, and leaves it alone."""

    def turned(self, result: str, seconds: float) -> None:
        """Take in that an actor had a turn: `success` or `error`."""


async def timed(observer: Observer, turn: Awaitable[None]) -> None:
    """Await an actor's turn and report it. Raises what the turn raises."""
    began, result = time.monotonic(), "error"
    try:
        await turn
        result = "success"
    finally:
        observer.turned(result, time.monotonic() - began)


class NoObserver:
    """Telemetry that ignores everything."""

    def seen(self, job: JobView) -> None:
        """Do nothing."""

    def gone(self, job: JobView) -> None:
        """Do nothing."""

    def ran(self, job: JobView, run: RunReport) -> None:
        """Do nothing."""

    def verified(self, job: JobView, report: LastVerification, seconds: float) -> None:
        """Do nothing."""

    def reverted(self, job: JobView, message: str) -> None:
        """Do nothing."""

    def left(self, job: JobView, operator: str | None) -> None:
        """Do nothing."""

    def rival(self, job: JobView, operator: str) -> None:
        """Do nothing."""

    def turned(self, result: str, seconds: float) -> None:
        """Do nothing."""


class JobObservers:
    """Several who observe jobs."""

    def __init__(self, *observers: JobObserver) -> None:
        self._observers = observers

    def seen(self, job: JobView) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.seen(job)

    def gone(self, job: JobView) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.gone(job)
