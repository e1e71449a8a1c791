"""A stop or a deletion in the middle of a verification by schedule, with one operator alone."""

import socket
import time
import urllib.request
from pathlib import Path

import pytest

from support.api import Api, Body, condition
from support.backfill import HOURS, PAGE_SECONDS, PER_HOUR, begin
from support.data import end_of
from support.operator_fixtures import StartOperator
from support.waiting import NEVER, finished, request_run, status

EVERY = "0/4 * * * * ?"

SETTINGS = {"expected": ["verification ended"]}


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
        return found


def active(port: int) -> float:
    """How many verifications are under way."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        (line,) = (x for x in answer.read().decode().splitlines() if x.startswith("rollup_verifications_active "))
    return float(line.split()[1])


def until_active(port: int) -> None:
    end = time.monotonic() + 30
    while not active(port):
        assert time.monotonic() < end
        time.sleep(0.01)


def verified_all(body: Body) -> bool:
    found = condition(body, "Verified")
    return found is not None and (found["status"], found["reason"]) == ("True", "Equal")


def test_a_stop_in_the_middle_is_quiet_and_a_start_verifies_again(
    start_operator: StartOperator, api: Api, folder: Path, port: int
) -> None:
    start_operator(page_seconds=PAGE_SECONDS, settings={"metrics_port": port}, **SETTINGS)
    begin(api, folder, cron=NEVER)
    request_run(api, "trips", "1")
    api.wait("trips", finished(end_of(HOURS - 1)), 60)
    api.patch_job("trips", {"verify": {"cron": EVERY, "mode": "Full"}})
    until_active(port)
    api.stop("trips")
    stopped = api.wait_state("trips", "stopped", 20)
    assert active(port) == 0
    assert condition(stopped)["reason"] == "Stopped"
    assert "lastVerification" not in status(stopped)
    time.sleep(5)  # a tick and more
    assert api.get("trips")["metadata"]["resourceVersion"] == stopped["metadata"]["resourceVersion"]
    api.start("trips")
    body = api.wait("trips", verified_all, 60)
    assert status(body)["lastVerification"]["sourceDocuments"] == HOURS * PER_HOUR


def test_a_deletion_in_the_middle_leaves_nothing_at_work(
    start_operator: StartOperator, api: Api, folder: Path, port: int
) -> None:
    start_operator(page_seconds=PAGE_SECONDS, settings={"metrics_port": port}, **SETTINGS)
    begin(api, folder, cron=NEVER, deletionPolicy="Delete")
    request_run(api, "trips", "1")
    api.wait("trips", finished(end_of(HOURS - 1)), 60)
    api.patch_job("trips", {"verify": {"cron": EVERY, "mode": "Full"}})
    until_active(port)
    api.delete("trips")
    api.wait_gone("trips", 20)
    assert active(port) == 0
