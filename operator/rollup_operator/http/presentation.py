"""A RollupJob as Elasticsearch shows a rollup job: `config`, `status`, `stats`.

It reads the raw spec, so that a job whose spec cannot be used is shown too.
"""

from collections.abc import Mapping
from typing import Any

from rollup_operator.http.versions import DEFAULT, DIALECTS, Dialect
from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.reader import JobView
from rollup_operator.model.status import JobStats, State

CREATION_TIMEOUT = "20s"
"""What Elasticsearch shows as `timeout` of a job that was created without one."""

_PAGE_SIZE: int = RollupJobSpec.model_fields["page_size"].default
_NO_STATS = JobStats()


def present(job: JobView, dialect: Dialect = DIALECTS[DEFAULT]) -> dict[str, Any]:
    """Return one element of the answer's `jobs`."""
    stats = (job.status.stats or _NO_STATS).model_dump()
    if not dialect.shows_processing_stats:
        stats = {name: value for name, value in stats.items() if not name.startswith("processing_")}
    config = configuration(job.job_id, job.raw_spec, dialect, timeout=job.creation_timeout)
    return {"config": config, "status": _status(job, dialect), "stats": stats}


def job_state(job: JobView) -> State:
    """Return the published state; a job that nobody has looked at yet does nothing: it is stopped."""
    return job.status.state or State.STOPPED


def configuration(
    job_id: str, spec: Mapping[str, Any], dialect: Dialect, *, timeout: str | None = None
) -> dict[str, Any]:
    """Return a job's configuration from its spec, with Elasticsearch's defaults filled in."""
    return {
        "id": job_id,
        "index_pattern": spec.get("indexPattern", ""),
        "rollup_index": spec.get("rollupIndex", ""),
        "cron": spec.get("cron", ""),
        "groups": _groups(_mapping(spec.get("groups")), dialect),
        "metrics": [
            {"field": m.get("field", ""), "metrics": _list(m.get("metrics"))}
            for m in _list(spec.get("metrics"))
            if isinstance(m, Mapping)
        ],
        "timeout": timeout or CREATION_TIMEOUT,
        "page_size": spec.get("pageSize", _PAGE_SIZE),
    }


def _groups(groups: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    given = _mapping(groups.get("dateHistogram"))
    date: dict[str, Any] = {}
    legacy = dialect.shows_legacy_interval
    for ours, theirs in (
        ("fixedInterval", "interval" if legacy else "fixed_interval"),
        ("calendarInterval", "interval" if legacy else "calendar_interval"),
        ("field", "field"),
        ("delay", "delay"),
    ):
        if given.get(ours) is not None:
            date[theirs] = given[ours]
    date["time_zone"] = given.get("timeZone") or "UTC"
    shown: dict[str, Any] = {"date_histogram": date}
    if histogram := _mapping(groups.get("histogram")):
        shown["histogram"] = {"interval": histogram.get("interval"), "fields": _list(histogram.get("fields"))}
    if terms := _mapping(groups.get("terms")):
        shown["terms"] = {"fields": _list(terms.get("fields"))}
    return shown


def _status(job: JobView, dialect: Dialect) -> dict[str, Any]:
    shown: dict[str, Any] = {"job_state": job_state(job).value}
    if job.status.position is not None:
        shown["current_position"] = job.status.position
    if dialect.shows_upgraded_ids:
        shown["upgraded_doc_id"] = True
    return shown


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
