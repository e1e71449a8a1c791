"""Official clients, unchanged, search over rolled and live data."""

from pathlib import Path
from typing import Any

import pytest

from support.api import Api
from support.operator import Operator
from support.searcher import searcher
from support.speaker import Client, Speaker

pytestmark = pytest.mark.timeout(300)  # the first test of each client makes its environment

SEARCH: dict[str, Any] = {
    "size": 0,
    "query": {"range": {"picked_up": {"gte": "2024-03-01", "lt": "2024-03-04"}}},
    "aggs": {
        "sites": {
            "terms": {"field": "site", "order": {"_key": "asc"}},
            "aggs": {"size": {"avg": {"field": "size"}}, "heaviest": {"max": {"field": "size"}}},
        }
    },
}


@pytest.fixture
def client(speaker: Speaker, operator: Operator, api: Api, folder: Path) -> Client:
    """The client of somebody who may search, over two days that are rolled up and one that is not."""
    return searcher(speaker, operator, api, folder)


def test_a_client_searches_as_it_searches_elasticsearch(client: Client) -> None:
    found = client("search", index="hourly", body=SEARCH).ok
    buckets = found["aggregations"]["sites"]["buckets"]
    assert [bucket["key"] for bucket in buckets] == [f"site-{n}" for n in range(4)]
    assert found["hits"]["total"] == {"value": 72 * 40, "relation": "eq"}
    assert all(isinstance(bucket["size"]["value"], float) for bucket in buckets)
    lines = [{"index": "hourly"}, SEARCH, {"index": "nothing"}, {"size": 0}]
    one, other = client("msearch", body=lines).ok["responses"]
    assert one["aggregations"] == found["aggregations"]
    assert (other["status"], other["error"]["type"]) == (404, "index_not_found_exception")
    caps = client("field_caps", index="hourly", fields="pick*,site").ok
    assert {name: list(types) for name, types in caps["fields"].items()} == {"picked_up": ["date"], "site": ["keyword"]}


def test_a_client_searches_what_is_rolled_up_alone(client: Client) -> None:
    body = {"size": 0, "aggs": {"sizes": {"value_count": {"field": "size"}}, "all": {"sum": {"field": "size"}}}}
    rolled = client("rollup_search", index="hourly", body=body).ok
    both = client("rollup_search", index="hourly,trips/*.parquet", body=body).ok
    assert rolled["aggregations"]["sizes"]["value"] == 48 * 40 * 4 / 5
    assert both["aggregations"]["sizes"]["value"] == 72 * 40 * 4 / 5
    raised = client("rollup_search", index="hourly", body={"size": 10})
    assert raised.failure[1:] == (
        400,
        "Rollup does not support returning search hits, please try again with [size: 0].",
    )
