"""The state folder of one control plane: what lies where in it, who owns it, and how it is emptied."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from local_control_plane.credentials import ADMIN, USERS
from local_control_plane.errors import ControlPlaneError
from local_tools.folder import locked, write_private
from local_tools.process import ProcessId

SUPERVISOR = "supervisor"


@dataclass(frozen=True)
class Record:
    """What is known about the processes of a folder. `server` is None until the API server has answered as ready."""

    server: str | None
    processes: Mapping[str, ProcessId]

    def running(self) -> bool:
        """Whether its supervisor runs; the rest lives and dies with it."""
        return self.processes[SUPERVISOR].alive()


@dataclass(frozen=True)
class StateFolder:
    """Paths in a state folder and the record of its processes."""

    path: Path

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig that acts as the admin and holds a context for each other user."""
        return self.path / "kubeconfig"

    @property
    def authority(self) -> Path:
        """The CA certificate of the API server, in PEM."""
        return self.path / "ca.crt"

    @property
    def tokens(self) -> Path:
        """The users' tokens as a JSON object."""
        return self.path / "tokens.json"

    @property
    def token_file(self) -> Path:
        """The same tokens in kube-apiserver's own format."""
        return self.path / "tokens.csv"

    @property
    def signing_key(self) -> Path:
        """The key that signs service-account tokens."""
        return self.path / "service-account.key"

    @property
    def certificates(self) -> Path:
        """The folder in which kube-apiserver keeps its own certificate."""
        return self.path / "certificates"

    @property
    def etcd_data(self) -> Path:
        """Etcd's data folder."""
        return self.path / "etcd"

    def log(self, name: str) -> Path:
        """Return the log of `supervisor`, `etcd` or `kube-apiserver`."""
        return self.path / f"{name}.log"

    def user_kubeconfig(self, user: str) -> Path:
        """Return the kubeconfig that acts as one user and knows no other."""
        return self.kubeconfig if user == ADMIN else self.path / f"kubeconfig-{user}"

    @property
    def _record(self) -> Path:
        return self.path / "state.json"

    def read(self) -> Record | None:
        """Return the record, None if there is none."""
        try:
            data = json.loads(self._record.read_text())
        except FileNotFoundError:
            return None
        return Record(data["server"], {name: ProcessId(**item) for name, item in data["processes"].items()})

    def write(self, record: Record) -> None:
        """Replace the record at one blow."""
        processes = {name: asdict(process) for name, process in record.processes.items()}
        write_private(self._record, json.dumps({"server": record.server, "processes": processes}))

    def prepare(self) -> None:
        """Make the folder ready for a new control plane: made, private, and rid of what a crash left.

        Raises ControlPlaneError when a control plane runs there or the folder holds files that are not ours.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        record = self.read()
        if record is not None and record.running():
            raise ControlPlaneError(f"{self.path}: a control plane runs there; choose another folder or end it first")
        names = {entry.name for entry in self.path.iterdir()}
        foreign = names - ({*self._own_names()} if record is not None else set()) - {*self._log_names()}
        if foreign:
            raise ControlPlaneError(
                f"{self.path}: holds {min(foreign)}, which is not a control plane's; choose an empty or a new folder"
            )
        self.path.chmod(0o700)
        self.end()

    def end(self) -> bool:
        """End whatever the record names and remove everything but the logs; False when there was nothing.

        Raises ControlPlaneError when a process does not end.
        """
        record = self.read()
        if record is None:
            return False
        ran = False
        # The supervisor first: with it gone, nobody takes the end of the others for a failure.
        for name, process in sorted(record.processes.items(), key=lambda item: item[0] != SUPERVISOR):
            ran |= process.alive()
            process.kill()
            if not process.wait(timeout=10):
                raise ControlPlaneError(f"{self.path}: {name} (pid {process.pid}) does not end after SIGKILL")
        self.erase()
        return ran

    def erase(self) -> None:
        """Remove our files but the logs; the record goes last, so that an interrupted removal can be repeated."""
        for name in self._own_names():
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process at a time start or end a control plane here. The folder must exist."""
        with locked(self.path):
            yield

    def _own_names(self) -> list[str]:
        paths = [
            self.authority,
            self.tokens,
            self.token_file,
            self.signing_key,
            self.certificates,
            self.etcd_data,
        ]
        paths += [self.user_kubeconfig(user) for user in USERS]
        return [".new", *(path.name for path in paths), self._record.name]

    def _log_names(self) -> list[str]:
        return [self.log(name).name for name in (SUPERVISOR, "etcd", "kube-apiserver")]
