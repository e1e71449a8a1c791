"""`kubectl rollup`, as a process, against a real API server and a running operator."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local_control_plane import ControlPlane
from rollup_operator.explaining.text import moment
from support.api import Api
from support.backfill import PAGE_SECONDS, begun
from support.bodies import job, store
from support.data import trips_job, write_trips
from support.operator import Operator
from support.plugin import CommandResult, Plugin, ended, interrupt
from support.proxy import Fault, FaultyProxy
from support.waiting import NEVER, WRONG_CRON, run_completed, status

SETTINGS = {"page_seconds": PAGE_SECONDS}


@pytest.fixture
def plugin(api: Api) -> Plugin:
    return Plugin(api.plane.kubeconfig, api.namespace)


@pytest.fixture
def frozen(operator: Operator) -> Iterator[Operator]:
    """The operator does nothing for as long as the test lasts."""
    operator.freeze()
    try:
        yield operator
    finally:
        operator.thaw()


def idle(api: Api, *names: str, **spec: Any) -> None:
    """Create jobs that run at no tick, and a store."""
    if api.find("default", kind="RollupStore") is None:
        api.create(store())
    for name in names:
        api.create(trips_job(name, rollupIndex=f"{name}-hourly", cron=NEVER, **spec))


def asked(api: Api, name: str = "trips") -> str:
    return str(api.get(name)["spec"].get("desiredState"))


def one(ended_with: CommandResult) -> Any:
    """The result of the only job."""
    (result,) = ended_with.document["jobs"]
    assert ended_with.document["exitCode"] == ended_with.code
    return result


# -- stop and start --------------------------------------------------------------------------------------------------


def test_a_stop_is_recorded_under_the_plugins_name(operator: Operator, api: Api, plugin: Plugin) -> None:
    idle(api, "trips")
    api.wait_state("trips", "started")
    ended_with = plugin.of("stop", "rj/trips")
    assert (ended_with.code, ended_with.out, ended_with.err) == (0, "rollupjob/trips asked to stop\n", "")
    body = api.wait_state("trips", "stopped")
    (owner,) = (
        entry
        for entry in body["metadata"]["managedFields"]
        if "f:desiredState" in entry["fieldsV1"].get("f:spec", {}) and "subresource" not in entry
    )
    assert (owner["manager"], owner["operation"]) == ("kubectl-rollup", "Apply")
    assert list(owner["fieldsV1"]["f:spec"]) == ["f:desiredState"]


def test_a_stop_waits_until_nothing_is_in_flight(operator: Operator, api: Api, plugin: Plugin, folder: Path) -> None:
    begun(api, folder)
    ended_with = plugin.of("stop", "trips", "--wait", "-o", "json")
    result = one(ended_with)
    body = api.get("trips")
    assert (ended_with.code, result["outcome"], result["state"]) == (0, "Done", "stopped")
    assert result["uid"] == body["metadata"]["uid"]
    assert result["observedGeneration"] == result["generation"] == body["metadata"]["generation"]
    assert status(body)["state"] == "stopped"
    again = plugin.of("stop", "trips", "--wait", "--timeout", "0")
    assert (again.code, again.out) == (0, "rollupjob/trips stopped\n")
    assert api.get("trips")["metadata"]["generation"] == body["metadata"]["generation"]


def test_a_start_waits_until_the_operator_has_accepted_it(operator: Operator, api: Api, plugin: Plugin) -> None:
    idle(api, "trips", desiredState=None)
    api.wait_state("trips", "stopped")
    ended_with = plugin.of("start", "trips", "--wait")
    assert (ended_with.code, ended_with.out) == (0, "rollupjob/trips started\n")
    assert status(api.get("trips"))["state"] == "started"


def test_a_start_that_cannot_be_is_refused_with_the_reason(operator: Operator, api: Api, plugin: Plugin) -> None:
    idle(api, "other")
    api.create(trips_job(desiredState="stopped", cron=WRONG_CRON))
    api.wait_state("trips", "stopped")
    ended_with = plugin.of("start", "trips", "--wait")
    assert ended_with.code == 1
    assert "rollupjob/trips: InvalidSpec: spec.cron" in ended_with.err
    assert asked(api) == "started"


def test_a_start_without_a_store_is_a_start_with_a_warning(operator: Operator, api: Api, plugin: Plugin) -> None:
    api.create(trips_job(desiredState="stopped", cron=NEVER))
    api.wait_state("trips", "stopped")
    ended_with = plugin.of("start", "trips", "--wait", "-o", "json")
    assert ended_with.code == 0
    assert "StoreNotFound" in one(ended_with)["warning"]


def test_several_jobs_each_get_their_answer(operator: Operator, api: Api, plugin: Plugin) -> None:
    idle(api, "a", "b")
    ended_with = plugin.of("stop", "b", "missing", "a", "b", "--wait")
    assert ended_with.code == 5
    assert ended_with.out == "rollupjob/b stopped\nrollupjob/a stopped\n"
    assert f"error: rollupjob/missing: there is no job 'missing' in namespace {api.namespace}" in ended_with.err


def test_all_jobs_of_the_namespace_are_meant_by_all(operator: Operator, api: Api, plugin: Plugin) -> None:
    ended_with = plugin.of("stop", "--all", "--wait")
    assert (ended_with.code, ended_with.out) == (0, "")
    assert f"no rollup jobs in namespace {api.namespace}" in ended_with.err
    names = [f"trips-{i:02}" for i in range(20)]  # more than are watched each by itself
    idle(api, *names)
    api.wait_state(names[-1], "started")
    ended_with = plugin.of("stop", "--all", "--wait", "-o", "json")
    assert ended_with.code == 0
    assert [(r["name"], r["outcome"]) for r in ended_with.document["jobs"]] == [(name, "Done") for name in names]
    assert {status(body)["state"] for body in api.list()} == {"stopped"}
    ended_with = plugin.of("start", "--all", "--wait")
    assert ended_with.out.splitlines() == [f"rollupjob/{name} started" for name in names]


def test_jobs_are_chosen_by_their_labels(operator: Operator, api: Api, plugin: Plugin) -> None:
    idle(api, "a", "b")
    api.patch("a", {"metadata": {"labels": {"team": "a"}}})
    ended_with = plugin.of("stop", "-l", "team=a", "--wait")
    assert (ended_with.code, ended_with.out) == (0, "rollupjob/a stopped\n")
    assert asked(api, "b") == "started"
    assert plugin.of("get", "-l", "team=a", "-o", "name").out == "rollupjob.rollup-operator.dev/a\n"
    ended_with = plugin.of("stop", "-l", "team=none")
    assert (ended_with.code, ended_with.out) == (0, "")
    assert ended_with.err == f"note: no rollup jobs with labels team=none in namespace {api.namespace}\n"
    ended_with = plugin.of("stop", "-l", "==")
    assert ended_with.code == 2
    assert "-l '=='" in ended_with.err


# -- delete ----------------------------------------------------------------------------------------------------------


def test_a_job_is_deleted_once_it_is_quiet(operator: Operator, api: Api, plugin: Plugin, folder: Path) -> None:
    begun(api, folder)
    ended_with = plugin.of("delete", "trips", "--wait")
    assert (ended_with.code, ended_with.err[:8]) == (0, "waiting ")
    assert ended_with.out == (
        "rollupjob/trips deleted; its documents stay in hourly (deletionPolicy: Retain); to delete them: "
        f"kubectl rollup purge trips --index hourly -n {api.namespace}\n"
    )
    assert api.find("trips") is None
    ended_with = plugin.of("delete", "trips")
    assert ended_with.code == 5
    assert f"there is no job 'trips' in namespace {api.namespace}" in ended_with.err


def test_a_deletion_that_nobody_carries_out_stands(frozen: Operator, api: Api, plugin: Plugin) -> None:
    idle(api, "trips", deletionPolicy="Delete")
    api.patch("trips", {"metadata": {"finalizers": ["example.com/audit"]}})
    ended_with = plugin.of("delete", "trips")
    said = "rollupjob/trips is being deleted, and stops first; its documents go with it\n"
    assert (ended_with.code, ended_with.out) == (0, said)
    ended_with = plugin.of("delete", "trips", "--wait", "--timeout", "0", "-o", "json")
    assert (ended_with.code, one(ended_with)["outcome"]) == (3, "TimedOut")
    assert "The delete stands" in one(ended_with)["message"]
    with plugin.waiting("delete", "trips", "--timeout", "1h") as process:
        api.patch("trips", {"metadata": {"finalizers": None}})
        ended_with = ended(process)
    assert (ended_with.code, ended_with.out) == (0, "rollupjob/trips deleted, with its documents\n")


# -- waits that end otherwise ----------------------------------------------------------------------------------------


def test_a_timeout_undoes_nothing(frozen: Operator, api: Api, plugin: Plugin) -> None:
    idle(api, "trips")
    ended_with = plugin.of("stop", "trips", "--wait", "--timeout", "300ms")
    assert ended_with.code == 3
    assert ended_with.out == ""
    assert "not stopped within 0.3s" in ended_with.err
    assert "The stop stands" in ended_with.err
    assert "no operator has seen it yet" in ended_with.err
    assert asked(api) == "stopped"
    ended_with = plugin.of("start", "trips", "--wait", "--timeout", "0", "-o", "json")
    assert ended_with.code == 3
    assert one(ended_with)["outcome"] == one(ended_with)["reason"] == "TimedOut"
    frozen.thaw()
    api.wait_state("trips", "started")


def test_a_stop_that_a_start_overtakes_says_so_at_once(frozen: Operator, api: Api, plugin: Plugin) -> None:
    idle(api, "trips")
    with plugin.waiting("stop", "trips", "--timeout", "1h") as process:
        api.start("trips")
        ended_with = ended(process)
    assert ended_with.code == 4
    assert "a newer start (generation 3) has overtaken this stop (generation 2)" in ended_with.err
    with plugin.waiting("start", "trips", "--timeout", "1h", "-o", "json") as process:
        api.stop("trips")
        ended_with = ended(process)
    assert (ended_with.code, one(ended_with)["outcome"]) == (4, "Overtaken")


def test_a_job_that_is_deleted_meanwhile_is_not_found(frozen: Operator, api: Api, plugin: Plugin) -> None:
    idle(api, "trips", "other")
    with plugin.waiting("stop", "trips", "--timeout", "1h") as process:
        api.delete("trips")
        ended_with = ended(process)
    assert ended_with.code == 5
    assert "rollupjob/trips: it was deleted meanwhile" in ended_with.err
    with plugin.waiting("stop", "--all", "--timeout", "1h") as process:
        api.delete("other")
        ended_with = ended(process)
    assert (ended_with.code, ended_with.out) == (0, "rollupjob/other deleted: nothing of it runs any more\n")


def test_a_job_that_is_being_deleted_stops_by_itself_and_starts_no_more(
    operator: Operator, api: Api, plugin: Plugin, folder: Path
) -> None:
    begun(api, folder)
    operator.freeze()
    try:
        api.delete("trips")
        ended_with = plugin.of("stop", "trips")
        assert (ended_with.code, ended_with.out) == (0, "rollupjob/trips is being deleted, which stops it\n")
        ended_with = plugin.of("start", "trips")
        assert ended_with.code == 1
        assert "it is being deleted" in ended_with.err
        with plugin.waiting("stop", "trips") as process:
            operator.thaw()
            ended_with = ended(process)
    finally:
        operator.thaw()
    assert ended_with.code == 0


def test_an_interrupted_wait_leaves_the_stop_standing(frozen: Operator, api: Api, plugin: Plugin) -> None:
    idle(api, "trips")
    # An interrupted command does not wait for the server's goodbye over TLS, and leaves the connection to the system.
    warnings = "error,ignore::ResourceWarning"
    with plugin.waiting("stop", "trips", "--timeout", "1h", PYTHONWARNINGS=warnings) as process:
        interrupt(process)
        ended_with = ended(process)
    assert ended_with.code == 130
    assert "rollupjob/trips: interrupted; the stop stands" in ended_with.err
    assert "Traceback" not in ended_with.err
    assert asked(api) == "stopped"


# -- run -------------------------------------------------------------------------------------------------------------


def test_a_run_is_over_when_it_has_ended(operator: Operator, api: Api, plugin: Plugin, folder: Path) -> None:
    write_trips(folder)
    idle(api, "trips")
    api.wait_state("trips", "started")
    ended_with = plugin.of("run", "trips", "--wait", "-o", "json")
    body = api.get("trips")
    result = one(ended_with)
    assert (ended_with.code, result["outcome"]) == (0, "Done")
    assert run_completed(body)
    assert status(body)["lastRun"]["message"] in result["message"]
    request = body["metadata"]["annotations"]["rollup-operator.dev/run-requested-at"]
    assert status(body)["lastHandledRunRequest"] == request
    ended_with = plugin.of("run", "trips")
    assert (ended_with.code, ended_with.out) == (0, "rollupjob/trips asked to run\n")
    api.wait("trips", lambda body: status(body).get("lastHandledRunRequest", request) != request)


def test_a_wait_for_a_long_run_shows_its_progress(operator: Operator, api: Api, plugin: Plugin, folder: Path) -> None:
    begun(api, folder, hours=4000)
    with plugin.begun("run", "trips", "--wait", "-n", api.namespace) as process:
        assert process.stderr is not None
        shown = (line.split()[1] for line in process.stderr if line.startswith("trips ") and " %" in line)
        first, second = next(shown), next(shown)  # the run is reported within seconds, not after 30
        api.stop("trips")
        ended_with = ended(process)
    assert 0 <= int(first) <= int(second) < 100
    assert ended_with.code == 4


def test_a_run_that_fails_is_reported_with_the_reason(operator: Operator, api: Api, plugin: Plugin) -> None:
    idle(api, "trips")
    api.wait_state("trips", "started")
    ended_with = plugin.of("run", "trips", "--wait")
    assert ended_with.code == 1
    assert "trips/*.parquet" in ended_with.err


def test_a_long_run_that_is_stopped_is_overtaken(operator: Operator, api: Api, plugin: Plugin, folder: Path) -> None:
    begun(api, folder)
    with plugin.waiting("run", "trips", "--timeout", "1m") as process:
        api.stop("trips")
        ended_with = ended(process)
    assert ended_with.code == 4
    assert "stop" in ended_with.err


def test_a_stopped_job_is_not_asked_to_run(operator: Operator, api: Api, plugin: Plugin) -> None:
    idle(api, "trips", desiredState="stopped")
    ended_with = plugin.of("run", "trips", "--wait")
    assert ended_with.code == 1
    assert "kubectl rollup start trips" in ended_with.err
    assert "annotations" not in api.get("trips")["metadata"]


# -- reading ---------------------------------------------------------------------------------------------------------


def test_jobs_are_listed_in_every_form(operator: Operator, api: Api, plugin: Plugin, folder: Path) -> None:
    assert plugin.of("get").err == f"note: no rollup jobs in namespace {api.namespace}\n"
    write_trips(folder)
    idle(api, "b", "a")
    api.wait_condition("a", reason="Waiting")
    api.wait_condition("b", reason="Waiting")
    head, *rows = plugin.of("get").out.splitlines()
    assert head.split()[:4] == ["NAME", "STATUS", "WATERMARK", "NEWEST"]
    assert [row.split()[:4] for row in rows] == [["a", "started", "-", "-"], ["b", "started", "-", "-"]]
    everywhere = plugin("get", "-A", "-o", "wide").out
    assert any(row.split()[:2] == [api.namespace, "a"] for row in everywhere.splitlines())
    assert plugin.of("get", "-o", "name").out.splitlines() == [f"rollupjob.rollup-operator.dev/{n}" for n in "ab"]
    whole = plugin.of("get", "-o", "json").document
    assert (whole["kind"], [item["metadata"]["name"] for item in whole["items"]]) == ("List", ["a", "b"])
    single = yaml.safe_load(plugin.of("get", "a", "-o", "yaml").out)
    assert (single["kind"], single["metadata"]["uid"]) == ("RollupJob", api.get("a")["metadata"]["uid"])
    assert "managedFields" not in single["metadata"]
    partly = plugin.of("get", "a", "missing", "-o", "json")
    assert partly.code == 5
    assert [error["name"] for error in partly.document["errors"]] == ["missing"]
    assert len(partly.document["items"]) == 1
    missing = plugin.of("get", "missing", "-o", "json")
    assert (missing.code, missing.document["error"]["reason"]) == (5, "NotFound")


def test_a_page_tells_of_a_job_that_ran(operator: Operator, api: Api, plugin: Plugin, folder: Path) -> None:
    write_trips(folder)
    idle(api, "trips", desiredState="stopped")
    assert plugin.of("start", "trips", "--wait").code == 0
    assert plugin.of("run", "trips", "--wait").code == 0
    text = plugin.of("status", "trips").out
    body = api.get("trips")
    for words in (
        "Status      started",
        "started, set by kubectl-rollup",
        "Waiting",
        f"{moment(status(body)['watermark'])}: everything before it is rolled up",
        "picked_up 2024-",
        "completed",
    ):
        assert words in text
    assert "\x1b" not in text
    document = plugin.of("status", "trips", "-o", "json").document
    assert document["status"] == status(body)
    assert document["askedBy"][0]["manager"] == "kubectl-rollup"
    assert document["summary"] == "started"
    assert "Its next run is at" in document["explanation"][0]
    assert plugin.of("status", "missing").code == 5


def test_what_the_operator_reported_is_listed(operator: Operator, api: Api, plugin: Plugin) -> None:
    idle(api, "trips", "other")
    api.wait_event("trips", "Started")
    api.wait_event("other", "Started")
    head, *rows = plugin.of("events", "trips").out.splitlines()
    assert head.split() == ["LAST", "SEEN", "TYPE", "REASON", "TIMES", "JOB", "MESSAGE"]
    assert any("Started" in row for row in rows)
    assert not any("other" in row.split() for row in rows)
    found = plugin.of("events", "-o", "json").document["events"]
    assert {event["involvedObject"]["name"] for event in found} == {"trips", "other"}
    assert plugin.of("events", "missing").code == 5


def test_changes_are_watched(operator: Operator, api: Api, plugin: Plugin, folder: Path) -> None:
    write_trips(folder)
    idle(api, "a", "b")
    api.wait_condition("a", reason="Waiting")
    api.wait_condition("b", reason="Waiting")
    # An interrupted command does not wait for the server's goodbye over TLS, and leaves the connection to the system.
    warnings = "error,ignore::ResourceWarning"
    with plugin.begun("get", "--watch", "-n", api.namespace, PYTHONWARNINGS=warnings) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert next(lines).split()[:2] == ["NAME", "STATUS"]
        assert [next(lines).split()[:2] for _ in "ab"] == [["a", "started"], ["b", "started"]]
        api.stop("b")
        assert next(line for line in lines if line.split()[:2] == ["b", "stopped"])
        interrupt(process)
        ended_with = ended(process)
    assert (ended_with.code, ended_with.err) == (130, "")


def test_an_explanation_names_the_trouble_and_the_cure(operator: Operator, api: Api, plugin: Plugin) -> None:
    api.create(trips_job(cron=WRONG_CRON))
    api.wait_condition("trips", "Stalled")
    text = plugin.of("explain", "trips").out
    assert "InvalidSpec" in text
    assert "spec.cron" in text
    assert "-> Fix the fields" in text
    assert "-> Create the RollupStore 'default'" in text
    document = plugin.of("explain", "trips", "-o", "json").document
    assert next(said["text"] for said in document["explanation"] if said["cure"]).startswith("Fix")
    assert plugin.of("explain", "missing", "-o", "json").document["exitCode"] == 5


def test_git_that_owns_the_state_is_warned_of(operator: Operator, api: Api, plugin: Plugin) -> None:
    idle(api, "other")
    api.apply(trips_job(cron=NEVER), manager="argocd-controller")
    api.wait_state("trips", "started")
    assert "Git owns spec.desiredState, by argocd-controller" in plugin.of("explain", "trips").out
    ended_with = plugin.of("stop", "trips", "--wait")
    assert (ended_with.code, ended_with.out) == (0, "rollupjob/trips stopped\n")
    assert "warning: rollupjob/trips: argocd-controller sets spec.desiredState from Git" in ended_with.err
    assert plugin.of("stop", "trips").err == ""


# -- rights, and ways to the cluster ---------------------------------------------------------------------------------


def allow(api: Api, user: str, *verbs: str, names: list[str] | None = None) -> None:
    name = f"{user}-{api.namespace}"
    rule: dict[str, Any] = {"apiGroups": ["rollup-operator.dev"], "resources": ["rollupjobs"], "verbs": list(verbs)}
    meta = {"name": name, "namespace": api.namespace}
    group = "rbac.authorization.k8s.io"
    rules = [rule | ({"resourceNames": names} if names else {})]
    api.create({"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": rules})
    api.create(
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "subjects": [{"kind": "User", "name": user, "apiGroup": group}],
            "roleRef": {"kind": "Role", "name": name, "apiGroup": group},
        }
    )


def test_who_may_not_reads_which_verb_is_missing(operator: Operator, api: Api, control_plane: ControlPlane) -> None:
    idle(api, "trips")
    api.wait_state("trips", "started")
    nobody = Plugin(control_plane.user_kubeconfig("nobody"), api.namespace)
    ended_with = nobody.of("stop", "trips")
    assert ended_with.code == 1
    assert 'User "nobody" cannot get resource "rollupjobs"' in ended_with.err
    assert "ask for the verb get" in ended_with.err
    ended_with = nobody.of("stop", "--all", "-o", "json")
    assert (ended_with.code, ended_with.document["error"]["reason"]) == (1, "Forbidden")
    allow(api, "viewer", "get")
    viewer = Plugin(control_plane.user_kubeconfig("viewer"), api.namespace)
    assert viewer.of("status", "trips").code == 0
    assert "Forbidden" not in viewer.of("explain", "trips").out
    ended_with = viewer.of("stop", "trips", "-o", "json")
    assert one(ended_with)["reason"] == "Forbidden"
    assert "ask for the verb patch" in one(ended_with)["message"]
    assert asked(api) == "started"


def test_rights_on_one_name_are_enough_to_stop_it_and_wait(
    operator: Operator, api: Api, control_plane: ControlPlane
) -> None:
    idle(api, "trips", "other")
    allow(api, "editor", "get", "patch", "watch", names=["trips"])
    editor = Plugin(control_plane.user_kubeconfig("editor"), api.namespace)
    ended_with = editor.of("stop", "trips", "other", "--wait")
    assert ended_with.out == "rollupjob/trips stopped\n"
    assert ended_with.code == 1
    assert asked(api, "other") == "started"


def test_who_may_not_watch_reads_that_the_stop_stands(frozen: Operator, api: Api, control_plane: ControlPlane) -> None:
    idle(api, "trips")
    allow(api, "editor", "get", "patch")
    ended_with = Plugin(control_plane.user_kubeconfig("editor"), api.namespace).of("stop", "trips", "--wait")
    assert ended_with.code == 1
    assert "the request stands, but the plugin cannot wait for it" in ended_with.err
    assert asked(api) == "stopped"


def test_a_cluster_without_the_resources_says_what_to_install(tmp_path: Path, plugin: Plugin) -> None:
    config = yaml.safe_load(plugin.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] += "/api/v1/namespaces/default"
    (tmp_path / "config").write_text(json.dumps(config))
    ended_with = Plugin(tmp_path / "config", "default").of("get")
    assert ended_with.code == 1
    assert "install rollup-operator's CRDs" in ended_with.err


def test_an_api_server_that_is_not_there_is_reported(tmp_path: Path, plugin: Plugin) -> None:
    config = yaml.safe_load(plugin.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "config").write_text(json.dumps(config))
    ended_with = Plugin(tmp_path / "config", "default").of("stop", "trips", "-o", "json")
    assert ended_with.code == 1
    assert one(ended_with)["reason"] == "Unreachable"


@pytest.mark.parametrize("certificate", [False, True])
def test_who_logs_in_with_a_command_gets_in(
    operator: Operator, api: Api, control_plane: ControlPlane, tmp_path: Path, certificate: bool
) -> None:
    idle(api, "trips")
    login = tmp_path / "login"
    given: dict[str, Any] = {"token": control_plane.token()}
    if certificate:
        pair = control_plane.directory / "certificates"
        given |= {"clientCertificateData": (pair / "apiserver.crt").read_text()}
        given |= {"clientKeyData": (pair / "apiserver.key").read_text()}
    said = {"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": given}
    login.write_text(f"#!{sys.executable}\nprint({json.dumps(said)!r})\n")
    login.chmod(0o755)
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    config["users"] = [
        {
            "name": "admin",
            "user": {
                "exec": {
                    "apiVersion": "client.authentication.k8s.io/v1",
                    "command": "./login",
                    "interactiveMode": "IfAvailable",
                }
            },
        }
    ]
    config["clusters"][0]["cluster"]["tls-server-name"] = "kubernetes.default.svc"
    (tmp_path / "config").write_text(json.dumps(config))
    ended_with = Plugin(tmp_path / "config", api.namespace).of("stop", "trips", "--wait")
    assert (ended_with.code, ended_with.out) == (0, "rollupjob/trips stopped\n")
    config["clusters"][0]["cluster"]["tls-server-name"] = "elsewhere.example"
    (tmp_path / "config").write_text(json.dumps(config))
    ended_with = Plugin(tmp_path / "config", api.namespace).of("get")
    assert ended_with.code == 1
    assert "elsewhere.example" in ended_with.err


# -- a bad network ---------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(control_plane: ControlPlane, tmp_path: Path) -> Iterator[FaultyProxy]:
    with FaultyProxy(control_plane, tmp_path) as proxy:
        yield proxy


def test_a_wait_outlives_broken_watches(frozen: Operator, api: Api, proxy: FaultyProxy) -> None:
    idle(api, "trips")
    with Plugin(proxy.kubeconfig, api.namespace).waiting("stop", "trips", "--timeout", "1h") as process:
        proxy.cut_watches()
        proxy.fail("GET .*watch=true", Fault.CUT, times=2)
        frozen.thaw()
        ended_with = ended(process)
    assert (ended_with.code, ended_with.out) == (0, "rollupjob/trips stopped\n")


def test_what_happened_between_two_watches_is_seen(frozen: Operator, api: Api, proxy: FaultyProxy) -> None:
    idle(api, "trips")
    rule = proxy.fail("GET .*watch=true", Fault.CUT, times=1000)
    with Plugin(proxy.kubeconfig, api.namespace).waiting("stop", "trips", "--timeout", "1h") as process:
        frozen.thaw()
        api.wait_state("trips", "stopped")
        proxy.heal()
        ended_with = ended(process)
    assert rule.hits
    assert (ended_with.code, ended_with.out) == (0, "rollupjob/trips stopped\n")


def test_at_the_deadline_one_look_decides(operator: Operator, api: Api, proxy: FaultyProxy) -> None:
    idle(api, "trips")
    api.wait_state("trips", "started")
    proxy.silence_watches(new_too=True)
    began = time.monotonic()
    ended_with = Plugin(proxy.kubeconfig, api.namespace).of("stop", "trips", "--wait", "--timeout", "2s")
    assert time.monotonic() - began >= 2
    assert (ended_with.code, ended_with.out) == (0, "rollupjob/trips stopped\n")


@pytest.mark.parametrize(("fault", "stands"), [(Fault.SWALLOW, True), (Fault.CUT, False)])
def test_a_lost_answer_is_looked_up(
    operator: Operator, api: Api, proxy: FaultyProxy, fault: Fault, stands: bool
) -> None:
    idle(api, "trips")
    api.wait_state("trips", "started")
    proxy.fail("PATCH ", fault)
    ended_with = Plugin(proxy.kubeconfig, api.namespace).of("stop", "trips", "--wait", "-o", "json")
    assert asked(api) == ("stopped" if stands else "started")
    assert one(ended_with)["outcome"] == ("Done" if stands else "Failed")
    if not stands:
        assert one(ended_with)["reason"] == "OutcomeUnknown"


# -- kubectl ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def kubectl(control_plane: ControlPlane, tmp_path: Path) -> Any:
    """Run kubectl with both executables on its PATH, as pip would install them."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs a kubectl, which is no part of the project")
    for name, function in (("kubectl-rollup", "main:main"), ("kubectl_complete-rollup", "completion:kubectl_complete")):
        module, called = function.split(":")
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!{sys.executable}\nfrom rollup_operator.plugin.{module} import {called}\n{called}()\n")
        file.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "KUBECONFIG": str(control_plane.kubeconfig),
        "HOME": str(tmp_path),
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            ["kubectl", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_kubectl_finds_the_plugin_and_completes_names(operator: Operator, api: Api, kubectl: Any) -> None:
    idle(api, "trips", "travels")
    api.wait_state("trips", "started")
    assert "rollupjob/trips stopped" in kubectl("rollup", "stop", "trips", "--wait", "-n", api.namespace)
    offered = kubectl("__complete", "rollup", "stop", "-n", api.namespace, "travels", "tr").splitlines()
    assert offered[0] == "trips"
    assert offered[-1] == ":4"
    assert api.namespace in kubectl("__complete", "rollup", "get", "-n", "").splitlines()


def test_a_manifest_of_other_things_is_no_job(operator: Operator, api: Api, plugin: Plugin) -> None:
    api.create(job("flights"))
    ended_with = plugin.of("stop", "pod/flights")
    assert ended_with.code == 2
    assert asked(api, "flights") == "None"


# -- preview -----------------------------------------------------------------------------------------------------------


def test_a_manifest_and_a_job_are_previewed(
    operator: Operator, api: Api, plugin: Plugin, folder: Path, tmp_path: Path
) -> None:
    write_trips(folder)
    api.create(store())
    api.wait_condition("default", reason="Available", kind="RollupStore")
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(trips_job(end="2024-03-02T00:00:00Z")))
    reach = {"ROLLUP_URL": operator.url, "ROLLUP_TOKEN": operator.token}
    ended_with = plugin("preview", "-f", str(tmp_path / "job.yaml"), "-n", api.namespace, **reach)
    assert (ended_with.code, ended_with.err) == (0, "")
    assert "the beginning to 2024-03-02T00:00:00Z" in ended_with.out
    assert "960 documents" in ended_with.out
    head, first = ended_with.out.partition("\n\n")[2].splitlines()[:2]
    assert head.split()[:5] == ["TIME", "weight", "site", "gate", "count"]
    assert first.startswith("2024-03-01T00:00:00Z")
    assert api.list() == []

    idle(api, "trips", desiredState="stopped")
    ended_with = plugin("preview", "trips", "-n", api.namespace, "-o", "json", **reach)
    assert ended_with.code == 0
    assert ended_with.document["estimate"]["source_documents"] == 48 * 40
    assert len(ended_with.document["preview"]) == len(ended_with.document["buckets"]) == 10
    stored = [document["_source"] for document in ended_with.document["preview"]]
    averages = [
        each["size.avg.value"] / each["size.avg._count"] if "size.avg.value" in each else None for each in stored
    ]
    assert [bucket["metrics"]["avg:size"] for bucket in ended_with.document["buckets"]] == averages
    assert any(averages)


