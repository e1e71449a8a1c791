"""What searches found of the columns of Parquet files, kept for the next search of the same files.

A file is the same as long as the volume tells so: by its number there, its length, and the times of its last changes.
One of these moves with every write and cannot be set back. But it is no finer than the volume's clock, so of a file
that has just changed nothing is kept.
"""

import hashlib
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.stores.duckdb.source import judging
from rollup_operator.stores.duckdb.source.sources import SourceFiles

MOST_SOURCES = 256
"""For which types are kept, those asked for last."""
MOST_FILES = 200
"""Of such a source, empty ones among them: each search looks at each."""
MOST_BYTES = 64 << 10
"""Of memory for the columns of such a source: who writes files must not fill it."""
_OF_COLUMN = 104
"""Bytes that a dictionary takes for an entry."""

Types = Mapping[str, str]
"""Of columns, by name."""


class Judged:
    """The types of columns of sources that were judged to be right, of all stores of a process that share it.

    May be used by any thread.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Types] = OrderedDict()
        self._lock = threading.Lock()

    def types(self, spec: RollupJobSpec, found: SourceFiles, judge: Callable[[], Types]) -> Types:
        """Return what `judge` said of these files for such a job, asking it where that is not known.

        Does I/O, in the worker. Raises what `judge` raises.
        """
        if found.tables or found.csv or len(found.fds) > MOST_FILES:
            return judge()
        terms = spec.groups.terms.fields if spec.groups.terms else ()
        files = _identities(found.fds)
        asked = tuple(judging.named(spec)), tuple(terms), tuple(c.name for c in spec.csv.columns) if spec.csv else ()
        key = hashlib.sha256(repr((files, asked)).encode()).digest()
        with self._lock:
            if (known := self._known.get(key)) is not None:
                self._known.move_to_end(key)
                return known
        types = judge()
        if _size(types) <= MOST_BYTES and _has_settled(found, files) and _identities(found.fds) == files:
            with self._lock:
                self._known[key] = types
                if len(self._known) > MOST_SOURCES:
                    self._known.popitem(last=False)
        return types


def _size(types: Types) -> int:
    return sum(_OF_COLUMN + sys.getsizeof(name) + sys.getsizeof(type_) for name, type_ in types.items())


_Identity = tuple[int, int, int, int, int]
"""Volume, number, length, and when content and file changed last."""


def _identities(fds: Sequence[int]) -> tuple[_Identity, ...]:
    seen = map(os.fstat, fds)
    return tuple((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in seen)


def _has_settled(found: SourceFiles, files: Sequence[_Identity]) -> bool:
    return found.seen_ns >= max(changed for *_, changed in files)
