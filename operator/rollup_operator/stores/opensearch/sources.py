"""What the sources of a pattern hold: their fields, how much of them is due, and what is wrong with them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.stores.base import JobConfig, Source, SourceField
from rollup_operator.stores.errors import SourceInvalid, SourceNotFound, StoreError
from rollup_operator.stores.opensearch import buckets
from rollup_operator.stores.opensearch.client import OPAQUE_ID, Cluster, name
from rollup_operator.stores.opensearch.errors import Missing, Overloaded, Refused, TargetBlocked
from rollup_operator.stores.opensearch.query import time_range
from rollup_operator.stores.source_rules import broken_rules, term_kind

_FIELD = "spec.indexPattern"
_LINE = 2000
"""Clusters refuse requests whose first line is longer than 4096 bytes."""
_PARAMETERS = {"allow_partial_search_results": "false", "request_cache": "false"}
"""An answer without some of the shards is none, and nothing is asked twice."""


async def check(cluster: Cluster, config: JobConfig, *, opaque_id: str) -> dict[str, SourceField]:
    """Return the fields that the job names. Raises SourceNotFound, SourceInvalid, and what `Cluster.call` raises."""
    spec = config.spec
    found: dict[str, SourceField] = {}
    for names in _in_lines(named_fields(spec)):
        found |= await _capabilities(cluster, spec.index_pattern, spec.rollup_index, names, opaque_id)
    messages = broken_rules(spec, found) or _mixed(spec, found)
    if messages:
        raise SourceInvalid(f"{_FIELD} {spec.index_pattern!r}: {' '.join(messages)}")
    return found


async def measure(cluster: Cluster, config: JobConfig, *, start_ms: int, bound_ms: int, opaque_id: str) -> Source:
    """Measure what lies in [start_ms, bound_ms).

    Two short requests. Only the number of documents is exact: the first may be later than `first_ms`, the last
    earlier than `last_ms`, as finding them would mean to read the whole range.

    Raises SourceNotFound, SourceInvalid, and what `Cluster.call` raises.
    """
    pattern, date = config.spec.index_pattern, config.spec.groups.date_histogram.field
    counted = await search(cluster, pattern, {
        "size": 0, "track_total_hits": True, "query": time_range(date, start_ms, bound_ms)
    }, doing=f"counting {pattern}", opaque_id=opaque_id)  # fmt: skip
    shards, rows = counted["_shards"]["total"], counted["hits"]["total"]["value"]
    if not rows:
        return Source(shards, 0)
    # Without a query a cluster knows the ends without looking at documents.
    answer = await search(cluster, pattern, {
        "size": 0, "track_total_hits": False,
        "aggregations": {"first": {"min": {"field": date}}, "last": {"max": {"field": date}}}
    }, doing=f"finding the ends of {pattern}", opaque_id=opaque_id)  # fmt: skip
    first, last = (answer["aggregations"][end]["value"] for end in ("first", "last"))
    if first is None or first >= bound_ms or last < start_ms:
        return Source(shards, 0)  # what was counted has been deleted since
    return Source(shards, rows, max(0, start_ms, int(first)), min(bound_ms - 1, int(last)))


async def fields(cluster: Cluster, pattern: str, rollup_index: str) -> dict[str, SourceField]:
    """Return all fields of what the pattern matches. Raises as `describe` does."""
    return await _capabilities(cluster, pattern, rollup_index, "*", OPAQUE_ID)


async def search(
    cluster: Cluster, pattern: str, body: Mapping[str, Any], *, doing: str, opaque_id: str
) -> Mapping[str, Any]:
    """Search the sources; the answer covers all shards, and its buckets are Buckets.

    Raises SourceNotFound, SourceInvalid, Overloaded, and what else `Cluster.call` raises.
    """
    try:
        answer = await cluster.call(
            "POST",
            f"/{name(pattern)}/_search",
            doing=doing,
            params=_PARAMETERS,
            body=body,
            opaque_id=opaque_id,
            parse=buckets.parse,
        )
    except StoreError as e:
        raise source_error(pattern, e) from e
    shards = answer["_shards"]
    if answer["timed_out"] or shards["failed"]:
        text = f"{doing}: the answer lacks {shards['failed']} of {shards['total']} shards, or the time was up"
        raise Overloaded(text, status=200, kind="partial")
    found: Mapping[str, Any] = answer
    return found


def named_fields(spec: RollupJobSpec) -> list[str]:
    """Return the fields that a job names, each once."""
    groups = spec.groups
    return sorted({
        groups.date_histogram.field,
        *(groups.histogram.fields if groups.histogram else ()),
        *(groups.terms.fields if groups.terms else ()),
        *(m.field for m in spec.metrics),
    })  # fmt: skip


def _mixed(spec: RollupJobSpec, found: Mapping[str, SourceField]) -> list[str]:
    """Return what Elasticsearch's rules allow although its searches fail: text and numbers as one group."""
    return [
        f"The field referenced by a terms group must be of one kind across all indices in the index pattern: text, "
        f"whole numbers or other numbers.  Found: [{', '.join(sorted(found[field].types))}] for field [{field}]"
        for field in (spec.groups.terms.fields if spec.groups.terms else ())
        if term_kind(found[field]) is None
    ]


def _in_lines(names: Sequence[str]) -> Iterator[str]:
    """Yield the names, separated by commas, in parts that fit into the first line of a request."""
    line: list[str] = []
    for field in names:
        if line and len(quote(",".join([*line, field]))) > _LINE:
            yield ",".join(line)
            line = []
        line.append(field)
    yield ",".join(line)


def source_error(pattern: str, error: StoreError) -> StoreError:
    """Return what an error of a request to the sources says of them, or the error itself."""
    match error:
        case Missing():
            return SourceNotFound(f"{_FIELD} {pattern!r}: {error}: create it, and the job goes on by itself")
        case TargetBlocked():
            return SourceNotFound(f"{_FIELD} {pattern!r}: {error}: open it, and the job goes on by itself")
        case Refused():
            return SourceInvalid(f"{_FIELD} {pattern!r}: {error}")
    return error


async def _capabilities(
    cluster: Cluster, pattern: str, rollup_index: str, names: str, opaque_id: str
) -> dict[str, SourceField]:
    path, doing = f"/{name(pattern)}/_field_caps", f"looking at the fields of {pattern}"
    try:
        answer = await cluster.call("GET", path, doing=doing, params={"fields": names}, opaque_id=opaque_id)
    except StoreError as e:
        raise source_error(pattern, e) from e
    if not answer["indices"]:
        raise SourceNotFound(f"{_FIELD} {pattern!r} matches no index: create one, and the job goes on by itself")
    if rollup_index in answer["indices"]:
        raise SourceInvalid(f"{_FIELD} {pattern!r} leads to spec.rollupIndex itself, {rollup_index!r}: leave it out")
    return {field: _field(types) for field, types in answer["fields"].items() if not _is_meta(types)}


def _field(types: Mapping[str, Mapping[str, Any]]) -> SourceField:
    return SourceField(frozenset(types), aggregatable=all(of["aggregatable"] for of in types.values()))


def _is_meta(types: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a field is the cluster's own, such as `_id`, whose type is its name or that of something internal."""
    return any(of.get("metadata_field") or kind.startswith("_") for kind, of in types.items())
