"""Numbers of more digits than a DOUBLE has: sums are right to the last one, and no two keys become one unseen."""

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pytest

from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.errors import SourceInvalid
from support.embedded import Embedded, config, spec

BEYOND = 2**53 + 1


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    return Embedded(tmp_path)


def job(*terms: str, **more: Any) -> JobConfig:
    groups: dict[str, Any] = {"dateHistogram": {"field": "t", "fixedInterval": "1h"}}
    if terms:
        groups["terms"] = {"fields": list(terms)}
    kept = [{"field": "v", "metrics": ["min", "max", "sum", "avg"]}]
    return config(spec("d/*.parquet", groups=groups, **({"metrics": kept} | more)))


def put(embedded: Embedded, values: str, name: str = "a", day: int = 1) -> None:
    """Write a Parquet file with a row for each line of `values`: k and v."""
    path = embedded.folder / f"d/{name}.parquet"
    path.parent.mkdir(exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT TIMESTAMP '2024-01-0{day}' AS t, * FROM (VALUES {values}) r(k, v)) TO '{path}'"
        )


def keys(embedded: Embedded, of: JobConfig) -> dict[Any, float]:
    return {d["k.terms.value"]: d["v.sum.value"] for d in embedded.documents(of)}


async def refused(embedded: Embedded, of: JobConfig, *says: str) -> None:
    result = await embedded.run(of)
    assert isinstance(result.error, SourceInvalid), result
    assert not result.error.transient
    for text in says:
        assert text in result.message


@pytest.mark.parametrize(
    ("type_", "value", "other"),
    [
        ("DECIMAL(18,0)", str(BEYOND), str(BEYOND - 1)),
        ("DECIMAL(38,0)", "12345678901234567890123", "12345678901234567890124"),
        ("DECIMAL(38,0)", "9" * 38, "1"),
        ("DECIMAL(18,1)", f"{BEYOND}.1", f"{BEYOND}.2"),
        ("DECIMAL(18,17)", "0.30000000000000003", "0.30000000000000004"),
        ("DECIMAL(38,0)", str(-BEYOND), "5"),
    ],
)
@pytest.mark.parametrize("many", [False, True])
async def test_decimals_that_no_double_tells_apart_are_no_keys(
    embedded: Embedded, type_: str, value: str, other: str, many: bool
) -> None:
    brackets = ("[", f"]::{type_}[]") if many else ("", f"::{type_}")
    rows = ", ".join(f"({text.join(brackets)}, {i})" for i, text in enumerate((value, other)))
    put(embedded, rows)
    await refused(embedded, job("k"), f"column 'k' is {type_}", "its keys are DOUBLE", "BIGINT or as text")
    assert not embedded.export(job("k")).exists()


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("DECIMAL(18,0)", [2**53, -(2**53), 7, 0]),
        ("DECIMAL(38,0)", [2**53, 10**22, -1]),
        ("DECIMAL(18,2)", [0.01, -12345678901.25, 99999999999.99]),
        ("DECIMAL(18,17)", [0.30000000000000004, 0.1]),
        ("DECIMAL(38,30)", [0.1, 0.0, -0.25]),
    ],
)
async def test_decimals_that_a_double_tells_apart_are_keys(embedded: Embedded, type_: str, values: list[float]) -> None:
    rows = ", ".join(f"('{Decimal(str(value)):f}'::{type_}, {i})" for i, value in enumerate([*values, *values]))
    put(embedded, f"{rows}, (NULL, 100)")
    await embedded.completed(job("k"))
    n = len(values)
    assert keys(embedded, job("k")) == {**{float(v): 2.0 * i + n for i, v in enumerate(values)}, None: 100.0}


async def test_whole_keys_that_come_after_decimals_are_not_made_one(embedded: Embedded) -> None:
    put(embedded, "(1.5::DOUBLE, 1)")
    await embedded.completed(job("k"))
    (embedded.folder / "d/a.parquet").unlink()
    put(embedded, f"({BEYOND}::BIGINT, 1), ({BEYOND - 1}::BIGINT, 2)", "b", day=2)
    await refused(embedded, job("k"), "column 'k' is BIGINT", str(BEYOND), "its keys are DOUBLE")
    assert keys(embedded, job("k")) == {1.5: 1}
    put(embedded, f"({BEYOND - 1}::BIGINT, 2), (-3::BIGINT, 4)", "b", day=2)
    await embedded.completed(job("k"))
    assert keys(embedded, job("k")) == {1.5: 1, float(BEYOND - 1): 2, -3: 4}


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("DECIMAL(38,0)", ["-607772465147081537"]),
        ("DECIMAL(38,0)", ["-4057499055196698368", "-4972868706692547073", "3"]),
        ("DECIMAL(18,0)", ["-607772465147081530", "-7"]),
        ("DECIMAL(18,2)", ["-1234567890123456.78", "0.01", "-0.02"]),
        ("DECIMAL(38,10)", ["12345678901234567890.1234567891", "0.0000000001"]),
    ],
)
async def test_sums_of_decimals_are_the_nearest_double(embedded: Embedded, type_: str, values: list[str]) -> None:
    put(embedded, ", ".join(f"('x', '{value}'::{type_})" for value in values))
    await embedded.completed(job())
    (document,) = embedded.documents(job())
    exact = [Fraction(value) for value in values]
    found = [document[f"v.{metric}.value"] for metric in ("min", "max", "sum", "avg")]
    assert found == [float(x) for x in (min(exact), max(exact), sum(exact), sum(exact))]


