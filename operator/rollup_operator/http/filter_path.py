"""Elasticsearch's `filter_path`: which parts of an answer the client wants.

A list of paths with dots between names, separated by commas. `*` stands for any part of a name, `**` for any number of
names, a leading `-` leaves out what it matches, a backslash takes the meaning from a dot. Lists are looked through.
"""

import re
from collections.abc import Iterable
from fnmatch import translate
from functools import lru_cache
from typing import Any

Pattern = tuple[re.Pattern[str] | None, ...]
"""One path; None stands for `**`."""

MOST_PATHS = 64
"""Paths of one filter: each is tried against every name of an answer."""

_NOTHING = object()
"""Where a filter keeps no part of a value. None would be a value."""

_DOT = re.compile(r"(?<!\\)\.")


def filtered(answer: dict[str, Any], filter_path: str) -> dict[str, Any]:
    """Return the wanted parts of `answer`. A filter without any path leaves it as it is."""
    wanted, unwanted = _parse(filter_path)
    kept: object = _include(answer, wanted) if wanted else answer
    kept = _exclude(kept, unwanted)
    return kept if isinstance(kept, dict) else {}


@lru_cache(maxsize=256)
def _parse(filter_path: str) -> tuple[tuple[Pattern, ...], tuple[Pattern, ...]]:
    wanted: list[Pattern] = []
    unwanted: list[Pattern] = []
    for path in filter_path.split(","):
        text = path.strip()
        kind = unwanted if text.startswith("-") else wanted
        if text := text.removeprefix("-"):
            names = _DOT.split(text)
            # Several `**` in a row are one: trying each of them against each name would take for ever.
            kind.append(tuple(_name(n) for i, n in enumerate(names) if n != "**" or names[i - 1 : i] != ["**"]))
    return tuple(wanted), tuple(unwanted)


def _name(part: str) -> re.Pattern[str] | None:
    if part == "**":
        return None
    # Only `*` is special: `[` and `?` are ordinary characters of a name.
    return re.compile(translate(re.sub(r"([\[?])", r"[\1]", part.replace("\\.", "."))))


def _below(patterns: Iterable[Pattern], name: str) -> set[Pattern]:
    """Return what is left of each pattern after `name`; an empty one has matched in full."""
    left: set[Pattern] = set()
    for pattern in patterns:
        names = pattern
        while names and names[0] is None:
            left.add(names)  # `**` takes this name and goes on
            names = names[1:]  # or takes none
            if not names:
                left.add(names)
        if names and (head := names[0]) is not None and head.match(name):
            left.add(names[1:])
    return left


def _include(value: object, patterns: Iterable[Pattern]) -> object:
    if isinstance(value, dict):
        kept: dict[str, object] = {}
        for name, inner in value.items():
            left = _below(patterns, name)
            part = inner if () in left else _include(inner, left) if left else _NOTHING
            if part is not _NOTHING:
                kept[name] = part
        return kept or _NOTHING
    if isinstance(value, list):
        parts = [part for item in value if (part := _include(item, patterns)) is not _NOTHING]
        return parts or _NOTHING
    return _NOTHING


def _exclude(value: object, patterns: Iterable[Pattern]) -> object:
    if isinstance(value, dict):
        kept: dict[str, object] = {}
        for name, inner in value.items():
            left = _below(patterns, name)
            if () not in left:
                kept[name] = _exclude(inner, left) if left else inner
        return kept
    if isinstance(value, list):
        return [_exclude(item, patterns) for item in value]
    return value
