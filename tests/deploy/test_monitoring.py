"""What is delivered for monitoring fits: metrics that exist, alerts with a runbook, reasons with a cure."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local_manifests.render import chart
from rollup_operator.model.conditions import Reason
from rollup_operator.model.event_reasons import EVENTS

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy/monitoring"
RUNBOOK = (ROOT / "docs/operate.md").read_text()
RULES = [
    rule for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
METRIC = re.compile(r"\b(?:rollup|process)_[a-z0-9_]+\b")
OF_THE_LIBRARY = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
TARGET = {"job", "instance", "namespace", "pod", "le"}
"""Labels that a scrape gives its target, and that of a histogram's buckets."""


def panels() -> list[dict[str, Any]]:
    """All of them, those of a closed row too."""
    every = [inner for panel in DASHBOARD["panels"] for inner in (panel, *panel.get("panels", ()))]
    return [panel for panel in every if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Each expression, and where it stands."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def documented_metrics() -> dict[str, str]:
    rows = re.findall(
        r"^\| `(\w+)` \| (gauge|counter|histogram) ", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE
    )
    return dict(rows)


def test_alerts_and_dashboard_name_only_metrics_that_are_documented():
    known = {
        f"{name}{end}"
        for name, kind in documented_metrics().items()
        for end in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    } | OF_THE_LIBRARY
    labels = set().union(*documented_labels().values())
    named = {(name, where) for where, text in expressions() for name in METRIC.findall(text) if name not in labels}
    assert len(named) > 30
    assert {(name, where) for name, where in named if name not in known} == set()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_has_all_that_whoever_it_wakes_needs(rule: dict[str, Any]):
    name = rule["alert"]
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    annotations = rule["annotations"]
    assert annotations["summary"].endswith(".")
    assert annotations["description"]
    section = RUNBOOK.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
    assert "Cause: " in section
    assert "Fix: " in section


@pytest.mark.parametrize("page", ["", "https://docs.example.org/operate/"])
def test_each_alert_links_to_its_section_where_the_runbook_is_served(page: str):
    (found,) = (
        body
        for body in chart({"metrics": {"rules": {"enabled": True, "runbookUrl": page}}})
        if body["kind"] == "PrometheusRule"
    )
    rules = [rule for group in found["spec"]["groups"] for rule in group["rules"]]
    links = {rule["alert"]: rule["annotations"].get("runbook_url") for rule in rules}
    assert links.keys() == {rule["alert"] for rule in RULES}
    # The anchor of a heading, as GitHub and the site make it of one word.
    anchors = {f"{page}#{heading.lower()}" for heading in re.findall(r"^#+ (\w+)$", RUNBOOK, re.MULTILINE)}
    wrong = {alert: link for alert, link in links.items() if (link not in anchors if page else link is not None)}
    assert wrong == {}


def test_the_runbook_has_no_alert_that_is_not_there():
    assert sorted(re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)) == sorted(rule["alert"] for rule in RULES)


def test_each_alert_is_tested_firing_and_silent():
    tests = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text())["tests"]
    silent = {case["alertname"] for test in tests for case in test.get("alert_rule_test", ())}
    fired = {
        found[1]
        for test in tests
        for case in test.get("promql_expr_test", ())
        if case["exp_samples"] and (found := re.search(r'alertname="(\w+)"', case["expr"]))
    }
    assert silent == fired == {rule["alert"] for rule in RULES}


def test_expressions_name_only_labels_that_are_there():
    labels = documented_labels()
    wrong = []
    for where, text in expressions():
        for name, matchers in re.findall(r"\b(rollup_\w+)\{(.*?)\}", text):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            given = set(re.findall(r"(\w+)\s*[=!]", matchers))
            wrong += [(where, name, label) for label in given - labels[base]]
        grouped = {label for part in re.findall(r"\b(?:by|on) \((.*?)\)", text) for label in part.split(", ")}
        wrong += [(where, "", label) for label in grouped - set().union(*labels.values()) - TARGET]
    assert wrong == []


