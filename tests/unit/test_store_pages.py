"""The way through a run's pages, over rows in memory that answer as a cluster does."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aiohttp
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollup_operator.model.time_values import parse_time_value
from rollup_operator.rollup.bounds import Bounds
from rollup_operator.rollup.documents import time_of
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.rollup.page_size import PAGE_BYTES, PageSize
from rollup_operator.stores.base import Source
from rollup_operator.stores.opensearch.source.pages import Pages
from rollup_operator.stores.opensearch.transport.answers import Value
from rollup_operator.stores.opensearch.transport.client import Cluster
from rollup_operator.stores.opensearch.transport.errors import Odd, Overloaded, Unanswered, classify
from support.embedded import config, spec
from support.rounding import DAY, HOUR, ms
from support.store_reading import AtOnce, documents_of, each, pages_of

START = ms("2024-03-20T00:00")
Row = tuple[int, str | None]
Trouble = Callable[[Mapping[str, Any]], Exception | None]
"""What goes wrong with a search, or None."""


async def no_session() -> aiohttp.ClientSession:
    raise AssertionError


class Rows(Cluster):
    """Answers searches over rows. Each waits a few turns of the event loop, so that several are under way."""

    def __init__(self, rows: Sequence[Row], trouble: Trouble = lambda _: None, seed: int = 0) -> None:
        super().__init__(("http://nowhere",), no_session)
        self.rows, self.trouble, self.chance = sorted(rows, key=lambda r: r[0]), trouble, random.Random(seed)
        self.now = self.most = self.searches = 0
        self.looked_at = 0

    async def call(self, method: str, path: str, **more: Any) -> Any:
        self.now += 1
        self.searches += 1
        self.most = max(self.most, self.now)
        try:
            for _ in range(self.chance.randrange(6)):
                await asyncio.sleep(0)
            if (error := self.trouble(more["body"])) is not None:
                raise error
            return Value(more["parse"](orjson.dumps(self._answer(more["body"]))), more["doing"])
        finally:
            self.now -= 1

    def _answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        of, within = body["aggregations"]["rollup"]["composite"], body["query"]["range"]["ts"]
        time = of["sources"][0]["0"]["date_histogram"]
        step, after = int(parse_time_value(time["fixed_interval"], "").milliseconds), of.get("after")
        shift = -int(time.get("offset", "0ms")[:-2])
        if "time_zone" in time:
            sign, hours, minutes = time["time_zone"][0], int(time["time_zone"][1:3]), int(time["time_zone"][4:6])
            shift = (hours * 60 + minutes) * 60_000 * (-1 if sign == "-" else 1)
        seen = [r for r in self.rows if within["gte"] <= r[0] < within["lt"]]
        self.looked_at += len(seen)
        counts = Counter(((t + shift) // step * step - shift, term) for t, term in seen)

        def order(key: tuple[int, str | None]) -> tuple[int, bool, str]:
            return key[0], key[1] is not None, key[1] or ""

        keys = sorted(counts, key=order)
        if after is not None:
            keys = [k for k in keys if order(k) > order((after["0"], after["1"]))]
        buckets = [
            {"key": {"0": t, "1": term}, "doc_count": counts[t, term], "m0": {"value": 1.0}}
            for t, term in keys[: of["size"]]
        ]
        return {
            "_shards": {"total": 1, "failed": 0},
            "timed_out": False,
            "aggregations": {"rollup": {"buckets": buckets}},
        }


def job(page_size: int, parallelism: int = 1, zone: str = "UTC", interval: str = "1h") -> JobConfig:
    groups = {
        "dateHistogram": {"field": "ts", "fixedInterval": interval, "timeZone": zone},
        "terms": {"fields": ["term"]},
    }
    return config(
        spec(
            groups=groups,
            metrics=[{"field": "value", "metrics": ["max"]}],
            pageSize=page_size,
            parallelism=parallelism,
        )
    )


def overloaded() -> Overloaded:
    return Overloaded("too much", status=429, kind="circuit_breaking_exception")


async def everything(cluster: Rows, of: JobConfig, pages: Pages) -> None:
    """Read to the end: each bucket comes once, in order, and no more is held than should be."""
    bounds, parallelism = Bounds.of(of.spec.groups.date_histogram), of.spec.parallelism
    found: Counter[tuple[int, str | None]] = Counter()
    last: tuple[int, bool, str] | None = None
    async for page in each(pages):
        assert page.last_key is not None
        assert page.buckets <= of.spec.page_size
        key = page.last_key["ts.date_histogram"], page.last_key["term.terms"]
        now = int(key[0] or 0), key[1] is not None, str(key[1] or "")
        assert last is None or now > last
        last = now
        assert len(pages.started()) < parallelism
    await pages.close()
    for document in (await documents_of(pages_of(cluster, of, BOUND, patience=AtOnce))).values():
        time, count = time_of(document["ts.date_histogram.timestamp"]), document["ts.date_histogram._count"]
        assert isinstance(time, int)
        found[time, document["term.terms.value"]] += count
    assert found == Counter((bounds.round_down(t), term) for t, term in cluster.rows if 0 <= t < BOUND)
    assert cluster.most <= parallelism


BOUND = START + 400 * DAY
rows = st.lists(
    st.tuples(
        st.one_of(st.integers(START - DAY, BOUND + DAY), st.integers(START, START + DAY), st.integers(0, 3 * HOUR)),
        st.sampled_from([None, "a", "b", "c"]),
    ),
    max_size=80,
)


@settings(deadline=None, max_examples=150)
@given(
    rows=rows,
    page_size=st.integers(1, 40),
    parallelism=st.sampled_from([1, 2, 4]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "-03:30"]),
    interval=st.sampled_from(["1h", "90m", "1d", "7d"]),
    known=st.booleans(),
    failures=st.sets(st.integers(0, 60), max_size=10),
    seed=st.integers(0, 99),
)
def test_every_bucket_comes_once_and_in_order(
    rows: list[Row], page_size: int, parallelism: int, zone: str, interval: str, known: bool,
    failures: set[int], seed: int,
) -> None:  # fmt: skip
    cluster = Rows(rows, seed=seed)
    cluster.trouble = lambda _: (
        None if cluster.searches not in failures else overloaded() if seed % 2 else Unanswered("cut", sent=True)
    )
    of = job(page_size, parallelism, zone, interval)
    due = [t for t, _ in rows if 0 <= t < BOUND]
    source = Source(1, len(due), min(due), max(due)) if known and due else None

    async def run() -> None:
        pages = pages_of(cluster, of, BOUND, source=source, patience=AtOnce)
        try:
            await everything(cluster, of, pages)
        except Unanswered:
            assert len(failures) >= 5
            assert pages.unclean

    asyncio.run(run())


async def test_a_page_looks_at_little_more_than_it_holds() -> None:
    """Where a cluster cannot stop early, reading ten times as much takes ten times as long, not a hundred times."""
    cluster = Rows([(START + i * HOUR // 10, "abc"[i % 3]) for i in range(20_000)])
    for parallelism, most in ((1, 3.0), (4, 2.5)):
        of = job(60, parallelism)
        source = Source(1, len(cluster.rows), cluster.rows[0][0], cluster.rows[-1][0])
        cluster.looked_at = cluster.searches = 0
        assert len(await documents_of(pages_of(cluster, of, BOUND, source=source))) == 6000
        assert cluster.looked_at / len(cluster.rows) < most
        assert cluster.searches < 6000 / 60 * 1.3


async def test_what_is_too_much_is_asked_for_in_halves_and_grows_back() -> None:
    cluster = Rows([(START + i * HOUR, "a") for i in range(2000)])
    sizes: list[int] = []

    def trouble(body: Mapping[str, Any]) -> Exception | None:
        size = body["aggregations"]["rollup"]["composite"]["size"]
        sizes.append(size)
        return overloaded() if len(sizes) <= 6 and size > 40 else None

    cluster.trouble = trouble
    pages = pages_of(cluster, job(200), BOUND, patience=AtOnce)
    first = await pages.next(None)
    assert sizes[:4] == [200, 100, 50, 25]
    assert (first.buckets, pages.page_size) == (25, 25)
    async for _ in each(pages):
        pass
    assert pages.page_size > 100
    assert sizes == [200, 100, 50, *sorted(sizes[3:])]


async def test_a_search_that_failed_on_one_node_may_go_on_at_another() -> None:
    failures = iter([classify(500, {"error": {"type": "node_disconnected_exception", "reason": "x"}}, "reading", str)])
    cluster = Rows([(START, "a")], lambda _: next(failures, None))
    pages = pages_of(cluster, job(1000), BOUND, patience=AtOnce)
    assert (await pages.next(None)).buckets == 1
    assert pages.unclean


async def test_large_buckets_are_known_as_such_before_many_pages_are_asked_for() -> None:
    cluster = Rows([(START + i * HOUR, "x" * 20_000) for i in range(2000)])
    asked: list[int] = []
    cluster.trouble = lambda body: asked.append(body["aggregations"]["rollup"]["composite"]["size"])
    source = Source(1, 2000, START, START + 1999 * HOUR)
    pages = pages_of(cluster, job(500, 8), BOUND, source=source)
    await pages.next(None)
    for _ in range(100):  # until all that may be read is read
        await asyncio.sleep(0)
    await pages.close()
    assert len(asked) > 4
    assert max(asked[1:]) <= PAGE_BYTES // 20_000


async def test_what_was_learned_is_where_the_next_run_begins() -> None:
    cluster = Rows([(START + i * HOUR, "a") for i in range(200)])
    assert (await pages_of(cluster, job(100), BOUND, page_size=30.0).next(None)).buckets == 30
    assert (await pages_of(cluster, job(20), BOUND, page_size=30.0).next(None)).buckets == 20
    assert (await pages_of(cluster, job(20), BOUND, page_size=0.2).next(None)).buckets == 20


async def test_a_cluster_that_never_has_room_is_not_asked_for_ever() -> None:
    cluster = Rows([(START, "a")], lambda _: overloaded())
    pages = pages_of(cluster, job(1000), BOUND, patience=AtOnce)
    with pytest.raises(Overloaded):
        await pages.next(None)
    assert cluster.searches == AtOnce.TRIES
    assert pages.page_size == 1000 // 2**AtOnce.TRIES


async def test_what_takes_too_long_is_tried_over_less_time() -> None:
    cluster = Rows([(START + i * HOUR, "a") for i in range(1000)])
    lengths: list[int] = []

    def trouble(body: Mapping[str, Any]) -> Exception | None:
        within = body["query"]["range"]["ts"]
        length = min(within["lt"], START + 1000 * HOUR) - max(within["gte"], START)
        lengths.append(length)
        return Unanswered("no answer within 60 s", sent=True) if length > 200 * HOUR else None

    cluster.trouble = trouble
    for parallelism in (1, 4):
        lengths.clear()
        source = Source(1, 1000, START, START + 999 * HOUR)
        pages = pages_of(cluster, job(300, parallelism), BOUND, source=source, patience=AtOnce)
        assert len(await documents_of(pages)) == 1000
        assert [round(length / HOUR, -1) for length in lengths[:4]] == [1000, 500, 250, 120]
        assert len(lengths) < 30


async def test_one_bucket_of_many_terms_is_read_in_pages() -> None:
    cluster = Rows([(START + i, f"term {i:05}") for i in range(1000)] + [(START + DAY, "z")])
    for parallelism in (1, 4):
        assert len(await documents_of(pages_of(cluster, job(90, parallelism), BOUND))) == 1001


async def test_reading_goes_on_from_a_position() -> None:
    cluster = Rows([(START + i * HOUR // 3, "abc"[i % 3]) for i in range(300)])
    for parallelism in (1, 4):
        of = job(20, parallelism)
        whole = await documents_of(pages_of(cluster, of, BOUND))
        pages = pages_of(cluster, of, BOUND)
        page = await pages.next(await halfway(pages))
        rest = page.buckets
        again = pages_of(cluster, of, BOUND)
        position = page.last_key
        while not page.exhausted:
            page = await again.next(position)
            rest, position = rest + page.buckets, page.last_key
        assert rest + 40 == len(whole)
        await pages.close()


async def halfway(pages: Pages) -> Any:
    """Read two pages and return the position."""
    position = None
    for _ in range(2):
        position = (await pages.next(position)).last_key
    return position


async def test_pages_ahead_are_the_ones_that_follow() -> None:
    cluster = Rows([(START + i * HOUR, "a") for i in range(1000)])
    pages = pages_of(cluster, job(50, 4), BOUND, source=Source(1, 1000, START, START + 999 * HOUR))
    position, expected = None, []
    async for page in each(pages):
        if expected:
            assert page.handle is expected.pop(0).handle
        for _ in range(100):  # until all that may be read is read
            await asyncio.sleep(0)
        expected = pages.started()
        position = page.last_key
    assert position is not None
    assert expected == []


async def nothing_runs() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("parallelism", [1, 4])
async def test_nothing_runs_after_a_cancellation(parallelism: int) -> None:
    cluster = Rows([(START + i * HOUR, "a") for i in range(1000)])
    pages = pages_of(cluster, job(50, parallelism), BOUND)
    page = await pages.next(None)
    held = asyncio.Event()

    async def hold(*_: Any, **__: Any) -> Any:
        held.set()
        await asyncio.Event().wait()

    await pages.close()
    cluster.call = hold  # type: ignore[method-assign]  # a cluster that does not answer
    reading = asyncio.ensure_future(pages.next(page.last_key))
    await held.wait()
    reading.cancel()
    await asyncio.wait({reading})
    assert reading.cancelled()
    assert await nothing_runs()
    assert pages.unclean


@pytest.mark.parametrize("moment", ["while a page is written", "while the next one is awaited"])
async def test_a_halt_ends_all_reading(moment: str) -> None:
    cluster = Rows([(START + i * HOUR, "a") for i in range(1000)])
    pages = pages_of(cluster, job(50, 4), BOUND, source=Source(1, 1000, START, START + 999 * HOUR))
    page = await pages.next(None)
    waiting = asyncio.ensure_future(pages.next(page.last_key)) if "awaited" in moment else None
    await asyncio.sleep(0)
    asked = cluster.searches
    pages.halt()
    for _ in range(100):
        await asyncio.sleep(0)
    assert cluster.searches == asked
    assert pages.started() == []
    assert waiting is None or waiting.cancelled()
    assert await nothing_runs()
    with pytest.raises(asyncio.CancelledError):
        await pages.next(page.last_key)
    await pages.close()


async def test_the_end_of_a_run_does_not_hurry_a_search_that_a_halt_has_cut_off() -> None:
    """It waits until the node has read that nobody waits: only then is it known that nothing begins there later."""
    pages = pages_of(Rows([(START, "a")]), job(50), BOUND)
    searching, read_at_the_node, logged = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def search(*_: Any, **__: Any) -> Any:
        try:
            searching.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await read_at_the_node.wait()
            logged.set()
            raise

    pages._cluster.call = search  # type: ignore[method-assign]
    reading = asyncio.ensure_future(pages.next(None))
    await searching.wait()
    pages.halt()
    closing = asyncio.ensure_future(pages.close())
    await asyncio.sleep(0)
    read_at_the_node.set()
    await closing
    assert logged.is_set()
    await asyncio.wait({reading})
    assert reading.cancelled()


def test_a_page_is_bounded_by_what_its_documents_weigh() -> None:
    size = PageSize.begin(10_000, None, 500.0)
    assert size.ask() == 10_000
    size.learn(100, 100 * 2**20 // 100 * 100)
    assert size.ask() == 8
    for _ in range(200):
        size.learn(100, 100 * 500)
    assert size.ask() == 10_000
    assert PageSize.begin(10_000, None, 1e9).ask() == 1


class Twice(Rows):
    """Gives the first bucket of each page twice, as two buckets with one id would come."""

    def _answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = super()._answer(body)
        buckets = answer["aggregations"]["rollup"]["buckets"]
        buckets[1:1] = buckets[:1]
        return answer


async def test_two_buckets_with_one_id_fail_their_page() -> None:
    cluster = Twice([(START + i * HOUR, "a") for i in range(5)])
    with pytest.raises(Odd, match=r"two buckets have one id, job\$.*: neither is written"):
        await pages_of(cluster, job(50, 1), BOUND).next(None)
