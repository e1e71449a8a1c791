"""Searches of the embedded store: right answers by hand over rolled and live rows, at every moment of a job."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from rollup_operator.rollup.bounds import Bounds
from rollup_operator.stores.base import Store
from rollup_operator.stores.duckdb import claims, search
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.errors import (
    DocumentsChanged,
    SearchTooLarge,
    SearchTooSlow,
    SourceInvalid,
    StoreElsewhere,
    StoreUnavailable,
)
from rollup_operator.stores.search import (
    EVERYTHING,
    NOTHING,
    AtLeast,
    Between,
    ByPredicate,
    ByTerms,
    ByTime,
    ByWidth,
    Documents,
    Exists,
    Fetch,
    Grouping,
    Instant,
    Level,
    LevelBuckets,
    Not,
    Number,
    OneOf,
    Partials,
    Predicate,
    Row,
    Rows,
    Tier,
)
from support.embedded import Embedded, config, spec, with_groups
from support.embedded import Row as SourceRow
from support.rounding import HOUR, MINUTE, ms
from support.search_cases import CONDITIONS, DATA, GROUPINGS, HOURS, NESTED, NESTED_ROWS, NUMBERS, halted_amid_late_rows

DAY = 24 * HOUR


async def test_files_are_opened_once_for_all_that_is_read_of_them(
    at: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    at.write("rows.parquet", [(h * HOUR, 1.0, "a", 1) for h in range(3)])
    store, opened = at.store(), []
    keep_open = Lane.keep_open

    def kept(lane: Lane, fd: int, name: str) -> None:
        opened.append(name)
        keep_open(lane, fd, name)

    monkeypatch.setattr(Lane, "keep_open", kept)
    try:
        rows = Rows("rows.parquet", spec("rows.parquet"), "job")
        found = await store.search([Fetch(rows, EVERYTHING, None) for _ in range(5)])
    finally:
        await store.close()
    assert [partials[()].rows[()].count for partials in found] == [3] * 5
    assert len(opened) == 1


async def test_a_result_that_is_dropped_while_records_are_read_is_no_error(
    at: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    at.write("rows", [(h * HOUR, 1.0, "a", 1) for h in range(3)])
    await at.completed()
    store, standing = at.store(), claims.columns_standing
    asked = []

    def deleted_then(lane: Lane, key: tuple[str, str], target: str | None) -> dict[str, str] | None:
        asked.append(standing(lane, key, target))
        if len(asked) == 1:
            lane.transaction(lambda lane: claims.forget_documents(lane, key, target))
        return asked[-1]

    try:
        monkeypatch.setattr(claims, "columns_standing", deleted_then)
        (gone,) = await store.tiers(["out"])
        assert gone.end_ms == 0
        assert [columns is not None for columns in asked] == [True, False]
    finally:
        await store.close()


async def test_rows_that_hold_numbers_where_texts_were_rolled_up_are_refused(at: Embedded) -> None:
    at.write("rows.parquet", [(h * HOUR, 1.0, "a", 1) for h in range(3)])
    await at.completed(config(spec("rows.parquet")))
    duckdb.sql(
        "COPY (SELECT make_timestamp(h * 3600000000) AS ts, 1.0 AS value, 5::BIGINT AS term, 1.5::DOUBLE AS size "
        f"FROM range(9) t(h)) TO '{at.folder}/rows.parquet'"
    )
    with pytest.raises(SourceInvalid, match="column 'term' is BIGINT now, and VARCHAR"):
        await count(at, live(OneOf("term", ("5",)), pattern="rows.parquet"))


async def test_documents_that_are_deleted_while_they_are_searched_are_no_short_answer(at: Embedded) -> None:
    """The search was planned before, and read what is left of the rows; or the job has begun anew since."""
    at.write("rows", [(h * HOUR, 1.0, "a", 1) for h in range(40)])
    await at.completed(config(spec(deletionPolicy="Delete")))
    store = at.store()
    try:
        (tier,) = await store.tiers(["out"])
        fetch = replace(rolled(), relation=Documents("out", "job", tier.place, tier.end_ms))
        assert (await store.search([fetch]))[0][()].rows[()].count == 40
        await store.settle(config(), "me", delete_documents=True)
        with pytest.raises(DocumentsChanged):
            await store.search([fetch])
        await at.completed(store=store)
        with pytest.raises(DocumentsChanged):
            await store.search([fetch])
        (tier,) = await store.tiers(["out"])
        await store.search([replace(fetch, relation=Documents("out", "job", tier.place, tier.end_ms))])
        with pytest.raises(DocumentsChanged):  # as if its position had been taken back
            await store.search([replace(fetch, relation=Documents("out", "job", tier.place, tier.end_ms + 1))])
    finally:
        await store.close()


@pytest.fixture
def at(tmp_path: Path) -> Embedded:
    return Embedded(tmp_path)


def live(where: Predicate = EVERYTHING, *levels: Level, pattern: str = "rows", **more: Any) -> Fetch:
    """The rows of the source."""
    return Fetch(Rows(pattern, spec(pattern), "job"), where, None, levels=levels, **more)


def rolled(where: Predicate = EVERYTHING, *levels: Level, **more: Any) -> Fetch:
    """The documents of the job."""
    return Fetch(Documents("out", "job"), where, "ts.date_histogram._count", levels=levels, **more)


async def asked(at: Embedded, *fetches: Fetch, **options: Any) -> Sequence[Partials]:
    store = at.store()
    try:
        return await store.search(fetches, **options)
    finally:
        await store.close()


async def count(at: Embedded, fetch: Fetch) -> int:
    (found,) = await asked(at, fetch)
    return found[()].rows[()].count


async def buckets(at: Embedded, by: Grouping, make: Any = live, **more: Any) -> dict[Any, int]:
    (found,) = await asked(at, make(EVERYTHING, Level("g", by), **more))
    return {keys[0]: row.count for keys, row in found[("g",)].rows.items()}


@pytest.mark.parametrize("source", ["rows", "rows.parquet", "rows.csv"])
async def test_counts_and_numbers_of_levels_within_levels(at: Embedded, source: str) -> None:
    at.write(source, DATA)
    (found,) = await asked(at, live(EVERYTHING, NESTED, pattern=source, numbers=NUMBERS))
    assert {path: buckets.rows for path, buckets in found.items()} == NESTED_ROWS
    assert not any(buckets.left_out for buckets in found.values())


async def test_each_grouping(at: Embedded) -> None:
    at.write("rows", DATA)
    fetches = [live(EVERYTHING, Level("g", by)) for by, _ in GROUPINGS]
    found = await asked(at, *fetches)
    for (by, expected), partials in zip(GROUPINGS, found, strict=True):
        assert {keys[0]: row.count for keys, row in partials[("g",)].rows.items()} == expected, by
    many = await buckets(at, ByPredicate((OneOf("term", ("a",)), NOTHING) * 50))
    assert many == {2 * i: 2 for i in range(50)}


async def test_of_a_column_that_is_not_there_no_row_has_a_value(at: Embedded) -> None:
    at.write("rows", DATA)
    numbers = tuple(Number(f, "nothing") for f in ("count", "sum", "min", "max"))
    (found,) = await asked(at, live(EVERYTHING, Level("g", ByTerms("term", "keyword", 9), numbers), numbers=numbers))
    assert found[()].rows[()].numbers == found["g",].rows["a",].numbers == (0, 0, None, None)


async def test_each_condition(at: Embedded) -> None:
    """As what is searched, and as what makes a bucket."""
    at.write("rows", DATA)
    wheres = [where for where, _ in CONDITIONS]
    found = await asked(at, *(live(where) for where in wheres))
    assert [(w, f[()].rows[()].count) for w, f in zip(wheres, found, strict=True)] == CONDITIONS
    made = await buckets(at, ByPredicate(tuple(wheres)))
    assert [(w, made.get(i, 0)) for i, w in enumerate(wheres)] == CONDITIONS


async def test_buckets_of_most_documents_come_first_and_the_others_are_counted(at: Embedded) -> None:
    rows: list[SourceRow] = [(h * HOUR, 1.0, f"t{n}", n) for h in (0, 1) for n in range(5) for _ in range(n + 1 + h)]
    at.write("rows", rows)
    inner = Level("t", ByTerms("term", "keyword", 2), (), (Level("s", ByTerms("size", "long", 1)),))
    (found,) = await asked(
        at, live(EVERYTHING, Level("h", HOURS, (), (inner,)), Level("all", ByTerms("term", "keyword", 1)))
    )
    assert {k: r.count for k, r in found["h", "t"].rows.items()} == {
        (0, "t4"): 5, (0, "t3"): 4, (HOUR, "t4"): 6, (HOUR, "t3"): 5
    }  # fmt: skip
    assert found["h", "t"].left_out == {(0,): 6, (HOUR,): 9}
    assert {k: r.count for k, r in found["h", "t", "s"].rows.items()} == {
        (0, "t4", 4): 5, (0, "t3", 3): 4, (HOUR, "t4", 4): 6, (HOUR, "t3", 3): 5
    }  # fmt: skip
    assert found["h", "t", "s"].left_out == {}
    assert found[("all",)] == LevelBuckets({("t4",): Row(11)}, {(): 24})


@pytest.mark.parametrize(("terms", "ranked"), [(3, [False, False]), (4, [False, True, True])])
async def test_buckets_are_ranked_only_where_a_level_has_more_than_it_may(
    at: Embedded, monkeypatch: pytest.MonkeyPatch, terms: int, ranked: list[bool]
) -> None:
    """To plan that takes a tenth of a chart's time."""
    ran: list[str] = []
    batches = Lane.batches

    def seen(lane: Lane, statement: str, size: int) -> Iterator[list[tuple[object, ...]]]:
        ran.append(statement)
        return batches(lane, statement, size)

    monkeypatch.setattr(Lane, "batches", seen)
    at.write("rows", [(h * HOUR, 1.0, f"t{n}", 1) for h in range(2) for n in range(terms) for _ in range(1 + n)])
    level = Level("h", HOURS, (), (Level("t", ByTerms("term", "keyword", 3)),))
    store = at.store()
    try:
        for _ in range(2):  # the second time it is known
            (found,) = await store.search([live(EVERYTHING, level)])
            assert {k: r.count for k, r in found["h", "t"].rows.items()} == {
                (h * HOUR, f"t{n}"): 1 + n for h in range(2) for n in range(terms)[-3:]
            }
            assert found["h", "t"].left_out == ({} if terms == 3 else {(h * HOUR,): 1 for h in range(2)})
    finally:
        await store.close()
    assert ["row_number()" in statement for statement in ran] == ranked


