"""CSV files as people have them: what is guessed can be seen and said, and what is wrong is named."""

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rollup_operator.indexer.run import RunResult
from rollup_operator.model.validation import problems
from rollup_operator.rollup.due import due
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.base import Preview
from rollup_operator.stores.errors import SourceInvalid, SourceNotFound
from support.embedded import Embedded, config, spec

HEAD = "t,k,v\n"


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    return Embedded(tmp_path)


def job(pattern: str = "d/*.csv", metrics: tuple[str, ...] = ("v",), **changes: Any) -> JobConfig:
    return config(
        spec(
            pattern,
            groups={"dateHistogram": {"field": "t", "fixedInterval": "1h"}, "terms": {"fields": ["k"]}},
            metrics=[{"field": name, "metrics": ["sum", "value_count"]} for name in metrics],
            **changes,
        )
    )


def write(embedded: Embedded, text: str | bytes, name: str = "d/a.csv") -> None:
    path = embedded.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def lines(*keys: str, at: str = "2024-01-01 00:10:00") -> str:
    return HEAD + "".join(f"{at},{key},{2**i}\n" for i, key in enumerate(keys))


def sums(embedded: Embedded, of: JobConfig) -> dict[object, float]:
    return {d["k.terms.value"]: d["v.sum.value"] for d in embedded.documents(of)}


async def failed(embedded: Embedded, of: JobConfig) -> RunResult:
    result = await embedded.run(of)
    assert result.outcome == "Failed", result
    assert str(embedded.root) not in result.message
    assert "/proc" not in result.message
    return result


async def previewed(embedded: Embedded, of: JobConfig) -> Preview:
    store = embedded.store()
    try:
        return await store.preview(of, due(of.spec, embedded.now).fresh, 3)
    finally:
        await store.close()


@pytest.mark.parametrize(
    "keys",
    [
        ("1.1", "1.10", "1.2"),
        ("1e5", "100000", "12e3"),
        ("nan", "inf", "1"),
        ("007", "7"),
        ("true", "TRUE"),
        ("1", "2"),
    ],
)
async def test_terms_are_the_texts_that_are_written(embedded: Embedded, keys: tuple[str, ...]) -> None:
    write(embedded, lines(*keys))
    await embedded.completed(job())
    assert sums(embedded, job()) == {key: 2**i for i, key in enumerate(keys)}


