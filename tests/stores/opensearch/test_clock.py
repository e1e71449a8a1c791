"""A real cluster's clock, and runs of a process whose own is ahead of it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from rollup_operator.stores.errors import ClockSkewed
from rollup_operator.stores.opensearch import records
from support.clustered import Clustered, clustered
from support.embedded import Row, agree, truth
from support.rounding import HOUR, hour
from support.store_http import StoreHttp

ALLOWED = timedelta(minutes=5)
YEARS = timedelta(days=4 * 365)


def minutes(first: int, end: int) -> list[Row]:
    """A row a minute, in [first, end)."""
    return [(t, float(t // 60_000 % 100), "a", 1) for t in range(first, end, 60_000)]


@pytest.fixture
async def at(opensearch: StoreHttp) -> AsyncIterator[Clustered]:
    async with clustered(opensearch, now=datetime.now(UTC), clock_skew=ALLOWED) as it:
        yield it


async def test_a_cluster_tells_its_time(node: StoreHttp) -> None:
    async with clustered(node) as at:
        before = datetime.now(UTC).replace(microsecond=0)
        reading = await at.store.clock()
        assert before <= reading.at <= datetime.now(UTC)


async def test_a_run_by_a_clock_that_is_far_ahead_leaves_no_trace(at: Clustered) -> None:
    end = hour(int(at.now.timestamp() * 1000))
    at.write(minutes(end - 9 * HOUR, end + 30 * 60_000))
    right, at.now = at.now, at.now + YEARS
    before = at.node.indices()
    result = await at.run()
    assert (result.outcome, result.claim, result.released) == ("Failed", None, None)
    assert isinstance(result.error, ClockSkewed)
    assert f"and the cluster's {right.year}-" in str(result.error)
    assert at.node.indices() == before
    assert at.node.get(records.ALIAS, records.document_id(at.job().key)) is None
    at.now = right
    claim = await at.completed()
    assert claim.watermark_ms == end
    agree(at.documents(), truth(minutes(end - 9 * HOUR, end), hour))


@pytest.mark.parametrize("stray", [False, True])
async def test_what_a_clock_that_was_ahead_wrote_is_set_right_by_the_next_run(at: Clustered, stray: bool) -> None:
    """`stray`: a row of the future, which leaves the position there, too."""
    end = hour(int(at.now.timestamp() * 1000))
    future: list[Row] = [(end + 200 * 24 * HOUR, 1.0, "a", 1)] if stray else []
    rows = minutes(end - 9 * HOUR, end - 90 * 60_000)
    at.write([*rows, *future])
    right, at.now, at.clock_skew = at.now, at.now + YEARS, None
    assert len(truth(rows, hour)) + len(future) == (await at.completed()).stats.rollups_indexed
    later = minutes(end - 90 * 60_000, end)
    at.write(later)
    at.now, at.clock_skew = right, ALLOWED
    result = await at.run()
    assert result.claim is not None
    assert result.claim.watermark_ms == end
    assert "the recorded watermark" in result.message
    assert ("the recorded position" in result.message) is stray
    agree(at.documents(), truth([*rows, *later, *future], hour))
    again = await at.run()
    assert "the recorded watermark" not in again.message
    assert again.rewritten == 0
