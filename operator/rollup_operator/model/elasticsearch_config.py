"""A job's spec as Elasticsearch's configuration of a rollup job. Pure.

It reads the raw spec, so that a job whose spec cannot be used is shown too.
"""

from collections.abc import Mapping
from typing import Any

from rollup_operator.model.job import RollupJobSpec

CREATION_TIMEOUT = "20s"
"""The `timeout` that Elasticsearch shows for a job that was created without one."""

_CRON = "0 0 * * * ?"
"""Of a job that runs no more."""
_CALENDAR = frozenset({"1w", "1M", "1q", "1y", "minute", "hour", "day", "week", "month", "quarter", "year"})
"""What can only be an interval of the calendar."""
_PAGE_SIZE: int = RollupJobSpec.model_fields["page_size"].default


def configuration(
    job_id: str, spec: Mapping[str, Any], *, legacy_interval: bool = False, timeout: str | None = None
) -> dict[str, Any]:
    """Return a job's configuration from its spec, with Elasticsearch's defaults filled in.

    `legacy_interval`: the interval's kind is not shown, as before Elasticsearch 7.2.
    """
    return {
        "id": job_id,
        "index_pattern": spec.get("indexPattern", ""),
        "rollup_index": spec.get("rollupIndex", ""),
        "cron": spec.get("cron", ""),
        "groups": _groups(_mapping(spec.get("groups")), legacy_interval),
        "metrics": [
            {"field": m.get("field", ""), "metrics": _list(m.get("metrics"))}
            for m in _list(spec.get("metrics"))
            if isinstance(m, Mapping)
        ],
        "timeout": timeout or CREATION_TIMEOUT,
        "page_size": spec.get("pageSize", _PAGE_SIZE),
    }


def spec_of(configuration: object, rollup_index: str) -> dict[str, Any] | None:
    """Return the spec of a job, as far as it says what its documents are, from Elasticsearch's configuration.

    None: it is none. It is not checked.
    """
    groups = _mapping(_mapping(configuration).get("groups"))
    date, histogram, terms = (_mapping(groups.get(name)) for name in ("date_histogram", "histogram", "terms"))
    if not date:
        return None
    ours: dict[str, Any] = {"field": date.get("field"), "timeZone": date.get("time_zone") or "UTC"}
    for theirs, name in (("fixed_interval", "fixedInterval"), ("calendar_interval", "calendarInterval")):
        if date.get(theirs) is not None:
            ours[name] = date[theirs]
    if isinstance(interval := date.get("interval"), str):  # before 7.2, when the unit alone said it
        ours["calendarInterval" if interval in _CALENDAR else "fixedInterval"] = interval
    if date.get("delay") is not None:
        ours["delay"] = date["delay"]
    shown: dict[str, Any] = {"dateHistogram": ours}
    if histogram:
        shown["histogram"] = {"fields": _list(histogram.get("fields")), "interval": histogram.get("interval")}
    if terms:
        shown["terms"] = {"fields": _list(terms.get("fields"))}
    config = _mapping(configuration)
    metrics = [_mapping(each) for each in _list(config.get("metrics"))]
    return {
        "indexPattern": config.get("index_pattern"),
        "rollupIndex": rollup_index,
        "cron": _CRON,
        "groups": shown,
        "metrics": [{"field": m.get("field"), "metrics": _list(m.get("metrics"))} for m in metrics],
    }


def _groups(groups: Mapping[str, Any], legacy: bool) -> dict[str, Any]:
    given = _mapping(groups.get("dateHistogram"))
    date: dict[str, Any] = {}
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


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
