"""What searches, and the calls before them, may cost: time of the event loop, and memory."""

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rollup_operator.concurrency.portions import in_portions
from rollup_operator.http.access.permits import Caller, EndpointAction, Permit
from rollup_operator.http.api.searchable import Searchable
from rollup_operator.http.app import Endpoint
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.query.answering.answer import Style, answer
from rollup_operator.query.answering.merge import merge
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.planning.planner import plan
from rollup_operator.query.reading.request import Door, parse_request
from rollup_operator.query.sources import Catalog, IndexOptions, SearchedJob
from rollup_operator.rollup.identity import Owner
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.sharing.memory import MIB, Budgets
from rollup_operator.stores.search import LevelBuckets, Number, Row, Tier
from support.access_double import Anybody
from support.http_double import Cluster
from support.loop_guard import PROCESSOR_SECONDS
from support.portions import watched
from support.search_jobs import DAY, HOUR, live_of, spec_of
from support.search_reference import fetched
from support.serving import Client, call, served

FIELDS = [{"field": f"metric-{n}", "metrics": ["min"]} for n in range(200)]


@pytest.fixture(autouse=True)
def rolled_up(cluster: Cluster) -> None:
    """A job with many fields, of which nothing is rolled up yet."""
    cluster.create("sensor", indexPattern="sensor-*", rollupIndex="rolled", metrics=FIELDS)


@pytest.fixture
async def endpoint(cluster: Cluster, access: Anybody) -> AsyncIterator[Endpoint]:
    async with served(cluster, access=access, budgets=replace(Budgets.of(512 * MIB), memory=64 * MIB)) as endpoint:
        yield endpoint


# The guard of the event loop fails each of these that holds it.


@pytest.mark.parametrize("names", [[f"q{n:x}*" for n in range(25_000)], ["q*" * 100_000], ["a,b*," * 40_000]])
async def test_names_of_fields_hold_up_nobody(client: Client, names: list[str]) -> None:
    status, reply = await call(client, "POST", "/rolled/_field_caps", json={"fields": names})
    assert (status, reply["error"]["type"] if status != 200 else "") in [(400, "illegal_argument_exception"), (200, "")]


async def test_names_of_fields_in_a_path_hold_up_nobody(client: Client) -> None:
    for names in (",".join(f"q{n:x}*" for n in range(1_000)), "q*" * 3_000):
        status, _ = await call(client, "GET", f"/rolled/_mapping/field/{names}")
        assert status in (200, 400)


async def test_wildcards_of_all_fields_are_answered(client: Client) -> None:
    found: dict[str, Any] = (await call(client, "POST", "/rolled/_field_caps", json={"fields": ["*", "metric-1*"]}))[1]
    assert found["indices"] == ["rolled"]


def histogram(buckets: int, **metrics: Any) -> dict[str, Any]:
    """A search for empty buckets. A few hundred bytes ask for any number of them."""
    time = {
        "field": "timestamp",
        "fixed_interval": "1h",
        "extended_bounds": {"min": 0, "max": (buckets - 1) * 3_600_000},
    }
    return {"size": 0, "aggs": {"t": {"date_histogram": time, "aggs": metrics}}}


METRICS = {f"m{n}": {"stats": {"field": f"metric-{n}"}} for n in range(50)}


async def test_one_search_takes_a_share_of_the_memory(client: Client) -> None:
    for _ in range(3):
        status, reply = await call(client, "POST", "/rolled/_search", json=histogram(4_000))
        assert (status, len(reply["aggregations"]["t"]["buckets"])) == (200, 4_000)
        status, reply = await call(client, "POST", "/rolled/_search", json=histogram(4_000, **METRICS))
        assert (status, reply["error"]["type"]) == (429, "es_rejected_execution_exception")


async def test_searches_of_one_call_share_the_memory(client: Client) -> None:
    body = f"{{}}\n{json.dumps(histogram(1_500, **METRICS))}\n" * 4
    headers = {"Content-Type": "application/x-ndjson"}
    status, reply = await call(client, "POST", "/rolled/_msearch", data=body, headers=headers)
    assert (status, {each["status"] for each in reply["responses"]}) == (200, {200, 429})


