"""Each fault that is planted in the documents of a real cluster, or in its source, is found, and nothing else."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from rollup_operator.indexer.verify import Verified
from rollup_operator.rollup.bounds import Bounds, Span
from rollup_operator.rollup.comparison import Kind
from rollup_operator.rollup.identity import JobConfig
from rollup_operator.stores.errors import IdentityConflict, SourceNotFound
from rollup_operator.stores.opensearch import quiet
from support.clustered import Clustered, clustered
from support.embedded import scattered, with_groups
from support.rounding import DAY, HOUR, ms
from support.store_drill import whole_tasks
from support.store_http import StoreHttp
from support.verifying import begun, kinds, verified, verifier

START = ms("2024-03-01T00:00")
NUMBER = {"value.max.value": Kind.DIFFERS, "value.sum.value": Kind.DIFFERS, "value.avg._count": Kind.DIFFERS}


@pytest.fixture
async def at(opensearch: StoreHttp) -> AsyncIterator[Clustered]:
    async with clustered(opensearch) as it:
        it.now = it.now.replace(year=2024, month=3, day=5, hour=4)  # 100 hours after START
        yield it


async def rolled_up(at: Clustered, count: int = 600, **job: Any) -> JobConfig:
    of = at.job(**job)
    at.write(scattered(count, START, 100))
    await at.completed(of)
    at.node.refresh(at.target)
    return of


def documents(at: Clustered) -> dict[str, dict[str, Any]]:
    """The documents with a maximum that counts several rows, by id."""
    found = at.node.documents(at.target)
    return {
        id_: found[id_]
        for id_ in sorted(found)
        if "value.max.value" in found[id_] and found[id_]["ts.date_histogram._count"] > 1
    }


def put(at: Clustered, id_: str, document: dict[str, Any], version: int | None = None) -> None:
    """Write a document as the run that wrote it does, so that another may write it again within the same second."""
    number = version_of(at, id_) if version is None else version
    as_before = {} if number is None else {"version": number, "version_type": "external_gte"}
    at.node.call("PUT", f"/{at.target}/_doc/{id_}", document, refresh=True, **as_before)


def version_of(at: Clustered, id_: str) -> int | None:
    """Return a document's version; None: there is none."""
    _, found = at.node.ask("GET", f"/{at.target}/_doc/{id_}")
    number: int | None = found.get("_version")
    return number


def only(found: Verified) -> tuple[Kind, set[str]]:
    """The one finding, and its fields."""
    assert found.findings is not None
    (finding,) = found.findings.examples
    assert found.findings.total == 1
    return finding.kind, {d.field for d in finding.differences}


async def test_nothing_is_found_where_all_is_well(node: StoreHttp) -> None:
    async with clustered(node) as at:
        at.now = at.now.replace(year=2024, month=3, day=5, hour=4)
        of = await rolled_up(at, pageSize=70)
        found = await verified(at.store, of)
        assert not kinds(found)
        assert found.buckets == len(at.node.documents(at.target))
        assert [(c.rows, c.stored) for _, c in found.days] == [(c.rows, c.rows) for _, c in found.days]
        assert sum(count.rows for _, count in found.days) == 600


async def test_documents_that_somebody_changed_are_found(at: Clustered) -> None:
    of = await rolled_up(at, pageSize=200)
    there = documents(at)
    for (name, kind), (id_, document) in zip(NUMBER.items(), there.items(), strict=False):
        put(at, id_, {**document, name: document[name] + 0.5})
        assert only(await verified(at.store, of)) == (kind, {name})
        put(at, id_, {key: value for key, value in document.items() if key != name})
        assert only(await verified(at.store, of)) == (kind, {name})
        put(at, id_, document)
    for change, kind in ((-1, Kind.DIFFERS), (1, Kind.EXTRA)):
        counts = {f"{group}._count" for group in ("ts.date_histogram", "term.terms", "size.histogram")}
        put(at, id_, {**document, **{name: document[name] + change for name in counts}})
        assert only(await verified(at.store, of)) == (kind, {*counts})
    put(at, id_, document)
    assert not kinds(await verified(at.store, of))


async def test_documents_that_were_deleted_doubled_or_moved_are_found(at: Clustered) -> None:
    of = await rolled_up(at, pageSize=200)
    id_, document = next(iter(documents(at).items()))
    put(at, "stranger", document)
    assert only(await verified(at.store, of)) == (Kind.DUPLICATE, {"documents"})
    at.node.delete_documents(at.target, {"ids": {"values": ["stranger", id_]}})
    assert only(await verified(at.store, of)) == (Kind.MISSING, {"ts.date_histogram._count"})
    put(at, id_, {**document, "term.terms.value": "z"})
    assert kinds(await verified(at.store, of)) == {Kind.MISSING: 1, Kind.EXTRA: 1}


