"""The command that users type."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from local_control_plane import ControlPlane
from rollup_operator import __version__
from support.api import Api
from support.bodies import store
from support.data import export_of, exported, trips_job, write_trips
from support.operator import Operator
from support.operator_fixtures import StartOperator
from support.waiting import NEVER, run_completed


def command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ROLLUP_") and k != "KUBECONFIG"}
    return subprocess.run(
        [sys.executable, "-m", "rollup_operator", *arguments],
        env=kept | {"NO_COLOR": "1", "COLUMNS": "60"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_command(flag: str) -> None:
    result = command(flag)
    assert result.returncode == 0
    for word in ("run", "export", "release", "version"):
        assert word in result.stdout
    assert "..." not in result.stdout.partition("Commands:")[2]  # no line is cut off


@pytest.mark.parametrize("argument", ["version", "--version"])
def test_the_version_is_told(argument: str) -> None:
    result = command(argument)
    assert (result.returncode, result.stdout) == (0, f"{__version__}\n")


def test_a_flag_that_is_misspelt_is_reported_without_a_box() -> None:
    result = command("run", "--http-hots", "x")
    assert result.returncode == 2
    assert "No such option: --http-hots" in result.stderr
    assert "--http-host" in result.stderr
    assert result.stderr.isascii()


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (
            ["--http-host", "0.0.0.0"],
            {},
            ["--http-host is '0.0.0.0'", "--tls-cert-file", "127.0.0.1", "set --allow-plain-http"],
        ),
        ([], {"ROLLUP_HTTP_HOST": "192.0.2.1"}, ["http_host", "'192.0.2.1'", "tls_cert_file"]),
        (["--tls-cert-file", "a.crt"], {}, ["--tls-key-file is not set"]),
        (["--tls-cert-file", "no.crt", "--tls-key-file", "no.key"], {}, ["--tls-cert-file no.crt", "No such file"]),
        ([], {"ROLLUP_HTTP_PORT": "many"}, ["ROLLUP_HTTP_PORT", "'many'", "number"]),
        (["--log-level", "loud"], {}, ["--log-level is 'loud'", "debug, info, warning or error"]),
        (["--log-format", "xml"], {}, ["--log-format is 'xml'", "auto, json or console"]),
        (["--namespace", "A_B"], {}, ["--namespace has 'A_B'"]),
        (["--kubeconfig", "/nonexistent/config"], {}, ["/nonexistent/config"]),
    ],
)
def test_a_setting_that_cannot_be_used_ends_the_start_with_its_name_and_the_cure(
    control_plane: ControlPlane, arguments: list[str], environment: dict[str, str], words: list[str]
) -> None:
    ended = command("run", *arguments, **({"KUBECONFIG": str(control_plane.kubeconfig)} | environment))
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1  # whole in a pipe, however narrow the terminal was
    for word in words:
        assert word in ended.stderr


def test_no_kubeconfig_at_all_is_reported(tmp_path: Path) -> None:
    ended = command("run", HOME=str(tmp_path))
    assert ended.returncode == 2
    assert "KUBECONFIG" in ended.stderr


def test_a_port_that_is_taken_is_reported(control_plane: ControlPlane, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = command(
            *("run", "--namespace", "nowhere", "--data-root", str(tmp_path), "--http-port", port),
            KUBECONFIG=str(control_plane.kubeconfig),
        )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert port in ended.stderr


def test_export_gives_elasticsearch_documents(start_operator: StartOperator, api: Api, folder: Path) -> None:
    write_trips(folder, hours=30)
    api.create(store())
    api.create(trips_job(cron=NEVER, jobId="Trips by hour"))
    start_operator()
    api.patch("trips", {"metadata": {"annotations": {"rollup-operator.dev/run-requested-at": "1"}}})
    api.wait("trips", run_completed, 20)
    file = export_of(folder, "Trips%20by%20hour")
    result = command("export", str(file))
    assert result.returncode == 0, result.stderr
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    rows = exported(folder, "Trips%20by%20hour")
    assert len(documents) == len(rows) - 1
    assert len({document["_id"] for document in documents}) == len(documents)
    assert all(document["_id"].startswith("Trips by hour$") for document in documents)
    sources = [document["_source"] for document in documents]
    assert {source["_rollup.id"] for source in sources} == {"Trips by hour"}
    assert {source["picked_up.date_histogram.interval"] for source in sources} == {"1h"}
    assert sum(source["picked_up.date_histogram._count"] for source in sources) == 30 * 40
    with duckdb.connect() as db:
        total = db.execute(f"SELECT sum(size) FROM '{folder}/trips/*.parquet'").fetchone()
    assert total is not None
    assert sum(source.get("size.sum.value", 0) for source in sources) == total[0]
    ended = command("export", str(folder / "trips" / "a.parquet"))
    assert ended.returncode == 2
    assert "not the result of a rollup job" in ended.stderr
    assert command("export", str(folder / "missing.parquet")).returncode == 2


def test_release_strips_finalizers_with_the_flag(start_operator: StartOperator, api: Api, folder: Path) -> None:
    operator: Operator = start_operator()
    write_trips(folder)
    api.create(store())
    api.create(trips_job())
    api.wait("trips", run_completed, 20)
    operator.stop()
    kubeconfig = str(api.plane.kubeconfig)
    listed = command("release", KUBECONFIG=kubeconfig)
    assert listed.returncode == 0
    assert f"{api.namespace}/trips" in listed.stdout
    assert "--yes" in listed.stderr
    assert api.get("trips")["metadata"]["finalizers"] == ["rollup-operator.dev/drain"]
    done = command("release", "--yes", KUBECONFIG=kubeconfig)
    assert done.returncode == 0
    assert "finalizers" not in api.get("trips")["metadata"]
    api.delete("trips")
    assert api.find("trips") is None
