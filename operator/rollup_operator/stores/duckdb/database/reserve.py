"""A reserve file on the volume, deleted when the rest of the volume is full. Called in a worker.

A stop and a deletion write a few bytes: that the claim has no holder, that the documents are gone. If a run has
filled the volume, they could not, and would wait for the room that they are to make.
"""

import os
from contextlib import suppress

from rollup_operator.stores.duckdb.database.folders import Folder, Folders

RESERVE = ".reserve"
"""The suffix of the reserve file of a database."""

_BYTES = 1 << 20


def keep(folder: Folder, name: str) -> None:
    """Reserve space for a database, unless it is reserved already or the volume is full."""
    try:
        fd = os.open(name + RESERVE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder.fd)
    except OSError:
        return
    try:
        os.posix_fallocate(fd, 0, _BYTES)
    except OSError:
        with suppress(OSError):
            os.unlink(name + RESERVE, dir_fd=folder.fd)
    finally:
        os.close(fd)


def give_up(folders: Folders, name: str) -> bool:
    """Return the space to the volume. Returns False if none was reserved."""
    *above, file = name.split("/")
    with folders.databases(*above) as folder:
        try:
            os.unlink(file + RESERVE, dir_fd=folder.fd)
        except OSError:
            return False
    return True
