"""Pages from a real cluster: the documents that the same rows come to in the embedded store, whatever the page size."""

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from rollup_operator.rollup.bounds import Bounds, periods
from rollup_operator.rollup.documents import document_id
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.duckdb.target.export import documents_of as exported
from rollup_operator.stores.opensearch.source import sources
from rollup_operator.stores.opensearch.transport.client import Cluster
from support.embedded import Embedded, Row, config, spec
from support.odd_clocks import INTERVALS as ODD_INTERVALS
from support.odd_clocks import buckets, times_around
from support.rounding import DAY, HOUR, MINUTE, ms
from support.store_faults import Answer, CutAfter, CutBefore, CutInside, CutSent
from support.store_http import StoreHttp, unique
from support.store_jobs import connected
from support.store_proxy import StoreProxy
from support.store_reading import AtOnce, Documents, documents_of, load, opaque_id_of, pages_of, some_rows

START = ms("2024-03-20T00:00")
END = ms("2030-01-01T00:00")


@pytest.fixture
async def cluster(opensearch: StoreHttp) -> AsyncIterator[Cluster]:
    async with connected(opensearch.url) as made:
        yield made


async def embedded_documents(folder: Path, rows: list[Row], job: JobConfig) -> Documents:
    """What the embedded store makes of the rows."""
    store = Embedded(folder)
    store.write("rows", rows)
    embedded = config(job.spec.model_copy(update={"index_pattern": "rows"}), job.job_id)
    await store.completed(embedded)
    return dict(exported(store.export(job)))


def same(found: Documents, expected: Documents, rows: list[Row]) -> None:
    """Assert that documents are the same; sums as near as adding in another order can come."""
    assert found.keys() == expected.keys()
    tolerance = 1e-12 * math.fsum(abs(v) for _, v, *_ in rows if v is not None)
    for identity, document in expected.items():
        ours = found[identity]
        assert ours.keys() == document.keys()
        for key, value in document.items():
            if key.endswith((".sum.value", ".avg.value")):
                assert math.isclose(ours[key], value, rel_tol=1e-12, abs_tol=tolerance), (identity, key)
            else:
                assert (type(ours[key]), ours[key]) == (type(value), value), (identity, key)


@pytest.mark.parametrize(("page_size", "parallelism"), [(10_000, 1), (20, 1), (50, 4), (20, 16)])
async def test_pages_hold_what_the_embedded_store_makes_of_the_same_rows(
    opensearch: StoreHttp, cluster: Cluster, tmp_path: Path, page_size: int, parallelism: int
) -> None:
    rows = some_rows(2000, START, 14 * DAY)
    index = unique("events")
    load(opensearch, index, rows)
    job = config(spec(index, "out", pageSize=page_size, parallelism=parallelism))
    found = await documents_of(pages_of(cluster, job, END))
    same(found, await embedded_documents(tmp_path, rows, job), rows)


ZONES = [
    ("Europe/Berlin", "2024-03-20T00:00", "2024-10-20T00:00"),
    ("America/New_York", "2024-03-05T00:00", "2024-10-28T00:00"),
    ("Australia/Lord_Howe", "2024-04-01T00:00", "2024-10-01T00:00"),
    ("Asia/Kathmandu", "1985-12-25T00:00", "1986-10-20T00:00"),
    ("America/St_Johns", "2009-03-01T00:00", "2009-10-25T00:00"),
    ("Africa/Monrovia", "1972-01-01T00:00", "1972-10-20T00:00"),
]
INTERVALS = ["1h", "90m", "5h", "7d", "1d", "hour", "week", "month", "quarter"]


