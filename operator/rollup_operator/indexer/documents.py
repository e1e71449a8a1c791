"""A rolled-up bucket as Elasticsearch writes it: the document and its id (scheme 2). Pure."""

import base64
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mmh3

from rollup_operator.model.job import RollupJobSpec

_NULL = b"__NULL_PLACEHOLDER__830f1de2__"
SEED = 19
_END = b"$"
VERSION = 2

KeyValue = str | int | float | None


@dataclass(frozen=True, slots=True)
class Layout:
    """What the documents of a job have in common: its groups and metrics as configured."""

    job_id: str
    date_field: str
    interval: str
    time_zone: str
    histogram_fields: tuple[str, ...]
    histogram_interval: int | None
    terms_fields: tuple[str, ...]
    metrics: tuple[tuple[str, tuple[str, ...]], ...]
    """Fields, each with its metrics."""

    def group_keys(self) -> list[str]:
        """Return the names of the groups, as in a position: time first."""
        return [
            f"{self.date_field}.date_histogram",
            *(f"{f}.histogram" for f in self.histogram_fields),
            *(f"{f}.terms" for f in self.terms_fields),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the layout as plain JSON."""
        return {
            "version": VERSION,
            "job_id": self.job_id,
            "date_histogram": {"field": self.date_field, "interval": self.interval, "time_zone": self.time_zone},
            "histogram": {"fields": list(self.histogram_fields), "interval": self.histogram_interval},
            "terms": {"fields": list(self.terms_fields)},
            "metrics": [{"field": f, "metrics": list(m)} for f, m in self.metrics],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Layout":
        """Read what `to_json` wrote. Raises ValueError when it is of another version or incomplete."""
        try:
            if data["version"] != VERSION:
                raise ValueError(f"documents of version {data['version']!r} cannot be read, only of version {VERSION}")
            date = data["date_histogram"]
            return cls(
                job_id=data["job_id"],
                date_field=date["field"],
                interval=date["interval"],
                time_zone=date["time_zone"],
                histogram_fields=tuple(data["histogram"]["fields"]),
                histogram_interval=data["histogram"]["interval"],
                terms_fields=tuple(data["terms"]["fields"]),
                metrics=tuple((m["field"], tuple(m["metrics"])) for m in data["metrics"]),
            )
        except (KeyError, TypeError) as e:
            raise ValueError(f"the description of the documents is incomplete: {e}") from e


def layout_of(job_id: str, spec: RollupJobSpec) -> Layout:
    """Return what the documents of a job have in common."""
    date, histogram, terms = spec.groups.date_histogram, spec.groups.histogram, spec.groups.terms
    return Layout(
        job_id=job_id,
        date_field=date.field,
        interval=date.fixed_interval or date.calendar_interval or "",
        time_zone=date.time_zone,
        histogram_fields=tuple(histogram.fields) if histogram else (),
        histogram_interval=histogram.interval if histogram else None,
        terms_fields=tuple(terms.fields) if terms else (),
        metrics=tuple((m.field, tuple(m.metrics)) for m in spec.metrics),
    )


def document_id(job_id: str, keys: Iterable[tuple[str, KeyValue]]) -> str:
    """Return the id of the bucket with these group keys. Integers and floats differ: 1 is not 1.0."""
    text = b"".join(key_bytes(value) + _END for _, value in sorted(keys, key=lambda k: k[0].encode()))
    h1, h2 = mmh3.hash64(text + job_id.encode() + _END, SEED, x64arch=True, signed=False)
    return f"{job_id}${base64.urlsafe_b64encode(struct.pack('>QQ', h1, h2)).rstrip(b'=').decode()}"


def document(
    layout: Layout, keys: Sequence[KeyValue], count: int, values: Mapping[str, float | int | None]
) -> tuple[str, dict[str, Any]]:
    """Return id and document of one bucket.

    `keys` are in the order of `layout.group_keys()`; `values` hold `<field>.<metric>.value` and `<field>.avg._count`. A
    metric without a number, or with one that is infinite, is left out.
    """
    names = layout.group_keys()
    out: dict[str, Any] = {}
    for i, (name, value) in enumerate(zip(names, keys, strict=True)):
        if i == 0:
            out[f"{name}.timestamp"] = value
            out[f"{name}.interval"] = layout.interval
            out[f"{name}.time_zone"] = layout.time_zone
        else:
            out[f"{name}.value"] = value
        if name.endswith(".histogram") and 0 < i <= len(layout.histogram_fields):
            out[f"{name}.interval"] = layout.histogram_interval
        out[f"{name}._count"] = count
    for field, metrics in layout.metrics:
        for metric in metrics:
            value = values.get(f"{field}.{metric}.value")
            if value is None or not math.isfinite(value):
                continue
            if metric == "avg":
                if not (of := values.get(f"{field}.avg._count")):
                    continue
                out[f"{field}.avg._count"] = float(of)
            out[f"{field}.{metric}.value"] = float(value)
    out["_rollup.id"] = layout.job_id
    out["_rollup.version"] = VERSION
    return document_id(layout.job_id, zip(names, keys, strict=True)), out


def key_bytes(value: KeyValue) -> bytes:
    """Return what a group's value adds to the text that an id is the hash of."""
    if value is None:
        return _NULL
    if isinstance(value, str):
        return value.encode()
    return struct.pack(">d", value) if isinstance(value, float) else struct.pack(">q", value)
