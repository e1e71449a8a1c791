"""Parses the long answer of a search, in a thread: no single step of it takes longer than a few milliseconds. Pure.

What parses JSON at a stroke lets nothing else of the process go on meanwhile, whichever thread it is in. So a long text
is cut where the elements of the outermost lists named `buckets` begin, and each piece is parsed by itself.

    {"aggregations": {"l0": {"buckets": [ {…} {…} {…} | {…} {…} {…} | {…} ]}}}
                                          └─ a piece ─┘ └─ a piece ─┘
"""

import re
from collections.abc import Iterator
from typing import Any

from rollup_operator.stores.opensearch.transport.answers import TooRich, whole

PIECE = 2**17
"""Bytes that are parsed at a stroke where they can be cut."""

MOST_CONTAINERS = 400_000
"""Lists and objects in the whole text: they take some 100 MB."""

# A text that never ends goes on to the end, once: else each quote within it would be tried as the beginning of one.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.?)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)
_NAME = b'"buckets"'
_DEEPEST = 12
"""So many lists within each other are cut."""


def load(raw: bytes) -> Any:
    """Return what a text of JSON says. Raises orjson.JSONDecodeError, TooRich."""
    if raw.count(b"[") + raw.count(b"{") > MOST_CONTAINERS:
        raise TooRich(f"has more than {MOST_CONTAINERS} lists and objects")
    return _load(raw, 0)


def _load(raw: bytes, depth: int) -> Any:
    if len(raw) <= PIECE or depth == _DEEPEST:
        return whole(raw)
    lists: list[list[Any]] = []
    skeleton: list[bytes] = []
    end = 0
    for begin, end_of_list, pieces in _lists(raw):
        skeleton += [raw[end:begin], b"%d" % len(lists)]
        end = end_of_list
        elements: list[Any] = []
        for first, last, alone in pieces:
            if alone and last - first > PIECE:
                elements.append(_load(raw[first:last], depth + 1))
            else:
                elements += whole(b"[%b]" % raw[first:last])
        lists.append(elements)
    return _filled(whole(b"".join([*skeleton, raw[end:]])), lists)


_Pieces = list[tuple[int, int, bool]]
"""Where each begins and ends, and whether it is one element alone."""


def _lists(raw: bytes) -> Iterator[tuple[int, int, _Pieces]]:
    """Yield where the inside of each of the outermost lists begins and ends, and its pieces; none for an empty one."""
    depth = 0
    within: int | None = None
    named = 0
    pieces: _Pieces = []
    begin = first = last = 0
    count = 0
    for token in _TOKEN.finditer(raw):
        at = token.start()
        sign = raw[at]
        if sign == 0x22:  # a text
            named = token.end() if within is None and token[0] == _NAME else 0
        elif sign in b"[{":
            if within is None and sign == 0x5B and named and raw[named:at].strip() == b":":
                within, begin, pieces, count = depth + 1, at + 1, [], 0
            elif depth == within:
                if not count:
                    first = at
                count += 1
            depth += 1
        else:
            depth -= 1
            if within is None:
                continue
            if depth == within:
                last = at + 1
                if last - first >= PIECE:
                    pieces.append((first, last, count == 1))
                    count = 0
            elif depth < within:
                if count:
                    pieces.append((first, last, count == 1))
                if pieces:
                    yield begin, at, pieces
                within = None


def _filled(found: Any, lists: list[list[Any]]) -> Any:
    """Put the lists where their numbers stand."""
    waiting = [found]
    while waiting:
        here = waiting.pop()
        inner = here.items() if isinstance(here, dict) else ()
        for name, value in inner:
            if name == "buckets" and isinstance(value, list) and len(value) == 1 and type(value[0]) is int:
                if 0 <= value[0] < len(lists):
                    here[name] = lists[value[0]]
            elif isinstance(value, dict | list):
                waiting.append(value)
        if isinstance(here, list):
            waiting += [value for value in here if isinstance(value, dict | list)]
    return found
