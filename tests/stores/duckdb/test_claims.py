"""Claims, epochs, fences and the file's lock; cancellation; what a killed process leaves."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from rollup_operator.model.conditions import Reason
from rollup_operator.model.status import JobStats
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.base import Claim, Settled
from rollup_operator.stores.duckdb import DuckDBStore
from rollup_operator.stores.duckdb.database.database import Database
from rollup_operator.stores.duckdb.target.export import export_path
from rollup_operator.stores.errors import Fenced, IdentityConflict, StoreUnavailable
from support.embedded import Embedded, agree, config, spec, truth
from support.rounding import HOUR, hour, ms

START = ms("2024-03-01T00:00")
SPAN = Span(0, ms("2030-01-01T00:00"))
ROWS = [(START + i * HOUR // 7, float(i % 13), "ab"[i % 2], i % 40) for i in range(3000)]


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    made = Embedded(tmp_path)
    made.write("in/rows.parquet", ROWS)
    return made


@pytest.fixture
async def store(embedded: Embedded) -> AsyncIterator[DuckDBStore]:
    made = embedded.store(0.02)
    yield made
    await made.close()


JOB = config(spec("in/rows.parquet"))


async def claimed(store: DuckDBStore, job: JobConfig = JOB, holder: str = "me") -> Claim:
    session = store.session(job, holder)
    claim = await session.claim()
    await session.close()
    return claim


async def test_a_claim_is_seen_until_it_is_released(store: DuckDBStore, embedded: Embedded) -> None:
    session = store.session(JOB, "me")
    claim = await session.claim()
    assert (claim.holder, claim.epoch, claim.position, claim.watermark_ms) == ("me", 1, None, None)
    (held,) = await embedded.held()
    assert (held.claim, held.owner) == (claim, JOB.owner)
    assert await session.release(claim)
    assert await embedded.held() == []
    await session.close()
    assert (await claimed(store)).epoch == 2


async def test_whoever_was_taken_over_is_fenced_everywhere(store: DuckDBStore, embedded: Embedded) -> None:
    old = store.session(JOB, "old")
    claim = await old.claim()
    await old.describe(claim, SPAN)
    page = await old.read(claim, SPAN)
    new = await claimed(store, holder="new")
    assert new.epoch == claim.epoch + 1
    with pytest.raises(Fenced, match="new"):
        await old.write(claim, page)
    with pytest.raises(Fenced):
        await old.commit_watermark(claim, 1, JobStats())
    with pytest.raises(Fenced):
        await old.publish(claim)
    assert not await old.release(claim)  # not ours any more: left alone
    await old.close()
    (held,) = await embedded.held()
    assert held.claim.holder == "new"


async def test_the_same_holder_under_an_older_epoch_is_fenced(store: DuckDBStore) -> None:
    session = store.session(JOB, "me")
    claim = await session.claim()
    await claimed(store)
    with pytest.raises(Fenced):
        await session.commit_watermark(claim, 1, JobStats())
    await session.close()


async def test_settling_frees_the_claim_and_keeps_the_record(store: DuckDBStore, embedded: Embedded) -> None:
    assert await store.settle(JOB, "me", delete_documents=True) == Settled(None)
    left = await claimed(store, holder="dead")
    settled = await store.settle(JOB, "me", delete_documents=False)
    assert settled.claim is not None
    assert settled.claim.holder == ""
    assert settled.claim.epoch > left.epoch
    again = await store.settle(JOB, "me", delete_documents=False)
    assert again.claim is not None
    assert replace(again.claim, epoch=settled.claim.epoch) == settled.claim


async def test_deleted_documents_are_gone_and_epochs_go_on(embedded: Embedded) -> None:
    first = await embedded.completed(JOB)
    store = embedded.store()
    settled = (await store.settle(JOB, "me", delete_documents=True)).claim
    assert settled is not None
    assert (settled.position, settled.watermark_ms, settled.stats) == (None, None, JobStats())
    assert list(embedded.results.iterdir()) == []
    await store.close()
    with duckdb.connect(str(embedded.file)) as connection:
        assert connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE 'result%'"
        ).fetchall() == [(0,)]
    again = await embedded.completed(replace(JOB, config_hash="other"))
    assert again.epoch > first.epoch
    agree(embedded.documents(JOB), truth(ROWS, hour))


async def test_deleting_a_job_that_never_ran_deletes_no_file_of_its_name(
    store: DuckDBStore, embedded: Embedded
) -> None:
    embedded.write("out/job.parquet", [])
    assert await store.settle(JOB, "me", delete_documents=True) == Settled(None)
    await claimed(store)  # and a claim alone has exported nothing
    await store.settle(JOB, "me", delete_documents=True)
    assert (embedded.folder / "out" / "job.parquet").exists()


async def test_a_living_owner_keeps_its_job_id(store: DuckDBStore, embedded: Embedded) -> None:
    await claimed(store)
    other = config(JOB.spec, uid="2")
    embedded.alive = {"1"}
    with pytest.raises(IdentityConflict, match=r"spec\.jobId") as e:
        await claimed(store, other)
    assert e.value.reason is Reason.JOB_ID_TAKEN
    assert await store.settle(other, "me", delete_documents=True) == Settled(None)
    (held,) = await embedded.held()
    assert held.owner.uid == "1"
    embedded.alive = set()
    assert (await claimed(store, other)).epoch == 2


async def test_other_groups_do_not_continue_documents(embedded: Embedded) -> None:
    await claimed(store := embedded.store())
    await claimed(store, replace(JOB, config_hash="other"))  # nothing was written yet
    await store.close()
    await embedded.completed(JOB)
    store = embedded.store()
    with pytest.raises(IdentityConflict) as e:
        await claimed(store, replace(JOB, config_hash="other"))
    assert e.value.reason is Reason.CONFIG_CHANGED
    moved = replace(JOB, spec=JOB.spec.model_copy(update={"index_pattern": "other"}))
    with pytest.raises(IdentityConflict, match=f"documents of job 'job' from '{JOB.spec.index_pattern}'") as e:
        await claimed(store, moved)
    assert e.value.reason is Reason.CONFIG_CHANGED
    await claimed(store, replace(moved, owner=replace(JOB.owner, uid="2")))  # created again, over another source
    await store.close()


async def test_a_result_that_vanished_is_not_begun_anew(embedded: Embedded) -> None:
    await embedded.completed(JOB)
    with duckdb.connect(str(embedded.file)) as connection:
        ((table,),) = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE 'result%'"
        ).fetchall()
        connection.execute(f'DROP TABLE _rollup."{table}"')
    store = embedded.store()
    with pytest.raises(IdentityConflict) as e:
        await claimed(store)
    assert e.value.reason is Reason.TARGET_REPLACED
    assert "restore the database, or go on in a new job with another spec.jobId" in str(e.value)  # both are fixed now
    await store.close()


def _python(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _until_closed(database: Database) -> None:
    while database.is_open:
        time.sleep(0.01)


async def test_a_locked_file_names_its_holder(embedded: Embedded) -> None:
    code = f"import duckdb; c = duckdb.connect({str(embedded.file)!r}); print('open', flush=True); input()"
    other = _python(code)
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    try:
        with pytest.raises(StoreUnavailable, match=f"locked by process {other.pid}"):
            await embedded.store().check()
    finally:
        other.communicate("\n")
    assert (await embedded.store().check()).version == duckdb.__version__


async def test_the_file_is_closed_soon_after_its_last_use(embedded: Embedded) -> None:
    store = embedded.store()
    await claimed(store)
    database = embedded.base
    assert database.is_open
    ended = time.monotonic()
    await asyncio.to_thread(_until_closed, database)
    assert time.monotonic() - ended < 10
    duckdb.connect(str(embedded.file)).close()


async def test_looking_makes_no_file(embedded: Embedded) -> None:
    store = embedded.store()
    await store.check()
    assert await store.known_jobs() == []
    assert not embedded.file.exists()


async def test_a_cancelled_read_has_ended_when_it_says_so(embedded: Embedded) -> None:
    with duckdb.connect(str(embedded.file)) as connection:
        connection.execute(
            "CREATE TABLE many AS SELECT TIMESTAMP '2020-01-01' + to_milliseconds(i * 37) AS ts, i::DOUBLE AS value, "
            "(hash(i) % 100000)::VARCHAR AS term, (hash(i) % 1000)::INTEGER AS size FROM range(6000000) r(i)"
        )
    store = embedded.store(60)
    session = store.session(config(spec("many")), "me")
    claim = await session.claim()
    await session.describe(claim, SPAN)
    reading = asyncio.ensure_future(session.read(claim, SPAN))
    while not (session.in_flight() or "").startswith("reading 2020"):  # noqa: ASYNC110 - the session announces nothing
        await asyncio.sleep(0)
    began = time.monotonic()
    reading.cancel()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert time.monotonic() - began < 10
    assert session.in_flight() is None
    await session.release(claim)
    await session.close()
    await store.close()


async def test_a_cancelled_write_is_written(store: DuckDBStore) -> None:
    session = store.session(JOB, "me")
    claim = await session.claim()
    page = await session.read(claim, SPAN)
    writing = asyncio.ensure_future(session.write(claim, page))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await session.close()
    assert (await claimed(store)).position == page.last_key


async def test_who_is_halted_writes_and_reads_no_further(embedded: Embedded) -> None:
    store = embedded.store()
    session = store.session(JOB, "me")
    claim = replace(await session.claim(), page_hint=3_600_000.0)
    page = await session.read(claim, SPAN)
    assert not page.exhausted
    session.halt()
    writing, done = asyncio.ensure_future(session.write(claim, page)), set[str | None]()
    while not writing.done():
        done.add(session.in_flight())
        await asyncio.sleep(0)
    assert (await writing).position == page.last_key
    assert not [doing for doing in done if doing is not None and "reading" in doing]
    await session.close()
    await store.close()


async def test_a_store_that_closes_ends_its_sessions(embedded: Embedded) -> None:
    store = embedded.store()
    session = store.session(JOB, "me")
    claim = await session.claim()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await session.read(claim, SPAN)
    with pytest.raises(StoreUnavailable):
        await store.known_jobs()
    duckdb.connect(str(embedded.file)).close()


async def test_many_jobs_run_at_once_in_one_database(embedded: Embedded) -> None:
    jobs = [config(spec("in/rows.parquet", index=f"out{i % 3}"), job_id=f"job{i}") for i in range(24)]
    store = embedded.store()
    await asyncio.gather(*(embedded.completed(job, store=store) for job in jobs))
    await store.close()
    expected = truth(ROWS, hour)
    for job in jobs:
        agree(embedded.documents(job), expected)


async def test_an_export_is_skipped_when_nothing_changed(embedded: Embedded) -> None:
    await embedded.completed(JOB)
    path = embedded.export(JOB)
    before = path.stat().st_mtime_ns
    await embedded.completed(JOB)
    assert path.stat().st_mtime_ns == before
    path.unlink()
    await embedded.completed(JOB)
    agree(embedded.documents(JOB), truth(ROWS, hour))
    assert [p.name for p in path.parent.iterdir()] == ["job.parquet"]


@pytest.mark.parametrize("job_id", ["a/b", "..", "ü ß", "%2e", "x" * 512, "A", "a"])
def test_any_job_id_has_a_file_of_its_own(job_id: str) -> None:
    path = Path(export_path("out", job_id))
    assert path.parent == Path("out")
    assert len(path.name.encode()) < 255
    assert path != Path(export_path("out", job_id + "x"))


CHILD = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = {path!r}
from support.embedded import Embedded, config, spec
embedded = Embedded(Path({root!r}), page_seconds=0.002)
print("go", flush=True)
asyncio.run(embedded.run(config(spec("in/rows.parquet")), holder="child"))
"""


