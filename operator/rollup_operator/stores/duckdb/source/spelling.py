"""Columns whose names differ only in case, which DuckDB treats as one. Called in a worker.

If one file has two of them, DuckDB renames the second; if two files have one each, it makes them one column:

    a file with V, v        ->  V, v_1
    files with V and with v ->  V, with the values of both

So a job that means one of them would get values of the other.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.source import judging
from rollup_operator.stores.duckdb.source.sources import SourceFiles
from rollup_operator.stores.duckdb.statements import sql
from rollup_operator.stores.errors import SourceInvalid

_MOST_DIGITS = 9
"""Of the number that DuckDB adds, behind `_`, to a name that it has seen before."""


def check(lane: Lane, spec: RollupJobSpec, found: SourceFiles) -> None:
    """Raise SourceInvalid if the job means a column that cannot be distinguished from another."""
    named = [*judging.named(spec), *(column.name for column in spec.csv.columns)] if spec.csv else judging.named(spec)
    meant = {begin: name for name in reversed(named) for begin in _begins(_folded(name))}
    spelled: dict[bytes, dict[str, None]] = defaultdict(dict)
    twice: dict[bytes, None] = {}
    for names in _names(lane, found, meant.keys()):
        here: set[bytes] = set()
        for name in names:
            if (key := _folded(name)) in meant:
                spelled[key][name] = None
                if key in here:
                    twice[key] = None
                here.add(key)
    for key, name in meant.items():
        # Another name with the same beginning is a conflict only if DuckDB has renamed something.
        if key in twice or (len(spelled[key]) > 1 and key == _folded(name)):
            raise SourceInvalid(f"spec: column {name!r}: {_conflict(list(spelled[key]))}")


def _conflict(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"a CSV file has several columns that are named {names[0]!r}: rename all but one"
    return (
        f"the source has {names[0]!r} and {names[1]!r}, whose names differ only in case, and DuckDB treats them as one "
        "column: rename one of them"
    )


def _folded(name: str) -> bytes:
    """Return the form that DuckDB compares: only ASCII letters have a case for it."""
    return name.encode("utf-8", "surrogatepass").lower()


def _begins(key: bytes) -> Iterator[bytes]:
    """Yield a name, and the names from which DuckDB may have made it."""
    yield key
    end = len(key)
    while (at := key.rfind(b"_", 0, end)) >= 0 and key[at + 1 : end].isdigit() and end - at - 1 <= _MOST_DIGITS:
        yield key[:at]
        end = at


def _names(lane: Lane, found: SourceFiles, meant: Iterable[bytes]) -> Iterator[Sequence[str]]:
    """Yield the names of columns as each table or file has them; of Parquet files only where they can matter."""
    others = [dialect.names for dialect in found.dialects]
    others += [[str(name) for name, *_ in lane.execute(f"DESCRIBE main.{sql.name(t)}")] for t in found.tables]
    yield from others
    if not found.parquet:
        return
    rows = lane.execute(f"SELECT DISTINCT name FROM parquet_schema({sql.path_list(found.parquet)}) ORDER BY name")
    names, wanted = [str(name) for (name,) in rows], set(meant)
    spellings = {name for each in (*others, names) for name in each if _folded(name) in wanted}
    if len(set(map(_folded, spellings))) == len(spellings):
        yield names
        return
    for path in found.parquet:  # a similar text may be part of something else
        yield _of_file(lane.execute(f"SELECT name, num_children FROM parquet_schema({sql.path_list([path])})"))


def _of_file(rows: Sequence[tuple[object, ...]]) -> list[str]:
    """Return the columns of a schema: the root, then each part of it with its own parts behind it."""
    names: list[str] = []
    parts = 0
    for name, children in rows[1:]:
        if parts == 0:
            names.append(str(name))
        else:
            parts -= 1
        parts += children if isinstance(children, int) else 0
    return names
