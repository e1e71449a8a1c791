"""Runs over real files and tables, compared with sums made row by row in Python."""

import random
from pathlib import Path

import pytest

from rollup_operator.model.job import RollupJobSpec
from support.embedded import Embedded, Row, agree, config, spec, truth, with_groups
from support.odd_clocks import INTERVALS, ODD_CLOCKS, buckets, times_around
from support.rounding import DAY, HOUR, MINUTE, hour, ms, round_fixed, round_long_unit, round_short_unit

START = ms("2024-03-01T00:00")


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    return Embedded(tmp_path)


def rows(count: int, start: int = START, span: int = 40 * DAY, seed: int = 1, order: bool = True) -> list[Row]:
    """Rows with everything that real data has: missing times, values, terms and sizes, NaN and infinity."""
    chance = random.Random(seed)

    def some(value: object, share: float) -> object:
        return None if chance.random() < share else value

    made = [
        (
            some(start + chance.randrange(span), 0.01),
            some(chance.choice([chance.uniform(-9, 9), float(chance.randrange(100)), 0.0]), 0.1),
            some(chance.choice(["a", "b", "it's", 'q"uote', ""]), 0.1),
            some(chance.randrange(-25, 60), 0.1),
        )
        for _ in range(count)
    ]
    if order:
        made.sort(key=lambda r: r[0] or 0)
    return made  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["rows", "in/rows.parquet", "rows.csv"])
@pytest.mark.parametrize("page_seconds", [0.5, 0.02])
async def test_a_run_is_the_sum_of_its_rows(embedded: Embedded, name: str, page_seconds: float) -> None:
    data = rows(3000, span=5 * DAY)
    embedded.write(name, data)
    if name.endswith(".csv"):  # where no text can be told from an empty one
        data = [(t, v, k or None, n) for t, v, k, n in data]
    job = config(spec(name))
    claim = await embedded.completed(job, store=embedded.store(page_seconds))
    agree(embedded.documents(job), truth(data, hour))
    assert claim.watermark_ms == ms("2030-01-01T00:00")
    assert claim.stats.documents_processed == sum(1 for r in data if r[0] is not None)
    assert claim.stats.rollups_indexed == len(embedded.documents(job))


@pytest.mark.parametrize("kind", ["TIMESTAMP", "TIMESTAMPTZ", "BIGINT"])
async def test_time_may_be_written_in_several_ways(embedded: Embedded, kind: str) -> None:
    data = rows(500)
    embedded.write("rows.parquet", data, kind)
    job = config(spec("rows.parquet"))
    await embedded.completed(job)
    agree(embedded.documents(job), truth(data, hour))


