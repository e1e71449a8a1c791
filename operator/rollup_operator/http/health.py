"""Probes: /healthz answers while the process can, /readyz tells whether it should be given work."""

from typing import Any

from rollup_operator.http.ports import Jobs
from rollup_operator.http.waiters import Waiters


def readiness(jobs: Jobs, waiters: Waiters) -> tuple[bool, dict[str, Any]]:
    """Return whether this process is ready, and of each part `true` or what is wrong with it."""
    parts: dict[str, bool | str] = {
        **jobs.is_healthy(),
        "synced": jobs.synced or "the first list of jobs is not complete",
        "serving": not waiters.draining or "this process shuts down",
    }
    ready = all(part is True for part in parts.values())
    return ready, {"status": "ready" if ready else "unready", "checks": parts, "waiters": len(waiters)}
