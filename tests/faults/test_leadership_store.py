"""Two replicas on one cluster, and between them and it one who sees every request: runs never overlap."""

import time
from collections.abc import Iterator

import pytest

from support.api import Api, Body
from support.bodies import job, store
from support.operator_fixtures import StartOperator
from support.replicas import SHORT_LEASE, election, leader_of
from support.rounding import HOUR
from support.store_drill import whole_tasks
from support.store_http import StoreHttp, unique
from support.store_proxy import ProxyThread, Request
from support.waiting import status

HOURS = 600
LOST = ("write failed", "the lease cannot be used", "halting: the lease is not renewed", "claim not released")


@pytest.fixture
def way(opensearch: StoreHttp) -> Iterator[ProxyThread]:
    """Name it before `start_operator`: what begins first ends last, and an operator needs its store to let jobs go."""
    with ProxyThread(opensearch.url) as made:
        yield made


def of_runs(way: ProxyThread) -> list[Request]:
    return way.call(lambda: [r for r in way.proxy.requests if r.opaque_id.startswith("rollup/")])


def further(way: ProxyThread, count: int, seconds: float = 30) -> None:
    """Wait until so many further requests of runs have arrived."""
    begun = len(of_runs(way))
    proxy = way.proxy
    arrived = lambda: sum(r.opaque_id.startswith("rollup/") for r in proxy.requests) >= begun + count  # noqa: E731
    way.run(proxy.until(arrived, seconds=seconds))


def epoch(request: Request) -> int:
    return int(request.opaque_id.rsplit("/", 1)[1])


def handed_over(request: Request, thawed: float) -> bool:
    """Whether the process had this at hand when it froze: that goes out as it thaws, and has no effect.

    A search loses its client at once; a write meets a closed gate, or a record that is no longer as it was read.
    """
    if request.arrived < thawed or request.ended is None:
        return False
    return request.ended - request.arrived < 1 and (request.status == 409 or request.arrived < thawed + 5)


def overlapping(requests: list[Request]) -> list[str]:
    """Requests of an epoch that were under way when one of a later epoch arrived already."""
    found = []
    for request in requests:
        later = [other.arrived for other in requests if epoch(other) > epoch(request)]
        if later and (request.ended is None or request.ended > min(later)):
            found.append(f"{request}, arrived {request.arrived}, ended {request.ended}, later ones from {min(later)}")
    return found


@pytest.mark.slow
def test_a_run_of_a_frozen_leader_does_not_overlap_those_of_its_successor(
    way: ProxyThread, start_operator: StartOperator, api: Api, opensearch: StoreHttp
) -> None:
    index = opensearch.create(unique("events"), {"ts": "date", "load": "double"})
    opensearch.load(index, [{"ts": n * HOUR, "load": n} for n in range(HOURS)])
    api.create(store(**{opensearch.distribution: {"hosts": [way.proxy.url]}}))
    replicas = [start_operator(settings=election(api, lease_seconds=SHORT_LEASE), expected=LOST) for _ in range(2)]
    api.create(
        job(
            "hourly",
            desiredState="started",
            indexPattern=index,
            rollupIndex=f"{index}-rolled",
            cron="* * * * * ?",
            pageSize=2,
            groups={"dateHistogram": {"field": "ts", "fixedInterval": "1h"}},
            metrics=[{"field": "load", "metrics": ["sum"]}],
        )
    )
    further(way, 20)
    frozen = leader_of(api, replicas)
    frozen.freeze()
    api.stop("hourly")
    api.wait_state("hourly", "stopped", 40)
    stopped = time.monotonic()
    assert leader_of(api, replicas) is not frozen
    thawed = time.monotonic()
    frozen.thaw()
    api.start("hourly")

    def done(body: Body) -> bool:
        position = status(body).get("position") or {}
        return position.get("ts.date_histogram") == (HOURS - 1) * HOUR and status(body)["state"] != "indexing"

    body = api.wait("hourly", done, 60)
    assert frozen.records("standing by")
    assert status(body)["stats"]["rollupsIndexed"] == HOURS
    assert len(opensearch.documents(f"{index}-rolled")) == HOURS
    assert whole_tasks(opensearch) == []
    first = min(epoch(request) for request in of_runs(way))
    requests = [r for r in of_runs(way) if not (epoch(r) == first and handed_over(r, thawed))]
    assert len(of_runs(way)) - len(requests) <= 3  # the pages that may be read at a time, and one write
    assert overlapping(requests) == []
    assert len({epoch(request) for request in requests}) >= 2
    late = [r for r in requests if epoch(r) == first and r.arrived > stopped]
    assert [f"{r}, {r.arrived - stopped:.3f} s after" for r in late] == []
