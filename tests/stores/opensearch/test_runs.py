"""Runs of a job whose source and result are indices of a real cluster, with the operator's own loop."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from rollup_operator.stores.base import RollupIndex
from rollup_operator.stores.opensearch import claims
from support.clustered import FIELDS, Clustered, clustered
from support.embedded import Row, agree, truth
from support.rounding import HOUR, hour
from support.store_http import StoreHttp
from support.store_jobs import held


@pytest.fixture
async def at(opensearch: StoreHttp) -> AsyncIterator[Clustered]:
    async with clustered(opensearch) as it:
        yield it


def rows(count: int, *, hours: int = 200, seed: int = 1) -> list[Row]:
    chance = random.Random(seed)
    return [
        (
            chance.randrange(hours * HOUR),
            None if chance.random() < 0.1 else chance.uniform(-1e6, 1e6),
            None if chance.random() < 0.1 else f"t{chance.randrange(5)}",
            None if chance.random() < 0.1 else chance.randrange(-50, 50),
        )
        for _ in range(count)
    ]


@pytest.mark.newest_stores
async def test_a_run_writes_every_bucket(node: StoreHttp) -> None:
    async with clustered(node) as at:
        data = rows(3000)
        at.write(data)
        claim = await at.completed(at.job(pageSize=100))
        agree(at.documents(), truth(data, hour))
        assert await held(at.cluster) == []
        assert claim.stats.documents_processed == 3000
        assert claim.watermark_ms == int(at.now.timestamp() * 1000)


async def test_pages_read_and_written_side_by_side_come_to_the_same(at: Clustered) -> None:
    data = rows(3000)
    at.write(data)
    await at.completed(at.job(pageSize=50, parallelism=4))
    agree(at.documents(), truth(data, hour))


async def test_a_run_goes_on_from_where_a_halted_one_ended(at: Clustered) -> None:
    data = rows(3000)
    at.write(data)
    job = at.job(pageSize=20)
    halted = await at.run(job, halt_when=lambda run: run.progress.pages >= 3)
    assert halted.outcome == "Halted"
    assert halted.released
    assert halted.claim is not None
    assert halted.claim.position is not None
    assert 0 < len(at.documents()) < len(truth(data, hour))
    assert at.node.tasks("rollup/") == []
    await at.completed(job)
    agree(at.documents(), truth(data, hour))


async def test_a_second_run_reads_only_what_is_new(at: Clustered) -> None:
    early, late = rows(500, hours=100), [(t + 100 * HOUR, v, k, n) for t, v, k, n in rows(500, seed=2)]
    at.write(early)
    first = await at.completed()
    at.write(late)
    second = await at.completed()
    agree(at.documents(), truth([*early, *late], hour))
    assert second.epoch > first.epoch
    assert second.stats.documents_processed == 1000


async def test_a_document_of_several_times_moves_no_position_and_spoils_no_bucket(at: Clustered) -> None:
    # Without an index of times a cluster looks at all of a document's, not only at those that are asked for.
    fields = {name: {"type": kind} for name, kind in FIELDS.items()} | {"ts": {"type": "date", "index": False}}
    at.node.call("PUT", f"/{at.source}", {"mappings": {"properties": fields}})
    data: list[Row] = [(t * HOUR, 1.0, "a", 1) for t in range(200)]
    at.write(data)
    at.node.load(at.source, [{"ts": [5 * HOUR, 150 * HOUR, 90_000 * HOUR], "value": 1.0, "term": "a", "size": 1}])
    at.now = datetime.fromtimestamp(300 * 3600, UTC)
    job = at.job(pageSize=20, parallelism=3)
    claim = await at.completed(job)
    assert claim.position is not None
    assert claim.position["ts.date_histogram"] == 199 * HOUR
    more: list[Row] = [(t * HOUR, 1.0, "a", 1) for t in range(300, 320)]
    at.write(more)
    at.now = datetime.fromtimestamp(400 * 3600, UTC)
    await at.completed(job)
    also: list[Row] = [(t * HOUR, 1.0, "a", 1) for t in (5, 150)]
    agree(at.documents(), truth([*data, *more, *also], hour))


async def test_runs_with_nothing_to_do_do_not_make_pages_smaller(at: Clustered) -> None:
    data = rows(500, hours=100)
    at.write(data)
    job = at.job(pageSize=1000)
    first = await at.completed(job)
    for _ in range(4):
        await at.completed(job)
    at.write([(200 * HOUR, 1.0, "new", 1)])
    assert (await at.completed(job)).page_hint == first.page_hint


async def test_runs_that_come_to_nothing_make_pages_smaller(at: Clustered) -> None:
    data = rows(500, hours=100)
    at.write(data)
    job = at.job(pageSize=400)
    for _ in range(3):
        record = await claims.take(at.cluster, job, "dead", lambda _: False)
        await claims.release(at.cluster, record)
    claim = await at.completed(job)
    assert claim.page_hint is not None
    assert claim.page_hint < 300  # 100 at first, which grows as pages go well
    agree(at.documents(), truth(data, hour))


async def test_looking_back_rewrites_what_late_documents_changed(at: Clustered) -> None:
    data = rows(500, hours=100)
    at.write(data)
    job = at.job(lookback="365000d")
    await at.completed(job)
    late: list[Row] = [(5 * HOUR + 1, 7.0, "late", 3), (6 * HOUR + 2, 8.0, None, 4)]
    at.write(late)
    result = await at.run(job)
    assert (result.outcome, result.rewritten, result.kept) == ("Completed", 2, 0)
    agree(at.documents(), truth([*data, *late], hour))


async def test_a_job_id_that_leaves_no_room_in_document_ids_is_refused(at: Clustered) -> None:
    at.write(rows(10))
    await at.completed(at.job(job_id="j" * 489))
    result = await at.run(at.job(job_id="j" * 490))
    assert (result.outcome, result.released) == ("Failed", None)
    assert "spec.jobId is 490 bytes long" in result.message


async def test_a_store_tells_whether_an_index_is_a_rollup_index(at: Clustered) -> None:
    assert await at.store.rollup_index(at.target) is None
    at.write(rows(10))
    assert await at.store.rollup_index(at.source) == RollupIndex(frozenset(), "_meta key")
    await at.completed()
    assert await at.store.rollup_index(at.target) == RollupIndex(frozenset({"job"}))
