"""Each right of the operator, taken away and given back, on the real API server.

Without it the process lives on and its log names what is missing; what needs it fails in words that a person can use;
and once it is back, all goes on by itself.
"""

import contextlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from local_control_plane import ControlPlane
from support.api import Api, condition
from support.bodies import store
from support.callers import RBAC, Account
from support.data import trips_job, write_trips
from support.operator import Answer, Operator
from support.operator_fixtures import tidy
from support.waiting import NEVER, WRONG_CRON

OURS, CORE, EVENTS, LEASES = "rollup-operator.dev", "", "events.k8s.io", "coordination.k8s.io"
LEASE = "rollup-operator"
REVIEWS = {"tokenreviews": "authentication.k8s.io", "subjectaccessreviews": "authorization.k8s.io"}
ADMIN_RBAC = "rbac.authorization.k8s.io/v1"
ROLES = RBAC.parent / "base" / "roles.yaml"


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one resource."""

    group: str
    resource: str
    verb: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"

    def rule(self) -> dict[str, Any]:
        names = {"resourceNames": [self.name]} if self.name else {}
        return {"apiGroups": [self.group], "resources": [self.resource], "verbs": [self.verb]} | names


def declared() -> set[Right]:
    """Every right that the operator's roles give it."""
    found = set()
    bodies = [body for path in RBAC.glob("*.yaml") for body in yaml.safe_load_all(path.read_text())]
    bodies += yaml.safe_load_all(ROLES.read_text())
    for body in bodies:
        if body["kind"] in ("Role", "ClusterRole") and body["metadata"]["name"].startswith("rollup-operator"):
            for rule in body["rules"]:
                for name in rule.get("resourceNames", [""]):
                    found |= {
                        Right(g, r, v, name)
                        for g in rule["apiGroups"]
                        for r in rule["resources"]
                        for v in rule["verbs"]
                    }
    return found


