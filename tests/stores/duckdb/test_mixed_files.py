"""Files of one source that do not fit together: what cannot be added up is refused, what is not counted is named."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from rollup_operator.rollup.due import due
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.errors import SourceInvalid
from support.embedded import Embedded, config, spec

AT = "2024-01-01 00:10:00"


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    return Embedded(tmp_path)


def job(*metrics: str, of: tuple[str, ...] = ("v",), **changes: Any) -> JobConfig:
    groups = {"dateHistogram": {"field": "t", "fixedInterval": "1h"}, **changes.pop("groups", {})}
    kept = [{"field": field, "metrics": list(metrics or ("sum", "value_count"))} for field in of]
    return config(spec("d/*.csv,d/*.parquet", groups=groups, metrics=kept, **changes))


def put(embedded: Embedded, name: str, content: str) -> None:
    """Write a file: the text of a CSV file, or the columns of a Parquet file with a row."""
    path = embedded.folder / "d" / name
    path.parent.mkdir(exist_ok=True)
    if name.endswith(".csv"):
        path.write_text(content)
        return
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT {content}) TO '{path}'")


def found(embedded: Embedded, of: JobConfig) -> list[tuple[int, float, float]]:
    return [(d["t.date_histogram._count"], d["v.sum.value"], d["v.value_count.value"]) for d in embedded.documents(of)]


TIME = f"TIMESTAMP '{AT}' AS t"
KINDS: list[tuple[dict[str, str], tuple[str, ...], str]] = [
    ({"a.csv": f"t,v\n{AT},1\n", "b.csv": "t,v\n1704067200000,2\n"}, (), "'t'"),
    ({"a.parquet": f"{TIME}, 1 AS v", "b.parquet": "1704067200000 AS t, 2 AS v"}, (), "'t'"),
    ({"a.csv": f"t,v\n{AT},1\n", "b.parquet": "1704067200000 AS t, 2 AS v"}, (), "'t'"),
    ({"a.csv": f"t,v\n{AT},1\n", "b.csv": f"t,v\n{AT},{AT}\n"}, ("max",), "'v'"),
    ({"a.csv": f"t,v\n{AT},1\n", "b.csv": f"t,v\n{AT},true\n"}, (), "'v'"),
    ({"a.parquet": f"{TIME}, 1 AS v", "b.parquet": f"{TIME}, true AS v"}, (), "'v'"),
    ({"a.parquet": f"{TIME}, 1 AS v", "b.parquet": f"{TIME}, [1] AS v"}, (), "'v'"),
]


@pytest.mark.parametrize(("files", "metrics", "column"), KINDS)
async def test_a_column_of_several_kinds_is_refused_with_the_files(
    embedded: Embedded, files: dict[str, str], metrics: tuple[str, ...], column: str
) -> None:
    for name, content in files.items():
        put(embedded, name, content)
    result = await embedded.run(job(*metrics))
    assert isinstance(result.error, SourceInvalid), result
    assert not result.error.transient
    for part in (f"column {column}", *(f"d/{name}" for name in files), "spec.indexPattern"):
        assert part in result.message
    store = embedded.store()
    with pytest.raises(SourceInvalid, match=column):
        await store.fields("d/*.csv,d/*.parquet", "out", job(*metrics).spec)
    await store.close()


async def test_parts_of_columns_may_have_the_name_of_one_and_another_kind(embedded: Embedded) -> None:
    put(embedded, "a.parquet", f"{TIME}, 1 AS v, {{'v': true, 't': 5}} AS other")
    put(embedded, "b.parquet", f"{TIME}, 2.5::DOUBLE AS v")
    await embedded.completed(job())
    assert found(embedded, job()) == [(2, 3.5, 2)]


@pytest.mark.parametrize("other", ["1", "1.5", "9223372036854775808"])
@pytest.mark.parametrize("first", [True, False])
async def test_a_column_that_is_empty_in_one_file_is_of_the_kind_that_it_has_in_the_others(
    embedded: Embedded, other: str, first: bool
) -> None:
    names = ["a.csv", "b.csv"] if first else ["b.csv", "a.csv"]
    put(embedded, names[0], f"t,v\n{AT},\n")
    put(embedded, names[1], f"t,v\n{AT},{other}\n")
    await embedded.completed(job())
    assert found(embedded, job()) == [(2, float(other), 1)]


async def test_a_column_of_numbers_that_is_empty_in_all_files_has_no_values(embedded: Embedded) -> None:
    put(embedded, "a.csv", f"t,v,h\n{AT},,\n")
    of = job(groups={"histogram": {"fields": ["h"], "interval": 5}})
    await embedded.completed(of)
    assert found(embedded, of) == [(1, 0.0, 0)]
    put(embedded, "b.parquet", "TIMESTAMP '2024-01-02' AS t, 1.5::DOUBLE AS v, 7 AS h")
    await embedded.completed(of)
    assert found(embedded, of) == [(1, 0.0, 0), (1, 1.5, 1)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("b.csv", f"{AT},2\n"),
        ("b.csv", f"{AT},2\n" * 20),
        ("b.csv", f"time,v\n{AT},2\n"),
        ("b.parquet", "1 AS time, 2 AS v"),
    ],
)
async def test_a_file_without_the_column_of_time_is_named(embedded: Embedded, name: str, content: str) -> None:
    put(embedded, "a.csv", f"t,v\n{AT},1\n")
    put(embedded, "a.parquet", f"{TIME}, 4 AS v")
    put(embedded, name, content)
    result = await embedded.run(job())
    assert result.outcome == "Completed"
    assert f"d/{name} has no column 't'" in result.message
    assert ("spec.csv.header" in result.message) == content.startswith(AT)
    assert found(embedded, job()) == [(2, 5.0, 2)]
    store = embedded.store()
    preview = await store.preview(job(), due(job().spec, embedded.now).fresh, 3)
    await store.close()
    assert any(f"d/{name}" in note for note in preview.notes)
    (embedded.folder / "d" / name).unlink()
    assert "no column" not in (await embedded.run(job())).message
