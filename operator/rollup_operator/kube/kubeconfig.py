"""Reads kubeconfigs as kubectl does: several files are one, the first to name something wins, paths are the file's own.

Out comes the one context that is meant, with its cluster and user as they stand in the file.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rollup_operator.kube.credentials import NoConnection

_PATHS = {"cluster": ("certificate-authority",), "user": ("client-certificate", "client-key", "tokenFile")}


@dataclass(frozen=True)
class Chosen:
    """One context. Paths of files in `cluster` and `user` are absolute, or relative to the current folder."""

    name: str
    namespace: str
    cluster: Mapping[str, Any]
    user_name: str
    user: Mapping[str, Any]


def files_named(paths: str) -> list[Path]:
    """Split a list of files as KUBECONFIG holds it; empty parts are dropped."""
    return [Path(part) for part in paths.split(os.pathsep) if part]


def choose(files: Sequence[Path], context: str | None = None) -> Chosen:
    """Return the context of that name, or the current one.

    Files that do not exist are skipped, unless none does. Raises NoConnection naming the file, or what is missing and
    what there is.
    """
    found = [file for file in files if file.exists()]
    if not found:
        raise NoConnection(f"no kubeconfig: there is no file {' and no file '.join(map(str, files))}")
    config = _merged(found)
    where = f"kubeconfig {os.pathsep.join(map(str, found))}"
    name = context or config.current
    if not name:
        raise NoConnection(f"{where} has no current-context: name one with --context{_known(config.contexts)}")
    chosen = _find(where, "context", name, config.contexts)
    cluster_name, user_name = chosen.get("cluster"), chosen.get("user")
    if not cluster_name:
        raise NoConnection(f"{where}: context {name!r} names no cluster")
    cluster = _find(where, "cluster", cluster_name, config.clusters)
    # A context without a user is somebody anonymous, as for kubectl.
    user = _find(where, "user", user_name, config.users) if user_name else {}
    if not cluster.get("server"):
        raise NoConnection(f"{where}: cluster {cluster_name!r} has no server")
    return Chosen(name, chosen.get("namespace") or "default", cluster, user_name or "", user)


@dataclass
class _Config:
    current: str
    contexts: dict[str, dict[str, Any]]
    clusters: dict[str, dict[str, Any]]
    users: dict[str, dict[str, Any]]


def _merged(files: Iterable[Path]) -> _Config:
    whole = _Config("", {}, {}, {})
    for file in files:
        read = _read(file)
        whole.current = whole.current or str(read.get("current-context") or "")
        for kind, into in (("context", whole.contexts), ("cluster", whole.clusters), ("user", whole.users)):
            for name, entry in _entries(file, kind, read.get(f"{kind}s")):
                into.setdefault(name, entry)
    return whole


def _read(file: Path) -> dict[str, Any]:
    try:
        read = yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # both are safe
    except (OSError, UnicodeDecodeError) as e:
        raise NoConnection(f"kubeconfig {file} cannot be read: {e}") from e
    except yaml.YAMLError as e:
        raise NoConnection(f"kubeconfig {file} is no YAML: {e}") from e
    if read is None:
        return {}
    if not isinstance(read, dict):
        raise NoConnection(f"kubeconfig {file} is no kubeconfig: it holds no mapping")
    return read


def _entries(file: Path, kind: str, entries: Any) -> Iterable[tuple[str, dict[str, Any]]]:
    for entry in entries or ():
        if not isinstance(entry, dict) or "name" not in entry or not isinstance(entry.get(kind) or {}, dict):
            raise NoConnection(f"kubeconfig {file}: each of its {kind}s needs a name and a {kind}")
        held = dict(entry.get(kind) or {})
        for field in _PATHS.get(kind, ()):
            if held.get(field):
                held[field] = str(file.parent / held[field])
        command = (held.get("exec") or {}).get("command")
        if command and os.sep in command:
            held["exec"] = {**held["exec"], "command": str(file.parent / command)}
        yield str(entry["name"]), held


def _find(where: str, kind: str, name: str, among: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    if name not in among:
        raise NoConnection(f"{where} has no {kind} named {name!r}{_known(among)}")
    return among[name]


def _known(among: Iterable[str]) -> str:
    names = sorted(among)
    return f"; there is {', '.join(names)}" if names else ""
