"""Checks whether the files and tables of a source fit together. Called in a worker.

DuckDB makes one column of those that have the same name:

    numbers in one, times in another     ->  an error in the middle of the reading
    numbers in one, booleans in another  ->  numbers: true counts as 1

The job would fail, again and again, or get sums that no part of the source has.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.source import judging
from rollup_operator.stores.duckdb.source.headers import CsvDialect
from rollup_operator.stores.duckdb.source.sources import SourceFiles
from rollup_operator.stores.duckdb.statements import columns, sql
from rollup_operator.stores.duckdb.statements.columns import INTEGERS
from rollup_operator.stores.errors import SourceInvalid

_TEXT, _LIST = "text", "list"


def check(lane: Lane, spec: RollupJobSpec, found: SourceFiles) -> str | None:
    """Say which files have no column of time, so that no row of theirs is counted; None: each has one.

    Raises SourceInvalid if a column of the job is of several kinds in the source.
    """
    if found.count < 2:
        return None
    time = spec.groups.date_histogram.field
    columns_ = _of_parquet(lane, found.parquet, judging.named(spec))
    seen: dict[str, dict[str, tuple[str, str]]] = {name: {} for name in judging.named(spec)}
    for where, types in _parts(lane, found, alike=all(len(kinds) == 1 for kinds in columns_.values())):
        for name in seen.keys() & types.keys():
            kinds = seen[name]
            kinds.setdefault(_kind(types[name]), (types[name], where))
            # A text is nothing else: it is refused where numbers or times are needed, and other keys become texts.
            rest = kinds.keys() if _LIST in kinds else kinds.keys() - {_TEXT}
            if len(rest) > 1:
                (one, there), (other, elsewhere) = (kinds[kind] for kind in kinds if kind in rest)
                raise SourceInvalid(
                    f"spec: column {name!r} is {one} in {there} and {other} in {elsewhere}, which are not added up: "
                    "give it one type everywhere, or leave one of them out of spec.indexPattern"
                )
    return _without(lane, time, found, sum(columns_.get(time, {}).values()))


def wrong_texts(found: SourceFiles, types: Mapping[str, str]) -> str | None:
    """Return which text of a CSV file makes a column of the source one of texts, which has to be numbers or times."""
    for dialect in found.dialects:
        for column, why in dialect.wrong.items():
            if why and types.get(column) == dialect.types.get(column):
                return why
    return None


def _without(lane: Lane, time: str, found: SourceFiles, parquet: int) -> str | None:
    lost: list[tuple[str, CsvDialect | None]] = []
    for paths, written in zip(found.csv.values(), found.dialects, strict=True):
        lost += [(lane.name_of(path), written) for path in paths if time not in written.types]
    if parquet < len(found.parquet):
        lost += [(lane.name_of(path), None) for path in found.parquet if time not in _types(lane, path)]
    if not lost:
        return None
    (name, dialect), more = lost[0], len(lost) - 1
    hint = "" if dialect is None or dialect.header else " (it is read as one without a header: see spec.csv.header)"
    others = f", nor have {more} other files" if more else ""
    return f"{name} has no column {time!r}{hint}{others}: their rows are in no document"


def _parts(lane: Lane, found: SourceFiles, *, alike: bool) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield tables and files, of those that are alike one, each with the types of its columns."""
    for paths, dialect in zip(found.csv.values(), found.dialects, strict=True):
        yield lane.name_of(paths[0]), dialect.types
    for table in found.tables:
        yield f"table {table!r}", _described(lane, f"main.{sql.name(table)}")
    for path in found.parquet[:1] if alike else found.parquet:
        lane.go_on()
        yield lane.name_of(path), _types(lane, path)


def _of_parquet(lane: Lane, paths: Collection[str], named: Iterable[str]) -> Mapping[str, Mapping[str, int]]:
    """Return the kinds of those columns in Parquet files, with the number of files: also of parts of other columns."""
    found: dict[str, dict[str, int]] = {}
    if not paths:
        return found
    for name, type_, converted, logical, children, files in lane.execute(
        "SELECT name, type, converted_type::VARCHAR, logical_type::VARCHAR, num_children, count(DISTINCT file_name) "
        f"FROM parquet_schema({sql.path_list(paths)}) WHERE name IN ({', '.join(map(sql.text, named))}) GROUP BY ALL"
    ):
        kinds = found.setdefault(str(name), {})
        kind = _parquet_kind(str(type_), f"{converted} {logical}") if not children else "parts"
        kinds[kind] = kinds.get(kind, 0) + (files if isinstance(files, int) else 0)
    return found


def _parquet_kind(type_: str, annotation: str) -> str:
    if type_ == "INT96" or any(word in annotation for word in ("TIMESTAMP", "Timestamp", "DATE", "DateType")):
        return "time"
    if type_ in ("INT32", "INT64", "FLOAT", "DOUBLE") or "DECIMAL" in annotation or "Decimal" in annotation:
        return "number"
    return _TEXT if type_ == "BYTE_ARRAY" else type_


def _types(lane: Lane, path: str) -> Mapping[str, str]:
    return _described(lane, sql.files("read_parquet", [path]))


def _described(lane: Lane, relation: str) -> Mapping[str, str]:
    return {str(name): str(type_) for name, type_, *_ in lane.execute(f"DESCRIBE SELECT * FROM {relation}")}


def _kind(type_: str) -> str:
    """Return what a type is, as far as DuckDB makes one column of two types of the same kind."""
    if type_.endswith("]"):
        return _LIST
    if type_ in ("VARCHAR", "UUID") or type_.startswith("ENUM"):
        return _TEXT
    if columns.time_kind(type_) is not None and type_ not in INTEGERS:
        return "time"
    return "number" if columns.is_number(type_) else type_
