"""The fix for each reason for which a job is not ready."""

import shlex
from collections.abc import Mapping

from rollup_operator.model.conditions import Reason
from rollup_operator.model.job_view import JobView

CURES: Mapping[Reason, str] = {
    Reason.DRAIN_TIMEOUT: (
        "Check what it waits for in store {store!r}. The halt goes on by itself and is never given up."
    ),
    Reason.INVALID_SPEC: (
        "Fix the fields that the message names; the job then goes on by itself. Where the API server says that a "
        "field is fixed, it names the two ways. A stop works whatever the spec says."
    ),
    Reason.STORE_NOT_FOUND: (
        "Create the RollupStore {store!r} in namespace {namespace}, or name another in spec.storeRef."
    ),
    Reason.STORE_UNAVAILABLE: (
        "Check whether the store answers, or which process holds its file: kubectl get rollupstore {store} -n "
        "{namespace} -o yaml"
    ),
    Reason.STORE_OVERLOADED: (
        "The job goes on by itself, later and with smaller pages. If this lasts: give the cluster more room, or lower "
        "spec.parallelism or spec.maxConcurrentRuns of RollupStore {store!r}."
    ),
    Reason.STORE_UNAUTHORIZED: (
        "Fix the credentials in the Secret that RollupStore {store!r} names, or give their user the right that the "
        "message names; the job then goes on by itself."
    ),
    Reason.SECRET_INVALID: (
        "Create or fix the Secret that RollupStore {store!r} names, in namespace {namespace}; the job then goes on by "
        "itself."
    ),
    Reason.DISK_FULL: (
        "Make room on the cluster's disks, or on the volume of the operator's data: the job then goes on by itself. "
        "A block that was set on the cluster by hand stays until you remove it."
    ),
    Reason.TARGET_MISSING: (
        "To start over: set spec.deletionPolicy to Delete, delete the job, which forgets its position, and create it "
        "again. What the source no longer has cannot be rolled up again."
    ),
    Reason.TARGET_BLOCKED: (
        "Open the rollup index, or remove the block on it; to run at once: kubectl rollup run {name} -n {namespace}"
    ),
    Reason.MAPPING_CONFLICT: (
        "The rollup index maps a field to another type than the job writes: delete the job and create it with "
        "another rollupIndex."
    ),
    Reason.SOURCE_NOT_FOUND: (
        "To run at once after that: kubectl rollup run {name} -n {namespace}"
    ),  # it names the fix
    Reason.SOURCE_INVALID: (
        "Fix the source so that it has the fields that the spec names, or, while nothing is rolled up, the spec; to "
        "run at once: kubectl rollup run {name} -n {namespace}"
    ),
    Reason.FORBIDDEN_SOURCE: ("Correct it, or, once anything is rolled up, create another job."),
    Reason.JOB_ID_TAKEN: ("Delete the other job, or delete this one and create it with another jobId or rollupIndex."),
    Reason.CONFIG_CHANGED: (
        "To keep the documents, delete the job and create it with another jobId or rollupIndex. To replace them (the "
        "command says how many they are, and asks before it deletes them): kubectl rollup purge {name} -n {namespace}"
    ),
    Reason.TARGET_REPLACED: (
        "Restore the index that its position belongs to, or create the job with another rollupIndex. To start over, "
        "delete the job, and create it again after this: kubectl rollup purge {id} --index {index} -n {namespace}"
    ),
    Reason.CLOCK_SKEWED: (
        "Correct the clock that is wrong, that of the operator's node or that of store {store!r}: the message has both "
        "times. The job then goes on by itself."
    ),
    Reason.FENCED: "Check whether two operators use this store. The next run takes the claim back.",
    Reason.RUN_FAILED: "The operator's log has the details. To run at once: kubectl rollup run {name} -n {namespace}",
}


def cure_of(reason: str, job: JobView) -> str:
    """Return the fix; empty if nothing needs to be done, or none is known."""
    text = next((cure for known, cure in CURES.items() if known == reason), "")
    return text.format(
        name=job.name,
        namespace=job.namespace,
        store=job.store_name,
        id=shlex.quote(job.job_id),
        index=shlex.quote(job.rollup_index),
    )
