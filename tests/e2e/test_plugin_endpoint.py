"""The plugin's way to the endpoint without an address: a port-forward to the operator's Service."""

import base64
import sys
from pathlib import Path

import pytest

from local_control_plane import ControlPlane
from support.api import Api
from support.bodies import store
from support.data import trips_job, write_trips
from support.operator import Operator
from support.operator_fixtures import StartOperator
from support.plugin import Plugin
from support.store_front import Authority
from support.waiting import NEVER, request_run, run_completed


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path / "authority")


@pytest.fixture
def served(start_operator: StartOperator, api: Api, authority: Authority) -> Operator:
    """An operator whose certificate is for a Service of the test's namespace."""
    pair = authority.issue("rollup", hosts=f"IP:127.0.0.1,DNS:rollup.{api.namespace}.svc")
    settings = {"tls_cert_file": pair.certificate, "tls_key_file": pair.key}
    return start_operator(default_namespace=api.namespace, settings=settings, authority=authority.certificate)


@pytest.fixture
def forwarding(served: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl on the PATH that leads to the operator; the file that says how it was called."""
    port, calls = served.url.rpartition(":")[2], tmp_path / "calls"
    (tmp_path / "bin").mkdir()
    lines = [
        f"#!{sys.executable}",
        "import signal, sys",
        f"open({str(calls)!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10))",
        f"print('Forwarding from 127.0.0.1:{port} -> 9400', flush=True)",
        "signal.pause()",
    ]
    program = "\n".join(lines)
    (tmp_path / "bin" / "kubectl").write_text(program)
    (tmp_path / "bin" / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    for name in ("ROLLUP_URL", "ROLLUP_CA"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_a_command_without_an_address_goes_through_a_port_forward(
    control_plane: ControlPlane, served: Operator, forwarding: Path, api: Api, folder: Path, authority: Authority
) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job(cron=NEVER))
    request_run(api, "trips", "now")
    api.wait("trips", run_completed)
    certificate = base64.b64encode(authority.certificate.read_bytes()).decode()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "rollup-operator-tls"}}
    api.apply(secret | {"data": {"ca.crt": certificate}})

    plugin, service = Plugin(control_plane.kubeconfig, api.namespace), f"{api.namespace}/rollup"
    previewed = plugin.of("preview", "trips", "--service", service, "-o", "json")
    assert (previewed.code, previewed.document["estimate"]["source_documents"]) == (0, 48 * 40), previewed
    for command in ("query", "verify"):
        ended_with = plugin.of(command, "trips", "--service", service)
        assert ended_with.code == 0, ended_with
    called = forwarding.read_text().splitlines()
    assert called == [f"port-forward --address 127.0.0.1 --namespace {api.namespace} service/rollup :https"] * 3

    stranger = plugin.of("preview", "trips", "--service", f"{api.namespace}/another")
    assert (stranger.code, "--ca" in stranger.err) == (1, True), stranger
    wrong = plugin.of("preview", "trips", "--service", "rollup")
    assert (wrong.code, wrong.err) == (2, "error: --service 'rollup': write NAMESPACE/NAME\n")
