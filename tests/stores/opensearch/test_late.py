"""Late documents and previews on a real cluster, with the operator's own loop."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from rollup_operator.indexer.run import Run
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.due import due
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.base import Preview
from rollup_operator.stores.errors import SourceInvalid, SourceNotFound
from support.clustered import Clustered, clustered
from support.embedded import agree, config, scattered, spec, truth
from support.rounding import HOUR, hour, ms
from support.store_http import StoreHttp

START = ms("2024-03-01T00:00")


@pytest.fixture
async def at(opensearch: StoreHttp) -> AsyncIterator[Clustered]:
    async with clustered(opensearch) as it:
        it.now = it.now.replace(year=2024, month=3, day=5, hour=4)  # 100 hours after START
        yield it


async def test_late_documents_within_the_lookback_are_in_and_others_are_not(node: StoreHttp) -> None:
    async with clustered(node) as at:
        at.now = at.now.replace(year=2024, month=3, day=5, hour=4)
        job = at.job(lookback="12h", pageSize=50)
        data = scattered(2000, START, 100)
        at.write(data)
        await at.completed(job)
        late, too_late = scattered(50, START + 88 * HOUR, 12, seed=2), scattered(50, START, 80, seed=3)
        at.write(late + too_late)
        at.now += timedelta(hours=1)
        result = await at.run(job)
        assert (result.outcome, result.kept) == ("Completed", 0)
        assert 0 < result.rewritten <= 50
        agree(at.documents(), truth(data + late, hour))


async def test_nothing_is_written_where_nothing_came_late(at: Clustered) -> None:
    job = at.job(lookback="90h")
    for part in range(4):  # in segments that are merged afterwards, so that numbers are summed in another order
        at.write(scattered(2000, START, 100, seed=part))
    before = await at.completed(job)
    documents = {id_: at.node.get(at.target, id_) for id_ in at.node.documents(at.target)}
    at.node.call("POST", f"/{at.source}/_forcemerge", max_num_segments=1)
    result = await at.run(job)
    assert (result.outcome, result.rewritten, result.kept) == ("Completed", 0, 0)
    assert result.claim is not None
    assert result.claim.stats.index_total == before.stats.index_total
    assert {id_: at.node.get(at.target, id_) for id_ in documents} == documents


async def test_a_source_that_shrank_takes_nothing_from_the_documents(at: Clustered) -> None:
    job = at.job(lookback="12h")
    at.write(scattered(2000, START, 100))
    await at.completed(job)
    documents = at.node.documents(at.target)
    # Two hours go, but for one document of a bucket that had several.
    cut = {"range": {"ts": {"gte": START + 95 * HOUR + 10, "lt": START + 97 * HOUR, "format": "epoch_millis"}}}
    at.node.delete_documents(at.source, cut)
    at.node.load(at.source, [{"ts": START + 95 * HOUR, "value": 1.0, "term": "a", "size": 1}])
    result = await at.run(job)
    assert (result.rewritten, result.kept) == (0, 1)
    assert "1 document kept, since the source holds fewer rows for them now" in result.message
    assert at.node.documents(at.target) == documents


async def test_a_halt_while_looking_back_is_made_up_for_by_the_next_run(at: Clustered) -> None:
    job = at.job(lookback="90h", pageSize=20)
    data = scattered(2000, START, 100)
    at.write(data)
    before = await at.completed(job)
    late = scattered(500, START + 20 * HOUR, 80, seed=5)
    newest = scattered(50, START + 100 * HOUR, 2, seed=6)
    at.write(late + newest)
    at.now += timedelta(hours=3)

    def in_the_middle(run: Run) -> bool:
        return run.progress.rewritten > 0

    halted = await at.run(job, halt_when=in_the_middle)
    assert (halted.outcome, halted.released) == ("Halted", True)
    assert halted.claim is not None
    assert (halted.claim.position, halted.claim.watermark_ms) == (before.position, before.watermark_ms)
    assert at.node.tasks("rollup/") == []
    result = await at.run(job)
    assert result.rewritten > 0
    agree(at.documents(), truth(data + late + newest, hour))


async def test_an_index_that_is_gone_is_reported_and_not_made_anew(at: Clustered) -> None:
    job = at.job(lookback="90h")
    at.write(scattered(200, START, 100))
    await at.completed(job)
    at.node.delete(at.target)
    at.write(scattered(20, START + 50 * HOUR, 40, seed=2))
    result = await at.run(job)
    assert result.error is not None
    assert getattr(result.error, "reason", None) == "TargetMissing"
    assert not at.node.exists(at.target)


# Previews


async def previewed(at: Clustered, job: JobConfig, span: Span | None = None, documents: int = 10) -> Preview:
    return await at.store.preview(job, span or due(job.spec, at.now).fresh, documents)


@pytest.mark.newest_stores
async def test_a_preview_is_what_a_run_writes(node: StoreHttp) -> None:
    async with clustered(node) as at:
        at.now = at.now.replace(year=2024, month=3, day=5, hour=4)
        job = at.job(pageSize=10_000)
        at.write(scattered(2000, START, 100))
        found = await previewed(at, job)
        assert not at.node.exists(at.target)
        assert await at.store.known_jobs() == []
        assert (found.rows, found.pages) == (2000, 1)
        await at.completed(job)
        written = at.node.documents(at.target)
        assert found.buckets == len(written)
        assert len(found.documents) == 10
        assert all(written[id_] == source for id_, source in found.documents)


async def test_more_than_a_page_is_estimated_from_the_first(at: Clustered) -> None:
    job = at.job(pageSize=100, parallelism=4)
    at.write(scattered(3000, START, 100))
    found = await previewed(at, job)
    assert found.rows == 3000
    assert found.pages > 3
    await at.completed(job)
    assert found.buckets == pytest.approx(len(at.documents()), rel=0.2)
    assert at.node.tasks("rollup-operator") == []


async def test_a_previews_bounds_count(at: Clustered) -> None:
    at.write([(START + i * HOUR // 2, 1.0, "a", 1) for i in range(100)])
    job = at.job(start="2024-03-01T10:00:00Z", end="2024-03-01T20:00:00Z")
    found = await previewed(at, job)
    assert (found.rows, found.buckets) == (20, 10)
    assert found.documents[0][1]["ts.date_histogram.timestamp"] == START + 10 * HOUR
    assert await previewed(at, job, Span(START - 10 * HOUR, START)) == Preview((), 0, 0, 0, 0.0)


async def test_what_cannot_be_previewed_is_refused_with_the_reason(at: Clustered) -> None:
    with pytest.raises(SourceNotFound):
        await previewed(at, at.job())
    at.write(scattered(10, START, 10))
    with pytest.raises(SourceInvalid, match="speed"):
        await previewed(at, config(spec(at.source, at.target, metrics=[{"field": "speed", "metrics": ["max"]}])))
