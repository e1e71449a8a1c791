"""One database file: opened at the first use, shared by all its users, closed soon after the last one has left.

DuckDB locks the file for this process, so no other process, dead or alive, writes to it now.
"""

import asyncio
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar, TypeVar
from weakref import WeakValueDictionary

import duckdb
from duckdb import DuckDBPyConnection as Connection

from rollup_operator.stores.duckdb.database import reserve, threads
from rollup_operator.stores.duckdb.database.budget import Budget, Heads, Share
from rollup_operator.stores.duckdb.database.folders import Folders
from rollup_operator.stores.duckdb.database.kept import Kept
from rollup_operator.stores.duckdb.database.lingering import Linger
from rollup_operator.stores.duckdb.database.opening import (
    FileTurn,
    classify,
    exists,
    open_database,
    part_prefix,
    volume_of,
)
from rollup_operator.stores.duckdb.database.places import DatabasePlace
from rollup_operator.stores.duckdb.database.takeover import Takeover
from rollup_operator.stores.errors import SourceNotFound, StoreUnavailable, VolumeFull

T = TypeVar("T")

_INTERRUPT_EVERY_S = 0.01
PATIENCE_S = 10.0
"""How long uninterruptible work may continue once it is to end. It takes far less, unless somebody replaced the
operator's file. After that it is interrupted, and its transaction rolled back."""
_DESCRIPTORS = "/proc/self/fd/"
_DESCRIPTOR = re.compile(re.escape(_DESCRIPTORS) + r"\d+")


class Cancelled(Exception):
    """The work was asked to end between two statements."""


