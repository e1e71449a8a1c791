"""Cuts a stretch of time into days of whole buckets, to be compared and reported one by one. Pure.

A bucket belongs to the day, of the job's time zone, in which it begins. Longer buckets are days of their own:

    midnights    │              │              │              │
    5h           ├──┼──┼──┼──┼──┼──┼──┼──┼──┼──┼──┼──┼──
    days         ├──────────────┼──────────────┼─────────────┼
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from rollup_operator.model.job import DateHistogramGroup
from rollup_operator.rollup.bounds import Bounds, Span


def days(group: DateHistogramGroup, span: Span) -> Iterator[Span]:
    """Yield the days of a span, in order and without gaps."""
    buckets = Bounds.of(group)
    midnights = Bounds.of(DateHistogramGroup(field=group.field, calendar_interval="1d", time_zone=group.time_zone))
    begin = span.start_ms
    while begin < span.end_ms:
        end = buckets.next_edge(midnights.next_edge(begin) - 1)
        yield Span(begin, min(end, span.end_ms))
        begin = end


def joined(spans: Iterable[Span]) -> Iterator[Span]:
    """Yield adjacent spans, which come in order, as one."""
    whole: Span | None = None
    for span in spans:
        if whole is not None and whole.end_ms == span.start_ms:
            whole = Span(whole.start_ms, span.end_ms)
            continue
        if whole is not None:
            yield whole
        whole = span
    if whole is not None:
        yield whole


def bridged(chosen: Sequence[int], most: int) -> list[int]:
    """Return the numbers of the chosen days, which come in order, and of as few between them as leave `most` stretches.

    Where a hundred single days are to be read, each would cost a search of the whole source.
    """
    gaps = sorted((gap for gap in pairwise(chosen) if gap[1] - gap[0] > 1), key=lambda gap: gap[0] - gap[1])
    numbers = set(chosen)
    for left, right in gaps[most - 1 :]:
        numbers.update(range(left + 1, right))
    return sorted(numbers)
