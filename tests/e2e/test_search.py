"""A search over a job's rollup index answers as one over all rows of its source would, rolled up or not."""

import base64
import json
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from support.api import Api
from support.bodies import store
from support.callers import READER, VIEWER, Account, install_roles
from support.data import BEGIN, PATTERN, end_of, epoch_ms, trips_job, write_trips
from support.operator import Answer, Operator
from support.plugin import Plugin
from support.waiting import NEVER, finished, request_run

SEARCH = "rollupjobs/search"
TAGS = {"query_string": {"query": "tags:deploy"}}
DAY = {
    "size": 0,
    "aggs": {
        "2": {
            "date_histogram": {"field": "picked_up", "fixed_interval": "86400000ms", "min_doc_count": 0},
            "aggs": {"1": {"avg": {"field": "size"}}, "3": {"max": {"field": "size"}}},
        }
    },
}


class Caller:
    """Calls the endpoint about one namespace."""

    def __init__(self, operator: Operator, namespace: str) -> None:
        self._operator, self._below = operator, f"/namespaces/{namespace}"

    def get(self, path: str, **more: Any) -> Answer:
        return self._operator.request("GET", self._below + path, **more)

    def post(self, path: str, body: Any) -> Answer:
        return self._operator.request("POST", self._below + path, body)

    def msearch(self, *lines: Any) -> Any:
        connection = self._operator.connect()
        headers = {"Content-Type": "application/x-ndjson", "Authorization": f"Bearer {self._operator.token}"}
        headers["FromAlert"] = "true"
        body = "".join(json.dumps(line) + "\n" for line in lines)
        path = f"{self._below}/_msearch?max_concurrent_shard_requests=5&ignore_throttled=false"
        with closing(connection):
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            assert answer.status == 200
            return json.loads(answer.read())["responses"]


@pytest.fixture
def rolled(operator: Operator, api: Api, folder: Path) -> Caller:
    """Two days are rolled up, and a day and a half is not."""
    write_trips(folder, "a", hours=48)
    api.create(store())
    api.create(trips_job(cron=NEVER, end="2024-03-03T00:00:00Z"))
    request_run(api, "trips", "1")
    api.wait("trips", finished(end_of(47)), 20)
    write_trips(folder, "b", begin=BEGIN + timedelta(hours=48), hours=36)
    return Caller(operator, api.namespace)


def direct(folder: Path, select: str, rest: str = "") -> list[tuple[Any, ...]]:
    with duckdb.connect() as db:
        return db.execute(f"SELECT {select} FROM read_parquet('{folder}/{PATTERN}') {rest}").fetchall()


def days(folder: Path, where: str = "true") -> list[tuple[Any, ...]]:
    return direct(
        folder,
        "epoch_ms(time_bucket(INTERVAL '1 day', picked_up)) AS day, count(*), avg(size), max(size)",
        f"WHERE {where} GROUP BY 1 ORDER BY 1",
    )


def shown(aggregation: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(b["key"], b["doc_count"], b["1"]["value"], b["3"]["value"]) for b in aggregation["buckets"]]


@pytest.mark.parametrize("name", ["hourly", "trips%2F*.parquet", "_all", "hour*"])
def test_a_chart_by_days_is_that_of_all_rows(rolled: Caller, folder: Path, name: str) -> None:
    answer = rolled.post(f"/{name}/_search", DAY)
    assert answer.status == 200, answer
    assert shown(answer.body["aggregations"]["2"]) == days(folder)
    assert answer.body["hits"] == {"total": {"value": 84 * 40, "relation": "eq"}, "max_score": None, "hits": []}
    assert answer.body["_rollup"]["jobs"] == [
        {
            "rollup_index": "hourly",
            "job_id": "trips",
            "from": "2024-03-01T00:00:00.000Z",
            "to": "2024-03-03T00:00:00.000Z",
        }
    ]


