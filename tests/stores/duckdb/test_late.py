"""Rows that come late, over real files: what is looked at again, what is rewritten, what is left as it was."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rollup_operator.indexer.run import Run
from rollup_operator.model.counts import counted
from rollup_operator.rollup.bounds import Span
from rollup_operator.stores.base import Rewritten
from rollup_operator.stores.duckdb.database import budget
from rollup_operator.stores.duckdb.source import sources
from rollup_operator.stores.errors import Fenced
from support.embedded import Embedded, Row, agree, config, scattered, spec, truth
from support.rounding import HOUR, hour, ms

START = ms("2024-03-01T00:00")
JOB = config(spec("in/*.parquet", lookback="12h"))


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    return Embedded(tmp_path, now=at(START + 100 * HOUR))


def at(instant: int) -> datetime:
    return datetime.fromtimestamp(instant / 1000, UTC)


async def test_late_rows_within_the_lookback_are_in_and_others_are_not(embedded: Embedded) -> None:
    data = scattered(3000, START, 100)
    embedded.write("in/1.parquet", data)
    await embedded.completed(JOB)
    late = scattered(50, START + 88 * HOUR, 12, seed=2)
    too_late = scattered(50, START, 80, seed=3)
    embedded.write("in/2.parquet", late + too_late)
    embedded.now += timedelta(hours=1)
    result = await embedded.run(JOB)
    assert result.kept == 0
    assert 0 < result.rewritten <= 50
    assert f"{counted(result.rewritten, 'document')} rewritten after late rows" in result.message
    agree(embedded.documents(JOB), truth(data + late, hour))


async def test_nothing_is_rewritten_where_nothing_came_late(embedded: Embedded) -> None:
    embedded.write("in/1.parquet", scattered(20_000, START, 100))
    first = await embedded.completed(JOB)
    export = embedded.export(JOB)
    before = export.stat()
    for _ in range(3):
        result = await embedded.run(JOB)
        assert (result.outcome, result.rewritten, result.kept) == ("Completed", 0, 0)
    assert result.claim is not None
    assert result.claim.stats.rollups_indexed == first.stats.rollups_indexed
    assert (export.stat().st_ino, export.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


async def test_late_rows_in_buckets_that_had_none_make_documents(embedded: Embedded) -> None:
    data = [r for r in scattered(500, START, 100) if not START + 92 * HOUR <= (r[0] or 0) < START + 95 * HOUR]
    embedded.write("in/1.parquet", data)
    await embedded.completed(JOB)
    late: list[Row] = [(START + 93 * HOUR, 1.0, "new", None), (START + 93 * HOUR + 1, 2.0, None, 7)]
    embedded.write("in/2.parquet", late)
    result = await embedded.run(JOB)
    assert result.rewritten == 2
    agree(embedded.documents(JOB), truth(data + late, hour))


async def test_a_source_that_shrank_takes_nothing_from_the_documents(embedded: Embedded) -> None:
    data = scattered(3000, START, 100)
    embedded.write("in/1.parquet", data)
    await embedded.completed(JOB)
    documents = embedded.documents(JOB)
    # An hour is thinned out and another one is gone altogether, as where old rows are being deleted.
    thinned = [
        r
        for i, r in enumerate(data)
        if not (hour(r[0] or 0) == START + 95 * HOUR and i % 2) and hour(r[0] or 0) != START + 96 * HOUR
    ]
    embedded.write("in/1.parquet", thinned)
    result = await embedded.run(JOB)
    assert result.rewritten == 0
    assert result.kept > 0
    assert f"{counted(result.kept, 'document')} kept, since the source holds fewer rows" in result.message
    assert embedded.documents(JOB) == documents


async def test_values_that_were_corrected_are_taken(embedded: Embedded) -> None:
    data = scattered(1000, START, 100)
    embedded.write("in/1.parquet", data)
    await embedded.completed(JOB)
    corrected = [(t, v if t is None or t < START + 90 * HOUR else 0.5, k, n) for t, v, k, n in data]
    embedded.write("in/1.parquet", corrected)
    assert (await embedded.run(JOB)).rewritten > 0
    agree(embedded.documents(JOB), truth(corrected, hour))


@pytest.mark.parametrize("name", ["in/2.parquet", "in/2.csv"])
async def test_looking_back_goes_page_by_page(embedded: Embedded, name: str) -> None:
    job = config(spec("in/1.parquet," + name, lookback="90h"))
    data = [r for r in scattered(20_000, START, 100) if r[2] is not None]
    embedded.write("in/1.parquet", data)
    embedded.write(name, scattered(1, START, 1, seed=9)[:1])
    data += scattered(1, START, 1, seed=9)[:1]
    await embedded.completed(job, store=embedded.store(0.001))
    late = [r for r in scattered(2000, START + 20 * HOUR, 80, seed=4) if r[2] is not None]
    embedded.write(name, scattered(1, START, 1, seed=9)[:1] + late)
    result = await embedded.run(job, store=embedded.store(0.001))
    assert result.claim is not None
    assert result.claim.stats.search_total > 10
    agree(embedded.documents(job), truth(data + late, hour))


async def test_a_halt_while_looking_back_is_made_up_for_by_the_next_run(embedded: Embedded) -> None:
    job = config(spec("in/*.parquet", lookback="90h"))
    data = scattered(20_000, START, 100)
    embedded.write("in/1.parquet", data)
    before = await embedded.completed(job, store=embedded.store(0.0005))
    late = scattered(3000, START + 20 * HOUR, 80, seed=5)
    embedded.write("in/2.parquet", late)
    embedded.now += timedelta(hours=3)
    newest = scattered(100, START + 100 * HOUR, 3, seed=6)
    embedded.write("in/3.parquet", newest)

    def in_the_middle(run: Run) -> bool:
        return run.progress.rewritten > 0

    halted = await embedded.run(job, store=embedded.store(0.0005), halt_when=in_the_middle)
    assert halted.outcome == "Halted"
    assert halted.released
    assert halted.claim is not None
    assert (halted.claim.position, halted.claim.watermark_ms) == (before.position, before.watermark_ms)
    result = await embedded.run(job)
    assert result.rewritten > 0
    agree(embedded.documents(job), truth(data + late + newest, hour))


async def test_whoever_was_taken_over_rewrites_nothing(embedded: Embedded) -> None:
    embedded.write("in/1.parquet", scattered(500, START, 100))
    await embedded.completed(JOB)
    documents = embedded.documents(JOB)
    embedded.write("in/2.parquet", scattered(50, START + 90 * HOUR, 10, seed=2))
    store = embedded.store()
    old, new = store.session(JOB, "old"), store.session(JOB, "new")
    claim = await old.claim()
    page = await old.read_again(claim, Span(START, START + 100 * HOUR), None)
    await new.claim()
    with pytest.raises(Fenced, match="new"):
        await old.rewrite(claim, page)
    await store.close()
    await embedded.completed(config(spec("in/*.parquet")))  # which looks back on the last bucket alone
    time = "ts.date_histogram.timestamp"
    last = max(d[time] for d in documents)
    assert [d for d in embedded.documents(JOB) if d[time] < last] == [d for d in documents if d[time] < last]


async def test_without_documents_there_is_nothing_to_rewrite(embedded: Embedded) -> None:
    embedded.write("in/1.parquet", scattered(50, START, 100))
    store = embedded.store()
    session = store.session(JOB, "me")
    claim = await session.claim()
    page = await session.read_again(claim, Span(START, START + 100 * HOUR), None)
    assert page.buckets > 0
    assert await session.rewrite(claim, page) == Rewritten(0, 0)
    await store.close()


@pytest.mark.parametrize("lookback", [None, "12h"])
async def test_files_whose_heads_need_half_of_the_memory_are_looked_at_again_in_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lookback: str | None
) -> None:
    monkeypatch.setattr(budget, "HEADS_S", 0.2)
    embedded = Embedded(tmp_path, now=at(START + 20 * HOUR), budget=budget.Budget(128 << 20, threads=1))
    embedded.write("in/1.parquet", scattered(40, START, 20))
    written = (embedded.folder / "in/1.parquet").read_bytes()
    monkeypatch.setattr(sources, "_OF_FOOTERS", (60 << 20) // int.from_bytes(written[-8:-4], "little"))
    job = config(spec("in/*.parquet", **({"lookback": lookback} if lookback else {})))
    for _ in range(3):
        await embedded.completed(job)
        embedded.now += timedelta(hours=1)
    assert embedded.budget.take_heads("team", embedded.budget.most_heads)
