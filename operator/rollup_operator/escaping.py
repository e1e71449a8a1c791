"""Text that others wrote, made fit for a terminal and for a line of a log.

Ids, patterns, fields, and what stores and API servers say, may hold characters that a terminal obeys (a title, colours,
the clipboard), that make one line look like two, or that turn the order of reading round. Whatever is shown passes
here, at the last moment and once.
"""

import json
from unicodedata import category

_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Control characters, those without a width such as marks of direction, halves of characters, those without a meaning,
ends of lines."""


def escaped(text: str, keep: str = "") -> str:
    r"""Write harmful characters as Python does: `\x1b`, `\n`, `\u202e`. Those in `keep` stay."""
    if text.isprintable():
        return text
    return "".join(c if c in keep or category(c) not in _HARMFUL else _as_python(c) for c in text)


def escaped_json(document: str) -> str:
    r"""Write harmful characters of a JSON document as `\u202e`, so that it means the same. Ends of lines stay."""
    if document.isprintable():
        return document
    return "".join(c if c == "\n" or category(c) not in _HARMFUL else json.dumps(c)[1:-1] for c in document)


def _as_python(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
