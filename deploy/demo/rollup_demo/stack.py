"""What the demo runs on: a control plane, the CRDs in it, and the operator as a process of its own.

All of it lies in one folder and is recorded there by process id and start time, so that only what is ours is ended.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

from local_control_plane import ControlPlane
from local_control_plane import stop as stop_control_plane
from local_tools.process import ProcessId, die_with_parent
from rollup_demo.cluster import CRDS, Cluster
from rollup_demo.endpoint import Endpoint
from rollup_demo.errors import DemoError

PROJECT = Path(__file__).resolve().parents[3]
MANIFESTS = Path("deploy/demo/manifests")
ROLES = Path("deploy/rbac")
"""Relative to the project, as a user would type them."""

PAGE_SECONDS = 0.1
"""Shorter pages than the default: a demo has no time for a really long backfill, but wants many pages."""

CALLER = "rollup-demo"
"""The service account that calls the endpoint."""

TOKEN_HOURS = 30 * 24
"""How long its token is good: as long as anybody leaves `make up` running."""

_STORE_HOSTS = ("127.0.0.1", "::1")
"""Clusters on this machine are in reach, as they are for nobody else."""

_START_SECONDS = 30.0
_END_SECONDS = 30.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Folder:
    """Where things of one stack are."""

    path: Path

    @property
    def control_plane(self) -> Path:
        """The state folder of the control plane."""
        return self.path / "control-plane"

    @property
    def data_root(self) -> Path:
        """The operator's data root; namespace `default` has its folder below it."""
        return self.path / "data"

    @property
    def data(self) -> Path:
        """The data folder of namespace `default`."""
        return self.data_root / "default"

    @property
    def own(self) -> Path:
        """The operator's own files for namespace `default`: its database, and the results."""
        return self.data_root / ".rollup-operator" / "default"

    @property
    def results(self) -> Path:
        """The results of namespace `default`."""
        return self.own / "results"

    @property
    def log(self) -> Path:
        """What the operator says."""
        return self.path / "operator.log"

    @property
    def url(self) -> Path:
        """The endpoint's URL, written by the operator once it serves."""
        return self.path / "url"

    @property
    def store_manifest(self) -> Path:
        """The RollupStore of a cluster that the user has named."""
        return self.path / "store.yaml"

    @property
    def flights_manifest(self) -> Path:
        """The job of the flights for that store."""
        return self.path / "flights.yaml"

    @property
    def record(self) -> Path:
        """The operator's process."""
        return self.path / "operator.json"

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of the operator's log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(the operator was not started)"


class Stack:
    """A running control plane and operator. As a context manager it ends them and removes their data."""

    def __init__(self, folder: Folder, plane: ControlPlane) -> None:
        """For `start` and `find`."""
        self.folder = folder
        self.plane = plane
        self.cluster = Cluster(plane, folder.path)
        self._child: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, path: Path) -> "Stack":
        """Start a control plane in a folder, made if missing, and establish the CRDs in it."""
        folder = Folder(path.absolute())
        clear(folder)
        folder.data.mkdir(parents=True)
        stack = cls(folder, ControlPlane.start(folder.control_plane))
        try:
            os.chdir(PROJECT)
            stack.cluster.apply(Path("crds"))
            for name in ("rollupjobs.rollup-operator.dev", "rollupstores.rollup-operator.dev"):
                stack.cluster.wait(f"{CRDS}/{name}", _established, seconds=10, what=f"CRD {name} established")
        except BaseException:
            stack.stop()
            raise
        return stack

    @classmethod
    def find(cls, path: Path) -> "Stack | None":
        """Return the stack that runs in a folder, None if none does."""
        folder = Folder(path.absolute())
        plane = ControlPlane.find(folder.control_plane)
        operator = _recorded(folder)
        return cls(folder, plane) if plane is not None and operator is not None and operator.alive() else None

    @property
    def url(self) -> str:
        """The URL of the operator's HTTP API."""
        return self.folder.url.read_text().strip()

    @cached_property
    def endpoint(self) -> Endpoint:
        """The operator's HTTP API, as the demo's caller."""
        return Endpoint(self.url, self.cluster.token(CALLER, hours=TOKEN_HOURS))

    def start_operator(self, *, stays: bool, store_host: str | None = None) -> None:
        """Start the operator and return once it serves. Unless it `stays`, it ends with this process.

        RollupStores may name this machine, and `store_host` if one is given.
        """
        folder = self.folder
        folder.url.unlink(missing_ok=True)
        more_hosts = [store_host] if store_host and store_host != "localhost" else []
        command = [sys.executable, "-m", "rollup_operator", "run", "--kubeconfig", str(self.plane.kubeconfig)]
        command += ["--data-root", str(folder.data_root), "--http-port", "0", "--url-file", str(folder.url)]
        command += ["--page-seconds", str(PAGE_SECONDS), "--log-format", "console"]
        with folder.log.open("wb") as log:
            self._child = subprocess.Popen(
                command,
                cwd=folder.path,
                # No ROLLUP_* of the user's: the demo is the same everywhere.
                env={k: v for k, v in os.environ.items() if not k.startswith("ROLLUP_")}
                | {"NO_COLOR": "1", "ROLLUP_STORE_HOSTS": ",".join((*_STORE_HOSTS, *more_hosts))},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C in the terminal is for us: we end it in order
                preexec_fn=None if stays else die_with_parent(),  # noqa: PLW1509  (this process has one thread)
            )
        process = ProcessId.of(self._child.pid)
        folder.record.write_text(json.dumps(asdict(process)))
        deadline = time.monotonic() + _START_SECONDS
        while not folder.url.exists():
            if self._child.poll() is not None:
                raise DemoError(f"the operator ended by itself with exit code {self._child.returncode}")
            if time.monotonic() > deadline:
                raise DemoError(f"the operator does not serve within {_START_SECONDS:g} s")
            time.sleep(_POLL_SECONDS)

    def detach(self) -> None:
        """Let all run on after this process."""
        self.plane.detach()

    def stop(self) -> None:
        """End the operator in order, then the control plane, and remove their data. May be repeated."""
        _end_operator(self.folder)
        if self._child is not None:
            self._child.wait()
        self.plane.stop()
        clear(self.folder)

    def __enter__(self) -> "Stack":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def clear(folder: Folder) -> bool:
    """End what is recorded in a folder and remove its data but the logs; False when nothing ran."""
    ran = _end_operator(folder)
    ran |= stop_control_plane(folder.control_plane)
    shutil.rmtree(folder.data_root, ignore_errors=True)
    shutil.rmtree(folder.path / "kubectl-cache", ignore_errors=True)
    for path in (folder.url, folder.store_manifest, folder.flights_manifest):
        path.unlink(missing_ok=True)
    return ran


def _end_operator(folder: Folder) -> bool:
    process = _recorded(folder)
    if process is None:
        return False
    ran = process.alive()
    if ran:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        if not process.wait(_END_SECONDS):
            process.kill()
            process.wait(10)
    folder.record.unlink(missing_ok=True)
    return ran


def _recorded(folder: Folder) -> ProcessId | None:
    try:
        return ProcessId(**json.loads(folder.record.read_text()))
    except FileNotFoundError:
        return None


def _established(crd: dict[str, object]) -> bool:
    status = crd.get("status")
    conditions = status.get("conditions") if isinstance(status, dict) else None
    # Null for a moment, after the first look of the API server's own controllers.
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions or ())
