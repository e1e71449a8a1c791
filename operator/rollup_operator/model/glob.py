"""Patterns in which only `*` is special: it stands for any number of characters.

Whoever may create a job writes patterns, and everybody's work waits while one is matched. So there is this one way of
matching them, which never goes back: its time grows with the lengths of pattern and name.
"""

from dataclasses import dataclass
from typing import Self

MOST_STARS = 8
"""The limit of stars in a pattern of a resource. Nobody needs more, and a cluster may match them less efficiently."""


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern, cut at its stars."""

    first: str
    """What a name begins with."""
    middle: tuple[str, ...]
    """What comes after that, in this order. Several stars in a row are one, so none of these is empty."""
    last: str | None
    """What a name ends with; None: the pattern has no star, and names `first` alone."""
    shortest: int
    """Characters of the shortest name that matches."""

    @classmethod
    def of(cls, pattern: str) -> Self:
        """Read a pattern."""
        first, *others = pattern.split("*")
        last = others.pop() if others else None
        middle = tuple(part for part in others if part)
        return cls(first, middle, last, len(pattern) - pattern.count("*"))

    @property
    def steps(self) -> int:
        """The most comparisons of texts that a match takes."""
        return len(self.middle) + 2

    def matches(self, name: str) -> bool:
        """Whether the pattern stands for this name."""
        if self.last is None:
            return name == self.first
        if len(name) < self.shortest or not name.startswith(self.first) or not name.endswith(self.last):
            return False
        at, end = len(self.first), len(name) - len(self.last)
        for part in self.middle:
            # The first place will do: what comes after it has the most room there.
            if (found := name.find(part, at, end)) < 0:
                return False
            at = found + len(part)
        return True
