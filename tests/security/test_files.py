"""Who writes into one namespace's folder neither reads, nor changes, nor deletes anything outside of it.

And what the operator writes destroys nothing in it.
"""

import asyncio
import hashlib
import os
import sys
import time
from pathlib import Path

import duckdb
import pytest

from rollup_operator.rollup.bounds import Span
from rollup_operator.stores.duckdb import DuckDBStore
from rollup_operator.stores.errors import (
    ForbiddenSource,
    SourceNotFound,
    StoreError,
    StoreUnavailable,
    TargetBlocked,
)
from support.embedded import Embedded, config, spec
from support.rounding import HOUR, ms
from support.swapping import swapped

BEGIN = ms("2024-03-01T00:00")
ROWS = [(BEGIN + i * HOUR // 7, float(i % 13), "ab"[i % 2], i % 40) for i in range(700)]
SPAN = Span(0, ms("2030-01-01T00:00"))
SWAP_SECONDS = 4.0


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    """The folder of `team`, and one of `other` with a file and a database that are none of its business."""
    made = Embedded(tmp_path)
    made.write("in/rows.parquet", ROWS)
    other = tmp_path / "other"
    other.mkdir()
    with duckdb.connect() as db:
        db.execute(f"COPY (SELECT now()::TIMESTAMP AS ts, 1000 AS salary) TO '{other}/rows.parquet'")
        db.execute(f"COPY (SELECT now()::TIMESTAMP AS ts, 1000 AS salary) TO '{other}/job.parquet'")
    with duckdb.connect(str(other / "rollup.duckdb")) as db:
        db.execute("CREATE TABLE salaries AS SELECT now()::TIMESTAMP AS ts, 1000 AS salary")
    return made


def content(folder: Path) -> dict[str, str]:
    """Every name below a folder with what is there."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else "folder"
        if path.is_dir()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
    }


async def test_a_result_replaces_no_file_of_the_users(embedded: Embedded) -> None:
    embedded.write("flights/2013-01.parquet", ROWS)
    before = content(embedded.folder)
    await embedded.completed(config(spec("in/*.parquet", index="flights"), job_id="2013-01"))
    assert content(embedded.folder) == before


async def test_the_users_folder_is_only_read(embedded: Embedded, store: DuckDBStore) -> None:
    before = content(embedded.folder)
    job = config(spec("in/*.parquet"))
    await store.check()
    await store.fields("in/*.parquet", "out")
    await store.preview(job, SPAN, 3)
    await embedded.completed(job, store=store)
    assert len(embedded.documents(job)) > 100
    await store.settle(job, "me", delete_documents=True)
    assert content(embedded.folder) == before
    assert list(embedded.results.iterdir()) == []


@pytest.mark.parametrize(
    "pattern",
    [
        "../other/rows.parquet",
        "in/../../other/rows.parquet",
        "/etc/passwd.csv",
        "~/x.csv",
        "file:///etc/x.csv",
        "s3://bucket/x.parquet",
        "..\\other\\rows.parquet",
        ".rollup-operator/other/results/x.parquet",
        "link.parquet",
        "folder/rows.parquet",
        "*/rows.parquet",
    ],
)
async def test_no_pattern_leads_out_of_the_users_folder(embedded: Embedded, store: DuckDBStore, pattern: str) -> None:
    (embedded.folder / "link.parquet").symlink_to(embedded.root / "other" / "rows.parquet")
    (embedded.folder / "folder").symlink_to(embedded.root / "other")
    with pytest.raises((ForbiddenSource, SourceNotFound)) as e:
        await store.fields(pattern, "out")
    assert "salary" not in str(e.value)
    assert isinstance(e.value, ForbiddenSource) or pattern.startswith(".rollup")


async def test_a_log_that_is_a_link_is_not_written_through(embedded: Embedded) -> None:
    with duckdb.connect(str(embedded.folder / "rollup.duckdb")) as db:
        db.execute("CREATE TABLE rows (ts TIMESTAMP)")
    (embedded.folder / "rollup.duckdb.wal").symlink_to(embedded.root / "other" / "rows.parquet")
    before = content(embedded.root / "other")
    result = await embedded.run(config(spec("in/*.parquet")))
    assert isinstance(result.error, TargetBlocked), result
    assert "rollup.duckdb is a link" in result.message
    assert content(embedded.root / "other") == before


@pytest.mark.parametrize("what", ["sub", "sub/rollup.duckdb"])
async def test_no_database_of_another_namespace_is_opened_while_folders_change(embedded: Embedded, what: str) -> None:
    """The place where it was kept before is looked at once, and then copied from."""
    (embedded.folder / "sub").mkdir()
    with duckdb.connect(str(embedded.folder / "sub" / "rollup.duckdb")) as db:
        db.execute("CREATE TABLE mine AS SELECT 1 AS x")
    target = embedded.root / "other" / ("rollup.duckdb" if what.endswith("duckdb") else "")
    (embedded.folder / "link").symlink_to(target)
    embedded.database = "sub/rollup.duckdb"
    before, opened, end = content(embedded.root / "other"), 0, time.monotonic() + SWAP_SECONDS
    with swapped(embedded.folder / what, embedded.folder / "link"):
        while time.monotonic() < end or not opened:
            assert time.monotonic() < end + 30
            embedded.file.unlink(missing_ok=True)
            store = embedded.store()
            try:
                found = await store._with_lane("tables", lambda lane: lane.execute("SHOW TABLES"), [])
            except StoreError:
                continue
            finally:
                await store.close()
            assert found in ([("mine",)], [])
            opened += bool(found)
    assert content(embedded.root / "other") == before


async def test_no_file_of_another_namespace_is_read_while_folders_change(
    embedded: Embedded, store: DuckDBStore
) -> None:
    (embedded.folder / "link").symlink_to(embedded.root / "other")
    answers, end = {"mine": 0, "refused": 0}, time.monotonic() + SWAP_SECONDS
    with swapped(embedded.folder / "in", embedded.folder / "link"):
        while time.monotonic() < end or not all(answers.values()):
            assert time.monotonic() < end + 30, answers
            try:
                answer = str(await store.fields("in/rows.parquet", "out"))
                answers["mine"] += 1
            except StoreError as e:
                answer = str(e)
                answers["refused"] += 1
            assert "salary" not in answer


@pytest.mark.parametrize("where", ["users", "results"])
async def test_nothing_of_another_namespace_is_replaced_or_deleted_while_folders_change(
    embedded: Embedded, store: DuckDBStore, where: str
) -> None:
    """Neither where results were kept before, nor in the operator's own tree, where nobody else should write."""
    parent = embedded.folder if where == "users" else embedded.results
    (parent / "out").mkdir(parents=True)
    (parent / "link").symlink_to(embedded.root / "other")
    before, done, end = content(embedded.root / "other"), 0, time.monotonic() + SWAP_SECONDS
    with swapped(parent / "out", parent / "link"):
        while time.monotonic() < end or not done:
            assert time.monotonic() < end + 30
            job = config(spec("in/*.parquet"))
            done += (await embedded.run(job, store=store)).outcome == "Completed"
            try:
                await store.settle(job, "me", delete_documents=True)
            except StoreError:
                continue
    assert content(embedded.root / "other") == before


@pytest.mark.parametrize("foreign", ["no result", "another store's"])
async def test_a_foreign_file_in_the_place_of_a_result_stays(embedded: Embedded, foreign: str) -> None:
    job = config(spec("in/*.parquet"))
    if foreign == "no result":
        embedded.export(job).parent.mkdir(parents=True)
        embedded.export(job).write_bytes(b"dear diary")
    else:
        embedded.database = "first.duckdb"
        await embedded.completed(job)
        embedded.database = "second.duckdb"
    before = content(embedded.results)
    result = await embedded.run(job)
    assert isinstance(result.error, TargetBlocked), result
    assert ".rollup-operator/team/results/out/job.parquet" in result.message
    store = embedded.store()
    assert (await store.settle(job, "me", delete_documents=True)).claim is not None
    await store.close()
    assert content(embedded.results) == before


@pytest.mark.parametrize("at", [".rollup-operator", ".rollup-operator/team", ".rollup-operator/team/databases"])
async def test_what_is_in_the_way_of_the_operators_tree_stays(embedded: Embedded, at: str) -> None:
    place = embedded.root / at
    place.rename(place.with_name("away"))
    place.symlink_to(embedded.root / "other")
    before = content(embedded.root / "other")
    with pytest.raises(TargetBlocked, match=f"'{at}' in the data root is a link, not a folder: remove it"):
        await embedded.store().check()
    assert content(embedded.root / "other") == before


BROKEN = {
    "no Parquet": ("in/a.parquet", b"PAR1 this is none PAR1"),
    "no text": ("in/a.csv", bytes(range(256)) * 100),
    "another shape": ("in/a.csv", b"a,b\n1,2\n3\n"),
    "not inflated": ("in/a.csv.gz", b"\x1f\x8b\x08\x00 nothing"),
    "column": ("in/a.csv", b"ts,vulue\n1,2\n"),
    "link": ("in/rows.parquet", b""),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_no_path_of_the_machine_is_in_an_error(embedded: Embedded, store: DuckDBStore, broken: str) -> None:
    name, data = BROKEN[broken]
    path = embedded.folder / name
    if data:
        path.write_bytes(data)
    else:
        path.rename(path.with_name("other"))
        path.symlink_to("other")
    said = []
    job = config(spec(name))
    for call in (store.fields(name, "out"), store.preview(job, SPAN, 3), embedded.run(job, store=store)):
        try:
            result = await call
        except StoreError as e:
            said.append(str(e))
        else:
            said.append(getattr(result, "message", ""))
    assert any(said)
    for text in said:
        assert str(embedded.root) not in text
        assert "/proc/" not in text


async def test_an_error_of_the_database_file_names_it_as_users_do(embedded: Embedded) -> None:
    embedded.file.write_bytes(b"x" * 20_000)
    with pytest.raises(StoreError) as e:
        await embedded.store().check()
    assert str(embedded.root) not in str(e.value)
    assert "rollup.duckdb" in str(e.value)


async def test_whoever_locks_the_file_is_named_without_a_path(embedded: Embedded) -> None:
    code = f"import duckdb; db = duckdb.connect({str(embedded.file)!r}); print('open', flush=True); input()"
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert other.stdout is not None
    await other.stdout.readline()
    try:
        with pytest.raises(StoreUnavailable, match=rf"by process {other.pid} \([a-z0-9.]+\): it must be closed there"):
            await embedded.store().check()
    finally:
        await other.communicate(b"\n")


# Taking over


def former(embedded: Embedded) -> Path:
    """Put the database where earlier versions kept it."""
    path = embedded.folder / embedded.database
    embedded.file.rename(path)
    return path


async def test_a_database_of_an_earlier_version_is_taken_over_with_its_position(embedded: Embedded) -> None:
    job = config(spec("in/*.parquet"))
    first = await embedded.completed(job)
    embedded.export(job).unlink()
    former(embedded)
    before = content(embedded.folder)
    second = await embedded.completed(job)
    assert (second.epoch, second.position) == (first.epoch + 1, first.position)
    assert len(embedded.documents(job)) > 100
    assert content(embedded.folder) == before
    third = await embedded.completed(job)
    assert third.epoch == second.epoch + 1, "it is taken over once"


async def test_its_log_is_taken_over_too(embedded: Embedded) -> None:
    script = "db.execute('CREATE TABLE t AS SELECT 42 AS x'); os.kill(os.getpid(), 9)"
    path = embedded.folder / "rollup.duckdb"
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"import duckdb, os; db = duckdb.connect({str(path)!r}); {script}"
    )
    await killed.wait()
    assert path.with_suffix(".duckdb.wal").stat().st_size
    store = embedded.store()
    assert await store._with_lane("reading", lambda lane: lane.execute("FROM t"), []) == [(42,)]
    await store.close()


async def test_a_crash_in_the_middle_leaves_nothing_half_taken_over(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = config(spec("in/*.parquet"))
    first = await embedded.completed(job)
    former(embedded)

    def killed(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        with pytest.raises(StoreUnavailable, match=r"rollup\.duckdb cannot be taken over: Input/output error"):
            await embedded.store().check()
    assert not embedded.file.exists()
    assert (await embedded.completed(job)).position == first.position
    assert sorted(path.name for path in embedded.file.parent.iterdir()) == ["rollup.duckdb", "rollup.duckdb.reserve"]


async def test_a_database_that_another_process_has_open_is_not_taken_over(embedded: Embedded) -> None:
    duckdb.connect(str(embedded.file)).close()
    path = former(embedded)
    code = f"import duckdb; db = duckdb.connect({str(path)!r}); print('open', flush=True); input()"
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert other.stdout is not None
    await other.stdout.readline()
    try:
        with pytest.raises(StoreUnavailable, match="is locked by another process"):
            await embedded.store().check()
        assert not embedded.file.exists()
    finally:
        await other.communicate(b"\n")
    store = embedded.store()
    await store.check()
    await store.close()
    assert embedded.file.exists()


@pytest.mark.parametrize("what", ["a link", "another name", "no DuckDB database", "a folder"])
async def test_what_is_no_database_is_not_taken_over(embedded: Embedded, what: str) -> None:
    path, other = embedded.folder / "rollup.duckdb", embedded.root / "other" / "rollup.duckdb"
    match what:
        case "a link":
            path.symlink_to(other)
        case "another name":
            path.hardlink_to(other)
        case "a folder":
            path.mkdir()
        case _:
            path.write_bytes(b"dear diary" * 1000)
    with pytest.raises(TargetBlocked, match=what):
        await embedded.store().check()
    assert not embedded.file.exists()


async def test_a_database_of_holes_takes_no_room_when_it_is_taken_over(embedded: Embedded) -> None:
    path = embedded.folder / "rollup.duckdb"
    with duckdb.connect(str(path)) as db:
        db.execute("CREATE TABLE t AS SELECT 42 AS x")
    size = path.stat().st_size
    os.truncate(path, 10 << 30)
    store = embedded.store()
    assert await store._with_lane("reading", lambda lane: lane.execute("FROM t"), []) == [(42,)]
    await store.close()
    assert embedded.file.stat().st_blocks * 512 < 4 * size


async def test_a_database_that_would_take_all_room_is_not_taken_over(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    (embedded.folder / "rollup.duckdb").write_bytes(b"x" * 8 + b"DUCK" + b"x" * (8 << 20))
    with monkeypatch.context() as patch:
        room = os.statvfs(embedded.root)
        little = os.statvfs_result((*room[:4], (31 << 20) // room.f_frsize, *room[5:]))
        patch.setattr(os, "fstatvfs", lambda _: little)
        with pytest.raises(
            StoreUnavailable, match=r"takes 8 MiB, and a quarter of what is free on the volume is 7 MiB"
        ):
            await embedded.store().check()
    assert list(embedded.file.parent.iterdir()) == []


async def test_a_database_that_is_not_wholly_taken_over_leaves_nothing(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    (embedded.folder / "rollup.duckdb").write_bytes(b"x" * 8 + b"DUCK" + b"x" * (8 << 20))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "sendfile", full)
    with pytest.raises(StoreUnavailable, match="No space left on device"):
        await embedded.store().check()
    assert list(embedded.file.parent.iterdir()) == []


async def test_a_file_of_the_users_takes_the_place_of_no_database(embedded: Embedded) -> None:
    job = config(spec("in/*.parquet"))
    await embedded.completed(job)
    with duckdb.connect(str(embedded.folder / "rollup.duckdb")) as db:
        db.execute("CREATE TABLE mine AS SELECT 1 AS x")
    store = embedded.store()
    assert [known.key for known in await store.known_jobs()] == [job.key]
    await store.close()
