"""A control plane with crds/ whose etcd is saved and restored, as an administrator does it after a disaster."""

import http.client
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from local_control_plane import ControlPlane
from local_tools.lifeline import tail
from local_tools.process import ProcessId, die_with_parent
from support.api import OURS

DATA = "etcd"
"""The folder of etcd's data in that of a control plane."""

ORDER = "etcd", "kube-apiserver"


class EtcdBackup:
    """The processes of a control plane in the test's own hands. A context manager, around which the plane lives.

    They are ended and started again with the command lines that they have, so on the same ports. Linux only: the
    command lines are read from /proc.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._commands = {name: _command(plane.pids[name]) for name in ORDER}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        # Its supervisor would take the end of one process for a failure; and both end with it.
        pids = [ProcessId.of(self._plane.pids[name]) for name in ("supervisor", *ORDER)]
        pids[0].kill()
        assert all(process.wait(10) for process in pids)
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def save(self, to: Path) -> None:
        """Copy etcd's data while neither process runs."""
        with self._ended():
            shutil.copytree(self._plane.directory / DATA, to)

    def restore(self, saved: Path) -> None:
        """Put the data back in place of what has become of it since."""
        with self._ended():
            shutil.rmtree(self._plane.directory / DATA)
            shutil.copytree(saved, self._plane.directory / DATA)

    @contextmanager
    def _ended(self) -> Iterator[None]:
        self._end()
        yield
        self._start()

    def _start(self) -> None:
        folder = self._plane.directory
        for name in ORDER:
            with (folder / f"{name}.log").open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    self._commands[name],
                    cwd=folder,
                    env={"PATH": os.defpath, "HOME": str(folder)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=die_with_parent(),  # noqa: PLW1509  # no fork of ours holds a lock
                )
        deadline = time.monotonic() + 60
        while not self._ready():
            for name, process in self._processes.items():
                assert process.poll() is None, f"{name} has ended:\n{tail(folder / f'{name}.log', 20)}"
            assert time.monotonic() < deadline, f"not ready:\n{tail(folder / 'kube-apiserver.log', 20)}"
            time.sleep(0.05)

    def _ready(self) -> bool:
        # /readyz is 200 before the storage of custom resources is there.
        paths = "/readyz", f"/{OURS}/rollupjobs"
        try:
            return all(self._plane.request("GET", path, timeout=2)[0] == 200 for path in paths)
        except (OSError, http.client.HTTPException):
            return False

    def _end(self) -> None:
        """End both, the API server first, so that etcd's data is whole."""
        for name in reversed(ORDER):
            if (process := self._processes.pop(name, None)) is not None:
                process.terminate() if name == DATA else process.kill()
                process.wait(20)


def _command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
