"""What a RollupStore of a cluster shows: what it is, how it is, why it cannot be used, and when it can again."""

import base64
from pathlib import Path
from typing import Any

from support.api import Api, condition
from support.bodies import job, store
from support.operator import Operator
from support.store_front import Authority, Security
from support.store_http import StoreHttp, unique
from support.store_proxy import ProxyThread
from support.waiting import NEVER, assert_silent, request_run, run_completed, runs

GENEROUS = 30.0
SETTINGS = {"settings": {"store_check_seconds": 0.9}}


def cluster(api: Api, client: StoreHttp, url: str = "", **spec: Any) -> None:
    """Create the store `default` of the node's kind, perhaps behind another URL."""
    api.create(store(**{client.distribution: {"hosts": [url or client.url], **spec}}))


def secret(api: Api, name: str, **data: bytes | str) -> None:
    """Create a Secret, or replace what is in one."""
    encoded = {
        key.replace("_", "."): base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
        for key, value in data.items()
    }
    api.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}, force=True)


def status(body: dict[str, Any]) -> tuple[Any, ...]:
    found = condition(body) or {}
    shown = body["status"]
    return found.get("reason"), shown.get("distribution"), shown.get("version"), shown.get("health")


def wait_reason(api: Api, reason: str) -> dict[str, Any]:
    ready = "True" if reason == "Available" else "False"
    return api.wait_condition("default", status=ready, reason=reason, kind="RollupStore", timeout=GENEROUS)


def message(body: dict[str, Any]) -> str:
    return str((condition(body) or {})["message"])


def test_each_kind_tells_what_it_is(operator: Operator, api: Api, node: StoreHttp) -> None:
    cluster(api, node)
    body = wait_reason(api, "Available")
    number = node.call("GET", "/")["version"]["number"]
    assert status(body) == ("Available", node.distribution, number, "green")


def test_health_changes_by_itself_and_nothing_else_is_written(
    operator: Operator, api: Api, opensearch: StoreHttp
) -> None:
    cluster(api, opensearch)
    body = wait_reason(api, "Available")
    assert_silent(api, body, 2.0, kind="RollupStore")
    opensearch.create("yellow", {}, settings={"number_of_replicas": 1})
    api.wait("default", lambda body: body["status"].get("health") == "yellow", GENEROUS, kind="RollupStore")


def test_a_cluster_of_the_other_kind_is_refused(operator: Operator, api: Api, opensearch: StoreHttp) -> None:
    api.create(store(elasticsearch={"hosts": [opensearch.url]}))
    body = wait_reason(api, "InvalidSpec")
    assert (condition(body, "Stalled") or {})["status"] == "True"
    assert "the hosts lead to OpenSearch 2.19.1" in message(body)
    assert "create it with spec.opensearch in place of spec.elasticsearch" in message(body)


def test_a_host_where_users_have_no_business_is_refused(operator: Operator, api: Api) -> None:
    api.create(store(opensearch={"hosts": ["http://169.254.169.254"]}))
    body = wait_reason(api, "InvalidSpec")
    assert message(body).startswith("spec.opensearch.hosts[0]: the operator may not connect to 169.254.169.254")
    assert "store_hosts" in message(body)
    api.patch("default", {"spec": {"opensearch": {"hosts": ["http://localhost:1"]}}}, kind="RollupStore")
    body = wait_reason(api, "StoreUnavailable")


def test_a_cluster_that_goes_and_comes_back(operator: Operator, api: Api, opensearch: StoreHttp) -> None:
    with ProxyThread(opensearch.url) as way:
        cluster(api, opensearch, way.proxy.url)
        wait_reason(api, "Available")
        way.run(way.proxy.go_away())
        body = wait_reason(api, "StoreUnavailable")
        assert status(body) == ("StoreUnavailable", "opensearch", "2.19.1", None)
        assert (condition(body, "Reconciling") or {})["status"] == "True"
        assert f"{way.proxy.url} cannot be connected to: Connection refused" in message(body)
        assert_silent(api, body, 1.0, kind="RollupStore")
        way.run(way.proxy.come_back())
        assert status(wait_reason(api, "Available")) == ("Available", "opensearch", "2.19.1", "green")
        told = api.wait_event("default", "Recovered")
        assert (told["type"], told["message"].startswith("StoreUnavailable is over: ")) == ("Normal", True), told
    about = [event for event in api.list(kind="Event") if event["involvedObject"]["kind"] == "RollupStore"]
    (warning,) = (event for event in about if event["type"] == "Warning")  # one, after several checks
    assert (warning["reason"], warning["involvedObject"]["name"]) == ("StoreUnavailable", "default")
    assert "cannot be connected to: Connection refused" in warning["message"]


