"""What a RollupStore of a cluster shows: what it is, how it is, why it cannot be used, and when it can again."""

import base64
from pathlib import Path
from typing import Any

from support.api import Api, condition
from support.bodies import store
from support.operator import Operator
from support.store_front import Authority, Security
from support.store_http import StoreHttp
from support.store_proxy import ProxyThread
from support.waiting import assert_silent

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
    return api.wait_condition("default", status=ready, reason=reason, kind="RollupStore", timeout=15)


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
    api.wait("default", lambda body: body["status"].get("health") == "yellow", kind="RollupStore")


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
        assert "Secret 'login' (spec.opensearch.credentialsSecretRef): there is none" in message(
            wait_reason(api, "SecretInvalid")
        )
        secret(api, "login", username="rollup")
        api.wait("default", lambda body: "password is missing" in message(body), kind="RollupStore")
        secret(api, "login", username="rollup", password="first")
        api.wait("default", lambda body: "Secret 'authority'" in message(body), kind="RollupStore")
        secret(api, "authority", ca_crt=ca.certificate.read_bytes())
        wait_reason(api, "Available")

        security.users["rollup"] = "second"
        wait_reason(api, "StoreUnauthorized")
        secret(api, "login", username="rollup", password="second")
        wait_reason(api, "Available")

        way.run(way.proxy.go_away())
        pair = other.issue("node")
        tls.load_cert_chain(pair.certificate, pair.key)
        way.run(way.proxy.come_back())
        api.wait("default", lambda body: "is not trusted" in message(body), kind="RollupStore")
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
