"""Two replicas on one cluster: what a leader had sent when it froze does not undo what its successor has shown."""

from collections.abc import Iterator

import pytest

from rollup_operator.stores.opensearch import records
from support.api import Api
from support.bodies import job, store
from support.operator_fixtures import StartOperator
from support.replicas import SHORT_LEASE, election, leader_of
from support.rounding import HOUR
from support.store_drill import whole_tasks
from support.store_faults import Hold
from support.store_http import StoreHttp, unique
from support.store_proxy import ProxyThread
from support.waiting import NEVER, request_run, run_completed

LOST = ("write failed", "the lease cannot be used", "halting: the lease is not renewed", "claim not released")


@pytest.fixture
def way(opensearch: StoreHttp) -> Iterator[ProxyThread]:
    """Name it before `start_operator`: what begins first ends last, and an operator needs its store to let jobs go."""
    with ProxyThread(opensearch.url) as made:
        yield made


def holder(opensearch: StoreHttp, index: str) -> str | None:
    """Who holds the claim of the job `hourly`."""
    record = opensearch.get(records.ALIAS, records.document_id((index, "hourly")))
    return None if record is None else record["_source"]["holder"]


@pytest.mark.slow
@pytest.mark.parametrize("ran", [False, True], ids=["its first claim", "a later claim"])
def test_a_claim_that_a_frozen_leader_had_sent_does_not_come_after_stopped(
    way: ProxyThread, start_operator: StartOperator, api: Api, opensearch: StoreHttp, ran: bool
) -> None:
    index = opensearch.create(unique("events"), {"ts": "date", "load": "double"})
    opensearch.load(index, [{"ts": n * HOUR, "load": n} for n in range(50)])
    api.create(store(**{opensearch.distribution: {"hosts": [way.proxy.url]}}))
    replicas = [start_operator(settings=election(api, lease_seconds=SHORT_LEASE), expected=LOST) for _ in range(2)]
    for name in ("neighbour", "hourly"):  # with the first there is an index of claims
        api.create(
            job(
                name,
                desiredState="started",
                indexPattern=index,
                rollupIndex=f"{index}-{name}",
                cron=NEVER,
                groups={"dateHistogram": {"field": "ts", "fixedInterval": "1h"}},
                metrics=[{"field": "load", "metrics": ["sum"]}],
            )
        )
    for name in ("neighbour", *(("hourly",) if ran else ())):
        api.wait_state(name, "started")
        request_run(api, name, "1")
        api.wait(name, run_completed, 30)
    hold = way.call(lambda: Hold(outlives_client=True))
    claiming = way.call(way.proxy.on, "PUT", f"/(_create|_doc)/claim.*{index}-hourly", fault=hold)
    api.wait_state("hourly", "started")
    request_run(api, "hourly", "2")
    sent = way.run(way.proxy.caught(claiming))
    frozen = leader_of(api, replicas)
    frozen.freeze()
    api.stop("hourly")
    api.wait_state("hourly", "stopped", 40)
    assert leader_of(api, replicas) is not frozen
    way.call(hold.release)
    way.run(way.proxy.ended(sent))
    assert holder(opensearch, f"{index}-hourly") is None
    frozen.thaw()
    frozen.stop()  # once it has found out what it missed
    assert holder(opensearch, f"{index}-hourly") is None
    assert whole_tasks(opensearch) == []
    api.wait_state("hourly", "stopped")
