"""The errors that a store may raise, classified where they occur, independent of any product."""

from rollup_operator.escaping import escaped
from rollup_operator.model.conditions import Reason


class StoreError(Exception):
    """A failure, classified where it occurred. `reason` is the reason of the resulting condition."""

    reason: Reason = Reason.RUN_FAILED
    transient: bool = True
    uncertain: bool = False
    """Whether the request may have been carried out nevertheless."""

    def __init__(self, message: str) -> None:
        # Parts of it may come from anybody: names in a source, an owner in a record, the text of a host.
        super().__init__(message if message.isprintable() else escaped(" ".join(message.split())))


class StoreUnavailable(StoreError):
    """The store does not answer now; a retry can help."""

    reason = Reason.STORE_UNAVAILABLE


class VolumeFull(StoreError):
    """There is no space for the write; somebody may free some at any time."""

    reason = Reason.DISK_FULL


class StoreUnsuitable(StoreError):
    """The store cannot be used as the RollupStore says; the text names the field or what must change."""

    reason = Reason.INVALID_SPEC
    transient = False


class SecretInvalid(StoreError):
    """A Secret that a RollupStore names is missing, unreadable, or lacks a key; somebody may fix it at any time."""

    reason = Reason.SECRET_INVALID


class SecretGone(SecretInvalid):
    """There is no Secret of that name."""


class StoreNotFound(StoreError):
    """No RollupStore of that name exists; somebody may create it."""

    reason = Reason.STORE_NOT_FOUND


class SourceNotFound(StoreError):
    """Nothing matches the index pattern yet."""

    reason = Reason.SOURCE_NOT_FOUND


class SourceInvalid(StoreError):
    """A field is missing or cannot be used as the job says."""

    reason = Reason.SOURCE_INVALID
    transient = False


class ForbiddenSource(StoreError):
    """The pattern leads to a place that users may not read."""

    reason = Reason.FORBIDDEN_SOURCE
    transient = False


class TargetBlocked(StoreError):
    """Something that does not belong to this job is where its documents, or its store's files, must be."""

    reason = Reason.TARGET_BLOCKED
    transient = False


class ClockSkewed(StoreError):
    """This process's clock is so far ahead of another one that buckets would be rolled up before they are over."""

    reason = Reason.CLOCK_SKEWED


class IdentityConflict(StoreError):
    """This job may not continue the record in the store."""

    transient = False

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Fenced(StoreError):
    """The claim has another holder or epoch now: this run must end, quietly."""

    reason = Reason.FENCED


class SearchTooLarge(StoreError):
    """A search has more buckets than an answer may have."""

    transient = False

    def __init__(self, most: int) -> None:
        super().__init__(
            f"the search has more than {most} buckets: take a longer interval or a shorter time, or a smaller size"
        )
        self.most = most


class SearchKeysTooLong(StoreError):
    """The keys of a search's buckets are texts that take more memory than an answer may."""

    transient = False

    def __init__(self, most: int) -> None:
        super().__init__(
            f"the keys of the search's buckets are texts of more than {most >> 20} MiB together: take a smaller size, "
            "or group by shorter texts"
        )


class SearchAnswerTooLong(StoreError):
    """What a cluster answers to a search takes more memory than an answer may, or than there is now."""

    transient = False

    def __init__(self, why: str) -> None:
        super().__init__(
            f"{why}: take a longer interval or a shorter time, a smaller size, fewer metrics, or group by shorter texts"
        )


class SearchTooWide(StoreError):
    """A search takes a longer request to the store than may be sent: its buckets of time are cut by too many clocks."""

    transient = False

    def __init__(self, most: int) -> None:
        super().__init__(
            f"the search takes a request of more than {most} bytes to the cluster, a part for each change of a clock: "
            "ask for a shorter time by a range in the query, for a zone without such changes, or for fewer metrics"
        )


class SearchTooSlow(StoreError):
    """A search takes longer than it may; it was ended."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the search was ended: it took longer than {seconds:g} s")
        self.seconds = seconds


class DocumentsChanged(StoreUnavailable):
    """Documents that a search read, or was about to read, were deleted or made anew since it was planned."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"documents of job {job_id!r} were deleted while they were searched: try again")


class StoreElsewhere(StoreUnavailable):
    """Another process leads, and has the store open, or will."""
