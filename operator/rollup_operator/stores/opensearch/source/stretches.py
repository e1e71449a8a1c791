"""Which time ranges to search, in which order, and what is left of each. Pure.

A search looks only at whole buckets of a stretch, so a page costs no more than its content, even if the cluster
cannot stop early. A stretch is cut to hold about a page. The rest of a stretch that did not fit into a page is
searched next, before any later stretch is handed out: so pages come in the order of their keys, however many are read
side by side.

    written ──┬───── stretch 1 ─────┬───── stretch 2 ─────┬───── stretch 3 ─────┬─ not cut yet ─┬──▶ time
              │           │         │ read side by side   │ not started         │               └ the bound
              │ its page  │ its rest: searched before stretch 3                 └ `begin`
              └ the position
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rollup_operator.rollup.bounds import Bounds

Key = Mapping[str, Any]

_SIDE_BY_SIDE = 0.9
"""Pages per stretch if several are read at once: a stretch that holds more than a page delays the later ones."""
_ALONE = 1.5
"""Pages per stretch otherwise: the rest is cut again. A little more than a page, so that pages are full."""
_GROW = 2.0
_NOTHING = 8.0
"""How much longer the next stretch is after one without a bucket."""


@dataclass(eq=False, slots=True)
class Stretch:
    """The buckets of [begin, end) after the key `after`."""

    begin: int
    end: int
    after: Key | None
    started: bool = False


@dataclass
class StretchQueue:
    """The stretches of a run that are begun and not handed out yet, in order, followed by the uncut rest."""

    bounds: Bounds
    begin: int
    after: Key | None
    bound: int
    first_ms: int | None
    last_ms: int | None
    """Approximate times of the first and last document; None: unknown. No stretch is cut after the last one."""
    parallelism: int = 1
    stretches: list[Stretch] = field(default_factory=list)
    _uncut: bool = True
    """From `begin`, after `after`, to the bound."""
    _bucket_ms: float | None = None
    """Source time per bucket."""

    def __post_init__(self) -> None:
        self._uncut = self.begin < self.bound

    @property
    def ended(self) -> bool:
        """Whether nothing is left to hand out."""
        return not self.stretches and not self._uncut

    def start(self, size: int) -> Stretch | None:
        """Return the first stretch that is not started, cut to about `size` buckets if needed; or None."""
        waiting = next((s for s in self.stretches if not s.started), None)
        if waiting is None and self._uncut:
            waiting = Stretch(self.begin, self._end(size), self.after)
            self.stretches.append(waiting)
            self.begin, self.after = waiting.end, None
            self._uncut = waiting.end < self.bound
        if waiting is not None:
            waiting.started = True
        return waiting

    def found(self, stretch: Stretch, buckets: int, rest: tuple[int, Key] | None) -> None:
        """Note the result of a search. `rest`: time and key of its last bucket if more may follow."""
        self._learn(stretch, buckets, rest)
        if rest is not None:
            self._follow(stretch, *rest)
        if not buckets:
            self.stretches.remove(stretch)

    def shorten(self, stretch: Stretch, begin: int) -> None:
        """Cut off the second half of the rest of a stretch from `begin` on: it is searched after the first half."""
        first, last = max(begin, self.first_ms or 0), min(stretch.end, (self.last_ms or self.bound) + 1)
        middle = self.bounds.round_down((first + last) // 2)
        if begin < middle < stretch.end:
            self._follow(stretch, middle, None)
            stretch.end = middle

    def _follow(self, stretch: Stretch, begin: int, after: Key | None) -> None:
        """Let a new stretch from `begin` on follow this one, up to where it ends now."""
        i = self.stretches.index(stretch)
        if i == len(self.stretches) - 1:
            self.begin, self.after, self._uncut = begin, after, True
        else:
            self.stretches.insert(i + 1, Stretch(begin, stretch.end, after))

    def _end(self, size: int) -> int:
        if self._bucket_ms is None or self.last_ms is None:
            return self.bound
        pages = _SIDE_BY_SIDE if self.parallelism > 1 else _ALONE
        reach = self.begin + self._bucket_ms * size * pages
        if reach > min(self.last_ms, self.bound):
            return self.bound
        end = self.bounds.round_down(int(reach))
        return min(self.bound, end if end > self.begin else self.bounds.next_edge(self.begin))

    def _learn(self, stretch: Stretch, buckets: int, rest: tuple[int, Key] | None) -> None:
        end = rest[0] if rest is not None else min(stretch.end, (self.last_ms or self.bound) + 1)
        took = max(1, end - max(stretch.begin, self.first_ms or 0))
        if buckets:
            new = took / buckets
            self._bucket_ms = new if self._bucket_ms is None else min(new, self._bucket_ms * _GROW)
        elif self._bucket_ms is not None:
            self._bucket_ms *= _NOTHING
