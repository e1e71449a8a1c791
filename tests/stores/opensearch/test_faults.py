"""What goes wrong between a run and its cluster, step by step: nothing is lost, nothing is double, and it is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest

from rollup_operator.indexer.run import RunResult
from rollup_operator.model.conditions import Reason
from rollup_operator.stores.errors import StoreError
from rollup_operator.stores.opensearch import records
from support.clustered import clustered
from support.store_drill import Drill
from support.store_faults import Answer, CutAfter, CutBefore, CutInside, CutSent, HalfBulk, Hold
from support.store_http import StoreHttp, unique
from support.store_jobs import slow_down
from support.store_proxy import Fault, Pass, Request, StoreProxy
from support.store_steps import STEPS, Steps, on_step

FAULTS: dict[str, Callable[[], Fault]] = {
    "cut before": CutBefore,
    "cut sent": CutSent,
    "cut after": CutAfter,
    "cut inside": CutInside,
    "503": lambda: Answer(503),
    "429": lambda: Answer(429),
}
ONCE_OR_ON = (
    ("cut before", 1),
    ("cut sent", 1),
    ("cut after", 1),
    ("cut inside", 1),
    ("503", 1),
    ("429", None),
    ("cut after", None),
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again for ten seconds is given up sooner."""
    monkeypatch.setattr("rollup_operator.stores.opensearch.transport.retry.SECONDS", 0.4)


@pytest.fixture
async def drill(opensearch: StoreHttp) -> AsyncIterator[Drill]:
    async with StoreProxy(opensearch.url) as proxy, clustered(opensearch, proxy.url) as at:
        made = Drill(at, proxy, [])
        made.grow()
        yield made


def reports_failure(result: RunResult, name: str) -> None:
    """Assert that a run that failed says why, and that it passes."""
    assert isinstance(result.error, StoreError)
    reason = Reason.STORE_OVERLOADED if name == "429" else Reason.STORE_UNAVAILABLE
    assert (result.error.reason, result.error.transient) == (reason, True), result


AT_THE_BEGINNING = ("make claims", "make record", "make target", "look at lock", "lock", "register", "unlock")
AFTER_A_LOSS = ("look at gate", "change gate", "tasks")
IN_THE_MIDDLE = ("page", "bulk", "commit")
AT_THE_END = (*AFTER_A_LOSS, "release")
"""All is done by then: the run is complete, and what is left is for the next one to find."""
CARRIED_OUT = ("cut after", "cut inside")
FOUND_OUT = ("make claims", "make record", "claim", "lock", "commit", "release")
"""Of these a run finds out that they were carried out, though it never hears of it."""


@pytest.mark.parametrize("step", STEPS)
async def test_a_fault_at_any_step(drill: Drill, step: str) -> None:
    """Once, so that the run may go on, and for as long as the run tries."""
    job = drill.at.job(pageSize=8, parallelism=2)
    if step not in AT_THE_BEGINNING:
        await drill.at.completed(job)
    for name, times in ONCE_OR_ON:
        if step in AT_THE_BEGINNING:
            await begin_anew(drill, step)
            job = drill.at.job(job_id=unique("job"), pageSize=8)
        else:
            drill.grow()
        if step in AFTER_A_LOSS:
            drill.proxy.on("POST", "/_bulk", fault=CutAfter())
        nth = 2 if step in IN_THE_MIDDLE else 1
        wrong = on_step(drill.proxy, step, fault=FAULTS[name](), nth=nth, times=times)
        result = await drill.run(job)
        assert wrong, (name, times)
        if result.outcome != "Completed":
            reports_failure(result, name)
        elif step == "unlock":
            pass  # whoever needs the lock next finds that nobody keeps it
        elif step in AT_THE_END:
            assert times == 1 or not result.released or name in CARRIED_OUT, (name, result)
        else:
            assert times == 1 or (step in FOUND_OUT and name in CARRIED_OUT), (name, result)
        await drill.recover(job, result)