async def test_a_name_of_hundreds_of_parts_is_shown(client: Client, cluster: Cluster) -> None:
    deep = ".".join(["a"] * 255)  # objects within objects, as deep as a resource lets a name be long
    cluster.shelf.has |= {deep: SourceField(frozenset({"double"})), "a": SourceField(frozenset({"long"}))}
    cluster.create("deep", indexPattern="sensor-*", rollupIndex="deep", metrics=[{"field": deep, "metrics": ["min"]}])
    status, reply = await call(client, "GET", "/deep/_mapping")
    assert (status, reply["deep"]["mappings"]["properties"][deep]) == (200, {"type": "double"})


# What an answer is made of: a few buckets of many numbers, many of which are empty, or a few values and a pattern.

METRIC_SUMS = {f"m{n}": {"sum": {"field": "delay", "format": "0.00"}} for n in range(900)}
EMPTY_TERMS = {f"t{n}": {"terms": {"field": "code"}} for n in range(900)}
FAR_AWAY = {
    "buckets_path": {f"p{n}": "t['nothing']>_count" for n in range(16)},
    "gap_policy": "insert_zeros",
    "script": "1",
}


def hours(count: int, **subs: Any) -> dict[str, Any]:
    bounds = {"min": 0, "max": (count - 1) * HOUR}
    return {"date_histogram": {"field": "time", "fixed_interval": "1h", "extended_bounds": bounds}, "aggs": subs}


def any_of(count: int, **subs: Any) -> dict[str, Any]:
    return {"filters": {"filters": {f"f{n}": {"match_all": {}} for n in range(count)}}, "aggs": subs}


ANSWERS: dict[str, dict[str, Any]] = {
    "numbers written as texts": {"t": hours(50, **METRIC_SUMS)},
    "aggregations of nothing": {"f": any_of(25, **EMPTY_TERMS)},
    "a bucket looked for among many": {"f": any_of(1, t=hours(50_000), s={"bucket_script": FAR_AWAY})},
    "a large pattern": {"c": {"terms": {"field": "carrier", "size": 100, "include": "(.*x?)" * 100}}},
}


@pytest.mark.parametrize("what", ANSWERS)
async def test_an_answer_is_made_without_holding_up_anybody(what: str) -> None:
    spec = spec_of()
    rows = [{"time": n, "carrier": f"{n:040}", "delay": 1.0} for n in range(50)]
    made = plan(parse_request({"size": 0, "aggs": ANSWERS[what]}), [], live_of(spec), DAY)
    parts = [fetched(fetch, rows) for fetch in made.fetches]
    async with watched() as held:
        found = await in_portions(answer(made, parts, Style()))
    assert found["hits"]["total"]["value"] == len(rows)
    assert held.longest < PROCESSOR_SECONDS


async def answered(aggs: dict[str, Any]) -> dict[str, Any]:
    made = plan(parse_request({"size": 0, "aggs": aggs}), [], live_of(spec_of()), DAY)
    return await in_portions(answer(made, [fetched(fetch, []) for fetch in made.fetches], Style()))


@pytest.mark.parametrize(
    "aggs",
    [
        {"t": hours(20_000), **{f"b{n}": {"stats_bucket": {"buckets_path": "t>_count"}} for n in range(900)}},
        {"t": hours(20_000, **{f"d{n}": {"derivative": {"buckets_path": "_count"}} for n in range(900)})},
    ],
)
async def test_pipelines_that_read_too_much_are_refused(aggs: dict[str, Any]) -> None:
    """Some kilobytes would keep a processor busy for minutes."""
    with pytest.raises(SearchRefused, match=r"may read \[2000000\] values at most: ask for fewer"):
        await answered(aggs)


async def test_pipelines_of_a_large_chart_are_computed() -> None:
    subs = {f"d{n}": {"derivative": {"buckets_path": "_count"}} for n in range(5)}
    found = await answered({"t": hours(20_000, **subs), "b": {"max_bucket": {"buckets_path": "t>_count"}}})
    assert len(found["aggregations"]["t"]["buckets"]) == 20_000


