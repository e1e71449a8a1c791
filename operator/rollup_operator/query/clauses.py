"""The conditions of a request, in the source's field names and with its values as they were given. Pure.

What a value means depends on its field: `5` is a number, a text or a time. `binding` says so once the job is known.

A field's name may have stars: the condition is met where one of the fields that it stands for meets it. `*` is what a
query string asks that names no field.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class MatchAll:
    """Every document."""


@dataclass(frozen=True, slots=True)
class MatchNone:
    """No document."""


@dataclass(frozen=True, slots=True)
class TermClause:
    """The field has one of the values. Of `kind` depends the wording of errors alone."""

    field: str
    values: tuple[Any, ...]
    kind: str
    """term, terms, match, match_phrase, query_string."""
    ignores_case: bool = False
    lenient: bool = False
    """A value that the field cannot have is no error: no document has it."""


@dataclass(frozen=True, slots=True)
class RangeClause:
    """The field has a value in a range; None: without end."""

    field: str
    low: Any = None
    high: Any = None
    includes_low: bool = True
    includes_high: bool = False
    format: str | None = None
    time_zone: str | None = None
    kind: str = "range"
    lenient: bool = False


@dataclass(frozen=True, slots=True)
class ExistsClause:
    """The field has a value."""

    field: str
    kind: str = "exists"


@dataclass(frozen=True, slots=True)
class PatternClause:
    """The field has a text that matches: `*` any characters, `?` one, a backslash before a character means that."""

    field: str
    pattern: str
    kind: str
    """wildcard, prefix (the pattern is a text, then), query_string."""
    ignores_case: bool = False
    lenient: bool = False


@dataclass(frozen=True, slots=True)
class NotClause:
    """The document does not meet the condition."""

    of: "Clause"


@dataclass(frozen=True, slots=True)
class BoolClause:
    """The document meets all of `must`, and at least so many of `should`."""

    must: tuple["Clause", ...] = ()
    should: tuple["Clause", ...] = ()
    at_least: int = 0


Clause = MatchAll | MatchNone | TermClause | RangeClause | ExistsClause | PatternClause | NotClause | BoolClause

MATCH_ALL = MatchAll()
MATCH_NONE = MatchNone()
