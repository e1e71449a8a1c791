"""Takes over a database from the users' folder, where earlier versions kept it. Called in a worker.

The database is copied, because the operator only reads users' folders, and a file that a user may still have open
must not become the operator's. Holes stay holes in the copy; otherwise a file that takes no space could fill the
shared volume. A separate process opens and inspects the copy, which gets its name once all of it is durable; until
then, and so after a crash, the copy begins anew.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import structlog

from rollup_operator.stores.duckdb.database.folders import Folder, Folders, NotItself
from rollup_operator.stores.duckdb.database.inspection import Inspections, NotOurs
from rollup_operator.stores.errors import StoreUnavailable, TargetBlocked

log = structlog.get_logger(__name__)

LOGS = (".wal", ".wal.checkpoint", ".wal.recovery")
"""What DuckDB may have left beside a file: together with it, it is the database."""

_MAGIC = slice(8, 12), b"DUCK"
_CHUNK = 16 << 20
_BLOCK = 512
"""Bytes of a block, of whatever file system."""


def lies_with_users(folders: Folders, steps: list[str]) -> bool:
    """Whether there is something to take over. Raises ForbiddenSource, StoreUnavailable."""
    with ExitStack() as stack:
        return (place := _place(folders, steps, stack)) is not None and place.stat(steps[-1]) is not None


@dataclass
class Takeover:
    """Takes over one database, repeatedly if it is refused."""

    inspections: Inspections
    inspected: bool = False
    """Whether the file in the operator's tree was inspected by this process."""
    _refused: tuple[object, str] | None = None
    """Which files were refused last, and why: they are not copied again until they change."""

    def take(self, folders: Folders, steps: list[str], target: Folder, gone: Callable[[], bool]) -> None:
        """Copy the database at `steps` below the users' folder into `target`, if there is one; `gone` ends it.

        Raises StoreUnavailable, among others where another process has it open; NotOurs where no operator made it.
        """
        name, shown = steps[-1], "/".join(steps)
        with ExitStack() as stack:
            if (place := _place(folders, steps, stack)) is None or place.stat(name) is None:
                return
            try:
                ends = [end for end in ("", *LOGS) if place.stat(name + end) is not None]
                found = {end: _open(place, name + end, stack) for end in ends}
                fcntl.lockf(found[""], fcntl.LOCK_SH | fcntl.LOCK_NB)  # DuckDB locks its open files in the same way
                state = [_state(os.fstat(fd)) for fd in found.values()]
                if self._refused is not None and self._refused[0] == state:
                    raise NotOurs(self._refused[1])
                stack.enter_context(self.inspections.turn_of(folders.namespace, gone))
                fcntl.flock(target.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held until the folder is closed
                if target.stat(name) is not None:
                    return
                try:
                    with _apart(target, name) as part:
                        self._copy(folders.namespace, found, part, name, shown, gone)
                        _place_copy(part, target, name)
                except NotOurs as e:
                    self._refused = state, str(e)
                    raise
                finally:
                    fcntl.flock(target.fd, fcntl.LOCK_UN)
            except BlockingIOError as e:
                raise StoreUnavailable(f"{shown} is locked by another process: it must be closed there") from e
            except NotItself as e:
                raise TargetBlocked(f"{shown} {e.strerror}: put the file itself there, or move it away") from e
            except OSError as e:
                raise StoreUnavailable(f"{shown} cannot be taken over: {e.strerror}") from e

    def _copy(
        self, namespace: str, found: Mapping[str, int], part: Folder, name: str, shown: str, gone: Callable[[], bool]
    ) -> None:
        at, magic = _MAGIC
        if os.pread(found[""], at.stop, 0)[at] != magic:
            raise NotOurs(f"{shown} is no DuckDB database: name another one in spec.duckdb.database, or move it")
        _must_have_room(found.values(), part, shown)
        log.info("taking over a database", namespace=namespace, database=shown)
        for end, fd in found.items():
            _copy(fd, part, name + end, gone)
        self.inspections.inspect(part, name, shown, gone)


def _place_copy(part: Folder, target: Folder, name: str) -> None:
    for end in reversed(("", *LOGS)):  # the file itself comes last: it says that all is there
        if part.stat(name + end) is not None:
            part.sync(name + end)
            os.rename(name + end, name + end, src_dir_fd=part.fd, dst_dir_fd=target.fd)
    target.sync()


@contextmanager
def _apart(target: Folder, name: str) -> Iterator[Folder]:
    """Make an empty folder in `target` for an incomplete copy; afterwards it is removed with its content."""
    part = f".{name}.part"  # no database can have this name
    _remove(target, part)
    try:
        with target.enter(part, make=0o700) as folder:
            yield folder
    finally:
        _remove(target, part)


def _remove(target: Folder, part: str) -> None:
    with suppress(FileNotFoundError):
        if target.is_folder(part):
            shutil.rmtree(part, dir_fd=target.fd)
        else:
            os.unlink(part, dir_fd=target.fd)


def _state(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _place(folders: Folders, steps: list[str], stack: ExitStack) -> Folder | None:
    if (folder := folders.users()) is None:
        return None
    stack.enter_context(folder)
    for step in steps[:-1]:
        try:
            folder = stack.enter_context(folder.enter(step))
        except FileNotFoundError:
            return None
        except OSError as e:
            raise TargetBlocked(f"{folder.shown}/{step} {e.strerror}: make it a folder, or move it away") from e
    return folder


def _open(place: Folder, name: str, stack: ExitStack) -> int:
    fd = place.open(name)
    stack.callback(os.close, fd)
    if os.fstat(fd).st_nlink != 1:
        raise NotItself(0, "has another name somewhere else")
    return fd


def _must_have_room(found: Iterable[int], target: Folder, shown: str) -> None:
    volume = os.fstatvfs(target.fd)
    size, room = sum(os.fstat(fd).st_blocks * _BLOCK for fd in found), volume.f_bavail * volume.f_frsize // 4
    if size > room:
        raise StoreUnavailable(
            f"{shown} takes {size >> 20} MiB, and a quarter of what is free on the volume is {room >> 20} MiB, since "
            "its log takes as much again when it is written into the file, and more on its way: make room"
        )


def _copy(source: int, target: Folder, name: str, gone: Callable[[], bool]) -> None:
    copy = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target.fd)
    try:
        for begin, end in _written(source):
            at = os.lseek(copy, begin, os.SEEK_SET)
            while sent := os.sendfile(copy, source, at, min(_CHUNK, end - at)):
                at += sent
                if gone():
                    raise StoreUnavailable("the store was closed")
        os.truncate(copy, os.fstat(source).st_size)
    finally:
        os.close(copy)


def _written(fd: int) -> Iterator[tuple[int, int]]:
    """Yield the written ranges of a file: from, to."""
    end = 0
    while True:
        try:
            begin = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:  # nothing behind there
                return
            raise
        end = os.lseek(fd, begin, os.SEEK_HOLE)
        yield begin, end
