"""Turns the buckets of an answer into the lines of a bulk, quickly. Pure.

`rollup/documents` defines a document. This module produces the same documents as text, column by column: with one
template per job, and with all numbers of one kind on a page converted to text at once. That takes a quarter of the
time of building documents one by one.
"""

from binascii import b2a_base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import mmh3
import orjson

from rollup_operator.rollup.documents import SEED, VERSION, KeyValue, is_ambiguous, key_bytes, timestamp_of, unambiguous
from rollup_operator.sharing.memory import compact
from rollup_operator.stores.opensearch.query import Query

_GAP = b"\0\0"
"""Appended to each hash, to convert all to text at once: 18 bytes make 24 letters, 22 of them the id's."""
_BYTES, _LETTERS, _ID = 18, 24, 22
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_FILLED = 12
"""Approximate bytes of a filled place of the template."""
_REMEMBERED = 8 * 2**20
"""Approximate limit of bytes of group values kept as text."""
_BESIDE = 250
"""Bytes that each takes beside its texts."""

_WHOLE: frozenset[type] = frozenset({int})
_NUMBERS: frozenset[type] = frozenset({int, float, type(None)})

Bucket = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents ready to be written."""

    items: Sequence[bytes]
    """For each document: the line of its action, with id and version, and the line of its source."""
    size: int
    """Bytes of all items."""

    @classmethod
    def of(cls, items: Sequence[bytes]) -> "Batch":
        """Return a batch of these."""
        return cls(items, sum(map(len, items)))

    def __len__(self) -> int:
        return len(self.items)

    def id(self, i: int) -> str:
        """Return the id of one of the documents. It is parsed from the item, because few are ever needed."""
        found: str = orjson.loads(self.items[i].split(b"\n", 1)[0])["index"]["_id"]
        return found

    def source(self, i: int) -> dict[str, Any]:
        """Return one of the documents."""
        found: dict[str, Any] = orjson.loads(self.items[i].split(b"\n", 2)[1])
        return found


class _KnownValues(dict[KeyValue, tuple[bytes, bytes]]):
    """Group values as written before."""

    size = 0
    """Bytes."""
    ambiguous = False
    """Whether there was a value whose id cannot be made in the plain way."""

    def __missing__(self, value: KeyValue) -> tuple[bytes, bytes]:
        if self.size > _REMEMBERED:
            self.clear()
            self.size = 0
        self.ambiguous = self.ambiguous or is_ambiguous(value)
        written = self[value] = _written(value)
        self.size += 2 * sum(map(len, written)) + _BESIDE
        return written


class Encoder:
    """Makes the documents of one job's run."""

    def __init__(self, query: Query, epoch: int) -> None:
        self._query = query
        layout = query.layout
        self._groups = query.groups
        by_name = sorted(enumerate(layout.group_keys()), key=lambda g: g[1].encode())
        self._hash_order = [i for i, _ in by_name]
        self._end = layout.job_id.encode() + b"$"
        self._metrics = [(field, metric) for field, metrics in layout.metrics for metric in metrics]
        self._template, self._columns = _template(query, epoch)
        begin = self._template.index(b"%b") - self._template.count(b"%%", 0, self._template.index(b"%b"))
        self._hash = slice(begin, begin + _ID)
        """The place of the id's hash in an item."""
        self.bucket_bytes = len(self._template) + _ID + _FILLED * len(self._columns)
        """The approximate size of a document, before any was made."""
        self._known = _KnownValues()

    def encode(self, buckets: Sequence[Bucket]) -> list[bytes]:
        """Return the items of these buckets, one or more. It takes a microsecond or two for each.

        Raises LookupError, TypeError, ValueError if they are not what was requested.
        """
        keys = [bucket["key"] for bucket in buckets]
        _must_be(_WHOLE, [key[self._groups[0]] for key in keys])
        texts: list[Sequence[bytes]] = []
        raws: list[Sequence[bytes]] = []
        groups = [[key[group] for key in keys] for group in self._groups]
        for values in groups:
            text, raw = self._values(values)
            texts.append(text if texts else _timestamps(values, text))
            raws.append(raw)
        counts = [bucket["doc_count"] for bucket in buckets]
        _must_be(_WHOLE, counts)
        count = _numbers(counts)
        numbers, gone = self._measures(buckets)
        columns = [count if c is None else texts[c] if isinstance(c, int) else numbers[c] for c in self._columns]
        template = self._template
        items = [template % row for row in zip(self._ids(groups, raws), *columns, strict=True)]
        for fragment in gone:
            # Within a text of JSON a quotation mark has a backslash before it: only the key itself can match.
            items = [item.replace(fragment, b"") for item in items]
        return items

    def id_of_two(self, items: Sequence[bytes]) -> str | None:
        """Return an id that two of the items have; None: there is none."""
        hashes = [item[self._hash] for item in items]
        if len(set(hashes)) == len(hashes):
            return None
        twice = next(each for each, count in Counter(hashes).items() if count > 1)
        return Batch.of(items).id(hashes.index(twice))

    def _ids(self, groups: Sequence[Sequence[KeyValue]], raws: Sequence[Sequence[bytes]]) -> list[bytes]:
        """Return the part of the ids after the job's: the hash, its two halves big-endian, as text."""
        texts: Iterable[bytes] = map(b"$".join, zip(*(raws[i] for i in self._hash_order), repeat(self._end)))
        if self._known.ambiguous:
            rows = zip(*(groups[i] for i in self._hash_order), strict=True)
            end = self._end
            texts = [
                unambiguous(row, end) if any(map(is_ambiguous, row)) else text
                for text, row in zip(texts, rows, strict=True)
            ]
        hashes = _GAP.join([*map(mmh3.mmh3_x64_128_digest, texts, repeat(SEED)), b""])
        turned = bytearray(len(hashes))
        for i in range(8):
            turned[i::_BYTES], turned[i + 8 :: _BYTES] = hashes[7 - i :: _BYTES], hashes[15 - i :: _BYTES]
        letters = b2a_base64(turned, newline=False).translate(_URL_SAFE)
        return [letters[i : i + _ID] for i in range(0, len(letters), _LETTERS)]

    def _values(self, values: Sequence[KeyValue]) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Return a group's values as JSON and as the bytes that an id is made of."""
        known = self._known
        if float in set(map(type, values)):  # 0.0 and -0.0, or 1.0 and 1, would be taken for each other
            texts, raws = zip(*map(_written, values), strict=True)
            known.ambiguous = known.ambiguous or any(map(is_ambiguous, values))
        else:
            texts, raws = zip(*[known[value] for value in values], strict=True)
        return texts, raws

    def _measures(self, buckets: Sequence[Bucket]) -> tuple[dict[tuple[str, str], list[bytes]], list[bytes]]:
        """Return each metric's numbers as text, and what to cut out of the documents because there is no number."""
        found = {name: [bucket[name] for bucket in buckets] for name in self._query.aggregations}
        columns = {
            part: [numbers[place.key] for numbers in found[place.aggregation]]
            for part, place in self._query.places.items()
        }
        columns = {
            (field, part): list(map(float, column)) if part == "count" else _finite(column)
            for (field, part), column in columns.items()
        }
        written = {part: _numbers(column) for part, column in columns.items()}
        texts: dict[tuple[str, str], list[bytes]] = {}
        for field, metric in self._metrics:
            if metric != "avg":
                texts[field, f"{metric}.value"] = written[field, "count" if metric == "value_count" else metric]
                continue
            sums, counts = columns[field, "sum"], columns[field, "count"]
            if None in sums or 0 in counts:
                kept = [s is not None and c > 0 for s, c in zip(sums, counts, strict=True)]
                texts[field, "avg.value"] = _numbers([s if k else None for s, k in zip(sums, kept, strict=True)])
                texts[field, "avg._count"] = _numbers([c if k else None for c, k in zip(counts, kept, strict=True)])
            else:
                texts[field, "avg.value"], texts[field, "avg._count"] = written[field, "sum"], written[field, "count"]
        return texts, [_fragment(*key) % b"null" for key, text in texts.items() if b"null" in text]


