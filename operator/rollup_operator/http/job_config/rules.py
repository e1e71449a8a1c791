"""Elasticsearch's rules for the values of a job's configuration, and the RollupJob that it becomes. Pure.

The first fault wins, in Elasticsearch's order. Elasticsearch's rules come first, in its words; then those of the
resource: whatever the job's actor would call an invalid spec is refused here, including a wrong cron expression or
index name.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollup_operator.http.job_config import zones
from rollup_operator.http.job_config.shape import (
    ARGUMENT,
    Broken,
    DateHistogram,
    Fault,
    FieldMetrics,
    Histogram,
    JobConfiguration,
    Path,
    check,
    read_configuration,
)
from rollup_operator.http.protocol.dialects import Dialect
from rollup_operator.http.protocol.job_errors import validation_failed
from rollup_operator.http.protocol.positioned_json import Node
from rollup_operator.model.base import LONGEST_CRON
from rollup_operator.model.cron_fields import ScheduleError
from rollup_operator.model.glob import Glob
from rollup_operator.model.names import EVERY
from rollup_operator.model.schedule import Schedule
from rollup_operator.model.time_values import parse_time_value, parse_time_zone, unknown_zone
from rollup_operator.model.validation import Problem, problems
from rollup_operator.rollup.source_rules import date_metrics_message

METRICS = ("min", "max", "sum", "avg", "value_count")

LARGEST_PAGE = 10_000

LONGEST_PATTERN = 1024
"""The limit of characters of an index pattern, as in the resource."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CALENDAR = re.compile(r"1[mhdwMqy]|minute|hour|day|week|month|quarter|year")
_SECOND = ("1s", "second")
_UNITS_OF_THE_CALENDAR = re.compile(r"[0-9]+(w|M|q|y)")


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a configuration asks for."""

    job_id: str
    spec: Mapping[str, Any]
    """The RollupJob's spec, without `desiredState` and `jobId`."""
    timeout: str | None
    """As Elasticsearch prints it; None where none was given."""
    warning: str | None
    """Warnings about a job that can be created."""


def new_job(root: Node, path_id: str, dialect: Dialect) -> NewJob:
    """Read a configuration. Its id takes precedence over the id in the path. Raises ApiError 400."""
    try:
        given = read_configuration(root, _Rules(dialect), dialect)
        job_id = path_id if given.id is None else given.id
        check(root, _of_whole(given, job_id))
        if (date := given.date_histogram) is None:
            # Elasticsearch takes metrics without groups, and then cannot make anything of them.
            reason = "Required [groups]" if given.metrics else "At least one grouping or metric must be configured"
            raise Fault.of_object((), root.at, reason)
        check(root, _of_ours(given, job_id, date))
        spec = _spec(given, date)
        check(root, map(_in_their_words, problems(spec | {"jobId": job_id})))
    except Fault as e:
        raise e.answer() from e
    timeout = None if given.timeout is None else parse_time_value(given.timeout, "timeout").text
    return NewJob(job_id, spec, timeout, _warning(date, job_id))


def _of_whole(given: JobConfiguration, job_id: str) -> Iterator[Broken]:
    """Elasticsearch's rules for what it has read."""
    if not job_id:
        yield ("id",), ARGUMENT, "Id must be a non-null, non-empty string"
    yield from _of_indices(given)
    if not given.cron:
        yield ("cron",), ARGUMENT, "Cron schedule must be a non-null, non-empty string"
    if given.page_size <= 0:
        yield ("page_size",), ARGUMENT, "Page size is mandatory and  must be a positive long"


