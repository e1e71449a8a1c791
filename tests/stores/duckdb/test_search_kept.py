"""What searches keep of records: read once while nothing is written, never used after anything was."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rollup_operator.stores.duckdb import DuckDBStore
from rollup_operator.stores.duckdb.database import kept, lingering
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.database.kept import MOST_BYTES, Kept
from rollup_operator.stores.search import AtLeast, Between, Documents, Fetch, Instant, Rows
from support.embedded import Embedded, config, spec
from support.rounding import HOUR
from support.store_turns import nobody_writes

HOURS = 40
JOB = config(spec("in/*.parquet", lookback="10d"))


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Embedded:
    monkeypatch.setattr(lingering, "SEARCHED_S", 1e6)  # a slow machine closes no file between two searches
    made = Embedded(tmp_path, now=hours(HOURS // 2))
    made.write("in/1.parquet", [(h * HOUR, 1.0, "a", 1) for h in range(HOURS)])
    return made


@pytest.fixture
async def store(at: Embedded) -> AsyncIterator[DuckDBStore]:
    store = at.store()
    yield store
    await store.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that read records, or what results hold."""
    found: list[str] = []
    execute = Lane.execute

    def seen(lane: Lane, statement: str, values: object = None) -> list[tuple[object, ...]]:
        if "_rollup" in statement:
            found.append(statement)
        return execute(lane, statement, values)

    monkeypatch.setattr(Lane, "execute", seen)
    return found


def hours(count: int) -> datetime:
    return datetime.fromtimestamp(count * 3600, UTC)


async def searched(store: DuckDBStore) -> tuple[int, int]:
    """Return how many rows the documents summarise, and how many more are live."""
    tiers = await store.tiers(["out"])
    cut = tiers[0].end_ms if tiers else 0
    rows = Fetch(Rows("in/*.parquet", JOB.spec, "job"), Between("ts", Instant(cut), None), None)
    fetches = [rows]
    if tiers and tiers[0].begin_ms < cut:
        within = AtLeast(1, (Between("ts.date_histogram.timestamp", None, Instant(cut)),))
        documents = Documents("out", "job", tiers[0].place, cut)
        fetches.append(Fetch(documents, within, "ts.date_histogram._count"))
    live, *rolled = [found[()].rows[()].count for found in await store.search(fetches)]
    return sum(rolled), live


