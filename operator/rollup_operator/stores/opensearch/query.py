"""What to ask a cluster for, and where an answer's buckets hold what was asked for. Pure.

One composite aggregation, time first, over one range of the date field and nothing else: so Lucene can walk the field's
own order and stop when the page is full. Groups and metrics go by short names there, which makes answers a third
shorter; a position has Elasticsearch's names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollup_operator.indexer.documents import Layout, layout_of
from rollup_operator.model.job import RollupJobSpec
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
"""The aggregation that gives one part only."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a bucket holds a number: `bucket[aggregation][key]`."""

    aggregation: str
    key: str


@dataclass(frozen=True)
class Query:
    """The searches of one job."""

    layout: Layout
    sources: Sequence[Mapping[str, Any]]
    aggregations: Mapping[str, Any]
    places: Mapping[tuple[str, str], Place]
    """By field and part: min, max, sum or count."""

    @classmethod
    def of(cls, job_id: str, spec: RollupJobSpec) -> "Query":
        """Plan the searches of a job: as few aggregations as give all that it keeps."""
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
        return cls(layout, _sources(spec), aggregations, places)

    @property
    def groups(self) -> Sequence[str]:
        """Names of the groups in a bucket's key, time first."""
        return [_group(i) for i in range(len(self.sources))]

    def search(self, begin: int, end: int, after: Mapping[str, Any] | None, size: int) -> dict[str, Any]:
        """Return the body of a search for the first `size` buckets after `after` of the time in [begin, end).

        `begin` is an edge, or before the first bucket; `after` is a bucket's key as an answer gives it.
        """
        composite: dict[str, Any] = {"size": size, "sources": self.sources}
        if after is not None:
            composite["after"] = after
        return {
            "size": 0,
            "track_total_hits": False,
            "query": time_range(self.layout.date_field, begin, end),
            "aggregations": {ROLLUP: {"composite": composite, "aggregations": self.aggregations}},
        }

    def position(self, key: Mapping[str, Any]) -> Position:
        """Return a bucket's key as a position."""
        return {name: key[group] for group, name in zip(self.groups, self.layout.group_keys(), strict=True)}

    def key(self, position: Position) -> dict[str, Any]:
        """Return a position as a bucket's key. Raises KeyError where it is of other groups."""
        return {group: position[name] for group, name in zip(self.groups, self.layout.group_keys(), strict=True)}


def time_of(key: Mapping[str, Any]) -> int:
    """Return where the bucket with this key begins."""
    time: int = key[_group(0)]
    return time


def time_range(field: str, begin: int, end: int) -> dict[str, Any]:
    """Return the query for the documents of [begin, end); nothing from before 1970 is ever seen."""
    return {"range": {field: {"gte": max(0, begin), "lt": end, "format": "epoch_millis"}}}


def _sources(spec: RollupJobSpec) -> list[dict[str, Any]]:
    date, histogram, terms = spec.groups.date_histogram, spec.groups.histogram, spec.groups.terms
    time: dict[str, Any] = {"field": date.field, "time_zone": date.time_zone}
    if date.fixed_interval is not None:
        time["fixed_interval"] = date.fixed_interval
    else:
        time["calendar_interval"] = date.calendar_interval
    sources: list[dict[str, Any]] = [{"date_histogram": time}]
    if histogram is not None:
        width = {"interval": histogram.interval, "missing_bucket": True}
        sources += [{"histogram": {"field": field, **width}} for field in histogram.fields]
    if terms is not None:
        sources += [{"terms": {"field": field, "missing_bucket": True}} for field in terms.fields]
    return [{_group(i): source} for i, source in enumerate(sources)]


def _group(i: int) -> str:
    return str(i)
