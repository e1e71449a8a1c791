"""Checks whether the operator may work with a database file: nothing in it runs by itself, its records are tables.

Users could write to the files of earlier versions, so a file may hold anything: an endless view in place of the
records, a macro under the name of a function that the operator's statements call, a computed column. DuckDB keeps to
no memory limit there, and some of it cannot be interrupted. A file with a hundred thousand tables takes a gigabyte
just to open.

So a separate process, with limits of memory and time, opens and inspects a file of the users first. The operator
inspects each file again when it first opens it: the file may come from a version that did not inspect it.
"""

import os
import resource
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection as Connection

from rollup_operator.stores.duckdb.database.folders import Folder
from rollup_operator.stores.duckdb.statements import sql
from rollup_operator.stores.errors import StoreUnavailable, TargetBlocked, VolumeFull

SCRATCH = "_scratch"
"""Catalog in memory for pages that are read and not yet written. No database file can have this name."""

SECURE = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    "scheduler_process_partial": True,  # else who sets `threads` waits until the statement under way ends
    "async_threads": 0,  # DuckDB 2.0 may wait for ever if a COPY in other threads is interrupted
}
"""Settings with which every file is opened."""

NO_SPACE = "no space left on device"
"""DuckDB's message for a full volume."""

SCHEMA = "_rollup"
"""The schema of the operator's own tables."""

MOST_RECORDS = 100_000
"""In one database."""
MOST_TEXT = 32 << 20
"""Characters of all its records."""

SECONDS = 60.0
MEMORY = 512 << 20
"""The memory of the process that opens a file for the first time. The command's own code takes a fifth of it."""

_CLAIMS = {
    "rollup_index": "VARCHAR",
    "job_id": "VARCHAR",
    "holder": "VARCHAR",
    "epoch": "BIGINT",
    "owner": "VARCHAR",
    "config_hash": "VARCHAR",
    "position": "VARCHAR",
    "watermark_ms": "BIGINT",
    "stats": "VARCHAR",
    "page_hint": "DOUBLE",
    "target": "VARCHAR",
    "revision": "BIGINT",
    "exported": "BIGINT",
    "updated_ms": "BIGINT",
    "spec": "VARCHAR",
    "source_ns": "BIGINT",
}
_LATER = {"spec", "source_ns"}
"""Columns that files of earlier versions lack."""
_TARGETS = {"target": "VARCHAR", "rollup_index": "VARCHAR", "job_id": "VARCHAR", "created_ms": "BIGINT"}
_POLL_S = 0.01
_DUCKDB_MEMORY = "64MiB"
_SPILL, _BLOCK = 64 << 20, 512
_INSPECTED = "_inspected"
_BLOCKED, _FULL, _TOO_LARGE = 3, 4, 5


class NotOurs(TargetBlocked):
    """No operator made the content of a file, so no run of any operator works on it."""


def inspect(root: Connection, shown: str, *, texts: bool = False) -> None:
    """Return if an operator made everything in the open file except sources. Raises NotOurs.

    The connection has SCRATCH attached; `shown` names the file. `texts`: read how long the records are, too.
    """
    with root.cursor() as db:
        db.execute(f"USE {SCRATCH}")  # what the file calls by the name of a function is not found from here
        ((catalog,),) = db.execute(
            "SELECT database_name FROM duckdb_databases() WHERE NOT internal AND path IS NOT NULL"
        ).fetchall()
        if (why := _foreign(db, catalog, texts=texts)) is not None:
            raise NotOurs(
                f"no operator wrote the records of database {shown}: {why}. Name another one in "
                "spec.duckdb.database, or move the file away"
            )


def _foreign(db: Connection, catalog: str, *, texts: bool) -> str | None:
    """Return the content of the file that no operator made; None: there is none."""

    def first(what: str) -> str | None:
        found = db.execute(f"SELECT {what} LIMIT 1", [catalog]).fetchone()
        return None if found is None else str(found[0])[:100]

    here = f"database_name = $1 AND schema_name = '{SCHEMA}'"
    if name := first("function_name FROM duckdb_functions() WHERE database_name = $1 AND NOT internal"):
        return f"it holds the macro {name!r}"
    if name := first("trigger_name FROM duckdb_triggers() WHERE database_name = $1"):
        return f"it holds the trigger {name!r}"
    if name := first(f"view_name FROM duckdb_views() WHERE {here}"):
        return f"{name!r} is a view"
    if name := first(
        f"table_name FROM duckdb_tables() WHERE {here} AND (index_count > 0 OR check_constraint_count > 0)"
    ):
        return f"table {name!r} has an index, a key or a check"
    if name := first("table_name FROM duckdb_columns() WHERE database_name = $1 AND is_generated"):
        return f"table {name!r} has a column that is computed"
    if name := first(f"table_name FROM duckdb_columns() WHERE {here} AND column_default IS NOT NULL"):
        return f"table {name!r} has a column with a default"
    for table, columns in (("claims", _CLAIMS), ("targets", _TARGETS)):
        found = dict(
            db.execute(
                f"SELECT column_name, data_type FROM duckdb_columns() WHERE {here} AND table_name = $2 LIMIT 100",
                [catalog, table],
            ).fetchall()
        )
        if found and any(found.get(n, "" if n not in _LATER else t) != t for n, t in columns.items()):
            return f"table {table!r} has other columns"
        if found:
            of = f"{sql.name(catalog)}.{SCHEMA}.{table}"
            ((rows,),) = db.execute(f"SELECT count(*) FROM {of}").fetchall()  # counts without reading
            if rows > MOST_RECORDS:
                return f"table {table!r} has {rows} rows, and an operator makes {MOST_RECORDS} at most"
            if texts:
                longs = " + ".join(
                    f"coalesce(strlen({sql.name(n)}), 0)" for n in columns if columns[n] == "VARCHAR" and n in found
                )
                ((length,),) = db.execute(f"SELECT coalesce(sum({longs}), 0) FROM {of}").fetchall()
                if length > MOST_TEXT:
                    return f"table {table!r} holds {length} characters, and an operator writes {MOST_TEXT} at most"
    return None


