"""The rollup index of a job: whether it exists, whether it fits, and the job's entry in it.

A run creates the index when it has the job's first documents to write. It uses an existing index if that is a rollup
index and its fields fit; what others wrote into it stays.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rollup_operator.model.conditions import Reason
from rollup_operator.rollup.documents import layout_of
from rollup_operator.rollup.identity import JobConfig, Owner, config_changed, is_this_job, made_by, not_a_rollup_index
from rollup_operator.stores.errors import IdentityConflict, StoreError, StoreUnavailable
from rollup_operator.stores.opensearch import replication
from rollup_operator.stores.opensearch.records import ALIAS, Record
from rollup_operator.stores.opensearch.replication import Copies
from rollup_operator.stores.opensearch.target import codec, gate, mapping
from rollup_operator.stores.opensearch.target.lock import ABANDONED_SECONDS, locked
from rollup_operator.stores.opensearch.transport.answers import LISTING, Value
from rollup_operator.stores.opensearch.transport.client import Cluster, name
from rollup_operator.stores.opensearch.transport.errors import Broken, IndexBlocked, NotThere, Refused

_SETTINGS = ("uuid", "number_of_replicas", "auto_expand_replicas", replication.SETTING)
_FILTER = ",".join(["*.aliases", "*.mappings", *(f"*.settings.index.{name}" for name in _SETTINGS)])


_DATA_STREAMS = "creates data streams only"
"""A cluster's message for an index whose name a template reserves for data streams."""


class Unfit(StoreError):
    """The job's documents cannot go into this index."""

    reason = Reason.MAPPING_CONFLICT
    transient = False


@dataclass(frozen=True, slots=True)
class Target:
    """The current state of a rollup index."""

    uuid: str
    aliases: frozenset[str]
    mappings: Mapping[str, Any]
    replicas: int
    """The fewest copies of a shard that the cluster keeps of it."""
    claims_replicas: int
    """The fewest copies of a shard of the index of claims."""
    copies: Copies = replication.ANY
    """The copies that show everything that was refreshed."""


async def must_stand(cluster: Cluster, record: Record, mine: Owner, *, opaque_id: str) -> None:
    """Raise IdentityConflict if the rollup index is no longer the one with the record's documents.

    `mine`: the job that wants to write to it, whose deletion may or may not forget the record.
    """
    key = record.claim.key
    if record.target is None:
        return
    try:
        uuid = await _setting(cluster, key[0], "uuid", opaque_id)
    except NotThere:
        raise missing(key, forgets=is_this_job(mine, record.owner, lambda _: False)) from None
    if uuid.value != record.target:
        raise replaced(key, forgets=made_by(mine, record.owner))


async def final_pipeline(cluster: Cluster, index: str, *, opaque_id: str) -> str | None:
    """Return the pipeline of all documents that are written to the index. Raises NotThere."""
    pipeline = await _setting(cluster, index, "final_pipeline", opaque_id)
    return None if pipeline.value in (None, "_none") else pipeline.text()


async def _setting(cluster: Cluster, index: str, setting: str, opaque_id: str) -> Value:
    """Return one setting of an index. Raises NotThere."""
    answer = await cluster.call(
        "GET",
        f"/{name(index)}",
        doing=f"reading {index}",
        params={"filter_path": f"*.settings.index.{setting}"},
        opaque_id=opaque_id,
    )
    return answer.find(index, "settings", "index", setting)


async def read(cluster: Cluster, index: str, *, opaque_id: str) -> Target | None:
    """Return the rollup index, or None if there is none. Raises Unfit if the name belongs to something else."""
    answer = await cluster.call(
        "GET",
        f"/{name(index)},{ALIAS}",
        doing=f"reading {index}",
        params={"ignore_unavailable": "true", "filter_path": _FILTER},
        opaque_id=opaque_id,
        longest=LISTING,
    )
    there = dict(answer.members())
    claims = [each for each in there.values() if each.find("aliases", ALIAS).given]
    if (found := there.get(index)) is None:
        if len(there) > len(claims):
            raise Unfit(f"{index!r} is no index but a name for others: name the index itself in spec.rollupIndex")
        return None
    return Target(
        uuid=found.at("settings", "index", "uuid").text(),
        aliases=frozenset(alias for alias, _ in found.find("aliases").members()),
        mappings=found.find("mappings").kept(),
        replicas=_replicas(found.at("settings", "index")),
        claims_replicas=max((_replicas(each.at("settings", "index")) for each in claims), default=0),
        copies=replication.complete(found.at("settings", "index")),
    )


