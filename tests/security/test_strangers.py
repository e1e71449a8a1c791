"""Callers without rights, by the real API server's reviews: what the operator reads and says on their behalf."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local_control_plane import ControlPlane
from rollup_operator.stores.opensearch.transport.client import OPAQUE_ID
from support.api import Api
from support.bodies import job, store
from support.callers import Account
from support.data import small_groups
from support.hostile_host import Asked, HostileHost, Said, hostile_host, said
from support.operator import Operator
from support.operator_fixtures import StartOperator
from support.proxy import Fault, FaultyProxy, Rule

WORD = "hunter2"


@pytest.fixture
def proxy(control_plane: ControlPlane, tmp_path: Path) -> Iterator[FaultyProxy]:
    with FaultyProxy(control_plane, tmp_path) as proxy:
        yield proxy


@pytest.fixture
def operator(proxy: FaultyProxy, start_operator: StartOperator) -> Operator:
    """An operator whose way to the API server can be watched."""
    return start_operator(kubeconfig=proxy.kubeconfig)


def counted(proxy: FaultyProxy, pattern: str) -> Rule:
    """Count requests to the API server, and let them pass."""
    return proxy.fail(pattern, Fault.DELAY, times=10**6)


def preview(operator: Operator, api: Api, store_name: str, token: str) -> Any:
    body = job("p", storeRef={"name": store_name}, groups=small_groups(), metrics=None)
    return operator.request("POST", f"/namespaces/{api.namespace}/_rollup/job/_preview", body, token=token)


def test_a_preview_reads_nothing_of_others_with_the_operators_rights(
    operator: Operator, api: Api, proxy: FaultyProxy
) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b-login"}, "stringData": {"token": WORD}}
    api.within("kube-system").apply(secret)
    creator = Account(api, "creator").allow("create", "rollupjobs")
    out = counted(proxy, r"/secrets/|healthz|rollupstores/|rollupjobs\?watch=true$|%2[eEfF]|\.\.")
    up = "../" * 6
    answers = {
        name: preview(operator, api, name.format(api=f"{up}api/v1/namespaces/kube-system"), creator.token)
        for name in ("{api}/secrets/b-login", "{api}/secrets/nothing", f"{up}healthz", f"{up}apis?watch", "a%2f..%2fb")
    }
    assert {answer.status for answer in answers.values()} == {400}
    assert all("spec.storeRef.name: cannot be the name of an object" in answer.reason for answer in answers.values())
    assert out.hits == 0
    assert preview(operator, api, "missing", creator.token).reason.startswith("No RollupStore named [missing]")
    assert out.hits == 1


@pytest.fixture
def host() -> Iterator[HostileHost]:
    """A host that is a cluster at first sight, and repeats what it is asked as soon as claims are."""

    def answer(asked: Asked) -> Said:
        if asked.target == "/":
            return said({"version": {"number": "2.19.0", "distribution": "opensearch"}})
        if asked.target.startswith("/_tasks"):
            return said({"nodes": {"n": {"tasks": {"n:1": {"headers": {"X-Opaque-Id": OPAQUE_ID}}}}}})
        if "claims" in asked.target:
            return said({"error": {"type": "x", "reason": f"{WORD} asked {asked.target}"}, "status": 401}, 401)
        return said({"status": "green"})

    with hostile_host(answer) as host:
        yield host


def test_no_store_is_spoken_to_for_a_stranger(operator: Operator, api: Api, host: HostileHost) -> None:
    api.create(store("payroll-prod", opensearch={"hosts": [host.url]}))
    api.wait_condition("payroll-prod", reason="Available", kind="RollupStore")
    nobody = Account(api, "nobody")
    reader = Account(api, "reader").allow("get", "rollupjobs")
    viewer = Account(api, "viewer").allow("get", "rollupjobs").allow("get", "rollupstores")
    viewer.in_force("get", "rollupstores")
    path = f"/namespaces/{api.namespace}/_rollup/data/_all"

    def claims() -> int:
        return sum("claims" in asked.target for asked in host.asked)

    before = claims()
    answer = operator.request("GET", path, token=nobody.token)
    assert (answer.status, answer.body) == (200, {})
    assert claims() == before
    answer = operator.request("GET", path, token=reader.token)
    assert answer.status == 503
    assert "payroll-prod" not in json.dumps(answer.body)
    assert WORD not in json.dumps(answer.body)
    answer = operator.request("GET", path, token=viewer.token)
    assert answer.status == 503
    assert "RollupStore [payroll-prod]" in answer.reason
    assert claims() > before
