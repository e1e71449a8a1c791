"""Searches over real indices: right answers by hand over rolled and live documents, at every moment of a job."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from rollup_operator.query.times.grids import TimeGrid
from rollup_operator.rollup.bounds import Bounds
from rollup_operator.stores.errors import DocumentsChanged, SearchTooLarge, SearchTooSlow, SourceInvalid
from rollup_operator.stores.opensearch.records import ALIAS, document_id
from rollup_operator.stores.search import (
    EVERYTHING,
    AtLeast,
    Between,
    ByPredicate,
    ByTerms,
    ByTime,
    Documents,
    Exists,
    Fetch,
    Instant,
    Level,
    LevelBuckets,
    Not,
    Number,
    Partials,
    Predicate,
    Row,
    Rows,
    Tier,
)
from support.clustered import Clustered, clustered
from support.embedded import Row as SourceRow
from support.embedded import spec, with_groups
from support.rounding import DAY, HOUR, MINUTE, ms
from support.search_cases import CONDITIONS, DATA, GROUPINGS, NESTED, NESTED_ROWS, NUMBERS, halted_amid_late_rows
from support.store_http import StoreHttp, unique

TIME = "ts.date_histogram.timestamp"


@pytest.fixture
async def at(opensearch: StoreHttp) -> AsyncIterator[Clustered]:
    async with clustered(opensearch) as it:
        yield it


def live(at: Clustered, where: Predicate = EVERYTHING, *levels: Level, **more: Any) -> Fetch:
    return Fetch(Rows(at.source, spec(at.source), "job"), where, None, levels=levels, **more)


def rolled(at: Clustered, where: Predicate = EVERYTHING, *levels: Level, job: str = "job", **more: Any) -> Fetch:
    return Fetch(Documents(at.target, job), where, "ts.date_histogram._count", levels=levels, **more)


def counts(found: Partials, *path: str) -> dict[Any, int]:
    return {keys: row.count for keys, row in found[path].rows.items()}


@pytest.mark.newest_stores
async def test_conditions_groupings_and_numbers(node: StoreHttp) -> None:
    async with clustered(node) as at:
        at.write(DATA)
        found = await at.store.search([live(at, where) for where, _ in CONDITIONS])
        assert [(w, f[()].rows[()].count) for (w, _), f in zip(CONDITIONS, found, strict=True)] == CONDITIONS
        (one,) = await at.store.search([live(at, EVERYTHING, Level("g", ByPredicate(tuple(w for w, _ in CONDITIONS))))])
        assert counts(one, "g") == {(i,): n for i, (_, n) in enumerate(CONDITIONS) if n}
        found = await at.store.search([live(at, EVERYTHING, Level("g", by)) for by, _ in GROUPINGS])
        for (by, expected), partials in zip(GROUPINGS, found, strict=True):
            assert counts(partials, "g") == {(key,): n for key, n in expected.items()}, by
        (one,) = await at.store.search([live(at, EVERYTHING, NESTED, numbers=NUMBERS)])
        assert {path: buckets.rows for path, buckets in one.items()} == NESTED_ROWS
        assert not any(buckets.left_out for buckets in one.values())


async def test_buckets_follow_the_clock_of_a_zone(at: Clustered) -> None:
    changes = [ms("2024-03-31T01:00"), ms("2024-10-27T01:00")]
    times = [c + d for c in changes for d in range(-30 * HOUR, 30 * HOUR, 37 * MINUTE)]
    at.write([(t, 1.0, "a", 1) for t in times])
    begin, end = changes[0] - DAY + 1, changes[1] + DAY
    expected: list[dict[Any, int]] = []
    fetches = []
    for group in ({"fixedInterval": "5h"}, {"calendarInterval": "1d"}, {"calendarInterval": "1M"}):
        bounds = Bounds.of(with_groups(spec(), **group, timeZone="Europe/Berlin").groups.date_histogram)
        for where in (EVERYTHING, Between("ts", Instant(begin), Instant(end))):
            fetches.append(live(at, where, Level("h", ByTime("ts", tuple(bounds.segments(begin, end))))))
            expected.append({})
            for t in times:
                if begin <= t < end:
                    key = (bounds.round_down(t),)
                    expected[-1][key] = expected[-1].get(key, 0) + 1
    months = TimeGrid(Bounds.of(with_groups(spec(), calendarInterval="1M").groups.date_histogram), offset=-DAY)
    fetches.append(live(at, EVERYTHING, Level("h", ByTime("ts", months.segments(begin, end)))))
    expected.append(Counter((months.round_down(t),) for t in times if begin <= t < end))
    assert [counts(found, "h") for found in await at.store.search(fetches)] == expected


async def test_a_bucket_that_a_change_of_the_clock_cuts_has_its_own_most_frequent_terms(at: Clustered) -> None:
    """On the day of the change `b` comes second before it and after it, and first in all of it."""
    change = ms("2024-03-31T01:00")
    before, after = (["a"] * 3 + ["b"] * 2, ["c"] * 3 + ["b"] * 2)
    at.write([(change - 1, 1.0, term, 1) for term in before] + [(change, 1.0, term, 1) for term in after])
    bounds = Bounds.of(with_groups(spec(), calendarInterval="1d", timeZone="Europe/Berlin").groups.date_histogram)
    by = ByTime("ts", tuple(bounds.segments(change - 3 * DAY, change + 3 * DAY)))
    (found,) = await at.store.search(
        [live(at, EVERYTHING, Level("d", by, (), (Level("t", ByTerms("term", "keyword", 1)),)))]
    )
    day = bounds.round_down(change)
    assert found["d", "t"] == LevelBuckets({(day, "b"): Row(4)}, {(day,): 6})


async def tier(at: Clustered) -> Tier:
    (found,) = await at.store.tiers([at.target, "nothing"])
    return found


async def total(at: Clustered) -> tuple[int, float]:
    """What is rolled and what is live together."""
    found = await tier(at)
    begin, cut = Instant(found.begin_ms), Instant(found.end_ms)
    outside = AtLeast(1, (Between("ts", cut, None), Between("ts", None, begin), Not(Exists("ts"))))
    parts = await at.store.search([
        rolled(at, Between(TIME, begin, cut), numbers=(Number("sum", "value.sum.value"),)),
        live(at, outside, numbers=(Number("sum", "value"),)),
    ])  # fmt: skip
    rows = [part[()].rows[()] for part in parts]
    return sum(row.count for row in rows), sum(row.numbers[0] or 0 for row in rows)


@pytest.mark.newest_stores
async def test_rolled_and_live_documents_add_up_at_every_moment_of_a_job(node: StoreHttp) -> None:
    """Before the first run, after a stop in the middle, after the end, and once the raw data is gone.

    The rollup index is refreshed by nobody but those who need to see it.
    """
    async with clustered(node) as at:
        rows: list[SourceRow] = [
            (h * HOUR + n, 2.0**n, f"t{n % 3}" if n else None, n) for h in range(40) for n in range(6)
        ]
        at.write(rows)
        whole = (len(rows), 40 * 63.0)
        assert await at.store.tiers([at.target]) == []
        job = at.job(pageSize=7, rollupIndexSettings={"refreshInterval": "-1"})
        halted = await at.run(job, halt_when=lambda run: run.progress.pages >= 4)
        assert halted.outcome == "Halted"
        stopped = await tier(at)
        assert 0 < stopped.end_ms < 40 * HOUR
        assert stopped.owner == job.owner
        assert stopped.kinds == {"ts": "date", "term": "keyword", "size": "double"}
        assert await total(at) == whole
        claim = await at.completed(job)
        assert (await tier(at)).end_ms == claim.watermark_ms
        assert await total(at) == whole
        node.delete(at.source)
        assert await total(at) == whole
        terms = (Number("sum", "value.avg.value"), Number("sum", "value.avg._count"))
        levels = [
            Level(n, ByTerms("term.terms.value", "keyword", limit, "-"), terms) for n, limit in (("t", 9), ("u", 2))
        ]
        (found,) = await at.store.search([rolled(at, EVERYTHING, *levels)])
        assert found[("t",)].rows == {
            ("t0",): Row(40, (40 * 8.0, 40.0)),
            ("t1",): Row(80, (40 * 18.0, 80.0)),
            ("t2",): Row(80, (40 * 36.0, 80.0)),
            ("-",): Row(40, (40 * 1.0, 40.0)),
        }
        assert (counts(found, "u"), found[("u",)].left_out) == ({("t1",): 80, ("t2",): 80}, {(): 80})


async def test_late_rows_of_a_group_are_in_all_its_numbers_or_in_none(at: Clustered) -> None:
    """While their documents are rewritten, after a stop in the middle, and after the next run, where others refresh."""
    at.now = datetime(1970, 1, 3, tzinfo=UTC)
    groups = [(h, term) for h in range(40) for term in "abc"]
    at.write([(h * HOUR, 1.0, term, 1) for h, term in groups])
    job = at.job(pageSize=20, lookback="48h", rollupIndexSettings={"refreshInterval": "-1"})
    await at.completed(job)
    at.write([(h * HOUR, 10.0, term, 1) for h, term in groups])
    sums = (Number("sum", "value.sum.value"), Number("max", "value.max.value"))
    each = Level("t", ByTerms("term.terms.value", "keyword", 10), sums)
    hours = Level("h", ByTime(TIME, tuple(Bounds.of(job.spec.groups.date_histogram).segments(0, 40 * HOUR))), sums)
    old, new = Row(1, (1.0, 1.0)), Row(2, (11.0, 10.0))

    async def found() -> list[Row]:
        await asyncio.to_thread(at.node.refresh, at.target)
        (part,) = await at.store.search([rolled(at, EVERYTHING, replace(hours, levels=(each,)), numbers=sums)])
        of, whole = part[("h", "t")].rows, part[()].rows[()]
        assert of.keys() == {(h * HOUR, term) for h, term in groups}
        assert all(row in (old, new) for row in of.values())
        # What is above is of the same rows: the documents that one search sees are those of one moment.
        late = sum(row == new for row in of.values())
        assert whole == Row(120 + late, (120 + 10.0 * late, 10.0 if late else 1.0))
        return list(of.values())

    run = at.begin(job)
    await halted_amid_late_rows(run, found)
    assert (await found()).count(new) == run.progress.rewritten < len(groups)
    await at.completed(job)
    assert (await found()).count(new) == len(groups)


async def test_documents_that_a_run_has_not_refreshed_yet_are_not_said_to_be_seen(at: Clustered) -> None:
    """While a run writes, and after a halt between its last commit and its refresh."""
    rows: list[SourceRow] = [(h * HOUR, 1.0, "a", 1) for h in range(600)]
    at.write(rows)
    run = at.begin(at.job(pageSize=10, rollupIndexSettings={"refreshInterval": "-1"}))
    task = asyncio.ensure_future(run.index())
    seen = set()
    refreshed = False
    while not task.done():
        if run.progress.pages >= 3 and not refreshed:  # somebody else does, too: there is a first document
            await asyncio.to_thread(at.node.refresh, at.target)
            refreshed = True
        for each in await at.store.tiers([at.target]):
            (part,) = await at.store.search([rolled(at, Between(TIME, Instant(0), Instant(each.end_ms)))])
            assert part[()].rows[()].count == min(each.end_ms, 600 * HOUR) // HOUR
            seen.add(each.end_ms)
    assert (await task).outcome == "Completed"
    assert max(seen) > 0
    assert await total(at) == (600, 600.0)


@pytest.mark.newest_stores
@pytest.mark.parametrize(
    "interval", [{"calendarInterval": "1d", "timeZone": "Europe/Berlin"}, {"calendarInterval": "1w"}]
)
async def test_a_bucket_that_1970_cuts_is_found_by_its_time(node: StoreHttp, interval: dict[str, str]) -> None:
    async with clustered(node) as at:
        at.write([(HOUR, 1.0, "a", 1), (2 * HOUR, 2.0, "b", 1), (60 * DAY, 4.0, None, 1)])
        spec = with_groups(at.job().spec, **interval)
        bounds = Bounds.of(spec.groups.date_histogram)
        first = bounds.round_down(0)
        await at.completed(replace(at.job(), spec=spec))
        found = await tier(at)
        assert found.begin_ms == first < 0
        assert await total(at) == (3, 7.0)
        times = Level("t", ByTime(TIME, tuple(bounds.segments(found.begin_ms, 70 * DAY))))
        before, every = (
            Between(TIME, Instant(first), Instant(bounds.next_edge(0))),
            Between(TIME, None, Instant(DAY * 70)),
        )
        (one, all_of_it) = await at.store.search([rolled(at, before, times), rolled(at, every, times)])
        assert counts(one, "t") == {(first,): 2}
        assert counts(all_of_it, "t") == {(first,): 2, (bounds.round_down(60 * DAY),): 1}
        settled = await at.store.settle(replace(at.job(), spec=spec), "me", delete_documents=True)
        assert (settled.kept, at.documents()) == (None, [])


@pytest.mark.newest_stores
async def test_documents_that_are_deleted_while_they_are_searched_are_no_short_answer(node: StoreHttp) -> None:
    async with clustered(node) as at:
        at.write(DATA)
        job = at.job(deletionPolicy="Delete")
        await at.completed(job)
        found = await tier(at)
        fetch = replace(rolled(at), relation=Documents(at.target, "job", found.place, found.end_ms))
        assert (await at.store.search([fetch]))[0][()].rows[()].count == 7
        settled = await at.store.settle(job, "me", delete_documents=True)
        assert settled.claim is not None
        with pytest.raises(DocumentsChanged):
            await at.store.search([fetch])
        await at.completed(at.job(uid="2"))
        again = await tier(at)
        assert again.place == found.place  # it is still the same index
        assert (await at.store.search([fetch]))[0][()].rows[()].count == 7
        node.delete(at.target)
        with pytest.raises(DocumentsChanged):
            await at.store.search([fetch])


async def test_documents_of_ours_whose_record_is_gone_are_not_taken_for_elasticsearchs(at: Clustered) -> None:
    at.write(DATA)
    await at.completed()
    assert not (await tier(at)).lost
    record = quote(document_id((at.target, "job")), safe="")
    at.node.call("DELETE", f"/{ALIAS}/_doc/{record}?refresh=true")
    found = await tier(at)
    assert (found.owner, found.lost) == (None, True)


@pytest.mark.newest_stores
@pytest.mark.newest_stores
async def test_a_pattern_that_jobs_may_have_no_longer_is_searched_as_the_cluster_reads_it(at: Clustered) -> None:
    """Else nothing of the job, its documents included, would be found after an upgrade."""
    at.write(DATA, f"{at.source}-{datetime.now(UTC):%Y.%m.%d}")
    pattern = f"<{at.source}-{{now{{yyyy.MM.dd}}}}>,{at.source}-none*"
    fetch = Fetch(Rows(pattern, spec(pattern), "job"), EVERYTHING, None)
    assert (await at.store.search([fetch]))[0][()].rows[()].count == len(DATA)
    files = f"../{at.source}"
    with pytest.raises(SourceInvalid, match="names files"):
        await at.store.search([Fetch(Rows(files, spec(files), "job"), EVERYTHING, None)])


async def test_a_single_index_that_is_hidden_by_its_settings_is_not_read(node: StoreHttp) -> None:
    """The job's wildcard does not find it, so whoever names it alone does not either."""
    async with clustered(node) as at:
        hidden, shown, stem = f"{at.source}-h", f"{at.source}-s", f"{at.source}*"
        at.write(DATA, hidden, **{"index.hidden": True})
        at.write(DATA[:2], shown)
        node.call("POST", "/_aliases", {"actions": [{"add": {"index": shown, "alias": f"{at.source}-a"}}]})

        async def count(names: str, pattern: str = stem) -> int:
            fetch = Fetch(Rows(names, spec(pattern), "job"), EVERYTHING, None)
            return (await at.store.search([fetch]))[0][()].rows[()].count

        assert await count(stem) == await count(shown) == await count(f"{at.source}-a") == 2
        assert await count(hidden) == await count(f"{at.source}-none") == 0
        assert await count(f"{hidden},{shown}") == 2
        assert await count(hidden, f"{hidden},other") == len(DATA)  # the job names it


