"""Several replicas, one of which leads: it is killed, ended, frozen and cut off, and the others go on."""

import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import pytest

from local_control_plane import ControlPlane
from support.api import Api
from support.backfill import PAGE_SECONDS, assert_complete, begin, begun
from support.data import end_of, trips_job
from support.database import claim, closed
from support.operator_fixtures import StartOperator
from support.proxy import Fault, FaultyProxy
from support.replicas import LEASE, SHORT_LEASE, election, held_by, holder, leader_of, wait_leads
from support.waiting import NEVER, assert_silent, finished, status

WRITES = r"^(POST|PUT|PATCH|DELETE) (?!.*/leases)"
LEASE_WRITES = r"^(POST|PUT) .*/leases"
LOST = (
    "write failed",
    "the lease cannot be used",
    "halting: the lease is not renewed",
    "sweep failed",
    "watch",
    "Watch",
)
CUT = (*LOST, "cannot ask the API server", "status of a store not written", "event not posted", "Request attempt")
"""What an operator may say whose way to the API server is cut."""


def decided(state: str) -> Callable[[dict], bool]:
    """Whether the newest generation was decided, and the job is asked to be in that state."""
    shown = ("stopped",) if state == "stopped" else ("started", "indexing")
    return lambda body: (
        status(body).get("observedGeneration") == body["metadata"]["generation"] and status(body)["state"] in shown
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_leader_is_killed_in_the_middle_of_stops_and_runs(
    start_operator: StartOperator, api: Api, folder: Path, request: pytest.FixtureRequest, say: Callable[[str], None]
) -> None:
    seed = int(os.environ.get("ROLLUP_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    print(f"ROLLUP_TEST_SEED={seed}")
    choose = random.Random(seed)
    takeovers = request.config.getoption("--takeovers")
    hours = 250 * takeovers
    settings = election(api, lease_seconds=SHORT_LEASE)
    replicas = [start_operator(page_seconds=PAGE_SECONDS, settings=settings) for _ in range(2)]
    begin(api, folder, hours=hours)
    path = f"/namespaces/{api.namespace}/_rollup/job/trips"
    seconds: list[float] = []
    epochs = [0]
    for turn in range(takeovers):
        leader = leader_of(api, replicas)
        for _ in range(choose.choice((0, 1, 2))):
            verb = choose.choice(("_start", "_stop"))
            assert choose.choice(replicas).post(f"{path}/{verb}").status == 200
        # No event marks a random moment.
        time.sleep(choose.uniform(0, 0.6))
        asked = "stopped" if turn % 2 else choose.choice(("started", "stopped"))
        if choose.random() < 0.5:
            api.patch_job("trips", {"desiredState": asked})
        leader.kill()
        killed = time.monotonic()
        # Another generation, so that what is seen next was decided by another leader.
        api.patch_job("trips", {"desiredState": asked, "pageSize": 100 + turn})
        body = api.wait("trips", decided(asked), 40)
        seconds.append(time.monotonic() - killed)
        if asked == "stopped":
            record = claim(folder)
            assert record is None or record["holder"] is None
            epochs.append(0 if record is None else record["epoch"])
            assert_silent(api, body, 0.5)
        leader.start()
    say(
        f"{takeovers} takeovers after SIGKILL, until the successor's first decision is seen: "
        f"p50 {median(seconds):.1f} s, max {max(seconds):.1f} s"
    )
    api.start("trips")
    # Each document was counted in the transaction that wrote it: two runs at once would have counted some twice.
    assert_complete(api, folder, hours=hours)
    assert epochs == sorted(epochs)
    assert max(seconds) < 30


def test_a_leader_that_ends_hands_over_at_once(
    start_operator: StartOperator, api: Api, folder: Path, say: Callable[[str], None]
) -> None:
    first = start_operator(page_seconds=PAGE_SECONDS, settings=election(api))
    wait_leads(api, first)
    second = start_operator(page_seconds=PAGE_SECONDS, settings=election(api))
    begun(api, folder, hours=3000)
    api.create(trips_job("idle", cron=NEVER, desiredState="stopped"))
    api.wait("idle", decided("stopped"))
    path = f"/namespaces/{api.namespace}/_rollup/job/trips/_stop?wait_for_completion=true&timeout=20s"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(first.post, path)
        api.wait("trips", lambda body: body["spec"]["desiredState"] == "stopped")
        begin_end = time.monotonic()
        first.terminate()
        api.wait("rollup-operator", held_by(second), 20, kind="Lease")
        api.start("idle")
        api.wait("idle", decided("started"), 10)
        took = time.monotonic() - begin_end
        answer = waiting.result()
    assert (answer.status, answer.body) == (200, {"stopped": True})
    first.stop()
    say(f"graceful hand-over in the middle of a run, from SIGTERM to the successor's first write: {took:.2f} s")
    assert took < 10  # a lease that is not given back lasts 15
    api.wait("trips", decided("stopped"))
    record = claim(folder)
    assert record is not None
    assert record["holder"] is None


def test_every_replica_serves_the_api_and_one_acts(start_operator: StartOperator, api: Api, folder: Path) -> None:
    leader = start_operator(page_seconds=PAGE_SECONDS, settings=election(api))
    wait_leads(api, leader)
    standbys = [start_operator(page_seconds=PAGE_SECONDS, settings=election(api)) for _ in range(2)]
    begun(api, folder, hours=3000)
    jobs = f"/namespaces/{api.namespace}/_rollup/job/trips"
    data = f"/namespaces/{api.namespace}/_rollup/data/_all"
    for standby in standbys:
        assert standby.get("/readyz").status == 200
        assert standby.get("/healthz").status == 200
        answer = standby.post(f"{jobs}/_stop?wait_for_completion=true&timeout=20s")
        assert (answer.status, answer.body) == (200, {"stopped": True})
        assert standby.get(jobs).body["jobs"][0]["status"]["job_state"] == "stopped"
        refused = standby.get(data)
        assert refused.status == 503
        assert "Retry-After" in refused.headers
        assert "replica" in refused.reason
        assert leader.get(data).status == 200
        assert standby.post(f"{jobs}/_start").status == 200
        api.wait_state("trips", "indexing")
    before = holder(api)
    ended = time.monotonic()
    standbys[0].stop()
    assert time.monotonic() - ended < 10
    assert holder(api) == before
    assert standbys[1].post(f"{jobs}/_stop?wait_for_completion=true&timeout=20s").status == 200


def test_a_frozen_leader_that_thaws_halts_and_writes_nothing(
    control_plane: ControlPlane, start_operator: StartOperator, api: Api, folder: Path, tmp_path: Path
) -> None:
    with FaultyProxy(control_plane, tmp_path) as proxy:
        settings = election(api, lease_seconds=SHORT_LEASE)
        first = start_operator(page_seconds=PAGE_SECONDS, settings=settings, kubeconfig=proxy.kubeconfig, expected=CUT)
        wait_leads(api, first)
        second = start_operator(page_seconds=PAGE_SECONDS, settings=settings, expected=LOST)
        begun(api, folder, hours=5000)
        api.create(trips_job("idle", cron=NEVER, desiredState="stopped"))
        api.wait("idle", decided("stopped"))
        first.freeze()
        writes = proxy.fail(WRITES, Fault.CUT, times=10**6)
        api.stop("trips")
        api.start("idle")
        api.wait("idle", decided("started"), 30)
        assert leader_of(api, [first, second]) is second
        # The file is the frozen process's as long as that exists: nobody can say that nothing is in flight.
        assert status(api.get("trips"))["state"] != "stopped"
        first.thaw()
        body = api.wait_state("trips", "stopped", 20)
        closed(folder)
        record = claim(folder)
        assert record is not None
        assert record["holder"] is None
        assert record["position"] == status(body)["position"]
        assert_silent(api, body, 1)
        assert writes.hits == 0
        assert first.records("standing by")
        proxy.heal()
        first.stop()


def test_a_leader_that_is_cut_off_halts_its_runs_before_another_leads(
    control_plane: ControlPlane, start_operator: StartOperator, api: Api, folder: Path, tmp_path: Path
) -> None:
    with FaultyProxy(control_plane, tmp_path) as proxy:
        first = start_operator(
            page_seconds=PAGE_SECONDS, settings=election(api), kubeconfig=proxy.kubeconfig, expected=CUT
        )
        wait_leads(api, first)
        second = start_operator(page_seconds=PAGE_SECONDS, settings=election(api), expected=LOST)
        begun(api, folder, hours=5000)
        cut = time.monotonic()
        proxy.go_away()
        closed(folder, 15)
        halted = time.monotonic() - cut
        assert not held_by(second)(api.get("rollup-operator", kind="Lease"))
        assert halted < 14
        assert first.records("halting: the lease is not renewed")
        wait_leads(api, second)
        api.stop("trips")
        api.wait_state("trips", "stopped", 20)
        proxy.come_back()
        first.stop()


def test_a_new_leader_whose_watch_is_dead_runs_no_job_that_was_stopped(
    control_plane: ControlPlane, start_operator: StartOperator, api: Api, folder: Path, tmp_path: Path
) -> None:
    with FaultyProxy(control_plane, tmp_path) as proxy:
        first = start_operator(settings=election(api))
        wait_leads(api, first)
        second = start_operator(settings=election(api), kubeconfig=proxy.kubeconfig, expected=CUT)
        # After the first tick the job has its finalizer, and whoever leads next finds in the status the tick that it
        # computes itself: there is nothing to write before that one.
        early, late = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (3, 21))
        begin(api, folder, hours=5, cron=f"{early:%S},{late:%S} * * * * ?")
        api.wait("trips", finished(end_of(4)))
        epoch = claim(folder)["epoch"]
        proxy.silence_watches()
        api.stop("trips")
        stopped = api.wait("trips", decided("stopped"))
        first.stop()
        wait_leads(api, second)
        assert datetime.now(UTC) < late
        assert_silent(api, stopped, (late - datetime.now(UTC)).total_seconds() + 2)
        assert claim(folder)["epoch"] == epoch
        second.stop()


def test_a_slow_api_server_has_a_leader_that_goes_on(
    control_plane: ControlPlane, start_operator: StartOperator, api: Api, folder: Path, tmp_path: Path
) -> None:
    with FaultyProxy(control_plane, tmp_path) as proxy:
        writes = proxy.fail(LEASE_WRITES, Fault.DELAY, times=10**6, seconds=4.5)
        operator = start_operator(settings=election(api), kubeconfig=proxy.kubeconfig)
        wait_leads(api, operator)
        begin(api, folder, hours=5, cron="*/5 * * * * ?")
        api.wait("trips", finished(end_of(4)))
        renewed = writes.hits
        api.wait(LEASE, lambda _: writes.hits >= renewed + 2, 30, kind="Lease")
        assert not operator.records("halting: the lease is not renewed")
        assert not operator.records("standing by")
        proxy.heal()
        operator.stop()


def test_a_lease_that_was_taken_unseen_is_given_back(
    control_plane: ControlPlane, start_operator: StartOperator, api: Api, tmp_path: Path
) -> None:
    with FaultyProxy(control_plane, tmp_path) as proxy:
        proxy.fail(LEASE_WRITES, Fault.HOLD)
        operator = start_operator(settings=election(api), kubeconfig=proxy.kubeconfig)
        wait_leads(api, operator)
        operator.stop()
        assert not operator.records("leading")
        assert holder(api) == ""
