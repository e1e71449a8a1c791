"""Opens a database file, and classifies DuckDB's errors. Called in a worker.

A statement may open only files below the users' folder or the results. The configuration that says so is locked.
"""

import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import duckdb
from duckdb import DuckDBPyConnection as Connection

from rollup_operator.stores.duckdb.database import csv_errors, inspection, reserve
from rollup_operator.stores.duckdb.database.folders import Folder, Folders
from rollup_operator.stores.duckdb.database.inspection import NO_SPACE, SCRATCH, SECURE
from rollup_operator.stores.duckdb.database.takeover import LOGS, Takeover, lies_with_users
from rollup_operator.stores.duckdb.statements import sql
from rollup_operator.stores.duckdb.statements.columns import KEY_LOST, LONG_TEXT
from rollup_operator.stores.errors import SourceInvalid, StoreError, StoreUnavailable, TargetBlocked, VolumeFull

SPILL = ".tmp"
"""DuckDB's suffix for the folder of data that does not fit into memory."""

_WAL_LIMIT = "256MB"
_LONGEST_ERROR = 1000
_STILL_OPEN_S, _POLL_S = 10.0, 0.01

_DAMAGED = "Corrupt database file", "not a valid DuckDB database file"
"""DuckDB's messages for a file that something else has written to, or of which the disk has lost parts."""


def open_database(
    folders: Folders, name: str, settings: Mapping[str, str], takeover: Takeover, gone: Callable[[], bool]
) -> Connection:
    """Open or create a database file; one in the users' folder is taken over first, until `gone`.

    `settings` are those of DuckDB that may change while it is open.

    Raises StoreUnavailable, TargetBlocked.
    """
    *above, file = name.split("/")
    with folders.databases(*above) as folder:
        if folder.stat(file) is None:
            takeover.take(folders, [*above, file], folder, gone)
        for end in ("", *LOGS):
            _must_be_a_file(folder, file + end)
        try:
            root = duckdb.connect(
                f"{folder.path}/{file}",
                config={**settings, **SECURE, "wal_autocheckpoint": _WAL_LIMIT},
            )
        except duckdb.Error as e:
            raise classify(e, folders.hide) from e
        try:
            # Nobody else has the file open, so this is what a process left that died.
            with suppress(FileNotFoundError), folder.enter(file + SPILL) as spill:
                _remove(spill, "")
            with folders.exports() as results:
                _remove(results, part_prefix(name))
            reserve.keep(folder, file)
            _lock_in(root, folders, settings)
            if not takeover.inspected:
                inspection.inspect(root, name)
                takeover.inspected = True
        except BaseException as e:
            root.close()
            if isinstance(e, OSError):
                raise StoreUnavailable(f"what is left of database {name} cannot be removed: {e.strerror}") from e
            if isinstance(e, duckdb.Error):
                raise classify(e, folders.hide) from e
            raise
    return root


class FileTurn:
    """Held by the one object of this process that has a file open: DuckDB would not lock out a second one."""

    def __init__(self) -> None:
        self._held = threading.Lock()

    def take(self, gone: Callable[[], bool]) -> None:
        """Wait for it. Raises StoreUnavailable once `gone`, or if it takes too long."""
        ends = time.monotonic() + _STILL_OPEN_S
        while not self._held.acquire(timeout=_POLL_S):
            if gone():
                raise StoreUnavailable("the store was closed")
            if time.monotonic() >= ends:
                raise StoreUnavailable("the database file is still open from before this operator restarted")

    def end(self) -> None:
        """Give it back."""
        self._held.release()


def exists(folders: Folders, name: str) -> bool:
    """Whether there is a file, or one to take over. Raises ForbiddenSource, StoreUnavailable, TargetBlocked."""
    *above, file = name.split("/")
    with folders.databases(*above) as folder:
        return folder.stat(file) is not None or lies_with_users(folders, [*above, file])


def volume_of(folders: Folders) -> int:
    """Return the size in bytes of the volume on which the databases are. Raises StoreError."""
    with folders.databases() as folder:
        found = os.fstatvfs(folder.fd)
    return found.f_blocks * found.f_frsize


def part_prefix(name: str) -> str:
    """Return the prefix of the names of a database's incomplete files in the folder of the results."""
    return f".{hashlib.sha256(name.encode()).hexdigest()[:16]}."


def _must_be_a_file(folder: Folder, name: str) -> None:
    found = folder.stat(name)
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise TargetBlocked(f"{folder.shown}/{name} in the data root is a link, or no file: remove it")


def _remove(folder: Folder, prefix: str) -> None:
    for name in [name for name in folder.names() if name.startswith(prefix)]:
        os.unlink(name, dir_fd=folder.fd)


def _lock_in(root: Connection, folders: Folders, settings: Mapping[str, str]) -> None:
    readable = ", ".join(sql.text(f"{path}/") for path in folders.readable())
    for statement in (
        f"ATTACH ':memory:' AS {SCRATCH}",
        "LOAD parquet",
        f"SET allowed_directories = [{readable}]",
        f"SET allowed_configs = [{', '.join(map(sql.text, settings))}]",
        "SET enable_external_access = false",
        "SET lock_configuration = true",
    ):
        root.execute(statement)


def classify(e: duckdb.Error, hide: Callable[[str], str]) -> StoreError:
    """Return the error of a run for an error of DuckDB. `hide` removes the machine's paths from its text."""
    whole = str(e).strip()
    if isinstance(e, duckdb.InvalidInputException | duckdb.ConversionException) and (
        wrong := csv_errors.explain(whole, hide)
    ):
        return SourceInvalid(f"spec.indexPattern: {wrong}")
    if LONG_TEXT in whole:
        return SourceInvalid(LONG_TEXT)
    said = hide(whole)[:_LONGEST_ERROR]
    text = said.splitlines()[0] if said else type(e).__name__
    if isinstance(e, duckdb.InvalidInputException) and KEY_LOST in text:
        return SourceInvalid(text[text.index(KEY_LOST) :])
    if NO_SPACE in text.lower():
        return VolumeFull(
            f"the volume of the data root is full: {text}: make room there, and the job goes on by itself"
        )
    if isinstance(e, duckdb.OutOfRangeException):
        return SourceInvalid(f"a number of the source is too large for a sum: {text}")
    if any(said in text for said in _DAMAGED):
        return StoreUnavailable(
            f"{text}: restore the database from a backup; or stop the operator and move it away with its log, and jobs "
            "begin from the start"
        )
    if isinstance(e, duckdb.IOException):
        if "lock" in text.lower():
            return StoreUnavailable(f"the database file is locked by {_holder(str(e))}: it must be closed there")
        return StoreUnavailable(text)
    if isinstance(e, duckdb.ConnectionException | duckdb.FatalException | duckdb.OutOfMemoryException):
        return StoreUnavailable(text)
    return StoreError(text)


def _holder(text: str) -> str:
    """Return which process has a lock, as far as DuckDB says, with the name of its program but not the path."""
    if (pid := re.search(r"\bPID (\d+)", text)) is None:
        return "another process"
    _, _, program = text[: pid.start()].partition("held in ")
    return f"process {pid[1]}" + (f" ({program.rstrip(' (').rpartition('/')[2]})" if program else "")
