"""Official clients, unchanged, search over rolled and live data."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from support.api import Api
from support.data import PATTERN
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


def searches_by_builders(client: Client, folder: Path) -> None:
    """Let the client's own builders make a search and read its answer, which says what SQL over the rows says."""
    sites = ["site-1", "site-2"]
    found = client("built", index="hourly", begin="2024-03-02T00:00:00Z", end="2024-03-04T00:00:00Z", sites=sites).ok
    days = found["days"]
    where = f"picked_up >= '2024-03-02' AND (gate = 1 OR list_contains({sites}, site))"
    rows = f"(FROM read_parquet('{folder}/{PATTERN}') WHERE {where})"
    with duckdb.connect() as db:
        each = db.execute(f"SELECT count(*), avg(size) FROM {rows} GROUP BY picked_up::DATE ORDER BY picked_up::DATE")
        assert [(day["count"], day["mean"]) for day in days] == each.fetchall()
        best = db.execute(
            f"SELECT site, count(*), max(size) FROM {rows} WHERE picked_up < '2024-03-03' AND site <> '' "
            "GROUP BY 1 ORDER BY 3 DESC"
        ).fetchall()
        few = db.execute(f"SELECT count(*) FROM {rows} WHERE gate = 2").fetchone()
    assert [(site, *values) for site, values in days[0]["sites"].items()] == best
    assert [day["text"] for day in days] == ["2024-03-02T00:00:00.000Z", "2024-03-03T00:00:00.000Z"]
    assert [day["change"] for day in days] == [None, days[1]["mean"] - days[0]["mean"]]
    assert found["best"] == max([day["mean"], [day["text"]]] for day in days)
    assert found["totals"] == [sum(day["count"] for day in days)] * 2 + list(few or ())
    assert (found["success"], found["alike"]) == ([True] * 3, True)


def test_a_client_searches_as_it_searches_elasticsearch(client: Client, folder: Path) -> None:
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
    searches_by_builders(client, folder)


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
