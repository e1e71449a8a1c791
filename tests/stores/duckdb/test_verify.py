"""Each fault that is planted in a result, or in its source, is found in real files, and nothing where all is well."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rollup_operator.indexer.verify import Verified
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.comparison import Kind
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.duckdb import DuckDBStore
from rollup_operator.stores.errors import IdentityConflict, SourceNotFound, StoreElsewhere, StoreUnavailable
from support.embedded import Embedded, Row, config, scattered, spec, with_groups
from support.rounding import DAY, HOUR, ms
from support.verifying import UNTIL_NOW, begun, kinds, verified, verifier

START = ms("2024-03-01T00:00")
JOB = config(spec("in/*.parquet"))


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    return Embedded(tmp_path, now=datetime.fromtimestamp((START + 100 * HOUR) / 1000, UTC))


@asynccontextmanager
async def opened(embedded: Embedded, **seams: object) -> AsyncIterator[DuckDBStore]:
    store = embedded.store(**seams)
    try:
        yield store
    finally:
        await store.close()


async def verify(embedded: Embedded, of: JobConfig = JOB, **how: object) -> Verified:
    async with opened(embedded) as store:
        return await verified(store, of, **how)  # type: ignore[arg-type]


def plant(embedded: Embedded, statement: str) -> None:
    """Change the result's table, whose name stands for `result`, as somebody who opens the file can."""
    with duckdb.connect(str(embedded.file)) as connection:
        ((target,),) = connection.execute("SELECT target FROM _rollup.claims").fetchall()
        connection.execute(statement.replace("result", f'_rollup."result_{target}"'))


async def rolled_up(embedded: Embedded, rows: Sequence[Row], of: JobConfig = JOB) -> None:
    embedded.write("in/1.parquet", rows)
    await embedded.completed(of)


async def test_nothing_is_found_where_all_is_well(embedded: Embedded) -> None:
    await rolled_up(embedded, scattered(5000, START, 100))
    found = await verify(embedded)
    assert found.full
    assert not kinds(found)
    assert len(found.days) == len(found.compared) == 5
    with duckdb.connect(str(embedded.file)) as connection:
        ((target,),) = connection.execute("SELECT target FROM _rollup.claims").fetchall()
        ((documents,),) = connection.execute(f'SELECT count(*) FROM _rollup."result_{target}"').fetchall()
    assert found.buckets == documents
    assert sum(count.rows for _, count in found.days) == sum(count.stored for _, count in found.days) == 5000


@pytest.mark.parametrize(
    ("statement", "kind", "field"),
    [
        ('UPDATE result SET "value.max" = "value.max" + 1 WHERE rowid = 7', Kind.DIFFERS, "value.max.value"),
        ('UPDATE result SET "value.sum" = "value.sum" + 1e-3 WHERE rowid = 7', Kind.DIFFERS, "value.sum.value"),
        ('UPDATE result SET "value.sum" = NULL WHERE rowid = 7', Kind.DIFFERS, "value.sum.value"),
        ("""UPDATE result SET "value.sum" = 'inf' WHERE rowid = 7""", Kind.DIFFERS, "value.sum.value"),
        ("""UPDATE result SET "value.sum" = '-inf' WHERE rowid = 7""", Kind.DIFFERS, "value.sum.value"),
        ("""UPDATE result SET "value.sum" = 'nan' WHERE rowid = 7""", Kind.DIFFERS, "value.sum.value"),
        ("""UPDATE result SET "value.max" = 'nan' WHERE rowid = 7""", Kind.DIFFERS, "value.max.value"),
        ('UPDATE result SET "value.min" = NULL WHERE rowid = 7', Kind.DIFFERS, "value.min.value"),
        ("UPDATE result SET _count = _count - 1 WHERE rowid = 7", Kind.DIFFERS, "ts.date_histogram._count"),
        ("UPDATE result SET _count = _count + 1 WHERE rowid = 7", Kind.EXTRA, "ts.date_histogram._count"),
        ("DELETE FROM result WHERE rowid = 7", Kind.MISSING, "ts.date_histogram._count"),
        ("INSERT INTO result SELECT * FROM result WHERE rowid = 7", Kind.DUPLICATE, "documents"),
    ],
)
async def test_a_document_that_somebody_changed_is_found(
    embedded: Embedded, statement: str, kind: Kind, field: str
) -> None:
    await rolled_up(embedded, scattered(3000, START, 100))
    plant(embedded, statement)
    found = await verify(embedded)
    assert kinds(found) == {kind: 1}
    assert found.findings is not None
    (finding,) = found.findings.examples
    assert field in {d.field for d in finding.differences}
    ((day, counts),) = found.findings.days.items()
    assert day <= (finding.key[0] or 0) < day + DAY  # type: ignore[operator]
    assert counts == {kind: 1}