async def test_what_elasticsearch_rolled_up_is_found_without_a_claim(at: Clustered) -> None:
    at.write(DATA)
    await at.completed(at.job(job_id="theirs"))
    old = at.target
    at.target = unique("old")
    mapping = at.node.mapping(old)
    at.node.call("PUT", f"/{at.target}", {"settings": {"number_of_replicas": 0}, "mappings": mapping})
    at.node.copy(old, at.target)
    (found,) = await at.store.tiers([at.target])
    assert (found.key, found.begin_ms, found.end_ms) == ((at.target, "theirs"), 0, 6 * HOUR)
    assert found.owner is None
    assert found.spec.groups.date_histogram.fixed_interval == "1h"
    assert found.kinds == {"ts": "date", "term": "keyword", "size": "double"}
    (part,) = await at.store.search([rolled(at, EVERYTHING, job="theirs")])
    assert part[()].rows[()].count == 7


async def test_an_index_that_was_replaced_holds_nothing_of_the_job(at: Clustered) -> None:
    at.write(DATA)
    await at.completed(at.job())
    mapping = at.node.mapping(at.target)
    at.node.delete(at.target)
    assert await at.store.tiers([at.target]) == []
    at.node.call("PUT", f"/{at.target}", {"settings": {"number_of_replicas": 0}, "mappings": mapping})
    assert (await tier(at)).end_ms == 0


