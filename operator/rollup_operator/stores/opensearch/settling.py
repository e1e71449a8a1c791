"""Takes a job's claim from its holder and leaves it without one; if requested, deletes the documents, too.

All changes apply to the record as it was read, by compare-and-set. Documents are deleted through a gate of the new
epoch: a later claim closes that gate, and a request that arrives after that deletes nothing.

A cluster whose disk is nearly full allows no writes to its indices, not even writes that end a job or free space. If
this is in the way, the block is lifted from the claims and from the job's rollup index, and from no other index. The
cluster sets it again when it next checks the disk, about every 30 s: time enough for a record of a kilobyte.
"""

import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import structlog
from pydantic import ValidationError

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup import identity
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.stores.base import Purged, Retained, Settled
from rollup_operator.stores.errors import StoreError, StoreUnsuitable
from rollup_operator.stores.opensearch import claims, records
from rollup_operator.stores.opensearch.records import ALIAS, Record
from rollup_operator.stores.opensearch.target import deletion, gate
from rollup_operator.stores.opensearch.target import index as target
from rollup_operator.stores.opensearch.target.index import Target
from rollup_operator.stores.opensearch.transport.client import OPAQUE_ID, Cluster, name
from rollup_operator.stores.opensearch.transport.errors import DiskFull, NotThere
from rollup_operator.stores.opensearch.transport.retry import Patience

log = structlog.get_logger(__name__)

T = TypeVar("T")


async def settle(
    cluster: Cluster,
    config: JobConfig,
    holder: str,
    is_alive: Callable[[Owner], bool],
    *,
    delete_documents: bool,
    now: Callable[[], float] = time.time,
) -> Settled:
    """Make sure that nothing of an earlier run continues, and that the claim has no holder.

    With `delete_documents` the job's documents, position and entry in `_meta` go too; the record stays, so that epochs
    only grow. A record that is another job's is left as it is. Raises Fenced where somebody else claims the job before
    its documents are deleted.
    """

    async def attempt() -> Settled:
        return await _settle(cluster, config, holder, is_alive, delete_documents=delete_documents, now=now)

    return await _though_disk_is_full(cluster, config, attempt)


async def retained(cluster: Cluster, key: tuple[str, str]) -> Retained | None:
    """Say whose documents are under a key, and how many. None: a new job finds neither documents nor a position."""
    seen = await claims.read(cluster, key, opaque_id=OPAQUE_ID)
    if seen is None or not seen.has_documents:
        return None
    config = _of_record(seen)
    found, documents = await _found(cluster, config, OPAQUE_ID), 0
    if found is not None and found.uuid == seen.target:
        with contextlib.suppress(NotThere):  # it was deleted just now
            documents = await target.count(cluster, config, opaque_id=OPAQUE_ID, copies=found.copies)
    return Retained(seen.owner, documents)


async def purge(cluster: Cluster, key: tuple[str, str], owner: Owner, holder: str) -> Purged:
    """Delete the documents of a job whose resource, `owner`, is gone. Raises Fenced where another has the record."""
    config = _of_record(await _of_owner(cluster, key, owner))

    async def attempt() -> Purged:
        return await _purge(cluster, config, holder)

    return await _though_disk_is_full(cluster, config, attempt)


async def _purge(cluster: Cluster, config: JobConfig, holder: str) -> Purged:
    """Take the record as it was read, or read it again: who claims it meanwhile keeps it."""
    patience = Patience()
    while True:
        seen = await _of_owner(cluster, config.key, config.owner)
        record = await claims.evict(cluster, config, holder, seen, patience)
        if record is None:
            continue
        record, purged = await _forget(cluster, config, record)
        if await claims.release(cluster, record) is not None:
            return purged
        await patience.pause(claims.contended(config.key), carried_out=False)


async def _though_disk_is_full(cluster: Cluster, config: JobConfig, attempt: Callable[[], Awaitable[T]]) -> T:
    """Make an attempt, and another one with the block of a full disk lifted if that is in the way."""
    try:
        return await attempt()
    except DiskFull as e:
        await _lift_block(cluster, config, e)
    return await attempt()


async def _settle(
    cluster: Cluster,
    config: JobConfig,
    holder: str,
    is_alive: Callable[[Owner], bool],
    *,
    delete_documents: bool,
    now: Callable[[], float],
) -> Settled:
    patience = Patience()
    while True:
        seen = await claims.read(cluster, config.key, opaque_id=OPAQUE_ID)
        if seen is None:
            return Settled(None)
        delete = delete_documents and await _may_forget(cluster, config, seen)
        stays = delete_documents and not delete and seen.has_documents
        kept = identity.kept(config, seen.owner) if stays else None
        mine = identity.is_this_job(config.owner, seen.owner, is_alive)
        if not mine or not (seen.held or delete):
            if await claims.touch(cluster, config, seen, patience):
                return Settled(seen.claim if mine else None, kept)
            continue
        record = await claims.evict(cluster, config, holder, seen, patience, now=now)
        if record is None:
            continue
        if delete:
            record, purged = await _forget(cluster, _as_claimed(config, record), record)
            kept = purged.kept
        if (settled := await claims.release(cluster, record)) is not None:
            return Settled(settled.claim, kept)
        await patience.pause(claims.contended(config.key), carried_out=False)