def test_few_kinds_of_searches_are_known_to_find_very_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each search may be of another kind."""
    monkeypatch.setattr(search, "MOST_WIDE", 2)
    wide = search.Wide()
    for kind in range(3):
        wide.add(kind)
    assert [kind in wide for kind in range(3)] == [False, False, True]


async def test_rows_of_several_values_are_in_each_bucket_once(at: Embedded) -> None:
    with duckdb.connect(str(at.file)) as c:
        c.execute("CREATE TABLE rows (ts TIMESTAMP, term VARCHAR[], size INTEGER[], value DOUBLE[])")
        c.execute("INSERT INTO rows VALUES ('1970-01-01', ['a', 'b', 'a', NULL], [5, 6, 15], [1, 2]), "
                  "('1970-01-01', [], NULL, NULL), ('1970-01-01', ['b'], [5], [NULL, 4])")  # fmt: skip
    inner = Level("s", ByWidth("size", 10), NUMBERS)
    (found,) = await asked(
        at, live(EVERYTHING, Level("t", ByTerms("term", "keyword", 9, "-"), NUMBERS, (inner,)), numbers=NUMBERS)
    )
    assert found[()].rows[()] == Row(3, (7.0, 3, 1.0, 4.0))
    assert found[("t",)].rows == {
        ("a",): Row(1, (3.0, 2, 1.0, 2.0)),
        ("b",): Row(2, (7.0, 3, 1.0, 4.0)),
        ("-",): Row(1, (0, 0, None, None)),
    }
    assert {k: r.count for k, r in found["t", "s"].rows.items()} == {
        ("a", 0.0): 1, ("a", 10.0): 1, ("b", 0.0): 2, ("b", 10.0): 1
    }  # fmt: skip
    assert await count(at, live(OneOf("term", ("a",)))) == 1
    assert await count(at, live(Not(Between("size", 10, 20)))) == 2


async def test_whole_numbers_are_added_up_without_loss(at: Embedded) -> None:
    with duckdb.connect(str(at.file)) as c:
        c.execute("CREATE TABLE rows AS SELECT TIMESTAMP '1970-01-01' AS ts, 4611686018427387905 AS size FROM range(3)")
    (found,) = await asked(at, live(numbers=(Number("sum", "size"), Number("max", "size"))))
    assert found[()].rows[()].numbers == (3 * 2**62 + 3, 2**62 + 1)


async def test_buckets_follow_the_clock_of_a_zone(at: Embedded) -> None:
    changes = [ms("2024-03-31T01:00"), ms("2024-10-27T01:00")]
    times = [c + d for c in changes for d in range(-30 * HOUR, 30 * HOUR, 37 * MINUTE)]
    at.write("rows", [(t, 1.0, "a", 1) for t in times])
    for group, ends in (
        ({"fixedInterval": "5h"}, (-(2**62), 2**62)),
        ({"calendarInterval": "1d"}, (changes[0] - DAY, changes[1] + 40 * DAY)),
        ({"calendarInterval": "1M"}, (0, changes[1] + 40 * DAY)),
    ):
        bounds = Bounds.of(with_groups(spec(), **group, timeZone="Europe/Berlin").groups.date_histogram)
        expected: dict[int, int] = {}
        for t in times:
            if ends[0] <= t < ends[1]:
                expected[bounds.round_down(t)] = expected.get(bounds.round_down(t), 0) + 1
        by = ByTime("ts", tuple(bounds.segments(*ends)))
        assert await buckets(at, by) == expected


async def tier(store: Store) -> Tier:
    (found,) = await store.tiers(["out", "other"])
    return found


async def test_rolled_and_live_rows_add_up_at_every_moment_of_a_job(at: Embedded) -> None:
    """Before the first run, after a stop in the middle, after the end, and once the raw data is gone."""
    rows: list[SourceRow] = [(h * HOUR + n, 2.0**n, f"t{n % 3}" if n else None, n) for h in range(40) for n in range(6)]
    at.write("rows", rows)
    whole = (len(rows), 40 * 63.0)
    store = at.store(page_seconds=0.000001)
    assert await store.tiers(["out"]) == []
    job = config()

    async def total() -> tuple[int, float, Tier]:
        found = await tier(store)
        cut = Instant(found.end_ms)
        begin = Instant(found.begin_ms)
        fetches = (
            rolled(Between("ts.date_histogram.timestamp", begin, cut), numbers=(Number("sum", "value.sum.value"),)),
            live(AtLeast(1, (Between("ts", cut, None), Between("ts", None, begin))), numbers=(Number("sum", "value"),)),
        )
        parts = [f[()].rows[()] for f in await store.search(fetches)]
        return sum(p.count for p in parts), sum(p.numbers[0] or 0 for p in parts), found

    halted = await at.run(job, store=store, halt_when=lambda run: run.progress.pages >= 2)
    assert halted.outcome == "Halted"
    *found, stopped = await total()
    assert tuple(found) == whole
    assert 0 < stopped.end_ms < 40 * HOUR
    assert stopped.end_ms % HOUR == 0
    assert stopped.kinds == {"ts": "date", "term": "keyword", "size": "double"}
    await at.completed(job, store=store)
    *found, ended = await total()
    assert tuple(found) == whole
    assert (ended.begin_ms, ended.end_ms) == (0, int(at.now.timestamp() * 1000))
    await store.close()
    with duckdb.connect(str(at.file)) as c:
        c.execute("DROP TABLE rows")
    store = at.store()
    *found, _ = await total()
    assert tuple(found) == whole
    terms = Level(
        "t",
        ByTerms("term.terms.value", "keyword", 10, "-"),
        (Number("sum", "value.avg.value"), Number("sum", "value.avg._count")),
    )
    (answer,) = await store.search([rolled(EVERYTHING, terms)])
    assert answer[("t",)].rows == {
        ("t0",): Row(40, (40 * 8.0, 40)),
        ("t1",): Row(80, (40 * 18.0, 80)),
        ("t2",): Row(80, (40 * 36.0, 80)),
        ("-",): Row(40, (40 * 1.0, 40)),
    }
    await store.close()


async def test_late_rows_of_a_bucket_are_in_all_its_groups_or_in_none(at: Embedded) -> None:
    """While their documents are rewritten, after a stop in the middle, and after the next run."""
    at.now = datetime(1970, 1, 3, tzinfo=UTC)
    first: list[SourceRow] = [(h * HOUR, 1.0, term, 1) for h in range(40) for term in "abc"]
    at.write("rows", first)
    job = config(spec(lookback="48h"))
    store = at.store(page_seconds=0.000001)
    await at.completed(job, store=store)
    await store.close()
    at.write("rows", first + [(h * HOUR, 10.0, term, 1) for h in range(40) for term in "abc"])
    store = at.store(page_seconds=0.000001)
    sums = (Number("sum", "value.sum.value"), Number("max", "value.max.value"))
    hours = ByTime(
        "ts.date_histogram.timestamp", tuple(Bounds.of(job.spec.groups.date_histogram).segments(0, 40 * HOUR))
    )
    old, new = Row(3, (3.0, 1.0)), Row(6, (33.0, 10.0))

    async def found() -> list[Row]:
        (part,) = await store.search([rolled(EVERYTHING, Level("h", hours, sums), numbers=sums)])
        of, whole = list(part[("h",)].rows.values()), part[()].rows[()]
        late = of.count(new)
        assert late + of.count(old) == 40  # each hour is wholly old or wholly new
        assert whole == Row(120 + 3 * late, (120 + 30.0 * late, 10.0 if late else 1.0))
        return of

    run = at.make_run(job, store=store)
    await halted_amid_late_rows(run, found)
    assert 3 * (await found()).count(new) == run.progress.rewritten < 120
    await at.completed(job, store=store)
    assert (await found()).count(new) == 40
    await store.close()


async def test_what_has_no_rows_is_empty(at: Embedded) -> None:
    fetches = (live(EVERYTHING, Level("h", HOURS)), rolled(EVERYTHING, Level("h", HOURS)), live(pattern="none/*.csv"))
    for found in await asked(at, *fetches):
        assert found[()].rows == {(): Row(0)}
        assert found.get(("h",), LevelBuckets()) == LevelBuckets()


async def test_a_missing_column_is_named(at: Embedded) -> None:
    at.write("rows", DATA)
    with pytest.raises(SourceInvalid, match="no column 'nope'"):
        await asked(at, live(Exists("nope")))


async def test_too_many_buckets_are_refused(at: Embedded) -> None:
    at.write("rows", [(n, 1.0, "a", n) for n in range(2000)])
    by = Level("s", ByTerms("size", "long", 5000))
    (found,) = await asked(at, live(EVERYTHING, by), max_buckets=2000)
    assert len(found[("s",)].rows) == 2000
    with pytest.raises(SearchTooLarge, match="more than 1999 buckets"):
        await asked(at, live(EVERYTHING, by), max_buckets=1999)


async def endless(at: Embedded) -> Fetch:
    """A search that takes long: its view multiplies rows."""
    with duckdb.connect(str(at.file)) as c:
        c.execute("CREATE TABLE rows AS SELECT make_timestamp(range * 1000000) AS ts, 'a' AS term, random() AS value, "
                  "range AS size FROM range(5_000_000)")  # fmt: skip
    return live(EVERYTHING, *(Level(f"s{i}", ByTerms("size", "long", 1)) for i in range(3)))


async def test_a_search_ends_when_it_is_cancelled_or_takes_too_long(at: Embedded) -> None:
    fetch = await endless(at)
    store = at.store()
    began = time.monotonic()
    with pytest.raises(SearchTooSlow):
        await store.search([fetch], seconds=0.2)
    assert time.monotonic() - began < 5
    task = asyncio.ensure_future(store.search([fetch]))
    await asyncio.sleep(0.2)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 5
    assert await count(at, live()) == 5_000_000
    await store.close()


async def test_searches_are_in_nobodys_way(at: Embedded) -> None:
    """A run goes on and is halted beside them, and a store that closes ends them."""
    fetch = await endless(at)
    store = at.store(page_seconds=0.05)
    searches = [asyncio.ensure_future(store.search([fetch])) for _ in range(12)]
    run = at.make_run(config(), store=store)
    task = asyncio.ensure_future(run.index())
    while run.progress.pages < 1:  # noqa: ASYNC110  # it tells nobody
        await asyncio.sleep(0.01)
    began = time.monotonic()
    run.halt()
    assert (await task).outcome == "Halted"
    assert time.monotonic() - began < 5
    assert not all(search.done() for search in searches)
    began = time.monotonic()
    await store.close()
    ended = await asyncio.gather(*searches, return_exceptions=True)
    assert time.monotonic() - began < 5
    assert any(isinstance(each, StoreUnavailable) for each in ended)


async def test_a_store_that_another_process_leads_is_not_opened(at: Embedded) -> None:
    at.write("rows", DATA)
    store = at.store(may_run=lambda: False)
    with pytest.raises(StoreElsewhere):
        await store.search([live()])
    with pytest.raises(StoreElsewhere):
        await store.tiers(["out"])
    assert not at.base.is_open
    await store.close()


async def test_numbers_in_csv_files_are_spelled_as_in_the_result(at: Embedded) -> None:
    """Digits in a column of terms are texts there, until the result has numbers for it."""
    (at.folder / "rows.csv").write_text("ts,term,value,size\n1970-01-01T00:00:00,7,1,1\n1970-01-01T01:00:00,08,1,1\n")
    at.now = datetime(1970, 1, 2, tzinfo=UTC)
    assert await buckets(at, ByTerms("term", "keyword", 9), pattern="rows.csv") == {"7": 1, "08": 1}
