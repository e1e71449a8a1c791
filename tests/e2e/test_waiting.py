"""Clients that wait for a stop which takes its time, and what the endpoint tells them in the end."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from support.api import Api, condition
from support.backfill import PAGE_SECONDS, begun
from support.data import trips_job
from support.database import opened
from support.operator import Answer, Operator
from support.operator_fixtures import StartOperator
from support.waiting import NEVER, assert_silent, status

WAIT = "wait_for_completion=true"


@pytest.fixture
def served(start_operator: StartOperator, api: Api) -> Operator:
    """An operator whose default namespace is the test's."""
    return start_operator(default_namespace=api.namespace, page_seconds=PAGE_SECONDS, grace_seconds=1)


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def blocked(operator: Operator, api: Api, folder: Path) -> None:
    """A job that cannot become quiet while the test holds the database: a dead operator's claim must be released."""
    begun(api, folder, hours=3000, drainTimeoutSeconds=1)
    operator.kill()


def waiting(operator: Operator, api: Api, callers: ThreadPoolExecutor, timeout: str) -> "Future[Answer]":
    """Send a stop that waits, and return once it is recorded."""
    answer = callers.submit(operator.post, f"/_rollup/job/trips/_stop?{WAIT}&timeout={timeout}")
    api.wait("trips", lambda body: body["spec"]["desiredState"] == "stopped")
    return answer


def waiters(operator: Operator, count: int) -> None:
    """Wait until so many clients wait."""
    deadline = time.monotonic() + 10
    while (found := operator.get("/readyz").body["waiters"]) != count:
        assert time.monotonic() < deadline, f"{found} wait, not {count}"


def test_a_timeout_says_so_and_undoes_nothing(
    served: Operator, api: Api, folder: Path, callers: ThreadPoolExecutor
) -> None:
    blocked(served, api, folder)
    with opened(folder):
        served.start()
        api.wait_condition("trips", status="False", reason="StoreUnavailable")  # a run has failed for want of the claim
        answer = served.post(f"/_rollup/job/trips/_stop?{WAIT}&timeout=1500ms")
        assert answer.status == 500
        assert answer.body["error"]["type"] == "timeout_exception"
        assert answer.reason == (
            "Timed out after [1500ms] while waiting for rollup job [trips] to stop. State was [STOPPING]"
        )
        assert "with reason [StoreUnavailable], and its message says" in answer.body["error"]["caused_by"]["reason"]
        message = api.wait_event("trips", "StopTimedOut")["message"]
        assert message.startswith("a client has waited 1500ms for the job to stop, it is stopping: ")
        body = api.wait_condition("trips", status="False", reason="StoreUnavailable")
        assert status(body)["state"] == "stopping"
        assert (condition(body, "Reconciling") or {})["status"] == "True"
        second = callers.submit(served.post, f"/_rollup/job/trips/_stop?{WAIT}&timeout=30s")
    body = api.wait_state("trips", "stopped")
    assert second.result(20).body == {"stopped": True}
    assert_silent(api, api.get("trips"), 0.5)


def test_a_stop_that_a_start_overtakes_is_answered_so_at_once(
    served: Operator, api: Api, folder: Path, callers: ThreadPoolExecutor
) -> None:
    blocked(served, api, folder)
    with opened(folder):
        served.start()
        first = waiting(served, api, callers, "30s")
        stopped = api.get("trips")["metadata"]["generation"]
        started = api.start("trips")["metadata"]["generation"]
        answer = first.result(5)
        assert answer.status == 409
        assert answer.reason == (
            f"Stop of rollup job [trips] (generation [{stopped}]) was overtaken by a newer start "
            f"(generation [{started}])"
        )
    api.wait_state("trips", "indexing", 20)