@pytest.mark.parametrize("zone", ZONES, ids=lambda z: z[0])
async def test_buckets_follow_the_clock_of_the_zone(
    opensearch: StoreHttp, cluster: Cluster, zone: tuple[str, str, str]
) -> None:
    where, *about = zone
    chance = random.Random(3)
    times = [ms(begin) + chance.randrange(18 * DAY // MINUTE) * MINUTE for begin in about for _ in range(100)]
    changes = [p.start for p in periods(ZoneInfo(where)) if abs(p.start - ms(about[0])) < 400 * DAY]
    times += [c + d for c in changes for d in range(-36 * HOUR, 36 * HOUR, 25 * MINUTE)]
    times += [c + d for c in changes for d in (-1, 0, 1)]
    index = unique("events")
    load(opensearch, index, [(t, 1.0, None, None) for t in times])
    for interval in INTERVALS:
        field = "fixedInterval" if interval[0].isdigit() else "calendarInterval"
        group = {"field": "ts", field: interval, "timeZone": where}
        job = config(spec(index, groups={"dateHistogram": group}, metrics=[], pageSize=500))
        found = await documents_of(pages_of(cluster, job, END))
        counts = {d["ts.date_histogram.timestamp"]: d["ts.date_histogram._count"] for d in found.values()}
        bounds = Bounds.of(job.spec.groups.date_histogram)
        assert counts == Counter(map(bounds.round_down, times)), interval


FEW_ODD_CLOCKS = [
    "America/Havana",  # at midnight, back over it
    "Asia/Beirut",  # at midnight, ahead
    "Asia/Pyongyang",  # another offset for good, back over midnight
    "Antarctica/Casey",  # three hours, back over midnight
    "Pacific/Apia",  # a day that there was not
    "Antarctica/Troll",  # two hours
    "America/Noronha",  # a summer of a week
]
"""One of each kind, without those of ZONES: in an embedded store all are tried."""


@pytest.mark.parametrize("zone", FEW_ODD_CLOCKS)
async def test_buckets_are_those_that_an_odd_clock_shows(opensearch: StoreHttp, cluster: Cluster, zone: str) -> None:
    times = times_around(zone)
    index = unique("events")
    load(opensearch, index, [(t, 1.0, None, None) for t in times])
    for interval in ODD_INTERVALS:
        group = {"field": "ts", "timeZone": zone, **interval}
        job = config(spec(index, groups={"dateHistogram": group}, metrics=[], pageSize=500))
        found = await documents_of(pages_of(cluster, job, END))
        counts = {d["ts.date_histogram.timestamp"]: d["ts.date_histogram._count"] for d in found.values()}
        bounds = Bounds.of(job.spec.groups.date_histogram)
        assert counts == Counter(map(bounds.round_down, times)) == buckets(times, zone, interval), interval


NUMBERS: dict[str, list[Any]] = {
    "long": [-(2**63), -1, 0, 1, 2**53 + 1, 2**63 - 1],
    "integer": [-5, 0, 7],
    "double": [-1e308, -0.5, 0.0, 1.0, 1e-300, 5e-324, 1e308],
    "float": [-0.5, 0.1, 2.0**100],
    "half_float": [-0.5, 0.1, 3.0],
    "scaled_float": [0.07, 12.34, -3.0],
}


@pytest.mark.parametrize("kind", NUMBERS)
async def test_numbers_are_groups_and_metrics(node: StoreHttp, kind: str) -> None:
    """Every kind of number comes as what the index keeps of it, a group with whole numbers as whole numbers."""
    values = NUMBERS[kind]
    field = {"type": kind, "scaling_factor": 100} if kind == "scaled_float" else {"type": kind}
    index = node.create(unique("events"), {"ts": "date", "n": field})
    node.load(index, [{"ts": i % 2 * HOUR, "n": v} for i, v in enumerate(values)])
    without = node.create(unique("events"), {"ts": "date"})  # where nothing is known of the field
    node.load(without, [{"ts": 1}])
    group = {"dateHistogram": {"field": "ts", "fixedInterval": "1h"}, "terms": {"fields": ["n"]}}
    metrics = [{"field": "n", "metrics": ["min", "max", "sum", "avg", "value_count"]}]
    async with connected(node.url) as cluster:
        job = config(spec(f"{index},{without}", groups=group, metrics=metrics, pageSize=2))
        fields = await sources.check(cluster, job, opaque_id=opaque_id_of(job))
        found = await documents_of(pages_of(cluster, job, END, fields=fields))
    rounded = {"float": 0.10000000149011612, "half_float": 0.0999755859375}
    whole = kind in ("long", "integer")
    assert len(found) == len(values) + 1
    for i, v in enumerate(values):
        kept = rounded.get(kind, v) if v == 0.1 else v
        key = [("ts.date_histogram", i % 2 * HOUR), ("n.terms", kept if whole else float(kept))]
        document = found[document_id("job", key)]
        assert {document[f"n.{m}.value"] for m in ("min", "max", "sum", "avg")} == {float(kept)}
    assert found[document_id("job", [("ts.date_histogram", 0), ("n.terms", None)])]["n.sum.value"] == 0.0


@pytest.mark.parametrize("kind", ["date", "date_nanos"])
async def test_metrics_of_times_are_milliseconds(node: StoreHttp, kind: str) -> None:
    index = node.create(unique("events"), {"ts": "date_nanos", "seen": kind})
    seen = [START, START + 1, START + 12345]
    node.load(index, [{"ts": START, "seen": t} for t in seen])
    for metrics in (["min", "max", "value_count"], ["max"]):
        job = config(
            spec(
                index,
                groups={"dateHistogram": {"field": "ts", "fixedInterval": "1h"}},
                metrics=[{"field": "seen", "metrics": metrics}],
            )
        )
        async with connected(node.url) as cluster:
            (document,) = (await documents_of(pages_of(cluster, job, END))).values()
        expected = {"min": seen[0], "max": seen[-1], "value_count": 3}
        assert {m: document[f"seen.{m}.value"] for m in metrics} == {m: float(expected[m]) for m in metrics}


async def test_a_sum_too_large_for_a_number_is_left_out(node: StoreHttp) -> None:
    index = node.create(unique("events"), {"ts": "date", "value": "double"})
    node.load(index, [{"ts": 0, "value": v} for v in (1e308, 1e308, -5.0)])
    metrics = [{"field": "value", "metrics": ["min", "max", "sum", "avg", "value_count"]}]
    job = config(spec(index, groups={"dateHistogram": {"field": "ts", "fixedInterval": "1h"}}, metrics=metrics))
    async with connected(node.url) as cluster:
        (document,) = (await documents_of(pages_of(cluster, job, END))).values()
    assert {k: v for k, v in document.items() if k.startswith("value.")} == {
        "value.min.value": -5.0, "value.max.value": 1e308, "value.value_count.value": 3.0
    }  # fmt: skip


@pytest.mark.slow
async def test_a_page_that_is_given_up_is_given_up_by_the_cluster(node: StoreHttp) -> None:
    index, slow = node.create(unique("events"), {"ts": "date", "term": "keyword"}), unique("slow")
    node.load(index, ({"ts": i * MINUTE, "term": "a"} for i in range(30_000)))
    work = "int s = 0; for (int i = 0; i < 200000; i++) { s += i % 7; } return s >= 0;"
    script = {"script": {"script": {"source": work}}}
    node.call("POST", "/_aliases", {"actions": [{"add": {"index": index, "alias": slow, "filter": script}}]})
    job = config(spec(slow, groups={"dateHistogram": {"field": "ts", "fixedInterval": "1h"}}, metrics=[]))
    async with connected(node.url) as cluster:
        began = time.monotonic()
        pages = pages_of(cluster, job, END)
        assert (await pages.next(None)).buckets == 500
        uncancelled = time.monotonic() - began

        pages = pages_of(cluster, job, END)
        reading = asyncio.ensure_future(pages.next(None))
        while not await asyncio.to_thread(node.tasks, opaque_id_of(job)):
            assert not reading.done()
        reading.cancel()
        began = time.monotonic()
        await asyncio.wait({reading})
        assert reading.cancelled()
        assert pages.unclean
        assert cluster.in_flight(opaque_id_of(job)) is None
        while await asyncio.to_thread(node.tasks, opaque_id_of(job)):
            assert time.monotonic() - began < uncancelled * 0.8


TOO_MUCH = {
    "breaker": (429, "circuit_breaking_exception"),
    "queue": (429, "es_rejected_execution_exception"),
    "buckets": (503, "too_many_buckets_exception"),
    "buckets of newer ones": (400, "too_many_buckets_exception"),
    "time": (408, "search_timeout_exception"),
    "cancelled": (500, "task_cancelled_exception"),
}


@pytest.mark.parametrize("trouble", TOO_MUCH)
@pytest.mark.parametrize("parallelism", [1, 4])
async def test_a_storm_of_refusals_costs_nothing_but_time(
    opensearch: StoreHttp, trouble: str, parallelism: int
) -> None:
    index = unique("events")
    load(opensearch, index, [(START + i * HOUR, 1.0, "a", 1) for i in range(500)])
    job = config(spec(index, pageSize=40, parallelism=parallelism))
    async with StoreProxy(opensearch.url) as proxy, connected(proxy.url) as cluster:
        for nth in (1, 3, 4, 9):
            proxy.on("POST", "_search", fault=Answer(*TOO_MUCH[trouble], "too much"), nth=nth)
        pages = pages_of(cluster, job, END, patience=AtOnce)
        assert len(await documents_of(pages)) == 500
        assert pages.page_size < 40
        assert pages.unclean  # other shards may be at it still when one has refused


@pytest.mark.parametrize("cut", [CutBefore, CutSent, CutAfter, CutInside])
async def test_a_cut_connection_is_made_again(opensearch: StoreHttp, cut: type[CutBefore]) -> None:
    index = unique("events")
    load(opensearch, index, [(START + i * HOUR, 1.0, "a", 1) for i in range(200)])
    job = config(spec(index, pageSize=40))
    async with StoreProxy(opensearch.url) as proxy, connected(proxy.url) as cluster:
        for nth in (2, 4):
            proxy.on("POST", "_search", fault=cut(), nth=nth)
        pages = pages_of(cluster, job, END, patience=AtOnce)
        assert len(await documents_of(pages)) == 200
        assert pages.unclean
