"""The body of `_msearch`: a line that says what to search, then a line with the request, and so on. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.reading.json_values import boolean
from rollup_operator.query.sources import IndexOptions, names_in

MOST_ITEMS = 100
"""Searches of one call. A dashboard sends 10 to 40."""

_IGNORED = frozenset(
    {
        "search_type",
        "preference",
        "routing",
        "request_cache",
        "allow_partial_search_results",
        "ccs_minimize_roundtrips",
        "ignore_throttled",
        "max_concurrent_shard_requests",
        "type",
        "types",
    }
)
"""What a header may say without a difference to an answer from summaries."""


@dataclass(frozen=True, slots=True)
class Item:
    """One search of the call."""

    names: tuple[str, ...]
    options: IndexOptions
    body: Mapping[str, Any]


def items(data: bytes, names: Sequence[str], options: IndexOptions) -> list[Item]:
    """Read a body. `names` and `options` count where a header says nothing.

    Raises SearchRefused where it cannot be told which line is what.
    """
    if not data.endswith(b"\n"):
        raise SearchRefused("The msearch request must be terminated by a newline [\n]")
    lines = data.split(b"\n")[:-1]
    if len(lines) % 2:
        # A header may be left empty; a line without content at the end is a mistake that clients make.
        if lines[-1].strip():
            raise SearchRefused("Validation Failed: 1: the last search has a header and no body;")
        lines.pop()
    if not lines:
        raise SearchRefused("Validation Failed: 1: no requests added;", kind="action_request_validation_exception")
    if len(lines) // 2 > MOST_ITEMS:
        raise SearchRefused(f"[{len(lines) // 2}] searches in one call, more than the limit of [{MOST_ITEMS}]")
    return [
        _item(_object(lines[i], i) if lines[i].strip() else {}, _object(lines[i + 1], i + 1), names, options)
        for i in range(0, len(lines), 2)
    ]


def _object(line: bytes, number: int) -> Mapping[str, Any]:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as e:
        raise SearchRefused(f"[{number + 1}:{e.pos + 1}] {e.msg}", kind="x_content_parse_exception") from e
    if not isinstance(found, dict):
        raise SearchRefused(f"[{number + 1}:1] line is no JSON object", kind="x_content_parse_exception")
    return found


def _item(header: Mapping[str, Any], body: Mapping[str, Any], names: Sequence[str], options: IndexOptions) -> Item:
    for key, value in header.items():
        match key:
            case "index" | "indices":
                names = _names(value, key)
            case "ignore_unavailable":
                options = replace(options, ignore_unavailable=boolean(value))
            case "allow_no_indices":
                options = replace(options, allow_no_indices=boolean(value))
            case "expand_wildcards" | "expandWildcards":
                words = _names(value, key)
                options = replace(options, expands=not words or "open" in words or "all" in words)
            case _ if key not in _IGNORED:
                raise SearchRefused(f"key [{key}] is not supported in the metadata section")
    return Item(tuple(names), options, body)


def _names(value: object, key: str) -> list[str]:
    given = value if isinstance(value, list) else [value]
    parts = [part for part in given if isinstance(part, str)]
    if len(parts) < len(given):
        raise SearchRefused(f"key [{key}] in the metadata section must be a name, or a list of names")
    return [name for part in parts for name in names_in(part)]
