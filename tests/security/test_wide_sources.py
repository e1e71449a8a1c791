"""Sources of many fields and jobs that name many: to compare them takes no time from anybody else."""

import time
from pathlib import Path

import duckdb
import pytest

from rollup_operator.indexer.source_check import find_broken_rules
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.source_rules import SourceField, check_rules
from rollup_operator.stores.duckdb.source import headers
from rollup_operator.stores.errors import SourceInvalid
from support.embedded import Embedded, config, spec
from support.hostile_cluster import JOB
from support.portions import watched
from support.rounding import ms

COLUMNS = 30_000
NAMED = 256
"""Metrics of a job, the most that it may have."""
FIELDS = {f"column_{n:05d}_of_many_in_this_table": SourceField(frozenset({"double"})) for n in range(COLUMNS)}


def naming(name: str) -> RollupJobSpec:
    """A job with as many metrics as one may have, of fields that no source has."""
    given = JOB.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    metrics = [{"field": name.format(n), "metrics": ["min"]} for n in range(NAMED)]
    return RollupJobSpec.model_validate(given | {"metrics": metrics})


def test_many_missing_fields_are_told_of_many_that_there_are() -> None:
    began = time.process_time()
    (rule,) = check_rules(naming("colunm_{:05d}_of_many_in_this_table"), FIELDS)
    assert time.process_time() - began < 1
    assert rule.manifest.count("the source has no field") > NAMED
    assert "'colunm_00001_of_many_in_this_table': did you mean 'column_00001_of_many_in_this_table'" in rule.manifest
    assert len(rule.manifest) < 100 * NAMED


def test_names_of_many_parts_are_looked_for_in_what_is_nested() -> None:
    name = "{}" + ".a" * 250
    nested = {f"{NAMED - 1}" + ".a" * 200: SourceField(frozenset({"nested"}))}
    began = time.process_time()
    (rule,) = check_rules(naming(name), nested)
    assert time.process_time() - began < 0.5
    assert "lies within" in rule.manifest


class Wide:
    """A store with a source of many columns."""

    async def fields(self, *_: object, **__: object) -> dict[str, SourceField]:
        return FIELDS


async def test_other_work_goes_on_while_the_fields_of_a_job_are_looked_for() -> None:
    async with watched() as loop:
        (rule,) = await find_broken_rules(Wide(), naming("x{}"))  # type: ignore[arg-type]
    assert rule.manifest
    assert loop.longest < 0.05


MOST = 50
"""Columns of Parquet files, in place of many more."""


def write_wide(path: Path, *columns: str) -> None:
    """Write a file with what the jobs of `embedded` read, and more."""
    more = "".join(f", i AS {column}" for column in columns)
    select = f"SELECT make_timestamp(i * 60000000) AS ts, i * 0.5 AS value, 'a' AS term, i AS size{more}"
    duckdb.execute(f"COPY ({select} FROM range(100) t(i)) TO '{path}'")


async def test_parquet_files_have_a_number_of_columns_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB takes time for them that grows with its square, and is not interrupted meanwhile."""
    monkeypatch.setattr(headers, "MOST_COLUMNS", MOST)
    embedded = Embedded(tmp_path)
    job, store, span = config(spec("*.parquet")), embedded.store(), Span(0, ms("2030-01-01T00:00"))
    one = [f"a{n}" for n in range(MOST - 4)]
    for name in ("a", "b"):  # the same columns count once
        write_wide(embedded.folder / f"{name}.parquet", *one)
    assert len(await store.fields("*.parquet", "out", job.spec)) == MOST
    assert (await store.preview(job, span, 1)).rows == 200
    await embedded.completed(job, store=store)
    write_wide(embedded.folder / "c.parquet", "b1", "b2", "b3", "b4", "b5")
    too_many = rf"its Parquet files have {MOST + 5} columns together.*, above {MOST}: name fewer files"
    with pytest.raises(SourceInvalid, match=too_many):
        await store.fields("*.parquet", "out", job.spec)
    with pytest.raises(SourceInvalid, match=too_many):
        await store.preview(job, span, 1)
    result = await embedded.run(job, store=store)
    assert (result.outcome, result.error is not None and result.error.reason) == ("Failed", "SourceInvalid")
    await store.close()
