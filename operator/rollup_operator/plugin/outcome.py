"""Exit codes and failures of commands. Apart from `results`, which needs the model, so that `--help` is quick."""

from enum import IntEnum


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
    INTERRUPTED = 130


class Failure(Exception):
    """A command, or its part for one job, cannot be carried out. The text is for people and names the cure."""

    def __init__(self, code: Code, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message
