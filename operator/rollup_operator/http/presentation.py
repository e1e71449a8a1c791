"""A RollupJob as Elasticsearch shows a rollup job: `config`, `status`, `stats`.

It reads the raw spec, so that a job whose spec cannot be used is shown too.
"""

from collections.abc import Mapping
from typing import Any

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.model.reader import JobView
from rollup_operator.model.status import JobStats, State

CREATION_TIMEOUT = "20s"
"""What Elasticsearch shows as `timeout` of a job that was created without one."""

_PAGE_SIZE: int = RollupJobSpec.model_fields["page_size"].default
_NO_STATS = JobStats()


def present(job: JobView) -> dict[str, Any]:
    """Return one element of the answer's `jobs`."""
    return {"config": _config(job), "status": _status(job), "stats": (job.status.stats or _NO_STATS).model_dump()}


def job_state(job: JobView) -> State:
    """Return the published state; a job that nobody has looked at yet does nothing: it is stopped."""
    return job.status.state or State.STOPPED


def _config(job: JobView) -> dict[str, Any]:
    spec = job.raw_spec
    return {
        "id": job.job_id,
        "index_pattern": spec.get("indexPattern", ""),
        "rollup_index": spec.get("rollupIndex", ""),
        "cron": spec.get("cron", ""),
        "groups": _groups(_mapping(spec.get("groups"))),
        "metrics": [
            {"field": m.get("field", ""), "metrics": m.get("metrics") or []}
            for m in spec.get("metrics") or ()
            if isinstance(m, Mapping)
        ],
        "timeout": CREATION_TIMEOUT,
        "page_size": spec.get("pageSize", _PAGE_SIZE),
    }


def _groups(groups: Mapping[str, Any]) -> dict[str, Any]:
    given = _mapping(groups.get("dateHistogram"))
    date: dict[str, Any] = {}
    for ours, theirs in (
        ("fixedInterval", "fixed_interval"),
        ("calendarInterval", "calendar_interval"),
        ("field", "field"),
        ("delay", "delay"),
    ):
        if given.get(ours) is not None:
            date[theirs] = given[ours]
    date["time_zone"] = given.get("timeZone") or "UTC"
    shown: dict[str, Any] = {"date_histogram": date}
    if histogram := _mapping(groups.get("histogram")):
        shown["histogram"] = {"interval": histogram.get("interval"), "fields": histogram.get("fields") or []}
    if terms := _mapping(groups.get("terms")):
        shown["terms"] = {"fields": terms.get("fields") or []}
    return shown


def _status(job: JobView) -> dict[str, Any]:
    shown: dict[str, Any] = {"job_state": job_state(job).value}
    if job.status.position is not None:
        shown["current_position"] = job.status.position
    return shown


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
