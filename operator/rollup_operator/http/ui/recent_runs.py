"""How many source documents each of a job's latest runs has summarised, as far as this process has seen them end."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from rollup_operator.model.job_view import JobView

RUNS = 24
"""Runs of a job that are remembered, in some 300 bytes."""


@dataclass(slots=True)
class _RunsOfJob:
    """What was seen of a job last."""

    ended: str
    """When its last run ended."""
    documents: int
    """How many documents all of its runs had summarised by then."""
    runs: "array[int]" = field(default_factory=lambda: array("Q"))


class RecentRuns:
    """The latest runs of all jobs. A status shows the last run alone, so those before this process are unknown."""

    def __init__(self) -> None:
        self._of: dict[str, _RunsOfJob] = {}

    def of(self, job: JobView) -> Sequence[int]:
        """Return the documents of each run, the latest one last."""
        seen = self._of.get(job.uid)
        return () if seen is None else seen.runs

    def seen(self, job: JobView) -> None:
        """Take in a newer view of a job."""
        if '"lastRun"' not in job.status_json:
            return
        status = orjson.loads(job.status_json)
        ended, documents = _at(status, "lastRun", "endTime"), _at(status, "stats", "documentsProcessed")
        if not isinstance(ended, str) or not isinstance(documents, int):
            return
        before = self._of.get(job.uid)
        if before is None:
            self._of[job.uid] = _RunsOfJob(ended, documents)
        elif before.ended != ended:
            before.runs.append(max(0, documents - before.documents))
            del before.runs[:-RUNS]
            before.ended, before.documents = ended, documents

    def gone(self, job: JobView) -> None:
        """Take in that a job no longer exists."""
        self._of.pop(job.uid, None)


def _at(status: Any, *path: str) -> Any:
    for key in path:
        status = status.get(key) if isinstance(status, dict) else None
    return status
