"""The usage call: that rollups are there, and how many jobs."""

from typing import Any

from rollup_operator.http.protocol.dialects import Dialect


def usage(jobs: int, dialect: Dialect) -> dict[str, Any]:
    """Return the answer for a namespace with so many jobs."""
    rollup: dict[str, Any] = {"available": True, "enabled": True}
    if dialect.counts_jobs:
        rollup["number_of_rollup_jobs"] = jobs
    return {"rollup": rollup}
