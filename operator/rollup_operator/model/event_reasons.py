"""Every reason of a Kubernetes Event that this operator posts: its type, and when it is posted.

Events are about RollupJobs and RollupStores. An event reports a transition, never a lasting state and never a scheduled
run: the status, the log and the metrics show what comes again and again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from rollup_operator.model.conditions import Reason


class EventType(StrEnum):
    """The types of Kubernetes: all is as it should be, or a person may want to check."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Posted:
    """How an event of one reason is posted."""

    type: EventType
    when: str
    """The text in the documentation."""


_FAILED = Posted(
    EventType.WARNING,
    "a run failed for this reason, or what it left could not be released, or the job was started and cannot run for "
    "it. Of a store: it cannot be used, for this reason, since now",
)

EVENTS: Mapping[Reason, Posted] = {
    Reason.STARTED: Posted(
        EventType.NORMAL, "status left `stopped` or `stopping` for `started`, and the store can be used"
    ),
    Reason.STOPPING: Posted(EventType.NORMAL, "a halt has begun and was not over after 100 ms"),
    Reason.STOPPED: Posted(EventType.NORMAL, "status came to `stopped`: the job is quiet"),
    Reason.DELETING: Posted(EventType.NORMAL, "a deletion waits for the job, for more than 100 ms"),
    Reason.RECOVERED: Posted(
        EventType.NORMAL,
        "what kept the job from being Ready is over, and its state is the same. Of a store: it can be used again",
    ),
    Reason.DRAIN_TIMEOUT: Posted(EventType.WARNING, "a halt takes longer than `spec.drainTimeoutSeconds`"),
    Reason.INVALID_SPEC: Posted(EventType.WARNING, "a field of the spec, of a job or of a store, cannot be used"),
    Reason.DRAIN_SKIPPED: Posted(
        EventType.WARNING,
        "the job was deleted while its store, or a Secret of it, was gone, so it was let go without looking there",
    ),
    Reason.DOCUMENTS_KEPT: Posted(
        EventType.WARNING,
        "the job was deleted with `deletionPolicy: Delete`, and documents of its id that it did not make were left",
    ),
    Reason.STOP_TIMED_OUT: Posted(
        EventType.WARNING, "a client of the HTTP API waited for a stop and did not see it in its time"
    ),
    Reason.GITOPS_OWNED: Posted(
        EventType.WARNING,
        "the API changed `desiredState` where a GitOps controller owns the field and may set it back",
    ),
    Reason.DESIRED_STATE_REVERTED: Posted(
        EventType.WARNING, "`desiredState` was set back within ten minutes of the change, by another field manager"
    ),
    Reason.TWO_OPERATORS: Posted(
        EventType.WARNING, "another operator watches the job, too, and leaves it to the one that posts this"
    ),
    Reason.SOURCE_SHRUNK: Posted(
        EventType.WARNING,
        "looking back, a run found fewer rows than documents were made of, and left those as they were",
    ),
    Reason.DOCUMENTS_DIFFER: Posted(
        EventType.WARNING, "a verification by `spec.verify` found documents that are not what the source gives"
    ),
    Reason.STORE_NOT_FOUND: _FAILED,
    Reason.STORE_UNAVAILABLE: _FAILED,
    Reason.STORE_OVERLOADED: _FAILED,
    Reason.STORE_UNAUTHORIZED: _FAILED,
    Reason.SECRET_INVALID: _FAILED,
    Reason.DISK_FULL: _FAILED,
    Reason.SOURCE_NOT_FOUND: _FAILED,
    Reason.SOURCE_INVALID: _FAILED,
    Reason.FORBIDDEN_SOURCE: _FAILED,
    Reason.JOB_ID_TAKEN: _FAILED,
    Reason.CONFIG_CHANGED: _FAILED,
    Reason.TARGET_REPLACED: _FAILED,
    Reason.TARGET_MISSING: _FAILED,
    Reason.TARGET_BLOCKED: _FAILED,
    Reason.MAPPING_CONFLICT: _FAILED,
    Reason.CLOCK_SKEWED: _FAILED,
    Reason.FENCED: _FAILED,
    Reason.RUN_FAILED: _FAILED,
}
"""All of them. `Running`, `Waiting`, `Reconciling` and `Available` are reasons of conditions alone."""
