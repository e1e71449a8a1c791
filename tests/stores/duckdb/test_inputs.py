"""Sources as people have them: times to the nanosecond, other units, lists, long numbers, odd names, and change."""

import math
from pathlib import Path
from typing import Any

import duckdb
import pytest

from rollup_operator.rollup.due import due
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.duckdb.source import sources
from rollup_operator.stores.errors import SourceInvalid, SourceNotFound
from support.embedded import Embedded, config, spec
from support.rounding import DAY, HOUR, ms

DAY_1 = ms("2024-01-01T00:00")


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    return Embedded(tmp_path)


def job(
    pattern: str = "d/*.parquet",
    *,
    every: dict[str, str] | None = None,
    terms: tuple[str, ...] = (),
    histogram: tuple[str, ...] = (),
    metrics: dict[str, list[str]] | None = None,
    **changes: Any,
) -> JobConfig:
    groups: dict[str, Any] = {"dateHistogram": {"field": "t", **(every or {"fixedInterval": "1h"})}}
    if terms:
        groups["terms"] = {"fields": list(terms)}
    if histogram:
        groups["histogram"] = {"fields": list(histogram), "interval": 10}
    kept = [{"field": f, "metrics": m} for f, m in (metrics or {"v": ["sum", "value_count"]}).items()]
    return config(spec(pattern, groups=groups, metrics=kept, **changes))


def write(embedded: Embedded, select: str, name: str = "d/a.parquet") -> None:
    path = embedded.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"COPY ({select}) TO '{path}'")


def by_time(embedded: Embedded, of: JobConfig, *names: str) -> dict[int, Any]:
    return {
        d["t.date_histogram.timestamp"]: d[names[0]] if len(names) == 1 else tuple(d.get(n) for n in names)
        for d in embedded.documents(of)
    }


# Times


NANOS = """
SELECT TIMESTAMP_NS '2024-01-01 23:59:59.999999999' AS t, 1 AS v
UNION ALL SELECT TIMESTAMP_NS '2024-01-02 12:00:00', 2
UNION ALL SELECT TIMESTAMP_NS '2024-01-02 23:59:59.999999999', 4
UNION ALL SELECT TIMESTAMP_NS '2024-01-03 23:59:59.999999999', 8
"""


@pytest.mark.parametrize(
    "every",
    [{"calendarInterval": "1d"}, {"fixedInterval": "1d"}, {"calendarInterval": "1d", "timeZone": "Africa/Abidjan"}],
)
async def test_nanoseconds_keep_their_bucket(embedded: Embedded, every: dict[str, str]) -> None:
    write(embedded, NANOS)
    of = job(every=every, metrics={"v": ["sum"], "t": ["min", "max"]})
    claim = await embedded.completed(of)
    assert claim.stats.documents_processed == 4
    assert by_time(embedded, of, "v.sum.value", "t.max.value") == {
        DAY_1: (1, DAY_1 + DAY - 1),
        DAY_1 + DAY: (6, DAY_1 + 2 * DAY - 1),
        DAY_1 + 2 * DAY: (8, DAY_1 + 3 * DAY - 1),
    }


@pytest.mark.parametrize("type_", ["TIMESTAMP_NS", "TIMESTAMPTZ_NS"])
async def test_nanoseconds_keep_their_month_and_the_clock_of_a_zone(embedded: Embedded, type_: str) -> None:
    write(embedded, f"SELECT (TIMESTAMP_NS '2024-03-31 21:59:59.999999999')::{type_} AS t, 1 AS v")
    of = job(every={"calendarInterval": "1M", "timeZone": "Europe/Berlin"})
    await embedded.completed(of)
    assert by_time(embedded, of, "v.sum.value") == {ms("2024-02-29T23:00"): 1}


@pytest.mark.parametrize("type_", ["TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMP_NS"])
async def test_metrics_of_times_before_1970_are_the_millisecond_that_has_begun(embedded: Embedded, type_: str) -> None:
    times = "('1969-12-31 23:59:59.998999'), ('1969-12-31 23:59:59.999'), ('1969-12-31 23:59:59.999999')"
    at = "TIMESTAMP '2024-01-01 00:10:00'"
    write(embedded, f"SELECT {at} AS t, v::TIMESTAMP::{type_} AS v FROM (VALUES {times}) r(v)")
    of = job(metrics={"v": ["min", "max"]})
    await embedded.completed(of)
    (document,) = embedded.documents(of)
    assert (document["v.min.value"], document["v.max.value"]) == (-2, -1)