async def test_a_document_under_another_key_is_missing_and_extra(embedded: Embedded) -> None:
    await rolled_up(embedded, scattered(3000, START, 100))
    plant(embedded, """UPDATE result SET "term.terms" = 'z' WHERE rowid = 7""")
    assert kinds(await verify(embedded)) == {Kind.MISSING: 1, Kind.EXTRA: 1}


async def test_a_page_that_was_lost_is_missing(embedded: Embedded) -> None:
    await rolled_up(embedded, scattered(3000, START, 100))
    hours = f'"ts.date_histogram" >= {START + 30 * HOUR} AND "ts.date_histogram" < {START + 40 * HOUR}'
    with duckdb.connect(str(embedded.file)) as connection:
        ((target,),) = connection.execute("SELECT target FROM _rollup.claims").fetchall()
        counted = connection.execute(f'SELECT count(*) FROM _rollup."result_{target}" WHERE {hours}').fetchone()
    assert counted is not None
    plant(embedded, f"DELETE FROM result WHERE {hours}")
    found = await verify(embedded)
    assert kinds(found) == {Kind.MISSING: counted[0]}


@pytest.mark.parametrize(
    "interval",
    [{"calendarInterval": "1d", "timeZone": "Europe/Berlin"}, {"calendarInterval": "1w"}, {"calendarInterval": "1M"}],
)
async def test_a_bucket_that_1970_cuts_is_compared_like_any_other(embedded: Embedded, interval: dict[str, str]) -> None:
    """Clocks that were never set write rows of that time."""
    of, rows = config(with_groups(spec("in/*.parquet"), **interval)), [(HOUR, 1.0, "a", 1), (60 * DAY, 2.0, None, 1)]
    await rolled_up(embedded, rows, of)
    assert not kinds(await verify(embedded, of))
    assert not (await verify(embedded, of, full=False)).compared
    embedded.write("in/1.parquet", rows[1:])
    assert kinds(await verify(embedded, of)) == {Kind.EXTRA: 1}


async def test_all_documents_may_be_gone(embedded: Embedded) -> None:
    await rolled_up(embedded, scattered(300, START, 100))
    plant(embedded, "DELETE FROM result")
    found = await verify(embedded)
    assert kinds(found) == {Kind.MISSING: found.buckets}
    assert found.buckets > 0


async def test_rows_that_came_late_are_found(embedded: Embedded) -> None:
    rows = scattered(3000, START, 100)
    await rolled_up(embedded, rows)
    embedded.write("in/2.parquet", [rows[1000], (START + 6 * HOUR, 1.0, "new", 1)])
    assert kinds(await verify(embedded)) == {Kind.DIFFERS: 1, Kind.MISSING: 1}


async def test_a_source_that_has_shrunk_is_found(embedded: Embedded) -> None:
    rows = scattered(3000, START, 100)
    await rolled_up(embedded, rows)
    embedded.write("in/1.parquet", [r for r in rows if r[0] is None or not START <= r[0] < START + 24 * HOUR])
    found = await verify(embedded)
    assert set(kinds(found)) == {Kind.EXTRA}
    assert found.findings is not None
    assert list(found.findings.days) == [START]


async def test_a_source_without_any_rows_leaves_everything_extra(embedded: Embedded) -> None:
    await rolled_up(embedded, scattered(300, START, 100))
    embedded.write("in/1.parquet", [(START + 500 * HOUR, 1.0, "a", 1)])
    found = await verify(embedded)
    assert set(kinds(found)) == {Kind.EXTRA}
    assert found.buckets == 0


async def test_counts_alone_choose_the_days_and_do_not_see_other_numbers(embedded: Embedded) -> None:
    await rolled_up(embedded, scattered(3000, START, 100))
    plant(embedded, 'UPDATE result SET "value.max" = 1e9 WHERE rowid = 7')
    plant(embedded, f'DELETE FROM result WHERE "ts.date_histogram" = {START + 50 * HOUR}')
    found = await verify(embedded, full=False)
    assert [day.start_ms for day in found.compared] == [START + 48 * HOUR]
    assert set(kinds(found)) == {Kind.MISSING}
    assert set(kinds(await verify(embedded, full=True))) == {Kind.MISSING, Kind.DIFFERS}


async def test_only_the_stretch_and_the_fields_that_are_asked_for_are_compared(embedded: Embedded) -> None:
    of = config(
        spec(
            "in/*.parquet",
            metrics=[{"field": "value", "metrics": ["max"]}, {"field": "size", "metrics": ["max"]}],
        )
    )
    await rolled_up(embedded, scattered(3000, START, 100), of)
    plant(embedded, f'UPDATE result SET "value.max" = 1e9 WHERE "ts.date_histogram" = {START + 30 * HOUR}')
    before, day = Span(0, START + 30 * HOUR), Span(START + 30 * HOUR, START + 31 * HOUR)
    assert not kinds(await verify(embedded, of, span=before))
    assert set(kinds(await verify(embedded, of, span=day))) == {Kind.DIFFERS}
    assert not kinds(await verify(embedded, of, span=day, fields=["size"]))
    assert set(kinds(await verify(embedded, of, span=day, fields=["value"]))) == {Kind.DIFFERS}


