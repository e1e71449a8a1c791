"""The node itself: it leaves nothing behind, however its starter ends."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cluster import Cluster, ClusterError, stop

START = """
import sys, time
from pathlib import Path
from local_cluster import Cluster
print(Cluster.start(Path(sys.argv[1])).name, flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder whose path leaves room for those of sockets."""
    with tempfile.TemporaryDirectory(prefix="node-") as parent:
        yield Path(parent) / "second"


@pytest.fixture
def starter(cluster: Cluster, folder: Path):  # the first node: this machine can run one
    command = [sys.executable, "-c", START, str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        yield process
        process.kill()


def remains(name: str) -> list[Path]:
    """Cgroups of a node."""
    root = Path("/sys/fs/cgroup")
    return [each for each in (root / name, *root.glob(f"*/{name}")) if each.exists()]


@pytest.mark.timeout(180)
def test_a_node_beside_another_ends_with_its_starter_and_leaves_logs_alone(
    cluster: Cluster, starter: "subprocess.Popen[str]", folder: Path
) -> None:
    name = starter.stdout.readline().strip()
    second = Cluster.find(folder)
    assert second is not None
    assert second.name == name != cluster.name
    with pytest.raises(ClusterError, match="a cluster runs there"):
        Cluster.start(folder)
    node = second._node
    starter.send_signal(signal.SIGKILL)
    assert node.wait(20)
    assert not stop(folder)  # it has ended already; what is left is cleared
    assert not remains(name)
    assert [each.name for each in folder.iterdir()] == ["log"]
    assert remains(cluster.name)
    assert cluster.kubectl("get", "nodes", "-o", "name").strip() == f"node/{cluster.name}"


def test_a_folder_of_something_else_is_left_alone(cluster: Cluster, folder: Path) -> None:
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(ClusterError, match=r"holds mine\.txt"):
        Cluster.start(folder)
    assert [each.name for each in folder.iterdir()] == ["mine.txt"]


def test_a_folder_whose_path_is_too_long_for_sockets_is_refused(cluster: Cluster, folder: Path) -> None:
    with pytest.raises(ClusterError, match="choose a shorter one"):
        Cluster.start(folder / ("x" * 80))
    assert not folder.exists()