def test_secrets_come_and_change_without_a_restart(
    operator: Operator, api: Api, opensearch: StoreHttp, tmp_path: Path
) -> None:
    ca, other = Authority.make(tmp_path / "ca"), Authority.make(tmp_path / "other")
    security = Security(users={"rollup": "first"})
    tls = ca.serving()
    with ProxyThread(opensearch.url, tls=tls, guard=security.judge) as way:
        cluster(
            api, opensearch, way.proxy.url, credentialsSecretRef={"name": "login"}, caSecretRef={"name": "authority"}
        )
        assert "Secret 'login' (spec.opensearch.credentialsSecretRef): it does not exist in namespace" in message(
            wait_reason(api, "SecretInvalid")
        )
        secret(api, "login", username="rollup")
        api.wait("default", lambda body: "password is missing" in message(body), kind="RollupStore", timeout=GENEROUS)
        secret(api, "login", username="rollup", password="first")
        api.wait("default", lambda body: "Secret 'authority'" in message(body), kind="RollupStore", timeout=GENEROUS)
        secret(api, "authority", ca_crt=ca.certificate.read_bytes())
        wait_reason(api, "Available")

        security.users["rollup"] = "second"
        refused = message(wait_reason(api, "StoreUnauthorized"))
        assert (
            "does not accept username and password of Secret 'login' (spec.opensearch.credentialsSecretRef)" in refused
        )
        assert "first" not in refused
        secret(api, "login", username="rollup", password="second")
        wait_reason(api, "Available")

        way.run(way.proxy.go_away())
        pair = other.issue("node")
        tls.load_cert_chain(pair.certificate, pair.key)
        way.run(way.proxy.come_back())
        api.wait("default", lambda body: "is not trusted" in message(body), kind="RollupStore", timeout=GENEROUS)
        secret(api, "authority", ca_crt=other.certificate.read_bytes())
        wait_reason(api, "Available")
    assert "second" not in operator.log.read_text()


def test_the_client_is_kept_where_the_place_is_the_same(operator: Operator, api: Api, opensearch: StoreHttp) -> None:
    with ProxyThread(opensearch.url) as way:
        cluster(api, opensearch, way.proxy.url)
        wait_reason(api, "Available")
        connections = way.call(lambda: len(way.proxy._connections))
        api.patch("default", {"spec": {"maxConcurrentRuns": 7}}, kind="RollupStore")
        api.wait_condition("default", reason="Available", kind="RollupStore")
        assert way.call(lambda: len(way.proxy._connections)) == connections
        api.patch("default", {"spec": {"opensearch": {"hosts": [opensearch.url]}}}, kind="RollupStore")
        wait_reason(api, "Available")
        way.run(way.proxy.until(lambda: not way.proxy._connections))  # the client before is let go


def load(client: StoreHttp, hours: int = 4) -> str:
    """A source with one document in each of some hours; returns its name."""
    index = client.create(unique("events"), {"ts": "date", "host": "keyword", "load": "double"})
    client.load(index, [{"ts": n * 3_600_000, "host": f"h{n % 2}", "load": n} for n in range(hours)])
    return index


def hourly(source: str, **spec: Any) -> dict[str, Any]:
    """A job over `load`'s documents, started, whose schedule never comes."""
    return job(
        "hourly",
        **{
            "desiredState": "started",
            "indexPattern": source,
            "rollupIndex": f"{source}-rolled",
            "cron": NEVER,
            "groups": {"dateHistogram": {"field": "ts", "fixedInterval": "1h"}, "terms": {"fields": ["host"]}},
            "metrics": [{"field": "load", "metrics": ["sum"]}],
        }
        | spec,
    )


def test_a_job_goes_on_at_once_when_its_store_comes_back(operator: Operator, api: Api, opensearch: StoreHttp) -> None:
    source = load(opensearch)
    with ProxyThread(opensearch.url) as way:
        cluster(api, opensearch, way.proxy.url)
        wait_reason(api, "Available")
        way.run(way.proxy.go_away())
        wait_reason(api, "StoreUnavailable")
        api.create(hourly(source))
        request_run(api, "hourly", "1")
        api.wait_condition("hourly", status="False", reason="StoreUnavailable")
        way.run(way.proxy.come_back())
        # Its own next try may be minutes away by then; the store's next look is not.
        api.wait("hourly", run_completed, GENEROUS)
        assert opensearch.count(f"{source}-rolled") == 4


