"""The way to the API server fails in every way it can, and what was asked is done all the same."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local_control_plane import ControlPlane
from support.api import Api
from support.backfill import HOURS, PAGE_SECONDS, assert_complete, begin, begun
from support.database import claim, closed
from support.operator import Operator
from support.proxy import Fault, FaultyProxy
from support.waiting import assert_silent, status

STATUS = r"^PUT .*/rollupjobs/trips/status"
OBJECT = r"^PATCH .*/rollupjobs/trips(\?|$)"

NOISE = (
    "sweep failed",
    "cannot ask the API server",
    "write failed",
    "status of a store not written",
    "event not posted",
    "watch-stream",
    "Watch",
    "watching",
    "Request attempt",
    "Broken connection",
)
"""What the operator may say of a network that fails."""


@pytest.fixture(scope="module")
def _proxy(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyProxy]:
    with FaultyProxy(control_plane, tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def _shared(_proxy: FaultyProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    folder = tmp_path_factory.mktemp("operator")
    process = Operator(_proxy.kubeconfig, folder, page_seconds=PAGE_SECONDS, expected=NOISE)
    try:
        yield process.start()
        process.stop()
    finally:
        process.kill()


@pytest.fixture
def proxy(_proxy: FaultyProxy, operator: Operator) -> Iterator[FaultyProxy]:
    """The faulty way of the module's operator. Works again at the end of each test."""
    yield _proxy
    _proxy.heal()


def stopped_and_quiet(api: Api, folder: Path, seconds: float = 20) -> None:
    body = api.wait_state("trips", "stopped", seconds)
    record = claim(folder)
    assert record is not None
    assert record["holder"] is None
    assert record["position"] == status(body)["position"]
    closed(folder)
    assert_silent(api, body, 0.7)


@pytest.mark.parametrize("code", [500, 429, 409, 503])
def test_status_writes_that_are_refused_for_a_while(
    operator: Operator, proxy: FaultyProxy, api: Api, folder: Path, code: int
) -> None:
    begun(api, folder)
    rule = proxy.fail(STATUS, Fault.ANSWER, times=3, status=code)
    api.stop("trips")
    stopped_and_quiet(api, folder)
    assert rule.hits == 3
    api.start("trips")
    assert_complete(api, folder)


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.SWALLOW])
def test_status_writes_whose_connection_breaks(
    operator: Operator, proxy: FaultyProxy, api: Api, folder: Path, fault: Fault
) -> None:
    begun(api, folder)
    rule = proxy.fail(STATUS, fault, times=2)
    api.stop("trips")
    stopped_and_quiet(api, folder)
    assert rule.hits >= 1
    api.start("trips")
    assert_complete(api, folder)


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.SWALLOW, Fault.ANSWER])
def test_a_finalizer_whose_write_fails_is_there_before_the_claim(
    operator: Operator, proxy: FaultyProxy, api: Api, folder: Path, fault: Fault
) -> None:
    rule = proxy.fail(OBJECT, fault, times=2)
    begin(api, folder)
    assert_complete(api, folder)
    # Where only the answer was lost, the watch may tell of the write before it is repeated.
    assert rule.hits == 2 or (fault is Fault.SWALLOW and rule.hits == 1)
    proxy.fail(OBJECT, fault, times=2)
    api.delete("trips")
    api.wait_gone("trips", 20)


def test_watches_that_break_lose_no_stop(operator: Operator, proxy: FaultyProxy, api: Api, folder: Path) -> None:
    begun(api, folder, hours=3000)
    for _ in range(5):
        proxy.cut_watches()
        api.stop("trips")
        stopped_and_quiet(api, folder)
        proxy.cut_watches()
        api.start("trips")
        api.wait_state("trips", "indexing", 20)


def test_a_stop_while_the_api_server_is_away_is_done_when_it_is_back(
    operator: Operator, proxy: FaultyProxy, api: Api, folder: Path
) -> None:
    begun(api, folder, hours=1500)
    proxy.go_away()
    stop = api.stop("trips")
    assert_silent(api, stop, 3)
    answer = operator.post(f"/namespaces/{api.namespace}/_rollup/job/trips/_stop")
    assert answer.status == 503
    assert answer.headers["Retry-After"]
    proxy.come_back()
    stopped_and_quiet(api, folder)
    api.start("trips")
    assert_complete(api, folder, hours=1500)


def test_a_run_goes_on_while_the_api_server_is_away(
    operator: Operator, proxy: FaultyProxy, api: Api, folder: Path
) -> None:
    begun(api, folder)
    proxy.go_away()
    before = api.get("trips")
    assert_silent(api, before, 3)
    proxy.come_back()
    assert_complete(api, folder)


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.SWALLOW, Fault.ANSWER])
def test_a_stop_call_whose_write_fails_says_what_is_known(
    operator: Operator, proxy: FaultyProxy, api: Api, folder: Path, fault: Fault
) -> None:
    begun(api, folder, hours=3000)
    proxy.fail(r"^PATCH .*fieldManager=rollup-api", fault)
    answer = operator.post(f"/namespaces/{api.namespace}/_rollup/job/trips/_stop?wait_for_completion=true&timeout=10s")
    assert answer.status == 500
    assert answer.reason == "Error while updating state for rollup job [trips] to [STOPPED]."
    assert "not known" in answer.body["error"]["caused_by"]["reason"]
    if fault is Fault.SWALLOW:
        stopped_and_quiet(api, folder)
    else:
        assert api.get("trips")["spec"]["desiredState"] == "started"
        again = operator.post(
            f"/namespaces/{api.namespace}/_rollup/job/trips/_stop?wait_for_completion=true&timeout=10s"
        )
        assert again.body == {"stopped": True}


@pytest.mark.slow
def test_a_watch_that_is_silently_dead_delays_a_stop_by_a_bounded_time(
    operator: Operator, proxy: FaultyProxy, api: Api, folder: Path
) -> None:
    begun(api, folder, hours=3000, drainTimeoutSeconds=1)
    proxy.silence_watches()
    api.stop("trips")
    api.wait_state("trips", "stopped", 45)
    proxy.cut_watches()  # whoever removes the job does not wait for them


def test_who_waits_over_a_broken_watch_is_answered(
    operator: Operator, proxy: FaultyProxy, api: Api, folder: Path
) -> None:
    begun(api, folder, hours=HOURS)
    with ThreadPoolExecutor(1) as pool:
        proxy.cut_watches()
        first = pool.submit(
            operator.post, f"/namespaces/{api.namespace}/_rollup/job/trips/_stop?wait_for_completion=true&timeout=20s"
        )
        proxy.cut_watches()
        assert first.result(30).body == {"stopped": True}
    assert status(api.get("trips"))["state"] == "stopped"
