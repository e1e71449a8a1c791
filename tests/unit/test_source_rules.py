"""The mapping rules of section 4: each row, in Elasticsearch's words."""

from typing import Any

import pytest

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.rollup.source_rules import SourceField, broken_rules, check_rules
from support.bodies import job

GOOD = {"ts": {"date"}, "size": {"long"}, "host": {"keyword"}, "load": {"double"}, "seen": {"date"}}


def spec(**changes: Any) -> RollupJobSpec:
    whole = {
        "indexPattern": "logs-*",
        "rollupIndex": "logs",
        "cron": "0 0 * * * ?",
        "groups": {
            "dateHistogram": {"field": "ts", "fixedInterval": "1h"},
            "histogram": {"fields": ["size"], "interval": 5},
            "terms": {"fields": ["host"]},
        },
        "metrics": [{"field": "load", "metrics": ["min", "avg"]}, {"field": "seen", "metrics": ["max"]}],
    }
    return RollupJobSpec.model_validate(whole | changes)


def rules(without: str = "", unaggregatable: str = "", **types: set[str]) -> list[str]:
    given = {name: kinds for name, kinds in (GOOD | types).items() if name != without}
    fields = {name: SourceField(frozenset(kinds), name != unaggregatable) for name, kinds in given.items()}
    return broken_rules(spec(), fields)


NUMERIC_OR_TEXT = "[numeric] or [keyword/text]"
NUMERIC_OR_DATE = "[numeric] or [date,date_nanos]"

ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "date group absent": (
        {"without": "ts"},
        "Could not find one of [date,date_nanos] fields with name [ts] in any of the indices matching the index "
        "pattern.",
    ),
    "date group of another type": (
        {"ts": {"keyword"}},
        "The field referenced by a date_histo group must be one of type [date,date_nanos] across all indices in the "
        "index pattern.  Found: [keyword] for field [ts]",
    ),
    "date group of mixed types": (
        {"ts": {"long", "date"}},
        "The field referenced by a date_histo group must be one of type [date,date_nanos] across all indices in the "
        "index pattern.  Found: [date, long] for field [ts]",
    ),
    "date group not aggregatable": (
        {"unaggregatable": "ts"},
        "The field [ts] must be aggregatable across all indices, but is not.",
    ),
    "histogram absent": (
        {"without": "size"},
        "Could not find a [numeric] field with name [size] in any of the indices matching the index pattern.",
    ),
    "histogram of another type": (
        {"size": {"keyword"}},
        "The field referenced by a histo group must be a [numeric] type, but found [keyword] for field [size]",
    ),
    "histogram not aggregatable": (
        {"unaggregatable": "size"},
        "The field [size] must be aggregatable, but is not.",
    ),
    "terms absent": (
        {"without": "host"},
        f"Could not find a {NUMERIC_OR_TEXT} field with name [host] in any of the indices matching the index pattern.",
    ),
    **{
        f"terms of another type: {kind}": (
            {"host": {kind}},
            f"The field referenced by a terms group must be a {NUMERIC_OR_TEXT} type, but found [{kind}] for field "
            "[host]",
        )
        for kind in ("boolean", "ip", "date", "object", "unsigned_long")
    },
    "terms not aggregatable": (
        {"unaggregatable": "host"},
        "The field [host] must be aggregatable across all indices, but is not.",
    ),
    "metric absent": (
        {"without": "load"},
        f"Could not find a {NUMERIC_OR_DATE} field with name [load] in any of the indices matching the index pattern.",
    ),
    "metric of another type": (
        {"load": {"keyword", "double"}},
        f"The field referenced by a metric group must be a {NUMERIC_OR_DATE} type, but found [double, keyword] for "
        "field [load]",
    ),
    "metric on date": (
        {"load": {"date_nanos"}},
        "Only the metrics [max, min, value_count] are supported for [date_nanos] types, but unsupported metrics [avg] "
        "supplied for field [load]",
    ),
    "metric not aggregatable": (
        {"unaggregatable": "load"},
        "The field [load] must be aggregatable across all indices, but is not.",
    ),
}


@pytest.mark.parametrize(("fields", "message"), ROWS.values(), ids=ROWS)
def test_a_rule_that_is_broken(fields: dict[str, Any], message: str) -> None:
    assert rules(**fields) == [message]


@pytest.mark.parametrize(
    "types",
    [
        {},
        {"ts": {"date", "date_nanos"}},
        {"size": {"integer", "double"}},
        {"size": {"unsigned_long"}},
        {"host": {"text", "keyword"}},
        {"host": {"short"}},
        {"load": {"scaled_float"}},
    ],
)
def test_fields_that_can_be_used(types: dict[str, set[str]]) -> None:
    assert rules(**types) == []


def test_whole_numbers_tell_the_time_where_the_store_reads_them_so() -> None:
    fields = {name: SourceField(frozenset(kinds)) for name, kinds in GOOD.items()}
    fields["ts"] = SourceField(frozenset({"long"}), tells_time=True)
    assert broken_rules(spec(), fields) == []


def test_no_field_that_the_job_names() -> None:
    text = "Could not find any fields in the index/index-pattern that were configured in job"
    assert broken_rules(spec(), {"other": SourceField(frozenset({"long"}))}) == [text]


def test_who_writes_manifests_reads_plain_words() -> None:
    fields = {
        "time": SourceField(frozenset({"date"})),
        "load": SourceField(frozenset({"double"})),
        "host": SourceField(frozenset({"keyword"})),
    }

    def manifest(**spec: Any) -> list[str]:
        return [rule.manifest for rule in check_rules(RollupJobSpec.model_validate(job(**spec)["spec"]), fields)]

    time = {"dateHistogram": {"field": "time", "fixedInterval": "1h"}}
    host = {"dateHistogram": {"field": "host", "fixedInterval": "1h"}}
    assert manifest(groups=host, metrics=None) == [
        "spec.groups.dateHistogram.field: field 'host' is keyword, not a date: there is 'time'"
    ]
    assert manifest(groups=time, metrics=[{"field": "host", "metrics": ["max"]}]) == [
        "spec.metrics: field 'host' is keyword: metrics need numbers or dates. To group by its values, name it in "
        "spec.groups.terms.fields"
    ]
    assert manifest(groups=time, metrics=[{"field": "laod", "metrics": ["max"]}]) == [
        "spec.metrics: the source has no field 'laod': there are 'host', 'load', 'time'"
    ]
