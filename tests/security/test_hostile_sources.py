"""A tenant whose sources are without end, beside everybody else. A whole operator, as users run it."""

import gzip
import http.client
import json
import os
import time
from contextlib import closing
from pathlib import Path

import pytest

from support.api import Api
from support.bodies import hourly, sensor, store
from support.data import trips_job, write_trips
from support.database import opened
from support.operator import Operator
from support.waiting import request_run, run_completed

SOON = 5.0


@pytest.fixture(autouse=True)
def _store(api: Api) -> None:
    api.create(store())
    api.wait_condition("default", reason="Available", kind="RollupStore")


def stopped(operator: Operator, api: Api, name: str) -> float:
    """Stop a job and wait for it; return the seconds."""
    began = time.monotonic()
    path = f"/namespaces/{api.namespace}/_rollup/job/{name}/_stop?wait_for_completion=true&timeout=30s"
    assert operator.post(path, timeout=40).body == {"stopped": True}
    return time.monotonic() - began


def wait_reads(operator: Operator, file: Path) -> None:
    """Wait until the operator has a file open."""
    deadline = time.monotonic() + 20
    while not any(_leads_to(each, file) for each in Path(f"/proc/{operator.pid}/fd").iterdir()):
        assert time.monotonic() < deadline, f"{file} is not read"
        time.sleep(0.02)  # nothing tells


def _leads_to(descriptor: Path, file: Path) -> bool:
    try:
        return descriptor.readlink() == file
    except OSError:
        return False  # it is closed by now


def test_a_job_whose_folder_is_huge_is_stopped_at_once(operator: Operator, api: Api, folder: Path) -> None:
    (folder / "in").mkdir()
    for number in range(20_000):
        os.close(os.open(folder / "in" / f"x{number}.txt", os.O_CREAT | os.O_WRONLY))
    write_trips(folder)
    api.create(trips_job("hostile", indexPattern=",".join(["in/*a*b*c*.parquet"] * 50), rollupIndex="nothing"))
    api.create(trips_job("other"))
    api.wait("other", run_completed)
    time.sleep(1)
    assert stopped(operator, api, "hostile") < SOON
    assert stopped(operator, api, "other") < SOON


def test_a_job_whose_folders_are_links_to_themselves_is_refused(operator: Operator, api: Api, folder: Path) -> None:
    for number in range(6):
        (folder / f"l{number}").symlink_to(".")
    api.create(trips_job("hostile", indexPattern="l*/" * 8 + "zz.parquet", rollupIndex="nothing"))
    condition = api.wait_condition("hostile", status="False", reason="ForbiddenSource")
    assert "'l0' is a link" in json.dumps(condition["status"])
    assert stopped(operator, api, "hostile") < SOON


def test_a_preview_ends_when_its_client_hangs_up(operator: Operator, api: Api, folder: Path) -> None:
    part = gzip.compress(b"2024-01-01 00:00:00,1.0\n" * 400_000)
    (folder / "rows.csv.gz").write_bytes(gzip.compress(b"timestamp,temperature\n") + part * 300)
    host, port = operator.url.removeprefix("http://").rsplit(":", 1)
    body = json.dumps(sensor(index_pattern="rows.csv.gz", groups=hourly()))
    headers = {"Authorization": f"Bearer {operator.token}", "Content-Type": "application/json"}
    with closing(http.client.HTTPConnection(host, int(port), timeout=1.5)) as client:
        client.request("POST", f"/namespaces/{api.namespace}/_rollup/job/_preview", body, headers)
        with pytest.raises(TimeoutError):
            client.getresponse()
    with opened(folder, timeout=SOON):  # the operator has closed the file
        pass


def test_a_run_that_inflates_a_small_file_is_stopped_at_once(operator: Operator, api: Api, folder: Path) -> None:
    part = gzip.compress(b"2024-01-01 00:00:00,1.0\n" * 400_000)
    (folder / "rows.csv.gz").write_bytes(gzip.compress(b"picked_up,size\n") + part * 300)
    groups = {"dateHistogram": {"field": "picked_up", "fixedInterval": "1h"}}
    metrics = [{"field": "size", "metrics": ["max"]}]
    api.create(trips_job("hostile", indexPattern="rows.csv.gz", groups=groups, metrics=metrics, cron="0 0 0 1 1 ?"))
    api.wait_state("hostile", "started")
    request_run(api, "hostile", "1")
    wait_reads(operator, folder / "rows.csv.gz")
    assert stopped(operator, api, "hostile") < SOON
