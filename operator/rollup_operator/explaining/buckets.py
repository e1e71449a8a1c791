"""Rolled-up documents in the words of a query: the time, the fields of the groups, `avg:delay`. Pure.

A document holds parts to calculate with: `delay.avg.value` is a sum, and the average is that divided by
`delay.avg._count`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollup_operator.explaining.text import number_shown
from rollup_operator.model.times import rfc3339_ms


@dataclass(frozen=True, slots=True)
class PlainBucket:
    """What is known of one bucket."""

    time: str
    """When it begins."""
    by: Mapping[str, Any]
    """The fields of the groups, with their values; None: the rows have none. `size.histogram` and `size.terms` if one
    field is grouped both ways."""
    count: int
    """Its rows."""
    metrics: Mapping[str, float | None]
    """As a query names them: `avg:delay` is the average; None: no row has a number."""

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {"time": self.time, "by": dict(self.by), "count": self.count, "metrics": dict(self.metrics)}


def buckets_of(spec: Mapping[str, Any], documents: Iterable[Mapping[str, Any]]) -> list[PlainBucket]:
    """Read documents of a job with this spec, which is valid."""
    groups = spec["groups"]
    date = f"{groups['dateHistogram']['field']}.date_histogram"
    fields = {kind: (groups.get(kind) or {}).get("fields", ()) for kind in ("histogram", "terms")}
    twice = {name for name in fields["histogram"] if name in fields["terms"]}
    told_apart = twice | {f"{name}.{kind}" for name in twice for kind in fields}
    by = {
        f"{name}.{kind}" if name in told_apart else name: f"{name}.{kind}.value"
        for kind in fields
        for name in fields[kind]
    }
    metrics = [(each["field"], metric) for each in spec.get("metrics") or () for metric in each["metrics"]]
    return [
        PlainBucket(
            _time(document[f"{date}.timestamp"]),
            {name: document.get(key) for name, key in by.items()},
            document[f"{date}._count"],
            {f"{metric}:{field}": _number(document, field, metric) for field, metric in metrics},
        )
        for document in documents
    ]


def table(buckets: Sequence[PlainBucket]) -> tuple[list[str], list[list[str]]]:
    """Return buckets, at least one, as the columns of a table and its rows."""
    first = buckets[0]
    rows = [
        [bucket.time, *map(number_shown, (*bucket.by.values(), bucket.count, *bucket.metrics.values()))]
        for bucket in buckets
    ]
    return ["TIME", *first.by, "count", *first.metrics], rows


def _number(document: Mapping[str, Any], field: str, metric: str) -> float | None:
    value: float | None = document.get(f"{field}.{metric}.value")
    if metric != "avg" or value is None:
        return value
    count: float = document[f"{field}.avg._count"]
    return value / count


def _time(timestamp: int | str) -> str:
    return timestamp if isinstance(timestamp, str) else rfc3339_ms(timestamp)
