"""Prepares the rollup index before the first bulk of a run, and explains a refused bulk."""

from collections.abc import Mapping
from dataclasses import replace

from rollup_operator.rollup.identity import JobConfig
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.stores.errors import StoreError, StoreUnavailable
from rollup_operator.stores.opensearch import claims
from rollup_operator.stores.opensearch.records import Record
from rollup_operator.stores.opensearch.target import gate, mapping
from rollup_operator.stores.opensearch.target import index as target
from rollup_operator.stores.opensearch.target.bulk import GateGone, NotStored, Superseded
from rollup_operator.stores.opensearch.transport.client import Cluster
from rollup_operator.stores.opensearch.transport.errors import Broken, MappingConflict, NotThere


async def prepare(cluster: Cluster, config: JobConfig, record: Record, fields: Mapping[str, SourceField]) -> Record:
    """Make sure that there are an index and a gate for the job's documents; return the record, which names both.

    To be called once in a run, before its first bulk. `fields` are those of the sources.
    Raises IdentityConflict, Unfit, Fenced, and what the cluster answers.
    """
    index, opaque_id = config.spec.rollup_index, record.opaque_id
    types = mapping.expected(config, fields)
    found = await target.read(cluster, index, opaque_id=opaque_id)
    if found is None:
        if record.target is not None:
            raise target.missing(config.key)
        await target.make(cluster, config, record, types)
        found = await target.read(cluster, index, opaque_id=opaque_id)
        if found is None:
            raise StoreUnavailable(f"rollup index {index} was deleted just after it was made")
    target.must_fit(found, config, record, types)
    if not target.is_registered(found, config) or mapping.lacking(found.mappings, types):
        await target.register(cluster, config, record, types)
    await target.lower_claims(cluster, found, opaque_id=opaque_id)
    way = record.gate
    if way is None or way not in found.aliases:
        way = gate.gate_name(config.key, record.claim.epoch)
        if way not in found.aliases or gate.earlier(config.key, found.aliases, record.claim.epoch):
            await gate.open_gate(cluster, config.key, record.claim.epoch, opaque_id=opaque_id)
    if (record.target, record.gate) == (found.uuid, way):
        return record
    return await claims.commit(cluster, replace(record, target=found.uuid, gate=way), record.claim)


EXPLAINED = (Superseded, GateGone, NotStored, MappingConflict, Broken)
"""Errors of a bulk that may have another cause than their text says."""


async def refused(cluster: Cluster, record: Record, error: StoreError) -> StoreError:
    """Return the actual cause of a bulk that the cluster refused with one of the errors in EXPLAINED.

    That is Fenced or IdentityConflict if this job may not write there, TargetBlocked if a pipeline is in the
    way, or the error itself.
    """
    index = record.claim.key[0]
    try:
        if isinstance(error, Superseded | GateGone):
            if (fenced := await claims.fenced(cluster, record)) is not None:
                return fenced
            await target.must_stand(cluster, record, record.owner, opaque_id=record.opaque_id)
        pipeline = await target.final_pipeline(cluster, index, opaque_id=record.opaque_id)
    except StoreError as e:
        return e if isinstance(error, Superseded | GateGone) else error
    if pipeline is not None and not isinstance(error, Superseded):
        return NotStored(
            f"rollup index {index!r} has index.final_pipeline {pipeline!r}, an ingest pipeline that drops, changes or "
            f"refuses documents: set it to _none in that index, and see which template sets it. {error}"
        )
    if isinstance(error, Superseded):
        return StoreUnavailable(f"{error}; no later claim is known: has the clock gone back?")
    if isinstance(error, GateGone):
        return StoreUnavailable(f"{error}; the index stands, so the next run makes the alias anew")
    return error


async def publish(cluster: Cluster, record: Record) -> None:
    """Let searches see everything that was written."""
    if record.target is None:
        return
    try:
        await target.refresh(cluster, record.claim.key[0], opaque_id=record.opaque_id)
    except NotThere:
        raise target.missing(record.claim.key) from None
