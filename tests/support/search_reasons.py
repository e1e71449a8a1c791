"""Whether what a refusal says of a job is so, worked out from the job's spec alone."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from rollup_operator.rollup.identity import JobConfig
from support.random_worlds import FIELDS
from support.rounding import DAY, HOUR, MINUTE, ms, round_fixed, round_long_unit, round_short_unit

Body = dict[str, Any]

_NEEDS: Mapping[str, set[str]] = {
    "min": {"min"},
    "max": {"max"},
    "sum": {"sum", "avg"},
    "value_count": {"value_count", "avg"},
}
"""What a job must keep of a field for a metric: one of these."""
_PARTS: Mapping[str, tuple[str, ...]] = {"avg": ("sum", "value_count"), "stats": tuple(_NEEDS)}
_LIMITS = re.compile(
    "The buckets of time lie in|Trying to create too many buckets"
    "|the search takes a request of more than|a search may name at most"
)
_UNANSWERABLE = re.compile(r"aggregation \[(.*?)\] of type \[(.*?)\] cannot be answered over rolled-up data: .{10}")
_UNITS = {"m": MINUTE, "h": HOUR, "d": DAY}


def is_true(
    reason: str,
    body: Body,
    jobs: Mapping[str, JobConfig],
    several: Collection[str] | None = (),
    *,
    alone: bool = False,
) -> bool | None:
    """Return whether the reason is true; None: only a node can tell, which must refuse the body as well.

    `several`: fields of which a row has several values; None: any may, since rows are gone. `alone`: whether rows were
    left out of the search.
    """
    if _LIMITS.match(reason):
        return True
    if (found := _UNANSWERABLE.match(reason)) is not None:
        return found[2] not in FIELDS and found[2] in json.dumps(body)
    if reason.startswith("rolled-up data has no single documents"):
        return bool(body.get("size", 10) > 0)
    if (found := re.match(r"Job \[(.*?)\] cannot answer this exactly: (.*)", reason)) is None:
        return None
    job = jobs.get(found[1])
    if m := re.match(r"a metric of field \[(.*?)\] has \[missing\].*, (some are gone|none is|some have)", found[2]):
        why = {"some are gone": several is None, "none is": alone, "some have": several is None or m[1] in several}
        return why[m[2]] and '"missing"' in json.dumps(body)
    return job is not None and _is_true_of(job, found[2], json.dumps(body))


def _is_true_of(job: JobConfig, why: str, body: str) -> bool:
    groups = job.spec.groups
    histogram, time = groups.histogram, groups.date_histogram
    terms = groups.terms.fields if groups.terms else []
    widths = histogram.fields if histogram else []
    if (m := re.match(r"field \[(.*?)\] (?:in \[\w+\] query )?is none of its groups, \[(.*?)\]", why)) is not None:
        return m[1] not in (time.field, *widths, *terms) and m[2] == ", ".join([time.field, *widths, *terms])
    if (m := re.match(r"aggregation \[(.*?)\]: \[(.*?)\] is none of its groups\.(\w+)", why)) is not None:
        return m[2] not in (terms if m[3] == "terms" else [*widths, *terms])
    if (m := re.match(r"(?:aggregation \[.*?\]: )?\[(.*?)\] is rolled up into buckets of (\d+): ", why)) is not None:
        return histogram is not None and m[1] in widths and m[1] not in terms and int(m[2]) == histogram.interval
    if (m := re.match(r"aggregation \[.*?\] is \[(.*?)\]( with \[missing\])? of field \[(.*?)\]", why)) is not None:
        kept = {kind for metric in job.spec.metrics if metric.field == m[3] for kind in metric.metrics}
        if m[3] in terms:
            kept |= {"min", "max"}
        needed = [*_PARTS.get(m[1], (m[1],)), *(["value_count"] if m[2] else [])]
        return any(not kept & _NEEDS[part] for part in needed)
    if (
        m := re.match(r"a bucket of aggregation \[.*?\] would begin at (\S+?)Z, within one of the job's", why)
    ) is not None:
        return _bucket(job, ms(m[1])) != ms(m[1])
    if re.match(r"\[ts\] is asked for single times", why):
        return '"ts"' in body or "ts:" in body
    return False


def _bucket(job: JobConfig, instant: int) -> int:
    """Return where a job's bucket of an instant begins."""
    time = job.spec.groups.date_histogram
    zone, shift = time.time_zone, 0
    if zone[0] in "+-":
        hours, minutes = zone[1:].split(":")
        shift = (int(hours) * HOUR + int(minutes) * MINUTE) * (-1 if zone[0] == "-" else 1)
        zone = "UTC"
    instant += shift
    if time.fixed_interval is not None:
        step = int(time.fixed_interval[:-1]) * _UNITS[time.fixed_interval[-1]]
        return round_fixed(instant, step, zone) - shift
    unit = {"1h": "hour", "1d": "day", "1w": "week", "1M": "month"}[str(time.calendar_interval)]
    if unit == "hour":
        return round_short_unit(instant, HOUR, zone) - shift
    return round_long_unit(instant, unit, zone) - shift
