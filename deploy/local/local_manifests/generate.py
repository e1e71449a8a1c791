"""Writes what follows from something else: parts of the chart, and from the chart the kustomize base.

- `deploy/chart/files`: copies of crds/, deploy/rbac and deploy/monitoring, as Helm reads nothing outside of a chart;
- the chart's version, and the names of settings in its schema: from the operator's package;
- `deploy/base`, `deploy/overlays`, `deploy/components`: what the chart renders, for kustomizations to put together.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from local_manifests.render import CHART, DEPLOY, NAME, chart_text, objects
from rollup_operator import __version__
from rollup_operator.settings import CHOICES, Settings

COPIES = {
    "crds": (DEPLOY.parent / "crds", "*.yaml"),
    "rbac": (DEPLOY / "rbac", "*.yaml"),
    "monitoring": (DEPLOY / "monitoring", "alerts.yaml"),
    "dashboard": (DEPLOY / "monitoring", "dashboard.json"),
}
"""Folders of the chart's files, and what is copied there."""

_HEADER = "# Rendered from deploy/chart by `make generate`: change it there.\n"
_BY_THE_CHART = re.compile(
    r"(?m)^ *(app\.kubernetes\.io/managed-by: Helm|annotations:\n +helm\.sh/resource-policy: keep)\n"
)
_SETTINGS = r'(?s)(    "settings": \{\n.*?      "properties": \{\n).*?(      \}\n)'
"""Where the schema of the values lists the settings."""
_SHARED = {"tls": {"source": "secret"}, "crds": {"install": False}, "rbac": {"userRoles": False}}
"""Values for what kustomize does in its own way: CRDs and roles of users are folders that the base includes."""

Chosen = Callable[[str, str], bool]
"""Whether a document is wanted, by its kind and name."""


def chart_files() -> dict[Path, str]:
    """Return the text of each generated file of the chart."""
    found = {
        CHART / "files" / folder / path.name: path.read_text(encoding="utf-8")
        for folder, (source, pattern) in COPIES.items()
        for path in sorted(source.glob(pattern))
    }
    about = (CHART / "Chart.yaml").read_text(encoding="utf-8")
    found[CHART / "Chart.yaml"] = re.sub(r"(?m)^(version|appVersion): .*$", rf"\1: {__version__}", about)
    return found


def schema() -> dict[Path, str]:
    """Return the schema of the values. `settings` may name each setting that the chart has no other place for."""
    path = CHART / "values.schema.json"
    fixed = {env["name"] for env in _container_of(chart_text({"watch": {"allNamespaces": False}}))["env"]}
    chosen = [f for f in dataclasses.fields(Settings) if f"ROLLUP_{f.name.upper()}" not in fixed]
    lines = ",\n".join(f'        "{f.name}": {json.dumps(_values_of(f.name, f.default))}' for f in chosen)
    # The rest of the file is for people, and stays as they wrote it.
    text = path.read_text(encoding="utf-8")
    return {path: re.sub(_SETTINGS, lambda found: f"{found[1]}{lines}\n{found[2]}", text)}


def kustomize_files() -> dict[Path, str]:
    """Return the text of each file that kustomize has from the chart."""
    everywhere = list(documents(chart_text(_SHARED)))
    own = list(documents(chart_text(_SHARED | {"watch": {"allNamespaces": False}})))
    metrics = {name: {"enabled": True} for name in ("serviceMonitor", "rules", "dashboard")}
    more = list(
        documents(
            chart_text(_SHARED | {"duckdb": {"enabled": True}, "tls": {"source": "certManager"}, "metrics": metrics})
        )
    )
    whose = (NAME, f"{NAME}-secrets")
    here = DEPLOY / "base"
    found: dict[Path, str] = {
        here / f"{source}.yaml": _joined(everywhere, lambda kind, _: kind != "PodDisruptionBudget", source)
        for source in ("serviceaccount", "service", "deployment", "networkpolicy")
    }
    found[here / "poddisruptionbudget.yaml"] = _joined(everywhere, lambda _k, _n: True, "poddisruptionbudget")
    found[here / "roles.yaml"] = _joined(
        everywhere, lambda kind, name: kind != "ClusterRole" and name not in whose, "roles"
    )
    found[DEPLOY / "overlays/cluster-wide/roles.yaml"] = _joined(
        everywhere, lambda kind, name: kind == "ClusterRoleBinding" and name in whose, "roles"
    )
    found[DEPLOY / "overlays/namespaced/roles.yaml"] = _joined(own, lambda _, name: name in whose, "roles")
    for component, source in (
        ("duckdb", "persistentvolumeclaim"),
        ("cert-manager", "certificate"),
        ("monitoring", "monitoring"),
    ):
        found[DEPLOY / "components" / component / f"{source}.yaml"] = _joined(more, lambda _k, _n: True, source)
    return found


def documents(text: str) -> Iterator[tuple[str, str]]:
    """Yield the template (without folder and suffix) and the text of each document that helm has rendered."""
    for document in re.split(r"(?m)^---\n", text):
        if match := re.match(r"# Source: [\w-]+/templates/([\w-]+)\.yaml\n", document):
            yield match[1], _BY_THE_CHART.sub("", document[match.end() :])


def stale(files: dict[Path, str]) -> list[Path]:
    """Return those that are not there or say something else."""
    return [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]


def write(files: dict[Path, str]) -> None:
    """Write the files."""
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _values_of(name: str, default: object) -> dict[str, object]:
    """Return the schema of a setting's values."""
    if name in CHOICES:
        return {"enum": list(CHOICES[name])}
    match default:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case float():
            return {"type": "number"}
        case tuple():
            return {"type": ["array", "string"], "items": {"type": "string"}}
    return {"type": "string"}


def _joined(rendered: list[tuple[str, str]], chosen: Chosen, source: str) -> str:
    texts = [text for template, text in rendered if template == source and _is(chosen, text)]
    return _HEADER + "---\n".join(text.strip("\n") + "\n" for text in texts)


def _is(chosen: Chosen, text: str) -> bool:
    body = yaml.safe_load(text)
    return bool(body) and chosen(body["kind"], body["metadata"]["name"])


def _container_of(text: str) -> dict[str, list[dict[str, str]]]:
    pod = next(body for body in objects(text) if body["kind"] == "Deployment")["spec"]["template"]
    container: dict[str, list[dict[str, str]]] = pod["spec"]["containers"][0]
    return container
