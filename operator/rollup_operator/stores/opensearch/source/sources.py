"""Inspects the sources of a pattern: their fields, how much is due, and their problems."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from rollup_operator.concurrency.portions import unhurried
from rollup_operator.model import hints
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.rollup.source_rules import SourceField, broken_rules, check_rules, term_kind
from rollup_operator.sharing.shares import Held
from rollup_operator.stores.base import Position, Source
from rollup_operator.stores.errors import SourceInvalid, SourceNotFound, StoreError
from rollup_operator.stores.opensearch.query import time_range
from rollup_operator.stores.opensearch.records import ALIAS
from rollup_operator.stores.opensearch.replication import ANY, Copies
from rollup_operator.stores.opensearch.source import buckets
from rollup_operator.stores.opensearch.transport.answers import LISTING, PAGE, SMALL, Value, whole
from rollup_operator.stores.opensearch.transport.client import OPAQUE_ID, Cluster, name
from rollup_operator.stores.opensearch.transport.errors import DiskFull, IndexBlocked, NotThere, Overloaded, Refused

_FIELD = "spec.indexPattern"
_LINE = 2000
"""Clusters refuse requests whose first line is longer than 4096 bytes."""
_CAPABILITIES = "indices,fields.*.*.aggregatable,fields.*.*.searchable,fields.*.*.metadata_field"
_WHERE = "fields.*.*.indices,fields.*.*.non_aggregatable_indices"
_WIDE = frozenset({"long", "unsigned_long"})
EXACT = 2**53
"""Whole numbers beyond this are rounded when they are stored as doubles."""
_NAMED = 3
"""The number of indices of one kind that a message names."""
_DATES = re.compile(r"\{[^{}]*(?:\{[^{}]*\})?\}")
"""What date math computes in a name: `{now/d}`, `{now/d{yyyy.MM}}`."""
_PARAMETERS = {"allow_partial_search_results": "false", "request_cache": "false"}
"""An answer that lacks shards is an error, and no request is made twice."""

_KINDS: Mapping[type, str] = {int: "long", float: "double", str: "keyword"}
"""The kind of a field, by the value of a term."""


async def check(cluster: Cluster, config: JobConfig, *, opaque_id: str) -> dict[str, SourceField]:
    """Return the fields that the job names. Raises SourceNotFound, SourceInvalid, and what `Cluster.call` raises."""
    spec = config.spec
    refuse_csv(spec)
    found: dict[str, SourceField] = {}
    wanted = {above for field in named_fields(spec) for above in _with_objects(field)}
    for names in _in_lines(sorted(wanted)):
        found |= await _capabilities(cluster, spec.index_pattern, spec.rollup_index, names, opaque_id)
    found = {field: of for field, of in found.items() if field in wanted}  # an asterisk in a name matches others, too
    if any(field not in found for field in named_fields(spec)):
        raise await _missing(cluster, spec, found, opaque_id)
    if messages := broken_rules(spec, found) or _mixed(spec, found):
        messages += [message async for message in _where(cluster, spec, opaque_id)]
        raise SourceInvalid(f"{_FIELD} {spec.index_pattern!r}: {' '.join(messages)}")
    return found


def refuse_csv(spec: RollupJobSpec) -> None:
    """Raise SourceInvalid if the job says how CSV files are read."""
    if spec.csv is not None:
        raise SourceInvalid(
            f"spec.csv says how CSV files are read, and the job's RollupStore {spec.store_ref.name!r} is a cluster, "
            "whose sources are indices: remove spec.csv, or create the job again with a store of the kind duckdb in "
            "spec.storeRef"
        )


def must_go_on(spec: RollupJobSpec, position: Position | None, found: Mapping[str, SourceField]) -> None:
    """Raise SourceInvalid if a term has another kind now than the documents up to the position."""
    for field in spec.groups.terms.fields if position is not None and spec.groups.terms else ():
        assert position is not None
        was, now = _KINDS.get(type(position.get(f"{field}.terms"))), term_kind(found.get(field))
        if None not in (was, now) and was != now:
            types = ", ".join(sorted(found[field].types))
            raise SourceInvalid(
                f"{_FIELD} {spec.index_pattern!r}: field [{field}] was of the kind {was} in all that is written so far "
                f"and is {now} now (mapped as [{types}]), and rollup index {spec.rollup_index!r} can keep one kind "
                "only: map the field as before and index those documents again, or go on with a new job whose "
                "spec.rollupIndex is another and whose spec.start is where this one ends"
            )


async def measure(
    cluster: Cluster,
    config: JobConfig,
    *,
    start_ms: int,
    bound_ms: int,
    opaque_id: str,
    fields: Mapping[str, SourceField] = MappingProxyType({}),
    copies: Copies = ANY,
) -> Source:
    """Measure the documents in [start_ms, bound_ms), and find the job's fields with several values in a document.

    Two short requests. Only the number of documents is exact: the first may be later than `first_ms`, the last
    earlier than `last_ms`, because finding them would mean reading the whole range.

    Raises SourceNotFound, SourceInvalid, and what `Cluster.call` raises.
    """
    pattern, date = config.spec.index_pattern, config.spec.groups.date_histogram.field
    suspects = [date, *countable(config.spec, fields)]
    # A document without a value counts as one with one, so that the sum is the number of documents, or more. All that
    # are counted have a time.
    values = {
        f"s{i}": {"value_count": {"field": field, **({"missing": 0} if i else {})}} for i, field in enumerate(suspects)
    }
    counted = await search(cluster, pattern, {
        "size": 0, "track_total_hits": True, "query": time_range(date, start_ms, bound_ms), "aggregations": values
    }, doing=f"counting {pattern}", opaque_id=opaque_id, copies=copies)  # fmt: skip
    shards, rows = counted.at("_shards", "total").whole(), counted.at("hits", "total", "value").whole()
    several = frozenset(
        field
        for i, field in enumerate(suspects)
        if rows and counted.at("aggregations", f"s{i}", "value").number() > rows
    )
    if not rows:
        if date in fields and not fields[date].searchable:
            await _must_find(cluster, pattern, date, opaque_id, copies)
        return Source(shards, 0)
    # Without a query a cluster knows the ends without reading documents.
    answer = await search(cluster, pattern, {
        "size": 0, "track_total_hits": False,
        "aggregations": {"first": {"min": {"field": date}}, "last": {"max": {"field": date}}}
    }, doing=f"finding the ends of {pattern}", opaque_id=opaque_id, copies=copies)  # fmt: skip
    ends = [answer.at("aggregations", end, "value") for end in ("first", "last")]
    if not all(end.given for end in ends):
        return Source(shards, 0)
    first, last = (end.number() for end in ends)
    if first >= bound_ms or last < start_ms:
        return Source(shards, 0)  # what was counted has been deleted since
    return Source(shards, rows, int(max(0, start_ms, first)), int(min(bound_ms - 1, last)), several=several)


async def _must_find(cluster: Cluster, pattern: str, date: str, opaque_id: str, copies: Copies) -> None:
    """Raise SourceInvalid if the cluster cannot search by a date that is not indexed; newer ones can."""
    doing = f"finding the ends of {pattern}"
    body: dict[str, Any] = {"size": 0, "aggregations": {"last": {"max": {"field": date}}}}
    answer = await search(cluster, pattern, body, doing=doing, opaque_id=opaque_id, copies=copies)
    last = answer.find("aggregations", "last", "value")
    if not last.given or (at := int(last.number())) < 0:
        return
    body = {"size": 0, "track_total_hits": True, "query": time_range(date, at, at + 1)}
    answer = await search(cluster, pattern, body, doing=doing, opaque_id=opaque_id, copies=copies)
    if not answer.at("hits", "total", "value").whole():
        raise SourceInvalid(
            f"{_FIELD} {pattern!r}: the field [{date}] has index: false in its mapping, and this cluster finds nothing "
            "by such a field: index it"
        )


def countable(spec: RollupJobSpec, fields: Mapping[str, SourceField]) -> list[str]:
    """Return the groups other than time that count a document once per value: those of numbers."""
    groups = spec.groups
    terms = [f for f in (groups.terms.fields if groups.terms else ()) if term_kind(fields.get(f)) in ("long", "double")]
    return [*(groups.histogram.fields if groups.histogram else ()), *terms]


async def too_large(
    cluster: Cluster, config: JobConfig, span: Span, fields: Mapping[str, SourceField], copies: Copies = ANY
) -> list[str]:
    """Return the metrics' fields of whole numbers that hold values that a double cannot represent exactly."""
    spec = config.spec
    wide = sorted({m.field for m in spec.metrics if m.field in fields and fields[m.field].types & _WIDE})
    if not wide:
        return []
    parts = {f"{of}{i}": {of: {"field": field}} for i, field in enumerate(wide) for of in ("min", "max")}
    date = spec.groups.date_histogram.field
    body = {
        "size": 0, "track_total_hits": False, "query": time_range(date, span.start_ms, span.end_ms),
        "aggregations": parts,
    }  # fmt: skip
    pattern = spec.index_pattern
    doing = f"finding the ends of {pattern}"
    answer = await search(cluster, pattern, body, doing=doing, opaque_id=OPAQUE_ID, copies=copies)
    ends = [[answer.find("aggregations", f"{of}{i}", "value") for of in ("min", "max")] for i in range(len(wide))]
    return [
        field
        for field, of in zip(wide, ends, strict=True)
        if any(end.given and abs(end.number()) >= EXACT for end in of)
    ]


