"""What options mean together: which jobs a command is about, and how long it waits."""

from collections.abc import Sequence

from rollup_operator.explaining.text import seconds_of
from rollup_operator.plugin.outcome import Chosen, Code, Failure, WaitLimit


def choose(names: Sequence[str] | None, everything: bool, labels: str | None) -> Chosen:
    """Return the jobs that names, --all or -l choose. Raises Failure where they say nothing, or too much."""
    if names and (everything or labels is not None):
        flag = "--all" if everything else "-l"
        raise Failure(Code.USAGE, "Usage", f"use names or {flag}, not both")
    if not names and not everything and labels is None:
        raise Failure(Code.USAGE, "Usage", "name at least one job, or use --all or -l LABELS")
    return Chosen(names or None, labels_of(labels))


def labels_of(labels: str | None) -> str | None:
    """Return a selector of labels as given. Raises Failure for one that would choose all jobs."""
    if labels is not None and not labels.strip(" ,"):
        raise Failure(Code.USAGE, "Usage", "-l is empty, which would mean all jobs: write a label, as in -l team=a")
    return labels


def limit(wait: bool, timeout: str | None, otherwise: float | None = 30.0) -> WaitLimit | None:
    """Return how long --wait and --timeout have a command wait; None: not at all. Raises Failure."""
    if not wait:
        if timeout is not None:
            raise Failure(Code.USAGE, "Usage", "--timeout needs --wait: add --wait")
        return None
    try:
        return WaitLimit(otherwise if timeout is None else seconds_of(timeout))
    except ValueError as e:
        raise Failure(Code.USAGE, "Usage", f"--timeout: {e}") from e
