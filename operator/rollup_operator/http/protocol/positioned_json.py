"""Reads JSON and records where each value stands, for Elasticsearch's errors name it: `[line:column]`, from 1."""

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from json import JSONDecodeError, JSONDecoder

from rollup_operator.query.reading.json_values import token

Scalar = str | int | float | bool | None

DEEPEST = 64
"""Levels of nesting; more are refused."""

MOST_VALUES = 10_000
"""Values in a text, within each other and side by side; more are refused. The largest job has fewer than 4,000."""

_BLANK = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS: Mapping[str, Scalar] = {"true": True, "false": False, "null": None}
_LONGEST_NUMBER = 400
_STRINGS = JSONDecoder()


@dataclass(frozen=True, slots=True)
class Position:
    """Where a value begins."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


class NotJson(ValueError):
    """The text is no JSON; `at` is where reading ended."""

    def __init__(self, at: Position, message: str) -> None:
        super().__init__(message)
        self.at = at


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands."""

    value: "Scalar | list[Node] | dict[str, Member]"
    at: Position

    @property
    def token(self) -> str:
        """What kind of value it is, in the words of Elasticsearch's errors."""
        return token(self.value)

    def plain(self) -> object:
        """Return the value without positions."""
        if isinstance(self.value, dict):
            return {name: member.node.plain() for name, member in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value


@dataclass(frozen=True, slots=True)
class Member:
    """A value of an object, and where its name stands."""

    node: Node
    at: Position


def read_json(data: bytes) -> Node:
    """Read a whole text. Raises NotJson."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        before = data[: e.start].decode("utf-8-sig", errors="replace")
        raise NotJson(_JsonReader(before).position(len(before)), "Invalid UTF-8") from e
    reader = _JsonReader(text)
    node, end = reader.value(reader.skip(0), 0)
    if (end := reader.skip(end)) < len(text):
        raise reader.wrong(end, "expected end of content")
    return node


class _JsonReader:
    """A recursive descent over one text. Each method takes an offset, and returns what it read and where that ends."""

    def __init__(self, text: str) -> None:
        self._text, self._count = text, 0
        self._ends = [match.start() for match in re.finditer("\n", text)]

    def position(self, offset: int) -> Position:
        """Return line and column."""
        line = bisect_left(self._ends, offset)
        return Position(line + 1, offset - (self._ends[line - 1] if line else -1))

    def wrong(self, offset: int, expected: str) -> NotJson:
        """Return the error for what stands at `offset`."""
        at = self.position(offset)
        if offset >= len(self._text):
            return NotJson(at, f"Unexpected end-of-input: {expected}")
        found = self._text[offset]
        return NotJson(at, f"Unexpected character ('{found}' (code {ord(found)})): {expected}")

    def skip(self, offset: int) -> int:
        """Return where the next token begins."""
        match = _BLANK.match(self._text, offset)
        assert match is not None
        return match.end()

    def value(self, offset: int, depth: int) -> tuple[Node, int]:
        """Read the value that begins at `offset`."""
        at, first = self.position(offset), self._text[offset : offset + 1]
        if depth > DEEPEST:
            raise NotJson(at, f"Too many levels: at most {DEEPEST} are read")
        self._count += 1
        if self._count > MOST_VALUES:
            raise NotJson(at, f"Too many values: at most {MOST_VALUES} are read")
        if first == "{":
            members, end = self._object(offset + 1, depth + 1)
            return Node(members, at), end
        if first == "[":
            nodes, end = self._array(offset + 1, depth + 1)
            return Node(nodes, at), end
        scalar, end = self._string(offset) if first == '"' else self._atom(offset)
        return Node(scalar, at), end

    def _object(self, offset: int, depth: int) -> tuple[dict[str, Member], int]:
        members: dict[str, Member] = {}
        offset = self.skip(offset)
        if self._is(offset, "}"):
            return members, offset + 1
        while True:
            if not self._is(offset, '"'):
                raise self.wrong(offset, "was expecting double-quote to start field name")
            at = self.position(offset)
            name, offset = self._string(offset)
            if name in members:
                raise NotJson(at, f"Duplicate field '{name}'")
            offset = self.skip(offset)
            if not self._is(offset, ":"):
                raise self.wrong(offset, "was expecting a colon to separate field name and value")
            node, offset = self.value(self.skip(offset + 1), depth)
            members[name] = Member(node, at)
            offset = self.skip(offset)
            if self._is(offset, "}"):
                return members, offset + 1
            if not self._is(offset, ","):
                raise self.wrong(offset, "was expecting comma to separate Object entries")
            offset = self.skip(offset + 1)

    def _array(self, offset: int, depth: int) -> tuple[list[Node], int]:
        nodes: list[Node] = []
        offset = self.skip(offset)
        if self._is(offset, "]"):
            return nodes, offset + 1
        while True:
            node, offset = self.value(offset, depth)
            nodes.append(node)
            offset = self.skip(offset)
            if self._is(offset, "]"):
                return nodes, offset + 1
            if not self._is(offset, ","):
                raise self.wrong(offset, "was expecting comma to separate Array entries")
            offset = self.skip(offset + 1)

    def _string(self, offset: int) -> tuple[str, int]:
        try:
            text, end = _STRINGS.raw_decode(self._text, offset)
            text.encode()
        except JSONDecodeError as e:
            what = e.msg.removesuffix(": ").removesuffix(" at").removesuffix(" starting")
            raise NotJson(self.position(e.pos), f"Illegal string value ({what})") from e
        except UnicodeEncodeError as e:
            raise NotJson(self.position(offset), "Illegal string value (half of a surrogate pair)") from e
        return str(text), end

    def _atom(self, offset: int) -> tuple[Scalar, int]:
        match = _NUMBER.match(self._text, offset)
        if match is None:
            for word, value in _WORDS.items():
                if self._text.startswith(word, offset):
                    return value, offset + len(word)
            raise self.wrong(offset, "expected a valid value (JSON String, Number, Array, Object or token)")
        text = match[0]
        if len(text) > _LONGEST_NUMBER:
            raise NotJson(self.position(offset), "Numeric value out of range")
        return float(text) if match[1] or match[2] else int(text), match.end()

    def _is(self, offset: int, character: str) -> bool:
        return self._text.startswith(character, offset)