async def test_long_answers_are_bounded_and_hold_up_nobody(at: Clustered) -> None:
    at.write([(n // 100 * HOUR, float(n), f"t{n % 100}", n) for n in range(20_000)])
    inner = Level("t", ByTerms("term", "keyword", 100), NUMBERS)
    (found,) = await at.store.search([live(at, EVERYTHING, Level("h", ByTime("ts", tuple(
        Bounds.of(spec().groups.date_histogram).segments(0, 300 * HOUR))), (), (inner,)))])  # fmt: skip
    assert counts(found, "h", "t") == {(h * HOUR, f"t{n}"): 1 for h in range(200) for n in range(100)}
    assert found["h", "t"].rows[7 * HOUR, "t5"].numbers == (705.0, 1, 705.0, 705.0)
    by = Level("s", ByTerms("size", "long", 5000))
    with pytest.raises(SearchTooLarge, match="more than 100 buckets"):
        await at.store.search([live(at, EVERYTHING, by)], max_buckets=100)
    at.node.call("PUT", "/_cluster/settings", {"transient": {"search.max_buckets": 1000}})
    try:
        with pytest.raises(SearchTooLarge):
            await at.store.search([live(at, EVERYTHING, by)])
    finally:
        at.node.call("PUT", "/_cluster/settings", {"transient": {"search.max_buckets": None}})


async def test_a_search_ends_in_the_cluster_when_it_is_cancelled(at: Clustered) -> None:
    at.write([(n * MINUTE, float(n), f"t{n}", n) for n in range(5000)])
    deep = Level("a", ByTerms("term", "keyword", 5000), (), (Level("b", ByTerms("size", "long", 5000)),))
    fetch = live(at, EVERYTHING, *(Level(f"{i}", deep.by, NUMBERS, (deep,)) for i in range(20)))
    with pytest.raises(SearchTooSlow):
        await at.store.search([fetch], seconds=0.01)
    task = asyncio.ensure_future(at.store.search([fetch] * 4))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 5
    at.node.wait(lambda node: not node.tasks("rollup-operator/search"), seconds=5)
