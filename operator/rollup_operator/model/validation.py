"""What the CRD cannot check, or an older CRD let through: every problem of a spec, each with its field and the cure."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rollup_operator.escaping import escaped_json
from rollup_operator.model.base import PLAIN
from rollup_operator.model.cron_fields import ScheduleError
from rollup_operator.model.glob import MOST_STARS, Glob
from rollup_operator.model.job import CSV_ENDINGS, DateHistogramGroup, RollupJobSpec
from rollup_operator.model.job_view import JobView
from rollup_operator.model.names import EVERY, NAME_PATTERN
from rollup_operator.model.schedule import Schedule
from rollup_operator.model.time_values import (
    UnknownZone,
    parse_instant,
    parse_time_value,
    parse_time_zone,
    unknown_zone,
)

_DAY_MS = 86_400_000
_LONGEST_DAYS = 36_500
_SHOWN = 10
_LONGEST_TEXT = 380
_LONGEST_VALUE = 100
_FIXED_INTERVAL = re.compile(r"[1-9][0-9]*(ms|s|m|h|d)")
_DIRECTIVE = re.compile(r"%-?([^-]|$)")
_DIRECTIVES = "aAbBcdfgGhHIjmMnpSTuUVwWxXyYzZ"
"""Of strptime, as DuckDB knows it: https://duckdb.org/docs/stable/sql/functions/dateformat"""
_CALENDAR_UNIT = re.compile(r"1(w|M|q|y)|minute|hour|day|week|month|quarter|year")
_NOT_IN_INDEX_NAMES = re.compile(r"[\\/*?\"<>| ,#:\s]")
_PATTERNS = {
    NAME_PATTERN: "cannot be the name of an object: use lower case letters, digits, '-' and '.'",
    PLAIN: "holds a control character: remove it",
}
"""What to say instead of a pattern."""
_CRON, _VERIFY_CRON = "spec.cron", "spec.verify.cron"
DATE_METRICS = ("min", "max", "value_count")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a spec that cannot be used."""

    field: str
    """The field, as in `spec.groups.terms.fields[1]`."""
    message: str
    """The problem, and what is valid."""

    def __str__(self) -> str:
        text = f"{self.field}: {self.message}"
        return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 3]}..."


class InvalidSpec(ValueError):
    """A spec that cannot be used. The text names each field; `problems` holds them apart."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        shown = [str(problem) for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            shown.append(f"and {len(self.problems) - _SHOWN} more")
        super().__init__("; ".join(shown))


def check(view: JobView) -> tuple[RollupJobSpec, Schedule]:
    """Return the parsed spec and schedule of a job. Raises InvalidSpec naming every field that cannot be used."""
    found = problems(view.raw_spec)
    if found:
        raise InvalidSpec(found)
    spec = view.spec()
    return spec, Schedule.parse(spec.cron)


def problems(spec: object) -> list[Problem]:
    """Return the problems of the raw spec of a job, in the order of its fields; never raises, whatever it holds."""
    try:
        parsed = RollupJobSpec.model_validate(spec)
    except ValidationError as error:
        found = [_of_schema(detail) for detail in error.errors(include_url=False, include_context=False)]
        for at, cron in _crons(spec):
            if not any(problem.field == at for problem in found):
                found += _of_cron(cron, at)
        return found
    return [
        *_of_id(parsed),
        *_of_indices(parsed),
        *_of_cron(parsed.cron, _CRON),
        *_of_groups(parsed),
        *_of_metrics(parsed),
        *_of_times(parsed),
        *_of_verify(parsed),
        *_of_csv(parsed),
    ]


