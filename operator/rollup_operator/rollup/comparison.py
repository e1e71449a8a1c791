"""Compares the documents of a job with the buckets that its source gives now. Pure.

    stored       a ── b ── b' ── c ── ─ ── e         b' is a second document of the bucket b
    recomputed   a ── b ──────── c ── d ── ─
                 │    │          │    │    └ extra: the source no longer holds rows for it, or fewer
                 │    │          │    └ missing: no document
                 │    │          └ differs: another number
                 │    └ duplicate: it counts twice
                 └ equal

Both sides come in order of their keys, so `Merge` holds one page of each. Counts, minima and maxima are compared
exactly, and so are sums that a store computes exactly. Other sums depend on the order of their terms: see `Judge`.
"""

import math
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.documents import SAME_SUM, KeyValue, Layout, time_of

Key = tuple[KeyValue, ...]
"""The values of the groups, in the order of `Layout.group_keys`: time first, in epoch milliseconds."""
Numbers = Mapping[str, float | int]
"""By the names that documents have for them. A metric without a number is left out."""

MOST_EXAMPLES = 100
"""How many findings are kept whole; the others are only counted."""

_MOST_REMEMBERED = 100_000
_REACH = ("min", "max", "value_count")
"""The metrics that say how large the terms of a sum are."""


@dataclass(frozen=True, slots=True)
class BucketNumbers:
    """One bucket: what is stored of it, or what the source gives."""

    key: Key
    numbers: Numbers
    documents: int = 1
    """How many documents it has: more than one is a fault."""


class Kind(StrEnum):
    """What is wrong with a bucket."""

    DIFFERS = "differs"
    MISSING = "missing"
    EXTRA = "extra"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Difference:
    """A number that is not as it should be; None: there is none."""

    field: str
    stored: float | int | None
    recomputed: float | int | None


@dataclass(frozen=True, slots=True)
class Finding:
    """A bucket that is not as it should be."""

    kind: Kind
    key: Key
    differences: tuple[Difference, ...] = ()


def counts_of(layout: Layout) -> list[str]:
    """Return the names of a document's counts of rows: one for each group, all the same number."""
    return [f"{group}._count" for group in layout.group_keys()]


def metrics_of(layout: Layout, fields: Collection[str] | None = None) -> list[str]:
    """Return the names of the other numbers that a document can have, of all fields or of some."""
    return [
        name
        for of, metrics in layout.metrics
        if fields is None or of in fields
        for metric in metrics
        for name in ([f"{of}.avg._count"] if metric == "avg" else []) + [f"{of}.{metric}.value"]
    ]


def bucket_of(layout: Layout, document: Mapping[str, Any], documents: int = 1) -> BucketNumbers:
    """Return what a document says of its bucket; what no document of the job has is left out. Raises KeyError."""
    time, *others = layout.group_keys()
    numbers = {name: document[name] for name in (*counts_of(layout), *metrics_of(layout)) if name in document}
    begin = time_of(document[f"{time}.timestamp"])
    assert isinstance(begin, int)
    return BucketNumbers((begin, *(document[f"{name}.value"] for name in others)), numbers, documents)


def with_reach(spec: RollupJobSpec) -> RollupJobSpec:
    """Return the job with what `Judge` needs to know of each sum: minimum, maximum and number of values."""
    metrics = [
        m.model_copy(update={"metrics": [*m.metrics, *(more for more in _REACH if more not in m.metrics)]})
        if {"sum", "avg"} & {*m.metrics}
        else m
        for m in spec.metrics
    ]
    return spec.model_copy(update={"metrics": metrics})


@dataclass(frozen=True)
class Judge:
    """Compares one bucket.

    Two sums of the same numbers in different orders differ by less than SAME_SUM times the number of values times the
    largest of them: near zero a sum of large numbers says little about its rounding.
    """

    layout: Layout
    exact: frozenset[str] = frozenset()
    """Fields whose sums do not depend on the order of their terms."""
    exact_up_to: float = math.inf
    """As long as no sum of as many of the largest value is larger."""
    fields: frozenset[str] | None = None
    """Of which the metrics are compared; None: of all. Counts are always compared."""

    @cached_property
    def _names(self) -> Sequence[str]:
        return [*counts_of(self.layout), *metrics_of(self.layout, self.fields)]

    @cached_property
    def _sums(self) -> Mapping[str, str]:
        """The names of sums, each with its field."""
        return {f"{of}.{metric}.value": of for of, _ in self.layout.metrics for metric in ("sum", "avg")}

    @cached_property
    def count(self) -> str:
        """The name of the number of a bucket's rows."""
        return counts_of(self.layout)[0]

    def __call__(self, stored: BucketNumbers | None, recomputed: BucketNumbers | None) -> Finding | None:
        """Return what is wrong; None: nothing. `recomputed` also has what `with_reach` adds."""
        if stored is None or recomputed is None:
            one = stored or recomputed
            assert one is not None
            rows = one.numbers.get(self.count)
            if stored is None:
                return Finding(Kind.MISSING, one.key, (Difference(self.count, None, rows),))
            return Finding(Kind.EXTRA, one.key, (Difference(self.count, rows, None),))
        if stored.documents > 1:
            return Finding(
                Kind.DUPLICATE, stored.key, (Difference("documents", stored.documents, recomputed.documents),)
            )
        differences = tuple(
            Difference(name, was, now)
            for name in self._names
            if not self._alike(name, was := stored.numbers.get(name), now := recomputed.numbers.get(name), recomputed)
        )
        if not differences:
            return None
        lost = (stored.numbers.get(self.count) or 0) > (recomputed.numbers.get(self.count) or 0)
        return Finding(Kind.EXTRA if lost else Kind.DIFFERS, stored.key, differences)

    def _alike(self, name: str, stored: float | None, recomputed: float | None, bucket: BucketNumbers) -> bool:
        if stored == recomputed:
            return True
        of = self._sums.get(name)
        if of is None or stored is None or recomputed is None:
            return False
        low, high = (bucket.numbers.get(f"{of}.{end}.value", 0) for end in ("min", "max"))
        largest, count = max(abs(low), abs(high)), bucket.numbers.get(f"{of}.value_count.value", 0)
        if of in self.exact and max(count * largest, abs(recomputed)) <= self.exact_up_to:
            return False
        # In this order no product becomes infinite.
        return abs(stored - recomputed) <= max(SAME_SUM * largest * count, SAME_SUM * abs(recomputed))


