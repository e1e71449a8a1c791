"""A login that a host repeats is in no log, status, event, metric or answer of an operator, at its most talkative."""

import base64
import json
import urllib.request
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from local_tools.ports import free_ports
from support.api import Api
from support.bodies import hourly, job, sensor, store
from support.callers import MANAGER, Account, install_roles
from support.data import small_groups, trips_job
from support.hostile_cluster import honest, kind_of
from support.hostile_host import Asked, HostileHost, Said, hostile_host, said
from support.operator import Operator
from support.operator_fixtures import StartOperator

PASSWORD = "S3CRET+pass/word"
HEADER = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
PARTS = {
    part
    for whole in (PASSWORD, HEADER, quote(PASSWORD, safe=""), quote(HEADER, safe=""))
    for part in (whole[:9], whole[-9:])
}


def repeated(asked: Asked) -> Said:
    """What the host was sent, in each place of an error that has a text."""
    login = asked.headers["authorization"]
    text = f"{asked.method} {asked.target} authorization: {login} {base64.b64decode(login.split()[1]).decode()}"
    cause = {"type": "security_exception", "reason": text, "index": text, "node": text, "header": {text: text}}
    shard = {"shard": 0, "index": text, "node": text, "reason": cause}
    return said({"error": {**cause, "root_cause": [cause], "failed_shards": [shard], "caused_by": cause}}, 400)


@pytest.fixture
def host() -> Iterator[HostileHost]:
    """A cluster that is well, and repeats what else it is asked."""

    def answer(asked: Asked) -> Said:
        return honest(asked) if kind_of(asked) in ("about", "idle", "health") else repeated(asked)

    with hostile_host(answer) as host:
        yield host


def test_a_login_that_a_host_repeats_is_nowhere(start_operator: StartOperator, api: Api, host: HostileHost) -> None:
    (port,) = free_ports(1)
    settings = {"metrics_port": port, "log_level": "debug", "store_check_seconds": 3}
    operator = start_operator(settings=settings, expected=['"level": "warning"'])
    install_roles(api)
    token = Account(api, "user").bind(MANAGER).in_force("delete").token
    login = {"username": "alice", "password": PASSWORD}
    api.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "stringData": login})
    api.create(store("cluster", opensearch={"hosts": [host.url], "credentialsSecretRef": {"name": "login"}}))
    api.wait_condition("cluster", reason="Available", kind="RollupStore")
    on_it = {"storeRef": {"name": "cluster"}, "indexPattern": "rows", "groups": small_groups()}
    api.create(trips_job("failing", **on_it))
    api.wait("failing", lambda body: "***" in json.dumps(body.get("status", {})), 20)

    here = f"/namespaces/{api.namespace}/_rollup"
    answers = [
        call(operator, token, *each)
        for each in (
            ("POST", f"{here}/job/_preview", job("p", **on_it)),
            ("PUT", f"{here}/job/checked", sensor(index_pattern="rows", groups=hourly())),
            ("GET", f"{here}/data/_all", None),
            ("GET", f"{here}/job/_all", None),
            ("POST", f"{here}/job/failing/_stop?wait_for_completion=true&timeout=2s", None),
        )
    ]
    host.answer = repeated
    api.wait_condition("cluster", status="False", kind="RollupStore")
    host.answer = lambda asked: said({"found": False}, 404) if kind_of(asked) == "claim" else honest(asked)
    api.wait_condition("cluster", status="True", kind="RollupStore", timeout=20)
    api.delete("failing")
    api.wait_gone("failing", 20)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()

    events = json.dumps([event for name in ("failing", "cluster") for event in api.events(name)])
    assert "***" in events
    objects = json.dumps([api.list(), api.list(kind="RollupStore")])
    texts = {"answers": json.dumps(answers), "events": events, "objects": objects, "metrics": metrics}
    texts["log"] = operator.log.read_text()
    assert "***" in texts["answers"]
    assert {(where, part) for where, text in texts.items() for part in PARTS if part in text} == set()


def call(operator: Operator, token: str, method: str, path: str, body: object) -> list[object]:
    answer = operator.request(method, path, body, token=token, timeout=40)
    return [answer.status, answer.headers, answer.body]
