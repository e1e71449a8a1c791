"""One database file: opened when first used, shared by all who use it, closed soon after the last has left.

DuckDB locks the file for this process, so whoever else writes to it, dead or alive, does not write now. All that DuckDB
may open lies below the folder of the namespace; the configuration that says so is locked.
"""

import asyncio
import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, TypeVar
from weakref import WeakValueDictionary

import duckdb
from duckdb import DuckDBPyConnection as Connection

from rollup_operator.stores.errors import StoreError, StoreUnavailable

T = TypeVar("T")

SCRATCH = "_scratch"
"""Catalog in memory for pages that are read and not yet written. No database file can have this name."""

_LINGER_S = 0.3
_WAL_LIMIT = "256MB"
_THREADS = 160
"""Two for each of 64 sessions, and some for the store itself; made when needed."""
_INTERRUPT_EVERY_S = 0.01


class Cancelled(Exception):
    """The work was told to end between two statements."""


class Lane:
    """A connection with its own transactions, used by one piece of work at a time."""

    def __init__(self, database: "Database", connection: Connection) -> None:
        self._database = database
        self._connection = connection
        self._turn = asyncio.Lock()
        self._cancelled = threading.Event()
        self._busy = threading.Lock()
        self._interruptible = True
        self.closed = False
        self.doing: tuple[str, float] | None = None
        """What runs now and since when, by the monotonic clock."""

    def execute(self, statement: str, values: object = None) -> list[tuple[object, ...]]:
        """Run a statement, in the worker. Raises Cancelled when the work was cancelled before it."""
        if self._cancelled.is_set():
            raise Cancelled
        return self._connection.execute(statement, values).fetchall()

    def transaction(self, work: Callable[["Lane"], T]) -> T:
        """Run `work` in one transaction, in the worker: all of it is durable afterwards, or none."""
        with self._database.writing:
            self.execute("BEGIN")
            try:
                result = work(self)
                self.execute("COMMIT")
            except BaseException:
                with suppress(duckdb.Error):  # a failed COMMIT has rolled back already
                    self._connection.execute("ROLLBACK")
                raise
            return result

    async def run(self, what: str, work: Callable[["Lane"], T], *, interruptible: bool) -> T:
        """Run `work` in a worker thread. Raises StoreError.

        A cancellation reaches the caller when the work has ended: interrupted, or, where it must not be, finished.
        """
        async with self._turn:
            self._cancelled.clear()
            self._interruptible = interruptible
            self.doing = (what, time.monotonic())
            future = asyncio.get_running_loop().run_in_executor(self._database.pool, self._guarded, work)
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                await self._end(future, interruptible)
                raise
            finally:
                self.doing = None

    async def _end(self, future: "asyncio.Future[T]", interruptible: bool) -> None:
        if interruptible:
            self._cancelled.set()
        while not future.done():
            if interruptible:
                self._interrupt()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({future}, timeout=_INTERRUPT_EVERY_S if interruptible else None)
        if not future.cancelled():
            future.exception()

    def _guarded(self, work: Callable[["Lane"], T]) -> T:
        with self._busy:
            try:
                if self.closed:
                    raise Cancelled
                return work(self)
            except Cancelled as e:
                raise StoreUnavailable("the store was closed") from e
            except duckdb.Error as e:
                if self.closed:
                    raise StoreUnavailable("the store was closed") from e
                raise classify(e) from e

    def close(self, last: Callable[["Lane"], object] | None = None) -> None:
        """Give the connection back, after `last`. What runs is interrupted, or, where it must not be, awaited."""
        self.closed = True
        while not self._busy.acquire(timeout=_INTERRUPT_EVERY_S):
            if self._interruptible:
                self._cancelled.set()
                self._interrupt()
        try:
            self._cancelled.clear()
            if last is not None:
                with suppress(duckdb.Error):
                    last(self)
            self._connection.close()
        finally:
            self._busy.release()

    def _interrupt(self) -> None:
        with suppress(duckdb.Error):  # it was closed meanwhile
            self._connection.interrupt()


class Lanes:
    """The lanes that one store or session has open, in the order in which they were opened."""

    def __init__(self) -> None:
        self.open: list[Lane] = []
        self.closed = False
        """No lane is opened any more."""