def _of_ours(given: JobConfiguration, job_id: str, date: DateHistogram) -> Iterator[Broken]:
    """What Elasticsearch accepts although it cannot work."""
    if job_id in EVERY:
        yield ("id",), ARGUMENT, f"Id must not be [{job_id}], which means all jobs"
    if match := _CONTROL.search(job_id):
        yield ("id",), ARGUMENT, f"Id must not hold the control character [U+{ord(match[0]):04X}]"
    try:
        Schedule.parse(given.cron)
    except ScheduleError as e:
        yield ("cron",), ARGUMENT, f"invalid cron expression [{given.cron[:LONGEST_CRON]}]: {e}"
    if given.page_size > LARGEST_PAGE:
        yield ("page_size",), ARGUMENT, f"Page size is [{given.page_size}], but must be at most [{LARGEST_PAGE}]"
    if (length := len(given.index_pattern)) > LONGEST_PATTERN:
        reason = f"Index pattern has [{length}] characters, but must have at most [{LONGEST_PATTERN}]"
        yield ("index_pattern",), ARGUMENT, f"{reason}: name many by a *, or by an alias"
    for metric in given.metrics:
        if metric.field == date.field and (message := date_metrics_message(metric.field, metric.metrics, "date")):
            raise validation_failed([message])


def _of_indices(given: JobConfiguration) -> Iterator[Broken]:
    pattern, target = given.index_pattern, given.rollup_index
    if not pattern:
        yield ("index_pattern",), ARGUMENT, "Index pattern must be a non-null, non-empty string"
    if not target:
        yield ("rollup_index",), ARGUMENT, "Rollup index must be a non-null, non-empty string"
    if len(pattern) > LONGEST_PATTERN:
        return  # refused below; to compare thousands of parts would take seconds
    for part in pattern.split(","):
        if part == "_all" or (part and not part.strip("*")):
            # Elasticsearch's text lacks the closing parenthesis.
            text = "Index pattern must not match all indices (as it would match it's own rollup index"
            yield ("index_pattern",), ARGUMENT, text
        elif part == target:
            yield ("rollup_index",), ARGUMENT, "Rollup index may not be the same as the index pattern"
        elif Glob.of(part.split("/")[0]).matches(target):
            yield ("index_pattern",), ARGUMENT, "Index pattern would match rollup index name which is not allowed"


@dataclass(frozen=True, slots=True)
class _Rules:
    """Elasticsearch's rules for what it checks while it reads."""

    dialect: Dialect

    def of_timeout(self, text: str) -> Iterator[Broken]:
        yield from _of_time(("timeout",), text, "timeout", self.dialect)

    def of_date_histogram(self, group: DateHistogram) -> Iterator[Broken]:
        at = ("groups", "date_histogram")
        if not group.field:
            yield (*at, "field"), ARGUMENT, "Field must be a non-null, non-empty string"
        new = [i for i in (group.fixed_interval, group.calendar_interval) if i is not None]
        if group.interval is not None and new:
            text = "Cannot use [interval] with [fixed_interval] or [calendar_interval] configuration options."
            yield at, ARGUMENT, text
        if len(new) > 1:
            yield at, ARGUMENT, "Cannot set both [fixed_interval] and [calendar_interval] at the same time"
        if group.interval is None and not new:
            yield at, ARGUMENT, "An interval is required.  Use [fixed_interval] or [calendar_interval]."
        if group.calendar_interval is not None and not _is_calendar(group.calendar_interval):
            text = f"The supplied interval [{group.calendar_interval}] could not be parsed as a calendar interval."
            yield (*at, "calendar_interval"), ARGUMENT, text
        if group.fixed_interval is not None:
            yield from _of_fixed_interval((*at, "fixed_interval"), group.fixed_interval, self.dialect)
        if group.interval is not None and not _is_calendar(group.interval):
            yield from _of_fixed_interval((*at, "interval"), group.interval, self.dialect)
        if group.delay is not None:
            yield from _of_time((*at, "delay"), group.delay, "delay", self.dialect)
        if group.time_zone:
            try:
                parse_time_zone(zones.SHORT.get(group.time_zone, group.time_zone))
            except ValueError:
                zone = group.time_zone
                text = f"Unknown time-zone ID: {zone}: {unknown_zone(zone)}"
                yield (*at, "time_zone"), "zone_rules_exception", text

    def of_histogram(self, group: Histogram) -> Iterator[Broken]:
        at = ("groups", "histogram")
        if group.interval <= 0:
            yield (*at, "interval"), ARGUMENT, "Interval must be a positive long"
        if not group.fields:
            yield (*at, "fields"), ARGUMENT, "Fields must have at least one value"

    def of_terms(self, fields: Sequence[str]) -> Iterator[Broken]:
        if not fields:
            yield ("groups", "terms", "fields"), ARGUMENT, "Fields must have at least one value"

    def of_metric(self, metric: FieldMetrics) -> Iterator[Broken]:
        if not metric.field:
            yield ("metrics", "field"), ARGUMENT, "Field must be a non-null, non-empty string"
        if not metric.metrics:
            yield ("metrics", "metrics"), ARGUMENT, "Metrics must be a non-null, non-empty array of strings"
        for name in metric.metrics:
            if name not in METRICS:
                text = f"Unsupported metric [{name}]. Supported metrics include: [{', '.join(METRICS)}]"
                yield ("metrics", "metrics"), ARGUMENT, text


