"""Resolves an index pattern in an embedded store: tables of the database, or files below the users' folder.

A part of the pattern that contains a `/`, or ends like a file, names files; any other part names tables of the schema
`main`. `*` stands for any characters within one name. Files are found and opened folder by folder, never through a
link, and DuckDB gets the opened file: whatever users do to their folders meanwhile, no other file is read.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rollup_operator.model import hints
from rollup_operator.model.glob import Glob
from rollup_operator.model.job import CSV_ENDINGS
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.database.folders import Folder, Folders, NotItself
from rollup_operator.stores.duckdb.source import headers, nearby
from rollup_operator.stores.duckdb.source.headers import CsvDialect, Wanted
from rollup_operator.stores.duckdb.statements import sql
from rollup_operator.stores.errors import ForbiddenSource, SourceInvalid, SourceNotFound, StoreUnavailable

MOST_FILES = 10_000
"""Files of one job. Each is open while it is read."""
MOST_COLUMNS = 30_000
"""Columns of all CSV files, those that are written alike counted once."""
_OF_COLUMN = 9 << 10
"""Bytes of memory that DuckDB takes for each of these."""
_OF_FOOTERS = 12
"""DuckDB takes so much more memory than the footers of all Parquet files together are long."""
_LEAST_OF_COLUMN = 8
"""Bytes that a column takes in a Parquet footer at least."""
_OF_LISTS = 4
"""Names that all lists and maps of a file have for their parts."""
MOST_CELLS = 300_000
"""Different columns of CSV files, times the ways in which the files are written: each way has to name all columns."""
MOST_LETTERS = 8 << 20
"""Of the names of those columns."""
MOST_ENTRIES = 200_000
"""Entries of folders that are searched to find them."""
MOST_STEPS = 32
"""Folders above a file."""

_ENDINGS = (".parquet", *CSV_ENDINGS)
"""The suffixes of file names, which say how the files are read."""
_FIELD = "spec.indexPattern"
_SETTLED_NS = 2_000_000_000
"""A file that changed more recently than this may change again within the same tick of its clock."""


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """What a pattern matched."""

    tables: tuple[str, ...]
    parquet: tuple[str, ...] = ()
    """Paths of open files, for DuckDB alone."""
    csv: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Likewise, by the options with which DuckDB reads them."""
    dialects: tuple[CsvDialect, ...] = ()
    """How the CSV files are written, one for each of those options."""
    fds: tuple[int, ...] = ()
    """All files, open."""
    seen_ns: int = 0
    """The latest change of the source's files that was seen, by the clock of their volume."""
    footers: int = 0
    """Bytes of the footers of all Parquet files."""

    @property
    def count(self) -> int:
        """How many tables and files there are."""
        return len(self.tables) + len(self.parquet) + sum(map(len, self.csv.values()))

    def parts(self, catalog: str) -> list[str]:
        """Return each table, all Parquet and all CSV files as a relation; `catalog` is the database's name."""
        parts = [f"{sql.name(catalog)}.main.{sql.name(t)}" for t in self.tables]
        if self.parquet:
            parts.append(sql.files("read_parquet", self.parquet))
        parts += (sql.files("read_csv", paths, options) for options, paths in self.csv.items())
        return parts

    def relation(self, catalog: str) -> str:
        """Return all sources as one relation."""
        return sql.relation(self.parts(catalog))


_ANY = Wanted()


def find(pattern: str, own: str, lane: Lane, wanted: Wanted = _ANY, *, beside: bool = False) -> SourceFiles:
    """Resolve a pattern; `own` is the job's rollup index: a folder of that name is no source of it. In the worker.

    `wanted` says how CSV files are read. What is found stays open as long as the lane; `beside`: one statement reads
    it and what was found before. Raises SourceNotFound, also where files have no rows yet, ForbiddenSource,
    SourceInvalid.
    """
    tables: dict[str, None] = {}
    files: dict[str, int] = {}
    search = Search(lane.go_on)
    for part in filter(None, (part.strip() for part in pattern.split(","))):
        if is_files(part):
            for fd, name in search.files(part, lane.folders, own):
                lane.keep_open(fd, name)
                files.setdefault(name, fd)
        else:
            tables.update(dict.fromkeys(_find_tables(part, lane)))
    if not tables and not files:
        raise nothing_found(pattern, nearby.listed(lane, _ENDINGS, own))
    found = _sources(tables, dict(sorted(files.items())), lane, wanted, beside=beside)
    if not found.count:
        raise SourceNotFound(
            f"{_FIELD} {pattern!r} matches only files that have no rows yet, such as {min(files)!r}: once there "
            "are some, the job goes on by itself"
        )
    return found