class Rights:
    """A service account of the test's namespace with all rights of the operator there, one of which can be missing."""

    def __init__(self, api: Api) -> None:
        self.api, self.account = api, Account(api, "operator")
        self.all = declared()
        for kind in ("Role", "ClusterRole"):
            self._write(kind, self.all)
            self.api.apply(
                {
                    "apiVersion": ADMIN_RBAC,
                    "kind": f"{kind}Binding",
                    "metadata": {"name": self._name},
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": self._name},
                    "subjects": [
                        {"kind": "ServiceAccount", "name": self.account.account, "namespace": self.account.namespace}
                    ],
                }
            )
        for right in self.all:
            self._until(right, allowed=True)

    @property
    def _name(self) -> str:
        return f"{self.account.namespace}-{self.account.account}"

    @contextlib.contextmanager
    def without(self, right: Right) -> Iterator[None]:
        """Take one right away, for the time of the block."""
        self.take(right)
        try:
            yield
        finally:
            self.give_back(right)

    def take(self, right: Right) -> None:
        self._write(self._kind(right), self.all - {right})
        self._until(right, allowed=False)

    def give_back(self, right: Right) -> None:
        self._write(self._kind(right), self.all)
        self._until(right, allowed=True)

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig of the account."""
        config = json.loads(self.api.plane.kubeconfig.read_text())
        config["users"] = [{"name": "operator", "user": {"token": self.account.token}}]
        context = {"cluster": "local", "user": "operator", "namespace": self.api.namespace}
        config["contexts"] = [{"name": "operator", "context": context}]
        path = folder / "kubeconfig"
        path.write_text(json.dumps(config | {"current-context": "operator"}))
        return path

    def _kind(self, right: Right) -> str:
        return "ClusterRole" if right.resource in REVIEWS else "Role"

    def _write(self, kind: str, rights: set[Right]) -> None:
        rules = [right.rule() for right in sorted(rights) if self._kind(right) == kind]
        body = {"apiVersion": ADMIN_RBAC, "kind": kind, "metadata": {"name": self._name}, "rules": rules}
        self.api.apply(body, force=True)

    def _until(self, right: Right, *, allowed: bool) -> None:
        """Return once the API server knows of it."""
        resource, _, subresource = right.resource.partition("/")
        asked = {"group": right.group, "resource": resource, "subresource": subresource, "verb": right.verb}
        asked |= {"namespace": self.api.namespace if self._kind(right) == "Role" else "", "name": right.name}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": self.account.user, "resourceAttributes": asked},
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        deadline = time.monotonic() + 10
        while bool(self.api.request("POST", path, review)["status"]["allowed"]) is not allowed:
            assert time.monotonic() < deadline, f"{right} is still {'not ' * allowed}there"


LACKS = "the operator itself lacks a right, which its log names"
"""What callers are told. Who may read the log may know more."""


class Scene:
    """An operator that runs with these rights in the test's namespace, and calls to it by the admin."""

    def __init__(self, api: Api, rights: Rights, folder: Path) -> None:
        self.api, self.rights = api, rights
        folder.mkdir(parents=True)
        self.operator = Operator(
            rights.kubeconfig(folder),
            folder,
            namespaces=[api.namespace],
            default_namespace=api.namespace,
            settings={
                "allowed_cache_seconds": 0,
                "denied_cache_seconds": 0,
                "store_check_seconds": 1,
                "sweep_seconds": 1,
                "leader_election": "true",
                "lease_namespace": api.namespace,
                "lease_name": LEASE,
            },
        )
        self.data = self.operator.data_root / api.namespace
        write_trips(self.data)

    def log_names(self, verb: str, resource: str) -> bool:
        """Whether the log says that this right is missing."""
        lines = self.operator.records("a right is missing")
        return any((record["verb"], record["resource"]) == (verb, resource) for record in lines)

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        return self.operator.request(method, path, body, token=self.api.plane.token())

    def put(self, job: str, **spec: Any) -> Answer:
        return self.call("PUT", f"/_rollup/job/{job}", rollup_config(**spec))

    def logged(self, right: Right) -> list[dict[str, Any]]:
        """What the log says of the missing right."""
        found = [r for r in self.operator.records("a right is missing") if r["verb"] == right.verb]
        return [r for r in found if (r["group"], r["resource"]) == (right.group, right.resource)]

    def wait_logged(self, right: Right) -> None:
        """Return once the log names the right; the process lives."""
        deadline = time.monotonic() + 60  # several processes may begin at once
        while not self.logged(right):
            assert self.operator.running, self.operator.log.read_text()
            assert time.monotonic() < deadline, f"{right}: the log does not name it:\n{self.operator.log.read_text()}"
            time.sleep(0.02)  # a file announces no lines


def rollup_config(**changes: Any) -> dict[str, Any]:
    return {
        "index_pattern": "trips/*.parquet",
        "rollup_index": "hourly",
        "cron": NEVER,
        "page_size": 100,
        "groups": {"date_histogram": {"field": "picked_up", "fixed_interval": "1h"}},
        "metrics": [{"field": "size", "metrics": ["min"]}],
    } | changes


# -- what each right is for: `missing` provokes and looks; `back` looks again ------------------------------------------


def get_jobs(scene: Scene) -> Iterator[None]:
    answer = scene.call("POST", "/_rollup/job/unknown/_stop")
    assert answer.status == 503, answer.body
    assert LACKS in answer.reason
    yield
    assert scene.call("POST", "/_rollup/job/unknown/_stop").status == 404


def create_jobs(scene: Scene) -> Iterator[None]:
    answer = scene.put("made")
    assert answer.status == 500, answer.body
    assert "Could not create rollup job [made]" in answer.reason
    assert scene.api.find("made") is None
    yield
    assert scene.put("made").status == 200


def patch_jobs(scene: Scene) -> Iterator[None]:
    scene.api.create(trips_job("patched", desiredState="stopped", cron=NEVER))
    scene.api.wait_state("patched", "stopped")
    answer = scene.call("POST", "/_rollup/job/patched/_start")
    assert answer.status == 500, answer.body
    assert LACKS in str(answer.body)
    assert scene.log_names("patch", "rollupjobs")
    yield
    assert scene.call("POST", "/_rollup/job/patched/_start").status == 200
    scene.api.wait_state("patched", "started")


