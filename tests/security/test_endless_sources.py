"""Sources of which the reading, or the search, would not end: it ends all the same, and at once when it is told to."""

import asyncio
import gzip
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest

from rollup_operator.indexer.run import Run
from rollup_operator.rollup.bounds import Span
from rollup_operator.stores.duckdb import Budget, DuckDBStore
from rollup_operator.stores.duckdb.database import budget
from rollup_operator.stores.duckdb.database.budget import Heads
from rollup_operator.stores.duckdb.source import headers, sources
from rollup_operator.stores.errors import ForbiddenSource, SourceInvalid, SourceNotFound, StoreError, StoreUnavailable
from support.embedded import Embedded, config, spec
from support.rounding import ms

SPAN = Span(0, ms("2030-01-01T00:00"))
SOON = 3.0
"""Seconds. What is cut off takes a fraction of one, what is not takes minutes."""


def bomb(path: Path, head: bytes, part: bytes, times: int) -> None:
    """Write a small file that inflates to `head` and `part` again and again, about 10 MB each time."""
    once = gzip.compress(part * (10_000_000 // len(part)), 6)
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.write(gzip.compress(head))
        for _ in range(times):
            file.write(once)


def many(folder: Path, names: int) -> None:
    folder.mkdir(parents=True)
    for number in range(names):
        os.close(os.open(folder / f"x{number}.txt", os.O_CREAT | os.O_WRONLY))


async def stopped(run: Run, doing: str) -> float:
    """Start a run, halt it as soon as it does something; return the seconds until it has ended."""
    task = asyncio.ensure_future(run.index())
    async with asyncio.timeout(20):
        while doing not in run.progress.describe():  # noqa: ASYNC110 - it announces nothing
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.3)
    began = time.monotonic()
    run.halt()
    await task
    return time.monotonic() - began


ENDLESS = {
    "one value": (b"ts,value,term,size\n2024-01-01,", b"x"),
    "one value in quotes": (b'ts,value,term,size\n2024-01-01,"', b"x\n"),
    "empty lines": (b"", b"\n"),
    "commas": (b"", b","),
    "no text": (b"", b"\0\xff"),
}


@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_file_without_lines_is_refused_by_its_beginning(
    embedded: Embedded, store: DuckDBStore, kind: str
) -> None:
    bomb(embedded.folder / "in" / "a.csv.gz", *ENDLESS[kind], times=300)
    began = time.monotonic()
    with pytest.raises((SourceInvalid, SourceNotFound)):
        await store.preview(config(spec("in/*.csv.gz")), SPAN, 3)
    assert time.monotonic() - began < SOON


ROW = b"2024-01-01 00:00:00,1.0,a,1\n"


async def test_a_run_that_reads_a_file_that_inflates_to_much_is_stopped_at_once(embedded: Embedded) -> None:
    bomb(embedded.folder / "in" / "a.csv.gz", b"ts,value,term,size\n", ROW, times=300)
    run = embedded.make_run(config(spec("in/*.csv.gz")))
    assert await stopped(run, "inspecting the source") < SOON


async def test_a_preview_of_it_is_cut_off_at_once(embedded: Embedded, store: DuckDBStore) -> None:
    bomb(embedded.folder / "in" / "a.csv.gz", b"ts,value,term,size\n", ROW, times=300)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await store.preview(config(spec("in/*.csv.gz")), SPAN, 3)
    began = time.monotonic()
    await store.close()
    assert time.monotonic() - began < SOON


async def test_a_footer_that_takes_all_memory_is_not_read(embedded: Embedded, store: DuckDBStore) -> None:
    path = embedded.folder / "a.parquet"
    with path.open("wb") as file:
        file.truncate(200_000_000)
        file.seek(0, os.SEEK_END)
        file.write((190_000_000).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(SourceInvalid, match=r"'a\.parquet' has a footer of 190000000 bytes"):
        await store.fields("a.parquet", "out")


def wide(folder: Path, files: int) -> int:
    """Write Parquet files whose footers are far longer than their rows; returns the length of a footer."""
    columns = ", ".join(f"1 AS c{i}" for i in range(500))
    file = folder / "w0.parquet"
    duckdb.sql(f"COPY (SELECT make_timestamp(0) AS ts, {columns}) TO '{file}'")
    for number in range(1, files):
        shutil.copy(file, folder / f"w{number}.parquet")
    return int.from_bytes(file.read_bytes()[-8:-4], "little")


async def test_footers_of_many_files_do_not_take_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of the database's memory leaves them out."""
    monkeypatch.setattr(budget, "LEAST_HEADS", 16 << 20)
    monkeypatch.setattr(budget, "HEADS_S", 0.2)
    embedded = Embedded(tmp_path, budget=Budget(12 << 20))
    footer = wide(embedded.folder, 40)
    fits = (16 << 20) // (12 * footer)
    assert 8 < fits < 39
    for number in range(fits, 40):
        (embedded.folder / f"w{number}.parquet").rename(embedded.folder / f"x{number}.parquet")
    store, other = embedded.store(), embedded.store()
    try:
        with pytest.raises(SourceInvalid, match=r"takes \d+ MiB of memory, and the operator has 16 MiB for that"):
            await store.fields("w*.parquet,x*.parquet", "out")
        for _ in range(2):  # what was held is given back
            assert len(await store.fields("w*.parquet", "out")) == 501
        held = Heads(embedded.budget, "other")
        assert held.hold(8 << 20, lambda: None)
        with pytest.raises(StoreUnavailable, match="in use for other files now"):
            await other.fields("w*.parquet", "out")
        held.end()
        assert len(await other.fields("w*.parquet", "out")) == 501
    finally:
        await store.close()
        await other.close()


async def test_links_do_not_multiply_the_folders(embedded: Embedded, store: DuckDBStore) -> None:
    for number in range(6):
        (embedded.folder / f"l{number}").symlink_to(".")
    with pytest.raises(ForbiddenSource, match="'l0' is a link"):
        await store.fields("l*/" * 20 + "zz.parquet", "out")


async def test_a_huge_folder_is_searched_up_to_a_limit(
    embedded: Embedded, store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MOST_ENTRIES", 1000)
    many(embedded.folder / "in", 1001)
    with pytest.raises(SourceInvalid, match="more than 1000 files and folders"):
        await store.fields("in/*.parquet", "out")
    with pytest.raises(SourceInvalid, match="more than 1000"):
        await store.fields("i*/a*.parquet,in/b*.parquet", "out")
    monkeypatch.setattr(sources, "MOST_FILES", 2)
    for number in range(3):
        embedded.write(f"few/{number}.parquet", [(0, 1.0, "a", 1)])
    with pytest.raises(SourceInvalid, match="matches more than 2 files"):
        await store.fields("few/*.parquet", "out")
    with pytest.raises(SourceInvalid, match="at most 32 folders deep"):
        await store.fields("a/" * 33 + "b.parquet", "out")


@pytest.mark.parametrize("call", ["fields", "preview", "run"])
async def test_whoever_searches_a_huge_folder_is_stopped_at_once(
    embedded: Embedded, store: DuckDBStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The folder is searched again and again, since no folder that a test can make takes long enough."""
    many(embedded.folder / "in", 20_000)
    monkeypatch.setattr(sources, "MOST_ENTRIES", 2**60)
    pattern = ",".join(["in/*.parquet"] * 75)
    job = config(spec(pattern))
    if call == "run":
        assert await stopped(embedded.make_run(job), "inspecting the source") < SOON
        return
    work = store.fields(pattern, "out") if call == "fields" else store.preview(job, SPAN, 3)
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=0.3)
    assert not task.done()
    began = time.monotonic()
    task.cancel()
    await asyncio.wait({task})
    assert time.monotonic() - began < SOON
    assert task.cancelled()


async def test_the_end_of_a_store_ends_a_search(
    embedded: Embedded, store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(embedded.folder / "in", 20_000)
    monkeypatch.setattr(sources, "MOST_ENTRIES", 2**60)
    task = asyncio.ensure_future(store.fields(",".join(["in/*.parquet"] * 75), "out"))
    await asyncio.wait({task}, timeout=0.3)
    began = time.monotonic()
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await task
    assert time.monotonic() - began < SOON


async def test_a_database_that_is_being_taken_over_is_let_go(
    embedded: Embedded, store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (embedded.folder / "rollup.duckdb").open("wb") as file:
        file.write(b"x" * 8 + b"DUCK" + b"x" * (8 << 20))
    real = os.sendfile

    def slow(out: int, from_: int, at: int, count: int) -> int:
        time.sleep(0.01)  # as a volume of a network may be; two thousand times are 20 s
        return real(out, from_, at, min(count, 4096))

    monkeypatch.setattr(os, "sendfile", slow)
    task = asyncio.ensure_future(store.check())
    await asyncio.wait({task}, timeout=0.3)
    assert not task.done()
    began = time.monotonic()
    await store.close()
    with pytest.raises(StoreError):
        await task
    assert time.monotonic() - began < SOON
    assert not embedded.file.exists()


# How a file is written is found out as well from its beginning


def test_a_beginning_ends_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "HEAD", 50)
    assert headers._whole_lines(b'a,b\n1,"x\ny', "f") == b"a,b\n"
    assert headers._whole_lines(b'a,b\n1,"x\ny"\n2', "f") == b'a,b\n1,"x\ny"\n'
    with pytest.raises(SourceInvalid):
        headers._whole_lines(b"x" * 50, "f")


WRITTEN = {
    "quotes after a while": (b"ts,term\n" + b"2024-01-01,a\n" * 400_000 + b'2024-01-01,"b,c"\n', {"ts", "term"}),
    "semicolons": (b"ts;a\n31.12.2023;1\n01.01.2024;2\n", {"ts", "a"}),
    "a mark of its bytes": (b"\xef\xbb\xbfts,a\n2024-01-01,1\n", {"ts", "a"}),
    "a quote in a name": (b'ts,a\'b,"c""d"\n2024-01-01,1,2\n', {"ts", "a'b", 'c"d'}),
    "other ends of lines": (b"ts,a\r\n2024-01-01,1\r\n", {"ts", "a"}),
    "no names": (b"2024-01-01,1\n2024-01-02,3\n", {"column0", "column1"}),
}


@pytest.mark.parametrize("how", WRITTEN)
async def test_columns_are_found_however_it_is_written(embedded: Embedded, store: DuckDBStore, how: str) -> None:
    data, columns = WRITTEN[how]
    (embedded.folder / "a.csv").write_bytes(data)
    (embedded.folder / "b.csv.gz").write_bytes(gzip.compress(data))
    fields = await store.fields("*.csv,*.csv.gz", "out")
    assert fields.keys() == columns
    time_field = "ts" if "ts" in columns else "column0"
    assert fields[time_field].types <= {"date"}
    lane = await store._database.lane()
    try:
        found = await lane.run("reading", lambda lane: sources.find("a.csv,b.csv.gz", "out", lane), interruptible=True)
        rows = lane.execute(f"SELECT count(*) FROM {found.relation('x')}")
    finally:
        await asyncio.to_thread(store._database.leave, lane)
    lines = data.count(b"\n") - ("column0" not in columns)
    assert rows == [(2 * lines,)]


async def test_an_empty_file_is_no_source_of_columns(embedded: Embedded, store: DuckDBStore) -> None:
    (embedded.folder / "a.csv").write_bytes(b"ts,a\n2024-01-01,1\n")
    (embedded.folder / "b.csv").touch()
    assert (await store.fields("*.csv", "out")).keys() == {"ts", "a"}


def test_a_beginning_full_of_quotes_is_cut_in_no_time() -> None:
    for part in (b'"', b'"\n', b'"\n"', b"\n", b"\r\n", b'"\r'):
        head = (part * headers.HEAD)[: headers.HEAD - 1] + b'"'
        began = time.process_time()
        with suppress(SourceInvalid):
            headers._whole_lines(head, "f")
        assert time.process_time() - began < 0.3