async def test_nanoseconds_are_read_page_by_page(embedded: Embedded) -> None:
    write(
        embedded,
        "SELECT make_timestamp_ns(1704067200000000000 + i * 60000000000 + 999999999) AS t, 1 AS v "
        "FROM range(20000) r(i) ORDER BY t",
    )
    of = job()
    await embedded.completed(of, store=embedded.store(0.002))
    found = by_time(embedded, of, "v.sum.value")
    assert sum(found.values()) == 20_000
    assert set(list(found.values())[:-1]) == {60}


@pytest.mark.parametrize(("per_second", "word"), [(1, "seconds"), (1_000_000, "microseconds"), (10**9, "nanoseconds")])
async def test_other_units_than_milliseconds_are_not_rolled_up(embedded: Embedded, per_second: int, word: str) -> None:
    write(embedded, f"SELECT (1704067200 + i) * {per_second} AS t, 1 AS v FROM range(100) r(i)")
    result = await embedded.run(job())
    assert isinstance(result.error, SourceInvalid)
    for part in ("spec.groups.dateHistogram.field", "'t'", "milliseconds", f"like {word}", "2024-01-01"):
        assert part in result.message
    assert result.claim is not None
    assert result.claim.position is None


@pytest.mark.parametrize("text", ["%Y%m%d", "%Y%m%d%H%M", "%Y%m%d%H%M%S"])
async def test_dates_written_as_whole_numbers_are_not_rolled_up(embedded: Embedded, text: str) -> None:
    days = f"strftime(TIMESTAMP '2024-02-27' + INTERVAL (i) DAY, '{text}')::BIGINT"
    write(embedded, f"SELECT {days} AS t, 1 AS v FROM range(5) r(i)")
    result = await embedded.run(job())
    assert isinstance(result.error, SourceInvalid)
    for part in ("spec.groups.dateHistogram.field", "'t'", "milliseconds", "like dates", "2024-02-27"):
        assert part in result.message
    if text == "%Y%m%d":
        of = job(start="1970-01-01T00:00:00Z")
        await embedded.completed(of)
        assert sum(by_time(embedded, of, "v.sum.value").values()) == 5


@pytest.mark.parametrize("numbers", ["20240230, 20240101", "20241301", "202401010060"])
async def test_numbers_that_are_no_dates_are_milliseconds(embedded: Embedded, numbers: str) -> None:
    write(embedded, f"SELECT unnest([{numbers}]) AS t, 1 AS v")
    await embedded.completed(job())
    assert len(embedded.documents(job())) == 1


