"""An answer over indices has as many buckets as allowed, and not one more."""

import pytest

from support.search_limits import answers_as_many_as_allowed
from support.search_places import on_cluster
from support.store_http import StoreHttp


@pytest.mark.slow
async def test_an_answer_has_as_many_buckets_as_allowed_and_not_one_more(opensearch: StoreHttp) -> None:
    async with on_cluster(opensearch) as place:
        await answers_as_many_as_allowed(place)
