"""Taking over a database that lies in the users' folder, where earlier versions kept it. Called in a worker.

It is copied, since users' folders are only read, and what a user still has open there must not be the operator's file.
What is not written stays so in the copy, or a file that takes no room could fill the volume of all. The copy appears
under its name when all of it is durable; until then, and so after a crash, it is begun anew.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress

import structlog

from rollup_operator.stores.duckdb.folders import Folder, Folders, NotItself
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
        return (place := _place(folders, steps, stack)) is not None and place.look(steps[-1]) is not None


def take_over(folders: Folders, steps: list[str], target: Folder, gone: Callable[[], bool]) -> None:
    """Copy the database at `steps` below the users' folder into `target`, if there is one; `gone` ends it.

    Raises StoreUnavailable, among others where another process has it open; TargetBlocked where it is no database.
    """
    name, shown = steps[-1], "/".join(steps)
    with ExitStack() as stack:
        if (place := _place(folders, steps, stack)) is None or place.look(name) is None:
            return
        try:
            fcntl.flock(target.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held until the folder is closed
            if target.look(name) is not None:
                return
            found = {end: _open(place, name + end, stack) for end in ("", *LOGS) if place.look(name + end) is not None}
            fcntl.lockf(found[""], fcntl.LOCK_SH | fcntl.LOCK_NB)  # DuckDB locks what it has open in the same way
            at, magic = _MAGIC
            if os.pread(found[""], at.stop, 0)[at] != magic:
                raise TargetBlocked(
                    f"{shown} is no DuckDB database: name another one in spec.duckdb.database, or move it"
                )
            _must_have_room(found.values(), target, shown)
            log.info("taking over a database", namespace=folders.namespace, database=shown)
            for end in reversed(found):  # the file itself comes last: it says that all is there
                _copy(found[end], target, name + end, gone)
            target.sync()
        except BlockingIOError as e:
            raise StoreUnavailable(f"{shown} is locked by another process: it must be closed there") from e
        except NotItself as e:
            raise TargetBlocked(f"{shown} {e.strerror}: put the file itself there, or move it away") from e
        except OSError as e:
            raise StoreUnavailable(f"{shown} cannot be taken over: {e.strerror}") from e


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
    size, room = sum(os.fstat(fd).st_blocks * _BLOCK for fd in found), volume.f_bavail * volume.f_frsize // 2
    if size > room:
        raise StoreUnavailable(
            f"{shown} takes {size >> 20} MiB, and half of what is free on the volume is {room >> 20} MiB: make room"
        )


def _copy(source: int, target: Folder, name: str, gone: Callable[[], bool]) -> None:
    part = f".{name}.part"  # no database can have this name
    with suppress(FileNotFoundError):
        os.unlink(part, dir_fd=target.fd)
    copy = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target.fd)
    try:
        for begin, end in _written(source):
            at = os.lseek(copy, begin, os.SEEK_SET)
            while sent := os.sendfile(copy, source, at, min(_CHUNK, end - at)):
                at += sent
                if gone():
                    raise StoreUnavailable("the store was closed")
        os.truncate(copy, os.fstat(source).st_size)
        os.fsync(copy)
        os.rename(part, name, src_dir_fd=target.fd, dst_dir_fd=target.fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(part, dir_fd=target.fd)
        raise
    finally:
        os.close(copy)


def _written(fd: int) -> Iterator[tuple[int, int]]:
    """Yield where something is written in a file: from, to."""
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
