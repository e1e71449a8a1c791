"""The claims of a cluster's jobs: one document per job in an index of the operator, changed by compare-and-set.

Requests always use the alias of the index and require it: after the index was removed, the next claim creates it
anew, and a late commit never does.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from rollup_operator.concurrency.portions import sharing
from rollup_operator.rollup import identity
from rollup_operator.rollup.identity import JobConfig, Owner
from rollup_operator.stores.base import Claim, KnownJob
from rollup_operator.stores.errors import Fenced, StoreError, StoreUnavailable
from rollup_operator.stores.opensearch import records
from rollup_operator.stores.opensearch.quiet import quiet
from rollup_operator.stores.opensearch.records import ALIAS, INDEX, Record
from rollup_operator.stores.opensearch.replication import ANY, Copies
from rollup_operator.stores.opensearch.target import gate
from rollup_operator.stores.opensearch.target import index as target
from rollup_operator.stores.opensearch.transport.answers import LISTING, Value
from rollup_operator.stores.opensearch.transport.client import OPAQUE_ID, Cluster, name
from rollup_operator.stores.opensearch.transport.errors import (
    TOO_LONG,
    DocumentConflict,
    NotThere,
    Overloaded,
    Refused,
    Unanswered,
)
from rollup_operator.stores.opensearch.transport.retry import Patience

_SHARD_SECONDS = 10
"""How long a change waits for the claims' shard if that is missing."""

_MAPPINGS = {
    "dynamic": False,  # all but these is only kept
    "properties": {field: {"type": "keyword"} for field in ("rollup_index", "job_id", "holder")},
}
_LISTED_AT_ONCE = 500
_MOST_VALUES = 1_000_000
"""The limit of single JSON values in all records of a list, each some hundred bytes: enough for 20,000 jobs."""


async def read(
    cluster: Cluster, key: tuple[str, str], *, opaque_id: str = OPAQUE_ID, patience: Patience | None = None
) -> Record | None:
    """Return a job's current record, whether or not searches see it.

    `patience`: how long to retry a cluster that does not answer; by default only one that answers is retried.
    """
    path, doing = f"/{ALIAS}/_doc/{name(records.document_id(key))}", f"reading the claim of {key[1]}"
    while True:
        try:
            found = await cluster.call("GET", path, doing=doing, opaque_id=opaque_id, longest=LISTING)
            record = records.from_document(found)
            if record.claim.key != key:
                raise records.foreign(found, f"it is that of {record.claim.key[1]!r} in {record.claim.key[0]!r}")
            return record
        except NotThere:
            return None
        except StoreError as e:
            if patience is None:
                if isinstance(e, Unanswered):
                    raise
                patience = Patience()  # for instance: the shard is being recovered
            await patience.pause(e)


async def take(
    cluster: Cluster,
    config: JobConfig,
    holder: str,
    is_alive: Callable[[Owner], bool],
    *,
    now: Callable[[], float] = time.time,
    waits: Callable[[str], None] = lambda _: None,
) -> Record:
    """Take the job's claim under the next epoch.

    If somebody held it, this returns when nothing of an earlier epoch can write any more or is in progress, and calls
    `waits` before with what it waits for.
    Raises IdentityConflict if this job may not continue the record, Fenced if somebody else has claimed it by
    then. An error is `uncertain` if the claim may be ours nevertheless, or another's.
    """
    patience = Patience()
    try:
        while True:
            seen = await read(cluster, config.key, opaque_id=OPAQUE_ID)
            if seen is None:
                # A record that nobody holds comes first, so that every claim changes one that was read: see `touch`.
                seen = await _try(cluster, config, records.first(config, now()), patience)
                if seen is None:
                    continue
            identity.judge(
                config,
                owner=seen.owner,
                config_hash=seen.config_hash,
                pattern=seen.spec.get("indexPattern"),
                has_documents=seen.has_documents,
                is_alive=is_alive,
            )
            records.must_continue(seen, config)
            await target.must_stand(cluster, seen, config.owner, opaque_id=OPAQUE_ID)
            taken = await _try(cluster, config, records.claimed(seen, config, holder, now()), patience)
            if taken is not None:
                break
    except StoreError as e:
        e.uncertain = patience.tried
        raise
    if taken.awaited:
        waits(f"waiting until nothing of {seen.claim.holder or 'an earlier run'}, which held the claim, is in progress")
    try:
        shut = await shut_out(cluster, taken)
        # That may have taken long, and if there are two leaders, the other one may have claimed the job meanwhile.
        if taken.awaited and (lost := await fenced(cluster, taken)) is not None:
            raise lost
        return shut
    except StoreError as e:
        e.uncertain = True
        raise


async def evict(
    cluster: Cluster,
    config: JobConfig,
    holder: str,
    seen: Record,
    patience: Patience,
    *,
    now: Callable[[], float] = time.time,
) -> Record | None:
    """Take the claim as it was `seen`, from its holder and whatever became of the documents, in order to settle.

    The owner stays. None: it has changed meanwhile, or may have; `patience` says how often that may happen.
    """
    taken = await _try(cluster, config, records.next_epoch(seen, holder, now()), patience)
    return await shut_out(cluster, taken) if taken is not None else None


