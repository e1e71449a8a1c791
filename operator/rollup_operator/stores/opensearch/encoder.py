"""From the buckets of an answer to the lines of a bulk, quickly. Pure.

What a document is stands in `indexer/documents`; here the same documents are made as text, column by column: one
template per job, and for each page the numbers of one kind are turned into text at once. That takes a quarter of the
time of making documents one by one.
"""

import struct
from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mmh3
import orjson

from rollup_operator.indexer.documents import SEED, VERSION, KeyValue, key_bytes
from rollup_operator.stores.opensearch.query import Query

_HASH = struct.Struct(">QQxx").pack
"""Two bytes more, so that all ids can be turned into text at once: 18 bytes make 24 letters, 22 of them the id's."""
_LETTERS, _ID = 24, 22
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_FILLED = 12
"""Bytes that a place of the template is filled with, about."""
_REMEMBERED = 50_000
"""Group values kept as text, at most."""

Bucket = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents ready to be written."""

    ids: tuple[str, ...]
    items: tuple[bytes, ...]
    """For each document the line of its action, which holds id and version, and the line of its source."""
    size: int
    """Bytes of all items."""

    def source(self, i: int) -> dict[str, Any]:
        """Return one of the documents."""
        found: dict[str, Any] = orjson.loads(self.items[i].split(b"\n", 2)[1])
        return found

    @classmethod
    def join(cls, parts: Sequence["Batch"]) -> "Batch":
        """Return all of the parts, in order."""
        ids = tuple([identity for part in parts for identity in part.ids])
        items = tuple([item for part in parts for item in part.items])
        return cls(ids, items, sum(part.size for part in parts))


class _Known(dict[KeyValue, tuple[bytes, bytes]]):
    """Group values as written before."""

    def __missing__(self, value: KeyValue) -> tuple[bytes, bytes]:
        written = self[value] = _written(value)
        return written


class Encoder:
    """Makes the documents of one job's run."""

    def __init__(self, query: Query, epoch: int) -> None:
        self._query = query
        layout = query.layout
        self._groups = query.groups
        by_name = sorted(enumerate(layout.group_keys()), key=lambda g: g[1].encode())
        self._hash_order = [i for i, _ in by_name]
        self._job = layout.job_id.encode()
        self._metrics = [(field, metric) for field, metrics in layout.metrics for metric in metrics]
        self._template, self._columns = _template(query, epoch)
        self.bucket_bytes = len(self._template) + _ID + _FILLED * len(self._columns)
        """About what a document comes to, before any was made."""
        self._known = _Known()

    def encode(self, buckets: Sequence[Bucket]) -> Batch:
        """Return the documents of these buckets. It takes two microseconds or so for each."""
        if not buckets:
            return Batch((), (), 0)
        keys = [bucket["key"] for bucket in buckets]
        texts: list[Sequence[bytes]] = []
        raws: list[Sequence[bytes]] = []
        for group in self._groups:
            text, raw = self._values([key[group] for key in keys])
            texts.append(text)
            raws.append(raw)
        letters = self._ids(raws)
        count = _numbers([bucket["doc_count"] for bucket in buckets])
        numbers, gone = self._measures(buckets)
        columns = [
            [letters[i : i + _ID] for i in range(0, len(letters), _LETTERS)],
            *(count if c is None else texts[c] if isinstance(c, int) else numbers[c] for c in self._columns),
        ]
        template = self._template
        items: Iterable[bytes] = (template % row for row in zip(*columns, strict=True))
        for fragment in gone:
            # Within a text of JSON a quotation mark has a backslash before it: only the key itself can match.
            items = [item.replace(fragment, b"") for item in items]
        done = tuple(items)
        text_of_ids, prefix = letters.decode(), f"{self._query.layout.job_id}$"
        ids = tuple([prefix + text_of_ids[i : i + _ID] for i in range(0, len(text_of_ids), _LETTERS)])
        return Batch(ids, done, sum(map(len, done)))

    def _ids(self, raws: Sequence[Sequence[bytes]]) -> bytes:
        end = b"$" + self._job + b"$"
        ordered = zip(*(raws[i] for i in self._hash_order), strict=True)
        hash64 = mmh3.hash64
        digests = [_HASH(*hash64(b"$".join(row) + end, SEED, x64arch=True, signed=False)) for row in ordered]
        return b2a_base64(b"".join(digests), newline=False).translate(_URL_SAFE)

    def _values(self, values: Sequence[KeyValue]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Return a group's values as JSON and as the bytes that an id is made of."""
        known = self._known
        if len(known) > _REMEMBERED:
            known.clear()
        if float in set(map(type, values)):  # 0.0 and -0.0, or 1.0 and 1, would be taken for each other
            texts, raws = zip(*map(_written, values), strict=True)
        else:
            texts, raws = zip(*[known[value] for value in values], strict=True)
        return texts, raws

    def _measures(self, buckets: Sequence[Bucket]) -> tuple[dict[tuple[str, str], list[bytes]], list[bytes]]:
        """Return each metric's numbers as text, and what to cut out of the documents: what there is no number of."""
        places = self._query.places
        columns: dict[tuple[str, str], list[Any]] = {}
        found: dict[str, list[Any]] = {}
        for (field, part), place in places.items():
            aggregation, key = place.aggregation, place.key
            if aggregation not in found:
                found[aggregation] = [bucket[aggregation] for bucket in buckets]
            columns[field, part] = [numbers[key] for numbers in found[aggregation]]
        texts: dict[tuple[str, str], list[bytes]] = {}
        gone: list[bytes] = []

        def add(field: str, metric: str, column: list[Any]) -> None:
            texts[field, metric] = _numbers(column)
            if b"null" in texts[field, metric]:
                gone.append(_fragment(field, metric) % b"null")

        for field, metric in self._metrics:
            if metric != "avg":
                part = "count" if metric == "value_count" else metric
                column = columns[field, part]
                add(field, f"{metric}.value", list(map(float, column)) if part == "count" else _finite(column))
                continue
            sums, counts = _finite(columns[field, "sum"]), columns[field, "count"]
            if None in sums or 0 in counts:
                kept = [s is not None and c > 0 for s, c in zip(sums, counts, strict=True)]
                add(field, "avg.value", [s if k else None for s, k in zip(sums, kept, strict=True)])
                add(field, "avg._count", [float(c) if k else None for c, k in zip(counts, kept, strict=True)])
            else:
                add(field, "avg.value", sums)
                add(field, "avg._count", list(map(float, counts)))
        return texts, gone


def _written(value: KeyValue) -> tuple[bytes, bytes]:
    return orjson.dumps(value), key_bytes(value)


Column = int | tuple[str, str] | None
"""What fills a place of the template: the value of a group, a metric's number, or (None) the count."""


def _template(query: Query, epoch: int) -> tuple[bytes, list[Column]]:
    """Return the two lines of a document with places to fill, the first of which is the id's hash."""
    layout = query.layout
    columns: list[Column] = []
    parts: list[bytes] = []
    for i, name in enumerate(layout.group_keys()):
        if i == 0:
            parts += [_pair(f"{name}.timestamp", None), _pair(f"{name}.interval", layout.interval)]
            parts.append(_pair(f"{name}.time_zone", layout.time_zone))
        else:
            parts.append(_pair(f"{name}.value", None))
            if i <= len(layout.histogram_fields):
                parts.append(_pair(f"{name}.interval", layout.histogram_interval))
        parts.append(_pair(f"{name}._count", None))
        columns += [i, None]
    source = b",".join(parts)
    for field, metrics in layout.metrics:
        for metric in metrics:
            for key in ("avg._count", "avg.value") if metric == "avg" else (f"{metric}.value",):
                source += _fragment(field, key)
                columns.append((field, key))
    source += b"," + _pair("_rollup.id", layout.job_id) + b"," + _pair("_rollup.version", VERSION)
    identity = _escaped(orjson.dumps(f"{layout.job_id}$")[:-1])
    version = b'"version":%d,"version_type":"external_gte"' % epoch
    return b'{"index":{"_id":%b%%b",%b}}\n{%b}\n' % (identity, version, source), columns


def _fragment(field: str, key: str) -> bytes:
    return b"," + _pair(f"{field}.{key}", None)


def _pair(name: str, value: str | int | None) -> bytes:
    """Return a key and its value as part of a template; None: a place to fill."""
    text = b"%b" if value is None else _escaped(orjson.dumps(value))
    return _escaped(orjson.dumps(name)) + b":" + text


def _escaped(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")


def _numbers(column: list[Any]) -> list[bytes]:
    """Return each number, or null, as JSON."""
    return orjson.dumps(column)[1:-1].split(b",")


def _finite(column: list[Any]) -> list[Any]:
    """Return the column with None where there is no finite number: infinity comes as a text."""
    if str in set(map(type, column)):
        return [value if value.__class__ is not str else None for value in column]
    return column
