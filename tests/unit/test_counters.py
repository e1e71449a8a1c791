"""Counters count: a run from its trigger on, a failure also where the store never hears of it, none ever back."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from rollup_operator.http.jobs.presentation import present
from rollup_operator.kube.client import Unreachable
from rollup_operator.lifecycle.jobs.actor import Actor
from rollup_operator.lifecycle.jobs.job_status import Report, status_of
from rollup_operator.lifecycle.jobs.run_task import Worker
from rollup_operator.lifecycle.jobs.states import Decision
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import JobStats, Outcome, State
from rollup_operator.observability.metrics import Metrics
from rollup_operator.stores.base import Claim
from rollup_operator.stores.errors import Fenced, StoreUnavailable
from support.scripted import NOW, Scripted, at_once, beginning, ended
from unit.test_actor import Outside, environment, raw
from unit.test_settling_elsewhere import Cluster, worker

AWAY = StoreUnavailable("away")
MISTAKE = KeyError("a mistake of ours")


def counted(stats: JobStats) -> dict[str, int]:
    """The counters that are not zero, times left out."""
    return {name: n for name, n in stats.model_dump().items() if n and not name.endswith("_in_ms")}


async def test_a_good_run_counts_what_it_did() -> None:
    result = await ended(Scripted(search=at_once, pages=3))
    assert result.outcome is Outcome.COMPLETED
    assert counted(result.stats) == {
        "trigger_count": 1,
        "pages_processed": 3,
        "documents_processed": 3,
        "rollups_indexed": 3,
        "search_total": 3,
        "index_total": 3,
        "processing_total": 3,
    }
    assert result.claim is not None
    assert result.claim.stats == result.stats


@pytest.mark.parametrize("error", [AWAY, MISTAKE])
@pytest.mark.parametrize(
    ("step", "failure"),
    [
        ("claim", "search_failures"),
        ("describe", "search_failures"),
        ("read", "search_failures"),
        ("write", "index_failures"),
        ("commit", "index_failures"),
        ("publish", "index_failures"),
    ],
)
async def test_a_run_that_fails_counts_as_one_failure(step: str, failure: str, error: Exception) -> None:
    result = await ended(Scripted({step: error}, search=at_once))
    assert result.outcome is Outcome.FAILED
    found = counted(result.stats)
    assert found["trigger_count"] == 1
    assert {name: n for name, n in found.items() if "failures" in name} == {failure: 1}


async def test_a_store_that_cannot_be_opened_is_a_failure() -> None:
    async def away() -> Any:
        raise AWAY

    run = beginning(Scripted())
    run.open_store = away
    assert counted((await run.index()).stats) == {"trigger_count": 1, "search_failures": 1}


async def test_a_failure_after_some_pages_leaves_them_counted() -> None:
    store = Scripted(search=at_once, pages=3)
    reads = iter([None, None, AWAY])

    async def search() -> None:
        if (error := next(reads)) is not None:
            raise error

    store.search = search
    result = await ended(store)
    assert result.claim is not None
    assert (result.stats.pages_processed, result.stats.index_total, result.stats.search_failures) == (2, 2, 1)


async def test_each_retry_counts_although_the_store_has_heard_of_none() -> None:
    known = JobStats()
    for _ in range(3):
        known = (await ended(Scripted({"read": AWAY}, search=at_once), known)).stats
    assert counted(known) == {"trigger_count": 3, "search_failures": 3}
    result = await ended(Scripted(search=at_once, stats=JobStats(pages_processed=7, trigger_count=1)), known)
    assert result.claim is not None
    assert result.claim.stats == result.stats
    found = counted(result.stats)
    assert (found["trigger_count"], found["search_failures"], found["pages_processed"]) == (4, 3, 8)


async def test_a_run_that_is_fenced_or_halted_is_no_failure() -> None:
    fenced = await ended(Scripted({"write": Fenced("taken over")}, search=at_once))
    assert counted(fenced.stats) == {"trigger_count": 1}
    run = beginning(Scripted())
    await run.slots.acquire()
    task = asyncio.ensure_future(run.index())
    await asyncio.sleep(0)
    run.halt()
    assert counted((await task).stats) == {"trigger_count": 1}


async def test_a_run_counts_while_it_is_under_way() -> None:
    store, searching = Scripted(stats=JobStats(trigger_count=4, pages_processed=9)), asyncio.Event()

    async def search() -> None:
        searching.set()
        await asyncio.Event().wait()

    store.search = search
    run = beginning(store, JobStats(trigger_count=5, search_failures=2))
    assert run.progress.stats == JobStats(trigger_count=6, search_failures=2)  # it waits for its turn, and counts
    task = asyncio.ensure_future(run.index())
    await searching.wait()
    assert run.progress.stats == JobStats(trigger_count=6, pages_processed=9, search_failures=2)
    run.halt()
    await task


async def test_a_run_tells_its_counters_when_it_has_ended() -> None:
    nothing: Any = None
    end = await Worker(nothing, "me", "here", lambda: NOW, nothing)._index(
        beginning(Scripted({"claim": AWAY}), JobStats(trigger_count=1))
    )
    assert end.stats == JobStats(trigger_count=2, search_failures=1)


async def test_runs_count_whose_ends_could_not_be_published() -> None:
    """The API server takes no status while runs fail one after the other, since the store comes and goes."""
    away = Cluster("a", {"claim": AWAY})
    work, books = worker(away)
    body = raw(1, "started", request="now")
    published = asyncio.Queue[dict[str, Any]]()
    begun = 0

    class Kube(Outside):
        async def put(self, _: str, sent: dict[str, Any]) -> Any:  # type: ignore[override]  # answers, unlike Outside
            if begun < 3:
                raise Unreachable("away", sent=False)
            published.put_nowait(sent["status"])
            return {**body, "status": sent["status"], "metadata": body["metadata"] | {"resourceVersion": "2"}}

    outside: Any = Kube()
    actor = Actor(JobView.of(body), replace(environment(outside, work.gate), books=books, worker=work))
    actor.lead()
    actor.wake()
    async with asyncio.timeout(10):
        while begun < 3:
            while away.events.count("claim") == begun or actor._run is not None:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            begun = away.events.count("claim")
            if begun < 3:
                actor.store_changed()
        stats = (await published.get())["stats"]
    assert (stats["triggerCount"], stats["searchFailures"]) == (3, 3)
    work.gate.shut()
    actor.stand_down()


def test_no_counter_goes_back_by_what_a_store_says() -> None:
    report = Report(None, None, JobStats(trigger_count=5, search_failures=2), None)
    older = Claim(("hourly", "flights"), "me", 1, None, None, JobStats(trigger_count=3, pages_processed=8))
    assert report.with_claim(older).stats == JobStats(trigger_count=5, search_failures=2, pages_processed=8)


async def test_status_api_and_metrics_show_the_same_numbers() -> None:
    stats = JobStats(**{name: n for n, name in enumerate(JobStats.model_fields, 1)})
    meta = {"uid": "u", "namespace": "team", "name": "flights", "generation": 1, "resourceVersion": "1"}
    spec = {"desiredState": "started"}
    before = JobView.of({"metadata": meta, "spec": spec})
    status = status_of(before, Decision(show=State.STARTED), Report(None, None, stats, None), NOW)
    shown = JobView.of({"metadata": meta, "spec": spec, "status": status})
    assert present(shown)["stats"] == stats.model_dump()
    text = (await Metrics().scrape([shown], (), limit=1)).decode()
    for metric, number in {
        "runs": stats.trigger_count,
        "pages": stats.pages_processed,
        "documents": stats.documents_processed,
        "rollups": stats.rollups_indexed,
        "failures": stats.search_failures + stats.index_failures,
    }.items():
        assert f'rollup_job_{metric}_total{{rollup_namespace="team",rollup_job="flights"}} {float(number)}' in text
