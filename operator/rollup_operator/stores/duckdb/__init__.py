"""The embedded store: sources and results in DuckDB, confined to the folder of one namespace."""

from rollup_operator.stores.duckdb.database.budget import Budget
from rollup_operator.stores.duckdb.source.judged import Judged
from rollup_operator.stores.duckdb.store import DuckDBStore

__all__ = ["Budget", "DuckDBStore", "Judged"]
