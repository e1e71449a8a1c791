"""Callers with rights of their own: service accounts, the roles of deploy/rbac, and tokens by the TokenRequest API."""

import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from support.api import Api, Body

RBAC = Path(__file__).resolve().parents[2] / "deploy" / "rbac"
MANAGER, VIEWER, READER = "rollup-manager", "rollup-viewer", "rollup-reader"
OPERATOR, SECRETS, REVIEWS = "rollup-operator", "rollup-operator-secrets", "rollup-operator-reviews"
_RBAC = "rbac.authorization.k8s.io/v1"
_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_numbers = itertools.count(1)


def install_roles(api: Api) -> None:
    """Apply deploy/rbac."""
    for path in sorted(RBAC.glob("*.yaml")):
        for body in yaml.safe_load_all(path.read_text()):
            api.apply(body)


class Account:
    """A new service account of the namespace, which may nothing."""

    def __init__(self, api: Api, name: str = "caller") -> None:
        self._api = api
        self.account = f"{name}-{next(_numbers)}"
        self.namespace = api.namespace
        api.create(_object("v1", "ServiceAccount", self.account))
        self.user = f"system:serviceaccount:{self.namespace}:{self.account}"
        self.token = self.new_token()

    def new_token(self, *, audiences: Sequence[str] = ()) -> str:
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600, "audiences": list(audiences)},
        }
        path = self._api.path("ServiceAccount", self.account, subresource="token")
        return str(self._api.request("POST", path, request)["status"]["token"])

    def bind(self, role: str, *, everywhere: bool = False) -> "Account":
        """Give it a ClusterRole, in its namespace or in all."""
        binding = {"roleRef": _reference("ClusterRole", role), "subjects": [self._subject]}
        kind = "ClusterRoleBinding" if everywhere else "RoleBinding"
        self._api.create(_object(_RBAC, kind, f"{self.account}-{role}") | binding)
        return self

    def allow(self, verb: str, resource: str, *names: str, group: str = "rollup-operator.dev") -> "Account":
        """Give it one right in its namespace, on some names or on all, and return once one of ours is in force."""
        name = f"{self.account}-{next(_numbers)}"
        rule: Mapping[str, Any] = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
        self._api.create(_object(_RBAC, "Role", name) | {"rules": [rule | ({"resourceNames": names} if names else {})]})
        binding = {"roleRef": _reference("Role", name), "subjects": [self._subject]}
        self._api.create(_object(_RBAC, "RoleBinding", name) | binding)
        ours = group == "rollup-operator.dev"
        return self.in_force(verb, resource, names[0] if names else "") if ours else self

    def in_force(self, verb: str, resource: str = "rollupjobs", name: str = "") -> "Account":
        """Return once the API server grants that right in the account's namespace: it reads a new binding later."""
        kind, _, below = resource.partition("/")
        asked = {"group": "rollup-operator.dev", "resource": kind, "subresource": below, "verb": verb}
        asked |= {"namespace": self.namespace, "name": name}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": self.user, "resourceAttributes": asked},
        }
        deadline = time.monotonic() + 10
        while not self._api.request("POST", _REVIEWS, review)["status"]["allowed"]:
            assert time.monotonic() < deadline, f"{self.user} does not get the right to {verb} {resource}"
            time.sleep(0.02)  # it tells nobody
        return self

    def revoke(self) -> None:
        """Take all its rights in its namespace."""
        for item in self._api.list(kind="RoleBinding"):
            if any(subject["name"] == self.account for subject in item["subjects"]):
                self._api.delete(item["metadata"]["name"], kind="RoleBinding")

    @property
    def _subject(self) -> Body:
        return {"kind": "ServiceAccount", "name": self.account, "namespace": self.namespace}


def _object(version: str, kind: str, name: str) -> Body:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}


def _reference(kind: str, name: str) -> Body:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
