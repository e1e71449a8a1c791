"""The roles of deploy/rbac on a real API server: each may what it says, and no more."""

import time

import pytest
import yaml

from support.api import Api
from support.callers import MANAGER, OPERATOR, RBAC, READER, REVIEWS, SECRETS, VIEWER, Account, install_roles

GROUPS = {
    "rollupjobs": "rollup-operator.dev",
    "rollupjobs/status": "rollup-operator.dev",
    "rollupjobs/start": "rollup-operator.dev",
    "rollupjobs/stop": "rollup-operator.dev",
    "rollupjobs/run": "rollup-operator.dev",
    "rollupjobs/search": "rollup-operator.dev",
    "rollupjobs/verify": "rollup-operator.dev",
    "rollupjobs/documents": "rollup-operator.dev",
    "rollupjobs/finalizers": "rollup-operator.dev",
    "rollupstores": "rollup-operator.dev",
    "rollupstores/status": "rollup-operator.dev",
    "secrets": "",
    "pods": "",
    "configmaps": "",
    "serviceaccounts/token": "",
    "events": "events.k8s.io",
    "core events": "",
    "rolebindings": "rbac.authorization.k8s.io",
    "tokenreviews": "authentication.k8s.io",
    "subjectaccessreviews": "authorization.k8s.io",
}
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "escalate", "impersonate")

AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"

MAY = {
    VIEWER: {"rollupjobs": "get list watch", "rollupstores": "get list watch"},
    READER: {"rollupjobs/search": "get", "rollupjobs/verify": "get"},
    MANAGER: {
        "rollupjobs": "create get list watch delete",
        "rollupjobs/start": "update",
        "rollupjobs/stop": "update",
        "rollupjobs/run": "update",
        "rollupjobs/documents": "delete",
        "rollupstores": "get list watch",
    },
    OPERATOR: {
        "rollupjobs": "get list watch create patch delete",
        "rollupjobs/status": "update",
        "rollupstores": "get list watch",
        "rollupstores/status": "patch",
        "events": "create",
        "core events": "list",
    },
    SECRETS: {"secrets": "get"},
    REVIEWS: {"tokenreviews": "create", "subjectaccessreviews": "create"},
}


@pytest.fixture
def admin(api: Api) -> Api:
    install_roles(api)
    return api


def may(admin: Api, account: Account, verb: str, resource: str, *, namespace: str, name: str = "") -> bool:
    kind, _, subresource = resource.removeprefix("core ").partition("/")
    attributes = {"verb": verb, "group": GROUPS[resource], "resource": kind, "subresource": subresource}
    spec = {
        "user": account.user,
        "groups": ["system:serviceaccounts", f"system:serviceaccounts:{account.namespace}", "system:authenticated"],
        "resourceAttributes": attributes | {"namespace": namespace, "name": name},
    }
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer = admin.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


@pytest.mark.parametrize("role", MAY)
def test_a_role_may_what_it_says_in_its_namespace_and_no_more(admin: Api, role: str) -> None:
    account = Account(admin).bind(role)
    expected = {(resource, verb) for resource, verbs in MAY[role].items() for verb in verbs.split()}
    resource, verb = min(expected)
    heard = time.monotonic() + 10
    while not may(admin, account, verb, resource, namespace=admin.namespace, name="any"):
        assert time.monotonic() < heard, "the API server has not heard of the binding"
    asked = [(resource, verb) for resource in GROUPS for verb in VERBS]
    found = {(r, v) for r, v in asked if may(admin, account, v, r, namespace=admin.namespace, name="any")}
    assert found == expected
    assert not any(may(admin, account, v, r, namespace="default", name="any") for r, v in expected)


def test_who_may_only_stop_cannot_patch(admin: Api) -> None:
    account = Account(admin).allow("update", "rollupjobs/stop", "sensor")
    for verb, resource in (("patch", "rollupjobs"), ("update", "rollupjobs"), ("update", "rollupjobs/start")):
        assert not may(admin, account, verb, resource, namespace=admin.namespace, name="sensor")
    assert may(admin, account, "update", "rollupjobs/stop", namespace=admin.namespace, name="sensor")
    assert not may(admin, account, "update", "rollupjobs/stop", namespace=admin.namespace, name="other")


def test_the_roles_are_part_of_those_that_everybody_knows() -> None:
    found = {}
    for path in RBAC.glob("*.yaml"):
        for role in yaml.safe_load_all(path.read_text()):
            labels = role["metadata"].get("labels", {})
            found[role["metadata"]["name"]] = {
                k.rpartition("/aggregate-to-")[2] for k, v in labels.items() if v == "true"
            }
    of_its_own: set[str] = set()
    assert found == {
        MANAGER: {"edit", "admin"},
        VIEWER: {"view"},
        READER: of_its_own,
        OPERATOR: of_its_own,
        SECRETS: of_its_own,
        REVIEWS: of_its_own,
    }