async def test_milliseconds_of_1970_are_taken_when_a_start_says_so(embedded: Embedded) -> None:
    write(embedded, "SELECT 1704067200 + i AS t, 1 AS v FROM range(100) r(i)")
    of = job(start="1970-01-01T00:00:00Z")
    await embedded.completed(of)
    assert by_time(embedded, of, "v.sum.value") == {1704067200 // HOUR * HOUR: 100}


async def test_a_job_that_has_begun_with_whole_numbers_goes_on(embedded: Embedded) -> None:
    write(embedded, "SELECT 1704067200000 AS t, 1 AS v")
    await embedded.completed(job())
    write(embedded, "SELECT 1704067200000 + 3600000 AS t, 2 AS v", "d/b.parquet")
    await embedded.completed(job())
    assert list(by_time(embedded, job(), "v.sum.value").values()) == [1, 2]


async def test_a_clock_set_back_over_midnight_counts_what_follows_under_the_day_that_has_begun(
    embedded: Embedded,
) -> None:
    """St. John's, 2010-11-07: from 00:01 back to 23:01. Buckets follow each other, so the 7th does not end again."""
    write(
        embedded,
        "SELECT TIMESTAMP '2010-11-07 02:29:00' AS t, 1 AS v UNION ALL SELECT TIMESTAMP '2010-11-07 02:30:30', 2 "
        "UNION ALL SELECT TIMESTAMP '2010-11-07 02:45:00', 4 UNION ALL SELECT TIMESTAMP '2010-11-07 04:00:00', 8",
    )
    of = job(every={"calendarInterval": "1d", "timeZone": "America/St_Johns"})
    await embedded.completed(of)
    assert by_time(embedded, of, "v.sum.value") == {ms("2010-11-06T02:30"): 1, ms("2010-11-07T02:30"): 14}


# Numbers


def long_numbers(embedded: Embedded, values: list[int], metrics: dict[str, list[str]]) -> JobConfig:
    """Write numbers of 128 bits, and return a job over them."""
    (embedded.folder / "a.csv").write_text("t,v\n" + "".join(f"2024-01-01 00:00:00,{v}\n" for v in values))
    columns = [{"name": "v", "type": "HUGEINT"}]
    return job("a.csv", metrics=metrics, csv={"columns": columns})


@pytest.mark.parametrize(
    ("type_", "sign"),
    [
        ("BIGINT", 1),
        ("BIGINT", -1),
        ("UBIGINT", 1),
        ("HUGEINT", 1),
        ("HUGEINT", -1),
        ("DECIMAL(38, 0)", 1),
        ("DECIMAL(38, 0)", -1),
    ],
)
async def test_long_numbers_are_summed_up_exactly(embedded: Embedded, type_: str, sign: int) -> None:
    values = [sign * v for v in [2**53 + 1] * 3 + [1, 3, 2**62 + 1]]
    metrics = {"v": ["min", "max", "sum", "avg"]}
    if type_ == "HUGEINT":  # which Parquet does not have
        of = long_numbers(embedded, values, metrics)
    else:
        rows = ", ".join(f"({v})" for v in values)
        write(embedded, f"SELECT TIMESTAMP '2024-01-01' AS t, v::{type_} AS v FROM (VALUES {rows}) r(v)")
        of = job(metrics=metrics)
    await embedded.completed(of)
    (found,) = by_time(embedded, of, "v.sum.value", "v.min.value", "v.max.value", "v.avg.value").values()
    assert found == (float(sum(values)), float(min(values)), float(max(values)), float(sum(values)))


async def test_a_sum_between_two_numbers_of_64_bits_goes_to_the_even_one(embedded: Embedded) -> None:
    values = [100, -164, -854_932_075_493_109_632]
    rows = ", ".join(f"({v})" for v in values)
    write(embedded, f"SELECT TIMESTAMP '2024-01-01' AS t, v::BIGINT AS v FROM (VALUES {rows}) r(v)")
    await embedded.completed(job())
    assert list(by_time(embedded, job(), "v.sum.value").values()) == [float(sum(values))]


async def test_sums_of_whole_numbers_do_not_depend_on_their_order(embedded: Embedded) -> None:
    values = [2**53, *[1] * 1000, -(2**53)]
    rows = ", ".join(f"({v})" for v in values)
    write(embedded, f"SELECT TIMESTAMP '2024-01-01' AS t, v::BIGINT AS v FROM (VALUES {rows}) r(v)")
    await embedded.completed(job())
    assert list(by_time(embedded, job(), "v.sum.value").values()) == [1000]


async def test_a_preview_names_what_is_rounded(embedded: Embedded) -> None:
    write(embedded, f"SELECT TIMESTAMP '2024-01-01' AS t, {2**53 + 1}::BIGINT AS v, 7::BIGINT AS w")
    store = embedded.store()
    of = job(metrics={"v": ["sum", "max"], "w": ["sum"]})
    found = await store.preview(of, due(of.spec, embedded.now).fresh, 3)
    await store.close()
    (note,) = found.notes
    assert "v.sum" in note
    assert "v.max" in note
    assert "w.sum" not in note
    assert str(2**53) in note


async def test_a_sum_beyond_128_bits_is_named(embedded: Embedded) -> None:
    result = await embedded.run(long_numbers(embedded, [2**127 - 1] * 2, {"v": ["sum"]}))
    assert isinstance(result.error, SourceInvalid), result
    assert "the sum of column 'v' is too large" in result.message
    assert "as DOUBLE" in result.message


# Lists: several values of a field


LISTS = """
SELECT TIMESTAMP '2024-01-01' + INTERVAL (i) MINUTE AS t, k, n, v FROM (VALUES
  (1, ['a', 'b', 'a'], [1, 2, 11], [1.5, 2.5]), (2, ['b'], [5, 5], [10]), (3, [], NULL, []), (4, NULL, [NULL], NULL),
  (5, [NULL, 'a'], [25], [NULL, 'nan'::DOUBLE, 4])) r(i, k, n, v)
"""


async def test_a_row_counts_once_in_each_bucket_of_its_values(embedded: Embedded) -> None:
    write(embedded, LISTS)
    of = job(terms=("k",), metrics={"v": ["min", "max", "sum", "value_count"]})
    await embedded.completed(of)
    found = {
        d["k.terms.value"]: (d["k.terms._count"], d["v.sum.value"], d["v.value_count.value"], d.get("v.min.value"))
        for d in embedded.documents(of)
    }
    assert found == {"a": (2, 8.0, 3, 1.5), "b": (2, 14.0, 3, 1.5), None: (2, 0.0, 0, None)}


@pytest.mark.parametrize("type_", ["TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMPTZ", "DATE"])
async def test_metrics_of_lists_of_times(embedded: Embedded, type_: str) -> None:
    at = "TIMESTAMP '2024-01-01 00:10:00' AS t"
    times = f"[TIMESTAMP '2024-01-03', NULL, TIMESTAMP '2024-01-02']::{type_}[]"
    write(embedded, f"SELECT {at}, {times} AS v UNION ALL SELECT {at}, NULL UNION ALL SELECT {at}, []")
    of = job(metrics={"v": ["min", "max", "value_count"]})
    await embedded.completed(of)
    (document,) = embedded.documents(of)
    found = [document[f"v.{metric}.value"] for metric in ("min", "max", "value_count")]
    assert found == [ms("2024-01-02T00:00"), ms("2024-01-03T00:00"), 2]
    wrong = job(metrics={"v": ["sum"]}, rollupIndex="wrong")
    assert "which has min, max and value_count, not sum" in (await embedded.run(wrong)).message


async def test_values_that_fall_into_one_bucket_count_once(embedded: Embedded) -> None:
    write(embedded, LISTS)
    of = job(histogram=("n",), terms=("k",), metrics={"n": ["sum"]})
    await embedded.completed(of)
    found = {
        (d["n.histogram.value"], d["k.terms.value"]): (d["k.terms._count"], d["n.sum.value"])
        for d in embedded.documents(of)
    }
    assert found == {
        (0.0, "a"): (1, 14.0),
        (0.0, "b"): (2, 24.0),
        (10.0, "a"): (1, 14.0),
        (10.0, "b"): (1, 14.0),
        (None, None): (2, 0.0),
        (20.0, "a"): (1, 25.0),
    }


# Keys and types


async def test_keys_that_look_alike_when_they_are_joined_are_buckets_of_their_own(embedded: Embedded) -> None:
    write(
        embedded,
        "SELECT TIMESTAMP '2024-01-01' AS t, a, b, v FROM (VALUES ('Outer$Inner', 'run', 1), "
        "('Outer', 'Inner$run', 2), ('Outer', 'run', 4), (NULL, 'run', 8)) r(a, b, v)",
    )
    of = job(terms=("a", "b"))
    await embedded.completed(of)
    found = {(d["a.terms.value"], d["b.terms.value"]): d["v.sum.value"] for d in embedded.documents(of)}
    assert found == {("Outer$Inner", "run"): 1, ("Outer", "Inner$run"): 2, ("Outer", "run"): 4, (None, "run"): 8}


@pytest.mark.parametrize(
    ("value", "fields", "says"),
    [
        ("{'name': 'x'}", {"terms": ("k",)}, "column 'k' is STRUCT"),
        ("[{'name': 'x'}]", {"terms": ("k",)}, "column 'k' is STRUCT"),
        ("{'name': 'x'}", {"terms": ("k.name",)}, "no column 'k.name'"),
        ("[{'n': 1}]", {"metrics": {"k.n": ["sum"]}}, "no column 'k.n'"),
        ("MAP {'a': 1}", {"metrics": {"k": ["sum"]}}, "column 'k' is MAP"),
        ("'{\"a\": 1}'::JSON", {"terms": ("k",)}, "column 'k' is JSON"),
        ("true", {"terms": ("k",)}, "column 'k' is BOOLEAN"),
        ("true", {"metrics": {"k": ["sum"]}}, "column 'k' is BOOLEAN"),
        ("DATE '2024-01-01'", {"terms": ("k",)}, "column 'k' is DATE"),
        ("'x'::BLOB", {"terms": ("k",)}, "column 'k' is BLOB"),
        ("INTERVAL 1 DAY", {"histogram": ("k",)}, "column 'k' is INTERVAL"),
    ],
)
async def test_what_is_no_group_or_number_is_refused_with_its_type(
    embedded: Embedded, value: str, fields: dict[str, Any], says: str
) -> None:
    write(embedded, f"SELECT TIMESTAMP '2024-01-01' AS t, {value} AS k, 1 AS v")
    result = await embedded.run(job(**fields))
    assert isinstance(result.error, SourceInvalid), result
    assert says in result.message


async def test_a_file_without_rows_says_nothing_of_the_others(embedded: Embedded) -> None:
    write(embedded, "SELECT TIMESTAMP '2024-01-01' AS t, 'a' AS k, 1 AS v LIMIT 0")
    of = job(terms=("k",))
    assert (await embedded.completed(of)).stats.documents_processed == 0
    write(embedded, "SELECT TIMESTAMP '2024-01-01' AS t, 'a' AS k, 3 AS v", "d/b.parquet")
    await embedded.completed(of)
    assert by_time(embedded, of, "v.sum.value") == {DAY_1: 3}


@pytest.mark.parametrize(
    "name", ["it's", 'a"b', "[1]", "b*", "c?", "a b", "a\nb", "%20", "💡", "e\u0301", "{a}", "a;b", "$1", "~"]
)
async def test_files_of_any_name(embedded: Embedded, name: str) -> None:
    write(embedded, "SELECT TIMESTAMP '2024-01-01' AS t, 1 AS v", "other/a.parquet")
    (embedded.folder / "d").mkdir()
    (embedded.folder / "other/a.parquet").rename(embedded.folder / f"d/{name}.parquet")
    write(embedded, "SELECT TIMESTAMP '2024-01-01' AS t, 2 AS v", "d/1.parquet")
    of = job()
    await embedded.completed(of)
    assert by_time(embedded, of, "v.sum.value") == {DAY_1: 3}


@pytest.mark.parametrize("name", ["events.json", "events.ndjson", "events.json.gz", "d/events.jsonl"])
async def test_json_is_no_source_and_says_so(embedded: Embedded, name: str) -> None:
    path = embedded.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"t": "2024-01-01T00:00:00Z", "v": 1}\n')
    result = await embedded.run(job(name))
    assert isinstance(result.error, SourceNotFound | SourceInvalid), result
    assert repr(name) in result.message
    assert "end in .parquet, .csv" in result.message