async def fields(
    cluster: Cluster, pattern: str, rollup_index: str, *, opaque_id: str = OPAQUE_ID
) -> dict[str, SourceField]:
    """Return all fields of the sources. Raises what `describe` raises."""
    return await _capabilities(cluster, pattern, rollup_index, "*", opaque_id)


async def search(
    cluster: Cluster,
    pattern: str,
    body: Mapping[str, Any],
    *,
    doing: str,
    opaque_id: str,
    page: Held | None = None,
    copies: Copies = ANY,
) -> Value:
    """Search the sources; the answer covers all shards. With `page`, which holds room for it, it has PageBuckets.

    Raises SourceNotFound, SourceInvalid, Overloaded, and what else `Cluster.call` raises.
    """
    try:
        answer = await cluster.call(
            "POST",
            f"/{indices(pattern)}/_search",
            doing=doing,
            params={**_PARAMETERS, **copies.parameters},
            body=body,
            opaque_id=opaque_id,
            longest=PAGE if page is not None else SMALL,
            parse=buckets.parse if page is not None else whole,
            page=page,
        )
    except StoreError as e:
        raise source_error(pattern, e) from e
    failed, total = (answer.at("_shards", part).whole() for part in ("failed", "total"))
    if answer.at("timed_out").flag() or failed:
        text = f"{doing}: the answer lacks {failed} of {total} shards, or the time was up"
        raise Overloaded(text, status=200, kind="partial")
    return answer