def test_a_job_runs_over_tls_with_credentials_that_change(
    operator: Operator, api: Api, opensearch: StoreHttp, tmp_path: Path
) -> None:
    source = load(opensearch)
    ca = Authority.make(tmp_path / "ca")
    security = Security(users={"rollup": "first"})
    secret(api, "login", username="rollup", password="first")
    secret(api, "authority", ca_crt=ca.certificate.read_bytes())
    with ProxyThread(opensearch.url, tls=ca.serving(), guard=security.judge) as way:
        refs = {"credentialsSecretRef": {"name": "login"}, "caSecretRef": {"name": "authority"}}
        cluster(api, opensearch, way.proxy.url, **refs)
        api.create(hourly(source))
        request_run(api, "hourly", "1")
        api.wait("hourly", run_completed, GENEROUS)
        secret(api, "login", username="rollup", password="second")
        security.users["rollup"] = "second"
        opensearch.load(source, [{"ts": 10 * 3_600_000, "host": "h0", "load": 1}])
        request_run(api, "hourly", "2")
        body = api.wait("hourly", lambda body: runs(body) == 2 and run_completed(body), GENEROUS)
        assert (condition(body) or {})["reason"] == "Waiting"
        assert opensearch.count(f"{source}-rolled") == 5
        api.delete("hourly")
        api.wait_gone("hourly", 20)


def test_a_job_whose_secret_is_gone_can_be_deleted(operator: Operator, api: Api, opensearch: StoreHttp) -> None:
    cluster(api, opensearch, credentialsSecretRef={"name": "login"})
    api.create(hourly("events", deletionPolicy="Delete"))
    request_run(api, "hourly", "1")
    body = api.wait("hourly", lambda body: body["status"].get("lastRun", {}).get("outcome") == "Failed")
    assert (condition(body) or {})["reason"] == "SecretInvalid"
    assert "Secret 'login' (spec.opensearch.credentialsSecretRef): it does not exist in namespace" in message(body)
    api.delete("hourly")
    api.wait_gone("hourly")
    assert "Secret 'login'" in api.wait_event("hourly", "DrainSkipped")["message"]


def test_a_job_whose_cluster_is_gone_says_how_its_deletion_ends(
    operator: Operator, api: Api, opensearch: StoreHttp
) -> None:
    source = load(opensearch)
    with ProxyThread(opensearch.url) as way:
        cluster(api, opensearch, way.proxy.url)
        api.create(hourly(source, deletionPolicy="Delete"))
        request_run(api, "hourly", "1")
        api.wait("hourly", run_completed, GENEROUS)
        way.run(way.proxy.go_away())
        api.delete("hourly")
        body = api.wait_condition("hourly", status="False", reason="StoreUnavailable")
        assert body["status"]["state"] == "aborting"
        assert "Connection refused" in message(body)
        assert "gone for good, delete RollupStore 'default'" in message(body)
        api.delete("default", kind="RollupStore")
        api.wait_gone("hourly")
        event = api.wait_event("hourly", "DrainSkipped")["message"]
        assert "RollupStore 'default' is gone: its documents and its record, although" in event
    assert opensearch.count(f"{source}-rolled") == 4


def test_how_csv_files_are_read_is_refused_where_there_are_none(
    operator: Operator, api: Api, opensearch: StoreHttp
) -> None:
    source = unique("trips") + ".csv"
    opensearch.create(source, {"ts": "date"})
    opensearch.load(source, [{"ts": 1_700_000_000_000}])
    cluster(api, opensearch)
    wait_reason(api, "Available")
    body = job(
        "hourly",
        indexPattern=source,
        cron=NEVER,
        desiredState="started",
        groups={"dateHistogram": {"field": "ts", "fixedInterval": "1h"}},
        metrics=None,
    )
    body["spec"]["csv"] = {"columns": [{"name": "ts", "type": "TIMESTAMP"}]}
    answer = operator.request("POST", f"/namespaces/{api.namespace}/_rollup/job/_preview", body)
    assert answer.status == 400, answer
    says = "spec.csv says how CSV files are read", "'default' is a cluster", "remove spec.csv"
    for text in says:
        assert text in str(answer.body)
    api.create(body)
    request_run(api, "hourly", "one")
    shown = api.wait_condition("hourly", status="False", reason="SourceInvalid", timeout=GENEROUS)
    for text in says:
        assert text in message(shown)
    api.patch("hourly", {"spec": {"csv": None}})
    api.wait("hourly", run_completed, GENEROUS)
