"""Handles documents that searches cannot see yet: refreshes the sources, or holds buckets back.

A search sees only refreshed documents. A document that the cluster has acknowledged but not refreshed would be
missing for good in a bucket that is read as soon as it is over:

    ------ bucket ------|------ the next ------
        x   x    x   x  ^ read here: the last x is acknowledged, and seen only after the next refresh

So each run refreshes its source first. If the store's user may not do that, buckets are held back for as long as the
indices take to refresh by themselves. If a row was still on its way when its bucket was read, the next run finds it:
it counts the rows of the last bucket again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rollup_operator.model.time_values import parse_time_value
from rollup_operator.rollup.bounds import Bounds
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.errors import StoreError, StoreUnavailable
from rollup_operator.stores.opensearch import replication
from rollup_operator.stores.opensearch.query import time_range
from rollup_operator.stores.opensearch.records import Record
from rollup_operator.stores.opensearch.replication import ANY, PRIMARY, Copies
from rollup_operator.stores.opensearch.source.sources import indices, search, some_of
from rollup_operator.stores.opensearch.target import index as target
from rollup_operator.stores.opensearch.transport.answers import LISTING, Value
from rollup_operator.stores.opensearch.transport.client import Cluster, name
from rollup_operator.stores.opensearch.transport.errors import Answered, Overloaded

_DEFAULT_MS = 1_000
"""The refresh interval of an index that sets none."""
_MARGIN_MS = 1_000
"""How long a refresh may take."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """What searches cannot see."""

    hold_ms: int = 0
    """Younger documents may be invisible."""
    notes: Sequence[str] = field(default=())


async def refresh(cluster: Cluster, config: JobConfig, *, opaque_id: str) -> Unseen:
    """Make everything visible that was acknowledged. Raises StoreUnavailable and Overloaded."""
    pattern = config.spec.index_pattern
    try:
        answer = await cluster.call(
            "POST",
            f"/{indices(pattern)}/_refresh",
            doing=f"refreshing {pattern}",
            params={"filter_path": "_shards.failed"},
            opaque_id=opaque_id,
        )
    except Overloaded:
        raise
    except Answered as e:
        return await _held(cluster, config, str(e), opaque_id)
    if answer.at("_shards", "failed").whole():
        raise StoreUnavailable(f"refreshing {pattern}: not all shards have done so")
    return Unseen()


async def _held(cluster: Cluster, config: JobConfig, why: str, opaque_id: str) -> Unseen:
    pattern = config.spec.index_pattern
    hold, never = await _intervals(cluster, pattern, opaque_id)
    delay = Bounds.of(config.spec.groups.date_histogram).delay_ms
    notes = []
    cure = "let the store's user refresh the source (Elasticsearch: maintenance; OpenSearch: indices:admin/refresh*)"
    if never:
        notes.append(
            f"{some_of(never, len(never))} has index.refresh_interval -1: what is not refreshed there is not seen, and "
            f"lost once its bucket is rolled up: {cure}"
        )
    if hold > delay:
        seconds = -(-hold // 1000)
        notes.append(
            f"buckets are held back for {seconds} s until what the cluster has acknowledged can be seen, since {why}: "
            f"{cure}, or set spec.groups.dateHistogram.delay to {seconds}s or more"
        )
    return Unseen(hold, notes)


async def _intervals(cluster: Cluster, pattern: str, opaque_id: str) -> tuple[int, list[str]]:
    """Return how long it takes until everything is visible, and which indices are never refreshed."""
    try:
        answer = await _settings(cluster, pattern, "refresh_interval", opaque_id)
    except Answered:
        return _DEFAULT_MS + _MARGIN_MS, []
    longest, never = _DEFAULT_MS, []
    for index, of in answer.members():
        text = of.at("settings", "index", "refresh_interval").text()
        try:
            milliseconds = parse_time_value(text, "refresh_interval").milliseconds
        except ValueError:
            continue
        longest = max(longest, int(milliseconds))
        if milliseconds < 0:
            never.append(index)
    return longest + _MARGIN_MS, never


async def complete_copies(cluster: Cluster, pattern: str, *, opaque_id: str) -> tuple[Copies, str | None]:
    """Return the copies that show everything of all indices of a pattern, and a remark if that is unknown."""
    try:
        answer = await _settings(cluster, pattern, replication.SETTING, opaque_id)
    except Overloaded:
        raise
    except Answered as e:
        return ANY, (
            f"replicas of an index with index.replication.type SEGMENT show rows late, and the operator cannot read "
            f"whether {pattern} has such, since {e}: let the store's user read settings (indices:monitor/settings/get)"
        )
    found = {replication.complete(index.find("settings", "index")) for _, index in answer.members()}
    return PRIMARY if PRIMARY in found else ANY, None


async def _settings(cluster: Cluster, pattern: str, setting: str, opaque_id: str) -> Value:
    """Return one setting of each index that the pattern matches, if it is set."""
    return await cluster.call(
        "GET",
        f"/{indices(pattern)}/_settings",
        doing=f"reading the settings of {pattern}",
        params={"filter_path": f"*.settings.index.{setting}"},
        opaque_id=opaque_id,
        longest=LISTING,
    )


async def closed(cluster: Cluster, pattern: str, *, opaque_id: str) -> str | None:
    """Say which indices that the pattern matches are closed, and so not read; None: none, or unknown."""
    if "*" not in pattern:
        return None  # one that is named is an error
    try:
        answer = await cluster.call(
            "GET",
            f"/_resolve/index/{indices(pattern)}",
            doing=f"checking for closed indices of {pattern}",
            params={"expand_wildcards": "closed", "filter_path": "indices.name,indices.attributes"},
            opaque_id=opaque_id,
            longest=LISTING,
        )
    except StoreError:
        return None
    found = [
        index.at("name").text()
        for index in answer.find("indices").items()
        if "closed" in (each.value for each in index.find("attributes").items())
    ]
    if not found:
        return None
    return (
        f"{some_of(found, len(found))} is closed, and is not read: once it is open, its rows from before the watermark "
        "are rolled up only by spec.lookback, or by a new job"
    )


async def grown(
    cluster: Cluster, config: JobConfig, record: Record, *, opaque_id: str, copies: Copies = ANY
) -> int | None:
    """Return the bucket of the position if its source holds more rows than were rolled up; None: it does not.

    Only a bucket that a run has read to its end is checked: of any other, the next run reads the rest.
    """
    date, index = config.spec.groups.date_histogram.field, config.spec.rollup_index
    key = f"{date}.date_histogram"
    position, begin = record.claim.position, record.edge_ms
    if position is None or begin is None or position[key] != begin:
        return None
    end = Bounds.of(config.spec.groups.date_histogram).next_edge(begin)
    doing = f"counting the last bucket of {config.spec.index_pattern}"
    body = {"size": 0, "track_total_hits": True, "query": time_range(date, begin, end)}
    found = await search(cluster, config.spec.index_pattern, body, doing=doing, opaque_id=opaque_id, copies=copies)
    rows = found.at("hits", "total", "value").whole()
    query = target.documents(config)
    query["bool"]["filter"].append(
        {"range": {f"{key}.timestamp": {"gte": begin, "lte": begin, "format": "epoch_millis"}}}
    )
    try:
        answer = await cluster.call(
            "POST",
            f"/{name(index)}/_search",
            doing=f"adding up the last bucket in {index}",
            body={"size": 0, "query": query, "aggregations": {"rows": {"sum": {"field": f"{key}._count"}}}},
            opaque_id=opaque_id,
        )
    except Overloaded:
        raise
    except Answered:
        return None  # a problem of the index is reported when it is written to
    if answer.at("_shards", "failed").whole():
        return None
    return begin if rows > answer.at("aggregations", "rows", "value").number() else None
