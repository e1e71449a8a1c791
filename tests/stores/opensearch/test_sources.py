"""What a pattern means to a real cluster: its fields, its size, and what is wrong with it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rollup_operator.model.conditions import Reason
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.base import Source
from rollup_operator.stores.errors import SourceInvalid, SourceNotFound
from rollup_operator.stores.opensearch.source import sources
from rollup_operator.stores.opensearch.transport.client import Cluster
from support.embedded import config, spec
from support.rounding import DAY, HOUR, ms
from support.store_faults import Hold
from support.store_http import StoreHttp, unique
from support.store_jobs import connected
from support.store_proxy import StoreProxy
from support.store_reading import documents_of, load, pages_of

START = ms("2024-03-20T00:00")
END = ms("2030-01-01T00:00")


@pytest.fixture
async def cluster(opensearch: StoreHttp) -> AsyncIterator[Cluster]:
    async with connected(opensearch.url) as made:
        yield made


def over(pattern: str, out: str = "out", **groups: Any) -> JobConfig:
    """A small job: hours of `ts`, and max of `value`."""
    more = {"groups": {"dateHistogram": {"field": "ts", "fixedInterval": "1h"}, **groups}}
    return config(spec(pattern, out, metrics=[{"field": "value", "metrics": ["max"]}], **more))


async def describe(cluster: Cluster, job: JobConfig, start: int = 0, bound: int = END) -> Source:
    await sources.check(cluster, job, opaque_id="rollup/1/1")
    return await sources.measure(cluster, job, start_ms=start, bound_ms=bound, opaque_id="rollup/1/1")


async def test_what_is_due_is_counted(opensearch: StoreHttp, cluster: Cluster) -> None:
    index = unique("events")
    load(opensearch, index, [(START + h * HOUR, 1.0, "a", 1) for h in range(48)], ts="date")
    job = over(index)
    assert await describe(cluster, job) == Source(1, 48, START, START + 47 * HOUR)
    assert await describe(cluster, job, START + HOUR, START + 3 * HOUR) == Source(
        1, 2, START + HOUR, START + 3 * HOUR - 1
    )
    assert await describe(cluster, job, START + 48 * HOUR) == Source(1, 0)


@pytest.mark.parametrize("left", [[], [START - DAY], [START + 60 * HOUR]], ids=["none", "earlier ones", "later ones"])
async def test_documents_that_go_while_they_are_measured_are_not_due(opensearch: StoreHttp, left: list[int]) -> None:
    index = unique("events")
    load(opensearch, index, [(at, 1.0, "a", 1) for at in (START, START + HOUR, *left)], ts="date")
    async with StoreProxy(opensearch.url) as proxy, connected(proxy.url) as cluster:
        hold = Hold()
        ends = proxy.on("POST", "/_search", fault=hold, nth=2)
        measuring = asyncio.ensure_future(describe(cluster, over(index), START, START + 48 * HOUR))
        await proxy.caught(ends)
        due = {"range": {"ts": {"gte": START, "lt": START + 48 * HOUR}}}
        opensearch.delete_documents(index, due)
        hold.release()
        assert await measuring == Source(1, 0)


@pytest.mark.parametrize("kind", ["date", "date_nanos"])
async def test_nothing_from_before_1970_is_seen(opensearch: StoreHttp, cluster: Cluster, kind: str) -> None:
    index = unique("events")
    early = [(-DAY, 5.0, "a", 1), (-1, 6.0, "a", 1)] if kind == "date" else []  # nanoseconds begin in 1970
    load(opensearch, index, [*early, (0, 1.0, "a", 1), (HOUR, 2.0, "a", 1)], ts=kind)
    job = over(index)
    assert await describe(cluster, job) == Source(1, 2, 0, HOUR)
    found = await documents_of(pages_of(cluster, job, END))
    assert sorted((d["ts.date_histogram.timestamp"], d["value.max.value"]) for d in found.values()) == [
        (0, 1.0),
        (HOUR, 2.0),
    ]


async def test_a_pattern_may_be_a_list_a_wildcard_an_alias_or_a_data_stream(
    opensearch: StoreHttp, cluster: Cluster
) -> None:
    word = unique("events")
    for i, kind in enumerate(("date", "date", "date_nanos")):
        load(opensearch, f"{word}-{i}", [(START + (i * 10 + h) * HOUR, 1.0, "a", 1) for h in range(10)], ts=kind)
    some = {"range": {"ts": {"lt": START + 5 * HOUR}}}
    aliases = (("both", [f"{word}-0", f"{word}-2"], {}), ("some", [f"{word}-0", f"{word}-1"], {"filter": some}))
    actions = [{"add": {"indices": of, "alias": f"{name}-{word}", **more}} for name, of, more in aliases]
    opensearch.call("POST", "/_aliases", {"actions": actions})
    template = {
        "index_patterns": [f"stream-{word}"],
        "data_stream": {"timestamp_field": {"name": "ts"}},
        "template": {"settings": {"number_of_replicas": 0}, "mappings": {"properties": {"value": {"type": "double"}}}},
    }
    opensearch.call("PUT", f"/_index_template/{word}", template)
    try:
        for h in range(5):
            opensearch.call("POST", f"/stream-{word}/_doc?refresh=true", {"ts": START + h * HOUR, "value": 1})
        opensearch.call("POST", f"/stream-{word}/_rollover")
        opensearch.call("POST", f"/stream-{word}/_doc?refresh=true", {"ts": START + 5 * HOUR, "value": 1})
        for pattern, shards, rows in (
            (f"{word}-*", 3, 30),
            (f"{word}-0,{word}-1", 2, 20),
            (f"{word}-0,{word}-2*,{word}-none-*", 2, 20),
            (f"{word}-*,-{word}-1", 2, 20),
            (f"{word}-*,-*-1,-*-0", 1, 10),
            (f"both-{word}", 2, 20),
            (f"both-{word},{word}-0", 2, 20),
            (f"some-{word}", 2, 5),
            (f"some-{word},{word}-0", 2, 10),
            (f"stream-{word}", 2, 6),
        ):
            job = over(pattern)
            source = await describe(cluster, job)
            assert (source.shards, source.rows) == (shards, rows), pattern
            found = await documents_of(pages_of(cluster, job, END, source=source))
            assert len(found) == rows
    finally:
        opensearch.ask("DELETE", f"/_data_stream/stream-{word}")
        opensearch.call("DELETE", f"/_index_template/{word}")


async def test_a_source_that_is_not_there_may_come(opensearch: StoreHttp, cluster: Cluster) -> None:
    word = unique("none")
    opensearch.create(f"closed-{word}", {"ts": "date", "value": "double"})
    opensearch.call("POST", f"/closed-{word}/_close")
    for pattern, says in (
        (f"{word}-*", "matches no index"),
        (word, f"no such index [{word}]"),
        (f"closed-{word},{word}", "no such index"),
        (f"closed-{word}", "closed"),
    ):
        with pytest.raises(SourceNotFound) as e:
            await describe(cluster, over(pattern))
        assert says in str(e.value)
        assert e.value.transient
    letters = word.translate(str.maketrans("0123456789", "ghijklmnop"))
    for month in ("2024.01", "2024.02"):
        opensearch.create(f"{letters}s-{month}", {"ts": "date"})
    for pattern in (letters, f"{letters}-*"):
        with pytest.raises(SourceNotFound, match=rf"did you mean '{letters}s-\*'.* Correct it, or create"):
            await describe(cluster, over(pattern))
    with pytest.raises(SourceNotFound, match="no such index"):
        await pages_of(cluster, over(word), END).next(None)
    assert (await pages_of(cluster, over(f"{word}-*"), END).next(None)).exhausted


async def test_the_result_is_no_source_of_itself(opensearch: StoreHttp, cluster: Cluster) -> None:
    word = unique("events")
    opensearch.create(f"{word}-out", {"ts": "date", "value": "double"})
    opensearch.call("POST", "/_aliases", {"actions": [{"add": {"index": f"{word}-out", "alias": f"all-{word}"}}]})
    with pytest.raises(SourceInvalid, match=r"leads to spec\.rollupIndex itself"):
        await describe(cluster, over(f"all-{word}", f"{word}-out"))
    with pytest.raises(SourceInvalid, match=r"leads to spec\.rollupIndex itself"):
        await sources.fields(cluster, f"all-{word}", f"{word}-out")


PROPERTIES = {
    "ts": "date", "value": "double", "size": "long", "flag": "boolean", "words": "text", "address": "ip",
    "host": {"type": "text", "fields": {"raw": {"type": "keyword"}}}, "plain": {"type": "keyword", "doc_values": False},
    "old": {"type": "text", "fielddata": True},
}  # fmt: skip


def with_terms(field: str) -> dict[str, Any]:
    return {"terms": {"fields": [field]}}


def with_metric(field: str, *metrics: str) -> dict[str, Any]:
    return {"metrics": [{"field": field, "metrics": list(metrics)}]}


REFUSED: list[tuple[dict[str, Any], str]] = [
    (with_terms("flag"), "must be a [numeric] or [keyword/text] type, but found [boolean] for field [flag]"),
    (with_terms("address"), "must be a [numeric] or [keyword/text] type, but found [ip] for field [address]"),
    (with_terms("words"), "The field [words] must be aggregatable across all indices, but is not."),
    (with_terms("plain"), "The field [plain] must be aggregatable across all indices, but is not."),
    (with_terms("none"), "spec.groups.terms.fields: the source has no field 'none': there are 'address', 'flag'"),
    ({"terms": {"fields": ["Size"]}}, "spec.groups.terms.fields: the source has no field 'Size': did you mean 'size'?"),
    ({"dateHistogram": {"field": "@ts", "fixedInterval": "1h"}}, "has no field '@ts': did you mean 'ts'?"),
    ({"dateHistogram": {"field": "when", "fixedInterval": "1h"}}, "has no field 'when': there are 'ts', 'address'"),
    ({"histogram": {"fields": ["host.raw"], "interval": 5}}, "must be a [numeric] type, but found [keyword]"),
]


@pytest.mark.parametrize(("groups", "says"), REFUSED)
async def test_a_field_that_cannot_be_used_is_refused_in_elasticsearchs_words(
    opensearch: StoreHttp, cluster: Cluster, groups: dict[str, Any], says: str
) -> None:
    index = opensearch.create(unique("events"), PROPERTIES)
    with pytest.raises(SourceInvalid) as e:
        await describe(cluster, over(index, **groups))
    assert says in str(e.value)
    assert (e.value.reason, e.value.transient) == (Reason.SOURCE_INVALID, False)


async def test_fields_are_reported_in_elasticsearchs_words(opensearch: StoreHttp, cluster: Cluster) -> None:
    word = unique("events")
    opensearch.create(f"{word}-1", PROPERTIES)
    opensearch.create(f"{word}-2", {"ts": "date_nanos"})
    found = await sources.fields(cluster, f"{word}-*", "out")
    assert found["ts"].types == {"date", "date_nanos"}
    assert found["host.raw"].types == {"keyword"}
    assert (found["words"].aggregatable, found["old"].aggregatable) == (False, True)
    assert not {"_id", "_source", "_index"} & found.keys()


async def test_a_job_may_name_more_fields_than_a_request_line_holds(opensearch: StoreHttp, cluster: Cluster) -> None:
    names = [f"a-rather-long-name-of-a-field-{i:03}-ü" for i in range(250)]
    index = opensearch.create(unique("events"), {"ts": "date", **dict.fromkeys(names, "double")})
    job = over(index)
    more = {"metrics": [{"field": name, "metrics": ["max"]} for name in [*names, "none"]]}
    wide = RollupJobSpec.model_validate(job.spec.model_dump(by_alias=True, exclude_none=True) | more)
    with pytest.raises(SourceInvalid) as e:
        await describe(cluster, config(wide))
    assert str(e.value).count("has no field") == 1


@pytest.mark.parametrize(("one", "other"), [("long", "double"), ("long", "keyword")])
async def test_terms_of_two_kinds_are_refused(opensearch: StoreHttp, cluster: Cluster, one: str, other: str) -> None:
    word = unique("events")
    for i, kind in enumerate((one, other)):
        opensearch.create(f"{word}-{i}", {"ts": "date", "value": "double", "n": kind})
    with pytest.raises(SourceInvalid, match=r"must be of one kind .* for field \[n\]"):
        await describe(cluster, over(f"{word}-*", **with_terms("n")))
