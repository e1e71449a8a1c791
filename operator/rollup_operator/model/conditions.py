"""The conditions that this operator owns, and every reason that it gives, in an event too. Nobody else writes them.

| condition | on | polarity | shown |
| --- | --- | --- | --- |
| Ready | RollupJob, RollupStore | True is good | always |
| Reconciling | RollupJob, RollupStore | True: on its way, no help needed | only while True |
| Stalled | RollupJob, RollupStore | True: needs a change by a person | only while True |
| Verified | RollupJob | True is good; Unknown: nobody knows | with spec.verify |

The rules of kstatus and Flux hold at rest: never Reconciling and Stalled at once, and Ready is False while either is
True. Verified says nothing about Ready: a job whose documents differ from its source goes on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from rollup_operator.model.status import LONGEST_MESSAGE, Condition, LastVerification, VerificationOutcome, shortened

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
VERIFIED = "Verified"

NOT_VERIFIED = "NotVerified"
"""Verified is Unknown, since no verification has ended yet. Its other reasons are those of VerificationOutcome."""

_VERIFIED = {
    VerificationOutcome.EQUAL: True,
    VerificationOutcome.SOURCE_SHRUNK: True,
    VerificationOutcome.DOCUMENTS_DIFFER: False,
}
"""What is not here is Unknown."""


class Reason(StrEnum):
    """Why a condition has its status."""

    RUNNING = "Running"
    """A run of the job is under way."""
    WAITING = "Waiting"
    """The job is started: it waits for its next tick, or its run for what the message names."""
    RECONCILING = "Reconciling"
    """The job is started, and its source is being checked; the first run checks it, too."""
    STOPPED = "Stopped"
    """The job is stopped, as asked."""
    STOPPING = "Stopping"
    """A halt is under way: the page being written is finished and committed."""
    DELETING = "Deleting"
    """The job is being deleted: it drains, then its finalizer is removed."""
    DRAIN_TIMEOUT = "DrainTimeout"
    """The halt takes longer than spec.drainTimeoutSeconds; it goes on."""
    INVALID_SPEC = "InvalidSpec"
    """A field of the spec cannot be used; the message names it."""
    STORE_NOT_FOUND = "StoreNotFound"
    """No RollupStore of that name is in the job's namespace."""
    STORE_UNAVAILABLE = "StoreUnavailable"
    """The store does not answer, or its file is locked."""
    STORE_OVERLOADED = "StoreOverloaded"
    """The store answers that it cannot do so much now; the job goes on with less, and later."""
    STORE_UNAUTHORIZED = "StoreUnauthorized"
    """The store refuses the credentials, or they lack a right; they are read again at each try."""
    SECRET_INVALID = "SecretInvalid"  # noqa: S105  # a word, no secret
    """A Secret that the RollupStore names is missing, or a key in it; it is read again at each try."""
    DISK_FULL = "DiskFull"
    """The store made an index read-only because a disk is nearly full; it lifts that itself once there is room."""
    SOURCE_NOT_FOUND = "SourceNotFound"
    """No table or file matches spec.indexPattern."""
    SOURCE_INVALID = "SourceInvalid"
    """A field that the spec names is missing in the source, or has a type that cannot be used."""
    FORBIDDEN_SOURCE = "ForbiddenSource"
    """The pattern leads out of the namespace's data folder."""
    JOB_ID_TAKEN = "JobIdTaken"
    """Another living job writes to the same rollup index under the same id."""
    CONFIG_CHANGED = "ConfigChanged"
    """The rollup index holds documents of this id with other groups or metrics."""
    TARGET_REPLACED = "TargetReplaced"
    """The rollup index is another one than the claim was made for."""
    TARGET_MISSING = "TargetMissing"
    """The rollup index that the job wrote to is gone."""
    TARGET_BLOCKED = "TargetBlocked"
    """The rollup index is closed, or somebody blocked writing to it."""
    MAPPING_CONFLICT = "MappingConflict"
    """A document does not fit the mapping of the rollup index."""
    CLOCK_SKEWED = "ClockSkewed"
    """The operator's clock is ahead of the store's by more than clock_skew_seconds; runs wait until they agree."""
    FENCED = "Fenced"
    """Another holder took the job's claim while it ran here."""
    RUN_FAILED = "RunFailed"
    """The last run failed."""
    STARTED = "Started"
    """Event only: the job runs at its ticks from now on."""
    RECOVERED = "Recovered"
    """Event only: what kept the job from being Ready is over."""
    DRAIN_SKIPPED = "DrainSkipped"
    """Event only: the store, or a Secret of it, was gone, so a deleted job was let go without looking there."""
    DOCUMENTS_KEPT = "DocumentsKept"
    """Event only: a job was deleted with deletionPolicy Delete, and documents of its id that it did not make stay."""
    STOP_TIMED_OUT = "StopTimedOut"
    """Event only: a client waited for a stop and did not see it in its time; the stop goes on."""
    GITOPS_OWNED = "GitOpsOwned"
    """Event only: the API changed desiredState where a GitOps controller owns it and may set it back."""
    DESIRED_STATE_REVERTED = "DesiredStateReverted"
    """Event only: somebody set desiredState back minutes after another had changed it."""
    TWO_OPERATORS = "TwoOperators"
    """Event only: another operator watches the job, too, and leaves it to the one that acts on it."""
    SOURCE_SHRUNK = "SourceShrunk"
    """Event only: looking back, a run found fewer rows than documents were made of, and left these as they were."""
    DOCUMENTS_DIFFER = "DocumentsDiffer"
    """Event only: a verification found documents that are not what the source gives; the condition Verified, too."""
    AVAILABLE = "Available"
    """The store can be used."""


def condition(
    type_: str,
    status: bool | None,
    reason: str,
    message: str,
    *,
    generation: int,
    now: str,
    before: Iterable[Condition],
) -> Condition:
    """Make a condition; the transition time stays that of `before` if the status is the same. None: Unknown."""
    word: Literal["True", "False", "Unknown"] = "Unknown" if status is None else "True" if status else "False"
    old = next((c for c in before if c.type == type_), None)
    since = old.last_transition_time if old is not None and old.status == word else now
    return Condition(
        type=type_,
        status=word,
        observed_generation=generation,
        last_transition_time=since,
        reason=reason,
        message=shortened(message, LONGEST_MESSAGE),
    )


def verdict(
    *,
    ready: bool,
    stalled: bool,
    reason: str,
    message: str,
    generation: int,
    now: str,
    before: Iterable[Condition],
) -> list[Condition]:
    """Return the whole set: Ready alone, or Ready False with either Stalled or Reconciling."""
    before = list(before)

    def make(type_: str, status: bool) -> Condition:
        return condition(type_, status, reason, message, generation=generation, now=now, before=before)

    if ready:
        return [make(READY, True)]
    return [make(READY, False), make(STALLED if stalled else RECONCILING, True)]


def verified(last: LastVerification | None, *, generation: int, now: str, before: Iterable[Condition]) -> Condition:
    """Return what the verification that ended last says; None: none has."""
    if last is None:
        status, reason, message = None, NOT_VERIFIED, "no verification by spec.verify.cron has ended yet"
    else:
        status, reason, message = _VERIFIED.get(last.outcome), last.outcome.value, last.message
    return condition(VERIFIED, status, reason, message, generation=generation, now=now, before=before)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the last run failed, until a good run clears it."""

    reason: Reason
    message: str
    transient: bool
