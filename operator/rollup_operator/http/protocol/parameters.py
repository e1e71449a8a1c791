"""Query parameters as Elasticsearch reads them: the last one wins, and an unknown name is refused."""

from collections.abc import Iterable

from aiohttp import web

from rollup_operator.http.protocol import errors
from rollup_operator.http.protocol.dialects import Dialect
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.model.time_values import TimeValue, parse_time_value
from rollup_operator.query.sources import IndexOptions

COMMON = frozenset({"pretty", "human", "format", "filter_path", "error_trace"})
"""Every call takes these."""

EXPAND_WILDCARDS = frozenset({"open", "closed", "hidden", "none", "all"})
"""What wildcards may be set to match."""

ALIKE = 0.5
"""A known name is suggested when fewer edits than this part of its length lead to it."""

_SUGGESTED, _NAMED = 5, 20
"""How many unknown parameters are compared with the known ones, and how many an error names."""

_LONGEST_NAME = 64
"""Longer names are not worth comparing."""


class Parameters:
    """The query of one request. Ask for each parameter that the call knows, then call `finish`."""

    def __init__(self, request: web.Request, dialect: Dialect) -> None:
        self._dialect = dialect
        self._given = dict(request.query.items())
        self._path = request.path
        self._known = set(COMMON)

    def text(self, name: str) -> str | None:
        """Return a parameter as it was given."""
        self._known.add(name)
        return self._given.get(name)

    def boolean(self, name: str, default: bool) -> bool:
        """Read `true` or `false`; no value means true. Raises ApiError 400."""
        value = self.text(name)
        if value is None:
            return default
        if value in ("", "true"):
            return True
        if value == "false":
            return False
        raise errors.illegal_argument(f"Failed to parse value [{value}] as only [true] or [false] are allowed.")

    def time(self, name: str, default: str) -> TimeValue:
        """Read a time value. Raises ApiError 400."""
        value = self.text(name)
        try:
            return parse_time_value(
                default if value is None else value, name, negative=not self._dialect.refuses_negative_times
            )
        except ValueError as e:
            raise ApiError(400, self._dialect.time_value_error, str(e)) from e

    def index_options(self) -> IndexOptions:
        """Read how names of indices are to be resolved. Raises ApiError 400."""
        self.boolean("ignore_throttled", False)
        expand = [word.strip() for word in (self.text("expand_wildcards") or "open").split(",")]
        for word in expand:
            if word not in EXPAND_WILDCARDS:
                raise errors.illegal_argument(f"No valid expand wildcard value [{word}]")
        return IndexOptions(
            ignore_unavailable=self.boolean("ignore_unavailable", False),
            allow_no_indices=self.boolean("allow_no_indices", True),
            expands="open" in expand or "all" in expand,
        )

    def finish(self) -> None:
        """Raise ApiError 400 where the query has parameters that the call does not know."""
        if unknown := sorted(set(self._given) - self._known):
            raise _unrecognized(self._path, unknown, self._known)


def _unrecognized(path: str, unknown: Iterable[str], known: Iterable[str]) -> ApiError:
    names = list(unknown)
    described = [f"[{name}]{suggestion(name, known)}" for name in names[:_SUGGESTED]]
    described += [f"[{name}]" for name in names[_SUGGESTED:_NAMED]]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    plural = "s" if len(names) > 1 else ""
    return errors.illegal_argument(
        f"request [{path}] contains unrecognized parameter{plural}: {', '.join(described)}{more}"
    )


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return what to add to an error about `name`: the known names that it resembles, if any."""
    if len(name) > _LONGEST_NAME:
        return ""
    scored = sorted((_edits(name, k) / max(len(name), len(k)), k) for k in known)
    near = [k for share, k in scored if share < ALIKE]
    if not near:
        return ""
    return f" -> did you mean [{near[0]}]?" if len(near) == 1 else f" -> did you mean any of [{', '.join(near)}]?"


def _edits(a: str, b: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]
