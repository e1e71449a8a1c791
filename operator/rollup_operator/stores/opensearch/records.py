"""A job's record in the cluster, as a value and as the stored document. Pure.

A record outlives its holder, its resource and its documents: epochs only grow.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from rollup_operator.model.status import JobStats
from rollup_operator.rollup.documents import layout_of
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.stores.base import Claim, Position
from rollup_operator.stores.opensearch.quiet import opaque_id
from rollup_operator.stores.opensearch.transport.answers import LATEST_MS, Value
from rollup_operator.stores.opensearch.transport.errors import Odd

T = TypeVar("T")

ALIAS = "rollup-operator-claims"
"""The name under which the records' index is always addressed."""
INDEX = f"{ALIAS}-1"

_LONGEST_ID = 512
"""The limit of a document id, in bytes."""

_LATEST_EPOCH = 2**53
"""Above this, clusters and JSON no longer agree on a number."""


@dataclass(frozen=True, slots=True)
class Record:
    """A job's record in the cluster, and its place in the sequence of changes."""

    claim: Claim
    """`holder` is empty if nobody holds it."""
    owner: Owner
    config_hash: str
    spec: Mapping[str, Any]
    """The job's, as in the resource."""
    target: str | None = None
    """uuid of the rollup index that the documents are in."""
    gate: str | None = None
    """The alias through which documents are written; None: none is open."""
    runs_without_page: int = 0
    """How many runs in a row have claimed the job and committed nothing, the one under way included."""
    awaited: tuple[str, ...] = ()
    """uids of owners whose requests of earlier epochs have not been shown to be over."""
    edge_ms: int | None = None
    """Where the bucket of the position began when a run last came to its end, which had read all of it."""
    seq_no: int = -1
    primary_term: int = 0

    @property
    def held(self) -> bool:
        """Whether there is a holder, alive or dead."""
        return bool(self.claim.holder)

    @property
    def has_documents(self) -> bool:
        """Whether a new configuration would continue what another one began."""
        return self.claim.position is not None or self.target is not None

    @property
    def failed_runs(self) -> int:
        """How many runs in a row before this one committed nothing."""
        return max(0, self.runs_without_page - 1)

    @property
    def opaque_id(self) -> str:
        """The `X-Opaque-Id` of every request under this claim."""
        return opaque_id(self.owner.uid, self.claim.epoch)

    def is_ours(self, other: "Record | None") -> bool:
        """Whether the other one is the same job's record under the same holder and epoch."""
        return other is not None and (
            (other.claim.key, other.claim.holder, other.claim.epoch)
            == (self.claim.key, self.claim.holder, self.claim.epoch)
        )


def document_id(key: tuple[str, str]) -> str:
    """Return the id of a job's record. Index names have no slash, so that no two jobs share one."""
    text = f"claim/{key[0]}/{key[1]}"
    if len(text.encode()) <= _LONGEST_ID:
        return text
    return f"claim/{hashlib.sha256(text.encode()).hexdigest()}"


def to_document(record: Record) -> dict[str, Any]:
    """Return the record as JSON, all but where it stands in the sequence of changes."""
    claim, owner = record.claim, record.owner
    return {
        "rollup_index": claim.key[0],
        "job_id": claim.key[1],
        "holder": claim.holder or None,
        "epoch": claim.epoch,
        "owner": {"cluster": owner.cluster, "namespace": owner.namespace, "name": owner.name, "uid": owner.uid},
        "config_hash": record.config_hash,
        "spec": dict(record.spec),
        "position": dict(claim.position) if claim.position is not None else None,
        "watermark_ms": claim.watermark_ms,
        "stats": claim.stats.model_dump(),
        "page_hint": claim.page_hint,
        "target": record.target,
        "gate": record.gate,
        "runs_without_page": record.runs_without_page,
        "awaited": list(record.awaited),
        "edge_ms": record.edge_ms,
    }


class ForeignRecord(Odd):
    """No operator wrote a record. The holder of the claim is unknown, so it must not be regarded as free."""


def from_document(hit: Value) -> Record:
    """Read a record from a hit or an answer that has `_source`. Raises ForeignRecord for one that no operator wrote."""
    source = hit.at("_source")
    source.mapping()
    try:
        return _read(hit, source)
    except Odd as e:
        raise foreign(hit, str(e).rpartition(": ")[2]) from e


