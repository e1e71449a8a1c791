"""The results of aggregations before they are written as JSON: pipelines read them, and add theirs. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rollup_operator.query.aggregations import Aggregation
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.planning.shape import Shape
from rollup_operator.stores.search import MAX_BUCKETS, Key

Printer = Callable[[float], str]

NUMBERS_INCLUDED = 2
"""Metrics and pipelines of a bucket that count with it. Each five more take the memory of two buckets."""


@dataclass(slots=True)
class Measured:
    """The numbers of one metric or pipeline."""

    type_name: str
    values: dict[str, float | int]
    """By the names that paths use. Not a number, or infinite: there is none, and the answer has null."""
    printer: Printer | None = None
    printed: tuple[str, ...] = ()
    """Which of the values are written as texts, too."""
    more: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as an answer has them."""
        out: dict[str, Any] = {} if self.meta is None else {"meta": self.meta}
        for name, value in self.values.items():
            out[name] = value if math.isfinite(value) else None
        for name in self.printed if self.printer is not None else ():
            if math.isfinite(self.values[name]):
                assert self.printer is not None
                out[f"{name}_as_string"] = self.printer(self.values[name])
        if self.more:
            out.update(self.more)
        return out


@dataclass(slots=True)
class Bucket:
    """One bucket."""

    key: Key
    text: str | None
    """The key as a text, where the answer has that as well."""
    count: int
    results: dict[str, "Result"]
    """By the aggregation's name, in the request's order."""

    @property
    def name(self) -> str:
        """What pipelines call the bucket."""
        return self.text if self.text is not None else str(self.key)


@dataclass(slots=True)
class Series:
    """The buckets of one aggregation, in the order of the answer."""

    shape: Shape
    buckets: list[Bucket]
    others: int = 0
    """Documents in buckets beyond the size of terms."""
    _named: tuple[list[Bucket], dict[str, Bucket]] | None = None
    """The first bucket of each name, and in which list it was found."""

    def named(self, name: str) -> Bucket | None:
        """Return the first bucket of that name. A path may ask each of ten thousands of buckets for one."""
        if self._named is None or self._named[0] is not self.buckets:
            self._named = self.buckets, {bucket.name: bucket for bucket in reversed(self.buckets)}
        return self._named[1].get(name)

    @property
    def aggregation(self) -> Aggregation:
        """The aggregation as it was asked for."""
        return self.shape.aggregation


Result = Measured | Series


def at_once_of(aggregations: Sequence[Aggregation]) -> int:
    """Return how many buckets of so many aggregations may be made or written without an interruption."""
    return max(1, 40 // (1 + len(aggregations)))


@dataclass(slots=True)
class BucketAllowance:
    """How many buckets an answer may still have."""

    left: int = MAX_BUCKETS
    room: Callable[[int], None] = lambda _: None
    """Called with how many buckets more, beside those that were found, the answer takes the memory of. Raises what ends
    the search."""

    def fill(self, count: int, *, found: int, numbers: int) -> None:
        """Take so many, some of which were found, with so many numbers each. Raises SearchRefused, and as `room`."""
        self.take(count)
        if more := max(0, count - found) + count * max(0, numbers - NUMBERS_INCLUDED) * 2 // 5:
            self.room(more)

    def take(self, count: int = 1) -> None:
        """Take some. Raises SearchRefused."""
        self.left -= count
        if self.left < 0:
            raise SearchRefused(
                f"Trying to create too many buckets. Must be less than or equal to: [{MAX_BUCKETS}] but this number "
                "of buckets was exceeded: ask for a longer interval, a shorter time or fewer terms.",
                "too_many_buckets_exception",
            )