async def test_a_term_that_was_whole_becomes_decimal(embedded: Embedded) -> None:
    write(embedded, lines("1", "2"))
    await embedded.completed(job())
    write(embedded, lines("1.5", "2.5", "2.4", "2", at="2024-01-02 00:10:00"), "d/b.csv")
    await embedded.completed(job())
    found = [
        (d["t.date_histogram.timestamp"] // 86_400_000, d["k.terms.value"], d["v.sum.value"])
        for d in embedded.documents(job())
    ]
    assert sorted(found) == [
        (19723, "1", 1),
        (19723, "2", 2),
        (19724, "1.5", 1),
        (19724, "2", 8),
        (19724, "2.4", 4),
        (19724, "2.5", 2),
    ]


async def test_types_can_be_said(embedded: Embedded) -> None:
    write(embedded, lines("1.1", "1.10", "007"))
    of = job(csv={"columns": [{"name": "k", "type": "DOUBLE"}]})
    await embedded.completed(of)
    assert sums(embedded, of) == {1.1: 3, 7.0: 4}


async def test_a_missing_value_and_a_delimiter_can_be_said(embedded: Embedded) -> None:
    write(embedded, "2024-01-01 00:10:00;a;1\n2024-01-01 00:20:00;n/a;n/a\n2024-01-01 00:30:00;;4\n")
    groups = {"dateHistogram": {"field": "column0", "fixedInterval": "1h"}, "terms": {"fields": ["column1"]}}
    of = config(
        spec(
            "d/a.csv",
            groups=groups,
            metrics=[{"field": "column2", "metrics": ["sum", "value_count"]}],
            csv={"delimiter": ";", "header": False, "nullText": "n/a"},
        )
    )
    await embedded.completed(of)
    found = {
        d["column1.terms.value"]: (d["column2.sum.value"], d["column2.value_count.value"])
        for d in embedded.documents(of)
    }
    assert found == {"a": (1, 1), None: (4, 1)}


async def test_tabs_can_be_said(embedded: Embedded) -> None:
    write(embedded, lines("a,b").replace("a,b", "a;b").replace(",", "\t"))
    of = job(csv={"delimiter": "tab"})
    await embedded.completed(of)
    assert sums(embedded, of) == {"a;b": 1}


async def test_a_preview_shows_what_is_guessed(embedded: Embedded) -> None:
    write(embedded, "t;k;v;w\n2024-01-01 00:10:00;1e5;1;2024-01-01\n")
    found = await previewed(embedded, job())
    assert found.columns == {"t": "TIMESTAMP", "k": "VARCHAR", "v": "BIGINT"}
    (csv,) = found.csv
    assert (csv.delimiter, csv.header) == (";", True)
    assert csv.columns == {"t": "TIMESTAMP", "k": "VARCHAR", "v": "BIGINT", "w": "DATE"}


async def test_a_text_among_numbers_is_named(embedded: Embedded) -> None:
    rows = "".join(f"2024-01-01 00:{i % 60:02}:00,a,{i}\n" for i in range(200_000))
    write(embedded, lines("a"), "d/0.csv")
    write(embedded, f"{HEAD}{rows}2024-01-01 00:10:00,a,n/a\n")
    result = await failed(embedded, job())
    assert isinstance(result.error, SourceInvalid)
    assert not result.error.transient
    for part in ("d/a.csv", "line 200002", "column 'v'", "'n/a'", "BIGINT", "spec.csv"):
        assert part in result.message
    of = job(csv={"nullText": "n/a"})
    await embedded.completed(of)
    assert embedded.documents(of)[0]["v.value_count.value"] == 200_001


@pytest.mark.parametrize(("last", "count"), [("2024-01-01 00:10:00,a\n", "2"), ("2024-01-01 00:10:00,a,1,2\n", "4")])
async def test_a_line_with_other_columns_is_named(embedded: Embedded, last: str, count: str) -> None:
    rows = "".join(f"2024-01-01 00:{i % 60:02}:00,a,{i}\n" for i in range(200_000))
    write(embedded, HEAD + rows + last)
    result = await failed(embedded, job())
    assert isinstance(result.error, SourceInvalid)
    for part in ("d/a.csv", "line 200002", "3 columns are expected", f"there are {count}"):
        assert part in result.message


@pytest.mark.parametrize("text", ["n/a", "1;5", "$1", "10%", "1 000"])
async def test_a_text_among_the_first_numbers_is_named(embedded: Embedded, text: str) -> None:
    write(embedded, lines("a"), "d/0.csv")
    write(embedded, f'{lines("a", "b")}2024-01-01 00:10:00,a,"{text}"\n2024-01-01 00:10:00,a,5\n')
    result = await failed(embedded, job())
    assert isinstance(result.error, SourceInvalid)
    for part in ("d/a.csv", "line 4", "column 'v'", repr(text), "spec.csv.nullText"):
        assert part in result.message
    of = job(csv={"nullText": text})
    await embedded.completed(of)
    assert sums(embedded, of) == {"a": 7, "b": 2}


@pytest.mark.parametrize("null", ["1,5", ",", '"', 'n"a'])
async def test_a_text_for_missing_values_that_no_reader_can_tell_is_refused(embedded: Embedded, null: str) -> None:
    write(embedded, f'{lines("a", "b")}2024-01-01 00:10:00,"x ""y""",5\n')
    result = await failed(embedded, job(csv={"nullText": null}))
    assert isinstance(result.error, SourceInvalid)
    for part in ("d/a.csv", "spec.csv.nullText", repr(null)):
        assert part in result.message


@pytest.mark.parametrize("text", ["n/a", "04/13/2024 00:00", "2024-02-30 00:10:00"])
async def test_what_is_no_time_is_named(embedded: Embedded, text: str) -> None:
    write(embedded, f"{lines('a', 'b')}{text},a,4\n")
    result = await failed(embedded, job())
    for part in ("d/a.csv", "line 4", "column 't'", repr(text)):
        assert part in result.message


async def test_what_is_no_finite_number_counts_as_missing(embedded: Embedded) -> None:
    write(
        embedded, f"{HEAD}" + "".join(f"2024-01-01 00:10:00,a,{v}\n" for v in ("inf", "1", "nan", "-Infinity", "2.5"))
    )
    await embedded.completed(job())
    (document,) = embedded.documents(job())
    assert (document["v.sum.value"], document["v.value_count.value"]) == (3.5, 2)


@pytest.mark.parametrize("before", [1, 200_000])
async def test_line_ends_of_several_kinds_are_named(embedded: Embedded, before: int) -> None:
    rows = "".join(f"2024-01-01 00:{i % 60:02}:00,a,{i}\r\n" for i in range(before))
    write(embedded, f"{HEAD[:-1]}\r\n{rows}2024-01-01 00:10:00,a,1\n2024-01-01 00:10:00,a,1\r\n")
    result = await failed(embedded, job())
    assert isinstance(result.error, SourceInvalid)
    assert not result.error.transient
    for part in ("d/a.csv", "ends of lines", "LF", "CRLF"):
        assert part in result.message


@pytest.mark.parametrize("before", [0, 200_000])
async def test_another_encoding_is_named(embedded: Embedded, before: int) -> None:
    rows = "".join(f"2024-01-01 00:{i % 60:02}:00,a,{i}\n" for i in range(before))
    write(embedded, (HEAD + rows).encode() + b"2024-01-01 00:10:00,caf\xe9,1\n")
    result = await failed(embedded, job())
    assert isinstance(result.error, SourceInvalid)
    for part in ("d/a.csv", f"line {before + 2}", "UTF-8"):
        assert part in result.message


@pytest.mark.parametrize("begin", ["", "\ufeff"])
async def test_columns_that_differ_in_case_are_named(embedded: Embedded, begin: str) -> None:
    write(embedded, f"{begin}Value,value,t,k\n1,10,2024-01-01 00:10:00,a\n")
    result = await failed(embedded, job(metrics=("Value", "value")))
    assert isinstance(result.error, SourceInvalid)
    assert "'Value'" in result.message
    assert "'value'" in result.message
    assert "case" in result.message
    await embedded.completed(job(metrics=()))  # which means none of them


async def test_a_type_of_a_column_that_no_file_has_is_named(embedded: Embedded) -> None:
    write(embedded, lines("a"))
    result = await failed(embedded, job(csv={"columns": [{"name": "K", "type": "VARCHAR"}]}))
    assert isinstance(result.error, SourceInvalid)
    assert "spec.csv.columns" in result.message
    assert "'K'" in result.message
    assert "'k'" in result.message


async def test_files_whose_columns_differ_in_case_are_named(embedded: Embedded) -> None:
    write(embedded, "t,k,Value\n2024-01-01 00:10:00,a,1\n")
    write(embedded, "t,k,value\n2024-01-01 00:10:00,a,1\n", "d/b.csv")
    result = await failed(embedded, job(metrics=("value",)))
    assert isinstance(result.error, SourceInvalid)
    assert "case" in result.message


@pytest.mark.parametrize("text", ["t,k,v\n", "t,k,v", "", "\n", "t,k,v\r\n"])
@pytest.mark.parametrize("zipped", [False, True])
async def test_files_without_rows_say_so(embedded: Embedded, text: str, zipped: bool) -> None:
    name = "d/a.csv.gz" if zipped else "d/a.csv"
    write(embedded, gzip.compress(text.encode()) if zipped else text, name)
    result = await failed(embedded, job("d/*"[:2] + name[2:]))
    assert isinstance(result.error, SourceNotFound)
    assert "no rows yet" in result.message
    write(embedded, lines("a"), "d/b.csv")
    of = job(f"{name},d/b.csv")
    await embedded.completed(of)
    assert sums(embedded, of) == {"a": 1}


async def test_other_endings_are_explained(embedded: Embedded) -> None:
    write(embedded, "{}", "events.json")
    result = await failed(embedded, job("events.json"))
    assert isinstance(result.error, SourceNotFound)
    assert "names of files end in .parquet, .csv" in result.message


async def test_a_cut_file_is_named_as_users_know_it(embedded: Embedded) -> None:
    rows = "".join(f"2024-01-01 00:10:00,{hash((i, 'a'))},1\n" for i in range(100_000))
    whole = gzip.compress((HEAD + rows).encode())
    write(embedded, whole[: len(whole) // 2], "d/a.csv.gz")
    result = await failed(embedded, job("d/*.csv.gz"))
    assert "d/a.csv.gz" in result.message
    write(embedded, b"PAR1" + b"x" * 100, "d/a.parquet")
    result = await failed(embedded, job("d/*.parquet"))
    assert "d/a.parquet" in result.message


@pytest.mark.parametrize("delimiter", [",", ";", "\t", None])
@pytest.mark.parametrize(
    ("row", "columns"), [("2024-01-01 00:10:00,b", 2), ("2024-01-01 00:10:00,b,2,9", 4), ("2024-01-01 00:1", 1)]
)
async def test_a_line_of_a_small_file_that_is_too_short_or_long_is_named(
    embedded: Embedded, delimiter: str | None, row: str, columns: int
) -> None:
    text = f"{lines('a', 'b')}{row}\n"
    write(embedded, text.replace(",", delimiter or ","))
    result = await failed(embedded, job(csv={} if delimiter is None else {"delimiter": delimiter.replace("\t", "tab")}))
    assert isinstance(result.error, SourceInvalid)
    for part in ("d/a.csv", "line 4", f"3 columns are expected, and there are {columns}"):
        assert part in result.message, result.message


async def test_lines_of_a_file_with_too_many_columns_are_not_counted(embedded: Embedded) -> None:
    """DuckDB takes some 7 kB for each column that is named to it, beyond its limit and without an interruption."""
    write(embedded, f"t,k,v,{','.join(f'c{n}' for n in range(9_998))}\n2024-01-01 00:10:00,a,1\n")
    result = await failed(embedded, job())
    assert isinstance(result.error, SourceInvalid)
    assert "has 10001 columns, above 10000" in result.message


def dated(*times: str) -> str:
    return HEAD + "".join(f"{time},a,{2**i}\n" for i, time in enumerate(times))


def hours(embedded: Embedded, of: JobConfig) -> list[str]:
    found = [d["t.date_histogram.timestamp"] for d in embedded.documents(of)]
    return sorted(datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H") for at in found)


@pytest.mark.parametrize(
    ("times", "one", "other"),
    [
        (("03/04/2024", "05/04/2024"), "%d/%m/%Y", "%m/%d/%Y"),
        (("03-04-2024 10:00:00", "05-04-2024 11:00:00"), "%d-%m-%Y %H:%M:%S", "%m-%d-%Y %H:%M:%S"),
        (("03-04-24", "05-04-24"), "%d-%m-%y", "%y-%m-%d"),
    ],
)
async def test_times_that_can_be_read_in_two_ways_are_refused(
    embedded: Embedded, times: tuple[str, ...], one: str, other: str
) -> None:
    write(embedded, dated(*times))
    result = await failed(embedded, job())
    assert isinstance(result.error, SourceInvalid)
    for part in ("d/a.csv", "column 't'", repr(times[0]), "spec.csv.timeFormat", one, other):
        assert part in result.message, result.message


async def test_two_ways_that_are_one_are_no_doubt(embedded: Embedded) -> None:
    write(embedded, dated("04/04/2024", "04/04/2024"))
    await embedded.completed(job())
    assert hours(embedded, job()) == ["2024-04-04T00"]


async def test_a_day_that_is_no_month_settles_how_times_are_read(embedded: Embedded) -> None:
    write(embedded, dated("13/04/2024", "05/04/2024"))
    write(embedded, dated("03/04/2024"), "d/b.csv")  # as in the file beside it
    await embedded.completed(job())
    assert hours(embedded, job()) == ["2024-04-03T00", "2024-04-05T00", "2024-04-13T00"]


@pytest.mark.parametrize(
    ("time", "format_", "hour"),
    [
        ("03/04/2024", "%m/%d/%Y", "2024-03-04T00"),
        ("03/04/2024", "%d/%m/%Y", "2024-04-03T00"),
        ("3/14/2024 1:05 PM", "%m/%d/%Y %I:%M %p", "2024-03-14T13"),
        ("04/Mar/2024:10:00:01 +0200", "%d/%b/%Y:%H:%M:%S %z", "2024-03-04T08"),
    ],
)
async def test_how_times_are_written_can_be_said(embedded: Embedded, time: str, format_: str, hour: str) -> None:
    write(embedded, dated(time))
    of = job(csv={"timeFormat": format_})
    await embedded.completed(of)
    assert hours(embedded, of) == [hour]


async def test_a_time_of_another_format_is_named(embedded: Embedded) -> None:
    write(embedded, dated("3/14/2024 1:05 PM"))
    result = await failed(embedded, job())
    for part in ("d/a.csv", "column 't'", "'3/14/2024 1:05 PM'", "spec.csv.timeFormat"):
        assert part in result.message, result.message
    result = await failed(embedded, job(csv={"timeFormat": "%Y-%m-%d"}))
    for part in ("d/a.csv", "column 't'", "'3/14/2024 1:05 PM'", "spec.csv.timeFormat"):
        assert part in result.message, result.message


async def test_a_preview_shows_how_times_are_read(embedded: Embedded) -> None:
    write(embedded, dated("13/04/2024"))
    (csv,) = (await previewed(embedded, job())).csv
    assert csv.time_format == "%d/%m/%Y"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"indexPattern": "rows"}, "spec.csv"),
        ({"indexPattern": "in/*.parquet"}, "spec.csv"),
        ({"csv": {"columns": [{"name": "a", "type": "TEXT"}]}}, "spec.csv.columns[0].type"),
        ({"csv": {"columns": [{"name": "a", "type": "DATE"}] * 2}}, "spec.csv.columns[1].name"),
        ({"csv": {"delimiter": '"'}}, "spec.csv.delimiter"),
        ({"csv": {"delimiter": ""}}, "spec.csv.delimiter"),
        ({"csv": {"timeFormat": "dd/MM/yyyy"}}, "spec.csv.timeFormat"),
        ({"csv": {"timeFormat": "%H:%M:%S"}}, "spec.csv.timeFormat"),
        ({"csv": {"timeFormat": "%d/%m"}}, "spec.csv.timeFormat"),
        ({"csv": {"timeFormat": "%Y-%m-%d %q"}}, "spec.csv.timeFormat"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], field: str) -> None:
    good = spec("d/*.csv", csv={"nullText": "n/a"}).model_dump(by_alias=True, exclude_none=True, mode="json")
    assert problems(good) == []
    assert [p.field for p in problems(good | changes)] == [field]
