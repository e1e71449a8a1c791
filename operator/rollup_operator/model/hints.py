"""Says what there is in place of a name that there is not: what it may mean, and the rest. Pure.

Names may come from anybody: what is compared is cut, and the comparison is linear in it.
"""

import heapq
import re
from collections.abc import Iterable, Sequence

_LONGEST = 64
"""Characters of a name that are compared."""
_COMPARED = 2000
_MEANT = 3
_SHOWN = 10
_ALIKE = 0.5
"""How much of two names' pairs of letters must be the same."""
_NUMBERS = re.compile(r"(?<![a-zA-Z0-9])[0-9][0-9._-]*(?![a-zA-Z])")


class Names:
    """What there is, in order: made once, and compared with each name that there is not."""

    def __init__(self, there: Iterable[str], *, compared: int = _COMPARED) -> None:
        """`compared`: how many are compared, the first ones."""
        self._names = list(dict.fromkeys(there))
        self._compared = [(each, plain, _pairs(plain)) for each in self._names[:compared] for plain in (_plain(each),)]

    def instead(self, name: str) -> str:
        """Say what `name` may mean and what there is, as in `did you mean 'b'? There are 'a', 'b'`; "" for nothing."""
        if not (names := self._names):
            return ""
        shown = ", ".join(map(repr, names[:_SHOWN]))
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        are = "is" if len(names) == 1 else "are"
        if not (meant := self.near(name)):
            return f"there {are} {shown}{more}"
        if len(meant) == len(names):
            return f"did you mean {' or '.join(map(repr, meant))}?"
        return f"did you mean {' or '.join(map(repr, meant))}? There {are} {shown}{more}"

    def near(self, name: str) -> list[str]:
        """Return the names that `name` may mean, the likeliest first; one, if it differs in case or signs alone."""
        wanted = _plain(name)
        if same := [each for each, plain, _ in self._compared if plain == wanted]:
            return same[:1]
        pairs = _pairs(wanted)
        scored = ((-_likeness(pairs, of), each) for each, _, of in self._compared)
        return [each for _, each in heapq.nsmallest(_MEANT, (found for found in scored if -found[0] >= _ALIKE))]


def instead(name: str, there: Iterable[str]) -> str:
    """Say what `name` may mean and what there is, as `Names` does. `there` is listed in its order."""
    return Names(there).instead(name)


def nothing_matches(problem: str, hint: str) -> str:
    """Return the error of a pattern that matches nothing, which a user can correct or somebody else can fulfil."""
    end = "" if hint.endswith("?") else "."
    return f"{problem}{hint and ': '}{hint}{end} Correct it, or create what it names: the job then goes on by itself"


def near(name: str, there: Sequence[str]) -> list[str]:
    """Return the names that `name` may mean, as `Names` does."""
    return Names(there).near(name)


def series(names: Iterable[str]) -> list[str]:
    """Return names in order, each series of names that differ in numbers alone once, as in `logs-*`."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        found.setdefault(_NUMBERS.sub("*", name), []).append(name)
    return [pattern if len(of) > 1 else of[0] for pattern, of in found.items()]


def _plain(name: str) -> str:
    return "".join(c for c in name[:_LONGEST].lower() if c.isalnum())


def _pairs(plain: str) -> set[str]:
    """Return the pairs of letters, the first and the last with the edge."""
    whole = f"^{plain}$" if plain else ""
    return {whole[i : i + 2] for i in range(len(whole) - 1)}


def _likeness(one: set[str], other: set[str]) -> float:
    return 2 * len(one & other) / (len(one) + len(other)) if one and other else 0.0
