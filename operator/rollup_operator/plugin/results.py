"""The result of a command for each job, for people and for programs."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rollup_operator.model.job_view import JobView
from rollup_operator.plugin.outcome import Code, Failure


class JobOutcome(StrEnum):
    """The result of one job, for programs."""

    RECORDED = "Recorded"
    """The request is durable and will be carried out; the command did not wait."""
    DONE = "Done"
    TIMED_OUT = "TimedOut"
    OVERTAKEN = "Overtaken"
    NOT_FOUND = "NotFound"
    DELETED = "Deleted"
    """It was deleted meanwhile, and is quiet."""
    FAILED = "Failed"


@dataclass(frozen=True)
class Result:
    """The result of one job. `message` is a sentence without the job's name."""

    namespace: str
    name: str
    outcome: JobOutcome
    message: str
    code: Code = Code.DONE
    reason: str = ""
    job: JobView | None = None
    """The newest body seen."""
    warning: str = ""

    def document(self) -> dict[str, Any]:
        """Return it for -o json."""
        fields: dict[str, Any] = {"namespace": self.namespace, "name": self.name, "outcome": self.outcome.value}
        fields |= {"message": self.message} | ({"reason": self.reason} if self.reason else {})
        if self.warning:
            fields["warning"] = self.warning
        if self.job is not None:
            status = self.job.status
            fields |= {"uid": self.job.uid, "jobId": self.job.job_id, "state": status.state}
            fields |= {"generation": self.job.generation, "observedGeneration": status.observed_generation}
        return fields


def failed(namespace: str, name: str, failure: Failure) -> Result:
    """Return the result of a job that `failure` stopped."""
    outcome = JobOutcome.NOT_FOUND if failure.code is Code.NOT_FOUND else JobOutcome.FAILED
    return Result(namespace, name, outcome, failure.message, failure.code, failure.reason)


def code_of(results: Iterable[Result]) -> Code:
    """Return the exit code of a command over several jobs."""
    codes = {result.code for result in results} - {Code.DONE}
    if not codes:
        return Code.DONE
    return codes.pop() if len(codes) == 1 else Code.FAILED