class Lane:
    """A connection with its own transactions, used by one task at a time."""

    def __init__(self, database: "Database", connection: Connection) -> None:
        self._database = database
        self._connection = connection
        self._turn = asyncio.Lock()
        self._cancelled = threading.Event()
        """Of the work under way, or of the last: another one for each, which nobody sets who means an earlier one."""
        self._busy = threading.Lock()
        self._interruptible = True
        self.closed = False
        self.doing: tuple[str, float] | None = None
        """The current work and its start, by the monotonic clock."""
        self._files: dict[str, str] = {}
        """The users' files that are open for DuckDB to read: their paths for it, and as users name them."""
        self.heads = Heads(database.budget, database.folders.namespace)
        self.kept = database.kept

    @property
    def folders(self) -> Folders:
        """Where files of the namespace are."""
        return self._database.folders

    def go_on(self) -> None:
        """Raise Cancelled if the work was cancelled. For work between two statements, in the worker."""
        if self._cancelled.is_set():
            raise Cancelled

    def keep_open(self, fd: int, name: str) -> None:
        """Keep a file open that `name` means to users, until the lane closes. Raises StoreUnavailable."""
        if not self._database.budget.take_file(self.folders.namespace):
            os.close(fd)
            raise StoreUnavailable(
                f"{name} cannot be opened: {len(self._files)} files are open, which is the limit of the namespace now; "
                "combine files, or raise the operator's limit of open files"
            )
        self._files[self.path_of(fd)] = name

    def name_of(self, path: str) -> str:
        """Return what an open file's path means to users."""
        return self._files.get(path, "a file")

    def part_name(self) -> str:
        """Return a new name for a file in the folder of the results that is not complete yet."""
        return f"{part_prefix(self._database.name)}{uuid.uuid4().hex}"

    @staticmethod
    def path_of(fd: int) -> str:
        """Return the path of an open file for DuckDB, which then reads this file and no other."""
        return f"{_DESCRIPTORS}{fd}"

    def execute(self, statement: str, values: object = None) -> list[tuple[object, ...]]:
        """Run a statement, in the worker. Raises Cancelled if the work was cancelled before."""
        return self.execute_named(statement, values)[1]

    def execute_named(self, statement: str, values: object = None) -> tuple[list[str], list[tuple[object, ...]]]:
        """Do the same, and also return the names of the columns."""
        self.go_on()
        found = self._connection.execute(statement, values)
        return [column[0] for column in found.description or ()], found.fetchall()

    def batches(self, statement: str, size: int) -> Iterator[list[tuple[object, ...]]]:
        """Run a statement, in the worker, and yield its rows, so many at once. Raises Cancelled, also between two."""
        self.go_on()
        found = self._connection.execute(statement)
        while batch := found.fetchmany(size):
            yield batch
            self.go_on()

    def transaction(self, work: Callable[["Lane"], T]) -> T:
        """Run `work` in one transaction, in the worker: all of it is durable afterwards, or none."""
        with self._database.kept.writing():
            self.execute("BEGIN")
            try:
                result = work(self)
                self.execute("COMMIT")
            except BaseException:
                with suppress(duckdb.Error):  # a failed COMMIT has rolled back already
                    self._connection.execute("ROLLBACK")
                raise
            return result

    async def run(self, what: str, work: Callable[["Lane"], T], *, interruptible: bool, at_once: bool = False) -> T:
        """Run `work` in a worker thread, `at_once` or after other work of its namespace. Raises StoreError.

        A cancellation reaches the caller when the work has ended: interrupted or, if it must not be, finished,
        if that takes no longer than PATIENCE_S.
        """
        async with self._turn, self._database.budget.turns.taking(self.folders.namespace, at_once=at_once):
            self._interruptible = interruptible
            self.doing = (what, time.monotonic())
            cancelled = threading.Event()
            future = asyncio.get_running_loop().run_in_executor(self._database.pool, self._guarded, work, cancelled)
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                await self._end(future, cancelled, PATIENCE_S * (not interruptible))
                raise
            finally:
                self.doing = None

    async def run_in_reserve(self, what: str, work: Callable[["Lane"], T]) -> T:
        """Run `work`, which ends something and must be finished, even if the volume is full. Raises StoreError."""
        try:
            return await self.run(what, work, interruptible=False, at_once=True)
        except VolumeFull:
            loop, database = asyncio.get_running_loop(), self._database
            if not await loop.run_in_executor(database.pool, reserve.give_up, database.folders, database.name):
                raise
            return await self.run(what, work, interruptible=False, at_once=True)

    async def _end(self, future: "asyncio.Future[T]", cancelled: threading.Event, patience: float) -> None:
        """Wait until work is over; after that many seconds, interrupt it."""
        begun = time.monotonic()
        while not future.done():
            if time.monotonic() >= begun + patience:
                cancelled.set()
                if self._cancelled is cancelled:
                    self._interrupt()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({future}, timeout=_INTERRUPT_EVERY_S)
        if not future.cancelled():
            future.exception()

    def _guarded(self, work: Callable[["Lane"], T], cancelled: threading.Event) -> T:
        with self._busy:
            self._cancelled = cancelled
            try:
                if self.closed:
                    raise Cancelled
                return work(self)
            except Cancelled as e:
                raise _closed() from e
            except duckdb.Error as e:
                if self.closed:
                    raise _closed() from e
                if gone := self._gone():
                    raise SourceNotFound(
                        f"{gone} was deleted or replaced while it was read: the next try reads the files that exist "
                        "then, and rows that were not rolled up yet are in no document"
                    ) from e
                raise classify(e, self._hide) from e

    def _gone(self) -> str | None:
        """Return the name of an open file that is there no more: DuckDB does not read such a one again."""
        for path, name in self._files.items():
            with suppress(OSError):
                if not os.fstat(int(path.removeprefix(_DESCRIPTORS))).st_nlink:
                    return name
        return None

    def _hide(self, text: str) -> str:
        text = _DESCRIPTOR.sub(lambda found: self._files.get(found[0], "a file"), text)
        return self._database.folders.hide(text)

    def close(self, last: Callable[["Lane"], object] | None = None) -> None:
        """Return the connection, after `last`. Current work is interrupted, at once or after PATIENCE_S."""
        self.closed = True
        begun = time.monotonic()
        while not self._busy.acquire(timeout=_INTERRUPT_EVERY_S):
            if self._interruptible or time.monotonic() >= begun + PATIENCE_S:
                self._cancelled.set()
                self._interrupt()
        self._cancelled = threading.Event()
        try:
            if last is not None:
                with suppress(duckdb.Error):
                    last(self)
        finally:
            self._connection.close()
            for path in self._files:
                os.close(int(path.removeprefix(_DESCRIPTORS)))
            self._database.budget.give_files(self.folders.namespace, len(self._files))
            self.heads.end()
            self._files.clear()
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
    """A file and its connections. `name` is its path below the folder of the namespace's databases."""

    _known: ClassVar["WeakValueDictionary[tuple[Budget, tuple[str, str, str]], Database]"] = WeakValueDictionary()
    _turns: ClassVar["WeakValueDictionary[tuple[str, str, str], FileTurn]"] = WeakValueDictionary()
    _registry = threading.Lock()

    @classmethod
    def at(cls, folders: Folders, name: str, budget: Budget) -> "Database":
        """Return an operator's one object for a file: the file is locked for the process, so its state is shared.

        `budget` is the operator's. If an earlier operator of this process had the file, its object may still
        exist, and belongs to a budget and an event loop that have ended.
        """
        path = os.path.realpath(folders.root), folders.namespace, name
        with cls._registry:
            known = cls._known.get((budget, path))
            if known is None:
                turn = cls._turns.setdefault(path, FileTurn())
                known = cls._known[budget, path] = cls(folders, name, budget, turn)
            return known

    def __init__(self, folders: Folders, name: str, budget: Budget, file: FileTurn) -> None:
        self.folders, self.name, self.budget = folders, name, budget
        self._file = file
        self.pool = threads.pool("duckdb")
        self._entrance = threads.pool("duckdb-opening")
        """For those who wait until the file is open: however many they are, who leaves finds a thread."""
        self.kept = Kept()
        self._place = DatabasePlace(budget, folders.namespace)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._comers = 0
        """Lanes that are being made in that place."""
        self._state = threading.Condition(threading.Lock())
        """Of what follows. Nobody holds it for long, and so not while the file is opened or closed."""
        self._changing = False
        """One thread opens or closes the file."""
        self._joining: list[Lanes] = []
        """Of whom a lane is being made, or waits for the file."""
        self._root: Connection | None = None
        self._lanes: dict[Lane, Lanes] = {}
        self._linger = Linger()
        self._rests = False
        """The file is open, and nobody uses it."""
        self._takeover = Takeover(budget.inspections)

    @property
    def is_open(self) -> bool:
        """Whether the file is open, and so locked, now."""
        return self._root is not None

    def exists(self) -> bool:
        """Whether there is a file. Does I/O. Raises StoreError."""
        return self.is_open or exists(self.folders, self.name)

    async def lane(self, lanes: Lanes | None = None, *, waits: bool = True) -> Lane:
        """Return a new connection, one of `lanes`, opening the file if need be. Raises StoreError.

        If too many databases are open, it waits for a place or, unless it `waits`, takes one that is kept for
        short use.
        """
        loop = asyncio.get_running_loop()
        await self._place.take(waits=waits)
        self._comers += 1
        self._loop = loop
        opening = loop.run_in_executor(self._entrance, self._join, lanes)
        opening.add_done_callback(self._has_come)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(
                lambda f: self.leave(f.result()) if not f.cancelled() and not f.exception() else None
            )
            raise

    def _has_come(self, _: object) -> None:
        self._comers -= 1
        self._give_back_place()

    def _give_back_place(self) -> None:
        if self._root is None and not self._changing and not self._comers:
            self._place.end()

    def leave(self, lane: Lane, last: Callable[[Lane], object] | None = None, *, searched: bool = False) -> None:
        """Give a lane back after `last`; may wait for what it does. The file is closed soon after the last one.

        `searched`: it was that of a search, so another one is likely to follow.
        """
        try:
            lane.close(last)
        finally:
            if searched:
                self._linger.searched()
            self._forget(lane)

    def _forget(self, lane: Lane) -> None:
        with self._state:
            if (lanes := self._lanes.pop(lane, None)) is not None:
                lanes.open.remove(lane)
            self._close_soon()

    def _close_soon(self) -> None:
        """Have the file closed if nobody uses it. The caller must hold the state."""
        if not self._lanes and not self._joining and self._root is not None:
            self._linger.begin(self._place.is_wanted, self.close_if_idle)
            if not self._rests:
                self._rests = True
                self.budget.rest(self)

    def leave_all(self, lanes: Lanes, last: Callable[[Lane], object] | None = None) -> None:
        """Give all lanes back, the first one after `last`, and open none of them from now on; may wait as `leave`.

        An opening of the file ends that nobody else waits for. This waits for none.
        """
        with self._state:
            lanes.closed = True
            self._state.notify_all()
            left = list(lanes.open)
        for lane in reversed(left):
            self.leave(lane, last if lane is left[0] else None)

    def close_if_idle(self) -> None:
        """Close the file if nobody uses it. May take as long as writing the log into the file does."""
        with self._state:
            self._linger.end()
            self._state.wait_for(lambda: not self._changing)
            if self._root is None or self._lanes or not self._nobody_joins():
                return
            with self._unlocked():
                root, self._root = self._root, None
                self.kept.forget()
                self._rests = False
                try:
                    self.budget.leave(self)
                    root.close()
                finally:
                    self._file.end()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._give_back_place)

    def _nobody_joins(self) -> bool:
        return all(lanes.closed for lanes in self._joining)

    @contextmanager
    def _unlocked(self) -> Iterator[None]:
        """For code that opens or closes the file and holds the state: others may read it meanwhile."""
        self._changing = True
        self._state.release()
        try:
            yield
        finally:
            self._state.acquire()
            self._changing = False
            self._state.notify_all()

    def keep_to(self, share: Share) -> bool:
        """Keep to a share of the budget; see `budget`."""
        if (root := self._root) is None:
            return True
        try:
            with root.cursor() as connection:
                for name, value in share.settings().items():
                    connection.execute(f"SET {name} = '{value}'")
        except duckdb.OutOfMemoryException:
            return False
        except duckdb.Error:  # it was closed meanwhile
            return True
        return True

    def later(self, work: Callable[[], None]) -> None:
        """Do some work in a thread that may wait; see `budget`."""
        with suppress(RuntimeError):  # this process ends
            self.pool.submit(work)

    def _open(self) -> None:
        """Open the file, as long as somebody waits for it."""

        def gone() -> bool:
            with self._state:
                return self._nobody_joins()

        self._file.take(gone)
        try:
            share = self.budget.enter(self, self.folders.namespace, volume_of(self.folders))
            try:
                self._root = open_database(self.folders, self.name, share.settings(), self._takeover, gone)
            except BaseException:
                self.budget.leave(self)
                raise
        except BaseException:
            self._file.end()
            raise
        self.budget.opened(self)  # DuckDB 2.0 does not keep to a spill limit that it is opened with, either

    def _join(self, lanes: Lanes | None = None) -> Lane:
        lanes = lanes or Lanes()
        with self._state:
            self._joining.append(lanes)
            self._linger.end()
            try:
                while not lanes.closed and (self._changing or self._root is None or self._rests):
                    if self._changing:
                        self._state.wait()
                        continue
                    with self._unlocked():
                        if self._root is None:
                            self._open()
                        else:
                            self.budget.wake(self)
                            self._rests = False
                if lanes.closed or self._root is None:
                    raise _closed()
                lane = Lane(self, self._root.cursor())
                self._lanes[lane] = lanes
                lanes.open.append(lane)
                return lane
            finally:
                self._joining.remove(lanes)
                self._close_soon()


def _closed() -> StoreUnavailable:
    return StoreUnavailable("the store was closed")
