"""The fixtures of these tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rollup_operator.stores.duckdb import DuckDBStore
from support.embedded import Embedded
from support.endpoint_fixtures import access, client, cluster, endpoint
from support.operator_fixtures import _shared, folder, operator, start_operator

__all__ = ["_shared", "access", "client", "cluster", "endpoint", "folder", "operator", "start_operator"]


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    """A folder of files; a module that needs some in it has a fixture of its own."""
    return Embedded(tmp_path)


@pytest.fixture
async def store(embedded: Embedded) -> AsyncIterator[DuckDBStore]:
    """The store over `embedded`."""
    store = embedded.store()
    yield store
    await store.close()
