"""Database files that a user made to do harm: where earlier versions kept them, and where one was taken over before.

Whatever is in them, opening, listing, settling, deleting and ending take bounded time and memory, and say why not.
"""

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pytest

from rollup_operator.model.conditions import Reason
from rollup_operator.model.status import JobStats, Outcome
from rollup_operator.stores.duckdb import DuckDBStore, claims
from rollup_operator.stores.duckdb.database import database
from rollup_operator.stores.duckdb.database.inspection import Inspections
from rollup_operator.stores.errors import StoreError, StoreUnavailable, TargetBlocked
from support.embedded import Embedded, config, spec
from support.rounding import HOUR, ms

BEGIN = ms("2024-03-01T00:00")
ROWS = [(BEGIN + i * HOUR // 7, float(i % 13), "ab"[i % 2], i % 40) for i in range(700)]
SOON = 10.0
"""Seconds for what takes one or two, a process of its own included, and without a bound minutes or for ever."""
MIB = 2**20
MEMORY = 400 * MIB
"""More than any of it may add to what the process has."""

NEVER = "list_sum(range(300000000))"
"""Takes gigabytes, whatever DuckDB's limit, and seconds in which nothing interrupts it."""
TABLE = claims._CREATE


def record(job: str = "'job'", owner: str = """'["c","team","job","1"]'""", more: str = "") -> str:
    return (
        f"{TABLE}INSERT INTO _rollup.claims BY NAME SELECT 'out' AS rollup_index, {job} AS job_id, 1 AS epoch, {owner} "
        f"AS owner, 'h' AS config_hash, '{JobStats().model_dump_json()}' AS stats, 0 AS revision, 0 AS updated_ms{more}"
    )


def nested(levels: int, *, name: str) -> str:
    """Views of which each reads the one below twice, made so from above, which takes no time."""
    one = [f"CREATE VIEW v0 AS {name}"] + [f"CREATE VIEW v{n} AS FROM v{n - 1}" for n in range(1, levels)]
    one.append(f"CREATE VIEW _rollup.claims AS FROM v{levels - 1}")
    two = [f"CREATE OR REPLACE VIEW v{n} AS FROM v{n - 1} UNION ALL FROM v{n - 1}" for n in range(levels - 1, 0, -1)]
    return ";".join(one + two)


COLUMNS = "'out' AS rollup_index, 'job' AS job_id, NULL AS holder, range AS epoch, '' AS owner, '' AS config_hash, "
COLUMNS += (
    "'' AS position, 0 AS watermark_ms, '' AS stats, 0.0 AS page_hint, '' AS target, 0 AS revision, 0 AS exported"
)
COLUMNS += ", '' AS spec, 0 AS source_ns"
ENDLESS = f"SELECT {COLUMNS} FROM range(1000000000000000)"

REFUSED = {
    "a view that never ends": f"CREATE SCHEMA _rollup; CREATE VIEW _rollup.claims AS {ENDLESS}",
    "views upon views": "CREATE SCHEMA _rollup;" + nested(40, name=ENDLESS),
    "a macro": f"{record()}; CREATE MACRO main.epoch_ms(x) AS {NEVER}",
    "a computed column": TABLE.replace("spec VARCHAR, source_ns", f"spec VARCHAR AS ({NEVER}::VARCHAR), source_ns"),
    "a default": f"{record()}; ALTER TABLE _rollup.claims ALTER COLUMN source_ns SET DEFAULT {NEVER}",
    "a source that is computed": f"{record()}; CREATE TABLE rows (ts TIMESTAMP, value DOUBLE AS ({NEVER}))",
    "other columns": "CREATE SCHEMA _rollup; CREATE TABLE _rollup.claims AS SELECT 'out' AS rollup_index",
    "other types": f"{record()}; ALTER TABLE _rollup.claims ALTER COLUMN holder TYPE BLOB",
    "a million records": record("'job' || range", more=" FROM range(1000000)"),
    "one record a million times": record(more=" FROM range(1000000)"),
    "records without end": record(owner="repeat('x', 100000)", more=" FROM range(1000)"),
}
WHY = "no operator wrote the records|cannot be opened with 512 MiB of memory"
GARBAGE = {
    "an owner": record(owner="'no JSON'"),
    "an owner of another shape": record(owner="""'[1, 2, {}, ["x"]]'"""),
    "counters": f"{record()}; UPDATE _rollup.claims SET stats = '[[['",
    "a position": f"{record()}; UPDATE _rollup.claims SET position = '[1]', config_hash = 'h'",
    "an epoch": f"{record()}; UPDATE _rollup.claims SET epoch = 9223372036854775807",
    "a result": f"{record()}; UPDATE _rollup.claims SET target = '\"; DROP TABLE x'",
    "a spec": f"{record()}; UPDATE _rollup.claims SET spec = '[' || repeat('[', 100000)",
    "one record twice": f"{record(more=' FROM range(2)')}",
}
SHORT = {
    "columns that are added": ";".join(f"ALTER TABLE t ADD COLUMN b{n} HUGEINT DEFAULT {n}" for n in range(4)),
    "a column that is changed": "ALTER TABLE t ALTER COLUMN a TYPE STRUCT(b HUGEINT, c HUGEINT) "
    f"USING {{'b': a * {10**30}::HUGEINT, 'c': a * {7**36}::HUGEINT}}",
}
"""Changes of a table of four million rows that are computed when the log is written into the file."""


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    made = Embedded(tmp_path)
    made.write("in/rows.parquet", ROWS)
    return made


JOB = config(spec("in/*.parquet"))


def plant(path: Path, statements: str) -> None:
    """Make a database file in a process of its own, which keeps what that takes out of this one."""
    code = "import duckdb, sys; db = duckdb.connect(sys.argv[1]); db.execute(sys.stdin.read()); db.close()"
    subprocess.run([sys.executable, "-c", code, str(path)], input=statements.encode(), check=True)


def with_users(embedded: Embedded) -> Path:
    return embedded.folder / "rollup.duckdb"


def with_operator(embedded: Embedded) -> Path:
    return embedded.file


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def bounded() -> Iterator[None]:
    """Fail where the block takes long, or ever much memory."""
    before = most = resident()
    over = threading.Event()

    def look() -> None:
        nonlocal most
        while not over.wait(0.01):
            most = max(most, resident())

    looking = threading.Thread(target=look)
    looking.start()
    began = time.monotonic()
    try:
        yield
    finally:
        took = time.monotonic() - began
        over.set()
        looking.join()
    assert took < SOON
    assert most - before < MEMORY


async def each_call(embedded: Embedded, store: DuckDBStore) -> dict[str, StoreError | str]:
    """Everything that opens a database, each with how it ended."""
    found: dict[str, StoreError | str] = {}
    calls: dict[str, Callable[[], object]] = {
        "check": store.check,
        "list": store.known_jobs,
        "preview": lambda: store.fields("in/*.parquet", "out"),
        "settle": lambda: store.settle(JOB, "me", delete_documents=False),
        "delete": lambda: store.settle(JOB, "me", delete_documents=True),
    }
    for name, call in calls.items():
        try:
            found[name] = str(await call())  # type: ignore[misc]
        except StoreError as e:
            found[name] = e
    result = await embedded.run(JOB, store=store)
    found["run"] = result.error if isinstance(result.error, StoreError) else repr(result)
    return found


AGAIN = ("a view that never ends", "views upon views", "a macro", "one record a million times")
"""What is planted where an operator that inspected nothing has taken it over."""


@pytest.mark.parametrize(
    ("place", "what"), [(with_users, what) for what in REFUSED] + [(with_operator, what) for what in AGAIN]
)
async def test_a_file_that_no_operator_made_is_left_alone(
    embedded: Embedded, store: DuckDBStore, what: str, place: Callable[[Embedded], Path]
) -> None:
    plant(place(embedded), REFUSED[what])
    before = place(embedded).read_bytes()
    with bounded():
        found = await each_call(embedded, store)
        await store.close()
    for call in ("check", "list", "preview", "run"):
        error = found[call]
        assert isinstance(error, TargetBlocked), (call, error)
        assert re.search(WHY, str(error))
        assert "spec.duckdb.database" in str(error)
    # Nothing of the job is at work there, so it rests, and can be deleted.
    assert found["settle"] == "Settled(claim=None, kept=None)"
    assert re.search(WHY, str(found["delete"]))
    assert place(embedded).read_bytes() == before
    if place is with_users:
        assert not list(embedded.file.parent.iterdir())


@pytest.mark.parametrize("what", GARBAGE)
async def test_a_record_that_no_operator_wrote_is_an_error_in_words(
    embedded: Embedded, store: DuckDBStore, what: str
) -> None:
    plant(with_operator(embedded), GARBAGE[what])
    with bounded():
        found = await each_call(embedded, store)
    listed, deleted = found["list"], found["delete"]
    assert found["settle"].startswith("Settled("), found
    for error in (listed,) if what == "a spec" else (listed, found["run"]):
        if what == "one record twice" and error is listed:
            continue
        assert isinstance(error, TargetBlocked), found
        assert "no operator wrote the record of job 'job' in rollup index 'out'" in str(error)
        assert error.reason is Reason.TARGET_BLOCKED
    # Nobody can have claimed it, so the job rests, and can be deleted; what stays is told.
    if what != "a spec":
        assert found["settle"] == "Settled(claim=None, kept=None)"
        assert "Settled(claim=None, kept=" in (text := str(deleted))
        assert "no operator wrote the record" in text


async def test_a_record_of_another_job_is_neither_continued_nor_deleted(embedded: Embedded, store: DuckDBStore) -> None:
    embedded.alive.add("2")
    plant(with_users(embedded), record(owner="""'["c","other","job","2"]'"""))
    result = await embedded.run(JOB, store=store)
    assert isinstance(result.error, StoreError)
    assert result.error.reason is Reason.JOB_ID_TAKEN
    assert (await store.settle(JOB, "me", delete_documents=True)).claim is None


async def test_what_is_planted_in_the_log_is_seen(embedded: Embedded, store: DuckDBStore) -> None:
    with duckdb.connect(str(embedded.root / "made.duckdb")) as db:
        db.execute(TABLE)
        db.execute("CHECKPOINT")
        db.execute(f"CREATE MACRO main.epoch_ms(x) AS {NEVER}")
        for end in ("", ".wal"):
            planted = (embedded.root / f"made.duckdb{end}").read_bytes()
            (embedded.folder / f"rollup.duckdb{end}").write_bytes(planted)
    with bounded(), pytest.raises(TargetBlocked, match="it holds the macro 'epoch_ms'"):
        await store.check()


@pytest.mark.parametrize("end", ["", ".wal"])
async def test_noise_is_an_error_in_words(embedded: Embedded, store: DuckDBStore, end: str) -> None:
    plant(with_users(embedded), record())
    path = embedded.folder / f"rollup.duckdb{end}"
    whole = with_users(embedded).read_bytes()
    path.write_bytes(whole[:20_000] + os.urandom(500_000) if not end else os.urandom(500_000))
    with bounded():
        if end:  # a log that is none counts for nothing
            await store.check()
            assert [job.key for job in await store.known_jobs()] == [("out", "job")]
        else:
            with pytest.raises(TargetBlocked, match=r"^rollup\.duckdb cannot be opened"):
                await store.check()


async def test_an_own_file_that_was_damaged_says_what_to_do(embedded: Embedded, store: DuckDBStore) -> None:
    await embedded.completed(JOB)
    await asyncio.to_thread(embedded.base.close_if_idle)
    whole = embedded.file.read_bytes()
    for kept in (0, 12_288, len(whole) // 2):
        embedded.file.write_bytes(whole[:kept] + os.urandom(len(whole) - kept))
        with pytest.raises(StoreUnavailable, match="restore the database from a backup; or stop the operator"):
            await store.settle(JOB, "me", delete_documents=False)
        await asyncio.to_thread(embedded.base.close_if_idle)


async def test_a_file_that_takes_much_memory_to_open_is_refused(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(with_users(embedded), ";".join(f"CREATE TABLE t{n} (a INT)" for n in range(6_000)))
    monkeypatch.setattr(embedded.budget, "inspections", Inspections(memory=90 * MIB))
    store = embedded.store()
    with bounded(), pytest.raises(TargetBlocked, match="cannot be opened with 90 MiB of memory"):
        await store.check()
    await store.close()


async def test_a_file_that_takes_long_to_open_holds_nobody_up(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(with_users(embedded), record())
    monkeypatch.setattr(embedded.budget, "inspections", Inspections(seconds=0.05))
    store = embedded.store()
    with pytest.raises(TargetBlocked, match=r"cannot be opened within 0\.05 s"):
        await store.check()
    await store.close()


async def test_a_store_that_closes_waits_for_no_inspection(embedded: Embedded) -> None:
    plant(with_users(embedded), record())
    store = embedded.store()
    one = embedded.budget.inspections._one
    with one:  # another namespace's file takes long
        checking = asyncio.ensure_future(store.check())
        await asyncio.sleep(0.2)
        async with asyncio.timeout(SOON):
            await store.close()
    with pytest.raises(StoreUnavailable):
        await checking


async def test_the_process_that_opens_a_file_runs_nothing_that_lies_in_the_data_root(
    embedded: Embedded, store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs the operator may stand in the data root; a namespace may be called as a module is."""
    plant(with_users(embedded), record())
    trace = embedded.root / "told"
    (embedded.root / "duckdb").mkdir()
    (embedded.root / "duckdb" / "__init__.py").write_text(f"open({str(trace)!r}, 'w').close()")
    monkeypatch.chdir(embedded.root)
    await store.check()
    assert not trace.exists()


async def test_databases_of_a_namespace_are_taken_over_one_after_the_other(embedded: Embedded) -> None:
    others = [Embedded(embedded.root, database=f"{n}.duckdb", budget=embedded.budget) for n in range(3)]
    for other in others:
        plant(other.folder / other.database, record())
    stores = [other.store() for other in others]
    await asyncio.gather(*(store.check() for store in stores))
    for store in stores:
        assert len(await store.known_jobs()) == 1
        await store.close()


async def test_what_was_refused_is_copied_again_once_it_has_changed(embedded: Embedded, store: DuckDBStore) -> None:
    plant(with_users(embedded), REFUSED["a macro"])
    for _ in range(2):
        with pytest.raises(TargetBlocked, match="macro"):
            await store.check()
    os.unlink(with_users(embedded))
    plant(with_users(embedded), record())
    await store.check()
    assert [job.key for job in await store.known_jobs()] == [("out", "job")]


async def test_a_database_of_an_earlier_version_is_continued(embedded: Embedded, store: DuckDBStore) -> None:
    first = Embedded(embedded.root / "before")
    first.write("in/rows.parquet", ROWS)
    await first.completed(JOB)
    await asyncio.to_thread(first.base.close_if_idle)
    made = first.file.read_bytes()
    with_users(embedded).write_bytes(made)
    with duckdb.connect(str(with_users(embedded))) as db:
        db.execute("CREATE VIEW of_the_users AS SELECT 1; CREATE TABLE more (a INT PRIMARY KEY)")
    result = await embedded.run(JOB, store=store)
    assert result.outcome is Outcome.COMPLETED
    assert result.claim is not None
    assert result.claim.epoch == 2


async def test_work_that_must_not_be_interrupted_is_in_the_end(
    embedded: Embedded, store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of a planted file may be larger than any disk: all of its rows are equal."""
    monkeypatch.setattr(database, "PATIENCE_S", 0.5)
    base = embedded.base
    for ending in ("cancelled", "closed"):
        lane = await base.lane()
        work = asyncio.ensure_future(
            lane.run(
                "writing",
                lambda lane: lane.execute("SELECT max(hash(range)) FROM range(1000000000000)"),
                interruptible=False,
            )
        )
        await asyncio.sleep(0.2)
        began = time.monotonic()
        if ending == "cancelled":
            work.cancel()
        else:
            await asyncio.to_thread(base.leave, lane)
        with pytest.raises((StoreUnavailable, asyncio.CancelledError)):
            await work
        assert 0.4 < time.monotonic() - began < SOON
        if ending == "cancelled":
            await asyncio.to_thread(base.leave, lane)


@pytest.mark.parametrize("change", SHORT.values(), ids=SHORT)
async def test_a_short_log_that_makes_much_does_not_fill_the_volume(
    embedded: Embedded, store: DuckDBStore, change: str
) -> None:
    plant(with_users(embedded), "CREATE TABLE t AS SELECT range AS a FROM range(4000000)")
    plant(
        with_users(embedded),
        f"PRAGMA disable_checkpoint_on_shutdown; SET checkpoint_threshold = '1TB'; {change}",
    )
    assert taken(embedded.folder) < 10 * MIB
    most, over = 0, threading.Event()

    def measure() -> None:
        nonlocal most
        while not over.wait(0.01):
            most = max(most, taken(embedded.file.parent))

    watching = threading.Thread(target=measure)
    watching.start()
    try:
        with bounded(), pytest.raises(TargetBlocked, match=r"^rollup\.duckdb cannot be opened"):
            await store.check()
    finally:
        over.set()
        watching.join()
    assert 0 < most < 90 * MIB, most / MIB


def taken(folder: Path) -> int:
    """Bytes on the volume of all files below a folder, which come and go."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total
