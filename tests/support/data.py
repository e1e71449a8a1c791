"""Sources to roll up, and what must come of them, by a query that shares nothing with the operator's."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from support.bodies import job
from support.database import own

BEGIN = datetime(2024, 3, 1, tzinfo=UTC)
STATISTICS = ["min", "max", "sum", "avg", "value_count"]
PATTERN = "trips/*.parquet"


def trips_job(name: str = "trips", **spec: Any) -> dict[str, Any]:
    """A job over files of `write_trips`, once a second and started unless `spec` says otherwise."""
    whole = {
        "desiredState": "started",
        "indexPattern": PATTERN,
        "rollupIndex": "hourly",
        "cron": "* * * * * ?",
        "groups": {
            "dateHistogram": {"field": "picked_up", "fixedInterval": "1h"},
            "histogram": {"fields": ["weight"], "interval": 50},
            "terms": {"fields": ["site", "gate"]},
        },
        "metrics": [{"field": "size", "metrics": STATISTICS}, {"field": "weight", "metrics": ["min", "value_count"]}],
    }
    return job(name, **(whole | spec))


def small_groups() -> dict[str, Any]:
    """Groups of few documents, for jobs that are about something else."""
    return {"dateHistogram": {"field": "picked_up", "fixedInterval": "1h"}}


def write_trips(folder: Path, name: str = "a", *, begin: datetime = BEGIN, hours: int = 48, per_hour: int = 40) -> Path:
    """Write `<folder>/trips/<name>.parquet`, which appears at once: `hours` from `begin` on, the same at each call.

    site is text, gate a whole number, size and weight are numbers; all but gate are missing now and then. Numbers are
    quarters, so that their sums are exact in whatever order.
    """
    path = folder / "trips" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    naive = begin.astimezone(UTC).replace(tzinfo=None)
    with duckdb.connect() as db:
        db.execute(
            f"""
            COPY (
                SELECT TIMESTAMP '{naive}' + to_microseconds(i * (3600000000 // {per_hour})) AS picked_up,
                    CASE WHEN i % 7 > 0 THEN 'site-' || (i * 31 % 4) END AS site,
                    (i * 17 % 3)::INTEGER AS gate,
                    CASE WHEN i % 5 > 0 THEN (i * 7919 % 4001)::DOUBLE / 4 - 300 END AS size,
                    CASE WHEN i % 13 > 0 THEN (i * 104729 % 601)::DOUBLE / 4 END AS weight
                FROM range({hours * per_hour}) t(i)
            ) TO '{part}' (FORMAT parquet, ROW_GROUP_SIZE 20480)
            """
        )
    part.rename(path)
    return path


def end_of(hours: int, begin: datetime = BEGIN) -> datetime:
    """The time after the last bucket of `write_trips`."""
    return begin + timedelta(hours=hours)


def epoch_ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def rolled_up(folder: Path, *, hours: str = "1 hour") -> list[tuple[Any, ...]]:
    """What `trips_job` must make of all files below `folder`, in the order and with the columns of its export."""
    return _rows(
        f"""
        SELECT time_bucket(INTERVAL '{hours}', picked_up) AS "picked_up.date_histogram.timestamp",
            floor(weight / 50) * 50 AS "weight.histogram.value",
            site AS "site.terms.value", gate::BIGINT AS "gate.terms.value",
            count(*) AS "picked_up.date_histogram._count",
            min(size) AS "size.min.value", max(size) AS "size.max.value",
            coalesce(sum(size), 0) AS "size.sum.value", coalesce(sum(size), 0) AS "size.avg.value",
            count(size) AS "size.avg._count", count(size) AS "size.value_count.value",
            min(weight) AS "weight.min.value", count(weight) AS "weight.value_count.value"
        FROM read_parquet('{folder}/{PATTERN}') GROUP BY 1, 2, 3, 4
        """
    )


def rolled_up_small(folder: Path) -> list[tuple[Any, ...]]:
    """The same for a job with `small_groups`."""
    return _rows(
        f"""
        SELECT time_bucket(INTERVAL '1 hour', picked_up) AS "picked_up.date_histogram.timestamp",
            count(*) AS "picked_up.date_histogram._count",
            min(size) AS "size.min.value", max(size) AS "size.max.value",
            coalesce(sum(size), 0) AS "size.sum.value", coalesce(sum(size), 0) AS "size.avg.value",
            count(size) AS "size.avg._count", count(size) AS "size.value_count.value",
            min(weight) AS "weight.min.value", count(weight) AS "weight.value_count.value"
        FROM read_parquet('{folder}/{PATTERN}') GROUP BY 1
        """
    )


def results_of(folder: Path) -> Path:
    """Where the results of the namespace are that has this folder of sources."""
    return own(folder) / "results"


def export_of(folder: Path, job_id: str = "trips", index: str = "hourly") -> Path:
    return results_of(folder) / index / f"{job_id}.parquet"


def exported(folder: Path, job_id: str = "trips", index: str = "hourly") -> list[tuple[Any, ...]]:
    """The rows of a job's export, the names of its columns first."""
    return _rows(f"FROM read_parquet('{export_of(folder, job_id, index)}')")


def _rows(statement: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as db:
        found = db.execute(f"SELECT * FROM ({statement}) ORDER BY ALL")
        names = tuple(column[0] for column in found.description)
        return [names, *found.fetchall()]
