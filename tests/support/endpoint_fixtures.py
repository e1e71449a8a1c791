"""Fixtures of tests of the endpoint over the doubles. A module that needs another cluster or client has its own."""

from collections.abc import AsyncIterator

import pytest

from rollup_operator.http.app import Endpoint
from support.access_double import Anybody
from support.http_double import Cluster
from support.serving import Client, calling, served


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def access() -> Anybody:
    return Anybody()


@pytest.fixture
async def endpoint(cluster: Cluster, access: Anybody) -> AsyncIterator[Endpoint]:
    async with served(cluster, access=access) as endpoint:
        yield endpoint


@pytest.fixture
async def client(endpoint: Endpoint) -> AsyncIterator[Client]:
    async with calling(endpoint) as client:
        yield client
