"""Whether a job's record in a store is the job's to continue. Pure; the same for every store."""

from collections.abc import Callable

from rollup_operator.model.conditions import Reason
from rollup_operator.stores.base import JobConfig, Owner
from rollup_operator.stores.errors import IdentityConflict


def judge(
    config: JobConfig, *, owner: Owner, config_hash: str, has_documents: bool, is_alive: Callable[[Owner], bool]
) -> None:
    """Raise IdentityConflict where another living job owns the record, or other groups or metrics were rolled up.

    `owner` and `config_hash` are the record's; `has_documents` says whether anything was written under it.
    """
    index, job_id = config.key
    if owner != config.owner and is_alive(owner):
        # Nobody here knows whether a job of another cluster lives, and that may be this one under its name of before.
        where = "" if owner.cluster == config.owner.cluster else f" of the cluster named {owner.cluster!r}"
        raise IdentityConflict(
            Reason.JOB_ID_TAKEN,
            f"the job {owner.namespace}/{owner.name}{where} writes to rollup index {index!r} as {job_id!r} too: "
            f"set another spec.jobId or spec.rollupIndex{where and ', or ROLLUP_CLUSTER as it was'}",
        )
    if has_documents and config_hash != config.config_hash:
        raise config_changed(config.key)


def not_a_rollup_index(index: str, lacks: str) -> str:
    """Say in Elasticsearch's words that an index is there and is no rollup index; `lacks`: what it would need."""
    return (
        "Rollup data cannot be added to existing indices that contain non-rollup data (expected to find "
        f"{lacks} in mapping of rollup index [{index}] but not found)"
    )


def config_changed(key: tuple[str, str]) -> IdentityConflict:
    """Return the error for documents under this key that were made with other groups or metrics."""
    index, job_id = key
    return IdentityConflict(
        Reason.CONFIG_CHANGED,
        f"rollup index {index!r} holds documents of job {job_id!r} with other groups or metrics: "
        "set another spec.jobId or spec.rollupIndex, or delete the documents with the job that made them",
    )
