"""Supervisors: small processes that own others and take them down, so that nothing outlives its use.

A supervisor's standard input is its lifeline: when the other end closes it, however that process ended, the supervisor
ends what it owns. The word `detach` cuts that bond. On its standard output it says one line of JSON,
{"ready": null} or {"error": text}.
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_DETACH = b"detach\n"
_ROOT = Path(__file__).resolve().parent.parent
_END_SECONDS = 30.0


class Stop(Exception):
    """The lifeline was cut, or a signal asks for the end."""


class Lifeline:
    """The supervisor's end: what it waits by."""

    def __init__(self) -> None:
        """Take over standard input and the signals that ask for an end, or tell of a child's. Once in a process."""
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        wake_up, self._woken = socket.socketpair()
        for end in (wake_up, self._woken):
            end.setblocking(False)
        self._wake_up = wake_up
        self._selector.register(self._woken, selectors.EVENT_READ)
        signal.set_wakeup_fd(wake_up.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)

    def wait(self, timeout: float | None) -> None:
        """Wait up to `timeout` seconds for the lifeline, a signal or a child's end. Raises Stop for the first two."""
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._woken:
                if set(self._woken.recv(4096)) - {signal.SIGCHLD}:
                    raise Stop
            else:
                if os.read(sys.stdin.fileno(), 4096) != _DETACH:
                    raise Stop
                self._selector.unregister(sys.stdin.fileno())

    @staticmethod
    def ready() -> None:
        """Tell the starter that all is up."""
        print(json.dumps({"ready": None}), flush=True)

    @staticmethod
    def failed(text: str) -> None:
        """Tell the starter, if it still listens, and the log, why it is not."""
        print(text, file=sys.stderr, flush=True)
        try:
            print(json.dumps({"error": text}), flush=True)
        except BrokenPipeError:
            sys.stdout = None  # nothing to flush at exit


class Supervised:
    """The starter's end of a supervisor that is ready."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """For `launch`."""
        self._process = process

    @classmethod
    def launch(cls, module: str, arguments: Sequence[str], log: Path) -> "Supervised":
        """Start `python -m module arguments`, its words going to `log`, and return once it is ready.

        Raises NotReady with its own account of why it is not; it has ended then.
        """
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=os.environ | {"PYTHONPATH": str(_ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                start_new_session=True,  # a Ctrl-C in the terminal is for us; we cut the lifeline when we are done
            )
        supervised = cls(process)
        try:
            assert process.stdout is not None
            word = process.stdout.readline()
            error = json.loads(word).get("error") if word else f"it ended without a word:\n{log.read_text()}"
            if error:
                raise NotReady(error)
        except BaseException:
            supervised.end()
            raise
        return supervised

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def detach(self) -> None:
        """Let it run on after this process."""
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), _DETACH)

    def end(self) -> None:
        """Cut the lifeline and wait; what does not heed that is killed. May be repeated."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class NotReady(Exception):
    """What a supervisor was to start did not become ready; the message is its own."""


def tail(log: Path, lines: int) -> str:
    """Return the last lines of a log, nothing if there is none."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
