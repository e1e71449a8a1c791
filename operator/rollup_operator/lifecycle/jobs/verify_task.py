"""Verifies one job by its spec.verify, and reports what was found.

A verification runs beside the job's run task. It makes no claim and writes nothing, and ends at once when it is halted:
nothing of it is in progress any more when its task has ended.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from pydantic import ValidationError

from rollup_operator.indexer.verify import Verifier, VerifyProgress
from rollup_operator.lifecycle.jobs import verification_report
from rollup_operator.lifecycle.jobs.run_facts import RunFacts, RunKind
from rollup_operator.lifecycle.jobs.verification_report import Took
from rollup_operator.lifecycle.stores.book import StoreBook
from rollup_operator.model.job import VerifyMode
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import LastVerification
from rollup_operator.model.time_values import parse_instant
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.rollup.verify_span import verify_span
from rollup_operator.sharing.shares import Held, Shares
from rollup_operator.stores.base import Store, closes_with_leadership
from rollup_operator.stores.errors import StoreError
from rollup_operator.stores.verification import Verification

log = structlog.get_logger(__name__)

VERIFICATIONS_AT_ONCE = 4
"""Verifications by spec.verify at a time in this process, half of them of one namespace: many jobs may have one cron.
"""

VERIFICATIONS_OF_STORE = 1
"""Of one store: one that does not answer leaves the other stores of its namespace a place."""

LONGEST_SECONDS = 4 * 3600.0
"""How long a verification may take: a store that answers slowly for ever would keep its place for ever."""

AGAIN = 1.0
"""Seconds until a verification that is given up is cancelled again: each time it ends one wait, for the cluster to
read that it hung up, or for the end of what is in progress there."""

Configured = Callable[[], tuple[JobView, JobConfig]]
"""Returns a job as it is now. Raises pydantic's ValidationError."""

_FULL = {VerifyMode.AUTO: None, VerifyMode.COUNTS: False, VerifyMode.FULL: True}


@dataclass(frozen=True, slots=True)
class VerificationEnded:
    """How a verification has ended that was not halted."""

    report: LastVerification
    retry: bool = False
    """It failed, for a reason that may pass."""


@dataclass(slots=True)
class VerifyWork:
    """A current verification, as known from outside. Times are the event loop's."""

    began: float
    progress: VerifyProgress
    task: asyncio.Task[VerificationEnded]
    opened: list[Store] = field(default_factory=list)
    """The store that it reads, once it is open."""
    outlived: bool = False
    """The leadership in which it began is over, so its end says nothing."""
    _halted_at: float | None = None
    _given_up: bool = False

    def halt(self, now: float) -> None:
        """Halt it, once: halted again, it would not wait until nothing of it is in progress."""
        if self._halted_at is None:
            self._halted_at = now
            self.task.cancel()

    @property
    def left(self) -> list[Store]:
        """Where something of it may still be in progress after its end: it was given up."""
        return [store for store in self.opened if self._given_up and not closes_with_leadership(store)]

    def give_up(self) -> None:
        """End it, whatever it waits for."""
        if not self._given_up:
            self._given_up = True
            self._cut()

    def _cut(self) -> None:
        if not self.task.done():
            loop = asyncio.get_running_loop()
            self._halted_at = loop.time() if self._halted_at is None else self._halted_at
            self.task.cancel()
            loop.call_later(AGAIN, self._cut)

    def facts(self, now: float) -> RunFacts:
        """Return what `decide` needs of it."""
        halted = None if self._halted_at is None else now - self._halted_at
        return RunFacts(RunKind.VERIFY, now - self.began, halted, f"a verification: {self.progress.doing}")


def begin(
    namespace: str,
    configured: Configured,
    *,
    books: StoreBook,
    of_store: Shares,
    places: Shares,
    now: Callable[[], datetime],
) -> VerifyWork:
    """Start to verify a job, as it is `configured` once it is its turn.

    `of_store` are the places at its store, `places` those of the process, for namespaces.
    """
    loop, progress = asyncio.get_running_loop(), VerifyProgress("waiting for one of the operator's places")
    opened: list[Store] = []
    work = _verify(
        namespace, configured, progress, opened.append, books=books, of_store=of_store, places=places, now=now
    )
    return VerifyWork(loop.time(), progress, loop.create_task(work), opened)


async def _verify(
    namespace: str,
    configured: Configured,
    progress: VerifyProgress,
    opens: Callable[[Store], None],
    *,
    books: StoreBook,
    of_store: Shares,
    places: Shares,
    now: Callable[[], datetime],
) -> VerificationEnded:
    async with of_store.taking(namespace) as at_store, places.taking(namespace) as place:
        began = now()
        try:
            job, config = configured()
        except ValidationError:
            why = "the spec cannot be read: kubectl rollup explain says why"
            return VerificationEnded(verification_report.failed(Took(began, now()), why, retry=False))
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                held = at_store, place
                found = await _found(job, config, progress, opens, books=books, places=held, now=now, began=began)
            return VerificationEnded(found)
        except TimeoutError:
            hours = f"{LONGEST_SECONDS / 3600:.0f} hours"
            why = f"it took longer than {hours}: set spec.verify.lookback, or mode to Counts"
            return VerificationEnded(verification_report.failed(Took(began, now()), why, retry=False))
        except StoreError as e:
            report = verification_report.failed(Took(began, now()), str(e), retry=e.transient)
            return VerificationEnded(report, retry=e.transient)
        except Exception as e:
            log.exception("verification failed", namespace=job.namespace, job=job.name)
            why = f"{type(e).__name__}: {e}"
            return VerificationEnded(verification_report.failed(Took(began, now()), why, retry=False))


async def _found(
    job: JobView,
    config: JobConfig,
    progress: VerifyProgress,
    opens: Callable[[Store], None],
    *,
    books: StoreBook,
    places: Sequence[Held],
    now: Callable[[], datetime],
    began: datetime,
) -> LastVerification:
    spec, status = config.spec, job.status
    watermark = None if status.watermark is None else parse_instant(status.watermark, "watermark")
    span = verify_span(spec, began, status.position, watermark)
    if span.empty or spec.verify is None:
        return verification_report.nothing(Took(began, now()))
    progress.doing = "opening the store"
    opens(store := await books.open((job.namespace, job.store_name)))

    def opened() -> AbstractAsyncContextManager[Verification]:
        return _placed(store.verification(config, awaited=True), places)

    verifier = Verifier(spec.groups.date_histogram, opened, progress)
    found = await verifier.verify(span, full=_FULL[spec.verify.mode])
    return verification_report.report_of(job, found, Took(began, now()))


@asynccontextmanager
async def _placed(
    opened: AbstractAsyncContextManager[Verification], places: Sequence[Held]
) -> AsyncIterator[Verification]:
    """Give the places back once a comparison has failed: a cluster that is away is waited for without limit."""
    async with opened as verification:
        try:
            yield verification
        except BaseException:
            for place in places:
                place.end()
            raise
