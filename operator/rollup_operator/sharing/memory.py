"""How much memory this process may take, and which part of it each kind of work of its users may hold.

    |- the process and its jobs -|- embedded stores -|- connections -|- pages -|- searches -|- answers -|- bodies -|

What is left over after the parts is for the process itself: 30 KiB for each job, and some 120 MiB.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20

_RUN = 32 * MIB
"""A run's part of the memory: a page that is read, one that is written, and what is remembered between them."""
_FEWEST_RUNS = 4

_NO_LIMIT = 2**60
"""A limit above this means no limit in control groups of version 1."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """Bytes that each kind of work may hold, all tenants together."""

    memory: int
    """Bytes that this process may use in all."""
    embedded: int
    """Databases of embedded stores that are open."""
    pages: int
    """Pages of clusters' searches, from the request to the documents that were made of them and written."""
    searches: int
    """What clusters answer to users' searches: a part of its own, since runs and stops must not wait for it."""
    answers: int
    """Other answers of clusters, while they are read."""
    bodies: int
    """Bodies of calls while they are read, and as much again for parsing them."""
    runs: int
    """How many runs may be in progress."""
    connections: int
    """Connections to the endpoint, with the data that is read before the caller is known."""

    @classmethod
    def of(cls, memory: int) -> "Budgets":
        """Divide that many bytes."""
        return cls(
            memory,
            embedded=memory * 3 // 8,
            pages=memory * 3 // 32,
            searches=memory * 3 // 64,
            answers=memory // 32,
            bodies=memory // 32,
            runs=max(_FEWEST_RUNS, memory // _RUN),
            connections=memory * 3 // 16,
        )


def memory_limit(root: Path = Path("/")) -> int:
    """Return the bytes that this process may use: the least limit of its control groups, or the machine's memory.

    `root` is where the machine's files are.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(root)])


def compact(text: bytes) -> bytes:
    """Return a text of orjson's that is one of many to be kept: as orjson leaves it, it takes four KiB at least."""
    return bytes(memoryview(text))


def _limits(root: Path) -> Iterator[int]:
    """Yield the limit of each control group that this process is in, of both versions."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            mount, file = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            mount, file = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # Within a container the group may be named as outside, and be mounted as the root.
        for folder in (Path(group.lstrip("/")), *Path(group.lstrip("/")).parents):
            limit = _text(mount / folder / file).strip()
            if limit.isdecimal() and 0 < int(limit) < _NO_LIMIT:
                yield int(limit)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
