"""Calls the endpoint through official clients, each as a process in an environment of its own."""

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from support.client_environments import ROOT, interpreter

SCRIPT = ROOT / "tests" / "clients" / "speaker.py"


@dataclass(frozen=True)
class Outcome:
    """What a client's caller gets: an answer, or an exception that carries the endpoint's status and body."""

    seconds: float
    sent: list[str]
    """Method and status of each request that was sent for it: `POST 200`. A client may repeat one by itself."""
    warnings: list[list[str]]
    """Class and text of each warning that the client gives."""
    answer: Any = None
    raised: list[str] = field(default_factory=list)
    """The exception's class and what it is derived from."""
    status: Any = None
    error: str = ""
    info: Any = None
    text: str = ""

    @property
    def ok(self) -> Any:
        """The answer. Fails if there was an exception."""
        assert not self.raised, f"{self.raised[0]}: {self.text}"
        return self.answer

    @property
    def failure(self) -> tuple[str, Any, str]:
        """The exception's class, the status and the reason. Fails if there was none."""
        assert self.raised, f"no exception, but {self.answer}"
        assert isinstance(self.info, dict), f"{self.raised[0]}: {self.text}"
        assert self.info["status"] == self.status
        return self.raised[0], self.status, self.info["error"]["reason"]


@dataclass(frozen=True)
class Client:
    """One client as a user has set it up: an URL, a token, how many seconds it waits for an answer."""

    speaker: "Speaker | None"
    """None: nobody speaks for it yet."""
    url: str
    token: str = ""
    patience: float = 30

    def __call__(self, name: str, **arguments: Any) -> Outcome:
        """Call one of the client's methods."""
        assert self.speaker is not None
        client = {"url": self.url, "token": self.token, "patience": self.patience}
        return self.speaker.tell({"name": name, "arguments": arguments} | client)


def in_python(library: str, say: Callable[[str], None]) -> list[str]:
    """Return the command that starts SCRIPT in the environment of a library, which is made first if need be."""
    kind = "opensearch" if library == "opensearch" else "elasticsearch"
    return [str(interpreter(library, say)), str(SCRIPT), kind]


class Speaker:
    """A process that has loaded one client library. A context manager; it ends with its stdin."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        without = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        self._log = log.open("w+")
        self._process = subprocess.Popen(
            command,
            env=without | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def tell(self, order: Mapping[str, Any]) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise AssertionError(f"the client's process has ended:\n{self._log.read()}")
        return Outcome(**json.loads(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with self._log, self._process:
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