async def test_a_date_is_midnight_utc(embedded: Embedded) -> None:
    data = [(t // DAY * DAY, v, k, n) for t, v, k, n in rows(300) if t is not None]
    embedded.write("rows", data, "DATE")
    await embedded.completed()
    agree(embedded.documents(), truth(data, hour))


ZONES = [
    ("Europe/Berlin", "2024-03-20T00:00", "2024-10-20T00:00"),
    ("Australia/Lord_Howe", "2024-04-01T00:00", "2024-10-01T00:00"),
    ("America/Sao_Paulo", "2017-02-12T00:00", "2017-10-08T00:00"),
    ("America/New_York", "2024-03-05T00:00", "2024-10-28T00:00"),
]


@pytest.mark.parametrize("interval", ["1h", "90m", "5h", "7d", "hour", "1d", "1w", "1M", "1q"])
@pytest.mark.parametrize(("zone", "first", "second"), ZONES)
async def test_buckets_follow_the_clock_of_the_zone(
    embedded: Embedded, zone: str, first: str, second: str, interval: str
) -> None:
    data = sorted(
        rows(800, ms(first), 18 * DAY, seed=2) + rows(800, ms(second), 18 * DAY, seed=3), key=lambda r: r[0] or 0
    )
    embedded.write("rows.parquet", data)
    fixed = {"1h": HOUR, "90m": 90 * MINUTE, "5h": 5 * HOUR, "7d": 7 * DAY}
    units = {"1d": "day", "1w": "week", "1M": "month", "1q": "quarter"}

    def bucket(t: int) -> int:
        if interval in fixed:
            return round_fixed(t, fixed[interval], zone)
        return round_short_unit(t, HOUR, zone) if interval == "hour" else round_long_unit(t, units[interval], zone)

    field = "fixedInterval" if interval in fixed else "calendarInterval"
    job = config(with_groups(spec("rows.parquet"), **{field: interval, "timeZone": zone}))
    await embedded.completed(job)
    agree(embedded.documents(job), truth(data, bucket))


@pytest.mark.parametrize("zone", ODD_CLOCKS)
async def test_buckets_are_those_that_an_odd_clock_shows(embedded: Embedded, zone: str) -> None:
    times = times_around(zone)
    embedded.write("rows.parquet", [(t, 1.0, None, None) for t in times])
    for i, interval in enumerate(INTERVALS):
        group = {"field": "ts", "timeZone": zone, **interval}
        of = spec("rows.parquet", f"out{i}", groups={"dateHistogram": group}, metrics=[])
        await embedded.completed(config(of))
        found = embedded.documents(config(of))
        counts = {d["ts.date_histogram.timestamp"]: d["ts.date_histogram._count"] for d in found}
        assert (counts, len(found)) == (buckets(times, zone, interval), len(counts)), interval


async def test_what_grows_is_rolled_up_by_the_next_run(embedded: Embedded) -> None:
    data = rows(2000, span=10 * DAY)
    early = [r for r in data if r[0] is None or r[0] < START + 4 * DAY]
    later = [r for r in data if r[0] is not None and r[0] >= START + 4 * DAY]
    job = config(spec("in/*.parquet"))
    embedded.write("in/1.parquet", early)
    first = await embedded.completed(job)
    embedded.write("in/2.parquet", later)
    second = await embedded.completed(job)
    agree(embedded.documents(job), truth(data, hour))
    assert second.epoch > first.epoch
    third = await embedded.completed(job)
    assert third.position == second.position
    assert third.stats.rollups_indexed == second.stats.rollups_indexed


async def test_the_delay_keeps_the_newest_buckets_for_later(embedded: Embedded) -> None:
    data = rows(2000, span=3 * DAY)
    embedded.write("rows", data)
    of = with_groups(spec(), fixedInterval="1h", delay="90m")
    embedded.now = embedded.now.replace(year=2024, month=3, day=2, hour=12, minute=20)
    claim = await embedded.completed(config(of))
    assert claim.watermark_ms == ms("2024-03-02T10:00")
    agree(embedded.documents(), truth(data, hour, below=ms("2024-03-02T10:00")))


@pytest.mark.parametrize("name", ["rows", "in/rows.parquet", "rows.csv"])
async def test_an_empty_source_moves_the_watermark_only(embedded: Embedded, name: str) -> None:
    embedded.write(name, [])
    job = config(spec(name))
    result = await embedded.run(job)
    if name.endswith(".csv"):  # a CSV file without rows does not say what its columns hold
        assert result.outcome == "Failed"
        return
    assert result.claim is not None
    assert result.claim.position is None
    assert result.claim.watermark_ms == ms("2030-01-01T00:00")


async def test_rows_from_before_1970_are_never_seen(embedded: Embedded) -> None:
    data: list[Row] = [(-1, 1.0, "a", 1), (0, 2.0, "a", 1), (DAY, 3.0, "a", 1)]
    embedded.write("rows", data)
    job = config(with_groups(spec(), calendarInterval="1w"))
    await embedded.completed(job)
    agree(embedded.documents(), truth(data, lambda t: round_long_unit(t, "week", "UTC")))


async def test_years_without_rows_cost_no_pages(embedded: Embedded) -> None:
    data: list[Row] = [(ms(f"{year}-05-05T05:05"), 1.0, "a", 1) for year in (1971, 1999, 2024)]
    embedded.write("rows", data)
    result = await embedded.run(store=embedded.store(0.01))
    assert result.claim is not None
    assert result.claim.stats.pages_processed < 10
    agree(embedded.documents(), truth(data, hour))


@pytest.mark.parametrize("name", ["rows", "rows.parquet"])
async def test_rows_without_order_are_read_once(embedded: Embedded, name: str) -> None:
    data = rows(4000, span=2 * DAY, order=False)
    embedded.write(name, data)
    job = config(spec(name))
    store = embedded.store(0.0005)
    await embedded.completed(job, store=store)
    agree(embedded.documents(job), truth(data, hour))


async def test_sources_are_read_together_by_the_names_of_their_columns(embedded: Embedded) -> None:
    one, two, three = rows(300, seed=4), rows(300, seed=5), rows(300, seed=6)
    embedded.write("flights_1", one)
    embedded.write("flights_2", two)
    embedded.write("in/three.parquet", three, "TIMESTAMP")
    job = config(spec("flights_*, in/three.parquet"))
    await embedded.completed(job)
    agree(embedded.documents(job), truth([*one, *two, *three], hour))


async def test_a_halt_keeps_what_was_committed_and_the_next_run_goes_on(embedded: Embedded) -> None:
    data = rows(6000)
    embedded.write("rows.parquet", data)
    job = config(spec("rows.parquet"))
    pages = 0
    for _ in range(200):
        goal = pages + 2
        result = await embedded.run(
            job,
            store=embedded.store(0.005),
            halt_when=lambda r, goal=goal: bool(r.progress.claim and r.progress.claim.stats.pages_processed >= goal),
        )
        assert result.released
        assert result.claim is not None
        pages = result.claim.stats.pages_processed
        if result.outcome == "Completed":
            break
        assert result.outcome == "Halted"
    await embedded.completed(job)
    agree(embedded.documents(job), truth(data, hour))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"metrics": [{"field": "nope", "metrics": ["min"]}]}, "spec.metrics: the source has no column 'nope'"),
        ({"metrics": [{"field": "Value", "metrics": ["min"]}]}, "did you mean 'value'"),
        (
            {"metrics": [{"field": "terms", "metrics": ["min"]}]},
            "'terms': did you mean 'term'? There are 'size', 'term'",
        ),
        ({"metrics": [{"field": "term", "metrics": ["min"]}]}, "column 'term' is VARCHAR: metrics need a column of"),
        (
            {"groups": {"dateHistogram": {"field": "when", "fixedInterval": "1h"}}},
            "no column 'when': there are 'ts', 'si",
        ),
        ({"metrics": [{"field": "ts", "metrics": ["sum"]}]}, "has min, max and value_count, not sum"),
        ({"groups": {"dateHistogram": {"field": "term", "fixedInterval": "1h"}}}, "dateHistogram.field: column 'term'"),
    ],
)
async def test_a_field_that_cannot_be_used_is_named(embedded: Embedded, changes: dict[str, object], text: str) -> None:
    embedded.write("rows", rows(10))
    result = await embedded.run(config(spec(**changes)))
    assert result.outcome == "Failed"
    assert text in result.message