class Database:
    """A file and its connections. `path` and `folder` are resolved; the folder is all that DuckDB may see."""

    _known: ClassVar["WeakValueDictionary[Path, Database]"] = WeakValueDictionary()
    _registry = threading.Lock()

    @classmethod
    def at(cls, path: Path, folder: Path) -> "Database":
        """Return the one object for a file: the file is locked for the process, so its state is the process's."""
        with cls._registry:
            known = cls._known.get(path)
            if known is None:
                known = cls._known[path] = cls(path, folder)
            return known

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        self.pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="duckdb")
        self.writing = threading.Lock()
        """Held for the length of a write transaction: transactions of one process never conflict."""
        self._state = threading.Lock()
        self._root: Connection | None = None
        self._lanes: dict[Lane, Lanes] = {}
        self._timer: threading.Timer | None = None

    @property
    def is_open(self) -> bool:
        """Whether the file is open, and so locked, now."""
        return self._root is not None

    async def lane(self, lanes: Lanes | None = None) -> Lane:
        """Return a new connection, one of `lanes`, opening the file if need be. Raises StoreUnavailable."""
        opening = asyncio.get_running_loop().run_in_executor(self.pool, self._join, lanes)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(
                lambda f: self.leave(f.result()) if not f.cancelled() and not f.exception() else None
            )
            raise

    def leave(self, lane: Lane, last: Callable[[Lane], object] | None = None) -> None:
        """Give a lane back after `last`; may wait for what it does. The file is closed soon after the last one."""
        lane.close(last)
        with self._state:
            if (lanes := self._lanes.pop(lane, None)) is not None:
                lanes.open.remove(lane)
            if not self._lanes and self._root is not None and self._timer is None:
                # Not a daemon: a process that ends waits for it, so that no file stays open whose store is gone.
                self._timer = threading.Timer(_LINGER_S, self.close_if_idle)
                self._timer.start()

    def leave_all(self, lanes: Lanes, last: Callable[[Lane], object] | None = None) -> None:
        """Give all lanes back, the first one after `last`, and open none of them from now on; may wait as `leave`."""
        with self._state:  # a lane that is being opened is there afterwards
            lanes.closed = True
            left = list(lanes.open)
        for lane in reversed(left):
            self.leave(lane, last if lane is left[0] else None)

    def close_if_idle(self) -> None:
        """Close the file if nobody uses it. May take as long as writing the log into the file does."""
        with self._state:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if not self._lanes and self._root is not None:
                root, self._root = self._root, None
                root.close()

    def _join(self, lanes: Lanes | None = None) -> Lane:
        lanes = lanes or Lanes()
        with self._state:
            if lanes.closed:
                raise StoreUnavailable("the store was closed")
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._root is None:
                self._root = _open(self.path, self.folder)
            lane = Lane(self, self._root.cursor())
            self._lanes[lane] = lanes
            lanes.open.append(lane)
            return lane


def _open(path: Path, folder: Path) -> Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not Path(os.path.realpath(path)).is_relative_to(folder):
            raise StoreUnavailable(f"database {path.name} lies outside the namespace's data folder: move it there")
        root = duckdb.connect(
            str(path),
            config={
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "allow_community_extensions": False,
                "allow_persistent_secrets": False,
                "wal_autocheckpoint": _WAL_LIMIT,
            },
        )
    except OSError as e:
        raise StoreUnavailable(f"database {path.name} cannot be opened: {e.strerror}") from e
    except duckdb.Error as e:
        raise classify(e) from e
    try:
        for statement in (
            f"ATTACH ':memory:' AS {SCRATCH}",
            "LOAD parquet",
            "SET parquet_metadata_cache = true",  # each page looks into the same files; a changed file is read anew
            f"SET allowed_directories = ['{str(folder).replace(chr(39), chr(39) * 2)}/']",
            "SET enable_external_access = false",
            "SET lock_configuration = true",
        ):
            root.execute(statement)
    except BaseException:
        root.close()
        raise
    return root


def classify(e: duckdb.Error) -> StoreError:
    """Return what an error of DuckDB means for a run."""
    text = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
    if isinstance(e, duckdb.IOException):
        if "lock" in text.lower():
            holder = re.search(r"held in (.+?) \(PID (\d+)", str(e)) or re.search(r"()\bPID (\d+)", str(e))
            who = (
                f"process {holder[2]} ({holder[1]})"
                if holder and holder[1]
                else f"process {holder[2]}"
                if holder
                else "another process"
            )
            return StoreUnavailable(f"the database file is locked by {who}: it must be closed there")
        return StoreUnavailable(text)
    if isinstance(e, duckdb.ConnectionException | duckdb.FatalException | duckdb.OutOfMemoryException):
        return StoreUnavailable(text)
    return StoreError(text)
