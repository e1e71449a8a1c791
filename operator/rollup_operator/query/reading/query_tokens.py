"""Cuts a query string into tokens, as Lucene's classic grammar does: each is the longest that fits. Pure.

Every character is read once, so the time grows with the length of the text alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rollup_operator.query.errors import SearchRefused

_BLANK: Final = " \t\n\r\u3000"
_NOT_AT_START: Final = frozenset(_BLANK + '+-!():^[]"{}~*?\\/')
_WORDS: Final = {"AND": "AND", "&&": "AND", "OR": "OR", "||": "OR", "NOT": "NOT"}
_SIGNS: Final = {"+": "+", "-": "-", "!": "NOT", "(": "(", ")": ")", ":": ":"}


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a query string."""

    kind: str
    """AND OR NOT + - ( ) : * ^ ~ TERM PREFIX WILD QUOTED REGEX RANGE BARE END."""
    text: str
    """As written; of a range, its first end. Of quoted texts and regular expressions without what is around them."""
    at: int
    other: str = ""
    """The second end of a range."""
    edges: str = ""
    """The brackets of a range."""
    quoted: tuple[bool, bool] = (False, False)
    """Which ends of a range were quoted."""


def tokens(text: str) -> list[Token]:
    """Return the tokens, END at last. Raises SearchRefused."""
    found = list(_tokens(text))
    found.append(Token("END", "<EOF>", len(text)))
    return found


def failed(text: str, at: int, why: str) -> SearchRefused:
    """Return the error for a query string that cannot be read."""
    shown = text if len(text) <= 200 else text[:197] + "..."
    return SearchRefused(f"Failed to parse query [{shown}]: {why} at column {at}", "query_shard_exception")


def _tokens(text: str) -> Iterator[Token]:
    at, end = 0, len(text)
    while at < end:
        c = text[at]
        if c in _BLANK:
            at += 1
        elif c in "+-!" and at + 1 < end and text[at + 1] in _BLANK:
            yield Token("BARE", c, at)
            at += 2
        elif c in _SIGNS:
            yield Token(_SIGNS[c], c, at)
            at += 1
        elif c == '"':
            close = _close(text, at + 1, '"')
            yield Token("QUOTED", text[at + 1 : close], at)
            at = close + 1
        elif c == "/":
            close = text.find("/", at + 1)
            while close > 0 and text[close - 1] == "\\":
                close = text.find("/", close + 1)
            if close < 0:
                raise failed(text, at, "a regular expression without its end")
            yield Token("REGEX", text[at + 1 : close], at)
            at = close + 1
        elif c in "[{":
            token, at = _range(text, at)
            yield token
        elif c in "^~":
            begin, at = at, at + 1
            while at < end and ((text[at].isascii() and text[at].isdigit()) or text[at] == "."):
                at += 1
            if c == "^" and at == begin + 1:
                raise failed(text, begin, "[^] without a number")
            yield Token(c, text[begin + 1 : at], begin)
        elif c in "]}":
            raise failed(text, at, f"[{c}] without its beginning")
        else:
            token, at = _word(text, at)
            yield token


def _close(text: str, at: int, quote: str) -> int:
    begin = at
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == quote:
            return at
        at += 1
    raise failed(text, begin - 1, "a quoted text without its end")


def _word(text: str, begin: int) -> tuple[Token, int]:
    at, stars, last_star = begin, 0, False
    while at < len(text):
        c = text[at]
        if c == "\\":
            if at + 1 == len(text):
                raise failed(text, at, "nothing follows a backslash")
            at, last_star = at + 2, False
        elif c in "*?":
            at, stars, last_star = at + 1, stars + 1, c == "*"
        elif c not in _NOT_AT_START or (at > begin and c in "+-"):
            at, last_star = at + 1, False
        else:
            break
    word = text[begin:at]
    if word == "*":
        return Token("*", word, begin), at
    if stars == 1 and last_star:
        return Token("PREFIX", word[:-1], begin), at
    if stars:
        return Token("WILD", word, begin), at
    return Token(_WORDS.get(word, "TERM"), word, begin), at


def _range(text: str, begin: int) -> tuple[Token, int]:
    """Read `[low TO high]`, of which `TO` may be missing."""
    at = begin + 1
    ends: list[tuple[str, bool]] = []
    between = False
    while True:
        while at < len(text) and text[at] in _BLANK:
            at += 1
        if at == len(text):
            raise failed(text, begin, "a range without its end")
        if text[at] in "]}":
            break
        start, quoted = at, text[at] == '"'
        if quoted:
            close = _close(text, at + 1, '"')
            piece, at = text[start + 1 : close], close + 1
        else:
            while at < len(text) and text[at] not in " ]}":
                at += 1
            piece = text[start:at]
        if piece == "TO" and not quoted and len(ends) == 1 and not between:
            between = True
        elif len(ends) == 2:
            raise failed(text, start, "a range has two ends")
        else:
            ends.append((piece, quoted))
    if len(ends) != 2:
        raise failed(text, begin, "a range has two ends")
    (low, low_quoted), (high, high_quoted) = ends
    edges = text[begin] + text[at]
    return Token("RANGE", low, begin, high, edges, (low_quoted, high_quoted)), at + 1
