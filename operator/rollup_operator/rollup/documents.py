"""A rolled-up bucket as Elasticsearch writes it: the document and its id. Pure.

An id consists of the job's id and a hash of the bucket's keys. Elasticsearch's scheme 2 hashes the keys joined with
`$`:

    Outer$Inner | run      ->  Outer$Inner$run$job$
    Outer | Inner$run      ->  Outer$Inner$run$job$      the same id: one of the two documents would be lost

So if a text is ambiguous, each key is preceded by its length (scheme 3). All other ids follow scheme 2. No text of
one scheme equals a text of the other: those of scheme 2 end in `$`.
"""

import base64
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mmh3

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.time_values import epoch_ms
from rollup_operator.model.times import instant_of, rfc3339_ms

_NULL = b"__NULL_PLACEHOLDER__830f1de2__"
_NULL_TEXT = _NULL.decode()
SEED = 19
_END = b"$"
_SCHEME_3 = b"3"
VERSION = 2

SAME_SUM = 1e-12
"""Two sums of the same numbers in different orders differ by less than this fraction."""

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
    values = _in_order(keys)
    if any(map(is_ambiguous, values)):
        return _id(job_id, unambiguous(values, job_id.encode() + _END))
    return _id(job_id, _joined(job_id, values))


def scheme_2_id(job_id: str, keys: Iterable[tuple[str, KeyValue]]) -> str:
    """Return the id that Elasticsearch gives a bucket, which another bucket may have, too."""
    return _id(job_id, _joined(job_id, _in_order(keys)))


def _in_order(keys: Iterable[tuple[str, KeyValue]]) -> list[KeyValue]:
    return [value for _, value in sorted(keys, key=lambda k: k[0].encode())]


def _joined(job_id: str, values: Iterable[KeyValue]) -> bytes:
    return b"".join(key_bytes(value) + _END for value in values) + job_id.encode() + _END


def _id(job_id: str, text: bytes) -> str:
    h1, h2 = mmh3.hash64(text, SEED, x64arch=True, signed=False)
    return f"{job_id}${base64.urlsafe_b64encode(struct.pack('>QQ', h1, h2)).rstrip(b'=').decode()}"


def is_ambiguous(value: KeyValue) -> bool:
    """Whether a key is ambiguous when it is joined with others."""
    return isinstance(value, str) and ("$" in value or value == _NULL_TEXT)


def unambiguous(values: Iterable[KeyValue], end: bytes) -> bytes:
    """Return the text to hash if one of the keys is ambiguous, in the order of their names; `end` is the job's."""
    parts = (struct.pack(">q", -1) if v is None else struct.pack(">q", len(b := key_bytes(v))) + b for v in values)
    return b"".join(parts) + end + _SCHEME_3


def timestamp_of(time: int) -> int | str:
    """Return where a bucket begins as documents have it: in epoch milliseconds, before 1970 as a text.

    OpenSearch, and Elasticsearch 7, take a negative number for a year: -3600000 for 3,600,000 years before the year 0.
    """
    return rfc3339_ms(time) if time < 0 else time


def time_of(timestamp: object) -> object:
    """Return where a bucket begins by what a document has, in epoch milliseconds; what is no time stays as it is."""
    at = instant_of(timestamp) if isinstance(timestamp, str) else None
    return timestamp if at is None else epoch_ms(at)


def document(
    layout: Layout, keys: Sequence[KeyValue], count: int, values: Mapping[str, float | int | None]
) -> tuple[str, dict[str, Any]]:
    """Return id and document of one bucket.

    `keys` are in the order of `layout.group_keys()`; `values` hold `<field>.<metric>.value` and `<field>.avg._count`. A
    metric without a number, or with an infinite one, is left out.
    """
    names = layout.group_keys()
    out: dict[str, Any] = {}
    for i, (name, value) in enumerate(zip(names, keys, strict=True)):
        if i == 0:
            assert isinstance(value, int)
            out[f"{name}.timestamp"] = timestamp_of(value)
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
    """Return what the value of a group adds to the text whose hash is the id."""
    if value is None:
        return _NULL
    if isinstance(value, str):
        return value.encode()
    return struct.pack(">d", value) if isinstance(value, float) else struct.pack(">q", value)
