"""Random searches over a job's documents and its source's rows are answered as the node answers them over all rows."""

import pytest

from support.search_oracle import EXAMPLES, compared
from support.search_places import on_cluster
from support.store_http import StoreHttp


@pytest.mark.newest_stores
@pytest.mark.timeout(300 + EXAMPLES)
async def test_random_searches_are_answered_as_over_all_rows(node: StoreHttp) -> None:
    """OpenSearch 3 is asked most of them."""
    await compared(node, lambda of, chance: on_cluster(node), node.kind)
