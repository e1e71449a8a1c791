"""Estimates how far a source is sorted by time, without reading it."""

import math

from rollup_operator.stores.base import Source
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.source.sources import SourceFiles
from rollup_operator.stores.duckdb.statements import sql
from rollup_operator.stores.duckdb.statements.plan import Plan

_BLOCK = 122_880
"""Rows of a table that share one entry with their least and greatest time."""
_PROBES, _PROBE_ROWS = 8, 2048


def spread(lane: Lane, sources: SourceFiles, catalog: str, plan: Plan, due: Source) -> float:
    """Return the part of the due time that one block of rows covers on average: near 0 in order, 1 without any order.

    CSV has no blocks that could be skipped: infinite.
    """
    if sources.csv:
        return math.inf
    if due.first_ms is None or due.last_ms is None:
        return 1.0
    found = [0.0]
    if sources.parquet:
        found.append(_of_parquet(lane, sources.parquet, plan, due.first_ms, due.last_ms))
    found += [_of_table(lane, f"{sql.name(catalog)}.main.{sql.name(t)}", plan, due) for t in sources.tables]
    return max(found)


def _of_parquet(lane: Lane, paths: tuple[str, ...], plan: Plan, first: int, last: int) -> float:
    files = f"parquet_metadata({sql.path_list(paths)})"
    column = plan.time[1:-1].replace('""', '"')
    low, high = (
        f"coalesce({sql.milliseconds(f'try_cast({stat} AS {plan.kind.value})', plan.kind)}, {default})"
        for stat, default in (("stats_min_value", first), ("stats_max_value", last))
    )
    rows = lane.execute(
        f"SELECT sum(n * (least(high, {last}) - greatest(low, {first}) + 1)) / sum(n) FROM "
        f"(SELECT row_group_num_rows::DOUBLE AS n, {low} AS low, {high} AS high FROM {files} WHERE path_in_schema = ?) "
        f"WHERE high >= {first} AND low <= {last}",
        [column],
    )
    return _part(rows[0][0], last - first + 1)


def _of_table(lane: Lane, table: str, plan: Plan, due: Source) -> float:
    ((count,),) = lane.execute(f"SELECT count(*) FROM {table}")
    assert isinstance(count, int)
    assert due.first_ms is not None and due.last_ms is not None  # noqa: PT018
    first, last = (sql.milliseconds(f"{f}({plan.time})", plan.kind) for f in ("min", "max"))
    where = sql.within(plan.time, plan.kind, due.first_ms, due.last_ms + 1)
    probes = " UNION ALL ".join(
        f"SELECT {last} - {first} + 1 AS span FROM {table} "
        f"WHERE rowid BETWEEN {at} AND {at + _PROBE_ROWS - 1} AND {where}"
        for at in range(0, max(1, count), max(_PROBE_ROWS, count // _PROBES))
    )
    rows = lane.execute(f"SELECT avg(span) FROM ({probes})")
    return max(min(1.0, _BLOCK / max(1, count)), _part(rows[0][0], due.last_ms - due.first_ms + 1))


def _part(span: object, whole: int) -> float:
    return min(1.0, span / whole) if isinstance(span, int | float) else 1.0
