"""What Argo CD, kstatus and Flux make of each recorded moment of a job's and a store's life."""

from pathlib import Path
from typing import Any

import lupa.lua51
import pytest
import yaml

from support.snapshots import load, names
from support.verdict import Verdict, build, judge

GITOPS = Path(__file__).resolve().parents[2] / "deploy" / "gitops"
HEALTH = (GITOPS / "argocd" / "health.lua").read_text()
KINDS = ("RollupJob", "RollupStore")
OURS = "rollup-operator.dev"

# kstatus and Flux say Current where Argo CD says Healthy, and so on; only deletion has a word of its own.
GOOD, UNDER_WAY, BAD = ("Current", "Healthy"), ("InProgress", "Progressing"), ("Failed", "Degraded")
EXPECTED = {
    "job-new": UNDER_WAY,
    "job-starting": UNDER_WAY,
    "job-store-missing": UNDER_WAY,
    "job-source-missing": UNDER_WAY,
    "job-store-down": UNDER_WAY,
    "job-running": GOOD,
    "job-indexing": GOOD,
    "job-stopping": UNDER_WAY,
    "job-stopped": GOOD,
    "job-invalid": BAD,
    "job-stalled": BAD,
    "job-deleting": UNDER_WAY,
    "store-new": UNDER_WAY,
    "store-ready": GOOD,
    "store-down": UNDER_WAY,
    "store-invalid": BAD,
}


@pytest.fixture(scope="session")
def verdicts() -> dict[str, Verdict]:
    """kstatus' and Flux' words for each snapshot."""
    questions = [(body := load(name), expressions(body["kind"])) for name in EXPECTED]
    return dict(zip(EXPECTED, judge(build(), questions), strict=True))


def expressions(kind: str) -> dict[str, str]:
    text = (GITOPS / "flux" / "example" / "clusters" / "production" / "rollups.yaml").read_text()
    found: list[dict[str, str]] = yaml.safe_load(text)["spec"]["healthCheckExprs"]
    (one,) = (each for each in found if each["kind"] == kind)
    return {word: one[word] for word in ("current", "inProgress", "failed")}


def lua(script: str, body: dict[str, Any]) -> Any:
    """Run a script as Argo CD does, in Lua 5.1 with `obj` at hand, and return its answer as Python's own."""
    machine = lupa.lua51.LuaRuntime(unpack_returned_tuples=True)
    machine.globals().obj = machine.table_from(body, recursive=True)
    return _plain(machine.execute(script))


def _plain(value: Any) -> Any:
    return {key: _plain(inner) for key, inner in value.items()} if hasattr(value, "items") else value


def customization(name: str) -> str:
    data = yaml.safe_load((GITOPS / "argocd" / "argocd-cm.yaml").read_text())["data"]
    return str(data[f"resource.customizations.{name}"])


def test_every_moment_is_judged() -> None:
    assert set(names()) == set(EXPECTED)


@pytest.mark.timeout(900)  # the first time, Flux's evaluator is built
@pytest.mark.parametrize("name", EXPECTED)
def test_kstatus_and_flux(name: str, verdicts: dict[str, Verdict]) -> None:
    word = EXPECTED[name][0]
    assert verdicts[name].flux == word
    assert verdicts[name].kstatus == ("Terminating" if name == "job-deleting" else word)


@pytest.mark.parametrize("name", EXPECTED)
def test_argo_cd(name: str) -> None:
    body = load(name)
    health = lua(HEALTH, body)
    assert health["status"] == EXPECTED[name][1]
    if health["status"] != "Progressing":
        (ready,) = (each for each in body["status"]["conditions"] if each["type"] == "Ready")
        assert health["message"] == f"{ready['reason']}: {ready['message']}"


def test_argo_cd_waits_for_an_object_of_which_nothing_is_known() -> None:
    body = load("job-running")
    for status in (None, {}, {"observedGeneration": body["metadata"]["generation"]}):
        assert lua(HEALTH, body | {"status": status})["status"] == "Progressing"


@pytest.mark.parametrize("kind", KINDS)
def test_argo_cd_is_given_the_tested_script(kind: str) -> None:
    assert customization(f"health.{OURS}_{kind}") == HEALTH


def test_buttons_of_argo_cd_start_what_is_stopped_and_stop_what_is_started() -> None:
    actions = yaml.safe_load(customization(f"actions.{OURS}_RollupJob"))
    change = {each["name"]: each["action.lua"] for each in actions["definitions"]}
    for name, asked in (("job-running", "started"), ("job-stopped", "stopped"), ("job-new", "started")):
        body = load(name)
        offered = lua(actions["discovery.lua"], body)
        assert {word for word in offered if not offered[word]["disabled"]} == (
            {"stop"} if asked == "started" else {"start"}
        )
        for word, script in change.items():
            done = lua(script, body)
            assert done["spec"].pop("desiredState") == {"start": "started", "stop": "stopped"}[word]
            assert done["spec"].keys() == body["spec"].keys() - {"desiredState"}


def test_what_argo_cd_overlooks_decides_no_health() -> None:
    pointers = yaml.safe_load(customization(f"ignoreResourceUpdates.{OURS}_RollupJob"))["jsonPointers"]
    for name in (name for name in EXPECTED if name.startswith("job-")):
        body = load(name)
        kept = {key: value for key, value in body["status"].items() if f"/status/{key}" not in pointers}
        assert lua(HEALTH, body | {"status": kept}) == lua(HEALTH, body)
