"""Builds the searches of a job, and finds its groups and metrics in the buckets of an answer. Pure.

A search is one composite aggregation, time first, over one range of the date field and nothing else, so Lucene can
follow the field's order and stop when the page is full. `rollup/bounds` decides where buckets begin: a cluster only
rounds by a fixed offset from UTC, because it may know other clock changes than we, and gets some of them wrong.
Groups and metrics have short names in a search, which makes answers a third shorter; a position has Elasticsearch's
names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.bounds import Steady
from rollup_operator.rollup.documents import Layout, layout_of
from rollup_operator.rollup.source_rules import SourceField, term_kind
from rollup_operator.stores.base import Position

ROLLUP = "rollup"
"""Name of the aggregation in the answer."""

_PARTS = {
    "min": ("min",),
    "max": ("max",),
    "sum": ("sum",),
    "avg": ("sum", "count"),
    "value_count": ("count",),
}
_ALONE = {"min": "min", "max": "max", "sum": "sum", "count": "value_count"}
"""The aggregation for a single part."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a bucket has a number: `bucket[aggregation][key]`."""

    aggregation: str
    key: str


@dataclass(frozen=True)
class Query:
    """The searches of one job."""

    layout: Layout
    interval: Mapping[str, str]
    """Of the date histogram, `{"fixed_interval": "90m"}`."""
    others: Sequence[Mapping[str, Any]]
    """The sources of the composite aggregation but for time."""
    aggregations: Mapping[str, Any]
    places: Mapping[tuple[str, str], Place]
    """By field and part: min, max, sum or count."""

    @classmethod
    def of(
        cls, job_id: str, spec: RollupJobSpec, fields: Mapping[str, SourceField], several: frozenset[str] = frozenset()
    ) -> "Query":
        """Plan the searches of a job over sources with these fields, with as few aggregations as possible.

        `several`: fields of which a document may have several values.
        """
        layout = layout_of(job_id, spec)
        aggregations: dict[str, Any] = {}
        places: dict[tuple[str, str], Place] = {}
        for field, metrics in layout.metrics:
            parts = sorted({part for metric in metrics for part in _PARTS[metric]})
            name = f"m{len(aggregations)}"
            # One pass for all four numbers costs less than two passes for two of them.
            alone = _ALONE[parts[0]] if len(parts) == 1 else None
            aggregations[name] = {alone or "stats": {"field": field}}
            for part in parts:
                places[field, part] = Place(name, "value" if alone else part)
        date = spec.groups.date_histogram
        kind = "fixed_interval" if date.fixed_interval is not None else "calendar_interval"
        return cls(layout, {kind: layout.interval}, _others(spec, fields, several), aggregations, places)

    @property
    def groups(self) -> Sequence[str]:
        """Names of the groups in a bucket's key, time first."""
        return [_group(i) for i in range(1 + len(self.others))]

    def search(
        self, begin: int, steady: Steady, end: int, after: Mapping[str, Any] | None, size: int
    ) -> dict[str, Any]:
        """Return the body of a search for the first `size` buckets after `after` of the time in [begin, end).

        All of that time but for what is from before 1970 lies in `steady`. `end` is an edge; `after` is a bucket's key
        as an answer gives it.
        """
        sources = zip(self.groups, [self._time(steady), *self.others], strict=True)
        composite: dict[str, Any] = {"size": size, "sources": [{group: source} for group, source in sources]}
        if after is not None:
            composite["after"] = after
        return {
            "size": 0,
            "track_total_hits": False,
            "query": time_range(self.layout.date_field, begin, end),
            "aggregations": {ROLLUP: {"composite": composite, "aggregations": self.aggregations}},
        }

    def _time(self, steady: Steady) -> dict[str, Any]:
        field = self.layout.date_field
        if steady.offset is not None:
            return {"date_histogram": {"field": field, **self.interval, "time_zone": zone(steady.offset)}}
        length = steady.end - steady.begin
        offset = f"{steady.begin % length}ms"
        return {"date_histogram": {"field": field, "fixed_interval": f"{length}ms", "offset": offset}}

    def position(self, key: Mapping[str, Any]) -> Position:
        """Return a bucket's key as a position."""
        return {name: key[group] for group, name in zip(self.groups, self.layout.group_keys(), strict=True)}

    def key(self, position: Position) -> dict[str, Any]:
        """Return a position as a bucket's key. Raises KeyError if it has other groups."""
        return {group: position[name] for group, name in zip(self.groups, self.layout.group_keys(), strict=True)}


def time_of(key: Mapping[str, Any]) -> int:
    """Return where the bucket with this key begins. Raises KeyError, TypeError if the key is not one of ours."""
    time = key[_group(0)]
    if type(time) is not int:
        raise TypeError("a bucket begins at a time that is no whole number")
    return time


def time_range(field: str, begin: int, end: int) -> dict[str, Any]:
    """Return the query for the documents of [begin, end); nothing from before 1970 is ever seen."""
    return {"range": {field: {"gte": max(0, begin), "lt": end, "format": "epoch_millis"}}}


def _others(spec: RollupJobSpec, fields: Mapping[str, SourceField], several: frozenset[str]) -> list[dict[str, Any]]:
    histogram, terms = spec.groups.histogram, spec.groups.terms
    sources: list[dict[str, Any]] = []
    for field in histogram.fields if histogram is not None else ():
        assert histogram is not None
        of = _once(field, histogram.interval) if field in several else {"field": field}
        sources.append({"histogram": {**of, "interval": histogram.interval, "missing_bucket": True}})
    for field in terms.fields if terms is not None else ():
        # An index that lacks the field takes it for text otherwise, and refuses a number to go on after.
        number = {"value_type": kind} if (kind := term_kind(fields.get(field))) in ("long", "double") else {}
        of = _once(field) if number and field in several else {"field": field}
        sources.append({"terms": {**of, "missing_bucket": True, **number}})
    return sources


def _once(field: str, width: int | None = None) -> dict[str, Any]:
    """Return a source that gives each bucket of a document once.

    A composite aggregation counts a document for each of its numbers, also for two that are the same or go into one
    bucket: [5, 5] twice under 5.
    """
    value = "Math.floor((double) v / params.width) * params.width" if width is not None else "v"
    source = (
        "def once = new TreeSet(); if (doc.containsKey(params.field)) "
        f"{{ for (def v : doc[params.field]) {{ once.add({value}); }} }} return once.isEmpty() ? null : once;"
    )
    params = {"field": field} if width is None else {"field": field, "width": width}
    return {"script": {"lang": "painless", "source": source, "params": params}}


def zone(offset: int) -> str:
    """Return an offset from UTC, in milliseconds, as a zone."""
    hours, rest = divmod(abs(offset) // 1000, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{'-' if offset < 0 else '+'}{hours:02}:{minutes:02}" + (f":{seconds:02}" if seconds else "")


def _group(i: int) -> str:
    return str(i)
