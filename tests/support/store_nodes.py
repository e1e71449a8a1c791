"""Fixtures of real OpenSearch and Elasticsearch nodes, each started by the first test that asks for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from local_stores import KINDS, Node, ToolMissing
from support.store_http import StoreHttp


@contextmanager
def started(kind: str, *, secured: bool = False) -> Iterator[Node]:
    """A node of this kind; the test is skipped where a tool is missing, which must not be in CI."""
    try:
        node = Node.start(kind, secured=secured)
    except ToolMissing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"{KINDS[kind].title}: {missing}")
    with node:
        yield node


@pytest.fixture(scope="session")
def opensearch2_node() -> Iterator[Node]:
    """The session's OpenSearch 2."""
    with started("opensearch2") as node:
        yield node


@pytest.fixture(scope="session")
def opensearch3_node() -> Iterator[Node]:
    """The session's OpenSearch 3."""
    with started("opensearch3") as node:
        yield node


@pytest.fixture(scope="session")
def elasticsearch7_node() -> Iterator[Node]:
    """The session's Elasticsearch 7."""
    with started("elasticsearch7") as node:
        yield node


@pytest.fixture(scope="session")
def elasticsearch8_node() -> Iterator[Node]:
    """The session's Elasticsearch 8."""
    with started("elasticsearch8") as node:
        yield node


@pytest.fixture(scope="session")
def elasticsearch9_node() -> Iterator[Node]:
    """The session's Elasticsearch 9."""
    with started("elasticsearch9") as node:
        yield node


@contextmanager
def lent(node: Node) -> Iterator[StoreHttp]:
    """Lend a node to a test or a module: running when it begins, rid of the indices it made when it has ended."""
    if not node.running:
        node.restart()
    client = StoreHttp(node)
    there = client.indices(), client.data_streams()
    yield client
    if not node.running:
        node.restart()
    node.thaw()
    client.wipe(keep=there)


def _chosen(request: pytest.FixtureRequest, usual: str) -> Iterator[StoreHttp]:
    kind = getattr(request, "param", usual)
    with lent(request.getfixturevalue(f"{kind}_node")) as client:
        yield client


@pytest.fixture
def opensearch(request: pytest.FixtureRequest) -> Iterator[StoreHttp]:
    """The usual node: OpenSearch 2, or each that `support.store_choice` puts in its place.

    What a test makes there goes when it ends; what module fixtures made before it stays.
    """
    yield from _chosen(request, "opensearch2")


@pytest.fixture
def opensearch3(opensearch3_node: Node) -> Iterator[StoreHttp]:
    """OpenSearch 3, as `opensearch`."""
    with lent(opensearch3_node) as client:
        yield client


@pytest.fixture
def elasticsearch(elasticsearch7_node: Node) -> Iterator[StoreHttp]:
    """Elasticsearch 7, as `opensearch`."""
    with lent(elasticsearch7_node) as client:
        yield client


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Iterator[StoreHttp]:
    """Each kind in turn that `support.store_choice` names, as `opensearch`."""
    yield from _chosen(request, "opensearch2")
