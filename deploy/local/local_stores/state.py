"""The folder of one node: what lies where in it, and who runs there."""

import json
import shutil
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from local_stores.errors import StoreNodeError
from local_tools.folder import write_private
from local_tools.process import ProcessId

SUPERVISOR = "supervisor"
NODE = "node"


@dataclass(frozen=True)
class Record:
    """What is known about the node of a folder."""

    kind: str
    url: str
    ready: bool
    processes: Mapping[str, ProcessId]

    def running(self) -> bool:
        """Whether its supervisor runs; the node lives and dies with it."""
        return self.processes[SUPERVISOR].alive()


@dataclass(frozen=True)
class NodeFolder:
    """Paths in a node's folder and the record of its processes."""

    path: Path

    @property
    def data(self) -> Path:
        """Everything that the node itself writes, its indices among it."""
        return self.path / "data"

    def log(self, name: str) -> Path:
        """Return the log of `supervisor` or `node`."""
        return self.path / f"{name}.log"

    @property
    def _record(self) -> Path:
        return self.path / "state.json"

    def read(self) -> Record | None:
        """Return the record, None if there is none."""
        try:
            known = json.loads(self._record.read_text())
        except FileNotFoundError:
            return None
        processes = {name: ProcessId(**item) for name, item in known.pop("processes").items()}
        return Record(**known, processes=processes)

    def write(self, record: Record) -> None:
        """Replace the record at one blow."""
        write_private(self._record, json.dumps(asdict(record)))

    def prepare(self, kind: str) -> None:
        """Make the folder ready for a node, on the data that is there.

        Raises StoreNodeError when a node runs there, or the folder holds another kind's data or files that are not
        ours.
        """
        record = self.read()
        if record is not None and record.running():
            raise StoreNodeError(f"{self.path}: a node runs there; choose another folder or end it first")
        if record is not None and record.kind != kind and self.data.exists():
            raise StoreNodeError(
                f"{self.path}: holds data of {record.kind}; choose another folder or end it with `down`"
            )
        known = {self.data.name, self._record.name, ".new", self.log(SUPERVISOR).name, self.log(NODE).name}
        foreign = {entry.name for entry in self.path.iterdir()} - known
        if foreign:
            raise StoreNodeError(
                f"{self.path}: holds {min(foreign)}, which is not a node's; choose an empty or a new folder"
            )
        self.path.chmod(0o700)
        self.end()

    def end(self, *, in_order: bool = False) -> bool:
        """End whatever the record names, at once or in order; False when nothing ran.

        Raises StoreNodeError when a process does not end.
        """
        record = self.read()
        if record is None:
            return False
        ran = record.running()
        if in_order and ran:
            record.processes[SUPERVISOR].signal(signal.SIGTERM)  # it ends the node in order
            record.processes[SUPERVISOR].wait(timeout=30)
        # The supervisor first: with it gone, nobody takes the end of the node for a failure.
        for name in (SUPERVISOR, NODE):
            process = record.processes[name]
            process.kill()
            if not process.wait(timeout=10):
                raise StoreNodeError(f"{self.path}: {name} (pid {process.pid}) does not end after SIGKILL")
        return ran

    def erase(self) -> None:
        """Remove the data and the record; the logs stay."""
        shutil.rmtree(self.data, ignore_errors=True)
        self._record.unlink(missing_ok=True)
        (self.path / ".new").unlink(missing_ok=True)
