"""Elasticsearch's `filter_path`: which parts of an answer the client wants.

It is a comma-separated list of paths with dots between names. `*` stands for any part of a name, `**` for any number
of names, a leading `-` excludes what it matches, and a backslash escapes a dot. Lists are searched element by
element.

Callers choose the paths, so their work is bounded: in number, in the matching, which never backtracks, and in all
comparisons of one answer. The result for a name is computed once: the jobs of a list all have the same names.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from rollup_operator.concurrency.portions import Work
from rollup_operator.http.protocol import errors
from rollup_operator.model.glob import Glob

Path = tuple[Glob | None, ...]
"""One path; None stands for `**`."""

MOST_PATHS = 64
"""Paths of one filter."""

MOST_NAMES = 256
"""Names in all paths of one filter: what has been read is kept for the next call."""

MOST_ANY_DEPTH = 8
"""How often `**` may occur in one filter: each continues at every depth of an answer."""

MOST_STEPS = 2_000_000
"""Comparisons for one answer, some tenths of a second. Ten thousand jobs with ordinary names take some thousands."""

_NOTHING = object()
"""Stands for a value of which a filter keeps no part. None would be a value."""

_SCALARS = (str, int, float, type(None))

_DOT = re.compile(r"(?<!\\)\.")


Place = tuple[int, int]
"""A path, by its number, and how many of its names have been matched."""


def _as_it_is(item: object) -> object:
    return item


class Filter:
    """The paths of one request; without any it leaves an answer as it is."""

    def __init__(self, text: str = "") -> None:
        """Read the paths. Raises ApiError 400 for more than a filter may have."""
        self._wanted, self._unwanted = _parse(text)

    def applied(self, answer: dict[str, Any], packed: Callable[[Any], object] = _as_it_is) -> Work[dict[str, Any]]:
        """Return the wanted parts of an answer. An iterator in it stands for a list whose items are made on the way.

        Of a list that lies in no other one, what is kept of each item is replaced by what `packed` makes of it at once.
        Raises ApiError 400 where the answer has so many names that it takes more than MOST_STEPS.
        """
        wanted = _Matching(self._wanted).begin if self._wanted else None
        unwanted = _Matching(self._unwanted).begin if self._unwanted else None
        kept = yield from _kept(answer, wanted, unwanted, packed)
        return kept if isinstance(kept, dict) else {}


def _kept(
    value: object, wanted: "_State | None", unwanted: "_State | None", packed: Callable[[Any], object] | None
) -> Work[object]:
    """Return what is left of a value, or _NOTHING.

    `wanted` is None where all is wanted, `unwanted` where nothing is unwanted, `packed` within a list.
    """
    if wanted is None and unwanted is None and packed is None:
        return value
    yield
    if isinstance(value, dict):
        return (yield from _kept_of_object(value, wanted, unwanted, packed))
    if isinstance(value, list) or (packed is not None and isinstance(value, Iterator)):
        items = []
        for item in value:
            if (part := (yield from _kept(item, wanted, unwanted, None))) is not _NOTHING:
                items.append(part if packed is None else packed(part))
                yield
        return items if items or wanted is None else _NOTHING
    return value if wanted is None else _NOTHING


def _kept_of_object(
    value: dict[str, object],
    wanted: "_State | None",
    unwanted: "_State | None",
    packed: Callable[[Any], object] | None,
) -> Work[object]:
    kept: dict[str, object] = {}
    is_wanted = wanted is None
    for name, inner in value.items():
        wanted_below, unwanted_below = wanted, unwanted
        if wanted is not None:
            if (wanted_below := wanted.next.get(name)) is None:
                wanted_below = wanted.after(name)
                yield
            if not wanted_below.places:
                continue
            if wanted_below.full:
                wanted_below = None
        if unwanted is not None:
            if (unwanted_below := unwanted.next.get(name)) is None:
                unwanted_below = unwanted.after(name)
                yield
            if unwanted_below.full:
                # What is left out makes its object wanted all the same.
                is_wanted = is_wanted or (yield from _kept(inner, wanted_below, None, None)) is not _NOTHING
                continue
            if not unwanted_below.places:
                unwanted_below = None
        if isinstance(inner, _SCALARS):  # most of an answer: what follows would say the same
            part: object = inner if wanted_below is None else _NOTHING
        else:
            part = yield from _kept(inner, wanted_below, unwanted_below, packed)
        if part is not _NOTHING:
            kept[name] = part
            is_wanted = True
    return kept if is_wanted else _NOTHING


class _State:
    """How far paths have come at one place of an answer."""

    __slots__ = ("_matching", "full", "next", "places")

    def __init__(self, places: frozenset[Place], matching: "_Matching", *, full: bool) -> None:
        self._matching = matching
        self.places = places
        self.full = full
        """A path has matched to its end."""
        self.next: dict[str, _State] = {}
        """What each name met so far leads to."""

    def after(self, name: str) -> "_State":
        """Work out how far the paths have come after `name`. Raises ApiError 400 where that takes too much."""
        found = self.next[name] = self._matching.after(self.places, name)
        return found


class _Matching:
    """Matches the names of one answer with paths."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._steps = 0
        self._states: dict[frozenset[Place], _State] = {}
        self.begin = self._state({(path, 0) for path in range(len(paths))})

    def _state(self, found: Iterable[Place]) -> _State:
        places = frozenset(found)
        if (known := self._states.get(places)) is None:
            full = any(at == len(self._paths[path]) for path, at in places)
            known = self._states[places] = _State(places, self, full=full)
        return known

    def after(self, reached: Iterable[Place], name: str) -> _State:
        """Return how far paths that have come to those places come with `name`. Raises ApiError 400."""
        places: set[Place] = set()
        for path, at in reached:
            names = self._paths[path]
            following = at
            if names[at] is None:
                places.add((path, at))  # `**` takes this name and continues
                following += 1  # or takes none
                if following == len(names):
                    places.add((path, following))
                    continue
            if (head := names[following]) is not None:
                self._steps += head.steps
                if head.matches(name):
                    places.add((path, following + 1))
        if self._steps > MOST_STEPS:
            raise errors.illegal_argument(
                f"[filter_path] takes more than [{MOST_STEPS}] comparisons for this answer, which is the limit; "
                "give fewer paths, or paths with fewer wildcards"
            )
        return self._state(places)


