"""A run counts what the cluster has stored, whatever pipelines, templates and blocks stand in between."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rollup_operator.model.conditions import Reason
from support.clustered import Clustered, clustered
from support.rounding import HOUR, ms
from support.store_http import StoreHttp, unique

START = ms("2024-01-01T00:10")
HALF_HOURS = [(START + i * HOUR // 2, float(i), "ab"[i % 2], 1) for i in range(20)]
DROP = {"drop": {"if": "ctx['term.terms.value'] == 'a'"}}
FAIL = {"fail": {"message": "not with me"}}
MOVE = {"set": {"field": "_index", "value": "elsewhere"}}


@pytest.fixture
async def at(node: StoreHttp) -> AsyncIterator[Clustered]:
    async with clustered(node) as made:
        made.write(HALF_HOURS)
        yield made


@contextmanager
def pipeline(node: StoreHttp, *processors: dict[str, Any]) -> Iterator[str]:
    name = unique("pipeline")
    node.call("PUT", f"/_ingest/pipeline/{name}", {"processors": list(processors)})
    yield name
    for index in node.call("GET", "/_all/_settings/index.*_pipeline", expand_wildcards="all"):
        node.set_settings(index, **{"index.default_pipeline": None, "index.final_pipeline": None})
    node.call("DELETE", f"/_ingest/pipeline/{name}")


@contextmanager
def template(node: StoreHttp, pattern: str, **body: Any) -> Iterator[None]:
    name = unique("template")
    node.call("PUT", f"/_index_template/{name}", {"index_patterns": [pattern], "priority": 500, **body})
    yield
    node.call("DELETE", f"/_index_template/{name}")


@pytest.mark.parametrize("setting", ["index.default_pipeline", "index.final_pipeline"])
@pytest.mark.parametrize("processor", [DROP, FAIL, MOVE], ids=["drop", "fail", "move"])
async def test_a_templates_pipelines_do_not_touch_a_rollup_index(
    at: Clustered, setting: str, processor: dict[str, Any]
) -> None:
    with (
        pipeline(at.node, processor) as name,
        template(at.node, f"{at.target}*", template={"settings": {setting: name}}),
    ):
        claim = await at.completed()
        assert len(at.documents()) == claim.stats.rollups_indexed == 20


TEMPLATES: dict[str, tuple[dict[str, Any], str | None]] = {
    "unlike fields": ({"mappings": {"properties": {"value.sum.value": {"type": "keyword"}}}}, "value"),
    "a value for an object": ({"mappings": {"properties": {"value": {"type": "keyword"}}}}, "value"),
    "strict": ({"mappings": {"dynamic": "strict"}}, None),
    "nothing dynamic": ({"mappings": {"dynamic": False}}, None),
    "no source": ({"mappings": {"_source": {"enabled": False}}}, "has _source"),
    "part of the source": ({"mappings": {"_source": {"excludes": ["value.*"]}}}, "has _source"),
    "another part of the source": ({"mappings": {"_source": {"excludes": ["secret*", "value.su"]}}}, None),
    "routed": ({"mappings": {"_routing": {"required": True}}}, "has _routing"),
    "few fields": ({"settings": {"index.mapping.total_fields.limit": 5}}, "total fields"),
    "sorted by what is not there": ({"settings": {"index.sort.field": "other"}}, "other"),
    "blocked": ({"settings": {"index.blocks.write": True}}, "blocked"),
    "never refreshed": ({"settings": {"index.refresh_interval": "-1"}}, None),
    "an alias": ({"aliases": {"seen": {"filter": {"term": {"term.terms.value": "a"}}}}}, None),
}
"""What a template says of the rollup index, and what a run says that does not come to its end; None: it does."""


@pytest.mark.parametrize("kind", TEMPLATES)
async def test_what_a_template_says_of_a_rollup_index_is_passed_by_or_named(opensearch: StoreHttp, kind: str) -> None:
    body, says = TEMPLATES[kind]
    async with clustered(opensearch) as at:
        at.write(HALF_HOURS)
        with template(at.node, f"{at.target}*", template=body):
            result = await at.run()
        if result.outcome == "Completed":
            assert says is None or not says.startswith("has")
            assert sorted(d["value.sum.value"] for d in at.documents()) == [float(i) for i in range(20)]
            return
    assert says is not None, result
    assert says in result.message
    assert at.target in result.message
    assert not result.error.transient  # type: ignore[union-attr]


async def test_a_template_that_changes_later_changes_nothing(at: Clustered) -> None:
    await at.completed(at.job(end="2024-01-01T02:00:00Z"))
    body = {
        "settings": {"index.final_pipeline": "none-such", "index.blocks.write": True},
        "mappings": {"_source": {"enabled": False}},
    }
    with template(at.node, f"{at.target}*", template=body):
        await at.completed()
        assert len(at.documents()) == 20


async def test_a_default_pipeline_of_an_index_that_is_there_is_passed_by(at: Clustered) -> None:
    with pipeline(at.node, DROP) as name:
        await at.completed(at.job(end="2024-01-01T02:00:00Z"))
        at.node.set_settings(at.target, **{"index.default_pipeline": name})
        await at.completed()
        assert len(at.documents()) == 20


@pytest.mark.parametrize(
    ("processor", "says"),
    [(DROP, "noop"), (FAIL, "not with me"), (MOVE, "change the target index")],
    ids=["drop", "fail", "move"],
)
async def test_a_final_pipeline_that_loses_documents_fails_the_run_and_is_named(
    at: Clustered, processor: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollup_operator.stores.opensearch.transport.retry.SECONDS", 0.5)
    with pipeline(at.node, processor) as name:
        before = await at.completed(at.job(end="2024-01-01T02:00:00Z"))
        at.node.set_settings(at.target, **{"index.final_pipeline": name})
        result = await at.run()
        assert result.outcome == "Failed"
        assert result.error is not None
        assert (result.error.reason, result.error.transient) == (Reason.TARGET_BLOCKED, False)  # type: ignore[attr-defined]
        assert f"index.final_pipeline {name!r}" in result.message
        assert says in result.message
        assert "set it to _none" in result.message
        assert "0 documents" in result.message
        assert result.claim is not None
        assert result.claim.position == before.position
        at.node.set_settings(at.target, **{"index.final_pipeline": "_none"})
        claim = await at.completed()
        assert len(at.documents()) == claim.stats.rollups_indexed == 20


async def test_a_name_that_a_template_keeps_for_data_streams_says_so(
    at: Clustered, monkeypatch: pytest.MonkeyPatch
) -> None:
    if at.node.kind == "elasticsearch7":
        pytest.skip("this node is built without data streams")
    monkeypatch.setattr(
        "rollup_operator.stores.opensearch.source.pages.search", None
    )  # it is told before a page is read
    with template(at.node, f"{at.target}*", data_stream={}):
        result = await at.run()
        assert result.outcome == "Failed"
        assert result.error.reason == Reason.TARGET_BLOCKED  # type: ignore[union-attr]
        assert "template makes data streams" in result.message
        assert "another spec.rollupIndex" in result.message


async def test_buckets_of_keys_that_look_alike_are_all_there(node: StoreHttp) -> None:
    pairs = [("Outer$Inner", "run"), ("Outer", "Inner$run"), ("Outer", "run"), ("a", None)]
    pairs += [("a", "__NULL_PLACEHOLDER__830f1de2__"), (None, "a"), ("__NULL_PLACEHOLDER__830f1de2__", "a")]
    async with clustered(node) as at:
        node.create(at.source, {"ts": "date", "a": "keyword", "b": "keyword", "value": "long"})
        rows = ({"ts": START, "a": a, "b": b, "value": 2**i} for i, (a, b) in enumerate(pairs))
        node.load(at.source, ({k: v for k, v in row.items() if v is not None} for row in rows))
        groups = {"dateHistogram": {"field": "ts", "fixedInterval": "1h"}, "terms": {"fields": ["a", "b"]}}
        job = at.job(groups=groups, metrics=[{"field": "value", "metrics": ["sum"]}], lookback="9000d")
        claim = await at.completed(job)
        found = {(d["a.terms.value"], d["b.terms.value"]): d["value.sum.value"] for d in at.documents()}
        assert found == {pair: float(2**i) for i, pair in enumerate(pairs)}
        assert claim.stats.rollups_indexed == len(pairs)
        again = await at.run(job)
        assert (again.outcome, again.rewritten, again.kept) == ("Completed", 0, 0)
        await asyncio.to_thread(node.load, at.source, [{"ts": START, "a": "Outer", "b": "Inner$run", "value": 100}])
        assert (await at.run(job)).rewritten == 1
        assert len(at.documents()) == len(pairs)


async def test_a_document_that_an_earlier_version_wrote_under_elasticsearchs_id_is_not_written_twice(
    node: StoreHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with clustered(node) as at:
        at.write([(START, 1.0, "a$b", 1), (START, 1.0, "c", 1)])
        job = at.job(lookback="9000d")
        with monkeypatch.context() as before:
            before.setattr("rollup_operator.stores.opensearch.target.encoder.is_ambiguous", lambda _: False)
            await at.completed(job)
        ids = at.node.documents(at.target).keys()
        assert (await at.run(job)).rewritten == 0
        await asyncio.to_thread(at.write, [(START, 10.0, "a$b", 1), (START, 5.0, "d$", 1)])
        assert (await at.run(job)).rewritten == 2
        found = at.node.documents(at.target)
        assert {d["term.terms.value"]: d["value.sum.value"] for d in found.values()} == {
            "a$b": 11.0,
            "c": 1.0,
            "d$": 5.0,
        }
        assert ids < found.keys()
        assert len(found) == 3
