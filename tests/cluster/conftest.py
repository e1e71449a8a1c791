"""A real node with the operator's image, and what is deployed there. All of it is shared by the tests of a module."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cluster import Cluster, why_not
from local_cluster.needs import PROGRAMS, TOOLS
from local_control_plane import built
from support.api import Api
from support.deployed import Deployed
from support.release import release

__all__ = ["release"]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def image(release: Path) -> Path:
    """The archive of the operator's image, made from this code."""
    [archive] = release.glob("rollup-operator-*-*.tar")
    return archive


@pytest.fixture(scope="session")
def _node() -> Iterator[Cluster]:
    reason = why_not()
    if reason is not None:
        pytest.skip(f"no Kubernetes node on this machine: {reason}")
    if not built((*PROGRAMS, *TOOLS, "helm")):
        pytest.skip("what a Kubernetes node runs is not built: make node")
    with Cluster.start() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster(_node: Cluster, image: Path) -> Cluster:
    """A node that has the image."""
    _node.load_image(image)
    return _node


@pytest.fixture
def api(deployed: Deployed, request: pytest.FixtureRequest) -> Iterator[Api]:
    """The admin's client in a fresh namespace, which goes when the test has ended."""
    word = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].strip("-")
    name = f"{word}-{next(_numbers)}"
    deployed.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield deployed.api.within(name)
    deployed.cluster.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


@pytest.fixture
def folder(deployed: Deployed, api: Api) -> Path:
    """The data folder of the test's namespace, as the operator's pod sees it."""
    return deployed.folder_of(api.namespace)
