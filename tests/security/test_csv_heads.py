"""Beginnings of CSV files that take long to look at. Python holds the whole process up while it splits a text."""

import time

import pytest

from rollup_operator.rollup.bounds import Span
from rollup_operator.stores.duckdb import DuckDBStore
from rollup_operator.stores.duckdb.source import sources
from rollup_operator.stores.duckdb.source.headers import HEAD, MOST_COLUMNS, first_line
from rollup_operator.stores.errors import SourceInvalid
from support.embedded import Embedded, config, spec
from support.loop_guard import PROCESSOR_SECONDS
from support.rounding import ms

ODD = {
    "short lines": b"a,b\n" + b"xy\n" * (HEAD // 3 - 2),
    "short names": b"ab," * (HEAD // 3),
    "names in quotes": b'"a",' * (HEAD // 4),
    "no names": b"," * HEAD,
    "no text": b"\xff" * HEAD,
    "no line feeds": b"a,b\r" + b"xy\r" * (HEAD // 3 - 2),
}


@pytest.mark.parametrize("kind", ODD)
def test_the_first_line_is_found_without_holding_up_anybody(kind: str) -> None:
    took = []
    for _ in range(3):
        began = time.thread_time()
        names = first_line(ODD[kind], ",", '"', 0)
        took.append(time.thread_time() - began)
    assert min(took) < PROCESSOR_SECONDS / 2
    assert (
        list(names) == ["a", "b"]
        if "lines" in kind or "feeds" in kind
        else len(names) == 0 or len(names) > MOST_COLUMNS
    )


@pytest.mark.parametrize(
    ("head", "skip", "names"),
    [
        ('\ufeffa,b\u2028c,"d,e"\r\n1,2', 0, ["a", "b\u2028c", "d,e"]),
        ("x\ra,b\rc", 1, ["a", "b"]),
        ("", 0, []),
        ("a", 3, []),
    ],
)
def test_a_first_line_ends_where_lines_of_files_end(head: str, skip: int, names: list[str]) -> None:
    assert list(first_line(head.encode(), ",", '"', skip)) == names


JOB = config(spec("*.csv"))
SPAN = Span(0, ms("2030-01-01T00:00"))


def write(embedded: Embedded, files: int, columns: int, value: str = "1", *, alike: bool) -> None:
    for number in range(files):
        names = [f"c{'' if alike else number}_{n}" for n in range(columns)]
        lines = ",".join(["ts", "value", "term", "size", *names]), ",".join(["2024-01-01,1.0,a,1", *[value] * columns])
        (embedded.folder / f"{number}.csv").write_text("\n".join([*lines, ""]))


async def test_many_files_that_are_written_alike_are_read(
    embedded: Embedded, store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MOST_COLUMNS", 50)
    monkeypatch.setattr(sources, "MOST_CELLS", 50)
    write(embedded, 9, 40, alike=True)
    assert (await store.preview(JOB, SPAN, 3)).rows == 9
    write(embedded, 9, 40, "", alike=True)  # of no value is known what the column holds
    assert (await store.preview(JOB, SPAN, 3)).rows == 9


async def test_what_is_guessed_of_columns_that_the_job_does_not_name_makes_no_other_way_of_writing(
    embedded: Embedded, store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns that are often empty make almost each of many files a guess of its own."""
    monkeypatch.setattr(sources, "MOST_COLUMNS", 30)
    for number in range(16):
        others = ",".join("1" if number & 2**n else "x" for n in range(4))
        lines = "ts,value,term,size,c0,c1,c2,c3", f"2024-01-01,1.5,a,1,{others}", ""
        (embedded.folder / f"{number}.csv").write_text("\n".join(lines))
    found = await store.preview(JOB, SPAN, 3)
    assert (found.rows, found.documents[0][1]["value.sum.value"]) == (16, 24.0)


@pytest.mark.parametrize("what", ["times that another file explains", "a text that is no number"])
async def test_what_is_said_of_single_files_makes_no_other_way_of_writing(
    embedded: Embedded, store: DuckDBStore, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(sources, "MOST_COLUMNS", 20)
    wrong = what.startswith("a text")
    for day in range(1, 10):
        time = "2024-01-01" if wrong else f"0{day}/02/2024"
        (embedded.folder / f"{day}.csv").write_text(f"ts,value,term,size\n{time},{'x' if wrong else 1.5},a,1\n")
    (embedded.folder / "clear.csv").write_text("ts,value,term,size\n02/13/2024,1.5,a,1\n02/14/2024,1.5,a,1\n")
    if not wrong:
        assert (await store.preview(JOB, SPAN, 3)).rows == 11
        return
    with pytest.raises(SourceInvalid, match=r"column 'value'.*'x'"):
        await store.preview(JOB, SPAN, 3)


@pytest.mark.parametrize(("limit", "most"), [("MOST_COLUMNS", 90), ("MOST_CELLS", 200), ("MOST_LETTERS", 450)])
async def test_columns_of_files_are_limited_in_all(
    embedded: Embedded, store: DuckDBStore, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(sources, limit, most)
    write(embedded, 2, 40, alike=False)
    assert (await store.preview(JOB, SPAN, 3)).rows == 2
    write(embedded, 3, 40, alike=False)
    with pytest.raises(SourceInvalid, match=r"its CSV files are written in 3 or more ways, with 132 columns together"):
        await store.preview(JOB, SPAN, 3)


async def test_of_a_time_with_blanks_without_end_the_time_is_shown(embedded: Embedded, store: DuckDBStore) -> None:
    times = [f"0{day}/04/2024{' ' * 100_000}" for day in (3, 5)]
    rows = ["ts,value,term,size", *(f"{time},1,a,1" for time in times)]
    (embedded.folder / "0.csv").write_text("\n".join([*rows, ""]))
    with pytest.raises(SourceInvalid, match="'03/04/2024' can be") as caught:
        await store.preview(JOB, SPAN, 3)
    assert len(str(caught.value)) < 400
