"""What the bench of searches asks: the rows, the job over them, and each chart as one would write it by hand.

rows of 31 days │ rolled up ──────────────── 30 days ─▶│ live ── 1 day ─▶│
                     └── the chart ─────────────────────────────────────┘
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

HOUR = 3_600_000
DAY = 24 * HOUR
CARRIERS, ROUTES = 10, 50
"""With 720 hours: 360,000 documents."""
INDEX, ROLLED, JOB = "rows", "rolled", "chart"
UNROLLED = "row*"
"""Another pattern of the same rows, so that it is another source: of it nothing is rolled up."""

Body = dict[str, Any]


@dataclass(frozen=True)
class Span:
    """The times of the rows."""

    begin: datetime

    @classmethod
    def until_today(cls) -> "Span":
        """Return whole days up to the last midnight, as a dashboard's data would be."""
        return cls(datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=31))

    @property
    def begin_ms(self) -> int:
        return int(self.begin.timestamp()) * 1000

    @property
    def cut_ms(self) -> int:
        """Where the live rows begin."""
        return self.begin_ms + 30 * DAY

    @property
    def end_ms(self) -> int:
        return self.begin_ms + 31 * DAY


def spec(store: str, pattern: str, span: Span, **changes: Any) -> Body:
    """Return the job of the chart: by hours, carriers and routes."""
    return {
        "desiredState": "started",
        "storeRef": {"name": store},
        "indexPattern": pattern,
        "rollupIndex": ROLLED,
        "cron": "0 0 0 1 1 ? 2099",
        "end": (span.begin + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "groups": {
            "dateHistogram": {"field": "ts", "fixedInterval": "1h"},
            "terms": {"fields": ["carrier", "route"]},
        },
        "metrics": [{"field": "delay", "metrics": ["min", "max", "sum", "avg", "value_count"]}],
        **changes,
    }


def within(span: Span, shift: int) -> tuple[int, int]:
    """Return the time of a chart. Each has a time of its own, so that no cache knows the answer."""
    return span.begin_ms + DAY + shift % (10 * 24) * HOUR, span.end_ms


def chart(span: Span, shift: int, interval: str = "1d", by: str = "carrier", metric: str = "avg") -> Body:
    """Return a chart over the time of all rows, in the source's names: days, ten terms each, and a metric."""
    begin, end = within(span, shift)
    return {
        "size": 0,
        "query": {"range": {"ts": {"gte": begin, "lt": end, "format": "epoch_millis"}}},
        "aggs": {
            "times": {
                "date_histogram": {"field": "ts", "fixed_interval": interval, "min_doc_count": 1},
                "aggs": {
                    "terms": {
                        "terms": {"field": by, "size": 10},
                        "aggs": {"metric": {metric: {"field": "delay"}}},
                    }
                },
            }
        },
    }


PANELS = tuple(
    (interval, by, metric)
    for interval in ("6h", "12h", "1d", "2d", "7d")
    for by, metric in (("carrier", "avg"), ("carrier", "max"), ("route", "avg"), ("carrier", "sum"))
)
"""Of a dashboard, each unlike the others."""


def panels(span: Span, shift: int) -> list[Body]:
    """Return the charts of a dashboard."""
    return [chart(span, shift, *panel) for panel in PANELS]


def by_hand(span: Span, asked: Body) -> tuple[Body, Body]:
    """Return what a chart takes of a cluster at the least: of the job's documents, and of the live rows."""
    times = asked["aggs"]["times"]
    by, (metric,) = times["aggs"]["terms"]["terms"]["field"], times["aggs"]["terms"]["aggs"]["metric"].items()
    begin = asked["query"]["range"]["ts"]["gte"]
    histogram = times["date_histogram"]
    count = {"docs": {"sum": {"field": "ts.date_histogram._count"}}}
    numbers = {f"n{i}": {of: {"field": name}} for i, (of, name) in enumerate(_kept(metric[0]))}
    rolled = {
        "size": 0,
        "track_total_hits": False,
        "query": _all_of(
            {"term": {"_rollup.id": JOB}},
            {"range": {"ts.date_histogram.timestamp": {"gte": begin, "lt": span.cut_ms, "format": "epoch_millis"}}},
        ),
        "aggs": {
            "times": {
                "date_histogram": {**histogram, "field": "ts.date_histogram.timestamp"},
                # Ten of ten, or fifty of fifty: of those of the most rows one has to know all.
                "aggs": {
                    "terms": {"terms": {"field": f"{by}.terms.value", "size": ROUTES}, "aggs": {**numbers, **count}},
                    **count,
                },
            },
            **count,
        },
    }
    live = {
        **asked,
        "track_total_hits": True,
        "query": {"range": {"ts": {"gte": span.cut_ms, "lt": span.end_ms, "format": "epoch_millis"}}},
        "aggs": {
            "times": {
                "date_histogram": histogram,
                "aggs": {
                    "terms": {
                        "terms": {"field": by, "size": ROUTES},
                        "aggs": {"metric": {"stats" if metric[0] == "avg" else metric[0]: {"field": "delay"}}},
                    }
                },
            }
        },
    }
    return rolled, live


def _kept(metric: str) -> list[tuple[str, str]]:
    if metric == "avg":
        return [("sum", "delay.avg.value"), ("sum", "delay.avg._count")]
    return [(metric, f"delay.{metric}.value")]


def _all_of(*of: Body) -> Body:
    return {"bool": {"filter": list(of)}}


def sql(span: Span, shift: int, rolled: str, live: str) -> str:
    """Return the chart as one statement over the exported result and the source."""
    begin, _ = within(span, shift)
    time = '"ts.date_histogram.timestamp"'
    return f"""
        SELECT epoch_ms(day), carrier, sum(n) AS docs, sum(s) / sum(c) AS average FROM (
            SELECT time_bucket(INTERVAL '1 day', {time}) AS day, "carrier.terms.value" AS carrier,
                "ts.date_histogram._count" AS n, "delay.avg.value" AS s, "delay.avg._count" AS c
            FROM '{rolled}' WHERE {time} >= epoch_ms({begin}) AND {time} < epoch_ms({span.cut_ms})
            UNION ALL
            SELECT time_bucket(INTERVAL '1 day', ts), carrier, count(*), sum(delay), count(delay)
            FROM '{live}' WHERE ts >= epoch_ms({span.cut_ms}) AND ts < epoch_ms({span.end_ms}) GROUP BY ALL
        ) GROUP BY ALL ORDER BY ALL"""


def raw_sql(span: Span, shift: int, live: str) -> str:
    """Return the chart as a statement over all rows."""
    begin, end = within(span, shift)
    return f"""
        SELECT epoch_ms(time_bucket(INTERVAL '1 day', ts)) AS day, carrier, count(*) AS docs, avg(delay) AS average
        FROM '{live}' WHERE ts >= epoch_ms({begin}) AND ts < epoch_ms({end}) GROUP BY ALL ORDER BY ALL"""


def rows_of(span: Span, rows: int, at: str) -> str:
    """Return a query for the rows, in the order of time. `at` makes a time of the milliseconds `ms`."""
    return f"""
        SELECT {at.format(ms=f"({span.begin_ms} + i * {31 * DAY} // {rows})")} AS ts,
            'c' || hash(i) % {CARRIERS} AS carrier, 'r' || hash(i * 7) % {ROUTES} AS route,
            (hash(i * 13) % 1000000) / 1000.0 AS delay
        FROM range({rows}) r(i)"""
