"""Who may do what through the endpoint, by the real API server's reviews. The operator has its own role and no more."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local_control_plane import ControlPlane
from support.api import Api
from support.bodies import store
from support.callers import MANAGER, OPERATOR, REVIEWS, SECRETS, VIEWER, Account, install_roles
from support.data import small_groups, trips_job, write_trips
from support.operator import Answer, Operator
from support.proxy import FaultyProxy
from support.waiting import NEVER, run_completed

ALLOWED_SECONDS = 2.0
WAIT = "wait_for_completion=true&timeout=20s"
NETWORK = ("cannot ask the API server", "watch", "Watch", "Request attempt", "sweep failed", "Broken connection")
"""What the operator says while the API server is away."""


@pytest.fixture(scope="module")
def proxy(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyProxy]:
    with FaultyProxy(control_plane, tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def _shared(
    control_plane: ControlPlane, proxy: FaultyProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """The operator as a service account with its own roles and no more."""
    folder = tmp_path_factory.mktemp("operator")
    with Api(control_plane, "kube-system") as admin:
        install_roles(admin)
        account = Account(admin, "operator")
        for role in (OPERATOR, SECRETS, REVIEWS):
            account.bind(role, everywhere=True)
    config = json.loads(proxy.kubeconfig.read_text())
    config["users"] = [{"name": "operator", "user": {"token": account.token}}]
    config["contexts"] = [{"name": "operator", "context": {"cluster": "local", "user": "operator"}}]
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(config | {"current-context": "operator"}))
    settings = {"allowed_cache_seconds": ALLOWED_SECONDS, "denied_cache_seconds": 0.2}
    process = Operator(kubeconfig, folder, settings=settings, expected=NETWORK)
    try:
        yield process.start()
        process.stop()
    finally:
        process.kill()


@pytest.fixture(autouse=True)
def _something_to_roll_up(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())


@pytest.fixture
def jobs(api: Api) -> str:
    """Two stopped jobs; the path of all jobs."""
    for name in ("a", "b"):
        api.create(trips_job(name, groups=small_groups(), cron=NEVER, desiredState="stopped"))
    for name in ("a", "b"):
        api.wait_state(name, "stopped")
    return f"/namespaces/{api.namespace}/_rollup/job"


def test_who_is_not_known_learns_nothing(operator: Operator, jobs: str) -> None:
    for path in (jobs, f"{jobs}/a", f"{jobs}/missing", "/", "/nothing"):
        answer = operator.request("GET", path, headers={})
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="rollup-operator"')
        assert answer.reason.startswith(f"missing authentication credentials for REST request [{path}]")
    for token in ("x", "x" * 5000, operator.token[:-3] + "abc"):
        assert operator.get(jobs, token=token).status == 401
    assert operator.request("GET", jobs, headers={"Authorization": "Basic YWRtaW46YWRtaW4="}).status == 401
    assert operator.request("GET", "/healthz", headers={}).status == 200
    assert operator.request("GET", "/readyz", headers={}).status == 200


def test_who_may_nothing_reads_what_is_missing(operator: Operator, api: Api, jobs: str) -> None:
    nobody = Account(api)
    answer = operator.post(f"{jobs}/a/_stop", token=nobody.token)
    assert (answer.status, answer.body["error"]["type"]) == (403, "security_exception")
    assert answer.reason == (
        f"action [cluster:admin/xpack/rollup/stop] is unauthorized for user [{nobody.user}], this action is granted by "
        "the Kubernetes right to [update] of [rollupjobs/stop] or [patch] of [rollupjobs] in API group "
        f"[rollup-operator.dev] and namespace [{api.namespace}]"
    )
    assert operator.post(f"{jobs}/missing/_stop", token=nobody.token).body == answer.body
    for method, path in (("GET", "/a"), ("POST", "/a/_start"), ("POST", "/_all/_stop"), ("POST", "/*/_start")):
        assert operator.request(method, jobs + path, headers=_bearer(nobody)).status == 403
    assert operator.get(jobs, token=nobody.token).body == {"jobs": []}
    assert operator.get("/", token=nobody.token).status == 200


def test_a_viewer_sees_and_changes_nothing(operator: Operator, api: Api, jobs: str) -> None:
    viewer = Account(api).bind(VIEWER).in_force("get")
    assert [job["config"]["id"] for job in operator.get(jobs, token=viewer.token).body["jobs"]] == ["a", "b"]
    assert len(operator.get(f"{jobs}/a", token=viewer.token).body["jobs"]) == 1
    assert operator.get(f"{jobs}/missing", token=viewer.token).body == {"jobs": []}
    for path in ("/a/_stop", "/a/_start", "/_all/_stop", "/missing/_stop"):
        assert operator.post(jobs + path, token=viewer.token).status == 403
    # Rights end at the namespace.
    assert operator.get("/_rollup/job/a", token=viewer.token).status == 403


def test_a_manager_runs_a_job_with_an_operator_of_few_rights(operator: Operator, api: Api, folder: Path) -> None:
    manager = Account(api).bind(MANAGER).in_force("update", "rollupjobs/stop")
    api.create(trips_job(groups=small_groups(), desiredState=None))
    job = f"/namespaces/{api.namespace}/_rollup/job/trips"
    api.wait_state("trips", "stopped")
    assert operator.post(f"{job}/_start", token=manager.token).body == {"started": True}
    api.wait("trips", run_completed)
    assert operator.post(f"{job}/_stop?{WAIT}", token=manager.token).body == {"stopped": True}
    assert operator.post(f"{job[:-5]}/missing/_stop", token=manager.token).status == 404
    [line] = [r for r in operator.records("audit") if r["user"] == manager.user and r["action"] == "start"]
    assert (line["namespace"], line["job"], line["resources"], line["status"]) == (
        api.namespace,
        "trips",
        ["trips"],
        200,
    )
    assert manager.token not in operator.log.read_text()
    api.delete("trips")
    api.wait_gone("trips")


def test_who_may_only_stop_stops_and_who_may_patch_stops_too(operator: Operator, api: Api, jobs: str) -> None:
    stopper = Account(api).allow("update", "rollupjobs/stop")
    assert operator.post(f"{jobs}/a/_stop?{WAIT}", token=stopper.token).status == 200
    assert operator.post(f"{jobs}/missing/_stop", token=stopper.token).status == 404
    assert operator.post(f"{jobs}/a/_start", token=stopper.token).status == 403
    assert operator.get(f"{jobs}/a", token=stopper.token).status == 403
    patcher = Account(api).allow("patch", "rollupjobs")
    assert operator.post(f"{jobs}/a/_start", token=patcher.token).status == 200
    assert operator.post(f"{jobs}/_all/_stop?{WAIT}", token=patcher.token).status == 200


def test_all_means_those_that_one_may(operator: Operator, api: Api, jobs: str) -> None:
    api.create(trips_job("c-7f3a", jobId="Job C", groups=small_groups(), cron=NEVER, desiredState="stopped"))
    api.wait_state("c-7f3a", "stopped")
    some = Account(api)
    for verb, resource in (("get", "rollupjobs"), ("update", "rollupjobs/start"), ("update", "rollupjobs/stop")):
        some.allow(verb, resource, "b", "c-7f3a", "gone")
    shown = operator.get(jobs, token=some.token).body["jobs"]
    assert [job["config"]["id"] for job in shown] == ["Job C", "b"]
    assert operator.post(f"{jobs}/_all/_start", token=some.token).body == {"started": True}
    for name, state in (("a", "stopped"), ("b", "started"), ("c-7f3a", "started")):
        api.wait_state(name, state)
    assert operator.post(f"{jobs}/Job%20C/_stop?{WAIT}", token=some.token).body == {"stopped": True}
    api.start("a")
    api.wait_state("a", "started")
    assert operator.post(f"{jobs}/_all/_stop?{WAIT}", token=some.token).body == {"stopped": True}
    assert api.get("a")["status"]["state"] == "started"
    # A right to a name is a right to ask whether there is such a job.
    assert operator.post(f"{jobs}/gone/_stop", token=some.token).status == 404


def test_a_revoked_right_ends_within_the_time_of_the_cache(operator: Operator, api: Api, jobs: str) -> None:
    caller = Account(api).bind(VIEWER).in_force("get")
    assert operator.get(f"{jobs}/a", token=caller.token).status == 200
    caller.revoke()
    began = time.monotonic()
    _until(lambda: operator.get(f"{jobs}/a", token=caller.token), 403)
    assert time.monotonic() - began < ALLOWED_SECONDS + 3


def test_a_right_that_is_given_counts_soon(operator: Operator, api: Api, jobs: str) -> None:
    caller = Account(api)
    assert operator.get(f"{jobs}/a", token=caller.token).status == 403
    caller.bind(VIEWER)
    _until(lambda: operator.get(f"{jobs}/a", token=caller.token), 200)


def test_a_token_for_others_is_not_for_the_operator(operator: Operator, api: Api, jobs: str) -> None:
    caller = Account(api).bind(VIEWER).in_force("get")
    assert operator.get(jobs, token=caller.new_token(audiences=["somebody-else"])).status == 401


def test_nobody_is_let_in_while_the_api_server_is_away(
    operator: Operator, api: Api, proxy: FaultyProxy, jobs: str
) -> None:
    known, unknown = Account(api).bind(VIEWER).in_force("get"), Account(api).bind(VIEWER).in_force("get")
    assert operator.get(f"{jobs}/a", token=known.token).status == 200
    proxy.go_away()
    try:
        answer = operator.get(f"{jobs}/a", token=unknown.token)
        assert answer.status == 503
        assert answer.headers["Retry-After"]
        assert answer.reason == "Access reviews by the API server fail; nothing was changed"
        _until(lambda: operator.get(f"{jobs}/a", token=known.token), 503)
        assert operator.request("GET", "/healthz", headers={}).status == 200
    finally:
        proxy.come_back()
    _until(lambda: operator.get(f"{jobs}/a", token=known.token), 200)
    assert [r["problem"] for r in operator.records("cannot ask the API server who may do what")]


def _bearer(account: Account) -> dict[str, str]:
    return {"Authorization": f"Bearer {account.token}"}


def _until(ask: Callable[[], Answer], status: int, seconds: float = 15) -> None:
    """Ask until the answer has that status."""
    deadline = time.monotonic() + seconds
    while (answer := ask()).status != status:
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)
