"""The blocks of docs/quick-start.md, as they are written, on a real node that has the image."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cluster import Cluster
from local_control_plane import binaries
from support.deployed import Deployed

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "quick-start.md"
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def done(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the blocks of each section said, run as one script in a copy of what they name."""
    # A node of ours has no class of volumes; kind, k3d and minikube have one.
    deployed = Deployed(cluster, tmp_path_factory.mktemp("deployed"))
    deployed.make_volume()
    folder = tmp_path_factory.mktemp("tree")
    for name in ("deploy", "crds"):
        (folder / name).symlink_to(ROOT / name)
    tools = f"{Path(sys.executable).parent}:{binaries(['helm'])['helm'].parent}"  # where kubectl-rollup and helm are
    script = [f"cd '{folder}'", f'export PATH="$PATH:{tools}"', "set -euo pipefail", "set -m"]
    for title, text in sections():
        script += [f"echo '== {title}'", *re.findall(r"(?ms)^```sh\n(.+?)^```$", text)]
    run = cluster.run("bash", "-c", "\n".join(script), check=False, timeout=500)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    yield dict(part.partition("\n")[::2] for part in run.stdout.removeprefix("== ").split("\n== "))
    deployed.close()


def sections() -> list[tuple[str, str]]:
    """Titles and texts of the page's sections."""
    return [(part.partition("\n")[0], part) for part in PAGE.read_text().split("\n## ")[1:]]


def test_the_job_is_ready_and_its_run_has_completed(done: dict[str, str]) -> None:
    said = done["3. Data, a store and a job"]
    assert "job.batch/quickstart-data condition met" in said
    assert said.count("rollupjob.rollup-operator.dev/flights-by-day condition met") == 2


def test_the_result_is_the_data_s(done: dict[str, str]) -> None:
    rows = [line.split() for line in done["4. The result"].splitlines()]
    weeks = [row for row in rows if row and row[0].startswith("2024-01-01")]
    # Of row i, five minutes after the one before it, the delay is i % 61 - 10, and the carrier the one of i % 3.
    first = [i % 61 - 10 for i in range(10_000) if i * 5 < 7 * 24 * 60 and i % 3 == 0]
    wanted = sum(first) / len(first)
    averages = [float(word) for row in weeks for word in row if re.fullmatch(r"-?\d+\.\d+", word)]
    assert any(abs(each - wanted) < 0.01 for each in averages), done["4. The result"]


def test_nothing_is_left_behind(done: dict[str, str], cluster: Cluster) -> None:
    assert "flights-by-day" in done["5. Stop, and remove everything"]
    left = cluster.kubectl("get", "customresourcedefinitions,namespaces,clusterroles,clusterrolebindings", "-o", "name")
    assert "rollup" not in left