async def test_a_page_that_was_lost_is_missing(at: Clustered) -> None:
    of = await rolled_up(at, pageSize=200)
    lost = {"range": {"ts.date_histogram.timestamp": {"gte": START + 30 * HOUR, "lt": START + 40 * HOUR}}}
    before = len(at.node.documents(at.target))
    at.node.delete_documents(at.target, lost)
    at.node.refresh(at.target)
    found = await verified(at.store, of, full=False)
    assert kinds(found) == {Kind.MISSING: before - len(at.node.documents(at.target))}
    assert [day.start_ms for day in found.compared] == [START + DAY]


@pytest.mark.newest_stores
@pytest.mark.parametrize(
    "interval", [{"calendarInterval": "1d", "timeZone": "Europe/Berlin"}, {"calendarInterval": "1w"}]
)
async def test_a_bucket_that_1970_cuts_is_compared_like_any_other(node: StoreHttp, interval: dict[str, str]) -> None:
    """Clocks that were never set write rows of that time."""
    async with clustered(node) as at:
        of = replace(at.job(pageSize=1), spec=with_groups(at.job(pageSize=1).spec, **interval))
        rows = [(HOUR, 1.0, "a", 1), (HOUR, 5.0, "b", 1), (60 * DAY, 2.0, None, 1)]
        at.write(rows)
        await at.completed(of)
        at.node.refresh(at.target)
        found = await verified(at.store, of)
        assert (found.buckets, kinds(found)) == (3, {})
        assert [c.rows for _, c in found.days if c.rows] == [c.stored for _, c in found.days if c.stored] == [2, 1]
        assert not (await verified(at.store, of, full=False)).compared
        cut = {id_: d for id_, d in at.node.documents(at.target).items() if d["term.terms.value"] == "a"}
        ((id_, document),) = cut.items()
        put(at, id_, {**document, "value.max.value": 7.0})
        assert only(await verified(at.store, of)) == (Kind.DIFFERS, {"value.max.value"})
        version = version_of(at, id_)
        at.node.call("DELETE", f"/{at.target}/_doc/{id_}", refresh=True, version=version, version_type="external_gte")
        assert only(await verified(at.store, of, full=False)) == (Kind.MISSING, {"ts.date_histogram._count"})
        # As an earlier version wrote it: a search by time finds it nowhere but in Elasticsearch from 8 on, and a repair
        # writes it under the same id.
        begin = with_groups(at.job().spec, **interval).groups.date_histogram
        put(at, id_, {**document, "ts.date_histogram.timestamp": Bounds.of(begin).round_down(0)}, version)
        if node.kind in ("elasticsearch8", "elasticsearch9"):
            assert not kinds(await verified(at.store, of))
        else:
            assert only(await verified(at.store, of)) == (Kind.MISSING, {"ts.date_histogram._count"})
        (tier,) = await at.store.tiers([at.target])
        assert tier.begin_ms == Bounds.of(begin).round_down(0)
        run = at.begin(of)
        run.reread = [(0, 7 * DAY)]
        result = await run.index()
        assert (result.outcome, result.rewritten) == ("Completed", 1), result
        assert not kinds(await verified(at.store, of))
        assert at.node.documents(at.target)[id_] == document


async def test_late_rows_and_a_shrunk_source_are_found(at: Clustered) -> None:
    of = await rolled_up(at, pageSize=200)
    at.write([(START + 6 * HOUR, 1.0, "new", 1)])
    assert only(await verified(at.store, of)) == (Kind.MISSING, {"ts.date_histogram._count"})
    gone = {"range": {"ts": {"gte": START, "lt": START + 24 * HOUR, "format": "epoch_millis"}}}
    at.node.delete_documents(at.source, gone)
    found = await verified(at.store, of)
    assert set(kinds(found)) == {Kind.EXTRA}
    assert found.findings is not None
    assert list(found.findings.days) == [START]


async def test_counts_alone_do_not_see_other_numbers(at: Clustered) -> None:
    of = await rolled_up(at)
    id_, document = next(iter(documents(at).items()))
    put(at, id_, {**document, "value.max.value": 1e9})
    found = await verified(at.store, of, full=False)
    assert (found.compared, found.findings) == ([], None)
    assert only(await verified(at.store, of, full=True)) == (Kind.DIFFERS, {"value.max.value"})
    span = Span(START + 99 * HOUR, START + 100 * HOUR)
    assert (
        not kinds(await verified(at.store, of, span=span)) or document["ts.date_histogram.timestamp"] >= span.start_ms
    )


