"""Specs of a RollupJob that the CRD refuses, and that the operator must refuse too where an older CRD let them in."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Refusal:
    name: str
    spec: dict[str, Any]
    """Fields that replace those of a valid spec."""
    field: str
    """The field that the refusal names."""


def date(**fields: Any) -> dict[str, Any]:
    """groups with that dateHistogram; None leaves a field out."""
    whole = {"field": "time_hour", "fixedInterval": "1h"} | fields
    return {"dateHistogram": {name: value for name, value in whole.items() if value is not None}}


def metric(**fields: Any) -> list[dict[str, Any]]:
    return [{"field": "distance", "metrics": ["min"]} | fields]


_TEXTS = {
    "jobId": "spec.jobId",
    "indexPattern": "spec.indexPattern",
    "rollupIndex": "spec.rollupIndex",
    "cron": "spec.cron",
    "date-field": "spec.groups.dateHistogram.field",
    "timeZone": "spec.groups.dateHistogram.timeZone",
    "terms": "spec.groups.terms.fields[0]",
    "metric": "spec.metrics[0].field",
    "csv-column": "spec.csv.columns[0].name",
    "csv-null-text": "spec.csv.nullText",
    "csv-time-format": "spec.csv.timeFormat",
}
"""Fields with text of the user's choice."""


CSV = {"indexPattern": "flights/*.csv"}


def _with(field: str, text: str) -> dict[str, Any]:
    match field:
        case "date-field":
            return {"groups": date(field=text)}
        case "timeZone":
            return {"groups": date(timeZone=text)}
        case "terms":
            return {"groups": date() | {"terms": {"fields": [text]}}}
        case "metric":
            return {"metrics": metric(field=text)}
        case "csv-column":
            return CSV | {"csv": {"columns": [{"name": text, "type": "DATE"}]}}
        case "csv-null-text":
            return CSV | {"csv": {"nullText": text}}
        case "csv-time-format":
            return CSV | {"csv": {"timeFormat": text}}
        case _:
            return {field: text}


