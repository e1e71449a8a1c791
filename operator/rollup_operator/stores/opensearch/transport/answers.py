"""Reads answers of a cluster with every type checked: nothing about their shape is trusted.

A host may answer anything. A value that the API does not promise is an error that says, in our words, where in the
answer it is: no text of the answer is part of the error.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import orjson

from rollup_operator.stores.opensearch.transport.errors import Odd

SMALL: Final = 2**16
"""Bytes that an answer may have by default: acknowledgements, one number, one name."""
LISTING: Final = 2 * 2**20
"""Bytes of an answer that lists things: fields, tasks, records, mappings, items of a bulk."""
PAGE: Final = 24 * 2**20
"""Bytes of a page of a search, which is parsed piece by piece."""
ERROR: Final = 2**18
"""Bytes of an error that are read; of a longer one only the status counts."""

MOST_CONTAINERS = 40_000
"""Lists and objects in JSON that is parsed at once: each takes many times its two bytes, and a microsecond."""

LATEST_MS = 253_402_300_799_999
"""The end of the year 9999."""

_LONGEST_NAME = 4096
_DEEPEST = 64


class TooRich(ValueError):
    """JSON that would take too much memory and time."""


def whole(raw: bytes) -> Any:
    """Parse JSON at once. Raises orjson.JSONDecodeError, or TooRich."""
    if raw.count(b"[") + raw.count(b"{") > MOST_CONTAINERS:
        raise TooRich(f"has more than {MOST_CONTAINERS} lists and objects")
    return orjson.loads(raw)


@contextmanager
def readable(doing: str, wrong: str = "its buckets have another form") -> Iterator[None]:
    """Report that what is read within the block, too much to check each value first, is not as it should be."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, struct.error) as e:
        raise Odd(f"{doing}: this is not the answer of a cluster: {wrong}") from e


@dataclass(frozen=True, slots=True)
class Value:
    """A value somewhere in an answer. Each method that reads it raises Odd for another type."""

    value: Any
    doing: str
    path: str = ""

    def at(self, *keys: str) -> "Value":
        """Return a member of an object, or of one in it and so on, which must be there."""
        found = self
        for key in keys:
            there = found.mapping()
            if key not in there:
                raise found.odd(f"has no {key}")
            found = found._inner(there[key], key)
        return found

    def find(self, *keys: str) -> "Value":
        """Return the same for a member that may be missing: then its value is None."""
        found = self
        for key in keys:
            if found.value is None:
                return found
            found = found._inner(found.mapping().get(key), key)
        return found

    @property
    def given(self) -> bool:
        """Whether there is a value other than null."""
        return self.value is not None

    def mapping(self) -> Mapping[str, Any]:
        """Return an object's members."""
        if not isinstance(self.value, dict):
            raise self.odd("is no object")
        return self.value

    def members(self) -> "Iterator[tuple[str, Value]]":
        """Yield the members of an object with their names; none if it is missing."""
        for key, value in self.mapping().items() if self.given else ():
            yield key, self._inner(value, "*")

    def items(self) -> "Iterator[Value]":
        """Yield the items of a list; none if it is missing."""
        for value in self.entries() if self.given else ():
            yield self._inner(value, "*")

    def entries(self) -> list[Any]:
        """Return a list's items."""
        if not isinstance(self.value, list):
            raise self.odd("is no list")
        return self.value

    def text(self, longest: int = _LONGEST_NAME) -> str:
        """Return a text of at most that many characters."""
        if not isinstance(self.value, str):
            raise self.odd("is no text")
        if len(self.value) > longest:
            raise self.odd(f"is longer than {longest} characters")
        return self.value

    def whole(self, least: int = 0, most: int = 2**62) -> int:
        """Return a whole number in these bounds."""
        if type(self.value) is not int:
            raise self.odd("is no whole number")
        if not least <= self.value <= most:
            raise self.odd(f"is not between {least} and {most}")
        return self.value

    def number(self) -> float:
        """Return a number."""
        if type(self.value) not in (int, float):
            raise self.odd("is no number")
        return float(self.value)

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            raise self.odd("is neither true nor false")
        return self.value

    def time(self) -> int:
        """Return a time in milliseconds since 1970, as far before or after it as the year 9999 is."""
        return self.whole(-LATEST_MS, LATEST_MS)

    def kept(self) -> Mapping[str, Any]:
        """Return an object that can be written back as it is: it is not too deep for that. {} if it is missing."""
        if not self.given:
            return {}
        if sum(1 for _ in islice(_levels(self.mapping()), _DEEPEST + 1)) > _DEEPEST:
            raise self.odd(f"has more than {_DEEPEST} levels")
        return self.mapping()

    def weight(self) -> int:
        """Return how many single values it consists of."""
        return sum(map(len, _levels(self.value)))

    def odd(self, what: str) -> Odd:
        """Return the error that says what is wrong with it."""
        return Odd(f"{self.doing}: this is not the answer of a cluster: {self.path or 'it'} {what}")

    def _inner(self, value: Any, key: str) -> "Value":
        return Value(value, self.doing, f"{self.path}.{key}" if self.path else key)


def _levels(value: Any) -> Iterator[list[Any]]:
    """Yield a value, those in it, those in these, and so on."""
    level = [value]
    while level:
        yield level
        level = [inner for each in level for inner in _inside(each)]


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