MIXED = [
    ("16777217::INTEGER", "1.5::FLOAT", "FLOAT"),
    ("1234567.89::DECIMAL(12,2)", "1.5::FLOAT", "FLOAT"),
    ("1.5::DECIMAL(12,2)", "1::DECIMAL(38,0)", "DECIMAL(38,0)"),
    (f"{2**62}::BIGINT", "1.5::DECIMAL(38,30)", "DECIMAL(38,30)"),
    ("[7, 16777217]::INTEGER[]", "[1.5]::FLOAT[]", "FLOAT[]"),
    ("[7, 1.5]::DECIMAL(12,2)[]", "[1]::DECIMAL(38,0)[]", "DECIMAL(38,0)[]"),
]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("value", "other", "together"), MIXED)
async def test_numbers_that_lose_digits_beside_another_file_are_named(
    embedded: Embedded, value: str, other: str, together: str, first: bool
) -> None:
    names = ("a", "b") if first else ("b", "a")
    put(embedded, f"('x', {value})", names[0])
    put(embedded, f"('y', {other})", names[1])
    number = value.partition("::")[0].strip("[]").split(", ")[-1]
    await refused(embedded, job(), f"column 'v' of d/{names[0]}.parquet", f"has {number}", f"as {together}")


@pytest.mark.parametrize(("value", "other", "together"), [*MIXED, (f"{BEYOND}::BIGINT", "1.5::DOUBLE", "DOUBLE")])
async def test_keys_that_lose_digits_beside_another_file_are_named(
    embedded: Embedded, value: str, other: str, together: str
) -> None:
    put(embedded, f"({value}, 1)", "a")
    put(embedded, f"({other}, 2)", "b")
    await refused(embedded, job("k"), "column 'k' of d/a.parquet", f"as {together}")


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ("16777216::INTEGER", "1.5::FLOAT"),
        ("0.1::DECIMAL(12,2)", "1.5::DOUBLE"),
        (f"{BEYOND - 1}::BIGINT", "1.5::DOUBLE"),
        ("123456.25::DECIMAL(12,2)", "1::BIGINT"),
        ("1.5::DECIMAL(12,2)", "1.25::DECIMAL(5,4)"),
        ("5.00::DECIMAL(12,2)", "1::DECIMAL(38,0)"),
        ("[2.5, NULL]::DECIMAL(12,2)[]", "[1]::INTEGER[]"),
        ("NULL::INTEGER", "1.5::FLOAT"),
    ],
)
async def test_numbers_of_several_types_that_keep_their_digits_are_read_together(
    embedded: Embedded, value: str, other: str
) -> None:
    put(embedded, f"({value}, {value})", "a")
    put(embedded, f"({other}, {other})", "b")
    await embedded.completed(job("k"))
    of = [text.partition("::")[0].strip("[]").split(", ")[0] for text in (value, other)]
    expected = {None if text == "NULL" else float(text): 0 if text == "NULL" else float(text) for text in of}
    if value.startswith("["):
        expected = {2.5: 2.5, 1: 1}
    assert keys(embedded, job("k")) == expected


async def test_tables_and_files_are_looked_at_together(embedded: Embedded) -> None:
    put(embedded, "('x', 1.5::FLOAT)")
    with duckdb.connect(embedded.file) as connection:
        connection.execute("CREATE TABLE other AS SELECT TIMESTAMP '2024-01-01' AS t, 'y' AS k, 16777217 AS v")
    of = config(
        spec(
            "other,d/*.parquet",
            groups=job().spec.groups.model_dump(by_alias=True, exclude_none=True),
            metrics=[{"field": "v", "metrics": ["sum"]}],
        )
    )
    await refused(embedded, of, "column 'v'", "16777217", "as FLOAT")


async def test_files_are_asked_for_their_types_once_however_many_columns_are_decimals(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    execute = Lane.execute

    def noted(lane: Lane, statement: str, *given: Any) -> Any:
        asked.append(statement)
        return execute(lane, statement, *given)

    for name in "ab":
        put(embedded, "(1.5::DECIMAL(12,2), 2.5::DECIMAL(12,2))", name)
    monkeypatch.setattr(Lane, "execute", noted)
    store = embedded.store()
    assert (await store.preview(job("k"), Span(0, 2**41), 3)).rows == 2
    await store.close()
    assert sum("converted_type, logical_type" in text for text in asked) == 1