BY_BOTH = [
    Refusal("desired-state-other-word", {"desiredState": "paused"}, "spec.desiredState"),
    Refusal("desired-state-capital", {"desiredState": "Stopped"}, "spec.desiredState"),
    Refusal("job-id-empty", {"jobId": ""}, "spec.jobId"),
    Refusal("job-id-of-all", {"jobId": "_all"}, "spec.jobId"),
    Refusal("job-id-a-star", {"jobId": "*"}, "spec.jobId"),
    Refusal("job-id-long", {"jobId": "x" * 513}, "spec.jobId"),
    *(
        Refusal(f"{field}-{what}", _with(field, f"a{character}b"), place)
        for what, character in {"escape": "\x1b", "line": "\n", "nul": "\0", "delete": "\x7f", "c1": "\x9b"}.items()
        for field, place in _TEXTS.items()
    ),
    Refusal("store-name-empty", {"storeRef": {"name": ""}}, "spec.storeRef.name"),
    *(
        Refusal(f"store-name-{what}", {"storeRef": {"name": name}}, "spec.storeRef.name")
        for what, name in {
            "path": "../../../../api/v1/namespaces/team-b/secrets/login",
            "dots": "..",
            "slash": "a/b",
            "quoted": "a%2fb",
            "query": "a?watch=true",
            "capital": "Default",
            "line": "default\n",
        }.items()
    ),
    Refusal("store-name-long", {"storeRef": {"name": "x" * 254}}, "spec.storeRef.name"),
    Refusal("pattern-missing", {"indexPattern": None}, "spec.indexPattern"),
    Refusal("pattern-empty", {"indexPattern": ""}, "spec.indexPattern"),
    Refusal("pattern-blank", {"indexPattern": "a b"}, "spec.indexPattern"),
    Refusal("pattern-backslash", {"indexPattern": "a\\Eb"}, "spec.indexPattern"),
    Refusal("pattern-empty-part", {"indexPattern": "a,,b"}, "spec.indexPattern"),
    Refusal("pattern-long", {"indexPattern": "x" * 1025}, "spec.indexPattern"),
    Refusal("pattern-many-stars", {"indexPattern": "a,in/" + "*a" * 9}, "spec.indexPattern"),
    Refusal("pattern-stars-in-a-row", {"indexPattern": f"{'*' * 9}a"}, "spec.indexPattern"),
    Refusal("pattern-star", {"indexPattern": "*"}, "spec.indexPattern"),
    Refusal("pattern-stars-in-list", {"indexPattern": "a,**"}, "spec.indexPattern"),
    Refusal("pattern-all", {"indexPattern": "_all"}, "spec.indexPattern"),
    Refusal("pattern-is-target", {"indexPattern": "target", "rollupIndex": "target"}, "spec.rollupIndex"),
    Refusal("pattern-holds-target", {"indexPattern": "a,target", "rollupIndex": "target"}, "spec.indexPattern"),
    Refusal("pattern-covers-target", {"indexPattern": "logs-*", "rollupIndex": "logs-hourly"}, "spec.indexPattern"),
    Refusal("second-covers-target", {"indexPattern": "a,l*-h*y", "rollupIndex": "logs-hourly"}, "spec.indexPattern"),
    Refusal("folder-of-target", {"indexPattern": "hourly/*.parquet", "rollupIndex": "hourly"}, "spec.indexPattern"),
    Refusal("any-folder", {"indexPattern": "*/*.parquet", "rollupIndex": "hourly"}, "spec.indexPattern"),
    Refusal("target-missing", {"rollupIndex": None}, "spec.rollupIndex"),
    Refusal("target-empty", {"rollupIndex": ""}, "spec.rollupIndex"),
    Refusal("target-capital", {"rollupIndex": "Hourly"}, "spec.rollupIndex"),
    Refusal("target-star", {"rollupIndex": "hour*"}, "spec.rollupIndex"),
    Refusal("target-slash", {"rollupIndex": "a/b"}, "spec.rollupIndex"),
    Refusal("target-dots", {"rollupIndex": "..hourly"}, "spec.rollupIndex"),
    Refusal("target-dash", {"rollupIndex": "-hourly"}, "spec.rollupIndex"),
    Refusal("target-long", {"rollupIndex": "x" * 201}, "spec.rollupIndex"),
    Refusal("cron-missing", {"cron": None}, "spec.cron"),
    Refusal("cron-empty", {"cron": ""}, "spec.cron"),
    Refusal("cron-long", {"cron": "0 " * 129}, "spec.cron"),
    Refusal("verify-without-cron", {"verify": {"mode": "Full"}}, "spec.verify.cron"),
    Refusal("verify-cron-empty", {"verify": {"cron": ""}}, "spec.verify.cron"),
    Refusal("verify-cron-of-unix", {"verify": {"cron": "0 3 * * *"}}, "spec.verify.cron"),
    Refusal("verify-cron-line", {"verify": {"cron": "0 0 3 * * ?\n"}}, "spec.verify.cron"),
    Refusal("verify-hour-25", {"verify": {"cron": "0 0 25 * * ?"}}, "spec.verify.cron"),
    Refusal("verify-lookback-zero", {"verify": {"cron": "0 0 3 * * ?", "lookback": "0d"}}, "spec.verify.lookback"),
    Refusal("verify-lookback-weeks", {"verify": {"cron": "0 0 3 * * ?", "lookback": "2w"}}, "spec.verify.lookback"),
    Refusal("verify-mode", {"verify": {"cron": "0 0 3 * * ?", "mode": "full"}}, "spec.verify.mode"),
    Refusal("page-size-zero", {"pageSize": 0}, "spec.pageSize"),
    Refusal("page-size-large", {"pageSize": 10_001}, "spec.pageSize"),
    Refusal("page-size-word", {"pageSize": "many"}, "spec.pageSize"),
    Refusal("drain-zero", {"drainTimeoutSeconds": 0}, "spec.drainTimeoutSeconds"),
    Refusal("drain-long", {"drainTimeoutSeconds": 86_401}, "spec.drainTimeoutSeconds"),
    Refusal("groups-missing", {"groups": None}, "spec.groups"),
    Refusal("date-missing", {"groups": {"terms": {"fields": ["a"]}}}, "spec.groups.dateHistogram"),
    Refusal("date-field-missing", {"groups": date(field=None)}, "spec.groups.dateHistogram.field"),
    Refusal("date-field-empty", {"groups": date(field="")}, "spec.groups.dateHistogram.field"),
    Refusal("no-interval", {"groups": date(fixedInterval=None)}, "spec.groups.dateHistogram"),
    Refusal("two-intervals", {"groups": date(calendarInterval="1d")}, "spec.groups.dateHistogram"),
    Refusal("fixed-week", {"groups": date(fixedInterval="1w")}, "spec.groups.dateHistogram.fixedInterval"),
    Refusal("fixed-zero", {"groups": date(fixedInterval="0h")}, "spec.groups.dateHistogram.fixedInterval"),
    Refusal("fixed-months", {"groups": date(fixedInterval="5M")}, "spec.groups.dateHistogram.fixedInterval"),
    Refusal(
        "calendar-two-days",
        {"groups": date(fixedInterval=None, calendarInterval="2d")},
        "spec.groups.dateHistogram.calendarInterval",
    ),
    Refusal("delay-bare", {"groups": date(delay="10")}, "spec.groups.dateHistogram.delay"),
    Refusal("delay-negative", {"groups": date(delay="-1s")}, "spec.groups.dateHistogram.delay"),
    Refusal("zone-empty", {"groups": date(timeZone="")}, "spec.groups.dateHistogram.timeZone"),
    Refusal("zone-long", {"groups": date(timeZone="x" * 65)}, "spec.groups.dateHistogram.timeZone"),
    Refusal("terms-none", {"groups": date() | {"terms": {"fields": []}}}, "spec.groups.terms.fields"),
    Refusal("terms-missing", {"groups": date() | {"terms": {}}}, "spec.groups.terms.fields"),
    Refusal("terms-twice", {"groups": date() | {"terms": {"fields": ["a", "a"]}}}, "spec.groups.terms.fields[1]"),
    Refusal(
        "terms-many",
        {"groups": date() | {"terms": {"fields": [f"f{i}" for i in range(65)]}}},
        "spec.groups.terms.fields",
    ),
    Refusal(
        "histogram-no-width", {"groups": date() | {"histogram": {"fields": ["a"]}}}, "spec.groups.histogram.interval"
    ),
    Refusal(
        "histogram-width-zero",
        {"groups": date() | {"histogram": {"fields": ["a"], "interval": 0}}},
        "spec.groups.histogram.interval",
    ),
    Refusal("metric-field-missing", {"metrics": [{"metrics": ["min"]}]}, "spec.metrics[0].field"),
    Refusal("metric-none", {"metrics": metric(metrics=[])}, "spec.metrics[0].metrics"),
    Refusal("metric-unknown", {"metrics": metric(metrics=["median"])}, "spec.metrics[0].metrics[0]"),
    Refusal("metric-twice", {"metrics": metric(metrics=["min", "min"])}, "spec.metrics[0].metrics[1]"),
    Refusal("metric-field-twice", {"metrics": metric() + metric(metrics=["max"])}, "spec.metrics[1]"),
    Refusal("metrics-many", {"metrics": [{"field": f"f{i}", "metrics": ["min"]} for i in range(257)]}, "spec.metrics"),
    Refusal("start-day", {"start": "2024-01-01"}, "spec.start"),
    Refusal("start-no-zone", {"start": "2024-01-01T00:00:00.0"}, "spec.start"),
    Refusal("end-no-such-day", {"end": "2024-02-30T00:00:00Z"}, "spec.end"),
    Refusal("end-is-start", {"start": "2024-01-02T00:00:00Z", "end": "2024-01-02T01:00:00+01:00"}, "spec.end"),
    Refusal("end-before-start", {"start": "2024-01-02T00:00:00Z", "end": "2024-01-01T00:00:00Z"}, "spec.end"),
    Refusal("lookback-zero", {"lookback": "0h"}, "spec.lookback"),
    Refusal("lookback-months", {"lookback": "1M"}, "spec.lookback"),
    Refusal("lookback-bare", {"lookback": "60"}, "spec.lookback"),
    Refusal("parallelism-zero", {"parallelism": 0}, "spec.parallelism"),
    Refusal("parallelism-large", {"parallelism": 17}, "spec.parallelism"),
    Refusal("no-shards", {"rollupIndexSettings": {"numberOfShards": 0}}, "spec.rollupIndexSettings.numberOfShards"),
    Refusal("codec", {"rollupIndexSettings": {"codec": "zip"}}, "spec.rollupIndexSettings.codec"),
    Refusal(
        "refresh-never", {"rollupIndexSettings": {"refreshInterval": "0s"}}, "spec.rollupIndexSettings.refreshInterval"
    ),
    Refusal("csv-type", CSV | {"csv": {"columns": [{"name": "a", "type": "TEXT"}]}}, "spec.csv.columns[0].type"),
    Refusal("csv-column-twice", CSV | {"csv": {"columns": [{"name": "a", "type": "DATE"}] * 2}}, "spec.csv.columns[1]"),
    Refusal("csv-delimiter-none", CSV | {"csv": {"delimiter": ""}}, "spec.csv.delimiter"),
    Refusal("csv-delimiter-long", CSV | {"csv": {"delimiter": ";;;;;"}}, "spec.csv.delimiter"),
    Refusal("csv-time-format-none", CSV | {"csv": {"timeFormat": ""}}, "spec.csv.timeFormat"),
    Refusal("csv-null-text-none", CSV | {"csv": {"nullText": ""}}, "spec.csv.nullText"),
    Refusal("deletion-policy", {"deletionPolicy": "Keep"}, "spec.deletionPolicy"),
]