async def touch(cluster: Cluster, config: JobConfig, seen: Record, patience: Patience) -> bool:
    """Store the record again as it was `seen`. False: it has changed meanwhile, or may have.

    A read cannot show a claim that is on its way, from a process that froze or died after sending it. After this
    change such a claim finds another record than the one that it was made from, and is refused.
    """
    return await _try(cluster, config, seen, patience, opaque_id=OPAQUE_ID) is not None


async def _try(
    cluster: Cluster, config: JobConfig, wanted: Record, patience: Patience, *, opaque_id: str = ""
) -> Record | None:
    """Store `wanted` unless the record is no longer the one that it was made of. None: read it again."""
    try:
        try:
            return await _put(cluster, wanted, opaque_id=opaque_id)
        except NotThere:
            if wanted.seq_no < 0:  # else the claims have been removed since
                await _make_index(cluster, config, wanted.opaque_id)
            return None
    except DocumentConflict:
        # Two that take it from each other do not do so as fast as the cluster answers.
        await patience.pause(contended(config.key), carried_out=False)
        return None
    except StoreError as e:
        if isinstance(e, Unanswered) and not e.sent:
            raise
        await patience.pause(e)  # if it was carried out after all, it is taken over from ourselves
        return None


async def shut_out(cluster: Cluster, record: Record) -> Record:
    """If there was a holder, make sure that nothing of earlier epochs can write any more or is in progress.

    That is known from `awaited`, which stays in the stored record until a later change of it.
    """
    if not record.awaited:
        return record
    await gate.close_gates(cluster, record.claim.key, record.claim.epoch, opaque_id=record.opaque_id)
    await quiet(
        cluster,
        {*record.awaited, record.owner.uid},
        before=record.claim.epoch,
        doing="waiting for the end of an earlier holder's requests",
    )
    return replace(record, gate=None, awaited=())


async def commit(cluster: Cluster, record: Record, claim: Claim) -> Record:
    """Record the progress of a run, and the rest of `record`. Raises Fenced if the claim is no longer ours."""
    wanted = records.committed(record, claim)
    return await _change(cluster, record, lambda now: replace(wanted, seq_no=now.seq_no, primary_term=now.primary_term))


async def release(
    cluster: Cluster, record: Record, *, lost_write: bool = False, lost_other: bool = False
) -> Record | None:
    """Release the claim, once nothing of ours is in progress. None: it is another's by now, and was left alone.

    `lost_write`: a bulk ended without its answer, and may be on its way. `lost_other`: any other request was cancelled,
    or ended so.
    """
    key, epoch = record.claim.key, record.claim.epoch
    if lost_write:
        await gate.close_gates(cluster, key, epoch + 1, opaque_id=record.opaque_id)
        record = replace(record, gate=None)
    if lost_write or lost_other:
        await quiet(
            cluster,
            {record.owner.uid},
            before=epoch + 1,
            doing="waiting for the end of the run's requests",
            arrived=not cluster.is_unread(record.opaque_id),
        )
    left, awaited = record.gate, record.awaited

    def given_up(now: Record) -> Record:
        return replace(now, claim=replace(now.claim, holder=""), gate=left, awaited=awaited)

    try:
        return await _change(cluster, record, given_up)
    except Fenced:
        return None


async def known(cluster: Cluster, *, copies: Copies = ANY) -> list[KnownJob]:
    """List all jobs that ever made a claim here, in order of their keys. `copies` of the claims show all."""
    found = await _all(cluster, copies=copies)
    return [KnownJob(r.claim.key, r.owner, r.spec or None, r.has_documents) for r in found]


async def held(cluster: Cluster, holder: str, *, copies: Copies = ANY) -> list[Owner]:
    """Return the owners of all records that have another holder. A record that no operator wrote is skipped."""
    found = await _all(cluster, "holder", left_out=(records.ForeignRecord,), copies=copies)
    return [record.owner for record in found if record.claim.holder != holder]


async def fenced(cluster: Cluster, record: Record) -> Fenced | None:
    """Return the error that names the current holder; None: the claim is still ours."""
    now = await read(cluster, record.claim.key, opaque_id=record.opaque_id)
    return None if record.is_ours(now) else _fenced(record, now)


async def _change(cluster: Cluster, record: Record, change: Callable[[Record], Record]) -> Record:
    """Store what `change` makes of the record, as long as holder and epoch stay, even if an answer is lost.

    If the stored record turns out to be another one under the same holder and epoch, `change` is applied to it.
    """
    patience = Patience()
    wanted = change(record)
    while True:
        try:
            return await _put(cluster, wanted)
        except NotThere as e:
            raise _fenced(record, None) from e
        except StoreError as e:
            if not isinstance(e, DocumentConflict):
                await patience.pause(e)
            now = await read(cluster, record.claim.key, opaque_id=record.opaque_id, patience=patience)
            if now is not None and records.to_document(now) == records.to_document(wanted):
                return now  # it had been carried out
            if now is None or not record.is_ours(now):
                raise _fenced(record, now) from e
            wanted = change(now)


