"""Beginnings of CSV files that take long to look at. Python holds the whole process up while it splits a text."""

import time

import pytest

from rollup_operator.stores.duckdb.source.headers import HEAD, MOST_COLUMNS, first_line
from support.loop_guard import PROCESSOR_SECONDS

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