def test_what_grafana_sends_is_answered_panel_by_panel(rolled: Caller, folder: Path) -> None:
    begin, end = epoch_ms(BEGIN), epoch_ms(end_of(84)) - 1
    panel = {
        "size": 0,
        "query": {
            "bool": {
                "filter": [
                    {"range": {"picked_up": {"gte": begin, "lte": end, "format": "epoch_millis"}}},
                    {"query_string": {"analyze_wildcard": True, "query": "site:site-1 AND gate:[1 TO *]"}},
                ]
            }
        },
        "aggs": DAY["aggs"],
    }
    unknown = {**panel, "query": {"term": {"size": 5}}}
    header = {"ignore_unavailable": True, "index": "hourly", "search_type": "query_then_fetch"}
    times = {"bool": {"should": [{"range": {"picked_up": {"from": begin, "to": end, "format": "epoch_millis"}}}]}}
    annotations = {"size": 10_000, "query": {"bool": {"filter": [times, TAGS]}}}
    values = {"size": 0, "aggs": {"1": {"terms": {"field": "site", "size": 500, "order": {"_key": "asc"}}}}}
    listed = {**header, "index": ["nothing", "hourly"]}
    sent = [header, panel, header, unknown, {"index": "nothing"}, panel, header, annotations, listed, values]
    found, refused, missing, none, variable, empty = rolled.msearch(*sent, {**header, "index": "nothing"}, panel)
    assert (none["status"], none["hits"]["hits"]) == (200, [])
    assert (empty["status"], empty["hits"]["hits"]) == (200, [])
    assert [bucket["key"] for bucket in variable["aggregations"]["1"]["buckets"]] == [f"site-{n}" for n in range(4)]
    assert shown(found["aggregations"]["2"]) == days(folder, "site = 'site-1' AND gate >= 1")
    assert found["status"] == 200
    assert (refused["status"], missing["status"]) == (400, 404)
    assert "size" in refused["error"]["reason"]
    assert refused["error"]["root_cause"] == [{k: refused["error"][k] for k in ("type", "reason")}]
    assert missing["error"]["reason"] == "no such index [nothing]"


def test_rollup_search_reads_the_rollup_index_alone_unless_live_data_is_named(rolled: Caller, folder: Path) -> None:
    alone = rolled.post("/hourly/_rollup_search", DAY)
    assert alone.status == 200, alone
    assert shown(alone.body["aggregations"]["2"]) == days(folder)[:2]
    both = rolled.post("/hourly,trips%2F*.parquet/_rollup_search", DAY)
    assert shown(both.body["aggregations"]["2"]) == days(folder)


def test_a_data_source_finds_a_version_a_health_and_the_fields(rolled: Caller) -> None:
    """What Grafana reads for "Save & test" and its field pickers: Elasticsearch's data source, then OpenSearch's."""
    root = rolled.get("/")
    assert root.headers["X-Elastic-Product"] == "Elasticsearch"
    assert root.body["tagline"] == "You Know, for Search"
    assert tuple(map(int, root.body["version"]["number"].split("."))) >= (7, 16, 0)
    assert root.body["version"]["build_flavor"] == "default"
    health = rolled.get("/_cluster/health?wait_for_status=yellow")
    assert (health.status, health.body["status"]) == (200, "green")
    time = rolled.get("/hourly/_field_caps?fields=picked_up").body["fields"]["picked_up"]
    assert time["date"]["type"] == "date"
    for kinds in rolled.get("/hourly/_field_caps?fields=*").body["fields"].values():
        assert not {"object", "metadata_field"} & kinds.keys()
        assert all(of["type"] == kind and not of["metadata_field"] for kind, of in kinds.items())
    dated = rolled.get("/hourly-2024.03.01/_field_caps?fields=*")
    assert (dated.status, dated.body["error"]["type"]) == (404, "index_not_found_exception")
    mapping = rolled.get("/hourly/_mapping/field/picked_up").body["hourly"]["mappings"]["picked_up"]
    assert mapping["mapping"]["picked_up"]["type"] == "date"

    # The names are the source's.
    caps = rolled.get("/hourly/_field_caps?fields=*").body
    types = {name: list(kinds) for name, kinds in caps["fields"].items()}
    assert types == {
        "picked_up": ["date"],
        "site": ["keyword"],
        "gate": ["long"],
        "size": ["double"],
        "weight": ["double"],
    }
    named = rolled.post("/hourly/_field_caps", {"fields": ["pick*", "site"]}).body
    assert sorted(named["fields"]) == ["picked_up", "site"]
    assert rolled.post("/hourly/_field_caps", {"fields": 5}).status == 400
    assert rolled.get("/hourly/_mapping/field/picked_up").body == {
        "hourly": {"mappings": {"picked_up": {"full_name": "picked_up", "mapping": {"picked_up": {"type": "date"}}}}}
    }
    assert rolled.get("/hourly/_mapping").body["hourly"]["mappings"]["properties"]["site"] == {"type": "keyword"}


