"""What a job would do, told without doing any of it."""

from pathlib import Path

import pytest

from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.due import due
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.base import Preview
from rollup_operator.stores.errors import SourceInvalid, SourceNotFound
from support.embedded import Embedded, Row, config, spec
from support.rounding import HOUR, ms

START = ms("2024-03-01T00:00")
ROWS: list[Row] = [(START + i * HOUR // 50, float(i % 13), "ab"[i % 2], i % 40) for i in range(20_000)]


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    return Embedded(tmp_path)


async def previewed(
    embedded: Embedded, job: JobConfig, span: Span | None = None, *, documents: int = 3, page_seconds: float = 0.5
) -> Preview:
    store = embedded.store(page_seconds)
    try:
        return await store.preview(job, span or due(job.spec, embedded.now).fresh, documents)
    finally:
        await store.close()


@pytest.mark.parametrize("name", ["rows", "in/rows.parquet", "rows.csv"])
async def test_the_documents_are_those_that_a_run_writes(embedded: Embedded, name: str) -> None:
    embedded.write(name, ROWS)
    job = config(spec(name))
    found = await previewed(embedded, job, documents=10)
    assert (found.rows, found.pages) == (len(ROWS), 1)
    assert found.seconds > 0
    await embedded.completed(job)
    written = embedded.documents(job)
    assert found.buckets == len(written)
    assert len(found.documents) == 10
    assert all(source in written for _, source in found.documents)
    times = [source["ts.date_histogram.timestamp"] for _, source in found.documents]
    assert times == sorted(times)
    assert times[0] == START


async def test_more_than_a_page_is_estimated(embedded: Embedded) -> None:
    embedded.write("in/rows.parquet", ROWS)
    job = config(spec("in/*.parquet"))
    found = await previewed(embedded, job, page_seconds=0.0005)
    assert found.pages > 1
    await embedded.completed(job)
    assert found.buckets == pytest.approx(len(embedded.documents(job)), rel=0.2)


async def test_no_more_pages_are_estimated_than_documents(embedded: Embedded) -> None:
    embedded.write("in/rows.parquet", ROWS)
    found = await previewed(embedded, config(spec("in/*.parquet")), page_seconds=0.000_000_1)
    assert 1 < found.pages <= found.buckets


async def test_nothing_is_written_or_claimed(embedded: Embedded) -> None:
    embedded.write("in/rows.parquet", ROWS)
    await previewed(embedded, config(spec("in/*.parquet")))
    store = embedded.store()
    assert await store.known_jobs() == []
    await store.close()
    assert [p.name for p in embedded.folder.iterdir()] == ["in"]
    assert list(embedded.results.iterdir()) == []
    assert {p.name for p in embedded.file.parent.iterdir()} <= {
        "rollup.duckdb",
        "rollup.duckdb.wal",
        "rollup.duckdb.reserve",
    }


async def test_a_start_and_an_end_count(embedded: Embedded) -> None:
    embedded.write("rows", ROWS)
    job = config(spec(start="2024-03-02T00:00:00Z", end="2024-03-03T00:00:00Z"))
    found = await previewed(embedded, job)
    assert found.rows == 24 * 50
    assert found.documents[0][1]["ts.date_histogram.timestamp"] == ms("2024-03-02T00:00")


async def test_a_source_without_rows_gives_nothing(embedded: Embedded) -> None:
    embedded.write("rows", ROWS[:1])
    found = await previewed(embedded, config(), Span(0, START))
    types = {"ts": "TIMESTAMP", "size": "BIGINT", "term": "VARCHAR", "value": "DOUBLE"}
    assert found == Preview((), 0, 0, 0, 0.0, columns=types, csv=[], notes=[])


async def test_a_source_that_cannot_be_used_is_reported(embedded: Embedded) -> None:
    with pytest.raises(SourceNotFound):
        await previewed(embedded, config(spec("nothing")))
    embedded.write("rows", ROWS[:1])
    wrong = spec(metrics=[{"field": "speed", "metrics": ["max"]}])
    with pytest.raises(SourceInvalid, match="no column 'speed'"):
        await previewed(embedded, config(wrong))
