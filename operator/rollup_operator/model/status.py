"""RollupJob's status: what was observed, as clients and `kubectl get` read it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from rollup_operator.model.base import Part
from rollup_operator.model.job import DesiredState

LONGEST_MESSAGE = 4096
LONGEST_REQUEST = 256
LONGEST_VALUE = 256
LONGEST_OPERATOR = 320
"""Characters of a message, a run request, a value of a position, an operator's name. The API server takes no more."""

Time = Annotated[str, StringConstraints(max_length=40)]
Count = Annotated[int, Field(ge=0)]


class State(StrEnum):
    """Where a job is; Elasticsearch's names.

    `stopped` means quiet: nothing in flight, position durable, claim released.
    """

    STOPPED = "stopped"
    STARTED = "started"
    INDEXING = "indexing"
    STOPPING = "stopping"
    ABORTING = "aborting"


class Condition(Part):
    """One aspect of the job, in the shape of Kubernetes' conditions."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=316)] = Field(description="Name of the condition.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether the condition holds.")
    observed_generation: int = Field(default=0, description="The generation that the condition was decided on.")
    last_transition_time: Time = Field(
        description="When status last changed.", json_schema_extra={"format": "date-time"}
    )
    reason: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="One word for programs: why the condition has its status."
    )
    message: Annotated[str, StringConstraints(max_length=LONGEST_MESSAGE)] = Field(
        default="", description="One sentence for people."
    )


class JobStats(Part):
    """Counters over the life of the job. Elasticsearch's names, in camelCase."""

    pages_processed: Count = Field(default=0, description="Pages read, the empty last one of each run included.")
    documents_processed: Count = Field(default=0, description="Source rows or documents summarised.")
    rollups_indexed: Count = Field(default=0, description="Rolled-up documents written.")
    trigger_count: Count = Field(default=0, description="Runs begun, the one under way included.")
    index_time_in_ms: Count = Field(default=0, description="Time spent writing.")
    index_total: Count = Field(default=0, description="Writes done.")
    index_failures: Count = Field(default=0, description="Runs that failed while writing.")
    search_time_in_ms: Count = Field(default=0, description="Time spent reading.")
    search_total: Count = Field(default=0, description="Reads done.")
    search_failures: Count = Field(default=0, description="Runs that failed while reading, or before.")
    processing_time_in_ms: Count = Field(default=0, description="Time spent between reading and writing.")
    processing_total: Count = Field(default=0, description="Pages processed between reading and writing.")

    def at_least(self, other: "JobStats") -> "JobStats":
        """Return of each counter the larger of both."""
        return JobStats(**{f: max(getattr(self, f), getattr(other, f)) for f in type(self).model_fields})

    def plus(self, other: "JobStats") -> "JobStats":
        """Return the sums, counter by counter."""
        return JobStats(**{f: getattr(self, f) + getattr(other, f) for f in type(self).model_fields})


class Outcome(StrEnum):
    """How a run ended."""

    COMPLETED = "Completed"
    HALTED = "Halted"
    FAILED = "Failed"
    FENCED = "Fenced"


class LastRun(Part):
    """The run that ended last."""

    start_time: Time = Field(description="When it began.", json_schema_extra={"format": "date-time"})
    end_time: Time = Field(description="When it ended.", json_schema_extra={"format": "date-time"})
    outcome: Outcome = Field(description="How it ended.")
    message: Annotated[str, StringConstraints(max_length=LONGEST_MESSAGE)] = Field(
        default="", description="What it did, or why it failed."
    )
    rewritten: Count | None = Field(
        default=None, description="Documents rewritten because rows came late, with spec.lookback. Absent: none."
    )
    kept: Count | None = Field(
        default=None,
        description="Documents left as they were, since the source holds fewer rows for them than when they were "
        "written. Absent: none.",
    )

    @property
    def failed(self) -> bool:
        """Whether it failed."""
        return self.outcome is Outcome.FAILED


class FailedCheck(Part):
    """A check of the source that failed."""

    reason: Annotated[str, StringConstraints(max_length=64)] = Field(
        description="SourceNotFound, SourceInvalid or another reason of the condition Ready."
    )
    message: Annotated[str, StringConstraints(max_length=LONGEST_MESSAGE)] = Field(
        default="", description="What is wrong with the source, or why it could not be checked."
    )


class VerificationOutcome(StrEnum):
    """What a verification by spec.verify has found: reasons of the condition Verified."""

    EQUAL = "Equal"
    SOURCE_SHRUNK = "SourceShrunk"
    """The source holds less now. All else is equal."""
    DOCUMENTS_DIFFER = "DocumentsDiffer"
    NOTHING_TO_VERIFY = "NothingToVerify"
    FAILED = "VerificationFailed"
    """It did not come to its end."""