@pytest.mark.slow
async def test_a_killed_process_leaves_whole_pages(embedded: Embedded) -> None:
    rows = [(START + i * 60_000, float(i % 101), "abc"[i % 3], i % 40) for i in range(60_000)]
    embedded.write("in/rows.parquet", rows)
    expected = truth(rows, hour)
    code = CHILD.format(path=[p for p in sys.path if p], root=str(embedded.root))
    chance = random.Random(7)
    last: tuple[int, int] = (0, 0)
    for _ in range(8):
        child = _python(code)
        assert child.stdout is not None
        child.stdout.readline()
        await asyncio.sleep(chance.uniform(0.1, 0.8))  # the moment is the point
        child.send_signal(signal.SIGKILL)
        child.communicate()
        store = embedded.store()
        claim = (await store.settle(JOB, "me", delete_documents=False)).claim
        await store.close()
        if claim is None:
            continue
        at = int(str(claim.position["ts.date_histogram"])) if claim.position else 0
        assert (claim.epoch, at) >= last
        last = claim.epoch, at
        done = {k: v for k, v in expected.items() if k[0] <= at}
        with duckdb.connect(str(embedded.file)) as connection:
            tables = connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE 'result%'"
            ).fetchall()
            counted = [connection.execute(f'SELECT count(*) FROM _rollup."{t}"').fetchall()[0][0] for (t,) in tables]
        assert sum(counted) == len(done)
        assert claim.stats.rollups_indexed == len(done)
    assert last[0] > 1
    await embedded.completed(JOB)
    agree(embedded.documents(JOB), expected)


async def test_who_leads_no_more_by_the_time_that_the_file_is_open_does_not_claim(embedded: Embedded) -> None:
    """Whoever leads now may have settled the job and closed the file since this process asked last."""
    leads = [True]
    store = embedded.store(may_run=lambda: leads[0])
    await embedded.completed(JOB, store=store)
    session = store.session(JOB, "frozen")
    leads[0] = False
    with pytest.raises(StoreUnavailable, match="no longer leads"):
        await session.claim()
    await session.close()
    assert await embedded.held() == []
    await store.close()