# Change


@pytest.mark.parametrize("lookback", [None, "2d"])
async def test_a_key_that_was_whole_becomes_decimal(embedded: Embedded, lookback: str | None) -> None:
    changes = {"lookback": lookback} if lookback else {}
    write(embedded, "SELECT TIMESTAMP '2024-01-01' AS t, k, 1 AS v FROM (VALUES (1), (2)) r(k)")
    of = job(terms=("k",), **changes)
    await embedded.completed(of)
    write(
        embedded,
        "SELECT TIMESTAMP '2024-01-02' AS t, k::DOUBLE AS k, 1 AS v FROM (VALUES (1.5), (2.5), (2.4), (2)) r(k)",
        "d/b.parquet",
    )
    await embedded.completed(of)
    found = [(d["t.date_histogram.timestamp"], d["k.terms.value"]) for d in embedded.documents(of)]
    assert sorted(found) == [(DAY_1, 1), (DAY_1, 2), *((DAY_1 + DAY, k) for k in (1.5, 2, 2.4, 2.5))]
    (embedded.folder / "d/b.parquet").unlink()
    write(embedded, "SELECT TIMESTAMP '2024-01-03' AS t, 7 AS k, 1 AS v", "d/c.parquet")
    await embedded.completed(of)  # whole again, once the decimals are gone
    assert embedded.documents(of)[-1]["k.terms.value"] == 7