def foreign(hit: Value, why: str) -> ForeignRecord:
    """Return the error for a document in the place of a record."""
    at = hit.find("_id").value
    which = at[:200] if isinstance(at, str) else ""
    return ForeignRecord(
        f"no operator wrote document {which!r} of {ALIAS}: {why}: restore it; or stop all other operators that use "
        "this cluster, and delete it: its job then begins from the start"
    )


def _read(hit: Value, source: Value) -> Record:
    return Record(
        claim=Claim(
            key=(source.at("rollup_index").text(), source.at("job_id").text()),
            holder=_text(source.find("holder")) or "",
            epoch=source.at("epoch").whole(most=_LATEST_EPOCH),
            position=_position(source.find("position")),
            watermark_ms=_optional(source.find("watermark_ms"), Value.time),
            stats=_stats(source.find("stats")),
            page_hint=_optional(source.find("page_hint"), Value.number),
        ),
        owner=Owner(*(source.at("owner", part).text() for part in ("cluster", "namespace", "name", "uid"))),
        config_hash=source.at("config_hash").text(),
        spec=source.find("spec").kept(),
        target=_text(source.find("target")),
        gate=_text(source.find("gate")),
        runs_without_page=_optional(source.find("runs_without_page"), Value.whole) or 0,
        awaited=tuple(uid.text() for uid in source.find("awaited").items()),
        edge_ms=_optional(source.find("edge_ms"), Value.time),
        seq_no=hit.at("_seq_no").whole() if hit.find("_seq_no").given else -1,
        primary_term=_optional(hit.find("_primary_term"), Value.whole) or 0,
    )


def _optional(value: Value, read: Callable[[Value], T]) -> T | None:
    return read(value) if value.given else None


def _text(value: Value) -> str | None:
    return value.text() if value.given else None


def _position(value: Value) -> Position | None:
    if not value.given:
        return None
    for _, part in value.members():
        if not isinstance(part.value, str | int | float | None):
            raise part.odd("is no part of a bucket's key")
    return value.mapping()


def _stats(value: Value) -> JobStats:
    known = JobStats.model_fields
    return JobStats(**{name: part.whole() for name, part in value.members() if name in known and part.given})


def must_continue(record: Record, config: JobConfig) -> None:
    """Raise Odd if the record's position does not fit this job."""
    if (position := record.claim.position) is None:
        return
    time, *others = layout_of(config.job_id, config.spec).group_keys()
    began = position.get(time)
    if position.keys() != {time, *others} or type(began) is not int or abs(began) > LATEST_MS:
        raise Odd(f"the record of {record.claim.key[1]!r} in {ALIAS} names a position that is none of this job's")


def first(config: JobConfig, now_s: float) -> Record:
    """Return the first record of a job, which nobody holds yet: the first claim's epoch is the time."""
    claim = Claim(config.key, "", int(now_s) - 1, None, None, JobStats())
    return Record(claim, config.owner, config.config_hash, _spec(config))


def claimed(before: Record, config: JobConfig, holder: str, now_s: float) -> Record:
    """Return the record as it is when a run of the job claims it under the next epoch."""
    return replace(
        next_epoch(before, holder, now_s),
        owner=config.owner,
        config_hash=config.config_hash,
        spec=_spec(config),
        runs_without_page=before.runs_without_page + 1,
    )


def next_epoch(before: Record, holder: str, now_s: float) -> Record:
    """Return the record as it is when its claim is taken from its holder. The owner stays the same.

    An epoch is the time in seconds, or the next number if that is higher: so a lost record, or an old one
    from a backup, does not lead back below the versions of existing documents.
    """
    awaited = before.awaited
    if before.held and before.owner.uid not in awaited:
        awaited = (*awaited, before.owner.uid)
    return replace(
        before,
        claim=replace(before.claim, holder=holder, epoch=max(before.claim.epoch + 1, int(now_s))),
        awaited=awaited,
    )


def committed(record: Record, claim: Claim) -> Record:
    """Return the record with the progress of a run."""
    moved = (claim.position, claim.watermark_ms) != (record.claim.position, record.claim.watermark_ms)
    return replace(record, claim=claim, runs_without_page=0 if moved else record.runs_without_page)


def forgotten(record: Record) -> Record:
    """Return the record without its documents: the next run begins at the beginning, under a later epoch."""
    claim = replace(record.claim, position=None, watermark_ms=None, stats=JobStats(), page_hint=None)
    return replace(record, claim=claim, target=None, gate=None, edge_ms=None)


def _spec(config: JobConfig) -> dict[str, Any]:
    return config.spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"desired_state", "job_id"})
