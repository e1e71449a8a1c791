"""Fetches etcd, kube-apiserver and kubectl as Kubernetes' maintainers have built them: seconds instead of minutes.

Controller-runtime's setup-envtest does it, and checks each archive against the hash in its index. It is built from a
Go module whose every byte go.sum verifies. ENVTEST_INDEX names another index than its own; with `off` nothing is
fetched. Whatever fails, nothing is fetched: the caller builds from source, which takes longer and needs no index.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NAMES = ("etcd", "kube-apiserver", "kubectl")
PACKAGE = "sigs.k8s.io/controller-runtime/tools/setup-envtest"

BUILD_SECONDS = 300.0
"""For the tool itself: a few small modules, seconds on an idle machine. On a busy machine the build from source, which
follows if this fails, takes several times longer, and it needs modules from the same proxy."""
INDEX_SECONDS = 10.0
"""Without an answer until then the machine is taken for one that does not reach the index."""
FETCH_SECONDS = 300.0
"""For an archive of some 60 MB."""


class _NotFetched(Exception):
    """The text says why."""


@dataclass(frozen=True)
class Envtest:
    """Where prebuilt programs are kept, and how they get there."""

    folder: Path
    """Kept between runs. One process at a time may fetch into it."""
    version: str
    """Of Kubernetes, such as v1.34.4; where the index has none of it, the newest of the same minor version."""
    target: tuple[str, str]
    source: Path
    """Folder of the Go module with the tool."""
    environment: Mapping[str, str]
    """For `go`, and for the tool."""
    say: Callable[[str], None]

    def kept(self, names: Sequence[str]) -> dict[str, Path]:
        """Return those that have been fetched before."""
        return {name: path for name in names if (path := self.folder / name).exists()}

    def fetch(self, names: Sequence[str]) -> dict[str, Path]:
        """Return each of these that can be fetched. Nothing is raised for what cannot."""
        wanted = [name for name in names if name in NAMES]
        if not wanted or self.environment.get("ENVTEST_INDEX") == "off":
            return {}
        try:
            tool = self._tool()
            found = self._newest(tool)
            self.say(f"fetching {' and '.join(wanted)} {found}, built by Kubernetes' maintainers")
            self._fetch(tool, found, wanted)
        except _NotFetched as e:
            self.say(f"prebuilt programs cannot be fetched ({e})")
        return self.kept(wanted)

    def _tool(self) -> str:
        tool, go = self.folder / "setup-envtest", shutil.which("go", path=self.environment.get("PATH"))
        if tool.exists():
            return str(tool)
        if go is None:
            raise _NotFetched("go: command not found")
        self.say("building setup-envtest, which fetches prebuilt programs; seconds, or some minutes on a busy machine")
        with tempfile.TemporaryDirectory(prefix=".build-", dir=self.folder) as work:
            made = Path(work) / tool.name
            self._run([go, "build", "-o", str(made), "-ldflags", "-s -w", PACKAGE], BUILD_SECONDS, self.source)
            made.replace(tool)
        return str(tool)

    def _newest(self, tool: str) -> str:
        minor = ".".join(self.version.lstrip("v").split(".")[:2])
        listed = self._run([tool, "list", f"{minor}.x", *self._options()], INDEX_SECONDS)
        versions = re.findall(r"\bv?(\d+\.\d+\.\d+)\b", listed)
        if not versions:
            raise _NotFetched(f"the index has no Kubernetes {minor} for {'/'.join(self.target)}")
        exact = self.version.lstrip("v")
        return exact if exact in versions else max(versions, key=lambda text: tuple(map(int, text.split("."))))

    def _fetch(self, tool: str, version: str, names: Sequence[str]) -> None:
        assets = Path(self._run([tool, "use", version, "-p", "path", *self._options()], FETCH_SECONDS).strip())
        for name in names:
            if not os.access(assets / name, os.X_OK):
                raise _NotFetched(f"the archive holds no {name}")
        for name in names:
            shutil.copy2(assets / name, self.folder / f".{name}")
            (self.folder / f".{name}").replace(self.folder / name)
        shutil.rmtree(self.folder / "archives", ignore_errors=True)

    def _options(self) -> list[str]:
        system, machine = self.target
        options = ["--os", system, "--arch", machine, "--bin-dir", str(self.folder / "archives")]
        index = self.environment.get("ENVTEST_INDEX")
        return [*options, "--index", index] if index else options

    def _run(self, command: Sequence[str], seconds: float, folder: Path | None = None) -> str:
        name = Path(command[0]).name
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            raise _NotFetched(f"{name} {command[1]}: not done after {seconds:g} s") from e
        except OSError as e:
            raise _NotFetched(f"{name}: {e.strerror}") from e
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no word"]
            raise _NotFetched(f"{name} {command[1]}: {last[0]}")
        return done.stdout