def _sources(
    tables: Iterable[str], files: Mapping[str, int], lane: Lane, wanted: Wanted, *, beside: bool
) -> SourceFiles:
    parquet: list[str] = []
    known, footers = _Dialects(wanted), 0
    for name, fd in files.items():
        lane.go_on()
        path, ending = lane.path_of(fd), _ending(name)
        if ending == ".parquet":
            footers += headers.footer_of(fd, name)
            parquet.append(path)
        elif dialect := headers.csv_dialect(lane, fd, name, wanted, gzipped=ending.endswith(".gz")):
            known.add(path, dialect)
    _hold_heads(lane, footers * _OF_FOOTERS + known.count * _OF_COLUMN, beside=beside)
    settled = headers.settled(known.different)
    options_of = [dialect.options for dialect in settled]
    written: dict[str, list[str]] = {}
    dialects: dict[str, CsvDialect] = {}
    for path, number in known.numbers.items():
        options = options_of[number]
        written.setdefault(options, []).append(path)
        dialects.setdefault(options, settled[number])
    paths = {options: tuple(found) for options, found in written.items()}
    fds = tuple(files.values())
    return SourceFiles(tuple(tables), tuple(parquet), paths, tuple(dialects.values()), fds, _seen_ns(fds), footers)


def check_columns(lane: Lane, found: SourceFiles) -> None:
    """Raise SourceInvalid if the Parquet files have too many columns, parts of columns among them.

    For a statement that reads them, DuckDB takes time that grows with the square of their number, and is not
    interrupted meanwhile.
    """
    if found.footers <= _LEAST_OF_COLUMN * headers.MOST_COLUMNS:
        return
    ((columns,),) = lane.execute(f"SELECT count(DISTINCT name) - 1 FROM parquet_schema({sql.path_list(found.parquet)})")
    assert isinstance(columns, int)
    if columns > headers.MOST_COLUMNS + _OF_LISTS:
        raise SourceInvalid(
            f"{_FIELD}: its Parquet files have {columns} columns together, parts of columns among them, above "
            f"{headers.MOST_COLUMNS}: name fewer files, or write files with fewer columns"
        )


def _hold_heads(lane: Lane, needed: int, *, beside: bool) -> None:
    if needed > lane.heads.most:
        raise SourceInvalid(
            f"{_FIELD}: what its files say of their columns takes {needed >> 20} MiB of memory, and the operator has "
            f"{lane.heads.most >> 20} MiB for that: name fewer files, write them with fewer columns or row groups, or "
            "give the operator more memory"
        )
    if not lane.heads.hold(needed, lane.go_on, beside=beside):
        raise StoreUnavailable(
            f"{_FIELD}: what its files say of their columns takes {needed >> 20} MiB of memory, which is in use for "
            "other files now"
        )


class _Dialects:
    """The dialects of a source's CSV files, each once: many files may have many columns."""

    def __init__(self, wanted: Wanted) -> None:
        self.numbers: dict[str, int] = {}
        """By path, the place of the file's dialect among the different ones."""
        self._named = wanted.named | wanted.types.keys()
        self._has_guesses = bool(self._named)
        self._begin()

    def _begin(self) -> None:
        self.different: list[CsvDialect] = []
        self._known: dict[object, int] = {}
        self._columns: set[str] = set()
        self.count = self._letters = 0

    def add(self, path: str, dialect: CsvDialect) -> None:
        """Add the dialect of a file.

        What is guessed of a column that the job does not name may differ from file to file: if the dialects are too
        many, all such columns are texts. Raises SourceInvalid where DuckDB would need much memory for the columns
        alone, which its own limit leaves out.
        """
        self.numbers[path] = self._number(dialect)
        if self._is_too_much() and self._has_guesses:
            self._has_guesses = False
            before = self.different
            self._begin()
            now = [self._number(each) for each in before]
            self.numbers = {path: now[number] for path, number in self.numbers.items()}
        if self._is_too_much():
            raise SourceInvalid(
                f"{_FIELD}: its CSV files are written in {len(self.different)} or more ways, with {self.count} "
                "columns together, and take too much memory: give columns one type by spec.csv.columns, or name fewer "
                "files"
            )

    def _number(self, dialect: CsvDialect) -> int:
        if self._named and not self._has_guesses:
            types = {name: type_ if name in self._named else "VARCHAR" for name, type_ in dialect.types.items()}
            dialect = replace(dialect, types=types)
        number = self._known.setdefault(dialect.key, len(self.different))
        if number == len(self.different):
            self.different.append(dialect)
            self._columns.update(dialect.types)
            self.count += len(dialect.types)
            self._letters += sum(map(len, dialect.types))
        return number

    def _is_too_much(self) -> bool:
        cells = len(self.different) * len(self._columns)
        return self.count > MOST_COLUMNS or cells > MOST_CELLS or self._letters > MOST_LETTERS


