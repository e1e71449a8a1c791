"""Regular expressions that say no more than texts and wildcards do, as dashboards send for lists of values. Pure.

    (JFK|LAX)     the texts JFK and LAX
    J.*|L.X       the patterns J* and L?X

Anything else would need an engine whose time nobody bounds, and is refused.
"""

from dataclasses import dataclass
from typing import Final

MOST: Final = 256
"""Texts and patterns that one expression may stand for."""

MOST_CHARACTERS: Final = 20_000
"""Characters that are written to find them."""

_DEEPEST: Final = 8
_SIMPLE: Final = "use texts, [.], [.*], [.+], [|] and parentheses"
_SPECIAL: Final = frozenset('*+?{}[]#@&<>~^$"')
_IN_WILDCARDS: Final = frozenset("*?\\")


class NotSimple(ValueError):
    """The expression says more than texts and wildcards can."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of the things that an expression stands for."""

    pattern: str
    """In the language of wildcards."""
    text: str | None
    """The one text that matches; None: it is a pattern."""


def wildcards(regex: str) -> tuple[Alternative, ...]:
    """Return what an expression in Lucene's syntax stands for; it matches whole values. Raises NotSimple."""
    reader = _RegexReader(regex)
    found = reader.either(0)
    if reader.at < len(regex):
        raise NotSimple("[)] without its beginning")
    return tuple(found)


_EMPTY: Final = Alternative("", "")
_ONE: Final = Alternative("?", None)
_SOME: Final = Alternative("?*", None)
_ANY: Final = Alternative("*", None)


class _RegexReader:
    """A recursive descent over one expression."""

    def __init__(self, regex: str) -> None:
        self._regex, self._left = regex, MOST_CHARACTERS
        self.at = 0

    def either(self, depth: int) -> list[Alternative]:
        """Read alternatives up to a closing parenthesis or the end."""
        if depth > _DEEPEST:
            raise NotSimple("it has too many parentheses within each other")
        found: list[Alternative] = []
        current = [_EMPTY]
        while self.at < len(self._regex) and (c := self._regex[self.at]) != ")":
            if c == "|":
                found += current
                current = [_EMPTY]
                self.at += 1
            elif c == "(":
                current = self._followed(current, self._group(depth))
            else:
                current = self._followed(current, [self._any() if c == "." else self._literal()])
            if len(found) + len(current) > MOST:
                raise NotSimple(f"it stands for more than [{MOST}] values")
        return found + current

    def _group(self, depth: int) -> list[Alternative]:
        self.at += 1
        inner = self.either(depth + 1)
        if self.at == len(self._regex):
            raise NotSimple("[(] without its end")
        self.at += 1
        return inner

    def _any(self) -> Alternative:
        self.at += 1
        follows = self._regex[self.at : self.at + 1]
        if follows not in ("*", "+"):
            return _ONE
        self.at += 1
        return _ANY if follows == "*" else _SOME

    def _literal(self) -> Alternative:
        """Read characters that mean themselves."""
        text: list[str] = []
        regex = self._regex
        while self.at < len(regex) and (c := regex[self.at]) not in "().|":
            if c in _SPECIAL:
                raise NotSimple(f"{_SIMPLE}; it has [{c}]")
            if c == "\\":
                self.at += 1
                c = regex[self.at : self.at + 1]
                if not c or c.isalnum():
                    raise NotSimple(f"{_SIMPLE}; it has [\\{c}]")
            self.at += 1
            text.append(c)
        pattern = "".join(f"\\{c}" if c in _IN_WILDCARDS else c for c in text)
        return Alternative(pattern, "".join(text))

    def _followed(self, before: list[Alternative], after: list[Alternative]) -> list[Alternative]:
        self._left -= sum(len(one.pattern) + 1 for one in before) * len(after)
        self._left -= sum(len(one.pattern) for one in after) * len(before)
        if self._left < 0 or len(before) * len(after) > MOST:
            raise NotSimple(f"it stands for more than [{MOST}] values, or for too long ones")
        return [
            Alternative(
                one.pattern + two.pattern, None if one.text is None or two.text is None else one.text + two.text
            )
            for one in before
            for two in after
        ]