async def make(cluster: Cluster, config: JobConfig, record: Record, types: Mapping[str, str]) -> None:
    """Create the rollup index with the gate of the record's epoch. An existing one stays as it is."""
    body = {
        "settings": mapping.settings(config.spec.rollup_index_settings, config, types),
        "mappings": mapping.mappings(config, types),
        "aliases": {gate.gate_name(config.key, record.claim.epoch): {"is_hidden": True}},
    }
    index = config.spec.rollup_index
    try:
        await cluster.call(
            "PUT", f"/{name(index)}", doing=f"making rollup index {index}", body=body, opaque_id=record.opaque_id
        )
    except Refused as e:
        if _DATA_STREAMS in str(e):
            raise IndexBlocked(
                f"{e}: an index template makes data streams of names like this one. Take the name out of the "
                "template's index_patterns, or create the job again with another spec.rollupIndex",
                status=e.status,
                kind=e.kind,
            ) from e
        if e.kind != "resource_already_exists_exception":
            raise
        return
    except Broken as e:
        await codec.must_work(cluster, config, record, e)
        raise
    await codec.must_work(cluster, config, record)


def must_fit(found: Target, config: JobConfig, record: Record, types: Mapping[str, str]) -> None:
    """Raise Unfit or IdentityConflict if the job's documents may not go into the index."""
    index = config.spec.rollup_index
    if record.target not in (None, found.uuid):
        raise replaced(config.key)
    if lacks := mapping.missing_meta(found.mappings):
        raise Unfit(f"{not_a_rollup_index(index, lacks)}: {_another(record)}")
    values = (f"{key}.value" for key in layout_of(config.job_id, config.spec).group_keys()[1:])
    if wrong_part := mapping.unreadable(found.mappings, {*types, *values}):
        raise Unfit(
            f"rollup index {index!r} has {wrong_part}, in its mapping: see which index template sets it, and "
            f"{_another(record)}"
        )
    there = (mapping.entries(found.mappings) or {}).get(config.job_id)
    if record.target is None and there is not None and not mapping.same_documents(there, mapping.entry(config)):
        raise config_changed(config.key)
    if wrong := mapping.unlike(found.mappings, types):
        field, kind = next(iter(wrong.items()))
        more = f", and {len(wrong) - 1} more like that" if len(wrong) > 1 else ""
        raise Unfit(
            f"rollup index {index!r} keeps field {field!r} as {kind}, and the job needs {types[field]}{more}: "
            f"{_another(record)}"
        )


async def register(cluster: Cluster, config: JobConfig, record: Record, types: Mapping[str, str]) -> None:
    """Add the job's entry and fields to the index, beside those of others."""
    async with locked(cluster, ALIAS, config.spec.rollup_index, opaque_id=record.opaque_id):
        until = time.monotonic() + ABANDONED_SECONDS / 2
        found = await read(cluster, config.spec.rollup_index, opaque_id=record.opaque_id)
        if found is None:
            raise missing(config.key)
        must_fit(found, config, record, types)
        body: dict[str, Any] = {}
        if not is_registered(found, config):
            body["_meta"] = mapping.with_entry(found.mappings, config.job_id, mapping.entry(config))
        if lacking := mapping.lacking(found.mappings, types):
            body["properties"] = mapping.properties(lacking)
        await _put(cluster, config, record, body, until)


async def unregister(cluster: Cluster, config: JobConfig, record: Record) -> None:
    """Remove the job's entry from the index."""
    async with locked(cluster, ALIAS, config.spec.rollup_index, opaque_id=record.opaque_id):
        until = time.monotonic() + ABANDONED_SECONDS / 2
        found = await read(cluster, config.spec.rollup_index, opaque_id=record.opaque_id)
        if found is not None and config.job_id in (mapping.entries(found.mappings) or {}):
            meta = mapping.with_entry(found.mappings, config.job_id, None)
            await _put(cluster, config, record, {"_meta": meta}, until)


def is_registered(found: Target, config: JobConfig) -> bool:
    """Whether the job's entry is complete."""
    return (mapping.entries(found.mappings) or {}).get(config.job_id) == mapping.entry(config)


