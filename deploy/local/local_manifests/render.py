"""Helm and kustomize as functions: a chart and values, or a folder, to the objects that would be applied."""

import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from local_control_plane.build import binaries

DEPLOY = Path(__file__).resolve().parents[2]
CHART = DEPLOY / "chart"
NAME = "rollup-operator"
"""The release, and the namespace of the manifests."""
KUBERNETES = "1.34"
"""What helm takes the cluster to be where it sees none."""

Object = dict[str, Any]
Identity = tuple[str, str, str]


class RenderError(Exception):
    """The tool refused; the text is its own."""


def helm(*arguments: str) -> str:
    """Run helm; return what it prints. Raises RenderError."""
    with tempfile.TemporaryDirectory(prefix="helm-") as home:
        places = {f"HELM_{kind}_HOME": home for kind in ("CACHE", "CONFIG", "DATA")}
        return _run([str(binaries(("helm",))["helm"]), *arguments], {"PATH": "/usr/bin:/bin", "HOME": home} | places)


def chart_text(values: Mapping[str, Any], *, namespace: str = NAME) -> str:
    """Return the manifests of the chart as text. Raises RenderError for values that it refuses."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(dict(values), file)
        file.flush()
        place = ("--namespace", namespace, "--kube-version", KUBERNETES)
        return helm("template", NAME, str(CHART), *place, "--values", file.name)


def chart(values: Mapping[str, Any], *, namespace: str = NAME) -> list[Object]:
    """Return the objects of the chart. Raises RenderError for values that it refuses."""
    return objects(chart_text(values, namespace=namespace))


def kustomize(folder: Path) -> list[Object]:
    """Return the objects of a kustomization. Raises RenderError."""
    return objects(_run([str(binaries(("kustomize",))["kustomize"]), "build", str(folder)], None))


def objects(text: str) -> list[Object]:
    """Return the objects of a text of manifests."""
    return [body for body in yaml.safe_load_all(text) if body]


def identity(body: Object) -> Identity:
    """Return kind, namespace (empty: of the cluster) and name."""
    return body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"]


def by_identity(bodies: Iterable[Object]) -> dict[Identity, Object]:
    """Return the objects by what names them. Raises RenderError where two have one name."""
    found: dict[Identity, Object] = {}
    for body in bodies:
        if (key := identity(body)) in found:
            raise RenderError(f"{' '.join(key)} is there twice")
        found[key] = body
    return found


def _run(command: list[str], environment: Mapping[str, str] | None) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RenderError(f"{Path(command[0]).name} {command[1]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
