"""Repairs what a job has rolled up: a run reads the days with findings again, between two verifications.

verify ──▶ what a run can repair ──▶ request a run ──▶ its end ──▶ verify ──▶ …, TRIES runs at most
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rollup_operator.explaining.findings import progress_of, to_repair
from rollup_operator.explaining.goals import End, Ran
from rollup_operator.explaining.summary import summary
from rollup_operator.http.access.permits import Permit
from rollup_operator.http.api.run import Runs
from rollup_operator.http.api.verify import Prepared, Verifications
from rollup_operator.http.ports import Jobs
from rollup_operator.http.protocol import state_errors
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.indexer.verify import VerifyProgress
from rollup_operator.model.job_view import JobView
from rollup_operator.model.run_request import Stretch

TRIES = 2
"""Runs that may repair: a request that comes during a run is dropped, and the next one is heard."""


@dataclass(frozen=True, slots=True)
class RepairRun:
    """One run that has repaired."""

    found: Mapping[str, int]
    """How many buckets of each kind were not as they should be before."""
    run: str
    """What the run says."""


@dataclass
class RepairProgress:
    """How far a repair is."""

    verification: VerifyProgress = field(default_factory=VerifyProgress)
    running: JobView | None = None
    """The job, while a run of it repairs."""

    def shown(self) -> tuple[str, float | None]:
        """Return what is done now in words, and how much of it is done in per cent; None: nobody knows."""
        if self.running is not None:
            report = self.running.status.progress
            return f"a run repairs what was found: {summary(self.running).text}", report.percent if report else None
        now = self.verification
        seen = {"doing": now.doing, "buckets": now.buckets, "findings": now.findings, "percent": now.percent}
        return progress_of(seen)


class Repairs:
    """Repairs jobs."""

    def __init__(self, jobs: Jobs, runs: Runs, verifications: Verifications) -> None:
        self._jobs, self._runs, self._verifications = jobs, runs, verifications

    async def repair(
        self, prepared: Prepared, permit: Permit, progress: RepairProgress
    ) -> tuple[dict[str, Any], Sequence[RepairRun]]:
        """Return the last verification's answer, and the runs before it. `permit` is one to run the job.

        Raises ApiError, StoreTrouble.
        """
        repairs: list[RepairRun] = []
        while True:
            progress.verification = VerifyProgress()
            found = await self._verifications.verify(prepared, progress.verification)
            if len(repairs) == TRIES or not (stretches := to_repair(found)):
                return found, repairs
            repairs.append(RepairRun(found["buckets"], await self._run(prepared.job, stretches, permit, progress)))

    async def _run(self, job: JobView, stretches: Sequence[Stretch], permit: Permit, progress: RepairProgress) -> str:
        """Have a run read stretches again, wait for its end, and return what it says. Raises ApiError."""
        goal = Ran(await self._runs.run(job.namespace, job.job_id, permit, stretches, uid=job.uid))
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def hear(view: JobView | None) -> None:
            end, progress.running = goal.hear(view), goal.newest
            if end is not End.PENDING and not over.done():
                over.set_result(None)

        unsubscribe = self._jobs.subscribe(job.uid, hear)
        try:
            newest = self._jobs.find(job.namespace, job.job_id)
            if self._jobs.is_gone(job):
                hear(None)  # before anybody listened
            elif newest is not None and newest.uid == job.uid:
                hear(newest)  # it may have changed likewise
            await over
        finally:
            unsubscribe()
            progress.running = None
        if goal.end is End.GONE:
            raise state_errors.job_not_found(job.job_id)
        if goal.end is not End.DONE:
            why = f"The run that was to repair rollup job [{job.job_id}] did not come to its end: {goal.why}"
            raise ApiError(409, "status_exception", why)
        return goal.why or goal.done
