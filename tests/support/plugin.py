"""`kubectl rollup` as a process, as users run it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CommandResult:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one document on standard output."""
        return json.loads(self.out)


class Plugin:
    """The plugin with a kubeconfig and a namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.kubeconfig, self.namespace = kubeconfig, namespace

    def __call__(self, command: str, *arguments: str, **environment: str) -> CommandResult:
        """Run a command to its end."""
        with self.begun(command, *arguments, **environment) as process:
            return ended(process)

    @contextmanager
    def begun(self, command: str, *arguments: str, **environment: str) -> "Iterator[subprocess.Popen[str]]":
        """Begin a command; it is killed if it has not ended within the `with`."""
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        process = subprocess.Popen(
            [sys.executable, "-m", "rollup_operator.plugin", command, *arguments],
            env=kept | {"KUBECONFIG": str(self.kubeconfig), "COLUMNS": "200", "PYTHONWARNINGS": "error"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_hear_interrupts,  # noqa: PLW1509  # no fork of ours holds a lock
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def of(self, command: str, *arguments: str) -> CommandResult:
        """Run a command in the namespace."""
        return self(command, *arguments, "-n", self.namespace)

    @contextmanager
    def waiting(self, command: str, *arguments: str, **environment: str) -> "Iterator[subprocess.Popen[str]]":
        """Begin a command in the namespace, and go on once it says that it waits."""
        with self.begun(command, *arguments, "--wait", "-n", self.namespace, **environment) as process:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("waiting ") or " %" in line, line + process.stderr.read()
            yield process


def ended(process: "subprocess.Popen[str]", timeout: float = 60.0) -> CommandResult:
    """Wait for the end of a command."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"it has not ended after {timeout} s:\n{out}{err}") from None
    return CommandResult(process.returncode, out, err)


def interrupt(process: "subprocess.Popen[str]") -> None:
    """Press Ctrl-C."""
    process.send_signal(signal.SIGINT)


def _hear_interrupts() -> None:
    # A shell ignores Ctrl-C for what it runs in the background, and that is inherited.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
