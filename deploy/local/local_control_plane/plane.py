"""`ControlPlane`: the public face of a running etcd and kube-apiserver."""

import json
import shutil
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from local_control_plane import api
from local_control_plane.build import binaries
from local_control_plane.credentials import ADMIN, USERS
from local_control_plane.errors import ControlPlaneError
from local_control_plane.state import SUPERVISOR, StateFolder
from local_tools.folder import remove_abandoned
from local_tools.lifeline import NotReady, Supervised

_TEMPORARY_PREFIX = "local-control-plane-"


class ControlPlane:
    """A real etcd and kube-apiserver on free loopback ports, with RBAC on and a few users.

    A context manager: its end ends the processes and removes their state. They end with the starting process too,
    however that ends, unless `detach` was called. Processes forked from it without exec (multiprocessing's `fork`)
    must have ended as well. There is no controller manager: a namespace that is deleted stays `Terminating`, and
    service accounts exist only when created.
    """

    def __init__(self, state: StateFolder, supervisor: Supervised | None, temporary: bool) -> None:
        """For `start` and `find`."""
        record = state.read()
        if record is None or record.server is None:
            raise ControlPlaneError(f"{state.path}: no control plane is ready there")
        self._state = state
        self._supervisor = supervisor
        self._temporary = temporary
        self._tokens: dict[str, str] = json.loads(state.tokens.read_text())
        self._tls = ssl.create_default_context(cafile=state.authority)
        self.server: str = record.server
        """The API server's URL, `https://127.0.0.1:<port>`."""
        self.pids: dict[str, int] = {name: process.pid for name, process in record.processes.items()}
        """The process ids by name: `supervisor`, `etcd`, `kube-apiserver`."""

    @classmethod
    def start(
        cls, directory: Path | None = None, *, timeout: float = 180.0, api_server_flags: Sequence[str] = ()
    ) -> "ControlPlane":
        """Start a control plane and return once it is ready, 2 to 4 seconds later.

        `directory` is made if missing and must hold nothing else; without it a temporary one is used and removed in
        the end. `timeout`, in seconds, does not count the build, which the first start on a machine may need.
        `api_server_flags` are added to kube-apiserver's command line. Raises ControlPlaneError when a control plane
        runs in that directory, the binaries cannot be had, or it is not ready in time; the logs stay then.
        """
        programs = binaries()
        if directory is None:
            remove_abandoned(_TEMPORARY_PREFIX, _runs)
            path = Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX))
        else:
            path = directory.absolute()
            path.mkdir(parents=True, exist_ok=True)
        state = StateFolder(path)
        with state.locked():
            state.prepare()
            supervisor = _launch(state, programs, timeout, api_server_flags, temporary=directory is None)
        return cls(state, supervisor, temporary=directory is None)

    @classmethod
    def find(cls, directory: Path) -> "ControlPlane | None":
        """Return the control plane that runs in a directory, None if none does or it is still starting."""
        state = StateFolder(directory.absolute())
        record = state.read()
        return cls(state, None, temporary=False) if record and record.server and record.running() else None

    @property
    def directory(self) -> Path:
        """The state folder, with the logs of etcd and kube-apiserver."""
        return self._state.path

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig that acts as the admin (group system:masters) and has a context named after each user."""
        return self._state.kubeconfig

    @property
    def ca(self) -> Path:
        """The certificate, in PEM, by which to verify the API server."""
        return self._state.authority

    def user_kubeconfig(self, user: str) -> Path:
        """Return a kubeconfig that holds the credentials of one user only. Raises ValueError for an unknown user."""
        self.token(user)
        return self._state.user_kubeconfig(user)

    def token(self, user: str = ADMIN) -> str:
        """Return the bearer token of a user. Raises ValueError for an unknown user."""
        if user not in self._tokens:
            raise ValueError(f"user {user!r}: unknown; choose from {', '.join(USERS)}")
        return self._tokens[user]

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        user: str = ADMIN,
        token: str | None = None,
        content_type: str = "application/json",
        timeout: float = 10.0,
    ) -> tuple[int, Any]:
        """Ask the API server as `user`, or as the bearer of `token`; return the status and the parsed answer.

        Raises OSError or http.client.HTTPException when no answer comes within `timeout` seconds.
        """
        bearer = token if token is not None else self.token(user)
        return api.request(
            self.server, self._tls, bearer, method, path, body=body, content_type=content_type, timeout=timeout
        )

    def detach(self) -> None:
        """Let the control plane run on after this process, until `find(directory).stop()`."""
        if self._supervisor is not None:
            self._supervisor.detach()

    def stop(self) -> None:
        """End the processes and remove the state but, in a directory that was given, the logs. May be repeated."""
        if self._supervisor is not None:
            self._supervisor.end()
        if self._state.path.exists():
            with self._state.locked():
                self._state.end()
            if self._temporary:
                shutil.rmtree(self._state.path, ignore_errors=True)

    def __enter__(self) -> "ControlPlane":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def stop(directory: Path) -> bool:
    """End what runs in a directory and clear what a crash left there; False when there was nothing to do."""
    state = StateFolder(directory.absolute())
    if not state.path.exists():
        return False
    with state.locked():
        return state.end()


def _launch(
    state: StateFolder, programs: Mapping[str, Path], timeout: float, flags: Sequence[str], temporary: bool
) -> Supervised:
    """Start the supervisor and wait for its word. Raises ControlPlaneError when that is not `ready`."""
    arguments = [str(state.path), "--timeout", str(timeout)]
    arguments += [f"--program={name}={path.absolute()}" for name, path in programs.items()]
    arguments += [f"--api-server-flag={flag}" for flag in flags] + (["--temporary"] if temporary else [])
    try:
        return Supervised.launch("local_control_plane.supervisor", arguments, state.log(SUPERVISOR))
    except NotReady as error:
        raise ControlPlaneError(f"the control plane did not start: {error}") from None


def _runs(path: Path) -> bool:
    record = StateFolder(path).read()
    return record is not None and record.running()