def _written(value: KeyValue) -> tuple[bytes, bytes]:
    return compact(orjson.dumps(value)), key_bytes(value)


def _timestamps(times: Sequence[int], texts: Sequence[bytes]) -> Sequence[bytes]:
    """Return the times as documents have them; `texts`: as numbers."""
    if min(times) >= 0:
        return texts
    return [text if time >= 0 else orjson.dumps(timestamp_of(time)) for time, text in zip(times, texts, strict=True)]


Column = int | tuple[str, str] | None
"""The content of a place of the template: the value of a group, a metric's number, or (None) the count."""


def _template(query: Query, epoch: int) -> tuple[bytes, list[Column]]:
    """Return the two lines of a document with places to fill; the first one is the id's hash."""
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
    _must_be(_NUMBERS, column)
    return orjson.dumps(column)[1:-1].split(b",")


def _must_be(types: frozenset[type], column: Sequence[object]) -> None:
    """Raise TypeError if there is another type among the values."""
    if not types.issuperset(map(type, column)):
        raise TypeError("a bucket holds no number where one should be")


def _finite(column: list[Any]) -> list[Any]:
    """Return the column with None in place of numbers that are not finite: infinity comes as a text."""
    if str in set(map(type, column)):
        return [value if value.__class__ is not str else None for value in column]
    return column
