"""Recorded versions of our resources: what GitOps controllers get to see at each moment of their life."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "gitops" / "snapshots"

_TOLD = {"kind", "apiVersion", "type", "status", "reason", "state", "desiredState", "generation", "observedGeneration"}
"""Fields whose values say what a moment is; of the others it is only known which there are, and of which type."""

_FIXED = {
    "uid": "00000000-0000-0000-0000-000000000000",
    "resourceVersion": "1",
    "namespace": "rollups",
}
_MOMENT = "2026-01-01T00:00:00Z"


def names() -> list[str]:
    """The names of all that is recorded, such as `job-stopped`."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> dict[str, Any]:
    """One snapshot. Raises FileNotFoundError with the cure."""
    path = FOLDER / f"{name}.yaml"
    if not path.exists():
        raise FileNotFoundError(f"{path}: not recorded; RECORD_SNAPSHOTS=1 make test TESTS=tests/gitops records it")
    body: dict[str, Any] = yaml.safe_load(path.read_text())
    return body


def recorded(name: str, body: Mapping[str, Any]) -> list[str]:
    """How the shape of a body differs from its snapshot; with RECORD_SNAPSHOTS=1, write it anew and find nothing."""
    if os.environ.get("RECORD_SNAPSHOTS") == "1":
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{name}.yaml").write_text(yaml.safe_dump(steady(body), sort_keys=False, width=120))
    there, here = dict(shape(load(name))), dict(shape(steady(body)))
    return [
        f"{name}: {path}: recorded {there.get(path, 'nothing')}, seen {here.get(path, 'nothing')}"
        for path in sorted(there.keys() | here.keys())
        if there.get(path) != here.get(path)
    ]


def steady(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same without what differs each time: identity, versions, moments."""
    return {key: _steady(key, value) for key, value in body.items() if key != "managedFields"}


def _steady(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return steady(value)
    if isinstance(value, list):
        return [_steady(key, each) for each in value]
    if key.endswith(("Time", "Timestamp")):
        return _MOMENT
    return _FIXED.get(key, value)


def shape(value: Any, path: str = "", key: str = "") -> Iterator[tuple[str, str]]:
    """Each leaf's path, with its value where that tells what the moment is, else with its type."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from shape(inner, f"{path}.{name}", name)
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        for number, each in enumerate(value):
            label = each.get("type", number) if isinstance(each, Mapping) else number
            yield from shape(each, f"{path}[{label}]", key)
    else:
        yield path, repr(value) if key in _TOLD else type(value).__name__
