"""What searches keep of the columns of files: asked once of files that stay, never of those that changed."""

import os
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from rollup_operator.stores.duckdb import DuckDBStore
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.source import judged, sources
from rollup_operator.stores.search import Fetch, OneOf, Rows, Value
from support.embedded import Embedded, spec
from support.rounding import HOUR


def parquet_of(folder: Path, term: str) -> bytes:
    """A file of nine rows, whose term is this expression of `h`."""
    path = folder / "other"
    duckdb.sql(
        f"COPY (SELECT make_timestamp(h * 3600000000) AS ts, 1.0 AS value, {term} AS term, 1::BIGINT AS size "
        f"FROM range(9) t(h)) TO '{path}' (FORMAT parquet)"
    )
    content = path.read_bytes()
    path.unlink()
    return content


def written_over(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def written_over_with_the_old_time(path: Path, content: bytes) -> None:
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path: Path, content: bytes) -> None:
    (other := path.with_suffix(".tmp")).write_bytes(content)
    other.rename(path)


@pytest.fixture
def at(tmp_path: Path) -> Embedded:
    return Embedded(tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that ask what columns files have."""
    found: list[str] = []
    execute = Lane.execute

    def seen(lane: Lane, statement: str, values: object = None) -> list[tuple[object, ...]]:
        if "parquet_schema" in statement or "read_parquet" in statement:
            found.append(statement)
        return execute(lane, statement, values)

    monkeypatch.setattr(Lane, "execute", seen)
    return found


async def count(store: DuckDBStore, value: Value, pattern: str = "rows.parquet") -> int:
    (found,) = await store.search([Fetch(Rows(pattern, spec(pattern), "job"), OneOf("term", (value,)), None)])
    return found[()].rows[()].count


@pytest.mark.parametrize("change", [written_over, written_over_with_the_old_time, replaced])
async def test_a_file_that_changed_is_read_as_it_is_now(
    at: Embedded, monkeypatch: pytest.MonkeyPatch, asked: list[str], change: Callable[[Path, bytes], None]
) -> None:
    monkeypatch.setattr(sources, "_SETTLED_NS", 0)  # as if some time went by between the searches
    path, store = at.folder / "rows.parquet", at.store()
    path.write_bytes(parquet_of(at.root, "(h % 3)::VARCHAR"))
    try:
        assert await count(store, "1") == 3
        first = len(asked)
        assert (await count(store, "1"), await count(store, "5"), len(asked)) == (3, 0, first)
        change(path, parquet_of(at.root, "h"))
        assert (await count(store, 5), len(asked)) == (1, 2 * first)
        change(path, parquet_of(at.root, "h % 3"))
        assert await count(store, 1) == 3
    finally:
        await store.close()


async def test_nothing_is_kept_of_a_file_that_has_just_changed(at: Embedded, asked: list[str]) -> None:
    """It may change once more within the same tick of its clock."""
    at.write("rows.parquet", [(h * HOUR, 1.0, "a", 1) for h in range(3)])
    store = at.store()
    try:
        assert await count(store, "a") == 3
        first = len(asked)
        assert (await count(store, "a"), len(asked)) == (3, 2 * first)
    finally:
        await store.close()


async def test_another_file_beside_those_that_are_known_is_read(
    at: Embedded, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    monkeypatch.setattr(sources, "_SETTLED_NS", 0)
    at.write("in/a.parquet", [(h * HOUR, 1.0, "a", 1) for h in range(3)])
    store = at.store()
    try:
        assert [await count(store, "a", "in/*.parquet") for _ in range(2)] == [3, 3]
        first = len(asked)
        at.write("in/b.parquet", [(h * HOUR, 1.0, "a", 1) for h in range(2)])
        assert await count(store, "a", "in/*.parquet") == 5
        assert len(asked) > first
        (at.folder / "in" / "a.parquet").unlink()
        assert await count(store, "a", "in/*.parquet") == 2
    finally:
        await store.close()


@pytest.mark.parametrize("columns", [[f"'a' AS \"{'x' * 70_000}\""], [f"'a' AS \"{n}ü€\"" for n in range(600)]])
async def test_nothing_is_kept_of_a_file_whose_columns_take_much_memory(
    at: Embedded, monkeypatch: pytest.MonkeyPatch, asked: list[str], columns: list[str]
) -> None:
    """A tenant's files would fill the memory of all."""
    monkeypatch.setattr(sources, "_SETTLED_NS", 0)
    (at.folder / "rows.parquet").write_bytes(parquet_of(at.root, ", ".join([*columns, "'a'"])))
    store = at.store()
    try:
        assert await count(store, "a") == 9
        first = len(asked)
        assert (await count(store, "a"), len(asked)) == (9, 2 * first)
    finally:
        await store.close()


async def test_nothing_is_kept_of_very_many_files_though_most_are_empty(
    at: Embedded, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    monkeypatch.setattr(sources, "_SETTLED_NS", 0)
    monkeypatch.setattr(judged, "MOST_FILES", 3)
    at.write("in/rows.parquet", [(h * HOUR, 1.0, "a", 1) for h in range(3)])
    for number in range(3):
        (at.folder / "in" / f"{number}.csv").touch()
    store = at.store()
    try:
        assert await count(store, "a", "in/*.parquet,in/*.csv") == 3
        first = len(asked)
        assert (await count(store, "a", "in/*.parquet,in/*.csv"), len(asked)) == (3, 2 * first)
    finally:
        await store.close()


async def test_stores_share_what_they_keep(at: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    """What all of them keep is bounded together."""
    monkeypatch.setattr(sources, "_SETTLED_NS", 0)
    monkeypatch.setattr(judged, "MOST_SOURCES", 2)
    known = judged.Judged()
    for number in range(3):
        at.write(f"{number}.parquet", [(h * HOUR, 1.0, "a", 1) for h in range(3)])
        store = at.store(judged=known)
        try:
            assert await count(store, "a", f"{number}.parquet") == 3
        finally:
            await store.close()
    assert len(known._known) == 2