def documented_labels() -> dict[str, set[str]]:
    rows = re.findall(
        r"^\| `(\w+)` \| (?:gauge|counter|histogram) \| (.*?) ?\| ",
        (ROOT / "docs/metrics.md").read_text(),
        re.MULTILINE,
    )
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def test_the_dashboard_begins_with_what_an_owner_of_jobs_asks():
    first = [panel["title"] for panel in DASHBOARD["panels"][:7]]
    assert first == [
        "Up to date",
        "Behind",
        "Not Ready",
        "Failed runs, 24 h",
        "Next run",
        "Which jobs are not Ready, and why",
        "When each job ran, and runs next",
    ]
    (row,) = (panel for panel in DASHBOARD["panels"] if panel["title"] == "Operator")
    assert row["collapsed"]


def test_the_dashboard_shows_what_verifications_found():
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    at = titles.index("Verification")
    assert titles[at + 1 : at + 5] == [
        "Jobs whose documents differ",
        "Oldest verification",
        "Which jobs are not verified, and why",
        "Verifications",
    ]
    shown = {name for where, text in expressions() if where in titles[at:] for name in METRIC.findall(text)}
    assert {name for name in documented_metrics() if "verif" in name} - shown == {"rollup_verification_seconds"}


def test_the_dashboard_can_be_read():
    titles = [panel["title"] for panel in panels()]
    assert len(titles) == len(set(titles))
    assert all(panel["description"].endswith(".") for panel in panels())
    rows = [panel for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    ids = [panel["id"] for panel in [*rows, *panels()]]
    assert len(ids) == len(set(ids))
    # Whoever imports it chooses the data source: none is named.
    assert {panel["datasource"]["uid"] for panel in panels()} == {"${datasource}"}
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in [*rows, *panels()])
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))  # no panel lies on another
    assert max(x for x, _ in cells) < 24


def test_every_reason_has_a_cause_and_a_cure():
    causes, events = table("Reasons"), table("Events")
    assert set(causes) | set(events) == {reason.value for reason in Reason}
    of_both = [*causes.items(), *events.items()]
    assert [name for name, cells in of_both if not all(cells[-2:])] == []


def test_every_event_is_documented_as_it_is_posted():
    documented = {name: tuple(cells[:2]) for name, cells in table("Events").items()}
    assert documented == {reason.value: (posted.type.value, posted.when) for reason, posted in EVENTS.items()}
    # Every reason that a run can fail for is a warning, too: what is no event says that all is well.
    assert set(Reason) - set(EVENTS) == {Reason.RUNNING, Reason.WAITING, Reason.RECONCILING, Reason.AVAILABLE}


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the runbook's table under a heading, by what their first cell names: each is named once."""
    section = RUNBOOK.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    named = [
        (name, [cell.strip() for cell in cells]) for first, *cells in rows for name in re.findall(r"`(\w+)`", first)
    ]
    assert len(dict(named)) == len(named)
    return dict(named)


@pytest.fixture(scope="module")
def promtool() -> str:
    built = sorted((Path.home() / ".cache/rollup-operator/promtool").glob("*/promtool"))
    found = os.environ.get("PROMTOOL") or shutil.which("promtool") or (str(built[-1]) if built else None)
    if found is None:
        pytest.skip("promtool is not here: `make promtool` builds it, in some minutes, or set PROMTOOL")
    return found


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_alerts_and_they_fire_when_they_should(promtool: str):
    assert f"{len(RULES)} rules found" in run(promtool, "check", "rules", str(MONITORING / "alerts.yaml"))
    run(promtool, "test", "rules", str(MONITORING / "alerts_test.yaml"))


def test_prometheus_takes_every_expression_of_the_dashboard(promtool: str, tmp_path: Path):
    variables = {"$__rate_interval": "5m", "$__interval": "5m", "$namespace": ".*", "$job": ".*"}
    rules = []
    shown = {panel["title"] for panel in panels()} | {each["name"] for each in DASHBOARD["annotations"]["list"]}
    for number, expression in enumerate(text for where, text in expressions() if where in shown):
        text = expression
        for name, value in variables.items():
            text = text.replace(name, value)
        assert "$" not in text
        rules.append({"record": f"panel:{number}", "expr": text})
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run(promtool, "check", "rules", str(file))
