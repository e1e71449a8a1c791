"""Turns a decision into the job's status, which `kubectl get` and the endpoint read. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from rollup_operator.lifecycle.jobs.states import Decision, Facts
from rollup_operator.model.conditions import Trouble, verdict, verified
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import (
    LONGEST_MESSAGE,
    LONGEST_VALUE,
    FailedCheck,
    JobStats,
    LastRun,
    LastVerification,
    Outcome,
    PositionValue,
    RollupJobStatus,
    RunProgress,
    State,
    newest_bucket,
    shortened,
)
from rollup_operator.model.times import rfc3339, rfc3339_ms
from rollup_operator.stores.base import Claim, Position


@dataclass(frozen=True, slots=True)
class Report:
    """The progress of the job: a snapshot of its record in the store, its last run, and the current run."""

    watermark: str | None
    position: Position | None
    stats: JobStats | None
    last_run: LastRun | None
    failed_check: FailedCheck | None = None
    progress: RunProgress | None = None
    result: str | None = None
    last_verification: LastVerification | None = None

    @classmethod
    def published(cls, status: RollupJobStatus) -> "Report":
        """Return what status says already."""
        return cls(
            status.watermark,
            status.position,
            status.stats,
            status.last_run,
            status.failed_check,
            result=status.result,
            last_verification=status.last_verification,
        )

    def after(self, claim: Claim | None, stats: JobStats | None, progress: RunProgress | None = None) -> "Report":
        """Return the same with the record and the counters of a run, as far as it has come, and its progress."""
        report = replace(self, progress=progress)
        if claim is not None:
            report = report.with_claim(claim)
        return report if stats is None else report.counting(stats)

    def after_check(self, trouble: Trouble | None) -> "Report":
        """Return the same after a check of the source; None: it was found good."""
        if trouble is None:
            return replace(self, failed_check=None)
        message = shortened(trouble.message, LONGEST_MESSAGE)
        return replace(self, failed_check=FailedCheck(reason=trouble.reason, message=message))

    def after_run(self, last: LastRun, *, unread: bool = False) -> "Report":
        """Return the same after the end of a run, which has checked the source itself unless it was halted before.

        `unread`: it had nothing to do.
        """
        unchecked = self.position is None and (unread or last.outcome is Outcome.HALTED)
        return replace(self, last_run=last, failed_check=self.failed_check if unchecked else None)

    def with_claim(self, claim: Claim) -> "Report":
        """Return the same with the record as it is now."""
        watermark = None if claim.watermark_ms is None else rfc3339_ms(claim.watermark_ms)
        report = replace(self, watermark=watermark, position=claim.position, result=claim.result)
        return report.counting(claim.stats)

    def counting(self, stats: JobStats) -> "Report":
        """Return the same with these counters. No counter goes back: the store's may lack failed runs."""
        return replace(self, stats=stats if self.stats is None else stats.at_least(self.stats))


def status_of(
    job: JobView,
    decision: Decision,
    report: Report,
    now: datetime,
    operator: str | None = None,
    *,
    verifies: bool = False,
) -> dict[str, Any]:
    """Return the whole status that the decision asks to show, as the API server would send it.

    `operator`: the one that acts on the job. `verifies`: it has spec.verify.
    """
    state = decision.show
    assert state is not None
    armed = state in (State.STARTED, State.INDEXING)
    next_run = rfc3339(decision.next_tick) if armed and decision.next_tick is not None else None
    if state is State.INDEXING and job.status.state is State.INDEXING and not decision.refresh:
        next_run = job.status.next_run_time  # ticks dropped by a long run are no change
    conditions = verdict(
        ready=decision.ready,
        stalled=decision.stalled,
        reason=decision.reason,
        message=_message(job, decision, state),
        generation=job.generation,
        now=rfc3339(now),
        before=job.status.conditions,
    )
    last_verification = report.last_verification if verifies else None
    if verifies:
        before = job.status.conditions
        conditions.append(verified(last_verification, generation=job.generation, now=rfc3339(now), before=before))
    position = None if report.position is None else _shown(report.position)
    newest = newest_bucket(report.position)
    status = RollupJobStatus(
        observed_generation=job.generation,
        state=state,
        desired_state=job.desired if job.ever_asked else None,
        operator=operator,
        conditions=conditions,
        watermark=report.watermark,
        position=position,
        newest_bucket=None if newest is None else rfc3339(newest),
        stats=report.stats,
        progress=report.progress if state is State.INDEXING else None,
        last_run=report.last_run,
        failed_check=report.failed_check,
        last_verification=last_verification,
        result=report.result,
        next_run_time=next_run,
        last_handled_run_request=decision.handled_request,
    )
    return status.model_dump(mode="json", by_alias=True, exclude_none=True) | (
        {"position": position} if position is not None else {}
    )


def _shown(position: Position) -> dict[str, PositionValue]:
    """Return a position for people to read; the store keeps the original. Terms of a source may have any length."""
    return {
        key: shortened(value, LONGEST_VALUE) if isinstance(value, str) else value for key, value in position.items()
    }


def explain(facts: Facts) -> str:
    """Say in a few words, for people who wait, what this process does for a job, and for how long."""
    run, trouble = facts.run, facts.trouble
    if run is not None and run.halted is not None:
        return f"halted {run.halted:.1f} s ago, it waits for: {run.doing}"
    if run is not None:
        return f"at work for {run.age:.1f} s: {run.doing}"
    if facts.verified_for is not None:
        return "a verification reads its source in this process"
    if trouble is None:
        return "nothing of it runs in this process"
    again = "" if facts.retry_in is None else f", retried in {facts.retry_in:.1f} s"
    return f"nothing of it runs in this process; {trouble.reason}: {trouble.message}{again}"


def _message(job: JobView, decision: Decision, state: State) -> str:
    """Keep a long run's message between two reports: its counters would cause a write per second."""
    if state is State.INDEXING and job.status.state is State.INDEXING and not decision.refresh:
        old = next((c for c in job.status.conditions if c.type == "Ready"), None)
        if old is not None and old.reason == decision.reason and decision.ready:
            return old.message
    return decision.message