def _of_fixed_interval(at: Path, text: str, dialect: Dialect) -> Iterator[Broken]:
    calendar = _UNITS_OF_THE_CALENDAR.fullmatch(text)
    yield from _of_time(at, text, "date_histogram.FixedInterval" if calendar else "createRounding", dialect)
    if int(parse_time_value(text, "").milliseconds) < 1:
        yield at, ARGUMENT, "Zero or negative time interval not supported"


def _of_time(at: Path, text: str, setting: str, dialect: Dialect) -> Iterator[Broken]:
    try:
        parse_time_value(text, setting)
    except ValueError as e:
        unit = "unit is missing or unrecognized" in str(e)
        yield at, dialect.time_value_error if unit else ARGUMENT, str(e)


def _is_calendar(interval: str) -> bool:
    return interval in _SECOND or _CALENDAR.fullmatch(interval) is not None


def _spec(given: JobConfiguration, date: DateHistogram) -> dict[str, Any]:
    groups: dict[str, Any] = {"dateHistogram": _date_spec(date)}
    if given.histogram is not None:
        groups["histogram"] = {"fields": list(given.histogram.fields), "interval": given.histogram.interval}
    if given.terms is not None:
        groups["terms"] = {"fields": list(given.terms)}
    return {
        "indexPattern": given.index_pattern,
        "rollupIndex": given.rollup_index,
        "cron": given.cron,
        "pageSize": given.page_size,
        "groups": groups,
        "metrics": [{"field": m.field, "metrics": list(m.metrics)} for m in given.metrics],
    }


def _date_spec(group: DateHistogram) -> dict[str, Any]:
    spec: dict[str, Any] = {"field": group.field}
    interval = group.interval or group.calendar_interval
    if interval is not None and _CALENDAR.fullmatch(interval):
        spec["calendarInterval"] = interval
    elif interval in _SECOND:
        spec["fixedInterval"] = "1s"  # no clock ever changes by less than a second, so this is the same
    else:
        spec["fixedInterval"] = parse_time_value(interval or group.fixed_interval or "", "").text
    if group.delay is not None:
        spec["delay"] = parse_time_value(group.delay, "").text
    if group.time_zone:
        spec["timeZone"] = zones.SHORT.get(group.time_zone, group.time_zone)
    return spec


def _warning(date: DateHistogram, job_id: str) -> str | None:
    zone = date.time_zone or ""
    if zone in zones.SHORT or (today := zones.renamed(zone)) is None:
        return None
    return (
        f"Creating Rollup job [{job_id}] with timezone [{zone}], but [{zone}] has been deprecated by the IANA.  "
        f"Use [{today}] instead."
    )


_STEP = re.compile(r"\.([A-Za-z]+)")
_CAMEL = re.compile(r"\b[a-z]+(?:[A-Z][a-z]+)+\b")


def _in_their_words(problem: Problem) -> Broken:
    """Return a problem of a spec as one of the configuration that it came from."""
    path = tuple("id" if step == "jobId" else _snake(step) for step in _STEP.findall(problem.field))
    return path, ARGUMENT, _CAMEL.sub(lambda match: _snake(match[0]), problem.message)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])[A-Z]", lambda match: f"_{match[0].lower()}", name)
