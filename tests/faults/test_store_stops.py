"""The operator as a process, and between it and its cluster one who sees every request: stopped means quiet."""

import os
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.api import Api, Body
from support.bodies import job, store
from support.operator import Operator
from support.operator_fixtures import StartOperator
from support.rounding import HOUR
from support.store_drill import whole_tasks
from support.store_faults import Hold
from support.store_http import StoreHttp, unique
from support.store_proxy import ProxyThread, Request
from support.waiting import status

HOURS = 400
STOPS = 10
KILLS = 4


@pytest.fixture
def way(opensearch: StoreHttp) -> Iterator[ProxyThread]:
    """Name it before `start_operator`: what begins first ends last, and an operator needs its store to let jobs go."""
    with ProxyThread(opensearch.url) as made:
        yield made


@pytest.fixture
def choose() -> random.Random:
    seed = int(os.environ.get("ROLLUP_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    print(f"ROLLUP_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def source(api: Api, opensearch: StoreHttp, way: ProxyThread) -> str:
    """A source with much to do in small pages, and the stopped job `hourly` over it."""
    index = opensearch.create(unique("events"), {"ts": "date", "host": "keyword", "load": "double"})
    opensearch.load(index, [{"ts": n * HOUR, "host": f"h{n % 3}", "load": n} for n in range(HOURS)])
    api.create(store(**{opensearch.distribution: {"hosts": [way.proxy.url]}}))
    api.create(
        job(
            "hourly",
            desiredState="stopped",
            indexPattern=index,
            rollupIndex=f"{index}-rolled",
            cron="* * * * * ?",
            pageSize=5,
            parallelism=2,
            groups={"dateHistogram": {"field": "ts", "fixedInterval": "1h"}, "terms": {"fields": ["host"]}},
            metrics=[{"field": "load", "metrics": ["sum"]}],
        )
    )
    return index


def of_runs(way: ProxyThread) -> list[Request]:
    return way.call(lambda: [r for r in way.proxy.requests if r.opaque_id.startswith("rollup/")])


def further(way: ProxyThread, count: int) -> None:
    """Wait until so many further requests of runs have arrived."""
    begun = len(of_runs(way))
    proxy = way.proxy
    arrived = lambda: sum(r.opaque_id.startswith("rollup/") for r in proxy.requests) >= begun + count  # noqa: E731
    way.run(proxy.until(arrived, seconds=30))


def assert_quiet(way: ProxyThread, node: StoreHttp, moment: float, *, but: tuple[Request, ...] = ()) -> None:
    """Assert that no request of a run arrived after a moment, or was under way at it."""
    busy = way.call(lambda: way.proxy.busy_since(moment, opaque_id="rollup/"))
    assert [str(r) for r in busy if r not in but] == []
    assert whole_tasks(node) == []


def values(node: StoreHttp, source: str) -> dict[int, tuple[Any, Any]]:
    found = node.documents(f"{source}-rolled").values()
    rows = {d["ts.date_histogram.timestamp"]: (d["host.terms.value"], d["load.sum.value"]) for d in found}
    assert len(rows) == len(found)
    return rows


def assert_complete(api: Api, node: StoreHttp, source: str) -> None:
    """Start the job and assert that it comes to what the source holds."""
    api.start("hourly")

    def done(body: Body) -> bool:
        position = status(body).get("position") or {}
        return position.get("ts.date_histogram") == (HOURS - 1) * HOUR and status(body)["state"] != "indexing"

    body = api.wait("hourly", done, 60)
    assert values(node, source) == {n * HOUR: (f"h{n % 3}", float(n)) for n in range(HOURS)}
    assert status(body)["stats"]["documentsProcessed"] == HOURS
    assert status(body)["stats"]["rollupsIndexed"] == HOURS


def test_no_request_comes_after_the_answer_to_a_stop(
    way: ProxyThread, start_operator: StartOperator, api: Api, opensearch: StoreHttp, source: str, choose: random.Random
) -> None:
    operator: Operator = start_operator()
    stopped = time.monotonic()
    for _ in range(STOPS):
        assert_quiet(way, opensearch, stopped)
        api.start("hourly")
        further(way, choose.randint(1, 40))
        answer = operator.post(f"/namespaces/{api.namespace}/_rollup/job/hourly/_stop?wait_for_completion=true")
        stopped = time.monotonic()
        assert (answer.status, answer.body) == (200, {"stopped": True})
        assert_quiet(way, opensearch, stopped)
    assert_complete(api, opensearch, source)


@pytest.mark.slow
def test_an_operator_that_is_killed_in_the_middle_of_pages_loses_no_stop_and_no_document(
    way: ProxyThread, start_operator: StartOperator, api: Api, opensearch: StoreHttp, source: str, choose: random.Random
) -> None:
    operator: Operator = start_operator()
    held = Hold(outlives_client=True)
    late: tuple[Request, ...] = ()
    for kill in range(KILLS):
        api.start("hourly")
        further(way, choose.randint(5, 40))
        if kill == 1:  # a bulk that is on its way all the time, and arrives when all is over
            rule = way.call(way.proxy.on, "POST", "_bulk", fault=held)
            late = (way.run(way.proxy.caught(rule)),)
        before = choose.random() < 0.5
        if before:
            api.stop("hourly")
        operator.kill()
        if not before:
            api.stop("hourly")
        operator.start()
        api.wait_state("hourly", "stopped", 30)
        assert_quiet(way, opensearch, time.monotonic(), but=late)
    assert_complete(api, opensearch, source)
    way.call(held.release)
    way.run(way.proxy.ended(late[0]))
    assert late[0].status == 200
    assert values(opensearch, source) == {n * HOUR: (f"h{n % 3}", float(n)) for n in range(HOURS)}


def test_what_died_at_work_is_released_though_a_restore_took_the_job_back_to_before_its_first_run(
    way: ProxyThread, start_operator: StartOperator, api: Api, opensearch: StoreHttp, source: str
) -> None:
    operator: Operator = start_operator()
    never_ran = status(api.wait_state("hourly", "stopped", 30))
    api.start("hourly")
    further(way, 10)
    operator.kill()
    api.stop("hourly")
    api.patch("hourly", {"metadata": {"finalizers": []}})
    lost = dict.fromkeys(status(api.get("hourly")))
    generation = api.get("hourly")["metadata"]["generation"]
    api.patch_status("hourly", lost | never_ran | {"observedGeneration": generation})

    record = f"claim/{source}-rolled/hourly"

    def holder(node: StoreHttp) -> str | None:
        found = node.get("rollup-operator-claims", record)
        assert found is not None
        name: str | None = found["_source"]["holder"]
        return name

    assert holder(opensearch) is not None
    operator.start()
    opensearch.wait(lambda node: holder(node) is None, seconds=30)
    api.wait_state("hourly", "stopped", 30)
    assert_quiet(way, opensearch, time.monotonic())
