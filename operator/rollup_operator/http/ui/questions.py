"""What a chart of a job's data can show, the search that asks for it, and how its answer becomes series. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rollup_operator.http.ui.pictures.charts import ChartSeries
from rollup_operator.model.job import DateHistogramGroup, RollupJobSpec
from rollup_operator.model.time_values import parse_time_value
from rollup_operator.model.times import instant_of, rfc3339

COUNT = "count"
TOGETHER = ""
"""The group of a chart with one series of all documents."""

MOST_GROUPS = 6
"""ChartSeries of a chart: colours that can be told apart."""

MOST_BUCKETS, ENOUGH_BUCKETS = 1_000, 200
"""Of a series. No chart asks for more than the one; one whose interval nobody chose, not for more than the other."""

PERIODS: Mapping[str, timedelta] = {
    "6 hours": timedelta(hours=6),
    "1 day": timedelta(days=1),
    "7 days": timedelta(days=7),
    "30 days": timedelta(days=30),
    "90 days": timedelta(days=90),
    "1 year": timedelta(days=365),
    "5 years": timedelta(days=5 * 365),
}

_LONGEST_MS = 10**14
"""Some 3,000 years: what is longer is as good."""

_FIXED = ("1m", "5m", "10m", "30m", "1h", "3h", "6h", "12h", "1d", "7d", "30d")

_CALENDAR: Mapping[str, tuple[str, timedelta, str]] = {
    "minute": ("1m", timedelta(minutes=1), "hour day week month quarter year"),
    "hour": ("1h", timedelta(hours=1), "day week month quarter year"),
    "day": ("1d", timedelta(days=1), "week month quarter year"),
    "week": ("1w", timedelta(days=7), ""),
    "month": ("1M", timedelta(days=30), "quarter year"),
    "quarter": ("1q", timedelta(days=91), "year"),
    "year": ("1y", timedelta(days=365), ""),
}
"""Of each unit: how it is written, about how long it is, and of which longer ones it is a part."""


@dataclass(frozen=True, slots=True)
class ChartInterval:
    """The length of a chart's buckets."""

    text: str
    length: timedelta
    calendar: bool