class LastVerification(Part):
    """The verification by spec.verify that ended last."""

    start_time: Time = Field(description="When it began.", json_schema_extra={"format": "date-time"})
    end_time: Time = Field(description="When it ended.", json_schema_extra={"format": "date-time"})
    outcome: VerificationOutcome = Field(
        description="Equal; SourceShrunk: the source holds less now, and all else is equal; DocumentsDiffer; "
        "NothingToVerify; or VerificationFailed: it did not come to its end."
    )
    from_: Time | None = Field(
        default=None,
        alias="from",
        description="The buckets that begin from then on were compared. Absent: none were.",
        json_schema_extra={"format": "date-time"},
    )
    to: Time | None = Field(
        default=None,
        description="The buckets that begin before then were compared.",
        json_schema_extra={"format": "date-time"},
    )
    full: bool | None = Field(
        default=None,
        description="Whether all days were compared bucket by bucket, not only those whose numbers of rows differ.",
    )
    source_documents: Count | None = Field(default=None, description="Rows or documents that the source has there.")
    days: Count | None = Field(default=None, description="Days whose rows were counted on both sides.")
    buckets: Count | None = Field(default=None, description="Buckets of the source that were compared one by one.")
    differs: Count | None = Field(
        default=None, description="Buckets of which a number differs, though the source lost none of their rows."
    )
    missing: Count | None = Field(default=None, description="Buckets of the source without a document.")
    extra: Count | None = Field(
        default=None, description="Documents that count more rows than the source has now: it was shortened since."
    )
    duplicate: Count | None = Field(default=None, description="Buckets with more than one document.")
    first_difference: Time | None = Field(
        default=None,
        description="Where the first day begins that differs, documents of a shortened source left aside.",
        json_schema_extra={"format": "date-time"},
    )
    last_difference: Time | None = Field(
        default=None,
        description="Where the last such day ends.",
        json_schema_extra={"format": "date-time"},
    )
    message: Annotated[str, StringConstraints(max_length=LONGEST_MESSAGE)] = Field(
        default="", description="What was found and what to do about it, or why the verification failed."
    )


PositionValue = str | int | float | bool | None


class RunProgress(Part):
    """How far a long run has come."""

    percent: Annotated[int, Field(ge=0, le=100)] = Field(description="Share of the run's source that is rolled up.")
    remaining_seconds: Count | None = Field(
        default=None, description="How long the rest should take at the pace so far. Absent: not known yet."
    )


class RollupJobStatus(Part):
    """What is observed of a RollupJob."""

    observed_generation: Annotated[int, Field(ge=-1)] = Field(
        default=-1,
        description="The generation of the spec that this status was decided on; -1: not seen yet.",
    )
    state: State | None = Field(
        default=None,
        description="stopped, started (waiting for its schedule), indexing, stopping or aborting. stopped means quiet: "
        "nothing in flight, position durable, claim released.",
    )
    desired_state: DesiredState | None = Field(
        default=None,
        description="The state in effect: spec.desiredState, or the one last requested where spec.desiredState is "
        "absent.",
    )
    operator: Annotated[str, StringConstraints(max_length=LONGEST_OPERATOR)] | None = Field(
        default=None,
        description="The operator that acts on the job: namespace and name of its Lease. Other operators leave the job "
        "alone while this one does what is due. Absent: an operator without a Lease.",
    )
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(
        default=[],
        description="Ready: the job is in the requested state. Reconciling: it is on its way there. Stalled: "
        "it needs a change by a person. Verified, with spec.verify: what is rolled up is what the source gives.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    watermark: Time | None = Field(
        default=None,
        description="Everything before this instant is rolled up.",
        json_schema_extra={"format": "date-time"},
    )
    position: dict[str, PositionValue] | None = Field(
        default=None,
        description="The key of the last bucket written, in Elasticsearch's format.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True, "maxProperties": 256},
    )
    newest_bucket: Time | None = Field(
        default=None,
        description="When the last bucket written begins. Absent: none is written.",
        json_schema_extra={"format": "date-time"},
    )
    stats: JobStats | None = Field(default=None, description="Counters over the life of the job.")
    progress: RunProgress | None = Field(
        default=None, description="How far the run under way has come. Absent while none is."
    )
    last_run: LastRun | None = Field(default=None, description="The run that ended last.")
    failed_check: FailedCheck | None = Field(
        default=None,
        description="Why the last check of the source failed. Absent: it did not, or a run has ended since.",
    )
    last_verification: LastVerification | None = Field(
        default=None, description="The verification by spec.verify that ended last."
    )
    result: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None,
        description="File with the documents, below the operator's data root. Absent: there is none yet, or they are "
        "in the rollup index of a cluster.",
    )
    next_run_time: Time | None = Field(
        default=None, description="The next tick of the schedule.", json_schema_extra={"format": "date-time"}
    )
    last_handled_run_request: Annotated[str, StringConstraints(max_length=LONGEST_REQUEST)] | None = Field(
        default=None,
        description="The value of the annotation rollup-operator.dev/run-requested-at that was handled last.",
    )


def newest_bucket(position: Mapping[str, Any] | None) -> datetime | None:
    """Return when the last bucket begins that a job has written, from its position; None: it has written none."""
    for key, value in (position or {}).items():
        if key.endswith(".date_histogram") and isinstance(value, int | float):
            try:
                return datetime.fromtimestamp(value / 1000, UTC)
            except (ValueError, OverflowError, OSError):
                return None  # a source may have rows of any year
    return None


def shortened(text: str, longest: int) -> str:
    """Return a text of at most that many characters, with dots in place of the rest."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
