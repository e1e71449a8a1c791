"""What a job's status says of a verification that has ended. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from rollup_operator.indexer.verify import Verified
from rollup_operator.model.counts import counted
from rollup_operator.model.finding_words import wrong_of
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import LONGEST_MESSAGE, LastVerification, VerificationOutcome, shortened
from rollup_operator.model.times import rfc3339, rfc3339_ms
from rollup_operator.rollup.comparison import Kind


@dataclass(frozen=True, slots=True)
class Took:
    """When it began and ended."""

    began: datetime
    ended: datetime

    def report(self, outcome: VerificationOutcome, message: str) -> LastVerification:
        """Return a report without findings."""
        return LastVerification(
            start_time=rfc3339(self.began),
            end_time=rfc3339(self.ended),
            outcome=outcome,
            message=shortened(message, LONGEST_MESSAGE),
        )


def report_of(job: JobView, found: Verified, took: Took) -> LastVerification:
    """Return what was found, with the command that shows more where something is wrong."""
    span, findings = found.extent.span, found.findings
    if span.empty:
        return nothing(took)
    kinds: Mapping[Kind, int] = {} if findings is None else findings.kinds
    counts = {kind.value: kinds.get(kind, 0) for kind in Kind}
    wrong = {kind: 0 if kind == Kind.EXTRA else count for kind, count in counts.items()}
    is_wrong = [
        day
        for day, _ in found.days
        if findings and any(k is not Kind.EXTRA for k in findings.days.get(day.start_ms, ()))
    ]
    first: str | None = None
    last: str | None = None
    stretch = f"from {rfc3339_ms(span.start_ms)} to {rfc3339_ms(span.end_ms)}"
    if wrong_words := wrong_of(wrong):
        first, last = rfc3339_ms(is_wrong[0].start_ms), rfc3339_ms(is_wrong[-1].end_ms)
        command = f"kubectl rollup verify {job.name} -n {job.namespace} --from {first} --to {last}"
        compared = counted(found.buckets, "bucket")
        outcome = VerificationOutcome.DOCUMENTS_DIFFER
        message = (
            f"of {compared} compared {stretch}, {wrong_words}. To see them: {command}; to repair them, add --repair"
        )
    elif extra := counts[Kind.EXTRA.value]:
        outcome = VerificationOutcome.SOURCE_SHRUNK
        message = (
            f"the source holds less now: {counted(extra, 'document')} {'counts' if extra == 1 else 'count'} rows that "
            f"it no longer has, and all else is equal ({stretch})"
        )
    else:
        outcome = VerificationOutcome.EQUAL
        message = f"{_equal(found)} ({stretch})"
    return took.report(outcome, message).model_copy(
        update={
            "from_": rfc3339_ms(span.start_ms),
            "to": rfc3339_ms(span.end_ms),
            "full": found.full,
            "source_documents": found.extent.rows,
            "days": len(found.days),
            "buckets": found.buckets,
            **counts,
            "first_difference": first,
            "last_difference": last,
        }
    )


def nothing(took: Took) -> LastVerification:
    """Return the report where there is nothing to compare."""
    return took.report(
        VerificationOutcome.NOTHING_TO_VERIFY, "nothing is rolled up of the time that spec.verify covers"
    )


def failed(took: Took, why: str, *, retry: bool) -> LastVerification:
    """Return the report of a verification that did not come to its end."""
    again = "in 15 minutes, or at" if retry else "at"
    message = f"{why}. The next verification begins {again} the next tick of spec.verify.cron"
    return took.report(VerificationOutcome.FAILED, message)


def _equal(found: Verified) -> str:
    days = counted(len(found.days), "day")
    if not found.compared:
        return f"the numbers of rows of {days} are equal"
    compared = f"{counted(found.buckets, 'bucket')} of {counted(len(found.compared), 'day')} are equal"
    return compared if found.full else f"{compared}, and so are the numbers of rows of {days}"