def test_who_waits_for_a_job_that_is_deleted_is_answered_so(
    served: Operator, api: Api, folder: Path, callers: ThreadPoolExecutor
) -> None:
    blocked(served, api, folder)
    with opened(folder):
        served.start()
        first = waiting(served, api, callers, "30s")
        api.delete("trips")
    api.wait_gone("trips")
    assert first.result(10).status == 404


def test_sigterm_answers_those_who_wait(served: Operator, api: Api, folder: Path, callers: ThreadPoolExecutor) -> None:
    blocked(served, api, folder)
    with opened(folder):
        served.start()
        first = waiting(served, api, callers, "30s")
        api.wait_state("trips", "stopping")
        served.terminate()
        answer = first.result(10)
        assert answer.status == 500
        assert answer.reason == "Shutting down while waiting for rollup job [trips] to stop. State was [STOPPING]"
        served.stop()
    assert api.get("trips")["spec"]["desiredState"] == "stopped"
    served.start()
    api.wait_state("trips", "stopped")


def test_a_client_that_hangs_up_frees_its_place_and_its_stop_stands(served: Operator, api: Api, folder: Path) -> None:
    blocked(served, api, folder)
    path = f"/_rollup/job/trips/_stop?{WAIT}&timeout=60s"
    with opened(folder):
        served.start()
        with pytest.raises(TimeoutError):
            served.post(path, timeout=1)
        waiters(served, 0)
        assert api.get("trips")["spec"]["desiredState"] == "stopped"
    api.wait_state("trips", "stopped")


def test_a_stop_that_a_proxy_repeats_does_not_undo_a_start(served: Operator, api: Api, folder: Path) -> None:
    blocked(served, api, folder)
    path = f"/_rollup/job/trips/_stop?{WAIT}&timeout=60s"
    with opened(folder):
        served.start()
        with pytest.raises(TimeoutError):
            served.post(path, timeout=1)
        waiters(served, 0)
        generation = api.start("trips")["metadata"]["generation"]
        answer = served.post(path)
        assert answer.status == 409
        assert answer.reason.startswith(
            f"Stop of rollup job [trips] arrived again after a newer start (generation [{generation}]); "
            "nothing was changed"
        )
    body = api.wait_state("trips", "indexing", 20)
    assert body["metadata"]["generation"] == generation
    assert served.post(path).body == {"stopped": True}


def test_sigterm_answers_everybody_and_refuses_new_waits_without_a_write(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    served = start_operator(default_namespace=api.namespace, page_seconds=PAGE_SECONDS, grace_seconds=4)
    blocked(served, api, folder)
    api.create(trips_job("idle", cron=NEVER))
    many = 150
    with opened(folder), ThreadPoolExecutor(many) as pool:
        served.start()
        api.wait_state("idle", "started")
        path = f"/_rollup/job/trips/_stop?{WAIT}&timeout=60s"
        answers = [pool.submit(served.post, path) for _ in range(many)]
        waiters(served, many)
        api.wait_state("trips", "stopping")
        served.terminate()
        while served.get("/readyz").status == 200:
            pass
        late = served.post(f"/_rollup/job/idle/_stop?{WAIT}")
        assert (late.status, late.headers["Retry-After"]) == (503, "1")
        reason = "Shutting down while waiting for rollup job [trips] to stop. State was [STOPPING]"
        assert {(answer.result(15).status, answer.result().reason) for answer in answers} == {(500, reason)}
        served.stop()
    assert api.get("idle")["spec"]["desiredState"] == "started"
    assert api.get("trips")["spec"]["desiredState"] == "stopped"
    served.start()
    api.wait_state("trips", "stopped")


def test_sigterm_lets_a_stop_under_way_end_and_answers_it(
    served: Operator, api: Api, folder: Path, callers: ThreadPoolExecutor
) -> None:
    begun(api, folder, hours=3000)
    first = waiting(served, api, callers, "30s")
    served.terminate()
    answer = first.result(10)
    served.stop()
    state = status(api.get("trips"))["state"]
    assert (answer.status, state) == (200, "stopped"), answer.body
