"""Tests whether a cluster supports the codec that a job requests, before a page is read.

A library on the cluster's machine does the compression. If it is missing, the index can be created but breaks with
its first document. So a new index gets a test document, which is deleted at once; an index that breaks is removed.
"""

import asyncio
import contextlib

from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.errors import StoreUnsuitable
from rollup_operator.stores.opensearch.records import Record
from rollup_operator.stores.opensearch.target import gate
from rollup_operator.stores.opensearch.transport.client import Cluster, name
from rollup_operator.stores.opensearch.transport.errors import Broken, MappingConflict, NotThere, Refused

_DOCUMENT = "rollup-operator-codec"
"""The id of the test document, which no document of a job has."""
_PARAMS = {"require_alias": "true", "refresh": "true", "timeout": "5s"}
_PAUSE = 1.0
"""Seconds between two tries."""


def _asked_for(config: JobConfig) -> str | None:
    """Return the codec of the rollup index if it is one that a cluster may lack."""
    settings = config.spec.rollup_index_settings
    return settings.codec if settings is not None and settings.codec != "default" else None


async def must_work(cluster: Cluster, config: JobConfig, record: Record, failed: Broken | None = None) -> None:
    """Raise StoreUnsuitable if the rollup index, created under this claim, breaks because its codec is missing.

    `failed` is why it could not be made, if so. Does nothing if the job requests no codec.
    """
    if (wanted := _asked_for(config)) is None:
        return
    index, way = config.spec.rollup_index, gate.gate_name(config.key, record.claim.epoch)
    if failed is not None and not await _is_ours(cluster, index, way, record):
        return
    try:
        await _try(cluster, config, way, record)
    except Broken:
        await asyncio.sleep(_PAUSE)
        try:
            await _try(cluster, config, way, record)  # what has another cause passes
        except Broken as e:
            if await _is_ours(cluster, index, way, record):
                await cluster.call("DELETE", f"/{name(index)}", doing=f"removing {index}", opaque_id=record.opaque_id)
            raise StoreUnsuitable(
                f"rollup index {index!r} breaks with the codec {wanted}, which this cluster seems to lack ({e}): "
                "delete the job and create it without spec.rollupIndexSettings.codec"
            ) from e


async def _try(cluster: Cluster, config: JobConfig, way: str, record: Record) -> None:
    """Write a document and delete it, each durable in a separate segment. Raises Broken if that breaks the index."""
    doing = f"trying the codec of {config.spec.rollup_index}"
    path = f"/{name(way)}/_doc/{_DOCUMENT}"
    try:
        await cluster.call("PUT", path, doing=doing, params=_PARAMS, body={}, opaque_id=record.opaque_id)
    except (Refused, MappingConflict):
        return  # a pipeline or a template does not take it: the job's own documents will show
    delete = {"refresh": "true", "timeout": _PARAMS["timeout"]}
    with contextlib.suppress(NotThere):  # a pipeline dropped it
        await cluster.call("DELETE", path, doing=doing, params=delete, opaque_id=record.opaque_id)


async def _is_ours(cluster: Cluster, index: str, way: str, record: Record) -> bool:
    """Whether the index was created under this claim: its gate says so, and nothing was written through it yet."""
    try:
        return way in await gate.aliases(cluster, index, record.opaque_id)
    except NotThere:
        return False
