"""Columns whose names differ in case only: a job that means one of them gets its values, or is refused by its name."""

from pathlib import Path

import duckdb
import pytest

from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.errors import SourceInvalid
from support.embedded import Embedded, config, spec

SOURCE = "d/*.parquet,d/*.csv"
AT = "TIMESTAMP '2024-01-01 00:10:00' AS t"


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    return Embedded(tmp_path)


def job(*fields: str) -> JobConfig:
    groups = {"dateHistogram": {"field": "t", "fixedInterval": "1h"}}
    return config(spec(SOURCE, groups=groups, metrics=[{"field": f, "metrics": ["sum"]} for f in fields]))


def write(embedded: Embedded, name: str, **columns: str) -> None:
    """Write a Parquet file; a column's name is as long as the one that stands for it until then."""
    path = embedded.folder / "d" / name
    path.parent.mkdir(exist_ok=True)
    select = ", ".join([AT, *(f'{value} AS "{column}"' for column, value in columns.items())])
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT {select}) TO '{path}'")


def rename(embedded: Embedded, name: str, old: str, new: str) -> None:
    """Do what DuckDB does not: write two columns that it cannot tell apart."""
    path = embedded.folder / "d" / name
    assert len(old) == len(new)
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))


def csv(embedded: Embedded, header: str, row: str, name: str = "a.csv") -> None:
    path = embedded.folder / "d" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"t,{header}\n2024-01-01 00:10:00,{row}\n")


async def refused(embedded: Embedded, of: JobConfig, *names: str) -> None:
    result = await embedded.run(of)
    assert isinstance(result.error, SourceInvalid), result
    for name in names:
        assert repr(name) in result.message
    assert "rename" in result.message
    store = embedded.store()
    with pytest.raises(SourceInvalid, match="rename"):
        await store.fields(SOURCE, "out", of.spec)
    await store.close()


async def sums(embedded: Embedded, *fields: str) -> list[float]:
    await embedded.completed(job(*fields))
    (document,) = embedded.documents(job(*fields))
    return [document[f"{field}.sum.value"] for field in fields]


@pytest.mark.parametrize("meant", ["Value", "value"])
async def test_two_columns_of_a_parquet_file(embedded: Embedded, meant: str) -> None:
    write(embedded, "a.parquet", Value="1", valuX="10", other="5")
    rename(embedded, "a.parquet", "valuX", "value")
    await refused(embedded, job(meant), "Value", "value")
    assert await sums(embedded, "other") == [5]


@pytest.mark.parametrize("meant", ["Value", "value"])
async def test_columns_of_two_parquet_files(embedded: Embedded, meant: str) -> None:
    write(embedded, "a.parquet", Value="1", other="5")
    write(embedded, "b.parquet", value="10", other="6")
    await refused(embedded, job(meant), "Value", "value")
    assert await sums(embedded, "other") == [11]


async def test_columns_of_files_of_different_kinds(embedded: Embedded) -> None:
    write(embedded, "a.parquet", Value="1")
    csv(embedded, "value", "10")
    await refused(embedded, job("value"), "Value", "value")


async def test_a_column_that_is_named_as_duckdb_names_another_one(embedded: Embedded) -> None:
    write(embedded, "a.parquet", V="1", X="10", v_1="100", w_1="7")
    rename(embedded, "a.parquet", "X", "v")
    await refused(embedded, job("v_1"), "v_1", "V", "v")
    assert await sums(embedded, "w_1") == [7]


async def test_a_column_of_csv_that_is_named_as_duckdb_names_another_one(embedded: Embedded) -> None:
    csv(embedded, "V,v,v_1", "1,10,100")
    await refused(embedded, job("v_1"), "v_1", "V", "v")


async def test_a_column_that_is_there_twice(embedded: Embedded) -> None:
    csv(embedded, "v,v,w", "1,10,100")
    await refused(embedded, job("v"), "v")
    assert await sums(embedded, "w") == [100]


async def test_parts_of_a_column_are_no_columns(embedded: Embedded) -> None:
    write(embedded, "a.parquet", s="{'Value': 1, 'l': [{'VALUE': 2}]}", value="10", m="MAP {'x': 1}", z="3")
    csv(embedded, "value", "10")
    assert await sums(embedded, "value", "z") == [20, 3]


async def test_only_the_letters_of_ascii_are_alike(embedded: Embedded) -> None:
    csv(embedded, "Ä,ä", "1,10")
    write(embedded, "a.parquet", Ä="2", ä="20")
    assert await sums(embedded, "Ä", "ä") == [3, 30]