async def lower_claims(cluster: Cluster, found: Target, *, opaque_id: str) -> None:
    """Keep no more copies of claims than of the documents that they describe: a position must not outlive them."""
    if found.claims_replicas <= found.replicas:
        return
    await cluster.call(
        "PUT",
        f"/{ALIAS}/_settings",
        doing="setting the copies of the claims",
        body={"index": {"number_of_replicas": found.replicas, "auto_expand_replicas": False}},
        opaque_id=opaque_id,
    )


async def refresh(cluster: Cluster, index: str, *, opaque_id: str) -> None:
    """Make everything visible that was written to the index. Raises NotThere if it is gone."""
    await cluster.call("POST", f"/{name(index)}/_refresh", doing=f"refreshing {index}", opaque_id=opaque_id)


def documents(config: JobConfig) -> dict[str, Any]:
    """Return the query for a job's documents."""
    date = f"{config.spec.groups.date_histogram.field}.date_histogram.timestamp"
    return {"bool": {"filter": [{"term": {"_rollup.id": config.job_id}}, {"exists": {"field": date}}]}}


async def count(cluster: Cluster, config: JobConfig, *, opaque_id: str, copies: Copies = replication.ANY) -> int:
    """Return how many documents of the job's id are in the index. Raises NotThere if it is gone."""
    index = config.spec.rollup_index
    await refresh(cluster, index, opaque_id=opaque_id)
    answer = await cluster.call(
        "POST",
        f"/{name(index)}/_count",
        doing=f"counting the documents of {config.job_id} in {index}",
        params=copies.parameters,
        body={"query": documents(config)},
        opaque_id=opaque_id,
    )
    return answer.at("count").whole()


def kept(key: tuple[str, str]) -> str:
    """Say that documents stay in an index that is not the one that the job wrote to."""
    return (
        f"the documents of {key[1]!r} in rollup index {key[0]!r} are kept: it is not the index that the job wrote to, "
        "but one that was restored or made by somebody else"
    )


def missing(key: tuple[str, str], *, forgets: bool = True) -> IdentityConflict:
    """Return the error for a rollup index that is gone although the job's record says how far it was filled.

    `forgets`: the job's deletion makes the store forget the record's position.
    """
    return IdentityConflict(Reason.TARGET_MISSING, f"rollup index {key[0]!r} was deleted: {_cure(key, forgets)}")


def replaced(key: tuple[str, str], *, forgets: bool = True) -> IdentityConflict:
    """Return the error for a rollup index that is another one than the job wrote to."""
    return IdentityConflict(
        Reason.TARGET_REPLACED, f"rollup index {key[0]!r} is not the one that the job wrote to: {_cure(key, forgets)}"
    )


async def _put(cluster: Cluster, config: JobConfig, record: Record, body: Mapping[str, Any], until: float) -> None:
    """Change the index's mappings, before `until` or not at all: after that the lock may be another's."""
    if not body:
        return
    index = config.spec.rollup_index
    doing = f"registering job {config.job_id} in {index}"
    if (left := until - time.monotonic()) <= 0:
        raise StoreUnavailable(f"{doing}: the cluster was too slow")
    try:
        await cluster.call(
            "PUT", f"/{name(index)}/_mapping", doing=doing, body=body, opaque_id=record.opaque_id, timeout=left
        )
    except Refused as e:
        raise Unfit(f"{e}: {_another(record)}") from e


def _another(record: Record) -> str:
    """Say how another index is chosen: the field is fixed once something is written."""
    if record.claim.position is None:
        return "set another spec.rollupIndex"
    return "go on in a new job with another spec.rollupIndex and a spec.start"


def _replicas(settings: Value) -> int:
    expands = settings.find("auto_expand_replicas")
    if not expands.given or str(expands.value) == "false":
        expands = settings.at("number_of_replicas")
    fewest = str(expands.value)[:8].partition("-")[0]
    if not (fewest.isascii() and fewest.isdecimal()):
        raise expands.odd("is no number of copies")
    return int(fewest)


def _cure(key: tuple[str, str], forgets: bool) -> str:
    if not forgets:
        return "set another spec.jobId or spec.rollupIndex, or let kubectl rollup purge forget the position"
    return (
        f"set spec.deletionPolicy to Delete, then delete the job {key[1]!r} and create it again, and it begins at the "
        "beginning; or go on in a new job with another spec.rollupIndex and a spec.start"
    )
