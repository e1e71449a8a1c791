"""The operator as a process of its own, as users run it. Its log is read at the end, and may hold no surprise."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from local_tools.process import ProcessId
from support.endpoint import Answer, Endpoint
from support.preloaded import Preloaded, die_with_parent

__all__ = ["BEGINS_AGAIN", "READY", "Answer", "Operator"]

PROGRAM = ("-m", "support.loop_guard")
"""What Python runs: the operator, with a guard of its event loop."""

QUIET = ("debug", "info")
EXPECTED = (
    # The API server prepares the storage of CRDs that it has just been given.
    "waiting for the API server",
    # kopf leaves the generator of a watch open when it cancels its task, and now and then closing it fails; the process
    # has drained and ended its own work by then.
    "closing of asynchronous generator <async_generator object infinite_watch",
)
"""What any start or end may log at level warning and above."""

TROUBLES = ("run failed", "job changed", "store cannot be used", "desired state set back")
"""Warnings about a job or a store, not about the operator: a test that provokes them asserts what the status says."""

READY = "ready"
BEGINS_AGAIN = "this operator ends, and another begins in its place"
"""Log events of an operator."""


class Operator(Endpoint):
    """`rollup-operator run`, with a guard of its event loop. It dies with the test process, however that ends.

    `expected` are patterns of log lines of level warning and above that a test provokes; `settings` are more settings;
    `authority` is the certificate by which to know its endpoint where that speaks TLS; `program` is what Python runs.
    """

    def __init__(
        self,
        kubeconfig: Path,
        folder: Path,
        *,
        data_root: Path | None = None,
        namespaces: Sequence[str] = (),
        default_namespace: str | None = None,
        page_seconds: float | None = None,
        grace_seconds: float | None = None,
        sweep_seconds: float | None = None,
        expected: Sequence[str] = (),
        settings: Mapping[str, object] | None = None,
        authority: Path | None = None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.data_root = data_root or folder / "data"
        self.log = folder / "operator.log"
        self.expected = [*EXPECTED, *expected]
        # Callers that name no token send the admin's, as whom it runs.
        super().__init__("", _token(kubeconfig), authority)
        self._url_file = folder / "url"
        self._environment = os.environ | {"KUBECONFIG": str(kubeconfig), "ROLLUP_STORE_HOSTS": "127.0.0.1"}
        # Many of them watch one API server, and those that are killed give no lease back.
        self._environment["ROLLUP_LEADER_ELECTION"] = "false"
        # For the guard of its event loop; and the operator that the tests themselves import is the one that runs.
        paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
        self._environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        self._environment |= {f"ROLLUP_{name.upper()}": str(value) for name, value in (settings or {}).items()}
        if sweep_seconds is not None:
            self._environment["ROLLUP_SWEEP_SECONDS"] = str(sweep_seconds)
        self._program = program
        self._arguments = ["run", "--log-format", "json"]
        self._arguments += ["--data-root", str(self.data_root), "--http-port", "0", "--url-file", str(self._url_file)]
        for flag, value in (
            ("--default-namespace", default_namespace),
            ("--page-seconds", page_seconds),
            ("--grace-seconds", grace_seconds),
            *(("--namespace", name) for name in namespaces),
        ):
            if value is not None:
                self._arguments += [flag, str(value)]
        self._process: subprocess.Popen[bytes] | Preloaded | None = None
        self._terminated = False
        self._read = 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def launch(self) -> Self:
        """Start the process and do not wait until it serves."""
        assert not self.running
        self._url_file.unlink(missing_ok=True)
        self._terminated = False
        with self.log.open("ab") as log:
            if self._program == PROGRAM and sys.platform == "linux":
                self._process = Preloaded(self._arguments, self._environment, log.fileno())
            else:
                self._process = subprocess.Popen(
                    [sys.executable, "-W", "default", *self._program, *self._arguments],
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509  # no fork of ours holds a lock
                )
        return self

    def start(self, timeout: float = 60.0) -> Self:
        """Start the process and return once it is ready."""
        return self.launch().wait_ready(timeout)

    def wait_ready(self, timeout: float = 60.0) -> Self:
        """Return once it has taken in all jobs and watches them."""
        assert self._process is not None
        deadline = time.monotonic() + timeout
        while not self._ready():
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the operator is not ready after {timeout} s:\n{self.log.read_text()}")
            try:
                code = self._process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"the operator ended with {code}:\n{self.log.read_text()}")
        return self

    def wait_begun_again(self, timeout: float = 60.0) -> Self:
        """Return once the operator in this process has ended and another has begun and is ready."""
        assert self._process is not None
        deadline = time.monotonic() + timeout
        while BEGINS_AGAIN not in (events := self._events()) or READY not in events[events.index(BEGINS_AGAIN) :]:
            if time.monotonic() > deadline:
                raise AssertionError(f"no other operator has begun after {timeout} s:\n{self.log.read_text()}")
            try:
                code = self._process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"the operator ended with {code}:\n{self.log.read_text()}")
        return self.wait_ready(timeout)

    def _events(self) -> list[str]:
        return [record.get("event", "") for record in self._log_records()]

    def _ready(self) -> bool:
        if not self._url_file.exists():
            return False
        self.url = self._url_file.read_text().strip()
        if self.url.startswith("https:") and self.authority is None:
            return True  # nothing here could check whom it asks
        return self.request("GET", "/readyz", headers={}).status == 200

    def terminate(self) -> None:
        """Send SIGTERM and do not wait."""
        assert self._process is not None
        self._terminated = True
        self._process.send_signal(signal.SIGTERM)

    def stop(self, timeout: float = 40.0) -> None:
        """End it in order: exit code 0, and nothing in the log but what was expected."""
        if self._process is None:
            return
        if self.running and not self._terminated:  # a second signal, at the very end, would be the interpreter's
            self.terminate()
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the operator has not ended {timeout} s after SIGTERM:\n{self._tail()}") from None
        self._process = None
        assert code == 0, f"the operator ended with {code}:\n{self._tail()}"
        assert not (found := self.surprises()), "\n".join(["surprises in the operator's log:", *found])

    def ended(self, timeout: float = 40.0) -> int:
        """Wait until it ends by itself, and return its exit code. Its log must hold nothing but what was expected."""
        assert self._process is not None
        code = self._process.wait(timeout)
        self._process = None
        assert not (found := self.surprises()), "\n".join(["surprises in the operator's log:", *found])
        return code

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop the process where it stands, until `thaw`."""
        assert self._process is not None
        ProcessId.of(self._process.pid).freeze()

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def surprises(self) -> list[str]:
        """Lines of the log, new since the last call, that are warnings, errors or no records at all."""
        text = self.log.read_text()
        fresh, self._read = text[self._read :], len(text)
        return [line for line in fresh.splitlines() if line.strip() and self._surprises(line)]

    def _surprises(self, line: str) -> bool:
        try:
            record = json.loads(line)
            if record["level"] in QUIET or (record["level"] == "warning" and record["event"] in TROUBLES):
                return False
        except (ValueError, KeyError, TypeError):
            pass
        return not any(re.search(pattern, line) for pattern in self.expected)

    def _tail(self) -> str:
        return self.log.read_text()[-6000:]

    def records(self, event: str) -> list[dict[str, Any]]:
        """What the log says of one event, oldest first."""
        return [record for record in self._log_records() if record.get("event") == event]

    def _log_records(self) -> list[dict[str, Any]]:
        found = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found


def _token(kubeconfig: Path) -> str:
    config = json.loads(kubeconfig.read_text())
    context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
    return next(str(u["user"]["token"]) for u in config["users"] if u["name"] == context["user"])