async def test_whole_keys_that_no_decimal_can_tell_apart_are_not_made_decimals(embedded: Embedded) -> None:
    write(embedded, f"SELECT TIMESTAMP '2024-01-01' AS t, {2**53 + 1} AS k, 1 AS v")
    of = job(terms=("k",))
    await embedded.completed(of)
    write(embedded, "SELECT TIMESTAMP '2024-01-02' AS t, 1.5::DOUBLE AS k, 1 AS v", "d/a.parquet")
    result = await embedded.run(of)
    assert isinstance(result.error, SourceInvalid)
    assert "'k'" in result.message
    assert embedded.documents(of)[0]["k.terms.value"] == 2**53 + 1


@pytest.mark.parametrize(("before", "after", "words"), [("5", "'GB'", "text"), ("'GB'", "5", "numbers")])
async def test_a_key_of_another_kind_stalls_with_both_kinds(
    embedded: Embedded, before: str, after: str, words: str
) -> None:
    write(embedded, f"SELECT TIMESTAMP '2024-01-01' AS t, {before} AS k, 1 AS v")
    of = job(terms=("k",))
    await embedded.completed(of)
    write(embedded, f"SELECT TIMESTAMP '2024-02-01' AS t, {after} AS k, 1 AS v")
    result = await embedded.run(of)
    assert isinstance(result.error, SourceInvalid)
    for part in ("column 'k'", f"holds {words} now", "VARCHAR", "spec.rollupIndex"):
        assert part in result.message