async def test_nothing_beyond_what_is_rolled_up_is_compared(embedded: Embedded) -> None:
    await rolled_up(embedded, scattered(300, START, 200))
    found = await verify(embedded)
    assert not kinds(found)
    assert found.extent.span.end_ms == found.extent.rolled_up_to_ms == START + 100 * HOUR


async def test_a_job_that_never_ran_has_nothing_to_compare(embedded: Embedded) -> None:
    embedded.write("in/1.parquet", scattered(300, START, 100))
    found = await verify(embedded)
    assert found.extent.span.empty
    assert (found.extent.rolled_up_to_ms, found.findings) == (0, None)


async def test_documents_of_another_living_job_are_not_compared(embedded: Embedded) -> None:
    await rolled_up(embedded, scattered(300, START, 100))
    embedded.alive = {"1"}
    with pytest.raises(IdentityConflict):
        await verify(embedded, config(spec("in/*.parquet"), uid="2"))


async def test_a_source_that_is_gone_is_named(embedded: Embedded) -> None:
    await rolled_up(embedded, scattered(300, START, 100))
    (embedded.folder / "in/1.parquet").unlink()
    with pytest.raises(SourceNotFound):
        await verify(embedded)


async def test_another_process_may_lead(embedded: Embedded) -> None:
    async with opened(embedded, may_run=lambda: False) as store:
        with pytest.raises(StoreElsewhere):
            await verified(store, JOB)


async def test_a_difference_that_a_run_heals_meanwhile_does_not_count(embedded: Embedded) -> None:
    """Rows come after the source was read, and a run writes them before the documents are read."""
    of = config(spec("in/*.parquet", lookback="200h"))
    await rolled_up(embedded, scattered(3000, START, 100), of)
    embedded.write("in/2.parquet", [(START + 5 * HOUR, 1.0, "a", 1)])
    async with opened(embedded) as store:
        checking = verifier(store, of)
        opens, once = checking.open, []

        @asynccontextmanager
        async def between() -> AsyncIterator[object]:
            if once:
                await embedded.completed(of, store=store)
            once.append(1)
            async with opens() as verification:
                yield verification

        checking.open = between  # type: ignore[assignment]
        found = await checking.verify(UNTIL_NOW)
    assert len(once) == 2
    assert checking.progress.findings == 0
    assert not kinds(found)
    assert found.findings is not None