@dataclass(frozen=True, slots=True)
class ChartQuestion:
    """One chart: what was chosen, and what else could be."""

    metric: str
    """`count`, or a kind and a field: `avg:temperature`."""
    group: str
    """A field whose values have a series each, or TOGETHER."""
    interval: ChartInterval
    period: str
    begin: datetime
    end: datetime
    metrics: Sequence[str]
    groups: Sequence[str]
    intervals: Sequence[ChartInterval]
    date: DateHistogramGroup

    @classmethod
    def of(
        cls, spec: RollupJobSpec, given: Mapping[str, str], newest: datetime | None, now: datetime
    ) -> "ChartQuestion":
        """Read what was chosen; what the job cannot answer counts as not chosen.

        `newest`: where the last bucket begins that is rolled up. A source without new rows is shown up to a while
        after that.
        """
        date = spec.groups.date_histogram
        possible = _intervals(date)
        own = possible[0]
        metrics = [COUNT, *(f"{kind}:{metric.field}" for metric in spec.metrics for kind in metric.metrics)]
        groups = [TOGETHER, *(spec.groups.terms.fields if spec.groups.terms is not None else ())]
        period = given.get("period", "")
        if period not in PERIODS:
            period = next((name for name, length in PERIODS.items() if length / own.length >= 48), "5 years")
        length = PERIODS[period]
        fitting = [each for each in possible if length / each.length <= MOST_BUCKETS] or possible[-1:]
        usual = next((each for each in fitting if length / each.length <= ENOUGH_BUCKETS), fitting[-1])
        interval = next((each for each in fitting if each.text == given.get("interval")), usual)
        end = now if newest is None else min(now, shifted(shifted(newest, own.length), length / 4))
        return cls(
            metric=_one_of(metrics, given.get("metric")),
            group=_one_of(groups, given.get("group")),
            interval=interval,
            period=period,
            begin=_rounded_down(shifted(end, -length), interval.length),
            end=end,
            metrics=metrics,
            groups=groups,
            intervals=fitting,
            date=date,
        )

    @property
    def words(self) -> str:
        """The metric in words."""
        kind, _, field = self.metric.partition(":")
        return "documents" if self.metric == COUNT else f"{kind} of {field}"

    def body(self) -> dict[str, Any]:
        """Return the search."""
        unit = "calendar_interval" if self.interval.calendar else "fixed_interval"
        times = {"field": self.date.field, unit: self.interval.text, "time_zone": self.date.time_zone}
        aggs: dict[str, Any] = {"times": {"date_histogram": times}}
        if self.metric != COUNT:
            kind, _, field = self.metric.partition(":")
            aggs["times"]["aggs"] = {"value": {kind: {"field": field}}}
        if self.group != TOGETHER:
            aggs = {"groups": {"terms": {"field": self.group, "size": MOST_GROUPS}, "aggs": aggs}}
        bounds = {"gte": rfc3339(self.begin), "lt": rfc3339(self.end)}
        return {"size": 0, "query": {"range": {self.date.field: bounds}}, "aggs": aggs}

    def series(self, answer: Mapping[str, Any]) -> Sequence[ChartSeries]:
        """Return what an answer to the search says."""
        found = answer.get("aggregations") or {}
        if self.group == TOGETHER:
            return [ChartSeries(self.words, self._points(found))]
        return [ChartSeries(_named(each), self._points(each)) for each in found.get("groups", {}).get("buckets", ())]

    def _points(self, of: Mapping[str, Any]) -> Sequence[tuple[datetime, float | None]]:
        return [
            (datetime.fromtimestamp(each["key"] / 1000, UTC), self._value(each))
            for each in of.get("times", {}).get("buckets", ())
        ]

    def _value(self, bucket: Mapping[str, Any]) -> float | None:
        value = bucket["doc_count"] if self.metric == COUNT else bucket["value"]["value"]
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def cut(answer: Mapping[str, Any]) -> datetime | None:
    """Return where the rolled-up part of an answer ends, and the live one begins; None: nothing is rolled up of it."""
    ends = [instant_of(job.get("to")) for job in (answer.get("_rollup") or {}).get("jobs", ())]
    return max((end for end in ends if end is not None), default=None)


def shifted(when: datetime, length: timedelta) -> datetime:
    """Return the instant that much later; the first or the last that there is, for one that is beyond."""
    try:
        return when + length
    except OverflowError:  # a source may have rows of the years 1 and 9999
        return (datetime.max if length > timedelta() else datetime.min).replace(tzinfo=UTC)


def _intervals(date: DateHistogramGroup) -> list[ChartInterval]:
    """Return the intervals that a job can answer, its own first."""
    if date.calendar_interval is not None:
        unit = next((name for name, (text, _, _) in _CALENDAR.items() if date.calendar_interval in (name, text)), "day")
        names = [unit, *_CALENDAR[unit][2].split()]
        return [ChartInterval(_CALENDAR[name][0], _CALENDAR[name][1], calendar=True) for name in names]
    own = _length(date.fixed_interval or "1h")
    longer = [(text, _length(text)) for text in _FIXED]
    return [
        ChartInterval(date.fixed_interval or "1h", own, calendar=False),
        *(ChartInterval(text, length, calendar=False) for text, length in longer if length > own and not length % own),
    ]


def _length(text: str) -> timedelta:
    return timedelta(milliseconds=min(parse_time_value(text, "interval").milliseconds, _LONGEST_MS))


def _rounded_down(when: datetime, length: timedelta) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return shifted(when, -((when - epoch) % length))


def _one_of(known: Sequence[str], given: str | None) -> str:
    return given if given is not None and given in known else known[0]


def _named(bucket: Mapping[str, Any]) -> str:
    return str(bucket.get("key_as_string", bucket.get("key")))