@pytest.mark.parametrize(
    "interval",
    [
        {"fixedInterval": "5h", "timeZone": "Europe/Berlin"},
        {"calendarInterval": "1d", "timeZone": "America/Santiago"},
        {"calendarInterval": "1M"},
    ],
)
async def test_every_kind_of_bucket_is_compared(at: Clustered, interval: dict[str, str]) -> None:
    chance = random.Random(str(interval))
    groups = with_groups(at.job().spec, **interval).groups.model_dump(by_alias=True, exclude_none=True)
    of = at.job(groups=groups, pageSize=100)
    at.now = at.now.replace(year=2025)
    at.write(scattered(500, START, 24 * 300, seed=3))
    await at.completed(of)
    found = await verified(at.store, of)
    assert not kinds(found)
    assert found.buckets == len(at.documents())
    id_ = chance.choice(list(documents(at)))
    at.node.delete_documents(at.target, {"ids": {"values": [id_]}})
    assert only(await verified(at.store, of)) == (Kind.MISSING, {"ts.date_histogram._count"})


async def test_documents_with_several_values_are_compared_in_full(at: Clustered) -> None:
    of = at.job(pageSize=20)
    at.node.create(at.source, {"ts": "date", "value": "double", "term": "keyword", "size": "long"})
    rows = [{"ts": START + i * 60_000, "value": [1.5, i], "term": ["a", "b"], "size": [1, 15, 15]} for i in range(100)]
    at.node.load(at.source, rows)
    await at.completed(of)
    found = await verified(at.store, of, full=False)
    assert not kinds(found)
    assert found.compared


async def test_a_run_repairs_the_stretches_that_it_is_asked_for(at: Clustered) -> None:
    of = await rolled_up(at, pageSize=100)
    there = documents(at)
    (lost, _), (wrong, document), *_ = there.items()
    at.node.delete_documents(at.target, {"ids": {"values": [lost]}})
    put(at, wrong, {**document, "value.max.value": 1e9})
    assert kinds(await verified(at.store, of)) == {Kind.MISSING: 1, Kind.DIFFERS: 1}
    run = at.begin(of)
    times = sorted(there[id_]["ts.date_histogram.timestamp"] for id_ in (lost, wrong))
    run.reread = [(time, time + HOUR) for time in times]
    result = await run.index()
    assert (result.outcome, result.rewritten) == ("Completed", 2)
    assert not kinds(await verified(at.store, of))


async def test_documents_with_several_values_are_read_again_as_they_were(at: Clustered) -> None:
    of = at.job(pageSize=20)
    at.node.create(at.source, {"ts": "date", "value": "double", "term": "keyword", "size": "long"})
    rows = [{"ts": START + i * HOUR, "value": i, "term": "a", "size": [1, 5] if i == 3 else 1} for i in range(90)]
    at.node.load(at.source, rows)
    await at.completed(of)
    run = at.begin(of)
    run.reread = [(START, START + 50 * HOUR)]
    result = await run.index()
    assert (result.outcome, result.rewritten, result.kept) == ("Completed", 0, 0)
    assert not kinds(await verified(at.store, of))


async def test_what_is_not_this_job_s_or_gone_is_said(at: Clustered) -> None:
    of = at.job()
    at.write(scattered(10, START, 100))
    assert (await verified(at.store, of)).extent.span.empty
    await at.completed(of)
    at.alive = {"1"}
    with pytest.raises(IdentityConflict):
        await verified(at.store, at.job(uid="2"))
    at.node.delete(at.target)
    with pytest.raises(IdentityConflict, match="was deleted"):
        await verified(at.store, of)


async def test_a_source_that_is_gone_is_named(at: Clustered) -> None:
    of = await rolled_up(at, 10)
    at.node.delete(at.source)
    with pytest.raises(SourceNotFound):
        await verified(at.store, of)


@pytest.mark.parametrize("awaited", [False, True])
async def test_a_verification_that_is_given_up_leaves_nothing_running(at: Clustered, awaited: bool) -> None:
    of = await rolled_up(at, pageSize=10)
    seen = set()
    for _ in range(10):
        checking = verifier(at.store, of, awaited=awaited)
        task = asyncio.ensure_future(checking.verify(Span(0, START + 100 * HOUR)))
        await begun(checking, task)
        seen |= {call.opaque_id for call in at.cluster._under_way.values()}
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not at.cluster._under_way
        assert not at.cluster.pages.of.taken
        assert whole_tasks(at.node, "rollup-operator/verify/") == []
        assert whole_tasks(at.node, "rollup/") == []
    uid = of.owner.uid
    assert seen == {quiet.verification_id(uid) if awaited else f"rollup-operator/verify/{uid}"}
