"""Ownership of a store's record: may a job continue it, settle it, delete its documents? Pure; one for all stores.

| the record's owner is | continue | settle | delete documents |
| --- | --- | --- | --- |
| this resource | yes | yes | yes |
| an earlier resource of the same cluster, namespace and name | yes | yes | once this one has claimed the record |
| any other that is gone | yes | no | no |
| any other that lives, or may live in another cluster | no | no | no |

To continue a record, a job must also have the same groups and metrics, and the resource that made its documents the
same indexPattern. A job that was refused never becomes the owner, so it deletes nothing: its predecessor's documents
were promised to stay.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from rollup_operator.model.conditions import Reason
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.stores.errors import Fenced, IdentityConflict


@dataclass(frozen=True, slots=True)
class Owner:
    """The resource behind a claim."""

    cluster: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class JobConfig:
    """What a store needs to know of a job."""

    job_id: str
    spec: RollupJobSpec
    owner: Owner
    config_hash: str
    """Hash of groups and metrics: a job with another hash may not continue the same documents."""

    @property
    def key(self) -> tuple[str, str]:
        """Identity in the store: (rollup index, job id)."""
        return self.spec.rollup_index, self.job_id


def judge(
    config: JobConfig,
    *,
    owner: Owner,
    config_hash: str,
    pattern: str | None,
    has_documents: bool,
    is_alive: Callable[[Owner], bool],
) -> None:
    """Raise IdentityConflict if another living job owns the record, or if another spec was rolled up.

    `owner`, `config_hash` and `pattern`, its indexPattern, are the record's; `has_documents` says whether anything was
    written under it. A job that was created again may name another source: the API server let nobody change it.
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
    if has_documents and owner.uid == config.owner.uid and pattern not in (None, config.spec.index_pattern):
        raise config_changed(config.key, f"from {str(pattern)[:100]!r}")


def is_this_job(mine: Owner, owner: Owner, is_alive: Callable[[Owner], bool]) -> bool:
    """Whether a record of `owner` is that of the job `mine`: the same uid, or an earlier resource of its name.

    The name of a cluster may be changed by mistake while something that a run left under the old name is still at work:
    so only the uid counts.
    """
    if owner.uid == mine.uid:
        return True
    return replace(owner, uid=mine.uid) == mine and not is_alive(owner)


def made_by(mine: Owner, owner: Owner) -> bool:
    """Whether the resource `mine` claimed the record of `owner` last, so that the documents are its own.

    Two clusters that began as copies of one share uids, but not a name.
    """
    return (owner.cluster, owner.uid) == (mine.cluster, mine.uid)


def claimed_meanwhile(key: tuple[str, str], owner: Owner | None) -> Fenced:
    """Return the error for documents that are another resource's by now; None: their record is gone."""
    index, job_id = key
    whose = (
        "their record is gone" if owner is None else f"job {owner.namespace}/{owner.name}, uid {owner.uid}, has them"
    )
    return Fenced(f"the documents of {job_id!r} in rollup index {index!r} have changed hands meanwhile: {whose}")


def kept(config: JobConfig, owner: Owner) -> str:
    """Say which documents stay that were to be deleted with the job, and whose they are."""
    index, job_id = config.key
    if replace(owner, uid=config.owner.uid) == config.owner:
        whose = f"an earlier job of the same name, uid {owner.uid}, made them"
    else:
        where = "" if owner.cluster == config.owner.cluster else f" of the cluster named {owner.cluster!r}"
        whose = f"the job {owner.namespace}/{owner.name}{where}, uid {owner.uid}, made them"
    return f"the documents of {job_id!r} in rollup index {index!r} are kept: {whose}, and this job never wrote any"


def not_a_rollup_index(index: str, lacks: str) -> str:
    """Say in Elasticsearch's words that an index exists and is not a rollup index; `lacks`: what it would need."""
    return (
        "Rollup data cannot be added to existing indices that contain non-rollup data (expected to find "
        f"{lacks} in mapping of rollup index [{index}] but not found)"
    )


def config_changed(key: tuple[str, str], otherwise: str = "with other groups or metrics") -> IdentityConflict:
    """Return the error for documents under this key that were made in another way."""
    index, job_id = key
    return IdentityConflict(
        Reason.CONFIG_CHANGED,
        f"rollup index {index!r} holds documents of job {job_id!r} {otherwise}: "
        "set another spec.jobId or spec.rollupIndex, or delete the documents: kubectl rollup purge",
    )
