"""Recorded versions of our resources: what GitOps controllers get to see at each moment of their life."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "gitops" / "snapshots"

_SHOWN = {
    "kind",
    "apiVersion",
    "type",
    "status",
    "reason",
    "state",
    "desiredState",
    "generation",
    "observedGeneration",
}
"""Fields whose values say what a moment is; of the others it is only known which there are, and of which type."""

_HOW_FAR = {"lastRun", "stats", "progress", "position", "newestBucket", "watermark", "nextRunTime"}
"""What status tells of the way so far; it depends on speed, and no controller judges by it."""

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
    there, here = dict(_shape(load(name))), dict(_shape(steady(body)))
    return [
        f"{name}: {path}: recorded {there.get(path, 'nothing')}, seen {here.get(path, 'nothing')}"
        for path in sorted(there.keys() | here.keys())
        if there.get(path) != here.get(path)
    ]


def steady(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same without what differs each time: identity, versions, moments, and whose process it was."""
    namespace = body["metadata"]["namespace"]

    def same(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: same(name, inner) for name, inner in value.items() if name != "managedFields"}
        if isinstance(value, list):
            return [same(key, each) for each in value]
        if key.endswith(("Time", "Timestamp")):
            return _MOMENT
        if key == "result":
            return value.replace(namespace, _FIXED["namespace"])
        if key == "message":
            return re.sub(r"process \d+ \([^)]*\)", "process 1 (python)", value.replace(namespace, _FIXED["namespace"]))
        return _FIXED.get(key, value)

    return {key: same(key, value) for key, value in body.items()}


def _shape(value: Any, path: str = "", key: str = "") -> Iterator[tuple[str, str]]:
    """Each leaf's path, with its value where that tells what the moment is, else with its type."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in _HOW_FAR:
                yield from _shape(inner, f"{path}.{name}", name)
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        for number, each in enumerate(value):
            label = each.get("type", number) if isinstance(each, Mapping) else number
            yield from _shape(each, f"{path}[{label}]", key)
    else:
        yield path, repr(value) if key in _SHOWN else type(value).__name__
