"""What the embedded store tells of its sources and of its jobs, without a run."""

from pathlib import Path

import duckdb
import pytest

from rollup_operator.rollup.identity import Owner
from rollup_operator.rollup.source_rules import SourceField, broken_rules
from rollup_operator.stores.duckdb import claims
from rollup_operator.stores.duckdb.fields import word
from rollup_operator.stores.errors import ForbiddenSource, SourceNotFound
from support.embedded import NAMESPACE, Embedded, Row, config, replace, spec

ROWS: list[Row] = [(1_700_000_000_000 + i * 60_000, float(i), "a", i) for i in range(100)]


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    return Embedded(tmp_path)


def field(*types: str, tells_time: bool = False) -> SourceField:
    return SourceField(frozenset(types), tells_time=tells_time)


FIELDS = {
    "ts": field("date", tells_time=True),
    "value": field("double"),
    "term": field("keyword"),
    "size": field("long", tells_time=True),
}


@pytest.mark.parametrize(("name", "pattern"), [("rows", "ro*"), ("f/a.parquet", "f/*.parquet"), ("f/a.csv", "f/a.csv")])
async def test_tables_and_files_are_described(embedded: Embedded, name: str, pattern: str) -> None:
    embedded.write(name, ROWS)
    store = embedded.store()
    assert await store.fields(pattern, "out") == FIELDS
    await store.close()


async def test_sources_that_differ_are_reported_together(embedded: Embedded) -> None:
    embedded.write("a", ROWS)
    embedded.write("b", ROWS, time="BIGINT")
    with duckdb.connect(str(embedded.file)) as connection:
        connection.execute("ALTER TABLE b RENAME value TO other")
        connection.execute("ALTER TABLE b ALTER term TYPE BOOLEAN USING true")
    store = embedded.store()
    found = await store.fields("a,b", "out")
    assert found["ts"] == field("date", "long", tells_time=True)
    assert found["term"] == field("keyword", "boolean")
    assert found["value"] == found["other"] == field("double")
    await store.close()


async def test_lists_of_times_are_no_time_of_a_job(embedded: Embedded) -> None:
    embedded.write("rows", ROWS)
    with duckdb.connect(str(embedded.file)) as connection:
        connection.execute("ALTER TABLE rows ALTER ts TYPE TIMESTAMP[] USING [ts]")
    store = embedded.store()
    (message,) = broken_rules(spec(), await store.fields("rows", "out"))
    assert "[ts]" in message
    assert "lists of times" in message
    await store.close()


@pytest.mark.parametrize("pattern", ["none", "none*", "f/*.parquet"])
async def test_nothing_matches(embedded: Embedded, pattern: str) -> None:
    store = embedded.store()
    with pytest.raises(SourceNotFound, match="matches no table of the database, and no file"):
        await store.fields(pattern, "out")
    assert embedded.file.exists() is ("/" in pattern)
    await store.close()


async def test_other_tables_do_not_match(embedded: Embedded) -> None:
    embedded.write("rows", ROWS)
    store = embedded.store()
    with pytest.raises(SourceNotFound):
        await store.fields("none", "out")
    await store.close()


async def test_a_pattern_that_leads_out(embedded: Embedded) -> None:
    store = embedded.store()
    with pytest.raises(ForbiddenSource):
        await store.fields("../other/*.parquet", "out")
    await store.close()


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("TINYINT", "byte"),
        ("USMALLINT", "integer"),
        ("UINTEGER", "long"),
        ("HUGEINT", "unsigned_long"),
        ("DECIMAL(18,3)", "scaled_float"),
        ("FLOAT", "float"),
        ("ENUM('a', 'b')", "keyword"),
        ("DATE", "date"),
        ("TIMESTAMP WITH TIME ZONE", "date"),
        ("TIMESTAMP_NS", "date_nanos"),
        ("BOOLEAN", "boolean"),
        ("INTEGER[]", "integer"),
        ("VARCHAR[3]", "keyword"),
        ("INTEGER[][]", "nested"),
        ("STRUCT(a INTEGER)[]", "nested"),
        ("TIMESTAMPTZ_NS", "date_nanos"),
        ("STRUCT(a INTEGER)", "object"),
        ("INTERVAL", "interval"),
    ],
)
def test_types_have_words_of_elasticsearch(type_: str, expected: str) -> None:
    assert word(type_) == expected


# Jobs that the store remembers


async def test_a_job_is_remembered_with_its_configuration(embedded: Embedded) -> None:
    embedded.write("rows", ROWS)
    store = embedded.store()
    assert await store.known_jobs() == []
    await embedded.completed(config(spec(metrics=[]), "b"))
    await embedded.completed(config(spec(index="other"), "c"))
    await embedded.completed(config(spec(), "a"))
    c, a, b = await store.known_jobs()
    assert [job.key for job in (c, a, b)] == [("other", "c"), ("out", "a"), ("out", "b")]
    assert a.spec == spec().model_dump(mode="json", by_alias=True, exclude_none=True)
    assert b.spec is not None
    assert b.spec["metrics"] == []
    assert a.owner == Owner("c", NAMESPACE, "a", "1")
    assert all(job.has_documents for job in (a, b, c))
    await store.close()


async def test_what_is_remembered_follows_the_job(embedded: Embedded) -> None:
    embedded.write("rows", ROWS)
    await embedded.completed()
    await embedded.completed(config(spec(cron="0 5 * * * ?")))
    store = embedded.store()
    [job] = await store.known_jobs()
    assert job.spec is not None
    assert job.spec["cron"] == "0 5 * * * ?"
    await store.settle(config(), "me", delete_documents=True)
    [job] = await store.known_jobs()
    assert (job.has_documents, job.spec is not None) == (False, True)
    await store.close()


async def test_a_file_of_an_earlier_version_is_read_and_gets_the_column_at_the_next_claim(embedded: Embedded) -> None:
    embedded.write("rows", ROWS)
    before = await embedded.completed()
    with duckdb.connect(str(embedded.file)) as connection:
        connection.execute(f"ALTER TABLE {claims.SCHEMA}.claims DROP COLUMN spec")
        connection.execute(f"UPDATE {claims.SCHEMA}.claims SET holder = 'dead'")
    store = embedded.store()
    [job] = await store.known_jobs()
    assert (job.key, job.spec, job.has_documents) == (("out", "job"), None, True)
    settled = await store.settle(config(), "me", delete_documents=False)
    assert settled.claim == replace(before, holder="", epoch=before.epoch + 1)
    after = await embedded.completed()
    assert after.epoch == before.epoch + 2
    [job] = await store.known_jobs()
    assert job.spec is not None
    await store.close()
