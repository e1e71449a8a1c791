"""Finds or builds the binaries: etcd, kube-apiserver and, when asked for, kubectl, helm and kustomize.

They come from the folder that KUBEBUILDER_ASSETS names, else from the cache, else from the index of setup-envtest, else
from Go modules whose every byte go.sum verifies. A build needs Go alone: no C compiler, no shell tools.
"""

import hashlib
import os
import platform
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_control_plane.envtest import Envtest
from local_control_plane.errors import ControlPlaneError
from local_tools.folder import HEARTBEAT_SECONDS, cache_root, one_builder

REQUIRED = ("etcd", "kube-apiserver")

_SOURCES = Path(__file__).resolve().parent.parent / "go"
_ASSETS_CURE = (
    "set KUBEBUILDER_ASSETS to a folder that holds etcd and kube-apiserver (setup-envtest downloads such a folder)"
)


@dataclass(frozen=True)
class Component:
    """A program that can be built; `expected` says how long that takes when nothing is cached."""

    module: str
    package: str
    expected: str


COMPONENTS: Mapping[str, Component] = {
    "etcd": Component("etcd", ".", "about 1 minute"),
    "kube-apiserver": Component("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", "4 to 8 minutes on 2 cores"),
    "kubectl": Component("kubernetes", "k8s.io/kubernetes/cmd/kubectl", "1 to 3 minutes on 2 cores"),
    "helm": Component("manifests", "helm.sh/helm/v3/cmd/helm", "1 to 2 minutes on 2 cores"),
    "kustomize": Component("manifests", "sigs.k8s.io/kustomize/kustomize/v5", "half a minute on 2 cores"),
    "kube-controller-manager": Component(
        "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", "1 to 3 minutes on 2 cores"
    ),
    "kube-scheduler": Component("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", "1 minute on 2 cores"),
    "kubelet": Component("kubernetes", "k8s.io/kubernetes/cmd/kubelet", "1 to 2 minutes on 2 cores"),
    "kube-proxy": Component("kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", "1 minute on 2 cores"),
    "pause": Component("pause", ".", "a few seconds"),
}


def binaries(components: Sequence[str] = REQUIRED) -> dict[str, Path]:
    """Return the path of each component, fetched or built first if need be (minutes, with progress on stderr).

    Raises ControlPlaneError when a component is unknown, KUBEBUILDER_ASSETS lacks a required one, Go is missing or
    too old, or the build fails. A component that KUBEBUILDER_ASSETS does not hold, but need not, is built.
    """
    for name in components:
        if name not in COMPONENTS:
            raise ControlPlaneError(f"component {name!r}: unknown; choose from {', '.join(COMPONENTS)}")
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    found = _from_assets(Path(assets), components) if assets else {}
    missing = [name for name in components if name not in found]
    return found | _from_cache(missing) if missing else found


def built(components: Sequence[str]) -> bool:
    """Whether the cache holds all of these components, so that `binaries` need not build any."""
    return all(_built(name).exists() or _envtest().kept([name]) for name in components)


def cache_folder(module: str) -> Path:
    """Return where the binaries of a Go module are kept; its name changes with the platform and every pinned byte."""
    digest = hashlib.sha256()
    for source in sorted((_SOURCES / module).iterdir()):
        if source.name in ("go.mod", "go.sum") or source.suffix == ".go":
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return cache_root() / "control-plane" / f"{module}-{'-'.join(target())}-{digest.hexdigest()[:12]}"


def _from_assets(folder: Path, components: Sequence[str]) -> dict[str, Path]:
    found = {name: folder / name for name in components if os.access(folder / name, os.X_OK)}
    missing = [name for name in REQUIRED if name in components and name not in found]
    if missing:
        raise ControlPlaneError(
            f"KUBEBUILDER_ASSETS={folder}: no executable {' or '.join(missing)} there; "
            "correct the folder, or unset the variable to build from source"
        )
    return found


def _built(name: str) -> Path:
    return cache_folder(COMPONENTS[name].module) / name


def _envtest() -> Envtest:
    version, source = _pinned("kubernetes", "k8s.io/kubernetes"), _SOURCES / "envtest"
    folder = cache_root() / "control-plane" / f"envtest-{'-'.join(target())}-{version}"
    return Envtest(folder, version, target(), source, _go_environment(), _say)


def _from_cache(components: Sequence[str]) -> dict[str, Path]:
    wanted = {name: path for name in components if (path := _built(name)).exists()}
    wanted |= _fetched([name for name in components if name not in wanted])
    return wanted | _from_source([name for name in components if name not in wanted])


def _fetched(components: Sequence[str]) -> dict[str, Path]:
    envtest = _envtest()
    known = envtest.kept(components)
    missing = [name for name in components if name not in known]
    if not missing:
        return known
    envtest.folder.mkdir(parents=True, exist_ok=True)
    with one_builder(envtest.folder, _say):
        known |= envtest.kept(missing)  # another process may have fetched it by now
        return known | envtest.fetch([name for name in missing if name not in known])


