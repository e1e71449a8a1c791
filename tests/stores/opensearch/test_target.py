"""The rollup index in a real cluster: how it is made, what it may be, and that no job's entry is ever lost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from rollup_operator.model.conditions import Reason
from rollup_operator.stores.errors import IdentityConflict, StoreUnavailable, StoreUnsuitable
from rollup_operator.stores.opensearch import claims, records
from rollup_operator.stores.opensearch.preparing import prepare
from rollup_operator.stores.opensearch.target import index as target
from rollup_operator.stores.opensearch.target import mapping
from rollup_operator.stores.opensearch.target.index import Unfit
from rollup_operator.stores.opensearch.target.lock import locked
from rollup_operator.stores.opensearch.transport.client import Cluster
from support.clustered import clustered
from support.rounding import HOUR
from support.store_faults import Answer
from support.store_http import StoreHttp, unique
from support.store_jobs import FIELDS, batch, connected, job, ready, taken, write
from support.store_proxy import StoreProxy


@pytest.fixture
async def cluster(opensearch: StoreHttp) -> AsyncIterator[Cluster]:
    async with connected(opensearch.url) as made:
        yield made


def properties(mappings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """The types of all fields by their full names."""
    found: dict[str, str] = {}
    for name, field in mappings.get("properties", {}).items():
        if "properties" in field:
            found |= properties(field, f"{prefix}{name}.")
        else:
            found[prefix + name] = field["type"]
    return found


async def test_a_new_rollup_index_is_as_the_contract_says(cluster: Cluster, opensearch: StoreHttp) -> None:
    of = job(metrics=[{"field": "value", "metrics": ["sum", "avg", "value_count"]}])
    record = await ready(cluster, of)
    await write(cluster, record, batch(record, 3))
    found = opensearch.mapping(of.spec.rollup_index)
    assert found["_meta"]["rollup-version"] == ""
    assert found["_meta"]["_rollup"] == {
        "job": {
            "id": "job",
            "index_pattern": "events-*",
            "rollup_index": of.spec.rollup_index,
            "cron": "0 0 * * * ?",
            "groups": {
                "date_histogram": {"fixed_interval": "1h", "field": "ts", "time_zone": "UTC"},
                "histogram": {"interval": 10, "fields": ["size"]},
                "terms": {"fields": ["term"]},
            },
            "metrics": [{"field": "value", "metrics": ["sum", "avg", "value_count"]}],
            "timeout": "20s",
            "page_size": 5000,
        }
    }
    strings, dates = found["dynamic_templates"]
    assert strings == {"strings": {"match_mapping_type": "string", "mapping": {"type": "keyword"}}}
    assert dates == {"date_histograms": {"path_match": "*.date_histogram.timestamp", "mapping": {"type": "date"}}}
    assert properties(found) == {
        "_rollup.id": "keyword",
        "_rollup.version": "long",
        "ts.date_histogram.timestamp": "date",
        "ts.date_histogram.interval": "keyword",
        "ts.date_histogram.time_zone": "keyword",
        "ts.date_histogram._count": "long",
        "size.histogram.value": "double",
        "size.histogram.interval": "long",
        "size.histogram._count": "long",
        "term.terms.value": "keyword",
        "term.terms._count": "long",
        "value.sum.value": "double",
        "value.avg.value": "double",
        "value.avg._count": "double",
        "value.value_count.value": "double",
    }
    (alias,) = opensearch.call("GET", f"/{of.spec.rollup_index}/_alias")[of.spec.rollup_index]["aliases"].items()
    assert alias == (record.gate, {"is_hidden": True})


async def test_a_released_claim_keeps_its_gate_and_a_run_changes_nothing_that_fits(
    cluster: Cluster, opensearch: StoreHttp
) -> None:
    of = job()
    first = await ready(cluster, of)
    before = opensearch.call("GET", "/_cluster/state/metadata", filter_path="version,metadata.version")
    await claims.release(cluster, first)
    second = await ready(cluster, of)
    assert (second.gate, second.target) == (first.gate, first.target)
    assert second.claim.epoch > first.claim.epoch
    await write(cluster, second, batch(second, 3))
    after = opensearch.call("GET", "/_cluster/state/metadata", filter_path="version,metadata.version")
    assert after == before


@pytest.mark.parametrize("codec", ["default", "best_compression"])
async def test_the_settings_of_the_job_are_those_of_the_index(
    cluster: Cluster, opensearch: StoreHttp, codec: str
) -> None:
    settings = {
        "numberOfShards": 2,
        "numberOfReplicas": 0,
        "codec": codec,
        "refreshInterval": "30s",
        "sortByTime": True,
    }
    of = job(rollupIndexSettings=settings)
    await ready(cluster, of)
    found = opensearch.settings(of.spec.rollup_index)
    assert {k: v for k, v in found.items() if k.partition(".")[2] in _GIVEN} == {
        "index.number_of_shards": "2",
        "index.number_of_replicas": "0",
        "index.codec": codec,
        "index.refresh_interval": "30s",
        "index.sort.field": "ts.date_histogram.timestamp",
    }


NO_LIBRARY = "Could not initialize class Zstd"
BROKEN = Answer(500, "no_class_def_found_error", NO_LIBRARY)


@pytest.mark.newest_stores
async def test_a_codec_that_the_cluster_lacks_is_reported_before_a_page_is_read(opensearch: StoreHttp) -> None:
    """An Elasticsearch 9 as it is here lacks it; others are made to seem so."""
    async with StoreProxy(opensearch.url) as proxy, clustered(opensearch, proxy.url) as at:
        at.write([(HOUR * i, float(i), "a", i) for i in range(50)])
        if opensearch.kind != "elasticsearch9":
            proxy.on("PUT", "/_doc/rollup-operator-codec", fault=BROKEN, times=None)
        error = (await at.run(at.job(rollupIndexSettings={"codec": "best_compression"}))).error
        assert isinstance(error, StoreUnsuitable)
        assert f"rollup index '{at.target}' breaks with the codec best_compression" in str(error)
        assert "without spec.rollupIndexSettings.codec" in str(error)
        assert not any(b"composite" in request.body for request in proxy.requests)
        assert not opensearch.exists(at.target)  # not even a red one
        await at.completed()  # without it
        assert len(at.documents()) == 50


async def test_a_failure_that_the_codec_is_not_to_blame_for_passes(opensearch: StoreHttp) -> None:
    async with StoreProxy(opensearch.url) as proxy, clustered(opensearch, proxy.url) as at:
        at.write([(HOUR * i, float(i), "a", i) for i in range(50)])
        of = at.job(rollupIndexSettings={"codec": "best_compression"})
        proxy.on("PUT", f"^/{at.target}$", fault=BROKEN)
        error = (await at.run(of)).error
        assert isinstance(error, StoreUnavailable)
        assert NO_LIBRARY in str(error)
        proxy.on("PUT", "/_doc/rollup-operator-codec", fault=BROKEN)
        await at.completed(of)
        assert opensearch.settings(at.target)["index.codec"] == "best_compression"
        assert len(at.documents()) == 50


async def test_without_anything_to_write_no_index_is_made_for_its_codecs_sake(opensearch: StoreHttp) -> None:
    async with clustered(opensearch) as at:
        at.write([])
        await at.completed(at.job(rollupIndexSettings={"codec": "best_compression"}))
        assert not opensearch.exists(at.target)


_GIVEN = {"number_of_shards", "number_of_replicas", "codec", "refresh_interval", "sort.field"}


async def test_a_job_of_very_many_metrics_has_room(cluster: Cluster) -> None:
    every = ["min", "max", "sum", "avg", "value_count"]
    of = job(metrics=[{"field": f"metric.number.{i}", "metrics": every} for i in range(256)])
    record = await ready(cluster, of)
    await claims.release(cluster, record)


async def test_claims_never_have_more_copies_than_a_target(cluster: Cluster, opensearch: StoreHttp) -> None:
    def copies() -> str:
        return str(opensearch.settings(records.INDEX)["index.number_of_replicas"])

    for wanted, left in ((2, "2"), (1, "1"), (3, "1"), (0, "0"), (1, "0")):
        await ready(cluster, job(job_id=f"job-{wanted}", rollupIndexSettings={"numberOfReplicas": wanted}))
        assert copies() == left
    expanding = unique("rolled")
    opensearch.set_settings(records.INDEX, **{"index.number_of_replicas": 1})
    opensearch.call(
        "PUT",
        f"/{expanding}",
        {"settings": {"auto_expand_replicas": "0-1"}, "mappings": {"_meta": {"_rollup": {}}}},
    )
    await ready(cluster, job(expanding))
    assert copies() == "0"


@pytest.mark.parametrize(
    ("mappings", "text"),
    [
        ({}, r"expected to find _meta key in mapping of rollup index \[.*\] but not found"),
        ({"_meta": {"mine": 1}}, r"expected to find rollup meta key \[_rollup\] in mapping"),
        (
            {"_meta": {"_rollup": {}}, "properties": {"value.sum.value": {"type": "float"}}},
            "keeps field 'value.sum.value' as float, and the job needs double",
        ),
        ({"_meta": {"_rollup": {}}, "properties": {"ts": {"type": "date"}}}, "keeps field 'ts.*' as date"),
        ({"_meta": {"_rollup": {}}, "dynamic": "strict"}, None),
    ],
)  # fmt: skip
async def test_an_index_that_is_there_must_fit(
    cluster: Cluster, opensearch: StoreHttp, mappings: dict[str, Any], text: str | None
) -> None:
    index = unique("rolled")
    opensearch.call("PUT", f"/{index}", {"mappings": mappings})
    of = job(index)
    if text is None:
        record = await ready(cluster, of)
        await write(cluster, record, batch(record, 2))
        assert opensearch.count(index) == 2
        return
    record = await taken(cluster, of)
    with pytest.raises(Unfit, match=text) as caught:
        await prepare(cluster, of, record, FIELDS)
    assert (caught.value.reason, caught.value.transient) == (Reason.MAPPING_CONFLICT, False)
    assert opensearch.count(index) == 0


async def test_a_name_for_other_indices_is_no_rollup_index(cluster: Cluster, opensearch: StoreHttp) -> None:
    index, alias = opensearch.create(unique("real")), unique("rolled")
    opensearch.call("POST", "/_aliases", {"actions": [{"add": {"index": index, "alias": alias}}]})
    with pytest.raises(Unfit, match="name the index itself"):
        await ready(cluster, job(alias))


async def test_what_another_made_there_stays(cluster: Cluster, opensearch: StoreHttp) -> None:
    """As an index that Elasticsearch's own rollup made, with another job's entry and documents."""
    index = unique("rolled")
    theirs = {"id": "theirs", "groups": {"date_histogram": {"field": "t", "fixed_interval": "1d"}}, "metrics": []}
    meta = {"rollup-version": "8.5.0", "_rollup": {"theirs": theirs}, "more": [1]}
    templates = mapping.mappings(job(index), {})["dynamic_templates"]
    opensearch.call("PUT", f"/{index}", {"mappings": {"_meta": meta, "dynamic_templates": templates}})
    opensearch.load(index, [{"_rollup.id": "theirs", "t.date_histogram.timestamp": 0, "t.min.value": 1.5}])
    record = await ready(cluster, of := job(index))
    await write(cluster, record, batch(record, 2))
    found = opensearch.mapping(index)["_meta"]
    assert found == {**meta, "_rollup": {"theirs": theirs, "job": mapping.entry(of)}}
    assert opensearch.count(index) == 3


async def test_documents_of_this_id_by_other_groups_are_not_continued(cluster: Cluster, opensearch: StoreHttp) -> None:
    record = await ready(cluster, of := job())
    opensearch.delete(records.INDEX)  # the record is lost
    assert (await ready(cluster, of)).target == record.target  # the same: it begins anew over what is there
    opensearch.delete(records.INDEX)
    other = job(of.spec.rollup_index, metrics=[{"field": "value", "metrics": ["max"]}])
    with pytest.raises(IdentityConflict, match="other groups or metrics") as caught:
        await ready(cluster, other)
    assert caught.value.reason is Reason.CONFIG_CHANGED


async def test_an_entry_that_was_overwritten_or_is_out_of_date_is_mended(
    cluster: Cluster, opensearch: StoreHttp
) -> None:
    record = await ready(cluster, of := job())
    opensearch.call("PUT", f"/{of.spec.rollup_index}/_mapping", {"_meta": {"_rollup": {}}})
    assert await prepare(cluster, of, record, FIELDS) == record
    assert opensearch.mapping(of.spec.rollup_index)["_meta"]["_rollup"] == {"job": mapping.entry(of)}
    changed = job(of.spec.rollup_index, cron="0 30 * * * ?")
    await prepare(cluster, changed, record, FIELDS)
    assert opensearch.mapping(of.spec.rollup_index)["_meta"]["_rollup"]["job"]["cron"] == "0 30 * * * ?"


async def test_jobs_that_register_at_once_keep_each_others_entry(cluster: Cluster, opensearch: StoreHttp) -> None:
    for _ in range(3):
        index = unique("rolled")
        jobs = [job(index, job_id=f"job-{i}") for i in range(10)]
        await asyncio.gather(*(ready(cluster, of) for of in jobs))
        found = opensearch.mapping(index)["_meta"]["_rollup"]
        assert found == {of.job_id: mapping.entry(of) for of in jobs}


async def test_the_lock_of_a_dead_holder_is_taken_over(cluster: Cluster, opensearch: StoreHttp) -> None:
    await taken(cluster, job())  # makes the index of claims
    order: list[str] = []

    async def hold(who: str, *, die: bool) -> None:
        async with locked(cluster, records.ALIAS, "rolled", opaque_id=who, abandoned=0.5):
            order.append(who)
            if die:
                raise asyncio.CancelledError

    alive = asyncio.Event()

    async def dead() -> None:
        async with locked(cluster, records.ALIAS, "rolled", opaque_id="dead"):
            alive.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(dead())
    await alive.wait()
    async with asyncio.timeout(20):
        await asyncio.gather(*(hold(f"w{i}", die=False) for i in range(3)))
    assert sorted(order) == ["w0", "w1", "w2"]
    task.cancel()  # it wakes up, and leaves alone what is not its own
    with pytest.raises(asyncio.CancelledError):
        await task
    assert opensearch.get(records.INDEX, "lock/rolled") is None


async def test_a_target_that_was_deleted_or_replaced_is_not_made_anew(cluster: Cluster, opensearch: StoreHttp) -> None:
    record = await ready(cluster, of := job())
    opensearch.delete(of.spec.rollup_index)
    with pytest.raises(IdentityConflict, match="deleted") as caught:
        await prepare(cluster, of, record, FIELDS)
    assert caught.value.reason is Reason.TARGET_MISSING
    assert "go on in a new job with another spec.rollupIndex" in str(caught.value)  # the field is fixed now
    assert not opensearch.exists(of.spec.rollup_index)
    opensearch.call("PUT", f"/{of.spec.rollup_index}", {"mappings": {"_meta": {"_rollup": {}}}})
    with pytest.raises(IdentityConflict, match="not the one that the job wrote to") as caught:
        await prepare(cluster, of, record, FIELDS)
    assert caught.value.reason is Reason.TARGET_REPLACED
    found = await target.read(cluster, of.spec.rollup_index, opaque_id="test")
    assert found is not None
    assert not found.aliases
    assert replace(record, target=found.uuid) != record
