"""Checks that numbers keep their digits where files and tables of a source are read together. Called in a worker.

DuckDB makes one column of columns of several types of numbers, and the one type need not hold all of them:

    INTEGER in one, FLOAT in another                ->  FLOAT: 16777217 becomes 16777216
    DECIMAL(38,0) in one, DECIMAL(12,2) in another  ->  DECIMAL(38,0): 1.50 becomes 2

Metrics are DOUBLE in any case, so a number that becomes one matters as a key alone.
"""

from collections.abc import Iterator, Mapping, Sequence

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.source import judging
from rollup_operator.stores.duckdb.source.sources import SourceFiles
from rollup_operator.stores.duckdb.statements import sql
from rollup_operator.stores.duckdb.statements.columns import decimal_of, element
from rollup_operator.stores.errors import SourceInvalid

_KEPT = {"FLOAT": (6, 2**24), "DOUBLE": (15, 2**53)}
"""How many digits of any decimal a type keeps, and up to where it has all whole numbers."""


def check(lane: Lane, spec: RollupJobSpec, found: SourceFiles, types: Mapping[str, str]) -> None:
    """Raise SourceInvalid where `types`, those of all parts together, make another number of one of the job's columns.

    It names the column, the number, its file and both types.
    """
    if found.count < 2:
        return
    terms = spec.groups.terms.fields if spec.groups.terms else ()
    kinds = {name: element(types.get(name, "")) for name in judging.named(spec)}
    names = [
        name
        for name, kind in kinds.items()
        if kind == "FLOAT" or (kind == "DOUBLE" and name in terms) or kind.startswith("DECIMAL")
    ]
    if not names:
        return
    for relation in _parts(lane, names, found, many=any(types[name] != kinds[name] for name in names)):
        lane.go_on()
        described = {str(name): str(type_) for name, type_, *_ in lane.execute(f"DESCRIBE SELECT * FROM {relation}")}
        for name in names:
            if name in described:
                _check(lane, name, described[name], types[name], relation)


def _check(lane: Lane, name: str, type_: str, together: str, relation: str) -> None:
    if (lost := _lost(element(type_), element(together))) is None:
        return
    value = f"unnest({sql.name(name)})" if type_.endswith("]") else sql.name(name)
    where = "filename" if relation.startswith("read_") else "NULL"
    for number, path in lane.execute(
        f"SELECT x::VARCHAR, path FROM (SELECT {value} AS x, {where} AS path FROM {relation}) WHERE {lost} LIMIT 1"
    ):
        at = f" of {lane.name_of(str(path))}" if path is not None else ""
        raise SourceInvalid(
            f"spec: column {name!r}{at} is {type_} and has {number}; all parts of the source together have the column "
            f"as {together}, which does not hold that number: give the column one type everywhere, or leave one of "
            "them out of spec.indexPattern"
        )


def _lost(type_: str, together: str) -> str | None:
    """Return the condition that a number `x` of a type is another one in the type of all; None: no number is."""
    digits, scale = decimal_of(type_)
    if type_ == together or scale < 0:
        return None
    if together in _KEPT:
        kept, whole = _KEPT[together]
        if digits <= kept:
            return None
        if scale == 0:
            return f"NOT x BETWEEN -{whole} AND {whole}"
        return f"TRY_CAST(x::{together}::VARCHAR AS {type_}) IS DISTINCT FROM x"
    all_digits, all_scale = decimal_of(together)
    if all_scale >= scale and all_digits - all_scale >= digits - scale:
        return None
    return f"TRY_CAST(TRY_CAST(x AS {together}) AS {type_}) IS DISTINCT FROM x"


def _parts(lane: Lane, names: Sequence[str], found: SourceFiles, *, many: bool) -> Iterator[str]:
    """Yield relations that have each of these columns as one type, lists of several values among them or not."""
    yield from (f"main.{sql.name(table)}" for table in found.tables)
    yield from (sql.files("read_csv", paths, options) for options, paths in found.csv.items())
    if found.parquet:
        # Of a list, the type stands at a part without a name of its own: files of one kind are alike altogether. All
        # columns are asked for at once, since that reads the end of each file.
        alike = "" if many else f" WHERE name IN ({', '.join(map(sql.text, names))})"
        for (paths,) in lane.execute(
            "SELECT list(path) FROM (SELECT file_name AS path, list_sort(list(concat_ws(' ', name, type, "
            "converted_type, logical_type, precision, scale))) AS kind "
            f"FROM parquet_schema({sql.path_list(found.parquet)}){alike} GROUP BY path) GROUP BY kind"
        ):
            assert isinstance(paths, list)
            yield sql.files("read_parquet", paths)
