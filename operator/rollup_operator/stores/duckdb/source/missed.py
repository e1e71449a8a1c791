"""Counts rows that arrived after their buckets were rolled up and that no run will read. Called in a worker.

    rolled up                        | due
    ---------------------------------+--------->   time of the rows
          ^ row of a changed file    edge

Tables are the operator's own and do not change. Of files, the check reads only those that changed since the previous
run, and of the rest of the source only the time from their first row on. So counting costs about as much as what
changed.
"""

import os
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from rollup_operator.model.time_values import parse_instant
from rollup_operator.rollup.due import due
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.base import Claim
from rollup_operator.stores.duckdb import claims
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.source.reading import Reading
from rollup_operator.stores.duckdb.source.sources import SourceFiles
from rollup_operator.stores.duckdb.statements import plan, sql
from rollup_operator.stores.duckdb.statements.plan import COUNT

MOST_BUCKETS = 10_000
"""Buckets with late rows that are kept one by one. Rows of further ones count even if the run writes them again."""


@dataclass(frozen=True, slots=True)
class Missed:
    """Rows that are in no document. Rows within the job's own lookback are left out."""

    rows: int = 0
    """Rows of buckets before that of the position: no run reads them unless it is asked to."""
    last_ms: int | None = None
    """The bucket of the position, if there are rows for it: the run must read it again."""
    buckets: Mapping[int, int] = field(default_factory=dict)
    """How many of them each bucket has, of the first MOST_BUCKETS."""

    def without(self, start: int, end: int) -> "Missed":
        """Return what is left once the buckets of [start, end) are written again."""
        read = [key for key in self.buckets if start <= key < end]
        if not read:
            return self
        left = {key: rows for key, rows in self.buckets.items() if not start <= key < end}
        return replace(self, rows=self.rows - sum(self.buckets[key] for key in read), buckets=left)


def find(lane: Lane, config: JobConfig, claim: Claim, reading: Reading, edge: int) -> Missed:
    """Count rows before `edge`, where the due time begins. Not within a transaction."""
    record = claims.read(lane, claim.key)
    seen = claims.source_seen(lane, claim.key)
    if record is None or record.target is None or seen is None or claim.position is None:
        return Missed()
    again = due(
        config.spec,
        datetime.fromtimestamp(edge / 1000, UTC),
        position=claim.position,
        watermark_ms=claim.watermark_ms,
    ).again
    end = edge if again.empty else min(edge, again.start_ms)
    start = parse_instant(config.spec.start, "spec.start") if config.spec.start is not None else 0
    start = reading.bounds.next_edge(start - 1)
    first = _first(lane, reading, _changed(lane, reading.found, seen), start, end)
    if first is None:
        return Missed()
    start = max(start, reading.bounds.round_down(first))
    of = reading.plan
    key = sql.name(of.date_key)
    if not any(c.many for c in of.groups):
        of = replace(of, groups=(), aggregates=())
    there = (
        f"SELECT {key} AS k, sum({COUNT}) AS n FROM ({of.select(plan.segments(reading.bounds, start, end))}) GROUP BY 1"
    )
    written = (
        f"SELECT {key} AS k, sum({COUNT}) AS n FROM {claims.table(record.target)} "
        f"WHERE {key} >= {start} AND {key} < {end} GROUP BY 1"
    )
    last = claim.position[of.date_key]
    ((rows, of_last, first_ones),) = lane.execute(
        f"WITH late AS MATERIALIZED (SELECT t.k AS k, (t.n - coalesce(w.n, 0))::BIGINT AS n FROM ({there}) t "
        f"LEFT JOIN ({written}) w ON t.k = w.k WHERE t.n > coalesce(w.n, 0)) "
        f"SELECT coalesce(sum(n) FILTER (k < {last}), 0)::BIGINT, coalesce(sum(n) FILTER (k >= {last}), 0)::BIGINT, "
        f"(SELECT list([k, n]) FROM (SELECT k, n FROM late WHERE k < {last} ORDER BY k LIMIT {MOST_BUCKETS})) FROM late"
    )
    assert isinstance(rows, int)
    assert isinstance(last, int)
    pairs: Any = first_ones or ()
    return Missed(rows, last if of_last else None, dict(pairs))


def _changed(lane: Lane, found: SourceFiles, seen: int) -> SourceFiles:
    """Return the files that changed since, as a source of their own."""
    paths: Set[str] = {lane.path_of(fd) for fd in found.fds if os.fstat(fd).st_ctime_ns > seen}
    csv = {options: tuple(p for p in files if p in paths) for options, files in found.csv.items()}
    return SourceFiles(
        (), tuple(p for p in found.parquet if p in paths), {o: files for o, files in csv.items() if files}
    )


def _first(lane: Lane, reading: Reading, changed: SourceFiles, start: int, end: int) -> int | None:
    """Return the first time in [start, end) of what changed; None: there is none."""
    if not changed.count or start >= end:
        return None
    relation = changed.relation("")
    columns = {name for name, *_ in lane.execute(f"DESCRIBE SELECT * FROM {relation}")}
    if reading.plan.time not in {sql.name(str(name)) for name in columns}:
        return None
    ((_, first, _),) = lane.execute(replace(reading.plan, relation=relation).measure(start, end))
    return first if isinstance(first, int) else None