def _from_source(components: Sequence[str]) -> dict[str, Path]:
    wanted = {name: _built(name) for name in components}
    missing = {name: path for name, path in wanted.items() if not path.exists()}
    go = _go() if missing else ""
    for name, path in missing.items():
        folder = path.parent
        folder.mkdir(parents=True, exist_ok=True)
        with one_builder(folder, _say):
            for abandoned in folder.glob(".build-*"):
                shutil.rmtree(abandoned, ignore_errors=True)
            if not path.exists():  # another process may have built it by now
                with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as work:
                    _build(go, name, Path(work) / name)
                    (Path(work) / name).replace(path)
    return wanted


def _build(go: str, name: str, output: Path) -> None:
    component = COMPONENTS[name]
    version = _pinned("kubernetes", "k8s.io/kubernetes")
    _say(f"building {name} from source, once: {component.expected}, less when Go has parts cached")
    stamps = [f"-X {p}/version.gitVersion={version}" for p in ("k8s.io/component-base", "k8s.io/client-go/pkg")]
    flags = " ".join(["-s", "-w", *(stamps if component.module == "kubernetes" else [])])
    command = [go, "build", "-v", "-o", str(output), "-ldflags", flags, component.package]
    started = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=_SOURCES / component.module,
        env=_go_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            problems = _follow(name, process, started)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise ControlPlaneError(
            f"{name}: go build failed with exit code {process.returncode} in {_SOURCES / component.module}. "
            f"Its last words:\n{problems}\nMend that (no network? GOPROXY?), or {_ASSETS_CURE}."
        )
    _say(f"built {name} in {time.monotonic() - started:.0f} s")


def _follow(name: str, process: "subprocess.Popen[str]", started: float) -> str:
    """Report progress until the process has closed its stderr; return its last lines."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.put(line.rstrip())
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    tail: deque[str] = deque(maxlen=15)
    downloaded = compiled = 0
    next_word = started + HEARTBEAT_SECONDS
    while True:
        if time.monotonic() >= next_word:
            next_word += HEARTBEAT_SECONDS
            elapsed = time.monotonic() - started
            _say(f"  {name}: {elapsed:.0f} s, {downloaded} modules downloaded, {compiled} packages compiled")
        try:
            line = lines.get(timeout=max(0.0, next_word - time.monotonic()))
        except queue.Empty:
            continue
        if line is None:
            return "\n".join(tail)
        if line.startswith("go: downloading "):
            downloaded += 1
        elif re.fullmatch(r"[\w.~/-]+", line):
            compiled += 1
        else:
            tail.append(line)


def _go() -> str:
    """Find the `go` command, new enough for the pinned modules."""
    needed = max(_go_line(component.module) for component in COMPONENTS.values())
    text = ".".join(map(str, needed))
    cure = f"install Go {text} or newer, or {_ASSETS_CURE}"
    go = shutil.which("go")
    if go is None:
        raise ControlPlaneError(f"go: command not found, and the control plane is not built yet; {cure}")
    words = subprocess.run([go, "version"], env=_go_environment(), capture_output=True, text=True, check=False).stdout
    match = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", words)
    if match is None:
        raise ControlPlaneError(f"{go} version: unexpected answer {words.strip()!r}; {cure}")
    if tuple(int(part or 0) for part in match.groups()) < needed:
        raise ControlPlaneError(f"{go} is Go {match[0][2:]}, too old to build the control plane; {cure}")
    return go


def _go_environment() -> dict[str, str]:
    """Return settings that make the build the same everywhere; where modules come from (GOPROXY) stays the user's."""
    goos, goarch = target()
    return os.environ | {
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
        "GOWORK": "off",
        "GO111MODULE": "on",
        "CGO_ENABLED": "0",
        "GOOS": goos,
        "GOARCH": goarch,
    }


def target() -> tuple[str, str]:
    """Return the system and the architecture that is built for, as Go names them."""
    machine = platform.machine().lower()
    return sys.platform, {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _go_line(module: str) -> tuple[int, ...]:
    match = re.search(r"(?m)^go (\d+)\.(\d+)(?:\.(\d+))?$", (_SOURCES / module / "go.mod").read_text())
    assert match is not None
    return tuple(int(part or 0) for part in match.groups())


def _pinned(module: str, path: str) -> str:
    match = re.search(rf"(?m)^(?:require)?\s+{re.escape(path)} (v\S+)", (_SOURCES / module / "go.mod").read_text())
    assert match is not None
    return match[1]


def _say(message: str) -> None:
    print(f"control plane: {message}", file=sys.stderr, flush=True)