def test_only_who_may_search_a_job_learns_of_its_data(rolled: Caller, api: Api) -> None:
    install_roles(api)
    viewer, reader = Account(api).bind(VIEWER), Account(api).bind(READER).in_force("get", SEARCH)
    other = Account(api).allow("get", SEARCH, "other")
    calls = ("/hourly/_search?size=0", "/nothing/_search?size=0", "/_cluster/health", "/hourly/_field_caps?fields=*")
    for path in calls:
        for account in (viewer, other):
            assert rolled.get(path, token=account.token).status == 403, path
    assert rolled.get("/hourly/_search?size=0", token=reader.token).status == 200
    assert rolled.get("/nothing/_search?size=0", token=reader.token).status == 404
    named = Account(api).allow("get", SEARCH, "trips")
    assert rolled.get("/hourly/_search?size=0", token=named.token).status == 200
    assert rolled.get("/nothing/_search?size=0", token=named.token).status == 403
    basic = base64.b64encode(f"grafana:{reader.token}".encode()).decode()
    assert rolled.get("/hourly/_search?size=0", headers={"Authorization": f"Basic {basic}"}).status == 200


def test_a_terminal_shows_a_table_and_a_chart(operator: Operator, rolled: Caller, api: Api, folder: Path) -> None:
    plugin = Plugin(api.plane.kubeconfig, api.namespace)
    reach = {"ROLLUP_URL": operator.url, "ROLLUP_TOKEN": operator.token}
    asked = ("trips", "--interval", "1d", "--metric", "avg:size", "--metric", "count", "-n", api.namespace)
    table = plugin("query", *asked, **reach)
    assert (table.code, table.err) == (0, "")
    heads, *rows = [line.split() for line in table.out.splitlines()]
    assert heads == ["TIME", "avg:size", "count", "DATA"]
    assert [(row[0], float(row[1]), int(row[2]), row[3]) for row in rows] == [
        (f"2024-03-0{i + 1}T00:00:00Z", pytest.approx(size, rel=1e-5), count, "rolled" if i < 2 else "live")
        for i, (_, count, size, _) in enumerate(days(folder))
    ]
    chart = plugin("query", *asked, "--where", "site:site-1", "-o", "chart", **reach)
    assert [line.split()[1][0] for line in chart.out.splitlines()[:4]] == ["█", "█", "░", "░"]
    refused = plugin("query", "trips", "--by", "size", "-n", api.namespace, **reach)
    assert (refused.code, "size" in refused.err) == (1, True)


def test_a_source_that_holds_nothing_yet_is_empty(operator: Operator, api: Api) -> None:
    api.create(store())
    api.create(trips_job(cron=NEVER))
    api.wait_condition("default", reason="Available", kind="RollupStore")
    api.wait("trips", lambda body: "status" in body)
    answer = Caller(operator, api.namespace).post("/hourly/_search", DAY)
    assert answer.status == 200, answer
    assert answer.body["hits"]["total"]["value"] == 0