def contended(key: tuple[str, str]) -> StoreUnavailable:
    """Return the error for a claim that another process takes whenever this one does."""
    return StoreUnavailable(
        f"another process keeps taking the claim of {key[1]!r} in rollup index {key[0]!r}: stop all operators but one"
    )


def _fenced(record: Record, now: Record | None) -> Fenced:
    said = "gone"
    if now is not None:
        said = f"{now.claim.holder or 'nobody'} with epoch {now.claim.epoch}"
    return Fenced(f"the claim of epoch {record.claim.epoch} was taken over: its holder is now {said}")


async def _put(cluster: Cluster, record: Record, *, opaque_id: str = "") -> Record:
    """Store a record if the one that it was made from still stands. Raises DocumentConflict, NotThere, Unanswered.

    `opaque_id`: whose request it is; by default that of the record's epoch.
    """
    path, params = "_create", {"require_alias": "true", "timeout": f"{_SHARD_SECONDS}s"}
    if record.seq_no >= 0:
        path = "_doc"
        params |= {"if_seq_no": str(record.seq_no), "if_primary_term": str(record.primary_term)}
    key = record.claim.key
    answer = await cluster.call(
        "PUT",
        f"/{ALIAS}/{path}/{name(records.document_id(key))}",
        doing=f"recording the claim of {key[1]}",
        params=params,
        body={**records.to_document(record), "updated_ms": time.time_ns() // 1_000_000},
        opaque_id=opaque_id or record.opaque_id,
    )
    return replace(record, seq_no=answer.at("_seq_no").whole(), primary_term=answer.at("_primary_term").whole())


async def _make_index(cluster: Cluster, config: JobConfig, opaque_id: str) -> None:
    settings = config.spec.rollup_index_settings
    replicas = settings.number_of_replicas if settings is not None else None
    body = {
        "settings": {
            "number_of_shards": 1,
            "hidden": True,
            "auto_expand_replicas": False,
            "translog.durability": "request",  # a record must outlive the node's crash, whatever templates say
            **({"number_of_replicas": replicas} if replicas is not None else {}),
        },
        "mappings": _MAPPINGS,
        "aliases": {ALIAS: {"is_hidden": True}},
    }
    try:
        await cluster.call("PUT", f"/{INDEX}", doing="making the index of claims", body=body, opaque_id=opaque_id)
    except Refused as e:
        if e.kind != "resource_already_exists_exception":
            raise
        await _mend_alias(cluster, opaque_id)


async def _mend_alias(cluster: Cluster, opaque_id: str) -> None:
    """Set the alias if the index exists: another run created it just now, or somebody removed the alias."""
    add = {"add": {"index": INDEX, "alias": ALIAS, "is_hidden": True}}
    await cluster.call(
        "POST", "/_aliases", doing="naming the index of claims", body={"actions": [add]}, opaque_id=opaque_id
    )


async def _all(
    cluster: Cluster, field: str = "job_id", *, left_out: tuple[type[StoreError], ...] = (), copies: Copies
) -> list[Record]:
    """Return the records that have the field: all by default. `left_out`: the error of those to leave out."""
    doing, found = "listing claims", list[Record]()
    try:
        refreshed = await cluster.call("POST", f"/{ALIAS}/_refresh", doing=doing)
        if refreshed.at("_shards", "failed").whole():
            raise StoreUnavailable(f"{doing}: not all of them can be seen now")
        size, weight = _LISTED_AT_ONCE, 0
        after: tuple[str, ...] = ()
        while True:
            try:
                hits = await _list(cluster, doing, field, after, size, copies)
            except Overloaded as e:
                if e.kind != TOO_LONG or size == 1:
                    raise
                size //= 2
                continue
            with sharing() as pause:
                for hit in hits:
                    await pause()
                    place = tuple(part.text() for part in hit.at("sort").items())
                    if place <= after:
                        raise hit.odd("does not come after the one before it")
                    after, weight = place, weight + hit.weight()
                    if weight > _MOST_VALUES:
                        raise StoreUnavailable(f"{doing}: there are more than this process can hold")
                    with suppress(*left_out):
                        found.append(records.from_document(hit))
            if len(hits) < size:
                return found
    except NotThere:
        return found  # no job has ever made a claim here


async def _list(
    cluster: Cluster, doing: str, field: str, after: tuple[str, ...], size: int, copies: Copies
) -> list[Value]:
    fields = dict.fromkeys(("rollup_index", "job_id", field))
    body = {
        "size": size,
        "query": {"bool": {"filter": [{"exists": {"field": each}} for each in fields]}},
        "sort": [{"rollup_index": "asc"}, {"job_id": "asc"}],
        **({"search_after": after} if after else {}),
    }
    answer = await cluster.call(
        "POST",
        f"/{ALIAS}/_search",
        doing=doing,
        params={"allow_partial_search_results": "false", **copies.parameters},
        body=body,
        longest=LISTING,
    )
    return list(answer.at("hits", "hits").items())
