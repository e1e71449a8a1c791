"""Folders that several processes share: one writer at a time, and files that are whole or not there."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HEARTBEAT_SECONDS = 10.0
_ABANDONED_SECONDS = 3600.0
_HALF_MADE = ".part-"


def cache_root() -> Path:
    """Return the folder below which this project keeps what it has built or fetched."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rollup-operator"


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read; a reader sees all of it or nothing."""
    new = path.with_name(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time start or end something here. The folder must exist."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def one_builder(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a cache folder for one builder; others wait and say so."""
    with (folder / ".lock").open("w") as lock:
        started = time.monotonic()
        last_said = -HEARTBEAT_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - started
                if waited - last_said >= HEARTBEAT_SECONDS:
                    last_said = waited
                    say(f"another process is building into {folder}; waiting ({waited:.0f} s)")
                time.sleep(0.2)
        yield


@contextmanager
def building(folder: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """Make a cache folder and hold it for one builder; yield a folder in it for what is half made.

    Move what is complete out of that: the rest goes at the end of the block, or with the next builder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with one_builder(folder, say):
        for abandoned in folder.glob(f"{_HALF_MADE}*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_HALF_MADE, dir=folder) as work:
            yield Path(work)


def remove_abandoned(prefix: str, running: Callable[[Path], bool]) -> None:
    """Remove temporary folders of that prefix, an hour old, in which nothing runs: their supervisor was killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS and not running(path):
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue  # somebody else's, or just removed
