"""Where the commands to copy are in a text. Pure."""

import re
from typing import NamedTuple

_END = r"(?:[.,;)]?$|[.,;)]\s)"
_WORD = rf"""(?:'[^']*'|"[^"]*"|(?!{_END})[^\s'"])+"""
_MOST = 8
"""Beginnings in a text of which commands are looked for: each may be followed to the text's end."""
_COMMAND = re.compile(rf"(?<=: )(?:kubectl|rollup-operator)(?: {_WORD})+(?={_END})")


class TextPart(NamedTuple):
    """A part of a text."""

    text: str
    is_command: bool = False


def parts(text: str) -> list[TextPart]:
    """Part a text into words and commands to copy; the result is never empty.

    A command to copy comes after a colon, and lasts until the text ends or a word ends with `.`, `,`, `;` or `)`. That
    mark is left out. In a text with very many commands none is found.
    """
    if text.count(": kubectl ") + text.count(": rollup-operator ") > _MOST:
        return [TextPart(text.strip())]
    found, at = [], 0
    for copied in _COMMAND.finditer(text):
        found += [TextPart(text[at : copied.start()].strip()), TextPart(copied[0], is_command=True)]
        at = copied.end() + (text[copied.end() :] != "")  # the mark, unless the text ends
    found.append(TextPart(text[at:].strip()))
    return [part for part in found if part.text] or [TextPart("")]
