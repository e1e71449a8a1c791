"""Every document of a cluster's rollup index against the rows it was made of, summed by DuckDB on its own.

The rows have what makes sums go wrong: skew, fields that are missing, negative and huge numbers, changes of the clock,
several indices of different kinds, and documents that arrive late.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from rollup_operator.rollup.documents import document_id
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.duckdb.target.export import documents_of
from support.clustered import FIELDS, Clustered, clustered
from support.embedded import Embedded, Row, config
from support.rounding import DAY, HOUR, changes, ms, round_fixed, round_long_unit, round_short_unit
from support.store_http import StoreHttp

Documents = dict[str, dict[str, Any]]
LATER = ms("2030-01-01T00:00")


@dataclass(frozen=True)
class Clock:
    """A date histogram, and where a bucket begins by working it out the long way round."""

    zone: str
    interval: dict[str, str]
    begin: Callable[[int], int]

    @property
    def group(self) -> dict[str, str]:
        return {"field": "ts", "timeZone": self.zone, **self.interval}


BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
CLOCKS = [
    Clock(BERLIN, {"fixedInterval": "1h"}, lambda t: round_fixed(t, HOUR, BERLIN)),
    Clock(BERLIN, {"fixedInterval": "5h"}, lambda t: round_fixed(t, 5 * HOUR, BERLIN)),
    Clock(NEW_YORK, {"calendarInterval": "1d"}, lambda t: round_long_unit(t, "day", NEW_YORK)),
    Clock(LORD_HOWE, {"calendarInterval": "1h"}, lambda t: round_short_unit(t, HOUR, LORD_HOWE)),
    Clock(LORD_HOWE, {"calendarInterval": "1M"}, lambda t: round_long_unit(t, "month", LORD_HOWE)),
]


def some_rows(count: int, zone: str, seed: int = 1) -> list[Row]:
    """Rows of 2024, a third of them about the changes of the clock and a third within one day."""
    chance, year, busy = random.Random(seed), ms("2024-01-01T00:00"), ms("2024-05-05T00:00")
    moved = [c for c in changes(zone, 2024) if year <= c < year + 366 * DAY]

    def time() -> int:
        kind = chance.randrange(3)
        if kind == 0:
            return chance.choice(moved) + chance.randrange(-40 * HOUR, 40 * HOUR)
        return busy + int(DAY * chance.random() ** 2) if kind == 1 else year + chance.randrange(366 * DAY)

    def number() -> float:
        kind = chance.randrange(5)
        if kind == 0:
            return chance.uniform(-9, 9) * 10.0 ** chance.randrange(-300, 290)
        return float(chance.randrange(-100, 100)) if kind == 1 else chance.gauss(20, 5)

    def maybe(value: Any) -> Any:
        return None if chance.random() < 0.1 else value

    terms = ["a"] * 20 + ["b", "it's", 'q"uote\\', "ünï\tcode\U0001f600", "", " "] + [f"t{i}" for i in range(20)]
    return [
        (time(), maybe(number()), maybe(chance.choice(terms)), maybe(chance.randrange(-25, 60))) for _ in range(count)
    ]


def truth(rows: list[Row], clock: Clock) -> list[dict[str, Any]]:
    """The buckets of the rows, as DuckDB sums them."""
    data = json.dumps([dict(zip("tvkn", row, strict=True)) for row in rows])
    begins = json.dumps([{"t": t, "b": clock.begin(t)} for t in {row[0] for row in rows if row[0] is not None}])
    shape = json.dumps([{"t": "BIGINT", "v": "DOUBLE", "k": "VARCHAR", "n": "BIGINT"}])
    edges = json.dumps([{"t": "BIGINT", "b": "BIGINT"}])
    with duckdb.connect() as db:
        found = db.execute(
            f"""
            SELECT b AS time, k AS term, floor(n / 10) * 10 AS size, count(*) AS rows, count(v) AS numbers,
                min(v) AS low, max(v) AS high, coalesce(fsum(v), 0) AS total, coalesce(fsum(abs(v)), 0) AS weight
            FROM (SELECT unnest(from_json(?, '{shape}'), recursive := true))
            JOIN (SELECT unnest(from_json(?, '{edges}'), recursive := true)) USING (t)
            GROUP BY ALL
            """,
            [data, begins],
        )
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def check(documents: Documents, rows: list[Row], job: JobConfig, clock: Clock) -> None:
    """Assert that the documents are those of the rows, no more and no less."""
    expected = truth(rows, clock)
    assert len(documents) == len(expected)
    for bucket in expected:
        keys = [
            ("ts.date_histogram", bucket["time"]),
            ("size.histogram", bucket["size"]),
            ("term.terms", bucket["term"]),
        ]
        document = documents[document_id(job.job_id, keys)]
        said = {k: v for k, v in document.items() if not k.startswith("value.")}
        assert said == {
            "ts.date_histogram.timestamp": bucket["time"], "ts.date_histogram.time_zone": clock.zone,
            "ts.date_histogram.interval": next(iter(clock.interval.values())),
            "ts.date_histogram._count": bucket["rows"], "term.terms.value": bucket["term"],
            "term.terms._count": bucket["rows"], "size.histogram.value": bucket["size"],
            "size.histogram.interval": 10, "size.histogram._count": bucket["rows"],
            "_rollup.id": job.job_id, "_rollup.version": 2,
        }  # fmt: skip
        assert document["value.value_count.value"] == bucket["numbers"]
        near = 1e-12 * bucket["weight"]
        assert abs(document["value.sum.value"] - bucket["total"]) <= near
        if not bucket["numbers"]:
            assert not {f"value.{of}" for of in ("min.value", "max.value", "avg.value", "avg._count")} & document.keys()
            continue
        assert (document["value.min.value"], document["value.max.value"]) == (bucket["low"], bucket["high"])
        assert document["value.avg._count"] == bucket["numbers"]
        assert abs(document["value.avg.value"] - bucket["total"]) <= near


def spread(at: Clustered, rows: list[Row]) -> None:
    """Put the rows into three indices of different kinds; the second lacks a field, the third counts nanoseconds."""
    if not at.node.exists(f"{at.source}-0"):
        without = {name: kind for name, kind in FIELDS.items() if name != "size"}
        at.node.create(f"{at.source}-0", FIELDS)
        at.node.create(f"{at.source}-1", without, settings={"number_of_shards": 3})
        at.node.create(f"{at.source}-2", FIELDS | {"ts": "date_nanos", "size": "integer"})
    parts: list[list[Row]] = [[], [], []]
    for i, row in enumerate(rows):
        parts[2 if i % 3 == 0 else row[3] is None].append(row)
    for i, part in enumerate(parts):
        at.write(part, f"{at.source}-{i}")


def job_of(at: Clustered, clock: Clock, **more: Any) -> JobConfig:
    groups = {
        "dateHistogram": clock.group,
        "terms": {"fields": ["term"]},
        "histogram": {"fields": ["size"], "interval": 10},
    }
    return at.job(indexPattern=f"{at.source}-*", groups=groups, pageSize=400, **more)


def moment(instant: int) -> datetime:
    return datetime.fromtimestamp(instant / 1000, UTC)


@pytest.mark.parametrize(
    ("clock", "parallelism"),
    [*((clock, 1 + 3 * (i % 2)) for i, clock in enumerate(CLOCKS)), (CLOCKS[0], 4)],
    ids=lambda v: f"{v.zone} {next(iter(v.interval.values()))}" if isinstance(v, Clock) else None,
)
async def test_every_document_is_the_sum_of_its_rows(
    opensearch: StoreHttp, tmp_path: Path, clock: Clock, parallelism: int
) -> None:
    rows = some_rows(6000, clock.zone)
    async with clustered(opensearch) as at:
        spread(at, rows)
        job = job_of(at, clock, parallelism=parallelism)
        halted = await at.run(job, halt_when=lambda run: run.progress.pages >= 2)
        assert halted.outcome in ("Halted", "Completed")
        claim = await at.completed(job)
        found = opensearch.documents(at.target)
    check(found, rows, job, clock)
    assert claim.stats.documents_processed == len(rows)
    assert claim.stats.rollups_indexed == len(found)
    if clock is CLOCKS[0] and parallelism == 1:
        embedded = Embedded(tmp_path)
        embedded.write("rows", rows)
        same = config(job.spec.model_copy(update={"index_pattern": "rows"}), job.job_id)
        await embedded.completed(same)
        embedded_documents = dict(documents_of(embedded.export(same)))
        check(embedded_documents, rows, job, clock)


@pytest.mark.newest_stores
async def test_documents_that_arrive_late_are_counted_in(node: StoreHttp) -> None:
    clock, noon, chance = CLOCKS[0], ms("2024-05-05T12:34"), random.Random(7)
    rows = [(t, v, k, n) for t, v, k, n in some_rows(3000, clock.zone) if t is not None]
    late = [row for row in rows if row[0] < noon and chance.random() < 0.1]
    there = [row for row in rows if row not in late and row[0] < noon + HOUR]
    async with clustered(node, now=moment(noon)) as at:
        spread(at, there)
        job = job_of(at, clock, parallelism=4, lookback="4000d")
        await at.completed(job)
        check(node.documents(at.target), [row for row in there if row[0] < noon - noon % HOUR], job, clock)
        spread(at, [row for row in rows if row not in there])
        at.now = moment(LATER)
        result = await at.run(job)
        assert (result.outcome, result.kept) == ("Completed", 0)
        assert result.rewritten > 0
        check(node.documents(at.target), rows, job, clock)