def _of_schema(detail: ErrorDetails) -> Problem:
    """Translate a finding of pydantic."""
    field = "spec" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in detail["loc"])
    if detail["type"] == "missing":
        return Problem(field, "is required")
    if detail["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return Problem(field, f"must be an object{_given(detail['input'])}")
    text = detail["msg"].removeprefix("Input ")
    for pattern, our_words in _PATTERNS.items():
        if pattern in text:
            return Problem(field, f"{our_words}{_given(detail['input'])}")
    return Problem(field, f"{text[0].lower()}{text[1:]}{_given(detail['input'])}")


def _given(value: Any) -> str:
    """Quote the given value as it is written in a manifest; nothing for a value that would fill the message."""
    if not isinstance(value, str | int | float | bool | None):
        return ""
    text = escaped_json(json.dumps(value, ensure_ascii=False))
    return f"; it is {text}" if len(text) <= _LONGEST_VALUE else ""


def _crons(spec: object) -> Iterator[tuple[str, str]]:
    """Yield the cron expressions of a spec that may be anything, each with its field."""
    verify = spec.get("verify") if isinstance(spec, Mapping) else None
    for at, part in ((_CRON, spec), (_VERIFY_CRON, verify)):
        if isinstance(part, Mapping) and isinstance(cron := part.get("cron"), str):
            yield at, cron


def _of_cron(cron: str, at: str) -> Iterator[Problem]:
    try:
        Schedule.parse(cron)
    except ScheduleError as error:
        yield Problem(at, str(error))


def _of_id(spec: RollupJobSpec) -> Iterator[Problem]:
    if spec.job_id in EVERY:
        yield Problem("spec.jobId", f"'{spec.job_id}' means every job: choose another id")


def _of_indices(spec: RollupJobSpec) -> Iterator[Problem]:
    pattern, target = spec.index_pattern, spec.rollup_index
    parts = pattern.split(",")
    if "\\" in pattern or re.search(r"\s", pattern) or "" in parts:
        yield Problem("spec.indexPattern", "holds a blank, a backslash or an empty part: name indices, tables or files")
    elif wild := next((part for part in parts if part.count("*") > MOST_STARS), None):
        text = f"'{wild[:_LONGEST_VALUE]}' has {wild.count('*')} stars: use at most {MOST_STARS} in one pattern"
        yield Problem("spec.indexPattern", text)
    elif any(part == "_all" or not part.strip("*") for part in parts):
        yield Problem("spec.indexPattern", "must not match everything: it would match the job's own rollupIndex")
    elif pattern == target:
        yield Problem("spec.rollupIndex", "may not be the same as indexPattern")
    elif any(Glob.of(part.split("/")[0]).matches(target) for part in parts):
        yield Problem("spec.indexPattern", "would match the rollupIndex: choose a name that it does not cover")
    if target != target.lower():
        yield Problem("spec.rollupIndex", f"must be in lower case: '{target.lower()}' would do")
    if match := _NOT_IN_INDEX_NAMES.search(target):
        yield Problem("spec.rollupIndex", f"holds {match[0]!r}, which an index name cannot")
    if target.startswith(("-", "_", "+", ".")):
        yield Problem("spec.rollupIndex", f"begins with '{target[0]}': begin with a letter or a digit")
    if len(target.encode()) > 255:
        yield Problem("spec.rollupIndex", "is longer than 255 bytes: choose a shorter name")


def _of_groups(spec: RollupJobSpec) -> Iterator[Problem]:
    date = spec.groups.date_histogram
    at = "spec.groups.dateHistogram"
    if (date.fixed_interval is None) == (date.calendar_interval is None):
        yield Problem(at, "exactly one of fixedInterval and calendarInterval must be set")
    yield from _of_fixed_interval(f"{at}.fixedInterval", date)
    if date.delay is not None:
        yield from _of_duration(f"{at}.delay", date.delay, "delay")
    try:
        parse_time_zone(date.time_zone)
    except UnknownZone as error:
        yield Problem(f"{at}.timeZone", f"'{error.zone}' is no time zone: {unknown_zone(error.zone)}")
    except ValueError as error:
        yield Problem(f"{at}.timeZone", str(error))
    for name, group in (("histogram", spec.groups.histogram), ("terms", spec.groups.terms)):
        if group is not None:
            yield from _duplicates(f"spec.groups.{name}.fields", group.fields)


def _of_fixed_interval(at: str, date: DateHistogramGroup) -> Iterator[Problem]:
    text = date.fixed_interval
    if text is None:
        return
    if _CALENDAR_UNIT.fullmatch(text):
        yield Problem(at, f"'{text}' is a unit of the calendar: set calendarInterval instead")
    elif not _FIXED_INTERVAL.fullmatch(text):
        yield Problem(at, f"'{text}' is not a bucket length: use a whole number and ms, s, m, h or d, as in 90m")
    else:
        yield from _of_duration(at, text, "date_histogram.FixedInterval")


def _of_duration(at: str, text: str, setting: str) -> Iterator[Problem]:
    try:
        value = parse_time_value(text, setting)
    except ValueError as error:
        yield Problem(at, f"{error}: use a whole number and a unit, as in 90m")
        return
    if value.milliseconds < 0:
        yield Problem(at, f"'{text}' is negative: use 0 or more")
    elif value.milliseconds > _LONGEST_DAYS * _DAY_MS:
        yield Problem(at, f"'{text}' is too long: use at most {_LONGEST_DAYS}d")


def _of_metrics(spec: RollupJobSpec) -> Iterator[Problem]:
    yield from _duplicates("spec.metrics", [metric.field for metric in spec.metrics], of=".field")
    for index, metric in enumerate(spec.metrics):
        at = f"spec.metrics[{index}].metrics"
        yield from _duplicates(at, metric.metrics)
        wrong = [name for name in metric.metrics if name not in DATE_METRICS]
        if metric.field == spec.groups.date_histogram.field and wrong:
            yield Problem(
                at, f"a date has no {' and no '.join(wrong)}: of '{metric.field}' keep only {', '.join(DATE_METRICS)}"
            )


def _of_times(spec: RollupJobSpec) -> Iterator[Problem]:
    found: dict[str, int] = {}
    for name, text in (("start", spec.start), ("end", spec.end)):
        if text is not None:
            try:
                found[name] = parse_instant(text, name)
            except ValueError as error:
                yield Problem(f"spec.{name}", str(error).removeprefix(f"{name}: "))
    if len(found) == 2 and found["start"] >= found["end"]:
        yield Problem("spec.end", f"'{spec.end}' is not after start, '{spec.start}'")
    if spec.lookback is not None:
        yield from _of_lookback("spec.lookback", spec.lookback, "6h")
    settings = spec.rollup_index_settings
    refresh = settings.refresh_interval if settings is not None else None
    if refresh is not None and refresh != "-1" and not _FIXED_INTERVAL.fullmatch(refresh):
        yield Problem(
            "spec.rollupIndexSettings.refreshInterval", f"'{refresh}' is not a duration: use one such as 30s, or -1"
        )


def _of_lookback(at: str, text: str, example: str) -> Iterator[Problem]:
    if not _FIXED_INTERVAL.fullmatch(text):
        yield Problem(at, f"'{text}' is not a duration above 0: use one such as {example}")
    else:
        yield from _of_duration(at, text, "lookback")


def _of_verify(spec: RollupJobSpec) -> Iterator[Problem]:
    if (verify := spec.verify) is None:
        return
    yield from _of_cron(verify.cron, _VERIFY_CRON)
    if verify.lookback is not None:
        yield from _of_lookback("spec.verify.lookback", verify.lookback, "30d")


def _of_csv(spec: RollupJobSpec) -> Iterator[Problem]:
    if spec.csv is None:
        return
    if not any(part.lower().endswith(CSV_ENDINGS) for part in spec.index_pattern.split(",")):
        yield Problem("spec.csv", f"is for files whose names end in {', '.join(CSV_ENDINGS)}: indexPattern names none")
    yield from _duplicates("spec.csv.columns", [column.name for column in spec.csv.columns], of=".name")
    if spec.csv.delimiter is not None and spec.csv.delimiter in ('"', "'"):
        yield Problem("spec.csv.delimiter", f"is {spec.csv.delimiter}, which quotes texts: use another one, as in ';'")
    if spec.csv.time_format is not None:
        yield from _of_time_format(spec.csv.time_format)


def _of_time_format(text: str) -> Iterator[Problem]:
    at, such = "spec.csv.timeFormat", "use one such as %d/%m/%Y, or %m/%d/%Y %I:%M %p"
    used = set(_DIRECTIVE.findall(text.replace("%%", "")))
    if unknown := used - set(_DIRECTIVES):
        yield Problem(at, f"'{text}' has the directive %{min(unknown)}, which does not exist: {such}")
    elif not ((used & set("Yy") and ("j" in used or (used & set("mbBh") and "d" in used))) or used & set("cx")):
        yield Problem(at, f"'{text}' does not say year, month and day: {such}")


def _duplicates(at: str, values: Iterable[str], of: str = "") -> Iterator[Problem]:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield Problem(f"{at}[{index}]{of}", f"'{value}' occurs twice: remove one")
        seen.add(value)
