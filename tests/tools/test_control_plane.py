"""The local control plane: what the tests and the demo that stand on it rely on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_control_plane import ControlPlane, ControlPlaneError, stop
from local_control_plane import __file__ as package_file
from local_tools.process import ProcessId

SOURCE_ROOT = Path(package_file).parent.parent
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane.start() as started:
        yield started


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "local_control_plane", *arguments],
        env=os.environ | {"PYTHONPATH": str(SOURCE_ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def identities(pids: dict[str, int]) -> list[ProcessId]:
    return [ProcessId.of(pid) for pid in pids.values()]


def test_only_the_admin_may_do_anything_by_default(plane: ControlPlane) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"a": "b"}}
    assert plane.request("POST", CONFIG_MAPS, body)[0] == 201
    assert [plane.request("GET", f"{CONFIG_MAPS}/one", user=user)[0] for user in ("viewer", "editor", "nobody")] == [
        403,
        403,
        403,
    ]
    assert plane.request("GET", CONFIG_MAPS, token="made-up")[0] == 401


def test_a_service_account_gets_a_token_that_authenticates_it(plane: ControlPlane) -> None:
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}
    assert plane.request("POST", accounts, body)[0] == 201
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 600},
    }
    status, answer = plane.request("POST", f"{accounts}/robot/token", asked)
    assert status == 201
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    status, who = plane.request(
        "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review, token=answer["status"]["token"]
    )
    assert (status, who["status"]["userInfo"]["username"]) == (201, "system:serviceaccount:default:robot")


def test_a_user_kubeconfig_holds_no_other_users_token(plane: ControlPlane) -> None:
    text = plane.user_kubeconfig("viewer").read_text()
    assert plane.token("viewer") in text
    assert plane.token() not in text
    assert plane.user_kubeconfig("viewer").stat().st_mode & 0o077 == 0
    with pytest.raises(ValueError, match="somebody"):
        plane.user_kubeconfig("somebody")


def test_a_second_one_is_separate_and_leaves_nothing_behind(plane: ControlPlane) -> None:
    with ControlPlane.start() as other:
        assert other.server != plane.server
        assert other.request("GET", f"{CONFIG_MAPS}/two")[0] == 404
        assert plane.token() != other.token()
        processes = identities(other.pids)
    assert not any(process.alive() for process in processes)
    assert not other.directory.exists()
    assert plane.request("GET", "/readyz")[0] == 200


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not end children with their parent")
def test_a_killed_supervisor_takes_its_processes_with_it(tmp_path: Path) -> None:
    with ControlPlane.start(tmp_path) as plane:
        processes = identities(plane.pids)
        os.kill(plane.pids["supervisor"], signal.SIGKILL)
        assert all(process.wait(timeout=10) for process in processes)


def test_a_killed_user_leaves_no_process_and_no_folder() -> None:
    program = (
        "import json, sys; from local_control_plane import ControlPlane; plane = ControlPlane.start();"
        "print(json.dumps([str(plane.directory), *plane.pids.values()]), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(SOURCE_ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as user:
        assert user.stdout is not None
        directory, *pids = json.loads(user.stdout.readline())
        processes = [ProcessId.of(pid) for pid in pids]
        user.kill()
    assert all(process.wait(timeout=10) for process in processes)
    assert not Path(directory).exists()


def test_up_stays_until_down_and_both_may_be_repeated(tmp_path: Path) -> None:
    directory = str(tmp_path / "plane")
    try:
        up = command("up", "--dir", directory)
        assert (up.returncode, up.stdout) == (0, f"KUBECONFIG={directory}/kubeconfig\n"), up.stderr
        assert command("up", "--dir", directory).stdout == up.stdout
        assert command("status", "--dir", directory).returncode == 0
        with pytest.raises(ControlPlaneError, match="runs there"):
            ControlPlane.start(Path(directory))
    finally:
        down = command("down", "--dir", directory)
    assert (down.returncode, down.stdout) == (0, "ended\n")
    assert command("down", "--dir", directory).returncode == 0
    assert command("status", "--dir", directory).returncode == 3


def test_up_after_a_crash_begins_afresh_and_down_spares_a_reused_pid(tmp_path: Path) -> None:
    with ControlPlane.start(tmp_path) as plane:
        record = (tmp_path / "state.json").read_text()
        crashed = plane.pids
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        # What a crash leaves, with a pid in it that has gone to another process since.
        for pid in crashed.values():
            record = record.replace(f'"pid": {pid}', f'"pid": {bystander.pid}')
        (tmp_path / "state.json").write_text(record)
        (tmp_path / "etcd").mkdir()
        (tmp_path / "etcd" / "leftover").touch()
        with ControlPlane.start(tmp_path) as afresh:
            assert afresh.request("GET", "/readyz")[0] == 200
            assert not (tmp_path / "etcd" / "leftover").exists()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "etcd").mkdir()
    with pytest.raises(ControlPlaneError, match="etcd"):
        ControlPlane.start(tmp_path)
    assert stop(tmp_path) is False
    assert (tmp_path / "etcd").exists()


def test_a_start_that_fails_shows_the_log(tmp_path: Path) -> None:
    with pytest.raises(ControlPlaneError, match=r"unknown flag: --no-such-flag") as caught:
        ControlPlane.start(tmp_path, api_server_flags=["--no-such-flag"])
    assert str(tmp_path / "kube-apiserver.log") in str(caught.value)
    assert not (tmp_path / "state.json").exists()