class Merge:
    """Pairs the buckets of two streams, each in order of its keys, of which it holds what is not paired yet."""

    def __init__(self) -> None:
        self._stored, self._recomputed = _Stream(), _Stream()

    @property
    def wants_stored(self) -> bool:
        """Whether a page of stored buckets is needed before there are further pairs."""
        return not self._stored.buckets and not self._stored.ended

    @property
    def wants_recomputed(self) -> bool:
        """Likewise, of recomputed ones."""
        return not self._recomputed.buckets and not self._recomputed.ended

    def add_stored(self, page: Sequence[BucketNumbers], *, last: bool) -> None:
        """Take in the next page. Raises ValueError where it is not in order."""
        self._stored.add(page, last)

    def add_recomputed(self, page: Sequence[BucketNumbers], *, last: bool) -> None:
        """Likewise."""
        self._recomputed.add(page, last)

    def pairs(self) -> Iterator[tuple[BucketNumbers | None, BucketNumbers | None]]:
        """Yield what is stored and what is recomputed of each bucket, as far as both sides are known."""
        one, other = self._stored, self._recomputed
        while (one.buckets or one.ended) and (other.buckets or other.ended):
            if not one.buckets and not other.buckets:
                return
            ahead = _compared(one.first, other.first)
            yield (
                one.buckets.popleft() if ahead <= 0 else None,
                other.buckets.popleft() if ahead >= 0 else None,
            )


@dataclass
class _Stream:
    buckets: deque[BucketNumbers] = field(default_factory=deque)
    ended: bool = False
    _last: Any = None

    @property
    def first(self) -> Any:
        """The place of the first bucket in the order; None: no more come."""
        return _place(self.buckets[0].key) if self.buckets else None

    def add(self, page: Sequence[BucketNumbers], last: bool) -> None:
        for bucket in page:
            place = _place(bucket.key)
            if self._last is not None and place <= self._last:
                raise ValueError("buckets do not come in the order of their keys")
            self._last = place
        self.buckets.extend(page)
        self.ended = last


def _compared(one: Any, other: Any) -> int:
    """Return -1, 0 or 1; what comes no more is after all else."""
    if one is None or other is None:
        return (one is None) - (other is None)
    return int(one > other) - int(one < other)


def _place(key: Key) -> tuple[tuple[Any, ...], ...]:
    """Return a key's place in the order of keys: missing values first, minus zero before zero."""
    return tuple(
        (0,) if value is None else (2, value) if isinstance(value, str) else (1, value, math.copysign(1.0, value))
        for value in key
    )


@dataclass
class Findings:
    """What a comparison has found: all of it by number, the first of it by content."""

    judge: Judge
    starts: Sequence[int]
    """Where the days begin by which findings are counted, in order; the first bucket's is the first."""
    most: int = MOST_EXAMPLES
    believed: frozenset[int] | None = None
    """What an earlier comparison found: only that counts. None: everything does."""
    compared: int = 0
    """Buckets of the source."""
    kinds: Counter[Kind] = field(default_factory=Counter)
    """How many buckets of each kind are not as they should be."""
    days: dict[int, Counter[Kind]] = field(default_factory=dict)
    """By where a day begins, of those with findings."""
    examples: list[Finding] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)

    def take(self, stored: BucketNumbers | None, recomputed: BucketNumbers | None) -> None:
        """Compare a bucket, and keep what is wrong with it."""
        self.compared += recomputed is not None
        if (found := self.judge(stored, recomputed)) is None:
            return
        name = hash((found.kind, found.key))
        if self.believed is not None and name not in self.believed:
            return
        if len(self._seen) <= _MOST_REMEMBERED:
            self._seen.add(name)
        begin = found.key[0]
        assert isinstance(begin, int)
        day = self.starts[max(0, bisect_right(self.starts, begin) - 1)]
        self.kinds[found.kind] += 1
        self.days.setdefault(day, Counter())[found.kind] += 1
        if len(self.examples) < self.most:
            self.examples.append(found)

    @property
    def total(self) -> int:
        """How many buckets are not as they should be."""
        return self.kinds.total()

    def suspects(self) -> frozenset[int] | None:
        """Return the findings in a form for `believed`; None: they are too many to be remembered."""
        return frozenset(self._seen) if len(self._seen) <= _MOST_REMEMBERED else None