def named_fields(spec: RollupJobSpec) -> list[str]:
    """Return the fields that a job names, each once."""
    groups = spec.groups
    return sorted({
        groups.date_histogram.field,
        *(groups.histogram.fields if groups.histogram else ()),
        *(groups.terms.fields if groups.terms else ()),
        *(m.field for m in spec.metrics),
    })  # fmt: skip


async def _missing(
    cluster: Cluster, spec: RollupJobSpec, found: Mapping[str, SourceField], opaque_id: str
) -> SourceInvalid:
    """Return the error for fields of which some are in no index, with those that there are."""
    there: Mapping[str, SourceField] = {}
    with contextlib.suppress(StoreError):  # the problem was found, and is reported without it
        there = await _capabilities(cluster, spec.index_pattern, spec.rollup_index, "*", opaque_id)
    rules = await asyncio.to_thread(check_rules, spec, {**there, **found})
    return SourceInvalid(f"{_FIELD} {spec.index_pattern!r}: {'; '.join(rule.manifest for rule in rules)}")


def _mixed(spec: RollupJobSpec, found: Mapping[str, SourceField]) -> list[str]:
    """Return what Elasticsearch's rules allow although its searches fail: text and numbers as one group."""
    return [
        f"The field referenced by a terms group must be of one kind across all indices in the index pattern: text, "
        f"whole numbers or other numbers.  Found: [{', '.join(sorted(found[field].types))}] for field [{field}]"
        for field in (spec.groups.terms.fields if spec.groups.terms else ())
        if term_kind(found[field]) is None
    ]


