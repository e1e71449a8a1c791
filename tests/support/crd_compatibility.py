"""Compares CRDs with those of the last release, which are in tests/upgrade/baseline.

Whatever was accepted and kept before must be accepted and kept after, because objects outlive the operator, and
manifests in Git outlive both. What could refuse, lose or reinterpret any of it breaks.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Schema = Mapping[str, Any]

_NO_LOWER = ("maxLength", "maximum", "maxItems", "maxProperties")
_NO_HIGHER = ("minLength", "minimum", "minItems", "minProperties")
_THE_SAME = ("default", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type")
_KEPT_IF_TRUE = ("nullable", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string")


def breaks(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return what the CRD `new` takes away from users of `old`, each as a sentence that begins with the path."""
    name, before, after = old["metadata"]["name"], old["spec"], new["spec"]
    found = [
        f"{name}: {key} is {after.get(key)!r}, was {before[key]!r}"
        for key in ("group", "scope")
        if after.get(key) != before[key]
    ]
    for key, value in before["names"].items():
        given = after["names"].get(key)
        if set(value) - set(given or []) if isinstance(value, list) else given != value:
            found.append(f"{name}: names.{key} is {given!r}, was {value!r}")
    versions = {version["name"]: version for version in after["versions"]}
    for version in before["versions"]:
        found += [f"{name}: {line}" for line in _version_breaks(version, versions.get(version["name"]))]
    return found


def _version_breaks(old: Mapping[str, Any], new: Mapping[str, Any] | None) -> Iterator[str]:
    name = old["name"]
    if new is None:
        yield f"{name}: the version is gone; objects and manifests of it cannot be read any more"
        return
    if old["served"] and not new["served"]:
        yield f"{name}: is served no more"
    for each in old.get("subresources", {}):
        if each not in new.get("subresources", {}):
            yield f"{name}: the subresource {each} is gone"
    yield from _schema_breaks(old["schema"]["openAPIV3Schema"], new["schema"]["openAPIV3Schema"], name)


def _schema_breaks(old: Schema, new: Schema, path: str) -> Iterator[str]:
    if old.get("type") != new.get("type") and (old.get("type"), new.get("type")) != ("integer", "number"):
        yield f"{path}: type is {new.get('type')}, was {old.get('type')}"
        return
    yield from _value_breaks(old, new, path)
    for field in new.get("required", ()):
        if field not in old.get("required", ()):
            yield f"{path}.{field}: is required now"
    rules = {rule["rule"] for rule in old.get("x-kubernetes-validations", ())}
    for rule in new.get("x-kubernetes-validations", ()):
        if rule["rule"] not in rules:
            yield f"{path}: a new rule may refuse what was accepted: {rule['rule']}"
    for field, schema in old.get("properties", {}).items():
        if field in new.get("properties", {}):
            yield from _schema_breaks(schema, new["properties"][field], f"{path}.{field}")
        else:
            yield f"{path}.{field}: is gone; values that users wrote would be dropped"
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        inner, outer = old.get(key), new.get(key)
        if isinstance(inner, Mapping) and isinstance(outer, Mapping):
            yield from _schema_breaks(inner, outer, path + mark)
        elif inner and not outer:
            yield f"{path}{mark}: is gone"


def _value_breaks(old: Schema, new: Schema, path: str) -> Iterator[str]:
    """What a single value could be and cannot be any more, or what it would mean now."""
    if "enum" in new:
        lost = [value for value in old.get("enum", ()) if value not in new["enum"]]
        if "enum" not in old:
            yield f"{path}: only {new['enum']} are accepted now"
        elif lost:
            yield f"{path}: {lost} are accepted no more"
    for key in ("pattern", "format"):
        if key in new and new[key] != old.get(key):
            yield f"{path}: {key} is {new[key]!r}, was {old.get(key)!r}: it may refuse what was accepted"
    for keys, worse in ((_NO_LOWER, "lower"), (_NO_HIGHER, "higher")):
        for key in keys:
            if key in new and _worse(old.get(key), new[key], worse):
                yield f"{path}: {key} is {new[key]}, was {old.get(key, 'not set')}"
    for key in _THE_SAME:
        if new.get(key) != old.get(key):
            yield f"{path}: {key} is {new.get(key)!r}, was {old.get(key)!r}: old manifests would mean something else"
    for key in _KEPT_IF_TRUE:
        if old.get(key) and not new.get(key):
            yield f"{path}: {key} is gone"


def _worse(before: float | None, now: float, direction: str) -> bool:
    if before is None:
        return direction == "lower" or now > 0
    return now < before if direction == "lower" else now > before


def compare(old: Path, new: Path) -> list[str]:
    """Compare every CRD of a folder with the one of the same name in the other; `breaks` tells how.

    Raises FileNotFoundError for a folder without CRDs.
    """
    before, after = _crds(old), _crds(new)
    gone = [f"{name}: the CRD is gone" for name in before if name not in after]
    return gone + [line for name in before if name in after for line in breaks(before[name], after[name])]


def _crds(folder: Path) -> dict[str, Mapping[str, Any]]:
    bodies = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]
    if not bodies:
        raise FileNotFoundError(f"{folder}: no CRDs there")
    return {body["metadata"]["name"]: body for body in bodies}
