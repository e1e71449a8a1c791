"""Where things of one cluster are, and the addresses inside it."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from local_tools.folder import write_private
from local_tools.process import ProcessId

NODE_ADDRESS = "10.244.0.1"
"""The node's own address and the pods' gateway."""
POD_RANGE = "10.244.0.0/24"
SERVICE_RANGE = "10.96.0.0/24"
SERVER = f"https://{NODE_ADDRESS}:6443"
SOCKET = "/run/containerd/containerd.sock"
"""Of containerd; /run is the node's own."""


@dataclass(frozen=True)
class Layout:
    """The state folder of one cluster."""

    path: Path

    @property
    def name(self) -> str:
        """The node's name and that of its cgroups: another one for each folder, so that clusters run side by side."""
        return f"local-cluster-{hashlib.sha256(str(self.path).encode()).hexdigest()[:8]}"

    @property
    def logs(self) -> Path:
        """The folder of the logs: one of each program, and those of the pods."""
        return self.path / "log"

    @property
    def data(self) -> Path:
        """What the programs write; all of it goes when the cluster ends."""
        return self.path / "data"

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig. It holds inside the node only."""
        return self.path / "kubeconfig"

    @property
    def authority(self) -> Path:
        """The certificate, in PEM, by which to verify the API server."""
        return self.data / "ca.crt"

    @property
    def token(self) -> Path:
        """The file of the admin's token."""
        return self.data / "admin.token"

    def log(self, name: str) -> Path:
        """Return the log of a program."""
        return self.logs / f"{name}.log"

    def write(self, node: ProcessId) -> None:
        """Remember the node's first process."""
        write_private(self._record, json.dumps(asdict(node)))

    def read(self) -> ProcessId | None:
        """Return the node's first process while it runs, else None."""
        try:
            node = ProcessId(**json.loads(self._record.read_text()))
        except FileNotFoundError:
            return None
        return node if node.alive() else None

    def erase_record(self) -> None:
        """Forget it."""
        self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        return self.path / "state.json"