def _with_objects(field: str) -> Iterator[str]:
    """Yield a field and its enclosing objects: one of them may be nested."""
    parts = field.split(".")
    for i in range(1, len(parts) + 1):
        yield ".".join(parts[:i])


def _in_lines(names: Sequence[str]) -> Iterator[str]:
    """Yield the names, separated by commas, in parts that fit into the first line of a request.

    A comma in a name looks like one between two names: an asterisk stands for it.
    """
    line: list[str] = []
    for field in (each.replace(",", "*") for each in names):
        if line and len(quote(",".join([*line, field]))) > _LINE:
            yield ",".join(line)
            line = []
        line.append(field)
    yield ",".join(line)


def source_error(pattern: str, error: StoreError) -> StoreError:
    """Return the error of the sources behind an error of a request, or the error itself."""
    match error:
        case NotThere():
            return SourceNotFound(f"{_FIELD} {pattern!r}: {error}: create it, and the job goes on by itself")
        case IndexBlocked(kind="index_closed_exception"):
            return SourceNotFound(f"{_FIELD} {pattern!r}: {error}: open it, and the job goes on by itself")
        case IndexBlocked() | DiskFull():
            return SourceNotFound(
                f"{_FIELD} {pattern!r}: reading is blocked, {error}: take the block from the source "
                "(index.blocks.* in its settings), and the job goes on by itself"
            )
        case Refused():
            return SourceInvalid(f"{_FIELD} {pattern!r}: {error}")
    return error


async def _capabilities(
    cluster: Cluster, pattern: str, rollup_index: str, names: str, opaque_id: str
) -> dict[str, SourceField]:
    if pattern.startswith("-"):
        # No name begins like this. Some versions treat it as a name, others skip it and read what it excludes.
        raise SourceInvalid(
            f"{_FIELD} {pattern!r} begins with an exclusion, which leaves nothing out there. Put what is left out "
            "behind what it is left out of, as in logs-*,-logs-debug, in a new job"
        )
    path, doing = f"/{indices(pattern)}/_field_caps", f"reading the fields of {pattern}"
    try:
        answer = await cluster.call(
            "GET",
            path,
            doing=doing,
            params={"fields": names, "filter_path": _CAPABILITIES},
            opaque_id=opaque_id,
            longest=LISTING,
        )
    except NotThere as e:
        raise await _not_found(cluster, pattern, f"{_FIELD} {pattern!r}: {e}", opaque_id) from e
    except StoreError as e:
        raise source_error(pattern, e) from e
    matched = [index.text() async for index in unhurried(answer.find("indices").items())]
    if not matched:
        # What is blocked is left out there, and a search says why.
        await search(cluster, pattern, {"size": 0}, doing=doing, opaque_id=opaque_id)
        raise await _not_found(cluster, pattern, f"{_FIELD} {pattern!r} matches no index", opaque_id)
    if rollup_index in matched:
        raise SourceInvalid(f"{_FIELD} {pattern!r} leads to spec.rollupIndex itself, {rollup_index!r}: leave it out")
    members = ((field, dict(types.members())) for field, types in answer.find("fields").members())
    return {field: _field(types) async for field, types in unhurried(members) if not _is_meta(types)}


async def _not_found(cluster: Cluster, pattern: str, problem: str, opaque_id: str) -> SourceNotFound:
    """Return the error for a pattern that matches nothing, with the names that it may mean."""
    there: list[str] = []
    with contextlib.suppress(StoreError):  # the login may not list names, or the cluster is too old to
        answer = await cluster.call(
            "GET",
            "/_resolve/index/*",
            doing="listing indices",
            params={"filter_path": "indices.name,aliases.name,data_streams.name"},
            opaque_id=opaque_id,
            longest=LISTING,
        )
        kinds = (answer.find(kind).items() for kind in ("indices", "aliases", "data_streams"))
        names = (each.at("name").text() for of in kinds for each in of)
        there = [name async for name in unhurried(names) if not name.startswith((".", ALIAS))]
    hint = await asyncio.to_thread(lambda: hints.instead(pattern, hints.series(there)))
    return SourceNotFound(hints.nothing_matches(problem, hint))


