"""An export that is interrupted ends, whenever that happens."""

import subprocess
import sys
from pathlib import Path

ROUNDS = 15

SCRIPT = """
import asyncio, random, sys
from pathlib import Path
from rollup_operator.stores.duckdb import Budget
from rollup_operator.stores.duckdb.database.database import Database
from rollup_operator.stores.duckdb.database.folders import Folders

folder = Path(sys.argv[1])

async def main():
    database = Database.at(Folders.of(folder, "team"), "db.duckdb", Budget(1 << 30))
    out = folder / Folders.of(folder, "team").results / "out.parquet"
    out.parent.mkdir(parents=True)
    lane = await database.lane()
    columns = "range a, random() b, random() c, random() d, 'x' || (range % 1000) e"
    fill = f"CREATE TABLE t AS SELECT {columns} FROM range(2000000)"
    await lane.run("filling", lambda lane: lane.execute(fill), interruptible=False)
    copy = f"COPY (SELECT * FROM t) TO '{out}' (FORMAT parquet)"
    chance = random.Random(2)
    for number in range(int(sys.argv[2])):
        export = asyncio.create_task(lane.run("exporting", lambda lane: lane.execute(copy), interruptible=True))
        await asyncio.sleep(chance.uniform(0.02, 0.6))
        export.cancel()
        await asyncio.wait({export})
        print(number, flush=True)
    database.leave(lane)

asyncio.run(main())
"""


def test_an_interrupted_export_ends(tmp_path: Path) -> None:
    """A process of its own: a thread that hangs in the library would keep this one from ending."""
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(ROUNDS)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert found.stdout.split() == [str(n) for n in range(ROUNDS)], found.stderr