@lru_cache(maxsize=64)
def _parse(text: str) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    if text.count(",") >= MOST_PATHS:
        raise errors.illegal_argument(
            f"[filter_path] has more than [{MOST_PATHS}] paths, which is the limit; give fewer paths"
        )
    if text.count(".") + text.count(",") >= MOST_NAMES:
        raise errors.illegal_argument(
            f"[filter_path] has more than [{MOST_NAMES}] names, which is the limit; give fewer or shorter paths"
        )
    wanted: list[Path] = []
    unwanted: list[Path] = []
    for part in text.split(","):
        path = part.strip()
        kind = unwanted if path.startswith("-") else wanted
        if path := path.removeprefix("-"):
            kind.append(_path(_DOT.split(path)))
    if sum(names.count(None) for names in (*wanted, *unwanted)) > MOST_ANY_DEPTH:
        raise errors.illegal_argument(
            f"[filter_path] has [**] more than [{MOST_ANY_DEPTH}] times, which is the limit; "
            "write out the names that lead to what is wanted"
        )
    return tuple(wanted), tuple(unwanted)


def _path(names: Iterable[str]) -> Path:
    path: list[Glob | None] = []
    for name in names:
        if name != "**":
            path.append(Glob.of(name.replace("\\.", ".")))
        elif path[-1:] != [None]:
            path.append(None)  # several `**` in a row are one
    return tuple(path)
