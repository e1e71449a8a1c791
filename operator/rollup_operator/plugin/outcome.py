"""Exit codes and failures of commands, and what a command line chooses.

Apart from `results`, which needs the model, so that `--help` is quick.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

Where = tuple[str | None, str | None, str | None]
"""Kubeconfig, context and namespace, as the command line has them."""


class Code(IntEnum):
    """Exit codes. With several jobs: the one that all failures share, else FAILED."""

    DONE = 0
    FAILED = 1
    """Refused by the API server, or impossible in the job's state."""
    USAGE = 2
    """The command line or the kubeconfig cannot be used; nothing was done."""
    TIMED_OUT = 3
    """The wait timed out; the request stands."""
    OVERTAKEN = 4
    """Somebody has requested the opposite since."""
    NOT_FOUND = 5
    """No such job, or it was deleted meanwhile."""
    DIFFERENT = 6
    """`verify` has found buckets that are not as the source says."""
    INTERRUPTED = 130


class Failure(Exception):
    """A command, or its part for one job, cannot be carried out. The text is for people and names the cure."""

    def __init__(self, code: Code, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


@dataclass(frozen=True)
class Chosen:
    """The jobs that a command is about."""

    names: Sequence[str] | None = None
    """As typed. None: all, or all with these labels."""
    labels: str | None = None
    """A label selector."""
    everywhere: bool = False
    """Those of all namespaces."""

    def described(self, namespace: str) -> str:
        """Say where nothing was found."""
        labelled = f" with labels {self.labels}" if self.labels is not None else ""
        return f"no rollup jobs{labelled}" + ("" if self.everywhere else f" in namespace {namespace}")


@dataclass(frozen=True)
class WaitLimit:
    """How long a command waits."""

    seconds: float | None
    """None: until the end."""