async def test_terms_may_not_be_true_or_false(embedded: Embedded) -> None:
    import duckdb

    with duckdb.connect(str(embedded.file)) as connection:
        connection.execute("CREATE TABLE flags AS SELECT TIMESTAMP '2024-01-01' AS ts, true AS flag")
    of = {"dateHistogram": {"field": "ts", "fixedInterval": "1h"}, "terms": {"fields": ["flag"]}}
    result = await embedded.run(config(spec("flags", groups=of, metrics=[])))
    assert "column 'flag' is BOOLEAN" in result.message


async def test_names_and_values_are_never_statements(embedded: Embedded) -> None:
    evil = """x"; DROP TABLE rows; --'"""
    import duckdb

    with duckdb.connect(str(embedded.file)) as connection:
        quoted = evil.replace('"', '""')
        connection.execute(f'CREATE TABLE "{quoted}" (ts TIMESTAMP, "{quoted}" VARCHAR, "n{quoted}" DOUBLE)')
        connection.execute(f"INSERT INTO \"{quoted}\" VALUES ('2024-01-01', ?, 1)", [evil])
        connection.execute("CREATE TABLE rows AS SELECT 1")
    of = RollupJobSpec.model_validate(
        {
            "indexPattern": evil,
            "rollupIndex": "out'; drop table rows; --",
            "cron": "* * * * * ?",
            "groups": {"dateHistogram": {"field": "ts", "fixedInterval": "1h"}, "terms": {"fields": [evil]}},
            "metrics": [{"field": f"n{evil}", "metrics": ["avg", "min"]}],
        }
    )
    job = config(of, job_id=evil + "/../..")
    await embedded.completed(job)
    (document,) = embedded.documents(job)
    assert document[f"{evil}.terms.value"] == evil
    assert document["_rollup.id"] == job.job_id
    with duckdb.connect(str(embedded.file)) as connection:
        assert connection.execute("SELECT * FROM rows").fetchall() == [(1,)]
