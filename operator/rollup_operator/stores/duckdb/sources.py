"""What an index pattern means in an embedded store: tables of the database, or files below the namespace's folder.

A part of the pattern that holds a `/`, or ends like a file, names files; any other names tables of the schema `main`.
`*` stands for any characters within one name. Whatever matches is resolved, links included, before DuckDB sees it.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rollup_operator.stores.duckdb import sql
from rollup_operator.stores.duckdb.database import Lane
from rollup_operator.stores.errors import ForbiddenSource, SourceInvalid, SourceNotFound

_READERS = {
    ".parquet": "read_parquet",
    ".csv": "read_csv",
    ".csv.gz": "read_csv",
    ".tsv": "read_csv",
    ".tsv.gz": "read_csv",
}
_FIELD = "spec.indexPattern"


@dataclass(frozen=True, slots=True)
class Sources:
    """What a pattern matched."""

    tables: tuple[str, ...]
    parquet: tuple[str, ...]
    """Full paths, resolved."""
    csv: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many tables and files there are."""
        return len(self.tables) + len(self.parquet) + len(self.csv)

    def parts(self, catalog: str) -> list[str]:
        """Return each table, all Parquet and all CSV files as a relation; `catalog` is the database's name."""
        parts = [f"{sql.name(catalog)}.main.{sql.name(t)}" for t in self.tables]
        if self.parquet:
            parts.append(sql.files("read_parquet", self.parquet))
        if self.csv:
            parts.append(sql.files("read_csv", self.csv))
        return parts

    def relation(self, catalog: str) -> str:
        """Return all sources as one relation."""
        return sql.relation(self.parts(catalog))


def find(pattern: str, folder: Path, own: str, lane: Lane) -> Sources:
    """Resolve a pattern; `own` is the job's rollup index, whose folder is no source of it.

    Raises SourceNotFound, ForbiddenSource, SourceInvalid.
    """
    parts = [p for p in (part.strip() for part in pattern.split(",")) if p]
    tables: dict[str, None] = {}
    files: dict[str, str] = {}
    for part in parts:
        if is_files(part):
            files.update({f: _reader(f) for f in find_files(part, folder, own)})
        else:
            tables.update(dict.fromkeys(_find_tables(part, lane)))
    found = Sources(
        tuple(tables),
        tuple(sorted(f for f, reader in files.items() if reader == "read_parquet")),
        tuple(sorted(f for f, reader in files.items() if reader == "read_csv")),
    )
    if not found.count:
        raise nothing_found(pattern)
    return found


def nothing_found(pattern: str) -> SourceNotFound:
    """Return the error for a pattern that matches nothing."""
    return SourceNotFound(
        f"{_FIELD} {pattern!r} matches no table of the database, and no file below the namespace's data folder: "
        "create one, and the job goes on by itself"
    )


def is_files(part: str) -> bool:
    """Whether a part of a pattern names files."""
    return "/" in part or "\\" in part or _reader(part) != ""


def find_files(part: str, folder: Path, own: str) -> list[str]:
    """Return the full, resolved paths of the files that a part of a pattern names, in order.

    Raises ForbiddenSource when the part, or a link that it meets, leads out of `folder` (which is resolved itself).
    """
    steps = part.split("/")
    if "\\" in part or "\0" in part or ":" in steps[0] or part.startswith(("/", "~")) or ".." in steps:
        raise ForbiddenSource(
            f"{_FIELD} {part!r} leads out of the namespace's data folder: "
            "name files by their path below it, without '..'"
        )
    if not _reader(part):
        raise SourceInvalid(f"{_FIELD} {part!r}: the names of files end in {', '.join(_READERS)}")
    found = []
    for path in _walk(folder, [s for s in steps if s not in ("", ".")]):
        real = Path(os.path.realpath(path))
        shown = path.relative_to(folder)
        if not real.is_relative_to(folder):
            raise ForbiddenSource(
                f"{_FIELD} {part!r}: {str(shown)!r} is a link out of the namespace's data folder: "
                "put the file itself there"
            )
        if not real.is_file():
            continue
        if real.is_relative_to(folder / own):
            raise SourceInvalid(
                f"{_FIELD} {part!r} matches {str(shown)!r}, a result of spec.rollupIndex: choose another name"
            )
        if _reader(real.name) != _reader(part):
            raise SourceInvalid(f"{_FIELD} {part!r}: {str(shown)!r} is a link to a file of another kind")
        found.append(str(real))
    return sorted(set(found))


def _walk(folder: Path, steps: list[str]) -> Iterator[Path]:
    """Yield what the steps name. Folders that lead out are not entered but yielded, for the caller to refuse."""
    step, rest = steps[0], steps[1:]
    if "*" in step:
        try:
            names = sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        names = [n for n in names if matches(step, n) and not n.startswith(".")]
    else:
        names = [step]
    for name in names:
        path = folder / name
        if not rest:
            if path.exists():
                yield path
        elif path.is_symlink():
            # Its target is checked as a whole: what lies in it can lead nowhere else without a link of its own.
            yield from _walk(path, rest) if _inside(path, folder) else [path]
        elif path.is_dir():
            yield from _walk(path, rest)


def _inside(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def matches(pattern: str, name: str) -> bool:
    """Whether a name matches a pattern, in which `*` alone has a meaning."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None


def _find_tables(part: str, lane: Lane) -> list[str]:
    rows = lane.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = 'main' "
        "AND NOT temporary AND NOT internal ORDER BY table_name"
    )
    return [n for (n,) in rows if isinstance(n, str) and matches(part, n)]


def _reader(name: str) -> str:
    lower = name.lower()
    return next((reader for end, reader in _READERS.items() if lower.endswith(end)), "")
