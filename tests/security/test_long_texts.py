"""Texts of any length that group documents. As values of the operator's process they would take all of its memory."""

import duckdb
import pytest

from rollup_operator.model.status import Outcome
from rollup_operator.rollup.bounds import Span
from rollup_operator.stores.duckdb import DuckDBStore
from rollup_operator.stores.duckdb.statements.columns import LONGEST_TEXTS
from rollup_operator.stores.errors import SourceInvalid, StoreError
from rollup_operator.stores.search import EVERYTHING, ByTerms, Documents, Fetch, Level, Partials, Rows
from support.embedded import Embedded, config, spec
from support.rounding import HOUR, ms
from support.verifying import verified

SPAN = Span(0, ms("2030-01-01T00:00"))
JOB = config(spec("a.parquet"))
LONG = "more than 32766 bytes"


def write(embedded: Embedded, length: int) -> None:
    embedded.write("a.parquet", [(h * HOUR, 1.0, "é" * (length // 2) + "x" * (length % 2), 1) for h in range(3)])


def plant(embedded: Embedded, length: int) -> None:
    """Make a text of a result longer, as an earlier version may have written it."""
    with duckdb.connect(str(embedded.file)) as connection:
        ((target,),) = connection.execute("SELECT target FROM _rollup.claims").fetchall()
        connection.execute(f"""UPDATE _rollup."result_{target}" SET "term.terms" = repeat('b', {length})""")


async def searched(store: DuckDBStore, relation: Documents | Rows, field: str = "term") -> None:
    await store.search([Fetch(relation, EVERYTHING, None, levels=(Level("by", ByTerms(field, "keyword", 10)),))])


@pytest.mark.parametrize("length", [LONGEST_TEXTS + 1, 1_000_000])
async def test_a_source_of_long_texts_is_refused(embedded: Embedded, store: DuckDBStore, length: int) -> None:
    write(embedded, length)
    result = await embedded.run(JOB, store=store)
    assert (result.outcome, result.claim and result.claim.position) == (Outcome.FAILED, None)
    assert LONG in result.message
    with pytest.raises(SourceInvalid, match=LONG):
        await store.preview(JOB, SPAN, 3)
    with pytest.raises(SourceInvalid, match=LONG):
        await searched(store, Rows("a.parquet", JOB.spec, "job"))


async def test_a_source_that_gets_long_texts_is_not_compared(embedded: Embedded, store: DuckDBStore) -> None:
    write(embedded, 10)
    await embedded.completed(JOB, store=store)
    write(embedded, LONGEST_TEXTS + 1)
    with pytest.raises(SourceInvalid, match=LONG):
        await verified(store, JOB)


async def test_a_result_of_long_texts_is_neither_compared_nor_searched(embedded: Embedded) -> None:
    write(embedded, 10)
    await embedded.completed(JOB)
    plant(embedded, LONGEST_TEXTS + 1)
    store = embedded.store()
    try:
        with pytest.raises(SourceInvalid, match=LONG):
            await verified(store, JOB)
        (tier,) = await store.tiers(["out"])
        with pytest.raises(SourceInvalid, match=LONG):
            await searched(store, Documents("out", "job", tier.place, tier.end_ms), "term.terms.value")
    finally:
        await store.close()


async def test_the_longest_texts_are_rolled_up_compared_and_searched(embedded: Embedded, store: DuckDBStore) -> None:
    write(embedded, LONGEST_TEXTS)
    await embedded.completed(JOB, store=store)
    assert not (await verified(store, JOB, full=True)).findings.total  # type: ignore[union-attr]
    await searched(store, Rows("a.parquet", JOB.spec, "job"))
    assert len((await store.preview(JOB, SPAN, 3)).documents) == 3


KEY = 32_000
"""Letters."""


def write_many(embedded: Embedded, term: str) -> None:
    """Write a thousand rows, `i` being the number of each."""
    columns = f"make_timestamp(0) AS ts, 1.0 AS value, {term} AS term, i AS size"
    duckdb.sql(f"COPY (SELECT {columns} FROM range(1000) t(i)) TO '{embedded.folder / 'a.parquet'}'")


async def by_term(store: DuckDBStore, limit: int) -> Partials:
    level = Level("t", ByTerms("term", "keyword", limit), levels=(Level("s", ByTerms("size", "long", 1000)),))
    (found,) = await store.search([Fetch(Rows("a.parquet", JOB.spec, "job"), EVERYTHING, None, levels=(level,))])
    return found


async def test_long_keys_are_few(embedded: Embedded, store: DuckDBStore) -> None:
    write_many(embedded, f"lpad(i::VARCHAR, {KEY}, 'k')")
    assert len((await by_term(store, 700))["t",].rows) == 700
    with pytest.raises(StoreError, match="are texts of more than 24 MiB together"):
        await by_term(store, 1000)


async def test_a_long_key_is_there_once_for_all_buckets_in_its_bucket(embedded: Embedded, store: DuckDBStore) -> None:
    write_many(embedded, f"repeat('k', {KEY})")
    rows = (await by_term(store, 10))["t", "s"].rows
    assert (len(rows), len({id(above) for above, _ in rows})) == (1000, 1)
