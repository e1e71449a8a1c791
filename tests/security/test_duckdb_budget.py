"""Embedded stores of one tenant leave memory, room on the volume and open files to the others."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from rollup_operator.model.store import DuckDBStoreSpec as StoreSpec
from rollup_operator.stores.duckdb import Budget, DuckDBStore
from rollup_operator.stores.duckdb.source import sources
from rollup_operator.stores.errors import StoreUnavailable
from support.embedded import Embedded
from support.rounding import ms

BEGIN = ms("2024-03-01T00:00")
ROWS = [(BEGIN + i * 1000, float(i), "a", i % 40) for i in range(1000)]
GREEDY = "CREATE TEMP TABLE sorted AS SELECT hash(i) AS h, i FROM range(100000000) t(i) ORDER BY h"


LIMIT = "SELECT current_setting('memory_limit')"


def store_of(root: Path, budget: Budget, namespace: str, database: str = "rollup.duckdb") -> DuckDBStore:
    return DuckDBStore(
        root, namespace, StoreSpec(database=database), page_seconds=0.5, budget=budget, is_alive=lambda _: False
    )


async def test_what_one_spills_is_bounded_and_goes(tmp_path: Path) -> None:
    budget = Budget(128 << 20, threads=2, spill=128 << 20)
    embedded = Embedded(tmp_path, budget=budget)
    most = 0
    store = embedded.store()
    task = asyncio.ensure_future(store._with_lane("sorting", lambda lane: lane.execute(GREEDY), [], make=True))
    while not task.done():
        spilled = sum(p.stat().st_size for p in embedded.file.parent.rglob("*.tmp/*") if p.exists())
        most = max(most, spilled)
        await asyncio.sleep(0.02)
    with pytest.raises(StoreUnavailable, match="Out of Memory"):
        await task
    assert 0 < most <= 128 << 20
    await store.close()
    assert sorted(p.name for p in embedded.file.parent.iterdir()) == ["rollup.duckdb", "rollup.duckdb.reserve"]
    assert list(embedded.folder.iterdir()) == []


async def test_what_a_dead_process_spilled_goes_when_the_database_is_opened(tmp_path: Path) -> None:
    embedded = Embedded(tmp_path)
    spill = embedded.file.with_name("rollup.duckdb.tmp")
    spill.mkdir()
    (spill / "duckdb_temp_1_0_storage_DEFAULT-0.tmp").write_bytes(b"x" * 100)
    duckdb.connect(str(embedded.file)).close()
    await embedded.store().check()
    assert not spill.exists() or list(spill.iterdir()) == []


async def test_one_namespace_leaves_open_files_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (160, 160))
    budget = Budget(1 << 30)
    for namespace, files in (("greedy", 11), ("team", 3)):
        (tmp_path / namespace).mkdir()
        for number in range(files):
            (tmp_path / namespace / f"{number}.csv").write_text("ts,a\n2024-01-01,1\n")
    greedy, team = store_of(tmp_path, budget, "greedy"), store_of(tmp_path, budget, "team")
    with pytest.raises(StoreUnavailable, match=r"10 files are open, which is the limit of the namespace now"):
        await greedy.fields("*.csv", "out")
    lane = await greedy._database.lane()
    await lane.run("searching", lambda lane: sources.find("1*.csv", "out", lane), interruptible=True)
    assert (await team.fields("*.csv", "out")).keys() == {"ts", "a"}
    await asyncio.to_thread(greedy._database.leave, lane)
    assert budget._files.taken == 0
    await greedy.close()
    await team.close()


MANY = """
import asyncio, json, sys, time
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[2])
from rollup_operator.stores.errors import StoreError
from security_budget import GREEDY, LIMIT, store_of, Budget

MIB = 2**20

async def main(root):
    budget = Budget(256 * MIB, threads=2, spill=512 * MIB)
    async def greedy(number):
        store = store_of(root, budget, "greedy", f"{number}.duckdb")
        try:
            await store._with_lane("sorting", lambda lane: lane.execute(GREEDY), [], make=True)
        except StoreError as e:
            pass
        finally:
            await store.close()
    team = store_of(root, budget, "team")
    tasks = [asyncio.ensure_future(greedy(n)) for n in range(20)]
    await asyncio.sleep(3)
    began = time.monotonic()
    fields = await team.fields("rows.csv", "out")
    took = time.monotonic() - began
    limit = await team._with_lane("limit", lambda lane: lane.execute(LIMIT), [], make=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await team.close()
    most = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"rss": int(most.split()[1]) * 1024 / MIB, "seconds": took,
                      "limit": limit[0][0], "fields": sorted(fields)}))

asyncio.run(main(Path(sys.argv[1])))
"""


def test_twenty_greedy_stores_of_one_tenant_leave_memory_and_a_share_to_another(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "rows.csv").write_text("ts,a\n2024-01-01,1\n")
    paths = [path for path in sys.path if path]
    script = MANY.replace(
        "from security_budget import",
        f"sys.path.insert(0, {str(Path(__file__).parent)!r}); from {Path(__file__).stem} import",
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), json.dumps(paths)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["fields"] == ["a", "ts"]
    assert float(report["limit"].removesuffix(" MiB")) >= 32
    assert report["seconds"] < 5, report
    assert report["rss"] < 600, report