def indices(pattern: str) -> str:
    """Return a pattern as one part of a path.

    Raises SourceInvalid if it names files, or indices that are not there at each run: those that date math leads to,
    and those of another cluster.
    """
    if found := next((part for part in _parts(pattern) if "<" in part), None):
        instead = "logs-*" if found.startswith("-") else _DATES.sub("*", found[found.index("<") :].strip("<>"))
        raise SourceInvalid(
            f"{_FIELD} {pattern!r}: {found!r} is date math, and leads to another index later: rows of the one before "
            f"that are not rolled up by then would be missing. Use a *, as in {instead!r}: a run reads only the time "
            "that is due, and spec.groups.dateHistogram.delay holds back what is too new"
        )
    path = searched(pattern)
    if found := next((part for part in pattern.split(",") if ":" in part.replace("::", "")), None):
        # A cluster may skip another that it cannot reach or does not know, and refreshes its own indices only.
        raise SourceInvalid(
            f"{_FIELD} {pattern!r}: {found!r} names indices of another cluster, whose rows may be missing without "
            "notice: create a RollupStore for that cluster, and a job whose spec.storeRef names it"
        )
    return path


def searched(pattern: str) -> str:
    """Return a pattern as one part of a path, as searches take it: a cluster finds the same indices by it.

    Jobs of earlier versions may name other clusters, or have date math. Raises SourceInvalid if it names files.
    """
    if any("/" in part or part in (".", "..") for part in pattern.split(",")):  # a server on the way could see parts
        raise SourceInvalid(f"{_FIELD} {pattern!r} names files, of which a cluster has none: name indices")
    return name(pattern)


def _parts(pattern: str) -> list[str]:
    """Part a pattern at its commas, those within braces left out."""
    return re.findall(r"(?:\{[^{}]*(?:\{[^{}]*\})?\}|[^,])+", pattern)


def _field(types: Mapping[str, Value]) -> SourceField:
    return SourceField(
        frozenset(types),
        searchable=all(of.find("searchable").value is not False for of in types.values()),
        aggregatable=all(of.at("aggregatable").flag() for of in types.values()),
    )


async def _where(cluster: Cluster, spec: RollupJobSpec, opaque_id: str) -> AsyncIterator[str]:
    """Yield the types of a field by index, for each field of the job whose type is not the same everywhere."""
    for names in _in_lines(named_fields(spec)):
        try:
            answer = await cluster.call(
                "GET",
                f"/{indices(spec.index_pattern)}/_field_caps",
                doing=f"comparing the fields of {spec.index_pattern}",
                params={"fields": names, "filter_path": _WHERE},
                opaque_id=opaque_id,
                longest=LISTING,
            )
        except StoreError:
            return  # the problem was found, and is reported without it
        for field, types in answer.find("fields").members():
            if field in named_fields(spec) and (parts := _differing(types)):
                yield f"Field [{field}] is {parts}."


def _differing(types: Value) -> str:
    parts = []
    for kind, of in types.members():
        if (named := of.find("indices")).given:
            parts.append(f"[{kind}] in {_listed(named)}")
        if (named := of.find("non_aggregatable_indices")).given:
            parts.append(f"[{kind}] without doc values in {_listed(named)}")
    return ", ".join(parts)


def _listed(named: Value) -> str:
    return some_of((index.text() for index in named.items()), len(named.entries()))


def some_of(names: Iterable[str], count: int) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(islice(names, _NAMED)) + (f" and {count - _NAMED} more" if count > _NAMED else "")


def _is_meta(types: Mapping[str, Value]) -> bool:
    """Whether a field is the cluster's own, such as `_id`, whose type is its name or that of something internal."""
    return any(of.find("metadata_field").value is True or kind.startswith("_") for kind, of in types.items())