async def begin_anew(drill: Drill, step: str) -> None:
    """Let the job's first run have the step in it."""
    drill.at.target = unique("out")
    if step == "make claims":
        drill.at.node.delete(records.INDEX)
    elif step != "make target":
        await drill.at.completed(drill.at.job(job_id="other"))


STORMS = {
    "full queue": Answer(429, "es_rejected_execution_exception", "rejected execution of task"),
    "breaker": Answer(429),
    "too many buckets": Answer(503, "too_many_buckets_exception", "Trying to create too many buckets."),
    "too many buckets, newer": Answer(400),
    "time is up": Answer(408),
    "cancelled": Answer(500, "task_cancelled_exception", "task cancelled [time is up]"),
}


@pytest.mark.parametrize("storm", STORMS)
async def test_pages_shrink_in_a_storm_and_grow_back(drill: Drill, storm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollup_operator.stores.opensearch.transport.retry.SECONDS", 5.0)
    drill.grow(12)
    job = drill.at.job(pageSize=8)
    wrong = on_step(drill.proxy, "page", fault=STORMS[storm], nth=2, times=2)
    result = await drill.run(job)
    assert result.outcome == "Completed"
    drill.complete(job, result)
    asked = sizes(drill.proxy)
    assert [asked.index(8), *asked[1:4]] == [0, 8, 4, 2]
    assert len(wrong) == 2
    assert max(asked[4:]) > 2
    assert result.claim is not None
    assert result.claim.page_hint is not None
    assert 2 < result.claim.page_hint <= 8
    drill.grow(1)
    before = len(asked)
    drill.complete(job, await drill.run(job))
    assert sizes(drill.proxy)[before] == result.claim.page_hint  # the next run begins with what was learned


def sizes(proxy: StoreProxy) -> list[int]:
    """How many buckets each page was asked for."""
    steps = Steps()
    pages = [json.loads(r.body) for r in proxy.requests if steps.name(r) == "page"]
    return [body["aggregations"]["rollup"]["composite"]["size"] for body in pages]


@pytest.mark.parametrize("times", [1, None])
async def test_a_bulk_that_is_half_refused_for_want_of_room(drill: Drill, times: int | None) -> None:
    job = drill.at.job(pageSize=8)
    on_step(drill.proxy, "bulk", fault=HalfBulk(type_="es_rejected_execution_exception"), nth=2, times=times)
    result = await drill.run(job)
    assert result.outcome == ("Completed" if times else "Failed")
    if times is None:
        reports_failure(result, "429")
        assert result.claim is not None
        assert result.claim.stats.rollups_indexed < len(drill.at.documents())  # half a page is there, and not counted
    await drill.recover(job, result)


async def test_a_bulk_with_one_document_that_does_not_fit_fails_the_page(drill: Drill) -> None:
    job = drill.at.job(pageSize=8, parallelism=3)
    refusal = HalfBulk(lambda i: i > 0, status=400, type_="mapper_parsing_exception", reason="failed to parse field")
    on_step(drill.proxy, "bulk", fault=refusal, nth=2)
    result = await drill.run(job)
    assert isinstance(result.error, StoreError)
    assert (result.error.reason, result.error.transient) == (Reason.MAPPING_CONFLICT, False)
    assert result.claim is not None
    assert result.claim.stats.rollups_indexed <= 8
    await drill.recover(job, result)


@pytest.mark.parametrize(
    ("block", "reason", "transient"),
    [
        ("read_only_allow_delete", Reason.DISK_FULL, True),
        ("write", Reason.TARGET_BLOCKED, False),
        ("closed", Reason.TARGET_BLOCKED, False),
    ],
)
async def test_an_index_that_is_blocked_in_the_middle(
    drill: Drill, block: str, reason: Reason, transient: bool
) -> None:
    job = drill.at.job(pageSize=8)
    node, index = drill.at.node, job.spec.rollup_index

    def blocked(on: bool) -> None:
        if block == "closed":
            node.call("POST", f"/{index}/{'_close' if on else '_open'}", wait_for_active_shards=1)
        else:
            node.set_settings(index, **{f"index.blocks.{block}": on or None})

    during(drill.proxy, "bulk", 2, lambda: blocked(True))
    result = await drill.run(job)
    assert isinstance(result.error, StoreError)
    assert (result.error.reason, result.error.transient) == (reason, transient)
    assert (await drill.run(job)).outcome == "Failed"
    blocked(False)
    await drill.recover(job, result)


async def test_a_source_that_is_deleted_in_the_middle(drill: Drill) -> None:
    job = drill.at.job(pageSize=8)
    during(drill.proxy, "page", 2, lambda: drill.at.node.delete(drill.at.source))
    result = await drill.run(job)
    assert isinstance(result.error, StoreError)
    assert (result.error.reason, result.error.transient) == (Reason.SOURCE_NOT_FOUND, True)
    assert (await drill.run(job)).outcome == "Failed"
    drill.at.write(drill.rows)
    await drill.recover(job, result)


async def test_a_source_that_is_closed_in_the_middle(drill: Drill) -> None:
    job = drill.at.job(pageSize=8)
    node, index = drill.at.node, drill.at.source
    during(drill.proxy, "page", 2, lambda: node.call("POST", f"/{index}/_close"))
    result = await drill.run(job)
    assert isinstance(result.error, StoreError)
    assert (result.error.reason, result.error.transient) == (Reason.SOURCE_NOT_FOUND, True)
    assert index in result.message
    assert "open it, and the job goes on by itself" in result.message
    assert (await drill.run(job)).outcome == "Failed"
    node.call("POST", f"/{index}/_open", wait_for_active_shards=1)
    await drill.recover(job, result)


async def test_one_of_several_sources_that_is_closed_in_the_middle_is_reported(drill: Drill) -> None:
    node, index = drill.at.node, drill.at.source
    drill.at.write([(t + 1, v, k, n) for t, v, k, n in drill.rows if t is not None], f"{index}-more")
    job = drill.at.job(indexPattern=f"{index}*", pageSize=8)
    during(drill.proxy, "page", 2, lambda: node.call("POST", f"/{index}-more/_close"))
    result = await drill.run(job)
    assert result.outcome == "Completed"
    assert "2 shards when the run began and 1 later" in result.message
    assert "closed" in result.message
    drill.proxy.heal()
    assert f"{index}-more is closed, and is not read" in (await drill.run(job)).message
    node.call("POST", f"/{index}-more/_open", wait_for_active_shards=1)
    again = await drill.run(drill.at.job(indexPattern=f"{index}*", pageSize=8, lookback="25000d"))
    assert again.outcome == "Completed"
    counts = [d["ts.date_histogram._count"] for d in drill.at.documents()]
    assert sum(counts) == 2 * len(drill.rows)


async def test_a_target_that_is_deleted_in_the_middle_is_never_made_anew(drill: Drill) -> None:
    job = drill.at.job(pageSize=8, parallelism=2)
    node, index = drill.at.node, job.spec.rollup_index
    during(drill.proxy, "bulk", 2, lambda: node.delete(index))
    for _ in range(2):
        result = await drill.run(job)
        assert isinstance(result.error, StoreError)
        assert (result.error.reason, result.error.transient) == (Reason.TARGET_MISSING, False)
        assert "set spec.deletionPolicy to Delete, then delete the job" in result.message  # as is done below
        assert "set another spec.rollupIndex" not in result.message  # which is fixed by then
        if result.released is False:
            await drill.at.store.settle(job, "me", delete_documents=False)
        assert not drill.held(job)
        assert not node.exists(index)
    await drill.at.store.settle(job, "me", delete_documents=True)
    await drill.recover(job, result)


def during(proxy: StoreProxy, step: str, nth: int, do: Callable[[], None]) -> None:
    """Let something happen while the nth request of a step is on its way."""
    steps, met = Steps(), 0

    def choose(request: Request) -> Fault:
        nonlocal met
        if steps.name(request) == step:
            met += 1
            if met == nth:
                do()
        return Pass()

    proxy.on(fault=choose, times=None)


@pytest.mark.parametrize("order", ["after its last write", "before its first write"])
@pytest.mark.parametrize("tells", [True, False])
async def test_a_bulk_that_was_held_up_while_another_took_over(
    drill: Drill, opensearch: StoreHttp, order: str, tells: bool
) -> None:
    """Nothing of it lands, and the one whose it was ends fenced, whether or not the cluster can list its tasks."""
    job = drill.at.job(pageSize=8)
    held = Hold(outlives_client=True)
    on_step(drill.proxy, "bulk", fault=held, nth=2)
    first = asyncio.ensure_future(drill.at.run(job, holder="first"))
    await drill.proxy.arrival("POST", "_bulk", nth=2)
    async with (
        StoreProxy(opensearch.url) as way,
        clustered(opensearch, way.url, source=drill.at.source, target=drill.at.target) as other,
    ):
        its = Hold()
        if order == "before its first write":
            on_step(way, "bulk", fault=its)
        second = asyncio.ensure_future(other.run(job, holder="second"))
        if order == "before its first write":
            await way.arrival("POST", "_bulk")
        else:
            drill.complete(job, await second)
        if not tells:
            drill.proxy.heal()
            drill.proxy.on("GET", "^/_tasks", fault=Answer(503), times=None)
        held.release()
        fenced = await first
        assert (fenced.outcome, fenced.released) == ("Fenced", False), fenced
        its.release()
        assert (await second).outcome == "Completed"
        drill.complete(job, await second)
        claim = (await second).claim
        assert claim is not None
        hits = opensearch.search(drill.at.target, {"version": True, "size": 100})["hits"]["hits"]
        assert {hit["_version"] for hit in hits[8:]} == {claim.epoch}
        assert sum(hit["_version"] == claim.epoch for hit in hits) == len(hits) - 8


async def test_a_bulk_that_was_held_up_while_the_job_was_stopped(drill: Drill, opensearch: StoreHttp) -> None:
    """As from an operator that hangs: what it sends after another one showed `stopped` writes nothing."""
    job = drill.at.job(pageSize=8)
    held = Hold(outlives_client=True)
    on_step(drill.proxy, "bulk", fault=held, nth=2)
    first = asyncio.ensure_future(drill.at.run(job, holder="first"))
    await drill.proxy.arrival("POST", "_bulk", nth=2)
    async with clustered(opensearch, source=drill.at.source, target=drill.at.target) as other:
        claim = (await other.store.settle(job, "second", delete_documents=False)).claim
        assert claim is not None
        assert claim.stats.rollups_indexed == 8
        held.release()
        fenced = await first
        assert (fenced.outcome, fenced.released) == ("Fenced", False)
        assert len(drill.at.documents()) == 8
    await drill.recover(job, fenced)


async def test_a_node_that_is_killed_in_the_middle_of_a_page_and_comes_back(
    drill: Drill, opensearch: StoreHttp
) -> None:
    job = drill.at.job(pageSize=8, parallelism=2)
    await drill.at.completed(job)
    drill.grow()
    slow_down(opensearch, drill.at.target)
    under_way = asyncio.ensure_future(drill.at.run(job))
    await asyncio.to_thread(opensearch.wait, lambda node: node.tasks("rollup/", actions="*bulk*"))
    opensearch.node.stop_now()
    result = await under_way
    reports_failure(result, "cut after")
    assert result.released is False
    with pytest.raises(StoreError):
        await drill.at.store.settle(job, "me", delete_documents=False)
    await asyncio.to_thread(opensearch.node.restart)
    await drill.recover(job, result)


async def test_a_node_that_hangs_in_the_middle_of_a_page_and_goes_on_later(drill: Drill, opensearch: StoreHttp) -> None:
    job = drill.at.job(pageSize=8, parallelism=2)
    await drill.at.completed(job)
    drill.grow()
    drill.at.cluster.timeout = 0.3
    during(drill.proxy, "bulk", 2, opensearch.node.freeze)
    result = await drill.at.run(job)
    reports_failure(result, "cut after")
    assert result.released is False
    with pytest.raises(StoreError):
        await drill.at.store.settle(job, "me", delete_documents=False)
    opensearch.node.thaw()
    drill.at.cluster.timeout = 30.0
    await drill.recover(job, result)