async def _lift_block(cluster: Cluster, config: JobConfig, error: DiskFull) -> None:
    """Make the claims and the job's rollup index writable. Raises `error` if that is impossible."""
    try:
        seen = await claims.read(cluster, config.key, opaque_id=OPAQUE_ID)
        found = None if seen is None or seen.target is None else await _found(cluster, config, OPAQUE_ID)
        is_the_jobs = found is not None and seen is not None and found.uuid == seen.target
        indices = [ALIAS, *([config.spec.rollup_index] if is_the_jobs else [])]
        await cluster.call(
            "PUT",
            f"/{','.join(map(name, indices))}/_settings",
            doing="lifting the block of a full disk",
            body={"index.blocks.read_only_allow_delete": None},
            opaque_id=OPAQUE_ID,
        )
    except StoreError:
        raise error from None
    owner = config.owner
    log.info(
        "lifted the block of a full disk", namespace=owner.namespace, job=owner.name, indices=indices, why=str(error)
    )


async def _of_owner(cluster: Cluster, key: tuple[str, str], owner: Owner) -> Record:
    """Return the record. Raises Fenced if another resource claimed it last."""
    seen = await claims.read(cluster, key, opaque_id=OPAQUE_ID)
    if seen is None or not identity.made_by(owner, seen.owner):
        raise identity.claimed_meanwhile(key, None if seen is None else seen.owner)
    return seen


def _of_record(record: Record) -> JobConfig:
    """Return the job that claimed the record last. Raises StoreUnsuitable if the record does not tell its fields."""
    index, job_id = record.claim.key
    try:
        spec = RollupJobSpec.model_validate(record.spec)
    except ValidationError as e:
        raise StoreUnsuitable(
            f"the record of {job_id!r} in rollup index {index!r} does not say which fields its documents have"
        ) from e
    return JobConfig(job_id, spec, record.owner, record.config_hash)


def _as_claimed(config: JobConfig, record: Record) -> JobConfig:
    """Return the configuration that the documents were written with; the job's own if the record has none."""
    try:
        return replace(config, spec=RollupJobSpec.model_validate(record.spec))
    except ValidationError:
        return config


async def _may_forget(cluster: Cluster, config: JobConfig, seen: Record) -> bool:
    """Whether this resource claimed the record last, or an earlier one of its name did whose index is gone."""
    if identity.made_by(config.owner, seen.owner):
        return True
    is_predecessor = identity.is_this_job(config.owner, seen.owner, lambda _: False)
    return is_predecessor and seen.target is not None and await _found(cluster, config, OPAQUE_ID) is None


async def _found(cluster: Cluster, config: JobConfig, opaque_id: str) -> Target | None:
    try:
        return await target.read(cluster, config.spec.rollup_index, opaque_id=opaque_id)
    except target.Unfit:
        return None  # the name has come to mean something else


async def _forget(cluster: Cluster, config: JobConfig, record: Record) -> tuple[Record, Purged]:
    """Delete what was written under the record; return it without documents, and what was deleted and what stays."""
    found, kept, deleted = await _found(cluster, config, record.opaque_id), None, 0
    with contextlib.suppress(NotThere):  # the index is gone; or a later claim closed the gate, and the commit says so
        if found is not None and record.target == found.uuid:
            # The position goes first: if the deletion is cut short and the job created again, no document is missed.
            record = await claims.commit(cluster, record, records.forgotten(record).claim)
            deleted = await deletion.delete(cluster, config, record, copies=found.copies)
            await target.unregister(cluster, config, record)
        elif found is not None and record.target is not None:
            kept = target.kept(config.key)
        elif found is not None and await _is_left_over(cluster, config, record, found):
            await target.unregister(cluster, config, record)
    await gate.close_gates(cluster, config.key, record.claim.epoch + 1, opaque_id=record.opaque_id)
    record = records.forgotten(record)
    return await claims.commit(cluster, record, record.claim), Purged(deleted, kept)


async def _is_left_over(cluster: Cluster, config: JobConfig, record: Record, found: Target) -> bool:
    """Whether the entry in `_meta` is that of a first run of this job, which ended before it wrote."""
    is_ours = target.is_registered(found, config)
    return is_ours and not await target.count(cluster, config, opaque_id=record.opaque_id, copies=found.copies)