class Inspections:
    """Opens files in separate processes: one at a time, with the namespaces taking turns. For any thread."""

    def __init__(self, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        """`seconds` and `memory` (bytes) are the limits of a process."""
        self._seconds, self._memory = seconds, memory
        self._one = threading.Lock()
        self._of: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def turn_of(self, namespace: str, gone: Callable[[], bool]) -> AbstractContextManager[None]:
        """Wait until no other file of the namespace is being taken over. Raises StoreUnavailable once `gone`."""
        return _held(self._of[namespace], gone)

    def inspect(self, folder: Folder, name: str, shown: str, gone: Callable[[], bool]) -> None:
        """Open a file of an open folder, write its log into it and inspect it; `shown` names it.

        Raises NotOurs, VolumeFull, and StoreUnavailable once `gone`.
        """
        with _held(self._one, gone):
            code, said = self._run([str(folder.fd), name, shown, str(self._memory)], folder.fd, shown, gone)
        if code == _FULL:
            raise VolumeFull(said)
        if code == _BLOCKED:
            raise NotOurs(said)
        if code:
            raise NotOurs(f"{shown} cannot be opened with {self._memory >> 20} MiB of memory: {_CURE}")

    def _run(self, arguments: list[str], fd: int, shown: str, gone: Callable[[], bool]) -> tuple[int, str]:
        ends = time.monotonic() + self._seconds
        with subprocess.Popen(  # noqa: S603  # this very module; what users name are arguments
            [sys.executable, "-P", "-m", __name__, *arguments],  # -P: nothing is run that lies in the working directory
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                while process.poll() is None:
                    if gone():
                        raise _closed()
                    if time.monotonic() > ends:
                        raise NotOurs(f"{shown} cannot be opened within {self._seconds:g} s: {_CURE}")
                    time.sleep(_POLL_S)
                assert process.stdout is not None
                return process.returncode, process.stdout.read().decode(errors="replace")
            finally:
                process.kill()


@contextmanager
def _held(lock: threading.Lock, gone: Callable[[], bool]) -> Iterator[None]:
    while not lock.acquire(timeout=_POLL_S):
        if gone():
            raise _closed()
    try:
        yield
    finally:
        lock.release()


def _closed() -> StoreUnavailable:
    return StoreUnavailable("the store was closed")


_CURE = "name another database in spec.duckdb.database, or move the file away"


def _spill(path: str) -> int:
    """Return how many bytes may be spilled while a file's log is written into it: an operator's log takes less.

    A log may say in a few bytes how a column is computed, for any number of rows.
    """
    there = [Path(path + end) for end in ("", ".wal") if Path(path + end).exists()]
    return 2 * sum(each.stat().st_blocks * _BLOCK for each in there) + _SPILL


def _apart(folder: str, name: str, shown: str, memory: str) -> int:
    """Run as the process that opens the file. Returns its exit status."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)
    Path("/proc/self/oom_score_adj").write_text("1000")  # to be ended rather than the operator
    path = f"/proc/self/fd/{folder}/{name}"
    limits = {"memory_limit": _DUCKDB_MEMORY, "temp_directory": f"{path}.tmp"}
    try:
        with closing(duckdb.connect(config={**SECURE, **limits, "threads": 1})) as root:
            # DuckDB 2.0 keeps to a limit of spill space only if it is set before the file is opened.
            root.execute(f"SET max_temp_directory_size = '{_spill(path)}B'")
            root.execute(f"ATTACH ':memory:' AS {SCRATCH}")
            root.execute(f"SET allowed_directories = [{sql.text(f'/proc/self/fd/{folder}/')}]")
            root.execute("SET enable_external_access = false")
            root.execute(f"ATTACH {sql.text(path)} AS {_INSPECTED} (TYPE duckdb)")
            inspect(root, shown, texts=True)
            root.execute(f"CHECKPOINT {_INSPECTED}")
    except NotOurs as e:
        print(e)
        return _BLOCKED
    except duckdb.Error as e:
        said = str(e).replace(path, shown).strip().splitlines()[0][:300]
        print(f"{shown} cannot be opened: {said}")
        if isinstance(e, duckdb.OutOfMemoryException):
            return _TOO_LARGE
        return _FULL if NO_SPACE in said.lower() else _BLOCKED
    return 0


if __name__ == "__main__":
    sys.exit(_apart(*sys.argv[1:]))
