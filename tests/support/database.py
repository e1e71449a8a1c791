"""A look into the embedded store behind the operator's back, as soon as the operator has closed the file."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import orjson

NAME = "rollup.duckdb"


def own(folder: Path) -> Path:
    """Where the operator's files of the namespace are that has this folder of sources."""
    return folder.parent / ".rollup-operator" / folder.name


def databases_of(folder: Path) -> Path:
    """Where its databases are."""
    return own(folder) / "databases"


@contextmanager
def opened(folder: Path, *, name: str = NAME, timeout: float = 10.0) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the namespace's database, which locks the operator out. Waits for the operator to close it."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            db = duckdb.connect(str(databases_of(folder) / name))
            break
        except duckdb.IOException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)  # a lock of the file system tells nobody that it is free
    try:
        yield db
    finally:
        db.close()


def claim(folder: Path, job_id: str = "trips", index: str = "hourly") -> dict[str, Any] | None:
    """The job's record: holder, epoch, position; None where there is none."""
    with opened(folder) as db:
        if not db.execute("FROM duckdb_tables() WHERE schema_name = '_rollup' AND table_name = 'claims'").fetchall():
            return None
        rows = db.execute(
            "SELECT holder, epoch, position FROM _rollup.claims WHERE rollup_index = ? AND job_id = ?", [index, job_id]
        ).fetchall()
    if not rows:
        return None
    ((holder, epoch, position),) = rows
    return {"holder": holder, "epoch": epoch, "position": position and orjson.loads(position)}


def closed(folder: Path, timeout: float = 5.0) -> None:
    """Return once the operator has closed the database: its log is merged into it then."""
    deadline = time.monotonic() + timeout
    while (databases_of(folder) / f"{NAME}.wal").exists():
        assert time.monotonic() < deadline, "the database is still open"
        time.sleep(0.02)


def fingerprint(folder: Path) -> list[tuple[str, int, int]]:
    """Name below the data root, size and time of change of every file of the namespace that has this folder."""
    files = (path for top in (folder, own(folder)) for path in sorted(top.rglob("*")) if path.is_file())
    root = folder.parent
    return [(str(path.relative_to(root)), (found := path.stat()).st_size, found.st_mtime_ns) for path in files]


def written_to(folder: Path, times: int = 5, timeout: float = 20.0) -> None:
    """Return once the operator has committed something for so many times."""
    log = databases_of(folder) / f"{NAME}.wal"
    deadline = time.monotonic() + timeout
    last = size = log.stat().st_size if log.exists() else 0
    while times:
        assert time.monotonic() < deadline, "nothing is written to the database"
        time.sleep(0.005)  # the status counts pages only now and then
        size = log.stat().st_size if log.exists() else size
        if size != last:
            last, times = size, times - 1
