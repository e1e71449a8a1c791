"""How long the request of a search to a cluster may be."""

import pytest

from rollup_operator.rollup.bounds import HOUR, Segment
from rollup_operator.stores.errors import SearchTooWide
from rollup_operator.stores.opensearch.replication import ANY
from rollup_operator.stores.opensearch.search import LONGEST_REQUEST, request
from rollup_operator.stores.search import EVERYTHING, ByTime, Documents, Fetch, Level, Number


def fetch(changes: int, metrics: int) -> Fetch:
    """Hours of a clock that changes so often, each with so many numbers."""
    segments = tuple(Segment(i * HOUR, (i + 1) * HOUR, None, offset=i % 2 * HOUR, step=HOUR) for i in range(changes))
    numbers = tuple(Number("sum", f"metric-{i}.sum.value") for i in range(metrics))
    level = Level("t", ByTime("at.date_histogram.timestamp", segments), numbers)
    return Fetch(Documents("rolled", "job"), EVERYTHING, "at.date_histogram._count", (), (level,))


def test_a_request_is_two_lines_for_each_fetch() -> None:
    body = request([fetch(60, 3), fetch(1, 1)], lambda _: ANY)
    assert body.count(b"\n") == 4
    assert body.endswith(b"\n")


def test_a_request_that_would_be_too_long_is_not_sent() -> None:
    with pytest.raises(SearchTooWide, match=f"more than {LONGEST_REQUEST} bytes.*ask for a shorter time"):
        request([fetch(600, 40)], lambda _: ANY)