def test_a_preview_that_cannot_be_is_refused_with_the_reason(
    operator: Operator, api: Api, plugin: Plugin, folder: Path, tmp_path: Path
) -> None:
    api.create(store())
    api.wait_condition("default", reason="Available", kind="RollupStore")
    idle(api, "trips", desiredState="stopped")
    reach = {"ROLLUP_URL": operator.url, "ROLLUP_TOKEN": operator.token}

    def refused(*arguments: str, **environment: str) -> tuple[int, str]:
        ended_with = plugin("preview", "-n", api.namespace, *arguments, **(reach | environment))
        return ended_with.code, ended_with.err

    code, err = refused("trips")
    assert (code, "error: spec.indexPattern " in err) == (1, True), err
    assert refused("nothing")[0] == 5
    assert refused("trips", ROLLUP_TOKEN="wrong") == (
        1,
        "error: the endpoint does not know you: give a token, with ROLLUP_TOKEN or in the kubeconfig "
        "(kubectl create token), or name a --service-account\n",
    )
    code, err = refused("trips", ROLLUP_URL="http://127.0.0.1:1")
    assert (code, "does not answer" in err) == (1, True), err
    code, err = refused("trips", ROLLUP_URL="http://example.org")
    assert (code, "use https://" in err) == (2, True), err
    code, err = refused("trips", ROLLUP_URL=operator.url + "/healthz")
    assert (code, "no handler found" in err) == (1, True), err
