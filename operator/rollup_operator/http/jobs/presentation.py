"""A RollupJob as Elasticsearch shows a rollup job: `config`, `status`, `stats`."""

from typing import Any

from rollup_operator.http.protocol.dialects import DEFAULT, DIALECTS, Dialect
from rollup_operator.model.conditions import READY, Reason
from rollup_operator.model.elasticsearch_config import configuration
from rollup_operator.model.job_view import JobView
from rollup_operator.model.status import JobStats, State

_NO_STATS = JobStats()

_USUAL = frozenset({
    Reason.RUNNING, Reason.WAITING, Reason.RECONCILING, Reason.STOPPED, Reason.STOPPING, Reason.DELETING,
})  # fmt: skip
"""Reasons that every job shows in passing."""

_TELLING = frozenset(reason.value for reason in Reason) - _USUAL


def present(job: JobView, dialect: Dialect = DIALECTS[DEFAULT]) -> dict[str, Any]:
    """Return one element of the answer's `jobs`."""
    stats = (job.status.stats or _NO_STATS).model_dump()
    if not dialect.shows_processing_stats:
        stats = {name: value for name, value in stats.items() if not name.startswith("processing_")}
    config = configuration(
        job.job_id, job.raw_spec, legacy_interval=dialect.shows_legacy_interval, timeout=job.creation_timeout
    )
    return {"config": config, "status": _status(job, dialect), "stats": stats}


def job_state(job: JobView) -> State:
    """Return the published state; a job that no operator has observed yet does nothing: it is stopped."""
    return job.status.state or State.STOPPED


def held_up(job: JobView) -> str:
    """Say what holds up a stop or a deletion, as a clause; empty if nothing is known.

    A word from a fixed list: the condition's message may quote the store, and is for those who may read the job.
    """
    ready = next((c for c in job.status.conditions if c.type == READY), None)
    if ready is None or ready.status == "True" or ready.reason not in _TELLING:
        return ""
    return f"the job's Ready condition is False with reason [{ready.reason}], and its message says what it waits for"


def _status(job: JobView, dialect: Dialect) -> dict[str, Any]:
    shown: dict[str, Any] = {"job_state": job_state(job).value}
    if job.status.position is not None:
        shown["current_position"] = job.status.position
    if dialect.shows_upgraded_ids:
        shown["upgraded_doc_id"] = True
    return shown
