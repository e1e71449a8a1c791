"""`make demo`, `make up` and `make down` as a newcomer meets them."""

import http.client
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from local_control_plane import ControlPlane
from support.api import Api
from support.store_http import StoreHttp
from support.waiting import request_run, status

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str, state: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    folders = [str(ROOT / "deploy" / name) for name in ("local", "demo")]
    sources = os.pathsep.join(filter(None, [*folders, os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "rollup_demo", *words, "--dir", str(state)],
        env={k: v for k, v in os.environ.items() if k != "ROLLUP_STORE_URL"} | {"PYTHONPATH": sources, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def exported(state: Path) -> dict[str, str]:
    """The variables that a shell has after `source env`."""
    script = f'. "{state}/env" && env'
    lines = subprocess.run(["sh", "-c", script], env={}, capture_output=True, text=True, check=True).stdout.splitlines()
    return {
        k: v for k, _, v in (line.partition("=") for line in lines) if k in ("KUBECONFIG", "ROLLUP_URL", "ROLLUP_TOKEN")
    }


def called(values: dict[str, str], path: str) -> Any:
    """What the endpoint answers to those variables."""
    connection = http.client.HTTPConnection(urlsplit(values["ROLLUP_URL"]).netloc, timeout=30)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {values['ROLLUP_TOKEN']}"})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_keeps_its_promises_and_leaves_nothing(tmp_path: Path) -> None:
    done = run("demo", state=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for n in range(1, 7):
        assert f"{n}/6" in done.stdout
    assert '{"stopped":true}   HTTP 200' in done.stdout
    assert "no event of the job" in done.stdout
    assert "DIFFERS" not in done.stdout
    assert "Everything was as promised." in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_up_stays_until_down(tmp_path: Path) -> None:
    try:
        first = run("up", state=tmp_path)
        assert first.returncode == 0, first.stdout + first.stderr
        values = exported(tmp_path)
        assert (tmp_path / "env").stat().st_mode & 0o077 == 0
        assert f"{values['ROLLUP_URL']}/ui/ shows the jobs" in first.stdout
        assert "kubectl rollup ui" in first.stdout
        assert set(called(values, "/_rollup/job")["jobs"][0]) == {"config", "status", "stats"}
        again = run("up", state=tmp_path)
        assert "It runs already" in again.stdout
        assert exported(tmp_path) == values
        plane = ControlPlane.find(tmp_path / "control-plane")
        assert plane is not None
        assert values["KUBECONFIG"] == str(plane.kubeconfig)
        status, jobs = plane.request("GET", "/apis/rollup-operator.dev/v1alpha1/rollupjobs")
        assert (status, {job["metadata"]["name"] for job in jobs["items"]}) == (200, {"flights", "positions"})
        assert ControlPlane.find(tmp_path / "control-plane") is not None
    finally:
        down = run("down", state=tmp_path)
    assert "Ended" in down.stdout
    assert ControlPlane.find(tmp_path / "control-plane") is None
    assert not (tmp_path / "env").exists()
    assert not (tmp_path / "data").exists()
    assert "Nothing was running" in run("down", state=tmp_path).stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_up_rolls_up_in_a_node_of_ones_own(tmp_path: Path, opensearch: StoreHttp) -> None:
    try:
        up = run("up", state=tmp_path, ROLLUP_STORE_URL=opensearch.url)
        assert up.returncode == 0, up.stdout + up.stderr
        assert opensearch.count("flights") == 336_776
        plane = ControlPlane.find(tmp_path / "control-plane")
        assert plane is not None
        with Api(plane) as api:
            assert status(api.get("default", kind="RollupStore"))["distribution"] == "opensearch"
            request_run(api, "flights", "1")
            api.wait(
                "flights", lambda body: "watermark" in status(body) and status(body)["state"] == "started", timeout=200
            )
        sums = {"distance": {"sum": {"field": "distance"}}, "delay": {"max": {"field": "arr_delay"}}}
        direct = opensearch.search("flights", {"size": 0, "aggs": sums})["aggregations"]
        opensearch.refresh("flights-hourly")
        ours = {
            "flights": {"sum": {"field": "time_hour.date_histogram._count"}},
            "distance": {"sum": {"field": "distance.sum.value"}},
            "delay": {"max": {"field": "arr_delay.max.value"}},
        }
        found = opensearch.search("flights-hourly", {"size": 0, "aggs": ours})["aggregations"]
        assert found == {"flights": {"value": 336_776.0}} | direct
    finally:
        run("down", state=tmp_path)
    assert opensearch.exists("flights-hourly")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:9200", "must be a base URL"),
        ("http://ada:secret@127.0.0.1:9200", "the demo takes none; make a RollupStore with a Secret"),
    ],
)
def test_a_node_that_will_not_do_is_refused(url: str, says: str, tmp_path: Path) -> None:
    refused = run("up", state=tmp_path, ROLLUP_STORE_URL=url)
    assert (refused.returncode, says in refused.stderr) == (2, True)
    assert "secret" not in refused.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["demo", "up"])
def test_what_cannot_be_done_is_said_and_nothing_starts(command: str, tmp_path: Path) -> None:
    nobody_there = run(command, state=tmp_path, ROLLUP_STORE_URL="http://127.0.0.1:9")
    assert nobody_there.returncode == 2
    assert ("no answer there" if command == "up" else "use `make up`") in nobody_there.stderr
    no_binaries = run(command, state=tmp_path, KUBEBUILDER_ASSETS=str(tmp_path))
    assert no_binaries.returncode == 1
    assert "no executable etcd" in no_binaries.stderr
    assert list(tmp_path.iterdir()) == []
