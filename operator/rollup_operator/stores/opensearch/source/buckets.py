"""The buckets of a search's answer, most of them parsed only when their turn comes. Pure.

Parsing a large page at once would block the event loop, and a stop with it. So an answer is cut at the beginnings of
buckets, into pieces that take about a millisecond. Within a JSON string a quotation mark is preceded by a backslash,
so the text that marks the beginning of a bucket cannot be part of a value.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from rollup_operator.stores.opensearch.query import ROLLUP, time_of
from rollup_operator.stores.opensearch.target.encoder import Bucket
from rollup_operator.stores.opensearch.transport.answers import TooRich, whole

PIECE = 2**16
"""Bytes of an answer that are parsed at once."""
LARGEST_PIECE = 2**20
"""Bytes of one that cannot be cut shorter."""

_LIST = b'"buckets":['
_NEXT = b'},{"key":{'
"""Between two buckets, as clusters write them."""
_COUNT = b'"doc_count":'
"""Once in each bucket, however it is written. If it is not as expected, everything is parsed at once."""


@dataclass(frozen=True, slots=True)
class PageBuckets:
    """PageBuckets in the order of their keys."""

    count: int = 0
    parts: tuple[Sequence[Bucket] | bytes, ...] = ()
    """None is empty. The first and the last are parsed."""

    @classmethod
    def of(cls, buckets: Sequence[Bucket]) -> "PageBuckets":
        """Return what is parsed already."""
        return cls(len(buckets), (buckets,) if buckets else ())

    @property
    def first(self) -> Bucket:
        """Return the first one; there must be one."""
        part = self.parts[0]
        assert not isinstance(part, bytes)
        return part[0]

    @property
    def last(self) -> Bucket:
        """Return the last one; there must be one."""
        part = self.parts[-1]
        assert not isinstance(part, bytes)
        return part[-1]

    def __add__(self, other: "PageBuckets") -> "PageBuckets":
        return PageBuckets(self.count + other.count, self.parts + other.parts)

    def pieces(self) -> Iterator[Sequence[Bucket]]:
        """Yield the buckets, in order, each time some that were parsed just then. Raises orjson.JSONDecodeError."""
        for part in self.parts:
            yield _parsed(part) if isinstance(part, bytes) else part

    def within(self, begin: int, end: int) -> "PageBuckets":
        """Leave out what is of other times: a document of several times is found by one and counted under each."""
        if not self.count or (begin <= time_of(self.first["key"]) and time_of(self.last["key"]) < end):
            return self
        return PageBuckets.of([b for piece in self.pieces() for b in piece if begin <= time_of(b["key"]) < end])


def parse(raw: bytes) -> Any:
    """Return the answer of a search, the `buckets` of its pages being PageBuckets.

    Raises orjson.JSONDecodeError; TooRich for what is neither short nor can be cut.
    """
    begin, end = raw.find(_LIST) + len(_LIST), raw.rfind(b"]")
    if begin >= len(_LIST):
        try:
            answer, buckets = _short(raw[:begin] + raw[end:]), _cut(raw, begin, end)
        except (orjson.JSONDecodeError, TooRich):
            pass  # the list is not the last thing that ends with a bracket, or this is no JSON at all
        else:
            if buckets.count == raw.count(_COUNT, begin, end):
                return _with(answer, buckets)
    return _with(_short(raw), None)


def _with(answer: Any, buckets: PageBuckets | None) -> Any:
    page: Any = answer
    for key in ("aggregations", ROLLUP):
        page = page.get(key) if isinstance(page, dict) else None
    if isinstance(page, dict) and isinstance(there := page.get("buckets"), list):
        page["buckets"] = PageBuckets.of(there) if buckets is None else buckets
    return answer


def _short(raw: bytes) -> Any:
    if len(raw) > LARGEST_PIECE:
        raise TooRich(f"has a part of {len(raw)} bytes that cannot be read piece by piece")
    return whole(raw)


def _cut(raw: bytes, begin: int, end: int) -> PageBuckets:
    parts: list[Sequence[Bucket] | bytes] = []
    count = 0
    while (cut := raw.find(_NEXT, begin + PIECE, end)) >= 0:
        count += raw.count(_NEXT, begin, cut) + 1
        parts.append(raw[begin : cut + 1])
        begin = cut + 2
    if last := _parsed(raw[begin:end]):
        parts.append(last)
    if parts and isinstance(parts[0], bytes):
        parts[0] = _parsed(parts[0])
    return PageBuckets(count + len(last), tuple(parts))


def _parsed(part: bytes) -> Sequence[Bucket]:
    found: list[Bucket] = _short(b"[" + part + b"]")
    return found
