"""Fixtures of real OpenSearch and Elasticsearch nodes, each started by the first test that asks for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from local_stores import KINDS, Node, ToolMissing
from support.store_http import StoreHttp


@contextmanager
def _started(kind: str) -> Iterator[Node]:
    try:
        node = Node.start(kind)
    except ToolMissing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"{KINDS[kind].title}: {missing}")
    with node:
        yield node


@pytest.fixture(scope="session")
def opensearch2_node() -> Iterator[Node]:
    """The session's OpenSearch 2."""
    with _started("opensearch2") as node:
        yield node


@pytest.fixture(scope="session")
def opensearch3_node() -> Iterator[Node]:
    """The session's OpenSearch 3."""
    with _started("opensearch3") as node:
        yield node


@pytest.fixture(scope="session")
def elasticsearch7_node() -> Iterator[Node]:
    """The session's Elasticsearch 7."""
    with _started("elasticsearch7") as node:
        yield node


@contextmanager
def _lent(node: Node) -> Iterator[StoreHttp]:
    """Lend the session's node to one test: running when it begins, rid of the test's indices when it has ended."""
    if not node.running:
        node.restart()
    client = StoreHttp(node)
    there = client.indices(), client.data_streams()
    yield client
    if not node.running:
        node.restart()
    node.thaw()
    client.wipe(keep=there)


@pytest.fixture
def opensearch(opensearch2_node: Node) -> Iterator[StoreHttp]:
    """OpenSearch 2. What a test makes there goes when it ends; what module fixtures made before it stays."""
    with _lent(opensearch2_node) as client:
        yield client


@pytest.fixture
def opensearch3(opensearch3_node: Node) -> Iterator[StoreHttp]:
    """OpenSearch 3, as `opensearch`."""
    with _lent(opensearch3_node) as client:
        yield client


@pytest.fixture
def elasticsearch(elasticsearch7_node: Node) -> Iterator[StoreHttp]:
    """Elasticsearch 7, as `opensearch`."""
    with _lent(elasticsearch7_node) as client:
        yield client


@pytest.fixture(params=["opensearch2", "elasticsearch7", "opensearch3"])
def node(request: pytest.FixtureRequest) -> Iterator[StoreHttp]:
    """Each kind in turn, as `opensearch`."""
    with _lent(request.getfixturevalue(f"{request.param}_node")) as client:
        yield client
