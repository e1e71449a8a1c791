"""Elasticsearch's JavaScript client searches, and drives a job."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local_stores import ToolMissing
from support import node_client
from support.api import Api
from support.callers import MANAGER, Account
from support.data import PATTERN
from support.operator import Operator
from support.searcher import searcher
from support.speaker import Client, Speaker

pytestmark = pytest.mark.timeout(300)  # the first one installs the client

SITES = {
    "terms": {"field": "site", "order": {"heaviest": "desc"}},
    "aggs": {"mean": {"avg": {"field": "size"}}, "heaviest": {"max": {"field": "size"}}},
}
SEARCH: dict[str, Any] = {
    "size": 0,
    "query": {"range": {"picked_up": {"gte": "2024-03-01", "lt": "2024-03-04"}}},
    "aggs": {
        "days": {
            "date_histogram": {"field": "picked_up", "calendar_interval": "1d"},
            "aggs": {"sites": SITES, "sum": {"sum": {"field": "size"}}},
        },
        "best": {"max_bucket": {"buckets_path": "days>sum"}},
    },
}


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Speaker]:
    try:
        command = node_client.command()
    except ToolMissing as missing:
        pytest.skip(str(missing))
    with Speaker(command, environment={}, log=tmp_path_factory.mktemp("node") / "client.log") as process:
        yield process


@pytest.fixture
def client(speaker: Speaker, operator: Operator, api: Api, folder: Path) -> Client:
    """The client of somebody who may search, over two days that are rolled up and one that is not."""
    return searcher(speaker, operator, api, folder)


def test_it_reads_what_the_endpoint_sends(client: Client, operator: Operator, api: Api) -> None:
    found = client("search", index="hourly", body=SEARCH)
    assert found.sent == ["POST 200"]
    sent = operator.request("POST", f"/namespaces/{api.namespace}/hourly/_search", SEARCH, token=client.token)
    assert {**found.ok, "took": 0} == {**sent.body, "took": 0}
    assert [day["doc_count"] for day in found.ok["aggregations"]["days"]["buckets"]] == [24 * 40] * 3
    lines = [{"index": "hourly"}, SEARCH, {"index": "nothing"}, {"size": 0}]
    one, other = client("msearch", body=lines).ok["responses"]
    assert one["aggregations"] == found.ok["aggregations"]
    assert (other["status"], other["error"]["type"]) == (404, "index_not_found_exception")
    caps = client("field_caps", index="hourly", fields="pick*,site").ok
    assert {name: list(types) for name, types in caps["fields"].items()} == {"picked_up": ["date"], "site": ["keyword"]}
    metrics = {"size": 0, "aggs": {"all": {"sum": {"field": "size"}}}}
    rolled = client("rollup_search", index="hourly", body=metrics).ok["aggregations"]["all"]["value"]
    days = found.ok["aggregations"]["days"]["buckets"]
    assert rolled == pytest.approx(days[0]["sum"]["value"] + days[1]["sum"]["value"], rel=1e-12)


def test_it_raises_what_the_endpoint_refuses(client: Client) -> None:
    raised = client("search", index="nothing", body={"size": 0})
    assert raised.failure == ("ResponseError", 404, "no such index [nothing]")
    raised = client("rollup_search", index="hourly", body={"size": 10})
    told = "Rollup does not support returning search hits, please try again with [size: 0]."
    assert raised.failure == ("ResponseError", 400, told)


def test_it_drives_a_job(client: Client, api: Api) -> None:
    driver = replace(client, token=Account(api).bind(MANAGER).in_force("get").token)
    groups = {"date_histogram": {"field": "picked_up", "fixed_interval": "1h"}, "terms": {"fields": ["site"]}}
    config = {"index_pattern": PATTERN, "rollup_index": "driven", "cron": "0 0 0 1 1 ?", "page_size": 100}
    metrics = [{"field": "size", "metrics": ["min", "avg"]}]
    driver("put_job", id="driven", body={**config, "groups": groups, "metrics": metrics}).ok  # noqa: B018
    assert driver("start_job", id="driven").ok == {"started": True}
    (job,) = driver("get_jobs", id="driven").ok["jobs"]
    assert (job["config"]["groups"]["terms"], job["status"]["job_state"]) == ({"fields": ["site"]}, "started")
    assert driver("stop_job", id="driven").ok == {"stopped": True}
    assert driver("get_jobs", id="driven").ok["jobs"][0]["status"]["job_state"] == "stopped"
    assert driver("delete_job", id="driven").ok["acknowledged"] is True
