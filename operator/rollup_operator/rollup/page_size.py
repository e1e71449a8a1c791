"""How much to read at once: buckets for a given time, or as many buckets as suit both sides. Pure."""

from dataclasses import dataclass, replace

from rollup_operator.rollup.bounds import Bounds

ROWS_PER_SECOND = 20_000_000
"""Assumed before anything was measured: slow, so that the first page is not the longest."""

_GROW, _SHRINK = 4.0, 1 / 8
_NOTHING_S = 0.001

PAGE_BYTES = 8 * 2**20
"""The size that a page of documents may have, as estimated beforehand."""

_PATIENCE = 32
_FORGET = 0.9
"""How quickly small buckets replace large ones in the estimate, page by page."""


@dataclass(frozen=True, slots=True)
class Pager:
    """Ranges of `span_ms` of the source's time, so that one takes about `aim_s` seconds."""

    aim_s: float
    span_ms: float

    @classmethod
    def begin(cls, aim_s: float, hint: float | None, rows: int, first_ms: int, last_ms: int) -> "Pager":
        """Continue from what was learned (`hint`, in milliseconds of source time), else guess from the density."""
        if hint is not None and hint > 0:
            return cls(aim_s, hint)
        return cls(aim_s, max(1.0, aim_s * ROWS_PER_SECOND * max(1, last_ms - first_ms) / max(1, rows)))

    def end(self, bounds: Bounds, start: int, bound: int) -> int:
        """Return the end of the page that begins at `start`: an edge, at most `bound`, at least one bucket later."""
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
        # The end of a page is rounded down: what was planned grows, not what was left of it.
        planned = read_ms if factor <= 1 else max(read_ms, self.span_ms)
        return replace(self, span_ms=max(1.0, planned * factor))


@dataclass(slots=True)
class PageSize:
    """How many buckets to request at once: `limit`, or fewer if that is too much for a cluster or they are large."""

    limit: int
    size: int
    """What the cluster can take, as far as is known."""
    bucket_bytes: float
    """The size of a bucket as a document."""
    aim_bytes: int = PAGE_BYTES
    _patience: int = 2
    """This number of good pages makes the next one larger; twice as many if that was too much."""
    _good: int = 0
    _grown: bool = False

    @classmethod
    def begin(cls, limit: int, hint: float | None, bucket_bytes: float) -> "PageSize":
        """Continue from what was learned (`hint`, in buckets), else from the limit."""
        size = limit if hint is None or not hint >= 1 else min(limit, int(hint))
        return cls(limit, size, bucket_bytes)

    def ask(self) -> int:
        """Return how many buckets to request."""
        return max(1, min(self.size, self.limit, int(self.aim_bytes / max(1.0, self.bucket_bytes))))

    def failed(self, asked: int) -> None:
        """Halve after a page of `asked` buckets was too much; once, however many of them were requested at a time."""
        self.size = max(1, min(self.size, asked // 2))
        if self._grown:
            self._patience = min(_PATIENCE, self._patience * 2)
        self._good, self._grown = 0, False

    def succeeded(self, asked: int) -> None:
        """Grow back after a page of `asked` buckets went well."""
        if asked < self.size or self.size == self.limit:
            return
        self._good += 1
        if self._good >= self._patience:
            self._good, self._grown = 0, True
            self.size = min(self.limit, self.size + max(1, self.size // 4))

    def learn(self, buckets: int, size_bytes: int) -> None:
        """Learn how large documents are from `buckets` of them, at least one."""
        self.bucket_bytes = max(size_bytes / buckets, self.bucket_bytes * _FORGET)