async def test_parts_of_many_numbers_are_added_without_holding_up_anybody() -> None:
    (shape,) = plan(parse_request({"size": 0, "aggs": {"t": hours(1)}}), [], live_of(spec_of()), DAY).shapes
    shape = replace(shape, numbers=tuple(Number("sum", f"f{n}") for n in range(4_000)))
    rows = {(n * HOUR,): Row(1, (1.0,) * 4_000) for n in range(400)}
    parts = [{(): LevelBuckets({(): Row(400)}), ("t",): LevelBuckets(rows)}] * 2
    async with watched() as held:
        merged = await in_portions(merge(parts, (), (shape,)))
    assert merged["t",].rows[HOUR,].numbers == (2.0,) * 4_000
    assert held.longest < PROCESSOR_SECONDS


# What names mean, and whose documents there are, where a namespace has ten thousand jobs, or few with long patterns.


def searched(index: str, number: int, pattern: str) -> SearchedJob:
    return SearchedJob(index, f"j{number}", "default", pattern, _no_spec, f"j{number}")


def _no_spec() -> RollupJobSpec:
    raise AssertionError("nobody reads a spec in order to find a name")


MANY = 10_000
LONG = [searched(f"long-{n}", n, ",".join(chr(0x4E00 + 31 * n + i) for i in range(31))) for n in range(32)]
"""No name of one is that of another."""

NAMES: dict[str, tuple[list[SearchedJob], list[str], Door]] = {
    "sources of many names": (LONG, ["*"], "search"),
    "exclusions of nothing": (
        [searched(f"i{n % 3}", n, f"p{n}") for n in range(MANY)],
        ["*", *(f"-x{n}" for n in range(399))],
        "search",
    ),
    "exclusions again and again": (
        [searched(f"i{n % 3}", n, f"p{n}") for n in range(MANY)],
        ["*", *["-i1", "-i2"] * 199],
        "search",
    ),
    "a name again and again": ([searched("one", n, f"p{n}") for n in range(MANY)], ["one"] * 400, "search"),
    "all again and again": ([searched("one", n, f"p{n}") for n in range(MANY)], ["*"] * 400, "search"),
    "jobs of one source": ([searched("one", n, "p") for n in range(MANY)], ["one"], "rollup_search"),
    "parts of one source": ([searched("one", n, "p*") for n in range(MANY)], [f"p{n}" for n in range(400)], "search"),
    "a long name": ([searched("one", 1, "p*")], ["p" * 200_000], "search"),
}


@pytest.mark.parametrize("what", NAMES)
async def test_what_names_mean_is_found_without_holding_up_anybody(what: str) -> None:
    jobs, names, door = NAMES[what]
    catalog = await in_portions(Catalog().take_in(jobs))
    async with watched() as held:
        for work in (catalog.candidates(names), catalog.resolve(names, IndexOptions(), door)):
            with suppress(SearchRefused):
                await in_portions(work)
    assert held.longest < PROCESSOR_SECONDS


async def test_sources_of_more_names_than_can_be_compared_are_refused() -> None:
    longer = [*LONG[:31], searched("longest", 32, ",".join(chr(0x4E00 + 31**2 + i) for i in range(60)))]
    catalog = await in_portions(Catalog().take_in(longer))
    with pytest.raises(SearchRefused, match=r"sources of \[1021\] names together, more than the limit of \[1000\]"):
        await in_portions(catalog.resolve([], IndexOptions(), "search"))
    (alone,) = await in_portions(catalog.resolve(["longest"], IndexOptions(), "search"))
    assert len((alone.live or "").split(",")) == 60


async def test_whose_documents_there_are_is_found_without_holding_up_anybody(access: Anybody) -> None:
    count = 3_000
    jobs = [searched("one", n, "p") for n in range(count)]
    catalog = await in_portions(Catalog().take_in(jobs))
    spec = cast("RollupJobSpec", SimpleNamespace())
    tiers = [Tier(job.key, spec, 0, 1, {}, Owner("c", "n", job.name, job.name)) for job in jobs]
    searchable = Searchable(cast("Any", None), cast("Any", None), "c")
    permit = Permit(access, Caller("reader"), EndpointAction.SEARCH, "n")
    async with watched() as held:
        assert len(await searchable.readable(tiers, jobs, catalog, permit)) == count
    assert held.longest < PROCESSOR_SECONDS
