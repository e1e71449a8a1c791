"""Indices as people have them: what a run makes of them is right, or it says which index and field it is, and why."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from rollup_operator.model.conditions import Reason
from rollup_operator.rollup.bounds import Span
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.rollup.source_rules import broken_rules
from rollup_operator.stores.errors import SourceInvalid
from support.clustered import Clustered, clustered
from support.rounding import DAY, HOUR, ms
from support.store_faults import Answer
from support.store_http import StoreHttp
from support.store_proxy import StoreProxy

START = ms("2024-01-01T00:10")
Row = dict[str, Any]


@pytest.fixture
async def at(node: StoreHttp) -> AsyncIterator[Clustered]:
    async with clustered(node) as made:
        yield made


def job(at: Clustered, **more: Any) -> JobConfig:
    """Hours of `t`, and the sum and count of `v`."""
    groups = {"dateHistogram": {"field": "t", "fixedInterval": "1h"}, **more.pop("groups", {})}
    sums = [{"field": "v", "metrics": ["sum", "value_count"]}]
    return at.job(**({"metrics": sums, "indexPattern": at.source} | more), groups=groups)


def put(at: Clustered, rows: Sequence[Row], index: str | None = None, *, refresh: bool = True, **fields: Any) -> None:
    """Add rows, and the index where it is missing."""
    index = index or at.source
    if not at.node.exists(index):
        settings = fields.pop("settings", None)
        at.node.create(index, {"t": "date", "v": "long", **fields}, settings=settings)
    at.node.load(index, rows, refresh=refresh)


def by(at: Clustered, *keys: str) -> dict[Any, tuple[int, float]]:
    """Count and sum of each document, by the values of these groups."""
    found = {}
    for d in at.documents():
        values = tuple(d[f"{key}.value"] for key in keys)
        found[values[0] if len(values) == 1 else values] = (d["t.date_histogram._count"], d["v.sum.value"])
    return found


async def failed(at: Clustered, of: JobConfig, reason: Reason, *says: str) -> None:
    result = await at.run(of)
    assert result.outcome == "Failed", result
    assert result.error.reason is reason, result  # type: ignore[union-attr]
    for text in says:
        assert text in result.message


# A document counts once per bucket


@pytest.mark.parametrize("kind", ["long", "integer", "double", "float"])
async def test_a_document_counts_once_in_a_bucket_however_many_of_its_numbers_are_in_it(
    at: Clustered, kind: str
) -> None:
    rows = [
        {"t": START, "c": [5, 5], "lat": [1, 2, 3], "v": 10},
        {"t": START, "c": [5, 7, 7], "lat": [-1, 4, 12, 13], "v": 100},
        {"t": START, "v": 1000},
        {"t": START, "c": 7, "lat": 12, "v": 10000},
    ]
    put(at, rows, c=kind, lat=kind)
    put(at, [{"t": START, "v": 5}], f"{at.source}-without")
    await at.completed(job(at, indexPattern=f"{at.source}*", groups={"terms": {"fields": ["c"]}}))
    assert by(at, "c.terms") == {5: (2, 110.0), 7: (2, 10100.0), None: (2, 1005.0)}
    at.node.delete(at.target)
    histogram = {"histogram": {"fields": ["lat"], "interval": 10}}
    await at.completed(job(at, indexPattern=f"{at.source}*", groups=histogram, job_id="other"))
    assert by(at, "lat.histogram") == {-10: (1, 100.0), 0: (2, 110.0), 10: (2, 10100.0), None: (2, 1005.0)}


async def test_pages_and_late_rows_of_several_values_count_once_too(at: Clustered) -> None:
    rows = [{"t": START + i * HOUR // 4, "c": [i % 3, i % 3, 9], "v": 1} for i in range(100)]
    put(at, rows, c="long")
    of = job(at, groups={"terms": {"fields": ["c"]}}, pageSize=7, parallelism=2, lookback="9000d")
    await at.completed(of)
    assert sum(count for count, _ in _buckets(at)) == 200
    await asyncio.to_thread(put, at, [{"t": START, "c": [0, 0, 9], "v": 1}])
    assert (await at.run(of)).rewritten == 2
    assert sum(count for count, _ in _buckets(at)) == 202


def _buckets(at: Clustered) -> list[tuple[int, float]]:
    return [(d["t.date_histogram._count"], d["v.sum.value"]) for d in at.documents()]


async def test_texts_and_numbers_of_one_value_are_not_asked_by_a_script(node: StoreHttp) -> None:
    async with StoreProxy(node.url) as proxy, clustered(node, proxy.url) as at:
        put(at, [{"t": START, "k": ["a", "a", "b"], "c": 1, "v": 1}], k="keyword", c="long")
        await at.completed(job(at, groups={"terms": {"fields": ["k", "c"]}}))
        assert by(at, "k.terms") == {"a": (1, 1.0), "b": (1, 1.0)}
        assert not any(b"script" in request.body for request in proxy.requests)


@pytest.mark.parametrize("date", [{"type": "date"}, {"type": "date", "format": "yyyy-MM-dd HH:mm:ss"}])
@pytest.mark.parametrize("pages", [1, 2, 3])
async def test_buckets_of_time_alone_end_with_a_full_page(at: Clustered, date: dict[str, str], pages: int) -> None:
    texts = [f"2024-01-01{'T' if 'format' not in date else ' '}0{hour}:10:00" for hour in range(6)]
    put(at, [{"t": text, "v": 1} for text in texts], t=date)
    of = job(at, metrics=[], pageSize=6 // pages)
    await at.completed(of)
    await at.completed(of)
    assert [d["t.date_histogram._count"] for d in at.documents()] == [1] * 6


async def test_several_times_in_a_document_count_once_in_each_page(at: Clustered) -> None:
    put(at, [{"t": [START + i * HOUR for i in range(6)], "v": 1}, {"t": START + 2 * HOUR, "v": 1}])
    await at.completed(job(at, metrics=[], pageSize=2))
    found = {d["t.date_histogram.timestamp"]: d["t.date_histogram._count"] for d in at.documents()}
    assert found == {ms(f"2024-01-01T0{hour}:00"): 2 if hour == 2 else 1 for hour in range(6)}


async def test_several_times_in_a_document_are_reported(at: Clustered) -> None:
    put(at, [{"t": [START, START + 60_000], "v": 1}, {"t": START + HOUR, "v": 1}])
    result = await at.run(job(at))
    assert result.outcome == "Completed"
    assert "several times in 't'" in result.message


# What the cluster has acknowledged


async def test_what_is_acknowledged_is_rolled_up_whether_it_is_refreshed_or_not(at: Clustered) -> None:
    put(at, [{"t": START, "v": 1}], settings={"refresh_interval": "-1"})
    put(at, [{"t": START + i * 1000, "v": 1} for i in range(50)], refresh=False)
    at.now = datetime(2024, 1, 1, 1, tzinfo=UTC)
    await at.completed(job(at))
    assert _buckets(at) == [(51, 51.0)]


async def test_buckets_are_held_back_where_the_source_may_not_be_refreshed(node: StoreHttp) -> None:
    async with StoreProxy(node.url) as proxy, clustered(node, proxy.url) as at:
        put(at, [{"t": START, "v": 1}], settings={"refresh_interval": "20s"})
        refusal = {"error": {"type": "security_exception", "reason": "no permissions for [indices:admin/refresh]"}}
        proxy.on("POST", f"/{at.source}/_refresh", fault=Answer(403, body=refusal), times=None)
        at.now = datetime(2024, 1, 1, 1, 0, 5, tzinfo=UTC)
        result = await at.run(job(at))
        assert result.outcome == "Completed"
        assert "held back for 21 s" in result.message
        assert "delay to 21s" in result.message
        assert _buckets(at) == []
        at.now = datetime(2024, 1, 1, 1, 0, 21, tzinfo=UTC)
        await at.completed(job(at))
        assert _buckets(at) == [(1, 1.0)]
        patient = job(at, groups={"dateHistogram": {"field": "t", "fixedInterval": "1h", "delay": "30s"}})
        assert "held back" not in (await at.run(patient)).message
        node.set_settings(at.source, **{"index.refresh_interval": "-1"})
        assert f"{at.source} has index.refresh_interval -1" in (await at.run(job(at))).message


async def test_a_run_says_that_it_cannot_know_which_replicas_are_late(node: StoreHttp) -> None:
    async with StoreProxy(node.url) as proxy, clustered(node, proxy.url) as at:
        put(at, [{"t": START, "v": 1}])
        body = {"error": {"type": "security_exception", "reason": "no permissions for [indices:monitor/settings/get]"}}
        proxy.on("GET", f"/{at.source}/_settings", fault=Answer(403, body=body), times=None)
        result = await at.run(job(at))
        assert result.outcome == "Completed"
        assert ("index.replication.type SEGMENT" in result.message) == (node.distribution == "opensearch")


async def test_rows_that_come_behind_the_edge_are_found_by_the_next_run(at: Clustered) -> None:
    put(at, [{"t": START, "k": "a", "v": 1}, {"t": START, "k": "c", "v": 1}], k="keyword")
    of = job(at, groups={"terms": {"fields": ["k"]}})
    at.now = datetime(2024, 1, 1, 1, tzinfo=UTC)
    await at.completed(of)
    await asyncio.to_thread(put, at, [{"t": START, "k": "a", "v": 2}, {"t": START, "k": "b", "v": 4}])
    at.now = datetime(2024, 1, 1, 2, tzinfo=UTC)
    assert (await at.run(of)).rewritten == 2
    assert by(at, "k.terms") == {"a": (2, 3.0), "b": (1, 4.0), "c": (1, 1.0)}
    assert (await at.run(of)).rewritten == 0


# Fields that an aggregation cannot see

NESTED = {"type": "nested", "properties": {"name": {"type": "keyword"}, "n": {"type": "long"}}}
FLAT = {"properties": {"name": {"type": "keyword"}, "n": {"type": "long"}}}
CASES: list[tuple[dict[str, Any], dict[str, Any], Sequence[str]]] = [
    ({"rec": NESTED}, {"groups": {"terms": {"fields": ["rec.name"]}}}, ["[rec.name] lies within [rec]", "nested"]),
    ({"rec": NESTED}, {"metrics": [{"field": "rec.n", "metrics": ["sum"]}]}, ["[rec.n] lies within [rec]"]),
    (
        {"a": {"properties": {"b": NESTED}}},
        {"groups": {"histogram": {"fields": ["a.b.n"], "interval": 5}}},
        ["[a.b.n] lies within [a.b]"],
    ),
    (
        {"k": {"type": "keyword", "doc_values": False, "index": False}},
        {"groups": {"terms": {"fields": ["k"]}}},
        ["[k] must be aggregatable"],
    ),
]


@pytest.mark.parametrize(("fields", "more", "says"), CASES, ids=["term", "metric", "deep", "no doc values"])
async def test_a_field_that_no_aggregation_sees_is_refused(
    at: Clustered, fields: dict[str, Any], more: dict[str, Any], says: Sequence[str]
) -> None:
    put(at, [{"t": START, "v": 1, "rec": [{"name": "x", "n": 100}]}], **fields)
    await failed(at, job(at, **more), Reason.SOURCE_INVALID, *says)
    assert not at.node.exists(at.target)


async def test_a_field_that_is_different_in_one_index_is_refused_and_the_index_named(at: Clustered) -> None:
    for i, (rec, k) in enumerate([(FLAT, {"type": "keyword"}), (NESTED, {"type": "keyword", "doc_values": False})]):
        put(at, [{"t": START, "v": 1}], f"{at.source}-{i}", rec=rec, k=k)
    everything = {"indexPattern": f"{at.source}-*"}
    await failed(
        at, job(at, **everything, groups={"terms": {"fields": ["rec.name"]}}), Reason.SOURCE_INVALID, "within [rec]"
    )
    await failed(
        at,
        job(at, **everything, groups={"terms": {"fields": ["k"]}}),
        Reason.SOURCE_INVALID,
        "[k] must be aggregatable",
        f"{at.source}-1",
    )


ODD: dict[str, dict[str, Any]] = {
    "flat_object": {"type": "flat_object"},
    "wildcard": {"type": "wildcard"},
    "constant_keyword": {"type": "constant_keyword", "value": "x"},
    "match_only_text": {"type": "match_only_text"},
    "long_range": {"type": "long_range"},
    "token_count": {"type": "text", "fields": {"length": {"type": "token_count", "analyzer": "standard"}}},
}
"""A field of each type, named like it."""
DERIVED = {"derived": {"derived": {"type": "keyword", "script": {"source": "emit('x')"}}}}


async def test_a_term_of_an_odd_type_is_right_or_refused_by_name(opensearch: StoreHttp) -> None:
    async with clustered(opensearch) as at:
        put(at, [{"t": START, "v": 1, "token_count": "one two three"}], **ODD)
        at.node.call("PUT", f"/{at.source}/_mapping", DERIVED)
        for name in (
            "flat_object",
            "flat_object.deep",
            "wildcard",
            "constant_keyword",
            "match_only_text",
            "long_range",
            "derived",
        ):
            says = f"found [{name.partition('.')[0]}] for field [{name}]"
            await failed(at, job(at, groups={"terms": {"fields": [name]}}), Reason.SOURCE_INVALID, says)
        await failed(at, job(at, groups={"terms": {"fields": ["_index"]}}), Reason.SOURCE_INVALID, "no field '_index'")
        await at.completed(job(at, groups={"terms": {"fields": ["token_count.length"]}}))
        assert by(at, "token_count.length.terms") == {3: (1, 1.0)}


async def test_a_date_that_is_not_indexed_is_used_or_refused(at: Clustered) -> None:
    at.node.create(at.source, {"t": {"type": "date", "index": False}, "v": "long"})
    at.node.load(at.source, [{"t": START, "v": 1}])
    if at.node.kind == "elasticsearch7":
        await failed(at, job(at), Reason.SOURCE_INVALID, "[t] has index: false")
        return
    await at.completed(job(at))
    assert _buckets(at) == [(1, 1.0)]


# Sources that change


@pytest.mark.parametrize(
    ("was", "now", "kinds"),
    [
        (("long", 7), ("keyword", "7x"), ("long", "keyword")),
        (("keyword", "7x"), ("long", 7), ("keyword", "long")),
        (("long", 7), ("double", 7.5), ("long", "double")),
        (("double", 7.5), ("long", 7), ("double", "long")),
    ],
)
async def test_a_term_of_another_kind_than_before_names_both(
    at: Clustered, was: tuple[str, Any], now: tuple[str, Any], kinds: tuple[str, str]
) -> None:
    of = job(at, indexPattern=f"{at.source}-*", groups={"terms": {"fields": ["n"]}})
    put(at, [{"t": START, "n": was[1], "v": 1}], f"{at.source}-1", n=was[0])
    await at.completed(of)
    before = at.documents()
    at.node.delete(f"{at.source}-1")
    await asyncio.to_thread(put, at, [{"t": START + 30 * DAY, "n": now[1], "v": 1}], f"{at.source}-2", n=now[0])
    await failed(
        at,
        of,
        Reason.SOURCE_INVALID,
        f"field [n] was of the kind {kinds[0]}",
        f"is {kinds[1]} now",
        at.target,
        "new job",
    )
    assert at.documents() == before


async def test_kinds_that_differ_between_indices_are_named_with_them(at: Clustered) -> None:
    for i, kind in enumerate(("long", "keyword")):
        put(at, [{"t": START, "n": 7, "v": 1}], f"{at.source}-{i}", n=kind)
    of = job(at, indexPattern=f"{at.source}-*", groups={"terms": {"fields": ["n"]}})
    says = (f"[long] in {at.source}-0", f"[keyword] in {at.source}-1", "Field [n]")
    await failed(at, of, Reason.SOURCE_INVALID, *says)


async def test_a_closed_index_behind_a_wildcard_is_reported(at: Clustered) -> None:
    for day in (2, 3):
        put(at, [{"t": ms(f"2024-01-0{day}T00:00"), "v": day}], f"{at.source}-{day}")
    at.node.call("POST", f"/{at.source}-2/_close")
    of = job(at, indexPattern=f"{at.source}-*")
    result = await at.run(of)
    assert (result.outcome, len(at.documents())) == ("Completed", 1)
    assert f"{at.source}-2 is closed, and is not read" in result.message
    assert "spec.lookback" in result.message
    at.node.call("POST", f"/{at.source}-2/_open", wait_for_active_shards=1)
    assert "closed" not in (await at.run(of)).message


async def test_an_index_that_goes_while_it_is_read_is_reported(node: StoreHttp) -> None:
    async with StoreProxy(node.url) as proxy, clustered(node, proxy.url) as at:
        for i in range(2):
            rows = [{"t": START + h * HOUR, "v": 1} for h in range(i * 40, i * 40 + 40)]
            put(at, rows, f"{at.source}-{i}")
        of = job(at, indexPattern=f"{at.source}-*", pageSize=10)
        gone = False

        def halfway(run: Any) -> bool:
            nonlocal gone
            if not gone and run.progress.pages >= 2:
                gone = True
                node.delete(f"{at.source}-1")
            return False

        result = await at.run(of, halt_when=halfway)
        assert result.outcome == "Completed"
        assert "2 shards when the run began and 1 later" in result.message


async def test_a_source_that_is_blocked_says_so(at: Clustered) -> None:
    put(at, [{"t": START, "v": 1}])
    at.node.set_settings(at.source, **{"index.blocks.read": True})
    await failed(at, job(at), Reason.SOURCE_NOT_FOUND, "reading is blocked", "index.blocks")
    at.node.set_settings(at.source, **{"index.blocks.read": None})
    await at.completed(job(at))


# Names

NAMES = [
    "Amount, EUR", "a,b", ",", "disk[sda].read", "mem>90", "a*b", 'x"y', "pct%", "back\\slash", "q?", "温度", "🦜",
    "with  blanks", "a/b", "#hash", "{brace}", "it's", "a&b=c", "plus+minus-", "$cost", "semi;colon",
]  # fmt: skip


async def test_fields_have_any_name(at: Clustered) -> None:
    at.node.create(at.source, {"t": "date", **dict.fromkeys(NAMES, "long"), "aXb": "keyword"})
    at.node.load(at.source, [{"t": START, **dict.fromkeys(NAMES, 3)}])
    metrics = [{"field": name, "metrics": ["sum"]} for name in NAMES]
    await at.completed(job(at, metrics=metrics, groups={"terms": {"fields": NAMES[:4]}}))
    (document,) = at.documents()
    assert {name: document[f"{name}.sum.value"] for name in NAMES} == dict.fromkeys(NAMES, 3.0)
    assert [document[f"{name}.terms.value"] for name in NAMES[:4]] == [3] * 4


@pytest.mark.parametrize("job_id", ["{a}", 'q"uote', "a,b", "🦜", "a b", "$", "a$b", "%2F", "back\\slash", "\n"])
async def test_jobs_have_any_id(at: Clustered, job_id: str) -> None:
    put(at, [{"t": START, "v": 1}])
    of = job(at, job_id=job_id, deletionPolicy="Delete")
    await at.completed(of)
    assert [d["_rollup.id"] for d in at.documents()] == [job_id]
    assert (await at.run(of)).outcome == "Completed"
    await at.store.settle(of, "me", delete_documents=True)
    assert at.documents() == []


async def test_indices_have_any_name(opensearch: StoreHttp) -> None:
    async with clustered(opensearch) as at:
        name = f"é🦜{{b}}[x]'%2f&c=d+$;!@~(1)-{at.source}"
        source, target = quote(name, safe=""), quote(f"{name}-out", safe="")
        put(at, [{"t": START, "v": 1, "k": "a"}], source, k="keyword")
        of = job(at, indexPattern=name, rollupIndex=f"{name}-out", groups={"terms": {"fields": ["k"]}})
        ((_, document),) = (await at.store.preview(of, Span(0, START + DAY), 1)).documents
        assert document["v.sum.value"] == 1
        await at.completed(of)
        await asyncio.to_thread(put, at, [{"t": START, "v": 2, "k": "b"}], source)
        again = of.spec.model_copy(update={"lookback": "9000d"})
        assert (await at.run(replace(of, spec=again))).outcome == "Completed"
        found = {d["k.terms.value"]: d["v.sum.value"] for d in at.node.documents(target).values()}
        assert found == {"a": 1.0, "b": 2.0}
        assert "k" in await at.store.fields(name, f"{name}-out")
        await at.store.settle(of, "me", delete_documents=True)
        assert at.node.documents(target) == {}


@pytest.mark.newest_stores
async def test_an_exclusion_that_stands_first_is_reported(at: Clustered) -> None:
    put(at, [{"t": START, "v": 1}])
    pattern = f"-{at.source}-debug,{at.source}*"
    await failed(
        at, job(at, indexPattern=pattern), Reason.SOURCE_INVALID, "begins with an exclusion", "behind what it is left"
    )


@pytest.mark.newest_stores
async def test_date_math_and_other_clusters_are_refused(at: Clustered) -> None:
    """Rows would be missing without notice: those that a run is late for, and those of a cluster that is not there."""
    put(at, [{"t": START, "v": 1}])
    put(at, [{"t": START, "v": 1}], f"{at.source}-{datetime.now(UTC):%Y.%m.%d}")
    date_math, remote = f"Use a *, as in '{at.source}-*'", "create a RollupStore for that cluster"
    for pattern, says in (
        ("<{0}-{{now/d}}>", date_math),
        ("<{0}-{{now{{yyyy.MM.dd}}}}>", date_math),
        ("{0},<{0}-{{now/M-1M{{yyyy.MM|+01:00}}}}>", date_math),
        ("{0}*,-<{0}-{{now{{yyyy.MM.dd}}}}>", "spec.groups.dateHistogram.delay holds back"),
        ("other:{0}*", remote),
        ("{0},other:{0}-*", remote),
        ("{0}*,-other:*", remote),
    ):
        of = job(at, indexPattern=pattern.format(at.source))
        await failed(at, of, Reason.SOURCE_INVALID, says)
        with pytest.raises(SourceInvalid, match=re.escape(says)):
            await at.store.preview(of, Span(0, START + DAY), 1)
        with pytest.raises(SourceInvalid, match=re.escape(says)):  # as a creation asks
            await at.store.fields(of.spec.index_pattern, of.spec.rollup_index)


# Whole numbers beyond 2^53


async def test_terms_are_exact_and_a_preview_names_what_is_rounded(at: Clustered) -> None:
    large = 2**60 + 1
    put(at, [{"t": START, "v": large, "n": large, "small": 2**53 - 1}], n="long", small="long")
    metrics = [{"field": name, "metrics": ["max"]} for name in ("v", "small")]
    of = job(at, groups={"terms": {"fields": ["n"]}}, metrics=metrics)
    preview = await at.store.preview(of, Span(0, START + DAY), 1)
    (note,) = preview.notes
    assert "2^53" in note
    assert "'v'" in note
    assert "'small'" not in note
    await at.completed(of)
    (document,) = at.documents()
    assert document["n.terms.value"] == large
    assert document["v.max.value"] == float(large)
    assert document["small.max.value"] == 2**53 - 1


async def test_a_preview_names_what_it_cannot_see(at: Clustered) -> None:
    for i in range(2):
        put(at, [{"t": START, "v": 1, "c": [5, 5]}], f"{at.source}-{i}", c="long")
    at.node.call("POST", f"/{at.source}-1/_close")
    of = job(at, indexPattern=f"{at.source}-*", groups={"terms": {"fields": ["c"]}})
    preview = await at.store.preview(of, Span(0, START + DAY), 1)
    ((_, document),) = preview.documents
    assert document["c.terms._count"] == 1
    assert any(f"{at.source}-1 is closed" in note for note in preview.notes)
    assert any("'c'" in note and "script" in note for note in preview.notes)


async def test_a_pattern_with_a_field_that_is_nested_is_refused_by_the_rules_of_creating_too(at: Clustered) -> None:
    put(at, [{"t": START, "v": 1}], rec=NESTED)
    of = job(at, groups={"terms": {"fields": ["rec.name"]}})
    found = await at.store.fields(at.source, at.target)
    assert any("lies within [rec]" in message for message in broken_rules(of.spec, found))
    with pytest.raises(SourceInvalid, match="nested"):
        await at.store.preview(of, Span(0, START), 1)
