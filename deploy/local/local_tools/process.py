"""Processes that are never confused with others: a pid counts only together with the time at which it started."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class ProcessId:
    """A process of this machine; `started` is an opaque text, equal only for the same process."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        """Identify a process that is alive or a child not yet waited for."""
        return cls(pid, _started(pid) or "ended")

    def alive(self) -> bool:
        """Whether this very process runs: any thread of it. A zombie does not."""
        return _started(self.pid) == self.started

    def kill(self) -> None:
        """End it at once; nothing happens when it has ended already."""
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens when it has ended already."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def freeze(self) -> None:
        """Stop it where it stands, until SIGCONT; on return none of its threads runs (known on Linux only)."""
        self.signal(signal.SIGSTOP)
        while self.alive() and any(_runs(thread) for thread in Path(f"/proc/{self.pid}/task").glob("*/stat")):
            time.sleep(0.001)

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for its end; False when it still runs. For processes that are no children."""
        deadline = time.monotonic() + timeout
        while self.alive():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        return True


def die_with_parent() -> Callable[[], None] | None:
    """Return a `preexec_fn`: the kernel kills the child when the thread that started it ends. None if not Linux."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the call above
            os._exit(1)

    return in_child


def _started(pid: int) -> str | None:
    """Return the start time of a running process, None if there is none or it is a zombie."""
    if sys.platform == "linux":
        try:
            # The command, in parentheses, may hold anything; the fields after it are plain.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The first thread may be over while others hold the process's files still: that is no zombie yet.
        over = fields[0] in "ZX" and not any(map(_exists, Path(f"/proc/{pid}/task").glob("*/stat")))
        return None if over else f"{boot}/{fields[19]}"
    else:
        command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
        plain = os.environ | {"LC_ALL": "C", "TZ": "UTC"}
        answer = subprocess.run(command, capture_output=True, text=True, env=plain, check=False).stdout
        state, _, started = answer.strip().partition(" ")
        return None if not started or state.startswith("Z") else started.strip()


def _exists(thread: Path) -> bool:
    return _state(thread) not in "ZX"


def _runs(thread: Path) -> bool:
    return _state(thread) not in "TtZX"


def _state(thread: Path) -> str:
    try:
        return thread.read_text().rpartition(")")[2].split()[0]
    except OSError:  # it has ended
        return "X"
