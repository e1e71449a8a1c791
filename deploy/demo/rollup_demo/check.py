"""Reconciles a job's result with its source: the same grouping done directly, compared bucket by bucket.

Nothing of the operator is used here but the names of the columns in its Parquet files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from rollup_demo.data import Source
from rollup_demo.errors import DemoError

GROUPS = ("carrier", "origin")


@dataclass(frozen=True)
class Job:
    """A demo job, as far as comparing needs it. Buckets of whole hours and minutes are the same in both its zones."""

    name: str
    rollup_index: str
    interval: str
    metrics: Sequence[str]
    source: Source

    def result(self, results: Path) -> Path:
        """Return the Parquet file that holds the result."""
        return results / self.rollup_index / f"{self.name}.parquet"


@dataclass(frozen=True)
class Check:
    """One number of the result against the same of the source."""

    what: str
    rolled_up: Any
    direct: Any

    @property
    def equal(self) -> bool:
        """Whether both say the same."""
        return bool(self.rolled_up == self.direct)


@dataclass(frozen=True)
class Reconciliation:
    """What the comparison found."""

    documents: int
    rows: int
    checks: Sequence[Check]

    @property
    def holds(self) -> bool:
        """Whether nothing differs."""
        return all(check.equal for check in self.checks)


def reconcile(job: Job, results: Path) -> Reconciliation:
    """Compare the whole result with a direct query of the source."""
    with duckdb.connect() as database:
        _views(database, job, results)
        documents, rows = _one(database, "SELECT count(*), coalesce(sum(_count), 0)::BIGINT FROM rolled_up")
        (buckets,) = _one(database, "SELECT count(*) FROM direct")
        (differing,) = _one(
            database,
            """
            SELECT count(*) FROM direct FULL JOIN rolled_up USING (bucket, carrier, origin)
            WHERE direct IS DISTINCT FROM rolled_up
            """,
        )
        checks = [
            Check("documents: one for each bucket", documents, buckets),
            Check("sum of the documents' counts: the source's rows", rows, job.source.rows),
            Check("buckets in which any number differs", differing, 0),
        ]
        for field in job.metrics:
            rolled_up = _one(
                database,
                f"SELECT min({field}_min), max({field}_max), sum({field}_sum), "
                f"sum({field}_avg_sum) / sum({field}_avg_count), sum({field}_count) FROM rolled_up",
            )
            direct = _one(
                database, f"SELECT min({field}), max({field}), sum({field}), avg({field}), count({field}) FROM source"
            )
            for metric, ours, theirs in zip(
                ("min", "max", "sum", "avg", "value_count"), rolled_up, direct, strict=True
            ):
                checks.append(Check(f"{field} {metric}", _number(ours), _number(theirs)))
        return Reconciliation(documents, rows, checks)


def last_bucket(job: Job, results: Path) -> datetime | None:
    """Return the time of the last bucket in the result, None if there is none."""
    if not job.result(results).exists():
        return None
    with duckdb.connect() as database:
        _views(database, job, results)
        (last,) = _one(database, "SELECT max(bucket) FROM rolled_up")
    return None if last is None else last.replace(tzinfo=UTC)


def by_month(job: Job, metric: str) -> list[tuple[int, int, float]]:
    """Return the source's months: the first millisecond of each, its rows, and the metric's average."""
    time = job.source.time_field
    with duckdb.connect() as database:
        return database.execute(
            f"""
            SELECT epoch_ms(date_trunc('month', {time})) AS month, count(*), avg({metric})
            FROM read_parquet('{job.source.pattern}') GROUP BY 1 ORDER BY 1
            """
        ).fetchall()


def busiest(job: Job, results: Path, rows: int) -> list[tuple[Any, ...]]:
    """Return some documents to look at: bucket, groups, count, and min, avg and max of the second metric."""
    field = job.metrics[1]
    with duckdb.connect() as database:
        _views(database, job, results)
        query = f"""
            SELECT bucket, {", ".join(GROUPS)}, _count,
                {field}_min, {field}_avg_sum / {field}_avg_count, {field}_max
            FROM rolled_up ORDER BY _count DESC, bucket LIMIT {rows}
        """
        return database.execute(query).fetchall()


def _views(database: duckdb.DuckDBPyConnection, job: Job, results: Path) -> None:
    result, time = job.result(results), job.source.time_field
    if not result.exists():
        raise DemoError(f"job {job.name} has left no result: {result} is missing")
    groups = ", ".join(f'"{g}.terms.value" AS {g}' for g in GROUPS)
    ours = ", ".join(
        f'"{m}.min.value" AS {m}_min, "{m}.max.value" AS {m}_max, "{m}.sum.value" AS {m}_sum, '
        f'"{m}.avg.value" AS {m}_avg_sum, "{m}.avg._count" AS {m}_avg_count, "{m}.value_count.value" AS {m}_count'
        for m in job.metrics
    )
    theirs = ", ".join(
        f"min({m})::DOUBLE AS {m}_min, max({m})::DOUBLE AS {m}_max, coalesce(sum({m}), 0)::DOUBLE AS {m}_sum, "
        f"{m}_sum AS {m}_avg_sum, count({m}) AS {m}_avg_count, {m}_avg_count AS {m}_count"
        for m in job.metrics
    )
    database.execute(f"CREATE VIEW source AS FROM read_parquet('{job.source.pattern}')")
    database.execute(
        f"""
        CREATE VIEW rolled_up AS
        SELECT "{time}.date_histogram.timestamp" AS bucket, {groups}, "{time}.date_histogram._count" AS _count, {ours}
        FROM read_parquet('{result}')
        """
    )
    database.execute(
        f"""
        CREATE TABLE direct AS
        SELECT time_bucket(INTERVAL '{job.interval}', {time}) AS bucket, {", ".join(GROUPS)}, count(*) AS _count,
            {theirs}
        FROM source GROUP BY ALL
        """
    )


def _one(database: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    found = database.execute(query).fetchone()
    assert found is not None
    return found


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
