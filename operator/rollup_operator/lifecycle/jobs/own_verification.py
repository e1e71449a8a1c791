"""The verification of one job, as its actor keeps it: the one under way, and when the next one begins."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from rollup_operator.kube.events import Regarding
from rollup_operator.lifecycle.jobs.context import JobContext
from rollup_operator.lifecycle.jobs.job_status import Report
from rollup_operator.lifecycle.jobs.run_facts import RunFacts
from rollup_operator.lifecycle.jobs.verification_times import VerificationTimes
from rollup_operator.lifecycle.jobs.verify_task import VerificationEnded, VerifyWork
from rollup_operator.model.conditions import Reason
from rollup_operator.model.job_view import JobView
from rollup_operator.model.schedule import Schedule
from rollup_operator.model.status import LastVerification, VerificationOutcome
from rollup_operator.model.times import instant_of


class OwnVerification:
    """All methods belong to the event loop of the job's actor."""

    __slots__ = ("_schedule", "next", "work")

    def __init__(self) -> None:
        self._schedule: Schedule | None = None
        self.next: datetime | None = None
        """When the next one begins, as decided last; None: not decided since the job or its schedule changed."""
        self.work: VerifyWork | None = None

    def facts(self, now: float) -> RunFacts | None:
        """Return what `decide` needs of the one under way."""
        return None if self.work is None else self.work.facts(now)

    def times(self, schedule: Schedule | None, last: LastVerification | None) -> VerificationTimes | None:
        """Return when verifications begin, `last` being the one that ended last; None: none does."""
        if schedule != self._schedule:
            self._schedule, self.next = schedule, None
        if schedule is None:
            return None
        return VerificationTimes(schedule, self.next, None if last is None else instant_of(last.start_time))

    def begin(self, job: JobView, env: JobContext, ended: Callable[[asyncio.Task[VerificationEnded]], None]) -> None:
        """Begin one. `ended` is called at its end, and calls `end`."""
        self.work = env.worker.verify(job)
        self.work.task.add_done_callback(ended)

    def halt(self) -> None:
        """End the one under way."""
        if self.work is not None:
            self.work.halt(asyncio.get_running_loop().time())

    def spare(self, job: JobView, env: JobContext, *, gone: bool) -> None:
        """Let a deletion not wait for one in a store that is gone: end it, whatever it waits for."""
        store = job.namespace, job.store_name
        if self.work is not None and (job.deleting or gone) and env.books.edition(store) is None:
            self.work.give_up()

    def end(self, job: JobView, env: JobContext, shown: Report) -> Report | None:
        """Take in that it has ended. Returns what the job's report is now; None: as before."""
        assert self.work is not None
        work, self.work = self.work, None
        if work.outlived or work.task.cancelled():
            self.next = None  # it is made up for
            return None
        end, before = work.task.result(), shown.last_verification
        differs = end.report.outcome is VerificationOutcome.DOCUMENTS_DIFFER
        if differs and (before is None or before.outcome is not end.report.outcome):
            env.events.record(Regarding.job(job), Reason.DOCUMENTS_DIFFER, end.report.message)
        if (times := self.times(self._schedule, end.report)) is not None:
            self.next = times.after(env.now(), retry=end.retry)
        env.observer.verified(job, end.report, asyncio.get_running_loop().time() - work.began)
        return replace(shown, last_verification=end.report)