def delete_jobs(scene: Scene) -> Iterator[None]:
    scene.api.create(trips_job("deleted", desiredState="stopped"))
    scene.api.wait_state("deleted", "stopped")
    answer = scene.call("DELETE", "/_rollup/job/deleted")
    assert answer.status == 500, answer.body
    assert "Could not delete rollup job [deleted]" in answer.reason
    yield
    assert scene.call("DELETE", "/_rollup/job/deleted").status == 200
    assert scene.api.find("deleted") is None


def update_job_status(scene: Scene) -> Iterator[None]:
    scene.api.create(trips_job("told", cron=NEVER))
    yield
    scene.api.wait_state("told", "started", 20)


def get_stores(scene: Scene) -> Iterator[None]:
    scene.api.create(trips_job("lonely", storeRef={"name": "nowhere"}, desiredState="stopped"))
    scene.api.delete("default", kind="RollupStore")
    scene.api.wait_gone("default", kind="RollupStore")
    deadline = time.monotonic() + 10
    while (answer := scene.put("homeless")).status == 200:  # the watch has yet to tell of the deletion
        scene.api.delete("homeless")
        assert time.monotonic() < deadline
    assert answer.status == 503, answer.body
    assert LACKS in answer.reason
    assert scene.log_names("get", "rollupstores")
    yield
    assert scene.put("homeless").status == 400
    scene.api.create(store())
    scene.api.wait_condition("default", kind="RollupStore")


def patch_store_status(scene: Scene) -> Iterator[None]:
    scene.api.create(store("fresh", duckdb={"database": "fresh.duckdb"}))
    yield
    scene.api.wait_condition("fresh", kind="RollupStore", timeout=20)


def get_secrets(scene: Scene) -> Iterator[None]:
    scene.api.create(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "stringData": {"token": "t"}}
    )
    spec = {"opensearch": {"hosts": ["http://127.0.0.1:9"], "credentialsSecretRef": {"name": "login"}}}
    scene.api.create(store("search") | {"spec": spec})
    body = scene.api.wait_condition("search", status="False", reason="SecretInvalid", kind="RollupStore", timeout=20)
    assert 'cannot get resource "secrets"' in (condition(body, "Ready") or {})["message"]
    yield
    scene.api.wait_condition("search", status="False", reason="StoreUnavailable", kind="RollupStore", timeout=20)


def create_events(scene: Scene) -> Iterator[None]:
    scene.api.create(trips_job("wrong", cron=WRONG_CRON))
    scene.api.wait_condition("wrong", "Stalled")
    yield
    scene.api.create(trips_job("wrong-too", cron=WRONG_CRON))
    scene.api.wait_event("wrong-too", "InvalidSpec")