def _seen_ns(fds: Iterable[int]) -> int:
    newest = max((os.fstat(fd).st_ctime_ns for fd in fds), default=0)
    return newest if newest < time.time_ns() - _SETTLED_NS else newest - 1


def nothing_found(pattern: str, there: Sequence[str] = ()) -> SourceNotFound:
    """Return the error for a pattern that matches nothing; `there`: the patterns that would match something."""
    hint = hints.instead(pattern, there) or f"there are none yet (names of files end in {', '.join(_ENDINGS)})"
    problem = f"{_FIELD} {pattern!r} matches no table of the database, and no file below the namespace's data folder"
    return SourceNotFound(hints.nothing_matches(problem, hint))


def is_files(part: str) -> bool:
    """Whether a part of a pattern names files."""
    return "/" in part or "\\" in part or _ending(part) != ""


@dataclass
class Search:
    """The search for a job's files, which ends after a number of them."""

    go_on: Callable[[], None]
    """Called before each step; raises to end the search."""
    _entries: int = field(default=0, init=False)
    _files: int = field(default=0, init=False)

    def files(self, part: str, folders: Folders, own: str) -> Iterator[tuple[int, str]]:
        """Yield the files that a part of a pattern names, each open and with its path below the folder, in order.

        The caller closes each. Raises ForbiddenSource if the part or a link leads elsewhere, SourceInvalid,
        StoreUnavailable.
        """
        steps = part.split("/")
        if "\\" in part or "\0" in part or ":" in steps[0] or part.startswith(("/", "~")) or ".." in steps:
            raise ForbiddenSource(
                f"{_FIELD} {part!r} leads out of the namespace's data folder: "
                "name files by their path below it, without '..'"
            )
        if not _ending(part):
            raise SourceInvalid(f"{_FIELD} {part!r}: the names of files end in {', '.join(_ENDINGS)}")
        if len(steps := [s for s in steps if s not in ("", ".")]) > MOST_STEPS:
            raise SourceInvalid(f"{_FIELD} {part!r}: files lie at most {MOST_STEPS} folders deep")
        if (folder := folders.users()) is None:
            return
        with folder:
            for fd, name in self._walk(folder, steps, ""):
                if name.startswith(f"{own}/"):
                    os.close(fd)
                    raise SourceInvalid(
                        f"{_FIELD} {part!r} matches {name!r}, in a folder named like spec.rollupIndex: "
                        "choose another name"
                    )
                self._files += 1
                if self._files > MOST_FILES:
                    os.close(fd)
                    raise SourceInvalid(f"{_FIELD} {part!r} matches more than {MOST_FILES} files: combine them")
                yield fd, name

    def _walk(self, folder: Folder, steps: list[str], above: str) -> Iterator[tuple[int, str]]:
        step, rest = steps[0], steps[1:]
        for name in self._names(folder, step) if "*" in step else [step]:
            self.go_on()
            path = above + name
            try:
                found = folder.enter(name) if rest else folder.open(name)
            except NotItself as e:
                if folder.is_link(name):
                    raise ForbiddenSource(
                        f"{_FIELD}: {path!r} is a link, and links are not followed: replace it with the file itself"
                    ) from e
            except FileNotFoundError:
                pass
            except OSError as e:
                raise _unreadable(path, e) from e
            else:
                if isinstance(found, int):
                    yield found, path
                else:
                    with found:
                        yield from self._walk(found, rest, f"{path}/")

    def _names(self, folder: Folder, step: str) -> list[str]:
        glob, names = Glob.of(step), []
        try:
            for name in folder.names():
                self.go_on()
                self._entries += 1
                if self._entries > MOST_ENTRIES:
                    raise SourceInvalid(
                        f"{_FIELD}: it covers more than {MOST_ENTRIES} files and folders: combine files, or name "
                        "folders without '*'"
                    )
                if glob.matches(name) and not name.startswith("."):
                    names.append(name)
        except OSError as e:
            raise _unreadable(folder.shown, e) from e
        return sorted(names)


def _unreadable(path: str, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"{_FIELD}: {path!r} cannot be opened: {error.strerror}")


def _find_tables(part: str, lane: Lane) -> list[str]:
    rows = lane.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = 'main' "
        "AND NOT temporary AND NOT internal ORDER BY table_name"
    )
    glob = Glob.of(part)
    return [n for (n,) in rows if isinstance(n, str) and glob.matches(n)]


def _ending(name: str) -> str:
    lower = name.lower()
    return next((end for end in _ENDINGS if lower.endswith(end)), "")