async def test_rows_that_came_late_are_counted_once(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_SETTLED_NS", 0)  # as if some time went by between the runs
    write(embedded, "SELECT TIMESTAMP '2024-01-01' + INTERVAL (i) MINUTE AS t, 1 AS v FROM range(300) r(i)")
    first = await embedded.run(job())
    assert "came after" not in first.message
    write(
        embedded,
        "SELECT TIMESTAMP '2024-01-01 00:59:59' + INTERVAL (i) HOUR AS t, 1 AS v FROM range(3) r(i)",
        "d/b.parquet",
    )
    second = await embedded.run(job())
    assert second.outcome == "Completed"
    assert "3 rows came after their buckets were rolled up" in second.message
    assert "spec.lookback" in second.message
    assert "came after" not in (await embedded.run(job())).message


async def test_late_rows_that_a_run_reads_again_are_not_said_to_be_missing(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_SETTLED_NS", 0)  # as if some time went by between the runs
    write(embedded, "SELECT TIMESTAMP '2024-01-01' + INTERVAL (i) MINUTE AS t, 1 AS v FROM range(300) r(i)")
    await embedded.run(job())
    write(
        embedded,
        "SELECT TIMESTAMP '2024-01-01 00:59:59' + INTERVAL (i) HOUR AS t, 1 AS v FROM range(3) r(i)",
        "d/b.parquet",
    )
    store = embedded.store()
    run = embedded.make_run(job(), store=store)
    hour, begin = 3_600_000, 1_704_067_200_000
    run.reread = [(begin, begin + hour), (begin + hour, begin + 2 * hour)]
    result = await run.index()
    await store.close()
    assert "2 documents rewritten" in result.message
    assert "1 row came after its bucket was rolled up and is in no document" in result.message


async def test_rows_that_are_appended_to_a_file_are_counted(embedded: Embedded) -> None:
    path = embedded.folder / "a.csv"
    path.write_text("t,v\n2024-01-01 00:10:00,1\n2024-01-01 05:10:00,1\n")
    await embedded.completed(job("a.csv"))
    with path.open("a") as file:
        file.write("2024-01-01 00:59:59,1\n2024-01-01 06:00:00,1\n")
    result = await embedded.run(job("a.csv"))
    assert "1 row came after" in result.message
    assert len(embedded.documents(job("a.csv"))) == 3


async def test_rows_that_come_as_their_bucket_is_read_are_taken_in_by_the_next_run(embedded: Embedded) -> None:
    write(embedded, "SELECT TIMESTAMP '2024-01-01' + INTERVAL (i) MINUTE AS t, 1 AS v FROM range(300) r(i)")
    embedded.now = embedded.now.replace(year=2024, month=1, day=1, hour=5)
    await embedded.completed(job())
    write(embedded, "SELECT TIMESTAMP '2024-01-01 04:59:59' AS t, 1 AS v FROM range(7)", "d/b.parquet")
    result = await embedded.run(job())
    assert result.outcome == "Completed"
    assert "came after" not in result.message
    assert by_time(embedded, job(), "v.sum.value")[DAY_1 + 4 * HOUR] == 67


async def test_late_rows_that_a_lookback_takes_in_are_not_reported(embedded: Embedded) -> None:
    write(embedded, "SELECT TIMESTAMP '2024-01-01' + INTERVAL (i) MINUTE AS t, 1 AS v FROM range(300) r(i)")
    of = job(lookback="3h")
    embedded.now = embedded.now.replace(year=2024, month=1, day=1, hour=5)
    await embedded.completed(of)
    write(
        embedded,
        "SELECT TIMESTAMP '2024-01-01 00:59:59' + INTERVAL (i) HOUR AS t, 1 AS v FROM range(4) r(i)",
        "d/b.parquet",
    )
    result = await embedded.run(of)
    assert "2 rows came after" in result.message
    assert sum(by_time(embedded, of, "v.sum.value").values()) == 302


async def test_a_source_whose_old_files_are_gone_is_no_reason_to_worry(embedded: Embedded) -> None:
    write(embedded, "SELECT TIMESTAMP '2024-01-01' + INTERVAL (i) MINUTE AS t, 1 AS v FROM range(300) r(i)")
    await embedded.completed(job())
    (embedded.folder / "d/a.parquet").unlink()
    write(
        embedded, "SELECT TIMESTAMP '2024-01-02' + INTERVAL (i) MINUTE AS t, 1 AS v FROM range(300) r(i)", "d/b.parquet"
    )
    result = await embedded.run(job())
    assert "came after" not in result.message


async def test_a_file_that_is_deleted_in_the_middle_of_a_backfill_is_read_or_named(embedded: Embedded) -> None:
    """DuckDB may have it open then, or not open it again."""
    for day in range(1, 5):
        write(
            embedded,
            f"SELECT TIMESTAMP '2024-01-0{day}' + INTERVAL (i) SECOND AS t, 1 AS v FROM range(80000) r(i) ORDER BY t",
            f"d/{day}.parquet",
        )

    def delete(run: Any) -> bool:
        if run.progress.pages == 1:
            (embedded.folder / "d/3.parquet").unlink(missing_ok=True)
        return False

    result = await embedded.run(job(), store=embedded.store(0.005), halt_when=delete)
    if result.outcome == "Completed":
        assert sum(by_time(embedded, job(), "v.sum.value").values()) == 320_000
        return
    assert isinstance(result.error, SourceNotFound), result
    for part in ("d/3.parquet", "deleted or replaced while it was read", "are in no document"):
        assert part in result.message
    await embedded.completed(job())
    days = [t // DAY for t, n in by_time(embedded, job(), "v.sum.value").items() for _ in range(int(n))]
    assert {day: days.count(day) for day in set(days) if day != DAY_1 // DAY + 2} == {
        DAY_1 // DAY + i: 80_000 for i in (0, 1, 3)
    }


# Names


@pytest.mark.parametrize(
    "name",
    [
        "Amount, EUR",
        "it's",
        'a "b"',
        "{a}",
        "a{}b",
        "💡",
        "a b",
        "a;b",
        "a.b",
        "温度",
        "%s",
        "$1",
        "?",
        "--",
        "x.terms",
    ],
)
async def test_columns_of_any_name(embedded: Embedded, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    write(embedded, f"SELECT TIMESTAMP '2024-01-01' AS t, 'x' AS {quoted}, [1, 2] AS l, 3 AS v")
    of = job(terms=(name, "l"), metrics={"v": ["sum"]})
    await embedded.completed(of)
    assert [(d[f"{name}.terms.value"], d["v.sum.value"]) for d in embedded.documents(of)] == [("x", 3.0)] * 2
    path = embedded.folder / "a.csv"
    path.write_text(f't,"{name.replace(chr(34), chr(34) * 2)}",v\n2024-01-01 00:10:00,y,1\n')
    of = job("a.csv", terms=(name,))
    result = await embedded.run(config(of.spec, job_id="csv"))
    assert result.outcome == "Completed", result
    (document,) = embedded.documents(config(of.spec, job_id="csv"))
    assert document[f"{name}.terms.value"] == "y"
    assert not math.isnan(document["v.sum.value"])