def list_events(scene: Scene) -> Iterator[None]:
    scene.api.create(trips_job("reported", cron=NEVER))
    scene.api.wait_event("reported", "Started")
    page = f"{scene.operator.url}/ui/namespaces/{scene.api.namespace}/jobs/reported"
    request = urllib.request.Request(page, headers={"Authorization": f"Bearer {scene.api.plane.token()}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert "does not give the operator the events" in answer.read().decode()
    yield
    deadline = time.monotonic() + 20  # what was found counts for some seconds
    while True:
        with urllib.request.urlopen(request, timeout=30) as answer:
            if "does not give the operator the events" not in (text := answer.read().decode()):
                break
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert "</i>Started</b>" in text


def review(scene: Scene) -> Iterator[None]:
    answer = scene.call("GET", "/_rollup/job/_all")
    assert answer.status == 503, answer.body
    assert "Access reviews by the API server fail" in answer.reason
    yield
    assert scene.call("GET", "/_rollup/job/_all").status == 200


def renew(scene: Scene) -> Iterator[None]:
    yield
    scene.api.create(trips_job("renewed", desiredState="stopped", cron=NEVER))
    scene.api.wait_state("renewed", "stopped", 20)


Probe = Callable[[Scene], Iterator[None]]

WHILE_IT_RUNS: dict[Right, Probe] = {
    Right(OURS, "rollupjobs", "get"): get_jobs,
    Right(OURS, "rollupjobs", "create"): create_jobs,
    Right(OURS, "rollupjobs", "patch"): patch_jobs,
    Right(OURS, "rollupjobs", "delete"): delete_jobs,
    Right(OURS, "rollupjobs/status", "update"): update_job_status,
    Right(OURS, "rollupstores", "get"): get_stores,
    Right(OURS, "rollupstores/status", "patch"): patch_store_status,
    Right(CORE, "secrets", "get"): get_secrets,
    Right(EVENTS, "events", "create"): create_events,
    Right(CORE, "events", "list"): list_events,
    Right(REVIEWS["tokenreviews"], "tokenreviews", "create"): review,
    Right(REVIEWS["subjectaccessreviews"], "subjectaccessreviews", "create"): review,
    Right(LEASES, "leases", "update", LEASE): renew,
}
AT_THE_START = {
    *(Right(OURS, kind, verb) for kind in ("rollupjobs", "rollupstores") for verb in ("list", "watch")),
    *(Right(LEASES, "leases", verb, LEASE) for verb in ("get", "watch")),
    Right(LEASES, "leases", "create"),
}
"""What an operator at work does not ask for again, or seldom."""

WARNINGS = (
    "a right is missing",
    "write failed",
    "not posted",
    "not written",
    "cannot ask the API server",
    "sweep failed",
    "the lease cannot be used",
    "halting",
    "Request attempt #",
)
"""What the log may say above `info` while something is missing."""


@pytest.fixture(scope="module")
def scene(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Api(control_plane, "rights") as api:
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": api.namespace}})
        scene = Scene(api, Rights(api), tmp_path_factory.mktemp("rights") / "one")
        scene.operator.expected += WARNINGS
        api.create(store())
        try:
            scene.operator.start()
            yield scene
            tidy(api)
            scene.operator.stop()
        finally:
            scene.operator.kill()


def test_there_is_a_test_of_every_right() -> None:
    assert WHILE_IT_RUNS.keys() | AT_THE_START == declared()


@pytest.mark.parametrize("right", WHILE_IT_RUNS, ids=str)
def test_a_missing_right_is_reported_and_all_goes_on_once_it_is_back(scene: Scene, right: Right) -> None:
    pid, probe = scene.operator.pid, WHILE_IT_RUNS[right](scene)
    with scene.rights.without(right):
        next(probe)
        scene.wait_logged(right)
    assert next(probe, "done") == "done"
    assert scene.operator.running
    assert scene.operator.pid == pid


@pytest.mark.slow
def test_an_operator_that_lacks_a_right_from_the_start_waits_for_it(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scenes: dict[Right, Scene] = {}
    folder = tmp_path_factory.mktemp("starts")
    with contextlib.ExitStack() as stack:
        for right in sorted(AT_THE_START):
            api = stack.enter_context(Api(control_plane, str(right).replace(" ", "-")))
            api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": api.namespace}})
            scenes[right] = scene = Scene(api, Rights(api), folder / api.namespace)
            scene.operator.expected += WARNINGS
            scene.rights.take(right)
            scene.operator.launch()
            stack.callback(scene.operator.kill)
        for right, scene in scenes.items():
            scene.wait_logged(right)
            scene.operator.url = scene.operator.records("serving")[0]["url"]
            assert scene.operator.get("/healthz").status == 200, "the kubelet has no reason to end it"
            if (right.group, right.verb) == (OURS, "list"):
                assert scene.operator.get("/readyz").status == 503
                assert scene.call("POST", "/_rollup/job/trips/_stop").status == 503
        for right, scene in scenes.items():
            scene.rights.give_back(right)
        for scene in scenes.values():
            scene.operator.wait_ready()
            scene.api.create(store())
            scene.api.create(trips_job("trips", cron=NEVER))
            scene.api.wait_state("trips", "started", 20)
            tidy(scene.api)
            scene.operator.stop()


def test_every_right_is_justified() -> None:
    text = (RBAC.parents[1] / "docs" / "rights.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]
    assert all(len(row) == 4 and all(row) for row in rows)
    documented = sorted((row[0].split("`")[1], row[1].strip("`")) for row in rows)
    assert documented == sorted((right.resource, right.verb) for right in declared())
