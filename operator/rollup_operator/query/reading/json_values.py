"""Reads values of a request's JSON as Elasticsearch's parsers do: numbers may be texts, a fraction is cut off. Pure."""

from dataclasses import dataclass, field
from math import isfinite
from typing import Any, NoReturn

from rollup_operator.query.errors import SearchRefused

PARSING = "parsing_exception"
X_CONTENT = "x_content_parse_exception"
NUMBER_FORMAT = "number_format_exception"

LONGEST_NAME = 512
"""Characters of the name of a field or of an aggregation."""

MOST_ZONES = 4

_LONG = 2**63


@dataclass(slots=True)
class RequestBudget:
    """What one request may still have. Whoever reads a part of it takes from here."""

    clauses: int = 1_024
    values: int = 10_000
    """Values of all conditions together."""
    aggregations: int = 1_000
    characters: int = 20_000
    """Of all query strings together."""
    expressions: int = 16
    """Regular expressions in query strings."""
    fields: set[str] = field(default_factory=set)
    """The fields that the request names."""
    zones: set[str] = field(default_factory=set)

    def take_clause(self) -> None:
        """Count a clause. Raises SearchRefused."""
        self.clauses -= 1
        if self.clauses < 0:
            raise SearchRefused("Query contains too many nested clauses; maxClauseCount is set to 1024")

    def take_values(self, count: int) -> None:
        """Count values. Raises SearchRefused."""
        self.values -= count
        if self.values < 0:
            raise SearchRefused("a search may have at most [10000] values in its conditions together")

    def take_aggregation(self) -> None:
        """Count an aggregation. Raises SearchRefused."""
        self.aggregations -= 1
        if self.aggregations < 0:
            raise SearchRefused("a search may have at most [1000] aggregations")

    def take_query_string(self, text: str) -> None:
        """Count the characters of a query string. Raises SearchRefused."""
        self.characters -= len(text)
        if self.characters < 0:
            raise SearchRefused("the query strings of a search may have at most [20000] characters together")

    def take_expression(self) -> None:
        """Count a regular expression. Raises SearchRefused."""
        self.expressions -= 1
        if self.expressions < 0:
            raise SearchRefused("a search may have at most [16] regular expressions")

    def zone(self, given: str) -> str:
        """Remember a time zone. What its clock did has to be found out, which takes a while. Raises SearchRefused."""
        self.zones.add(given)
        if len(self.zones) > MOST_ZONES:
            raise SearchRefused(f"a search may name at most [{MOST_ZONES}] time zones")
        return given

    def name(self, given: str) -> str:
        """Remember the name of a field. Raises SearchRefused."""
        if len(given) > LONGEST_NAME:
            raise SearchRefused(f"a field's name has at most [{LONGEST_NAME}] characters, this one has [{len(given)}]")
        self.fields.add(given)
        return given


def token(value: Any) -> str:
    """Return what kind of value it is, in the words of Elasticsearch's errors."""
    match value:
        case dict():
            return "START_OBJECT"
        case list():
            return "START_ARRAY"
        case str():
            return "VALUE_STRING"
        case bool():
            return "VALUE_BOOLEAN"
        case None:
            return "VALUE_NULL"
    return "VALUE_NUMBER"


def shown(text: str) -> str:
    """Cut a text of the caller's for an error."""
    return text if len(text) <= 200 else text[:197] + "..."


def no_number(value: Any) -> NoReturn:
    """Refuse what is no number."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    raise SearchRefused(f'For input string: "{shown(text)}"', NUMBER_FORMAT)


def integer(value: Any) -> int:
    """Read a whole number. Raises SearchRefused."""
    if type(value) is int and -_LONG <= value < _LONG:
        return value
    number = decimal(value)
    if not -_LONG <= number < _LONG:
        no_number(value)
    return int(number)


def decimal(value: Any) -> float:
    """Read a number. Raises SearchRefused."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        no_number(value)
    try:
        if isinstance(value, str) and (len(value) > 400 or "_" in value or not value.isascii()):
            no_number(value)
        number = float(value)
    except (ValueError, OverflowError):
        no_number(value)
    if not isfinite(number):
        no_number(value)
    return number


def boolean(value: Any) -> bool:
    """Read a truth value. Raises SearchRefused."""
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise SearchRefused(f"Failed to parse value [{shown(str(value))}] as only [true] or [false] are allowed.")


def text_of(value: Any) -> str:
    """Return a scalar as the text that it is written as."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)