async def test_a_verification_that_is_given_up_leaves_nothing_running(embedded: Embedded) -> None:
    embedded.page_seconds = 0.002  # so that there are many pages
    await rolled_up(embedded, scattered(60_000, START, 100))
    async with opened(embedded) as store:
        checking = verifier(store, JOB)
        task = asyncio.ensure_future(checking.verify(UNTIL_NOW))
        await begun(checking, task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not store._lanes.open


async def test_a_store_that_is_closed_ends_it(embedded: Embedded) -> None:
    embedded.page_seconds = 0.002  # so that there are many pages
    await rolled_up(embedded, scattered(60_000, START, 100))
    store = embedded.store()
    checking = verifier(store, JOB)
    task = asyncio.ensure_future(checking.verify(UNTIL_NOW))
    await begun(checking, task)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await task


async def test_a_run_repairs_a_duplicate_and_a_lost_number(embedded: Embedded) -> None:
    of = config(spec("in/*.parquet", lookback="200h"))
    await rolled_up(embedded, scattered(3000, START, 100), of)
    plant(embedded, "INSERT INTO result SELECT * FROM result WHERE rowid = 7")
    plant(embedded, 'UPDATE result SET "value.sum" = NULL WHERE rowid = 9')
    assert kinds(await verify(embedded, of)) == {Kind.DUPLICATE: 1, Kind.DIFFERS: 1}
    await embedded.completed(of)
    assert not kinds(await verify(embedded, of))


async def test_a_sum_that_is_infinite_on_both_sides_is_equal_and_is_not_written_again(embedded: Embedded) -> None:
    of = config(spec("in/*.parquet", lookback="200h"))
    await rolled_up(embedded, [(START, 1e308, "a", 1), (START + 1, 1e308, "a", 1), (START + HOUR, 1.0, "a", 1)], of)
    assert not kinds(await verify(embedded, of))
    assert (await embedded.run(of)).rewritten == 0
    plant(embedded, 'UPDATE result SET "value.sum" = 1e308 WHERE "value.max" = 1e308')
    assert kinds(await verify(embedded, of)) == {Kind.DIFFERS: 1}
    assert (await embedded.run(of)).rewritten == 1
    assert not kinds(await verify(embedded, of))


@pytest.mark.parametrize("number", ["inf", "-inf", "nan"])
async def test_a_run_repairs_a_sum_that_became_no_number(embedded: Embedded, number: str) -> None:
    of = config(spec("in/*.parquet", lookback="200h"))
    await rolled_up(embedded, scattered(3000, START, 100), of)
    plant(embedded, f"""UPDATE result SET "value.sum" = '{number}' WHERE rowid = 7""")
    assert (await embedded.run(of)).rewritten == 1
    assert not kinds(await verify(embedded, of))


@pytest.mark.parametrize("end", [None, "2024-03-05T04:00:00Z"])
async def test_a_run_repairs_the_stretches_that_it_is_asked_for(embedded: Embedded, end: str | None) -> None:
    """Also where the job has come to its end; what the source has lost stays."""
    of = config(spec("in/*.parquet", **({"end": end} if end is not None else {})))
    await rolled_up(embedded, scattered(3000, START, 100), of)
    hour = '"ts.date_histogram" = '
    plant(embedded, f"DELETE FROM result WHERE {hour}{START + 5 * HOUR}")
    plant(embedded, f'UPDATE result SET "value.max" = 1e9 WHERE {hour}{START + 30 * HOUR}')
    plant(embedded, f"UPDATE result SET _count = _count + 1 WHERE {hour}{START + 31 * HOUR}")
    plant(embedded, f'UPDATE result SET "value.max" = 1e9 WHERE {hour}{START + 60 * HOUR}')
    before = kinds(await verify(embedded, of))
    assert set(before) == {Kind.MISSING, Kind.DIFFERS, Kind.EXTRA}
    store = embedded.store()
    run = embedded.make_run(of, store=store)
    run.reread = [(START, START + 6 * HOUR), (START + 30 * HOUR, START + 32 * HOUR)]
    result = await run.index()
    await store.close()
    assert result.outcome == "Completed"
    assert (result.rewritten > before[Kind.MISSING], result.kept) == (True, before[Kind.EXTRA])
    after = await verify(embedded, of)
    assert kinds(after).keys() == {Kind.DIFFERS, Kind.EXTRA}
    assert after.findings is not None
    assert {one.key[0] for one in after.findings.examples} == {START + 31 * HOUR, START + 60 * HOUR}


FAULTS: dict[str, Kind] = {
    'UPDATE result SET "value.max" = "value.max" + 1 WHERE rowid = {row}': Kind.DIFFERS,
    "UPDATE result SET _count = _count - 1 WHERE rowid = {row}": Kind.DIFFERS,
    "DELETE FROM result WHERE rowid = {row}": Kind.MISSING,
    "INSERT INTO result SELECT * FROM result WHERE rowid = {row}": Kind.DUPLICATE,
    "UPDATE result SET _count = _count + 1 WHERE rowid = {row}": Kind.EXTRA,
}
INTERVALS = [
    {"fixedInterval": "1h"},
    {"fixedInterval": "5h", "timeZone": "Europe/Berlin"},
    {"calendarInterval": "1d", "timeZone": "America/Santiago"},
    {"calendarInterval": "1M"},
]


@given(st.integers(0, 2**32), st.sampled_from(INTERVALS), st.sampled_from([None, *FAULTS]), st.booleans())
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_jobs_and_sources(
    tmp_path_factory: pytest.TempPathFactory, seed: int, interval: dict[str, str], fault: str | None, shuffled: bool
) -> None:
    async def check() -> None:
        chance = random.Random(seed)
        embedded = Embedded(tmp_path_factory.mktemp("random"), page_seconds=chance.choice([0.5, 0.05]))
        of = config(with_groups(spec("in/*.parquet"), **interval))
        rows = scattered(chance.randrange(1, 1000), START, chance.randrange(1, 1000), seed)
        if shuffled:
            chance.shuffle(rows)
        await rolled_up(embedded, rows, of)
        if fault is None:
            assert not kinds(await verify(embedded, of))
            return
        with duckdb.connect(str(embedded.file)) as connection:
            ((target,),) = connection.execute("SELECT target FROM _rollup.claims").fetchall()
            numbers = '"value.max" IS NOT NULL AND _count > 1'
            found = connection.execute(f'SELECT rowid FROM _rollup."result_{target}" WHERE {numbers}').fetchall()
        if found:
            plant(embedded, fault.format(row=chance.choice(found)[0]))
            assert kinds(await verify(embedded, of)) == {FAULTS[fault]: 1}

    asyncio.run(check())
