"""The verification of one job, as its actor keeps it: the one under way, and when the next one begins."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import structlog

from rollup_operator.kube.events import Regarding
from rollup_operator.lifecycle.jobs.context import JobContext
from rollup_operator.lifecycle.jobs.job_status import Report
from rollup_operator.lifecycle.jobs.run_facts import RunFacts
from rollup_operator.lifecycle.jobs.run_task import Ended
from rollup_operator.lifecycle.jobs.verification_times import VerificationTimes
from rollup_operator.lifecycle.jobs.verify_task import VerificationEnded, VerifyWork
from rollup_operator.model.conditions import VERIFIED, Reason
from rollup_operator.model.job_view import JobView
from rollup_operator.model.schedule import Schedule
from rollup_operator.model.status import LastVerification, State, VerificationOutcome
from rollup_operator.model.times import instant_of
from rollup_operator.stores.base import Store

log = structlog.get_logger(__name__)


class OwnVerification:
    """All methods belong to the event loop of the job's actor."""

    __slots__ = ("_asked", "_earlier", "_knows", "_left", "_schedule", "next", "work")

    def __init__(self) -> None:
        self._schedule: Schedule | None = None
        self.next: datetime | None = None
        """When the next one begins, as decided last; None: not decided since the job or its schedule changed."""
        self.work: VerifyWork | None = None
        self._left: tuple[Store, ...] = ()
        self._asked: tuple[Store, ...] = ()
        self.know_nothing()

    def know_nothing(self) -> None:
        """Begin with the job's body alone."""
        self.next = None
        self._knows = False
        self._earlier = False

    @property
    def earlier(self) -> bool:
        """Whether one may be under way that nothing here waits for, until a settling of the job has: a run has not.

        An earlier leader began it, which may be frozen, or it was given up.
        """
        return self._earlier or bool(self._left or self._asked)

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

    def begin(
        self,
        newest: Callable[[], JobView],
        env: JobContext,
        ended: Callable[[asyncio.Task[VerificationEnded]], None],
    ) -> None:
        """Begin one of the job as it is `newest`. `ended` is called at its end, and calls `end`."""
        self.work = env.worker.verify(newest)
        self.work.task.add_done_callback(ended)

    def halt(self) -> None:
        """End the one under way."""
        if self.work is not None:
            self.work.halt(asyncio.get_running_loop().time())

    def may_last(self, show: State | None) -> bool:
        """Whether one is under way, or a stop waits for one of an earlier leader: the next one has to know."""
        return self.work is not None or (self.earlier and show in (State.STOPPING, State.ABORTING))

    def give_up(self) -> None:
        """End the one under way, whatever it waits for: something of it may be in progress in the store."""
        if self.work is not None:
            self._earlier = True
            self.work.give_up()

    def take_left(self) -> tuple[Store, ...]:
        """Return, for a settling that begins, where those that were given up were. `take_in` follows.

        The RollupStore may name another place by now.
        """
        self._asked, self._left = tuple(dict.fromkeys((*self._asked, *self._left))), ()
        return self._asked

    def take_in(self, end: Ended) -> tuple[Store, ...] | None:
        """Take in how the settling ended. Returns the other stores that it leaves to the next one; None: as before."""
        if end.settled:
            self._earlier, self._asked = False, ()
        if end.held is None:
            return None
        self._asked = tuple(store for store in self._asked if store in end.held)
        return tuple(store for store in end.held if store not in self._asked)

    def spare(self, job: JobView, env: JobContext, *, verifies: bool, gone: bool) -> None:
        """End the one under way if the spec has no verify any more.

        Whatever it waits for, it ends if a deletion waits for it in a store that is gone, or the process hurries.
        `verifies`: it has. Before anything begins, note whether an earlier leader may have left one.
        """
        if not self._knows:
            self._earlier = self._earlier or _may_have_been(job, verifies=verifies)
            self._knows = not env.gate.behind
        if self.work is None:
            return
        if not verifies:
            self.halt()
        is_deleted = job.deleting or gone
        is_over = is_deleted and env.books.edition((job.namespace, job.store_name)) is None
        if env.gate.hurries or is_over:
            self.give_up()
        if is_over:
            self.work.opened.clear()  # nobody asks there any more

    def end(self, job: JobView, env: JobContext, shown: Report) -> Report | None:
        """Take in that it has ended. Returns what the job's report is now; None: as before."""
        assert self.work is not None
        work, self.work = self.work, None
        self._left += tuple(work.left)
        if work.outlived or work.task.cancelled():
            self.next = None  # it is made up for
            return None
        end, before = work.task.result(), shown.last_verification
        differs = end.report.outcome is VerificationOutcome.DOCUMENTS_DIFFER
        if differs and (before is None or before.outcome is not end.report.outcome):
            env.events.record(Regarding.job(job), Reason.DOCUMENTS_DIFFER, end.report.message)
        if (times := self.times(self._schedule, end.report)) is not None:
            self.next = times.after(env.now(), retry=end.retry)
        try:
            env.observer.verified(job, end.report, asyncio.get_running_loop().time() - work.began)
        except Exception:  # what was found counts all the same
            log.exception("telemetry failed", namespace=job.namespace, job=job.name)
        return replace(shown, last_verification=end.report)


def _may_have_been(job: JobView, *, verifies: bool) -> bool:
    """Whether a verification of the job may have begun. Its status shows `Verified` before, and until later."""
    status = job.status
    is_rolled_up = job.has_drain_finalizer or status.position is not None or status.watermark is not None
    return is_rolled_up and (verifies or any(condition.type == VERIFIED for condition in status.conditions))
