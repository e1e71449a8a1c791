"""The columns of a job's sources as fields in Elasticsearch's words. Called in a worker."""

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.source import fitting, sources, spelling
from rollup_operator.stores.duckdb.source.headers import Wanted
from rollup_operator.stores.duckdb.statements import columns, plan

_TYPES = {
    "TINYINT": "byte",
    "SMALLINT": "short",
    "UTINYINT": "short",
    "INTEGER": "integer",
    "USMALLINT": "integer",
    "BIGINT": "long",
    "UINTEGER": "long",
    "UBIGINT": "unsigned_long",
    "HUGEINT": "unsigned_long",
    "UHUGEINT": "unsigned_long",
    "FLOAT": "float",
    "DOUBLE": "double",
    "VARCHAR": "keyword",
    "UUID": "keyword",
    "BOOLEAN": "boolean",
    "BLOB": "binary",
    "TIMESTAMP_NS": "date_nanos",
    "TIMESTAMPTZ_NS": "date_nanos",
}
_BEGINNINGS = (
    ("DECIMAL", "scaled_float"),
    ("ENUM", "keyword"),
    ("TIMESTAMP", "date"),
    ("DATE", "date"),
    ("STRUCT", "object"),
    ("MAP", "object"),
)


def read(lane: Lane, pattern: str, own: str, spec: RollupJobSpec | None) -> dict[str, SourceField]:
    """Describe all that a pattern matches, as the job of that spec reads it.

    Raises SourceNotFound, ForbiddenSource, SourceInvalid.
    """
    found = sources.find(pattern, own, lane, Wanted.of(spec, {}) if spec is not None else Wanted())
    sources.check_columns(lane, found)
    if spec is not None:
        spelling.check(lane, spec, found)
        fitting.check(lane, spec, found)
    catalog = str(lane.execute("SELECT current_database()")[0][0])
    types: dict[str, set[str]] = {}
    for part in found.parts(catalog):
        for name, type_, *_ in lane.execute(f"DESCRIBE SELECT * FROM {part}"):
            types.setdefault(str(name), set()).add(str(type_))
    return {name: _field(given) for name, given in types.items()}


def _field(given: set[str]) -> SourceField:
    return SourceField(frozenset(map(word, given)), tells_time=all(map(plan.tells_time, given)))


def word(type_: str) -> str:
    """Return Elasticsearch's word for a type of DuckDB's, or the type itself where there is none."""
    if type_ in _TYPES:
        return _TYPES[type_]
    if type_.endswith("]"):  # several values of a field, as Elasticsearch sees it
        value = columns.element(type_)
        return "nested" if value.endswith("]") or word(value) == "object" else word(value)
    return next((ours for begin, ours in _BEGINNINGS if type_.startswith(begin)), type_.lower())