async def test_records_are_read_once_while_nothing_is_written(
    at: Embedded, store: DuckDBStore, asked: list[str]
) -> None:
    await at.completed(JOB, store=store)
    first = await searched(store)
    assert first == (HOURS // 2, HOURS // 2)
    read = len(asked)
    assert [await searched(store) for _ in range(3)] == [first] * 3
    assert asked[read:] == [s for s in asked[read:] if s.startswith("WITH")]


async def test_many_names_of_which_nothing_is_known_are_not_kept(
    at: Embedded, store: DuckDBStore, asked: list[str]
) -> None:
    """Each search may name other jobs of a namespace that has thousands."""
    await at.completed(JOB, store=store)
    for names, again in (([f"rolled-{n}" for n in range(10)], False), ([f"rolled-{n}" for n in range(9_999)], True)):
        await store.tiers(names)
        read = len(asked)
        await store.tiers(names)
        assert (len(asked) > read) is again


async def run_on(at: Embedded, store: DuckDBStore) -> None:
    at.now = hours(HOURS)
    await at.completed(JOB, store=at.store())


async def settled(at: Embedded, store: DuckDBStore) -> None:
    await store.settle(JOB, "me", delete_documents=True)


async def purged(at: Embedded, store: DuckDBStore) -> None:
    await store.purge(JOB.key, JOB.owner, "me")


async def rewritten(at: Embedded, store: DuckDBStore) -> None:
    at.write("in/2.parquet", [(h * HOUR, 2.0, "late", 1) for h in range(HOURS // 2)])
    assert (await at.run(JOB, store=store)).rewritten == HOURS // 2


async def changed_by_another_process(at: Embedded, store: DuckDBStore) -> None:
    """Once it was closed here."""
    await asyncio.to_thread(at.base.close_if_idle)
    code = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('UPDATE _rollup.claims SET target = NULL')"
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code, str(at.file)], check=True)


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (run_on, (HOURS, 0)),
        (settled, (0, HOURS)),
        (purged, (0, HOURS)),
        (rewritten, (HOURS, HOURS // 2)),
        (changed_by_another_process, (0, HOURS)),
    ],
)
async def test_what_was_written_is_seen(
    at: Embedded,
    store: DuckDBStore,
    change: Callable[[Embedded, DuckDBStore], Awaitable[None]],
    after: tuple[int, int],
) -> None:
    await at.completed(JOB, store=store)
    assert await searched(store) == (HOURS // 2, HOURS // 2)
    await change(at, store)
    assert await searched(store) == after


async def test_no_store_keeps_what_another_one_of_the_same_file_changed(at: Embedded, store: DuckDBStore) -> None:
    """All stores of a file share what is kept of it."""
    await at.completed(JOB, store=store)
    other = at.store()
    assert await searched(other) == await searched(store) == (HOURS // 2, HOURS // 2)
    await settled(at, other)
    assert await searched(store) == await searched(other) == (0, HOURS)
    await other.close()


async def test_nothing_is_kept_while_something_is_being_written(
    at: Embedded, store: DuckDBStore, asked: list[str]
) -> None:
    await at.completed(JOB, store=store)
    await searched(store)
    with nobody_writes(at.base):
        read = len(asked)
        await searched(store)
        once = len(asked) - read
        await searched(store)
        assert len(asked) - read == 2 * once > 0


async def test_a_store_that_was_closed_answers_nothing_of_what_is_kept(at: Embedded, store: DuckDBStore) -> None:
    await at.completed(JOB, store=store)
    other = at.store()
    await searched(other)
    await other.close()
    with pytest.raises(Exception, match="the store was closed"):
        await other.tiers(["out"])


CHANGES = st.lists(st.sampled_from(["run", "stop", "late", "delete", "close", "search"]), min_size=2, max_size=8)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
async def test_answers_are_those_of_a_store_that_keeps_nothing(
    tmp_path_factory: pytest.TempPathFactory, changes: list[str]
) -> None:
    at = Embedded(tmp_path_factory.mktemp("kept"), now=hours(HOURS // 2), page_seconds=1e-6)
    at.write("in/1.parquet", [(h * HOUR, 1.0, "a", 1) for h in range(HOURS)])
    store, late = at.store(), 0
    for change in changes:
        match change:
            case "run":
                at.now = min(hours(HOURS), at.now + (hours(HOURS // 4) - hours(0)))
                assert (await at.run(JOB, store=store)).outcome == "Completed"
            case "stop":
                await at.run(JOB, store=store, halt_when=lambda run: run.progress.pages >= 2)
            case "late":
                at.write(f"in/late{late}.parquet", [(h * HOUR, 2.0, "late", 1) for h in range(0, HOURS, 3)])
                late += 1
            case "delete":
                await store.settle(JOB, "me", delete_documents=True)
            case "close":
                await asyncio.to_thread(at.base.close_if_idle)
        found = await searched(store)
        at.base.kept.forget()
        assert found == await searched(store)
    await store.close()


def size(_: object) -> int:
    return 1


def test_what_was_read_before_a_write_ended_is_not_kept() -> None:
    """Whether the write began before the reading, or while it went on, or was over before it ended."""
    of, values = Kept(), iter(range(9))

    def amid_a_write() -> int:
        with of.writing():
            return next(values)

    assert of.read("a", amid_a_write, size) == 0
    assert of.known("a") is None
    with of.writing():
        assert of.read("a", lambda: next(values), size) == 1
    assert of.known("a") is None
    writing = of.writing()

    def as_a_write_begins() -> int:
        writing.__enter__()
        return next(values)

    assert of.read("a", as_a_write_begins, size) == 2
    assert of.known("a") is None
    writing.__exit__(None, None, None)
    assert of.known("a") is None
    assert [of.read("a", lambda: next(values), size) for _ in range(2)] == [3, 3]
    of.forget()
    assert of.known("a") is None


def test_a_write_that_fails_is_a_write() -> None:
    of = Kept()
    with pytest.raises(ValueError, match="no"), of.writing():
        raise ValueError("no")
    assert of.read("a", lambda: 1, size) == 1
    assert of.known("a") == 1


def test_one_writes_at_a_time() -> None:
    of, second = Kept(), threading.Event()

    def write() -> None:
        with of.writing():
            second.set()

    other = threading.Thread(target=write)
    with of.writing():
        other.start()
        assert not second.wait(0.05)
    other.join(10)
    assert second.is_set()


def test_nothing_large_is_kept() -> None:
    of = Kept()
    of.read("a", lambda: 1, lambda _: MOST_BYTES + 1)
    assert of.known("a") is None


def test_what_was_asked_for_last_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 2)
    of = Kept()
    for name in ("a", "b"):
        of.read(name, lambda: 1, size)
    of.known("a")
    of.read("c", lambda: 1, size)
    assert [of.known(name) for name in "abc"] == [1, None, 1]
