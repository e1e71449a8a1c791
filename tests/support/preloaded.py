"""Operators that start at once: forked from a process that has loaded their program, which takes it a second each time.

It has run nothing of it, and each is a process of its own, with its own arguments, environment and log. All of them die
with the tests, however those end.
"""

import atexit
import ctypes
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

_TESTS = str(Path(__file__).parents[1])
_LONGEST = 1 << 17
"""Bytes of arguments and environment."""
_PR_SET_PDEATHSIG = 1

Request = tuple[str, list[str], dict[str, str]]
"""The folder to run in, arguments, environment."""


def die_with_parent() -> None:
    """Have the kernel end this process when the thread that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Preloaded:
    """An operator's process, to be used as a subprocess.Popen."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: int) -> None:
        """Start it; `log` is the file of its output."""
        self._end, theirs = socket.socketpair()
        with theirs:
            request = json.dumps([os.getcwd(), list(arguments), dict(environment)]).encode()
            socket.send_fds(_loaded(), [request], [theirs.fileno(), log])
        self._code: int | None = None
        self._said = self._end.makefile("r")
        self.pid = int(self._said.readline())

    def poll(self) -> int | None:
        """Return its exit code, as Popen does; None: it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code once it has ended. Raises subprocess.TimeoutExpired."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("rollup-operator", timeout or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self._code is None and self._says(timeout):
            self._code = int(self._said.readline() or -signal.SIGKILL)
            self._said.close()
            self._end.close()
        return self._code

    def _says(self, timeout: float | None) -> bool:
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))


@cache
def _loaded() -> socket.socket:
    """The way to the process that has loaded the program."""
    assert threading.current_thread() is threading.main_thread(), "what starts it must not end before it"
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-W", "default", "-m", "support.preloaded"],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [_TESTS, os.environ.get("PYTHONPATH")]))},
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,  # noqa: PLW1509  # no fork of ours holds a lock
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


# The process that has loaded it


def main() -> None:
    """Load the program; run it in each process that is forked when somebody asks for one."""
    from rollup_operator import cli  # noqa: F401  # loads it
    from support import loop_guard

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that none of those that wait becomes a zombie
    gc.collect()
    gc.freeze()  # so that no collection makes copies of what the processes share
    try:
        if (request := _fork_when_asked()) is not None:
            _begin(*request)
            loop_guard.main()
    finally:
        gc.unfreeze()  # as the operator does at its end


def _fork_when_asked() -> tuple[Request, int, int] | None:
    """Return in each process that is forked, with its request and files, and with None once nobody can ask any more."""
    with socket.socket(fileno=os.dup(0)) as calls:
        while True:
            request, files, _, _ = socket.recv_fds(calls, _LONGEST, 2)
            if not request:
                return None
            if os.fork() == 0:
                end, log = files
                return json.loads(request), end, log
            for file in files:
                os.close(file)


def _begin(request: Request, end: int, log: int) -> None:
    """Fork once more, wait for the end of that process and tell it; in that one, return."""
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if pid := os.fork():
        os.write(end, f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(end, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)
    die_with_parent()
    folder, sys.argv[1:], environment = request
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    null = os.open(os.devnull, os.O_RDONLY)
    for ours, usual in ((null, 0), (log, 1), (log, 2)):
        os.dup2(ours, usual)
    for ours in (null, log, end):
        os.close(ours)


if __name__ == "__main__":
    main()
