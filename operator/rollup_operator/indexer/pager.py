"""How much to read at once: a range of whole buckets that should take a given time. Pure."""

from dataclasses import dataclass, replace

from rollup_operator.indexer.bounds import Bounds

ROWS_PER_SECOND = 20_000_000
"""Assumed before anything was measured: slow, so that the first page is not the longest."""

_GROW, _SHRINK = 4.0, 1 / 8
_NOTHING_S = 0.001


@dataclass(frozen=True, slots=True)
class Pager:
    """Ranges of `span_ms` of the source's time, so that one takes about `aim_s` seconds."""

    aim_s: float
    span_ms: float

    @classmethod
    def begin(cls, aim_s: float, hint: float | None, rows: int, first_ms: int, last_ms: int) -> "Pager":
        """Go on from what was learned (`hint`, in milliseconds of the source's time), else guess from the density."""
        if hint is not None and hint > 0:
            return cls(aim_s, hint)
        return cls(aim_s, max(1.0, aim_s * ROWS_PER_SECOND * max(1, last_ms - first_ms) / max(1, rows)))

    def end(self, bounds: Bounds, start: int, bound: int) -> int:
        """Return where the page that begins at `start` ends: an edge, at most `bound`, at least one bucket on."""
        reach = start + self.span_ms
        if reach >= bound:
            return bound
        end = bounds.round_down(int(reach))
        return min(bound, end if end > start else bounds.next_edge(start))

    def learn(self, read_ms: float, took_s: float) -> "Pager":
        """Return the pager for the next page, after a page of `read_ms` of the source's time took `took_s`.

        A page that the bound, or the length of a bucket, made much shorter than planned can only shrink the next.
        """
        factor = min(_GROW, max(_SHRINK, self.aim_s / max(_NOTHING_S, took_s)))
        if read_ms < self.span_ms / 2 and factor > 1:
            return self
        return replace(self, span_ms=max(1.0, read_ms * factor))
