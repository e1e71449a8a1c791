"""Elasticsearch's Java client searches. It reads answers into classes by their types, and fails on what does not fit.

What it has read is compared with what the endpoint sent: nothing may be lost but what is ours alone.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local_stores import ToolMissing
from support import java_client
from support.api import Api
from support.callers import MANAGER, Account
from support.data import PATTERN
from support.operator import Operator
from support.searcher import searcher
from support.speaker import Client, Speaker

pytestmark = pytest.mark.timeout(300)  # the first one builds the client's program

METRICS = {kind: {kind: {"field": "size"}} for kind in ("min", "max", "sum", "avg", "value_count", "stats")}
BY_TIME = {"date_histogram": {"field": "picked_up", "fixed_interval": "6h", "min_doc_count": 0}}
WITH_PIPELINES = {
    "sum": METRICS["sum"],
    "derivative": {"derivative": {"buckets_path": "sum"}},
    "total": {"cumulative_sum": {"buckets_path": "sum"}},
    "difference": {"serial_diff": {"buckets_path": "sum", "lag": 1}},
    "smooth": {"moving_fn": {"buckets_path": "sum", "window": 3, "script": "MovingFunctions.unweightedAvg(values)"}},
    "share": {"bucket_script": {"buckets_path": {"a": "sum", "b": "_count"}, "script": "params.a / params.b"}},
}
BESIDE = {
    f"{kind}_bucket": {f"{kind}_bucket": {"buckets_path": "time>sum"}} for kind in ("avg", "min", "max", "sum", "stats")
}
NOTHING = {"range": {"picked_up": {"gte": "2030-01-01"}}}
BODIES: dict[str, dict[str, Any]] = {
    "a count alone": {"size": 0},
    "no count": {"size": 0, "track_total_hits": False},
    "a count up to": {"size": 0, "track_total_hits": 100},
    "metrics": {"size": 0, "aggs": METRICS},
    "metrics of nothing": {"size": 0, "query": NOTHING, "aggs": METRICS},
    "pipelines": {"size": 0, "aggs": {"time": {**BY_TIME, "aggs": WITH_PIPELINES}, **BESIDE}},
    "levels": {
        "size": 0,
        "aggs": {
            "gate": {
                "terms": {"field": "gate", "show_term_doc_count_error": True},
                "aggs": {
                    "site": {"terms": {"field": "site", "missing": "?"}, "aggs": {"time": {**BY_TIME, "aggs": METRICS}}}
                },
            }
        },
    },
    "buckets of other kinds": {
        "size": 0,
        "aggs": {
            "wide": {"histogram": {"field": "weight", "interval": 50}},
            "kept": {"histogram": {"field": "weight", "interval": 50, "keyed": True}},
            "days": {
                "date_histogram": {
                    "field": "picked_up",
                    "calendar_interval": "1d",
                    "keyed": True,
                    "format": "yyyy-MM-dd",
                }
            },
            "named": {"filters": {"filters": {"a": {"term": {"site": "site-1"}}, "b": {"exists": {"field": "site"}}}}},
            "others": {"filters": {"filters": [{"term": {"site": "site-1"}}], "other_bucket": True}},
            "one": {"filter": {"term": {"gate": 1}}, "meta": {"color": "red"}, "aggs": {"mean": METRICS["avg"]}},
            "ranges": {"range": {"field": "gate", "ranges": [{"to": 1}, {"key": "more", "from": 1}]}},
            "times": {"date_range": {"field": "picked_up", "ranges": [{"to": "2024-03-02"}, {"from": "2024-03-02"}]}},
        },
    },
}


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Speaker]:
    try:
        command = java_client.command()
    except ToolMissing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    with Speaker(command, environment={}, log=tmp_path_factory.mktemp("java") / "client.log") as process:
        yield process


@pytest.fixture
def client(speaker: Speaker, operator: Operator, api: Api, folder: Path) -> Client:
    """The client of somebody who may search, over two days that are rolled up and one that is not."""
    return searcher(speaker, operator, api, folder)


@pytest.fixture
def sent(client: Client, operator: Operator, api: Api) -> Callable[..., Any]:
    """What the endpoint sends to a call of another kind of client, without what is ours alone."""

    def ask(method: str, path: str, body: Any = None, token: str = client.token) -> Any:
        answer = operator.request(method, f"/namespaces/{api.namespace}{path}", body, token=token)
        assert answer.status == 200, answer
        return told(answer.body)

    return ask


def told(value: Any) -> Any:
    """An answer without numbers that are null, how long it took, and what no client knows."""
    if isinstance(value, dict):
        return {k: told(v) for k, v in value.items() if v is not None and k not in ("took", "_rollup")}
    return [told(v) for v in value] if isinstance(value, list) else value


def test_a_typed_client_reads_all_of_an_answer(client: Client, sent: Callable[..., Any]) -> None:
    for name, body in BODIES.items():
        read = client("search", index="hourly", body=body).ok
        assert told(read) == sent("POST", "/hourly/_search?typed_keys=true", body), name
    kept = {"size": 0, "aggs": {kind: METRICS[kind] for kind in METRICS if kind != "stats"}}
    rolled = client("rollup_search", index="hourly", body=kept).ok
    assert told(rolled) == sent("POST", "/hourly/_rollup_search?typed_keys=true", kept)


def test_a_typed_client_reads_several_answers_and_errors(client: Client) -> None:
    lines = [{"index": "hourly"}, BODIES["metrics"], {"index": "nothing"}, BODIES["metrics"], {"index": "hourly"}]
    one, missing, refused = client("msearch", body=[*lines, {"size": 5}]).ok["responses"]
    assert told(one["aggregations"]) == told(
        client("search", index="hourly", body=BODIES["metrics"]).ok["aggregations"]
    )
    assert (missing["status"], missing["error"]["type"]) == (404, "index_not_found_exception")
    assert (refused["status"], refused["error"]["root_cause"][0]["type"]) == (400, "illegal_argument_exception")
    raised = client("search", index="nothing", body={"size": 0})
    assert raised.failure == ("ElasticsearchException", 404, "no such index [nothing]")
    raised = client("rollup_search", index="hourly", body={"size": 10})
    assert raised.failure[1:] == (
        400,
        "Rollup does not support returning search hits, please try again with [size: 0].",
    )


def test_a_typed_client_reads_what_it_asks_before_a_search(client: Client, sent: Callable[..., Any]) -> None:
    assert client("info").ok == sent("GET", "/")
    assert client("health").ok == sent("GET", "/_cluster/health")
    assert client("field_caps", index="hourly", fields="pick*,site").ok == sent(
        "GET", "/hourly/_field_caps?fields=pick*,site"
    )
    assert client("get_mapping", index="hourly").ok == sent("GET", "/hourly/_mapping")
    assert client("get_field_mapping", index="hourly", fields="site").ok == sent("GET", "/hourly/_mapping/field/site")


def test_a_typed_client_drives_a_job(client: Client, sent: Callable[..., Any], api: Api) -> None:
    driver = replace(client, token=Account(api).bind(MANAGER).in_force("get").token)
    groups = {"date_histogram": {"field": "picked_up", "fixed_interval": "1h"}, "terms": {"fields": ["site"]}}
    config = {
        "index_pattern": PATTERN,
        "rollup_index": "typed",
        "cron": "0 0 0 1 1 ?",
        "page_size": 100,
        "groups": groups,
    }
    config["metrics"] = [{"field": "size", "metrics": ["min", "avg"]}]
    assert driver("put_job", id="typed", body=config).ok == {"acknowledged": True}
    assert driver("start_job", id="typed").ok == {"started": True}
    (job,) = driver("get_jobs", id="typed").ok["jobs"]
    assert (job["config"]["groups"]["terms"], job["status"]["job_state"]) == ({"fields": ["site"]}, "started")
    assert driver("stop_job", id="typed").ok == {"stopped": True}
    assert driver("get_jobs", id="typed").ok == sent("GET", "/_rollup/job/typed", token=driver.token)
    read, raw = driver("get_rollup_caps", id="_all").ok, sent("GET", "/_rollup/data/_all", token=driver.token)
    assert modelled(read[PATTERN]) == modelled(raw[PATTERN])
    read, raw = (
        driver("get_rollup_index_caps", index="typed").ok,
        sent("GET", "/typed/_rollup/data", token=driver.token),
    )
    assert modelled(read["typed"]) == modelled(raw["typed"])
    assert driver("delete_job", id="typed").ok["acknowledged"] is True


def modelled(caps: dict[str, Any]) -> list[Any]:
    """What the client's classes hold of capabilities: neither fixed intervals nor those of histograms."""
    known = ("agg", "calendar_interval", "time_zone")
    return [
        {
            **job,
            "fields": {
                f: [{k: v for k, v in one.items() if k in known} for one in of] for f, of in job["fields"].items()
            },
        }
        for job in caps["rollup_jobs"]
    ]
