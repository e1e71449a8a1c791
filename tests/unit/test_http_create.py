"""The creation call: what it sends to the API server, and what it answers to each fault."""

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from rollup_operator.http.access.permits import EndpointAction
from rollup_operator.http.api import create
from rollup_operator.http.job_config import source_check
from rollup_operator.kube.client import KubeError, NotFound, Unreachable
from rollup_operator.kube.paths import jobs_path, stores_path
from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.stores.base import RollupIndex
from rollup_operator.stores.errors import ForbiddenSource, StoreError, StoreUnavailable
from support.access_double import Anybody
from support.bodies import hourly, sensor
from support.http_calls import Client, call, deepest, error, served
from support.http_double import Cluster

PATH = "/_rollup/job/sensor"
DONE = (200, {"acknowledged": True})
ANNOTATIONS = ("rollup-operator.dev/creation-timeout", "rollup-operator.dev/creation-id")


async def created(client: Client, cluster: Cluster, path: str = PATH, **fields: Any) -> dict[str, Any]:
    """Create a job and return what was sent to the API server."""
    assert await call(client, "PUT", path, sensor(**fields)) == DONE
    return cluster.posted[-1]


# What is created


async def test_a_configuration_becomes_a_stopped_job_in_one_write(client: Client, cluster: Cluster) -> None:
    body = await created(client, cluster)
    timeout, mine = (body["metadata"]["annotations"].pop(name) for name in ANNOTATIONS)
    assert timeout == "20s"
    assert len(mine) == 32
    assert body == {
        "apiVersion": "rollup-operator.dev/v1alpha1",
        "kind": "RollupJob",
        "metadata": {"name": "sensor", "annotations": {}},
        "spec": {
            "desiredState": "stopped",
            "indexPattern": "sensor-*",
            "rollupIndex": "sensor_rollup",
            "cron": "*/30 * * * * ?",
            "pageSize": 1000,
            "groups": {
                "dateHistogram": {"field": "timestamp", "fixedInterval": "1h", "delay": "7d"},
                "terms": {"fields": ["node"]},
            },
            "metrics": [{"field": "temperature", "metrics": ["min", "max", "sum"]}],
        },
        "manager": "rollup-api",
    }
    assert len(cluster.posted) == 1
    assert cluster.applied == []


@pytest.mark.parametrize("base", ["/_rollup", "/_xpack/rollup"])
@pytest.mark.parametrize("space", ["", "/namespaces/other"])
async def test_every_path_of_old_and_new_clients(client: Client, cluster: Cluster, base: str, space: str) -> None:
    namespace = "other" if space else "default"
    cluster.shelves[namespace, "default"] = cluster.shelf
    await created(client, cluster, f"{space}{base}/job/sensor/")
    assert jobs_path(namespace, "sensor") in cluster.objects


async def test_the_job_is_there_for_the_next_call_although_the_watch_lags(
    client: Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(create, "SEEN_SECONDS", 0.05)
    cluster.lags = True
    for job_id in ("sensor", "Sensor%20Data"):
        path = f"/_rollup/job/{job_id}"
        await created(client, cluster, path)
        assert len((await call(client, "GET", path))[1]["jobs"]) == 1
        assert await call(client, "POST", f"{path}/_start") == (200, {"started": True})


async def test_the_answer_waits_until_lists_show_the_job(client: Client, cluster: Cluster) -> None:
    cluster.lags = True
    put = asyncio.create_task(call(client, "PUT", PATH, sensor()))
    async with asyncio.timeout(5):
        while not any(cluster.listeners.values()):
            await call(client, "GET", "/healthz")
    assert not put.done()
    cluster.tell(jobs_path("default", "sensor"))
    assert await put == DONE
    assert len((await call(client, "GET", "/_rollup/job/_all"))[1]["jobs"]) == 1


async def test_an_id_that_is_no_resource_name_is_kept_and_its_name_is_always_the_same(
    client: Client, cluster: Cluster
) -> None:
    body = await created(client, cluster, "/_rollup/job/Sensor%20Data%2F1")
    assert body["spec"]["jobId"] == "Sensor Data/1"
    assert body["metadata"]["name"] == "sensor-data-1-43a357f553"
    assert (await call(client, "GET", "/_rollup/job/Sensor%20Data%2F1"))[1]["jobs"][0]["config"][
        "id"
    ] == "Sensor Data/1"


ODD_IDS = [
    "Zähler",
    "...",
    "-a",
    "x" * 300,
    "_",
    "日本",
    "{a}",
    "{",
    "}{",
    "{id}",
    'a b"c<d>',
    "100%",
    "\\|^~[`]",
    "a%2Fb",
    "🦜",
]


@pytest.mark.parametrize("job_id", ODD_IDS)
async def test_any_id_can_be_created_shown_started_stopped_and_deleted(
    client: Client, cluster: Cluster, job_id: str
) -> None:
    path = f"/_rollup/job/{quote(job_id, safe='')}"
    body = await created(client, cluster, path)
    assert body["spec"]["jobId"] == job_id
    assert (await call(client, "GET", path))[1]["jobs"][0]["config"]["id"] == job_id
    assert (await call(client, "GET", f"/_rollup/data/{quote(job_id, safe='')}"))[0] == 200
    for action in ("_start", "_stop"):
        assert (await call(client, "POST", f"{path}/{action}"))[0] == 200
    assert (await call(client, "DELETE", path))[0] == 200


async def test_a_name_that_another_job_has_is_left_to_it(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", jobId="something else")
    body = await created(client, cluster)
    assert body["metadata"]["name"].startswith("sensor-")
    assert body["spec"]["jobId"] == "sensor"
    cluster.known.clear()
    assert len((await call(client, "GET", PATH))[1]["jobs"]) == 1


async def test_an_id_in_the_body_wins_over_the_one_of_the_path(client: Client, cluster: Cluster) -> None:
    assert (await created(client, cluster, id="other"))["metadata"]["name"] == "other"


@pytest.mark.parametrize(
    ("timeout", "kept"), [("1m", "1m"), (" 10 S", "10s"), ("0", "0ms"), ("-1", "-1"), (None, "20s")]
)
async def test_the_timeout_is_kept_as_an_annotation_and_shown(
    client: Client, cluster: Cluster, timeout: str | None, kept: str
) -> None:
    body = await created(client, cluster, timeout=timeout)
    assert body["metadata"]["annotations"][ANNOTATIONS[0]] == kept
    assert (await call(client, "GET", PATH))[1]["jobs"][0]["config"]["timeout"] == kept


# Intervals and zones


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ({"interval": "1h"}, {"calendarInterval": "1h"}),
        ({"interval": "day"}, {"calendarInterval": "day"}),
        ({"interval": "60m"}, {"fixedInterval": "60m"}),
        ({"interval": "1s"}, {"fixedInterval": "1s"}),
        ({"calendar_interval": "1M"}, {"calendarInterval": "1M"}),
        ({"calendar_interval": "second"}, {"fixedInterval": "1s"}),
        ({"fixed_interval": "90m"}, {"fixedInterval": "90m"}),
        ({"fixed_interval": "1D"}, {"fixedInterval": "1d"}),
    ],
)
async def test_intervals(client: Client, cluster: Cluster, given: dict[str, str], becomes: dict[str, str]) -> None:
    body = await created(client, cluster, groups=hourly(**{"fixed_interval": None} | given), metrics=None)
    assert body["spec"]["groups"]["dateHistogram"] == {"field": "timestamp"} | becomes


@pytest.mark.parametrize(
    ("zone", "becomes"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        ("", None),
        (None, None),
        ("+05:30", "+05:30"),
        ("PST", "America/Los_Angeles"),
    ],
)
async def test_zones(client: Client, cluster: Cluster, zone: str | None, becomes: str | None) -> None:
    groups = hourly()
    groups["date_histogram"]["time_zone"] = zone
    body = await created(client, cluster, groups=groups)
    assert body["spec"]["groups"]["dateHistogram"].get("timeZone") == becomes


async def test_obsolete_iana_zone(client: Client, cluster: Cluster) -> None:
    body = sensor(groups=hourly(time_zone="US/Pacific"))
    async with client.put(PATH, json=body) as answer:
        assert (answer.status, await answer.json()) == DONE
        assert answer.headers["Warning"] == (
            '299 rollup-operator "Creating Rollup job [sensor] with timezone [US/Pacific], but [US/Pacific] has been '
            'deprecated by the IANA.  Use [America/Los_Angeles] instead."'
        )
    async with client.put("/_rollup/job/other", json=sensor(groups=hourly(time_zone="Europe/Copenhagen"))) as answer:
        assert answer.status == 200
        assert "Warning" not in answer.headers


# Table 1.5, and section 4: every row is a test


AT = "[1:{}] [xpack/rollup/jobconfig] "
ARGUMENT = "illegal_argument_exception"
PARSE = "x_content_parse_exception"

ROWS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    # name: fields, deepest type, deepest reason, way
    "unknown field": ({"headers": {}}, PARSE, "unknown field [headers]", ""),
    "unknown field with a likely name": ({"crn": 1}, PARSE, "unknown field [crn] did you mean [cron]?", ""),
    "unknown field within": (
        {"groups": hourly(zone="UTC")},
        PARSE,
        "[date_histogram] unknown field [zone]",
        "groups",
    ),
    "id empty": ({"id": ""}, ARGUMENT, "Id must be a non-null, non-empty string", "id"),
    "id of all": ({"id": "_all"}, ARGUMENT, "Id must not be [_all], which means all jobs", "id"),
    "index_pattern empty": (
        {"index_pattern": ""},
        ARGUMENT,
        "Index pattern must be a non-null, non-empty string",
        "index_pattern",
    ),
    **{
        f"index_pattern matches all: {pattern}": (
            {"index_pattern": pattern},
            ARGUMENT,
            "Index pattern must not match all indices (as it would match it's own rollup index",
            "index_pattern",
        )
        for pattern in ("*", "_all", "**", "sensor-*,*")
    },
    "index_pattern hits target": (
        {"rollup_index": "sensor-rollup"},
        ARGUMENT,
        "Index pattern would match rollup index name which is not allowed",
        "index_pattern",
    ),
    "index_pattern equals target": (
        {"index_pattern": "sensor", "rollup_index": "sensor"},
        ARGUMENT,
        "Rollup index may not be the same as the index pattern",
        "rollup_index",
    ),
    "rollup_index empty": (
        {"rollup_index": ""},
        ARGUMENT,
        "Rollup index must be a non-null, non-empty string",
        "rollup_index",
    ),
    "rollup_index in upper case": (
        {"rollup_index": "Out"},
        ARGUMENT,
        "must be in lower case: 'out' would do",
        "rollup_index",
    ),
    "cron empty": ({"cron": ""}, ARGUMENT, "Cron schedule must be a non-null, non-empty string", "cron"),
    "cron of Unix": (
        {"cron": "00 14 * * *"},
        ARGUMENT,
        "invalid cron expression [00 14 * * *]: expression: '00 14 * * *' has 5 fields, as Unix cron writes them",
        "cron",
    ),
    "cron with a wrong part": (
        {"cron": "0 61 * * * ?"},
        ARGUMENT,
        "invalid cron expression [0 61 * * * ?]: minutes: '61' is not a value of this field: use 0 to 59",
        "cron",
    ),
    "page_size zero": (
        {"page_size": 0},
        ARGUMENT,
        "Page size is mandatory and  must be a positive long",
        "page_size",
    ),
    "page_size too large": (
        {"page_size": 10_001},
        ARGUMENT,
        "Page size is [10001], but must be at most [10000]",
        "page_size",
    ),
    "page_size a fraction": (
        {"page_size": 1.5},
        ARGUMENT,
        "1.5 cannot be converted to Integer without data loss",
        "page_size",
    ),
    "page_size a word": ({"page_size": "many"}, "number_format_exception", 'For input string: "many"', "page_size"),
    "page_size of another type": (
        {"page_size": []},
        PARSE,
        "page_size doesn't support values of type: START_ARRAY",
        "",
    ),
    "cron of another type": ({"cron": 5}, PARSE, "cron doesn't support values of type: VALUE_NUMBER", ""),
    "groups and metrics missing": (
        {"groups": None, "metrics": None},
        ARGUMENT,
        "At least one grouping or metric must be configured",
        "Failed to build",
    ),
    "groups missing": ({"groups": None}, ARGUMENT, "Required [groups]", "Failed to build"),
    "date_histogram missing": (
        {"groups": {"terms": {"fields": ["node"]}}},
        ARGUMENT,
        "Required [date_histogram]",
        "groups",
    ),
    "required fields missing": (
        {"cron": None, "page_size": None},
        ARGUMENT,
        "Required [cron, page_size]",
        "Failed to build",
    ),
    "timeout without a unit": (
        {"timeout": "10"},
        ARGUMENT,
        "failed to parse setting [timeout] with value [10] as a time value: unit is missing or unrecognized",
        "timeout",
    ),
    "timeout negative": (
        {"timeout": "-2s"},
        ARGUMENT,
        "failed to parse setting [timeout] with value [-2s] as a time value: negative durations are not supported",
        "timeout",
    ),
    "date_histogram.field empty": (
        {"groups": hourly(field="")},
        ARGUMENT,
        "Field must be a non-null, non-empty string",
        "groups",
    ),
    "date_histogram.field missing": ({"groups": hourly(field=None)}, ARGUMENT, "Required [field]", "groups"),
    "fixed_interval junk": (
        {"groups": hourly(fixed_interval="abc")},
        ARGUMENT,
        "failed to parse setting [createRounding] with value [abc] as a time value: unit is missing or unrecognized",
        "groups",
    ),
    "fixed_interval of the calendar": (
        {"groups": hourly(fixed_interval="1w")},
        ARGUMENT,
        "failed to parse setting [date_histogram.FixedInterval] with value [1w] as a time value: "
        "unit is missing or unrecognized",
        "groups",
    ),
    "fixed_interval zero": (
        {"groups": hourly(fixed_interval="0s")},
        ARGUMENT,
        "Zero or negative time interval not supported",
        "groups",
    ),
    "calendar_interval of several units": (
        {"groups": hourly(fixed_interval=None, calendar_interval="2d")},
        ARGUMENT,
        "The supplied interval [2d] could not be parsed as a calendar interval.",
        "groups",
    ),
    "interval mixed with a new one": (
        {"groups": hourly(interval="1h")},
        ARGUMENT,
        "Cannot use [interval] with [fixed_interval] or [calendar_interval] configuration options.",
        "groups",
    ),
    "both new intervals": (
        {"groups": hourly(calendar_interval="1h")},
        ARGUMENT,
        "Cannot set both [fixed_interval] and [calendar_interval] at the same time",
        "groups",
    ),
    "no interval": (
        {"groups": hourly(fixed_interval=None)},
        ARGUMENT,
        "An interval is required.  Use [fixed_interval] or [calendar_interval].",
        "groups",
    ),
    "delay fractional": (
        {"groups": hourly(delay="1.5h")},
        ARGUMENT,
        "failed to parse [1.5h], fractional time values are not supported",
        "groups",
    ),
    "delay junk": (
        {"groups": hourly(delay="7")},
        ARGUMENT,
        "failed to parse setting [delay] with value [7] as a time value: unit is missing or unrecognized",
        "groups",
    ),
    "time_zone unknown": (
        {"groups": hourly(time_zone="Mars/Base")},
        "zone_rules_exception",
        "Unknown time-zone ID: Mars/Base: use an IANA name such as Europe/Berlin, or an offset such as +05:30",
        "groups",
    ),
    "time_zone misspelt": (
        {"groups": hourly(time_zone="Europe/Berln")},
        "zone_rules_exception",
        "Unknown time-zone ID: Europe/Berln: did you mean Europe/Berlin? Otherwise use an IANA name",
        "groups",
    ),
    "histogram.interval zero": (
        {"groups": hourly() | {"histogram": {"fields": ["load"], "interval": 0}}},
        ARGUMENT,
        "Interval must be a positive long",
        "groups",
    ),
    "histogram.fields empty": (
        {"groups": hourly() | {"histogram": {"fields": [], "interval": 5}}},
        ARGUMENT,
        "Fields must have at least one value",
        "groups",
    ),
    "terms.fields empty": (
        {"groups": hourly() | {"terms": {"fields": []}}},
        ARGUMENT,
        "Fields must have at least one value",
        "groups",
    ),
    "index_pattern too long": (
        {"index_pattern": ",".join(f"logs-2024.01.{i:02}-{'x' * 15}" for i in range(40))},
        ARGUMENT,
        "Index pattern has [1279] characters, but must have at most [1024]: name many by a *, or by an alias",
        "index_pattern",
    ),
    "metrics.field empty": (
        {"metrics": [{"field": "", "metrics": ["min"]}]},
        ARGUMENT,
        "Field must be a non-null, non-empty string",
        "metrics",
    ),
    "metrics.metrics empty": (
        {"metrics": [{"field": "load", "metrics": []}]},
        ARGUMENT,
        "Metrics must be a non-null, non-empty array of strings",
        "metrics",
    ),
    "metrics.metrics unknown": (
        {"metrics": [{"field": "load", "metrics": ["median"]}]},
        ARGUMENT,
        "Unsupported metric [median]. Supported metrics include: [min, max, sum, avg, value_count]",
        "metrics",
    ),
    "metrics twice": (
        {"metrics": [{"field": "load", "metrics": ["min"]}, {"field": "load", "metrics": ["max"]}]},
        ARGUMENT,
        "'load' occurs twice: remove one",
        "metrics",
    ),
}


@pytest.mark.parametrize("job_id", ["a\r\nSet-Cookie: b", "a\x00", "\x1b[31m", "a\x85"])
async def test_an_id_with_control_characters(client: Client, cluster: Cluster, job_id: str) -> None:
    status, answered = await call(client, "PUT", PATH, sensor(id=job_id))
    assert (status, deepest(answered)["type"]) == (400, ARGUMENT)
    assert "Id must not hold the control character [U+" in answered["error"]["reason"]
    assert cluster.posted == []


@pytest.mark.parametrize(("fields", "type_", "reason", "way"), ROWS.values(), ids=ROWS)
async def test_a_configuration_that_cannot_be_used(
    client: Client, cluster: Cluster, fields: dict[str, Any], type_: str, reason: str, way: str
) -> None:
    status, answered = await call(client, "PUT", PATH, sensor(**fields))
    cause, top = deepest(answered), answered["error"]["reason"]
    assert (status, cause["type"]) == (400, type_)
    assert reason in cause["reason"]
    # The outermost reason tells position and way, and ends with what helps.
    assert top.startswith("[1:")
    assert "[xpack/rollup/jobconfig]" in top
    assert reason.removeprefix("[date_histogram] ") in top
    if way == "Failed to build":
        assert "Failed to build [xpack/rollup/jobconfig] after last required field arrived" in top
    elif way:
        assert f"failed to parse field [{way}]" in top
    assert answered["error"]["root_cause"] == [{"type": answered["error"]["type"], "reason": top}]
    assert cluster.posted == []


async def test_the_way_to_a_fault_is_reported_parser_by_parser(client: Client) -> None:
    text = '{\n  "groups": {"date_histogram": {\n    "field": "t", "fixed_interval": "1h", "delay": "x"}},\n' + (
        '  "index_pattern": "a", "rollup_index": "b", "cron": "0 0 * * * ?", "page_size": 1\n}'
    )
    status, answered = await call(client, "PUT", PATH, data=text, headers={"Content-Type": "application/json"})
    cause = "failed to parse setting [delay] with value [x] as a time value: unit is missing or unrecognized"
    assert status == 400
    assert answered["error"] | {"root_cause": []} == {
        "root_cause": [],
        "type": PARSE,
        "reason": f"[3:52] [xpack/rollup/jobconfig] failed to parse field [groups]: {cause}",
        "caused_by": {
            "type": PARSE,
            "reason": "[3:52] [groups] failed to parse field [date_histogram]",
            "caused_by": {
                "type": PARSE,
                "reason": "[3:52] [date_histogram] failed to parse field [delay]",
                "caused_by": {"type": ARGUMENT, "reason": cause},
            },
        },
    }


UNIT = "failed to parse setting [timeout] with value [{}] as a time value: unit is missing or unrecognized"
NEGATIVE = "failed to parse setting [timeout] with value [{}] as a time value: negative durations are not supported"
FRACTION = "failed to parse [{}], fractional time values are not supported"
PLAIN = "failed to parse [{}]"


@pytest.mark.parametrize(
    ("timeout", "kept"),
    [
        *((f"7{unit}", f"7{unit}") for unit in ("nanos", "micros", "ms", "s", "m", "h", "d")),
        ("5S", "5s"),
        (" 10 s", "10s"),
        ("+5s", "5s"),
        ("00", "0ms"),
        ("-01", "-1"),
        ("-1ms", "-1"),
    ],
)
async def test_time_values_that_are_taken(client: Client, cluster: Cluster, timeout: str, kept: str) -> None:
    body = await created(client, cluster, timeout=timeout)
    assert body["metadata"]["annotations"][ANNOTATIONS[0]] == kept


@pytest.mark.parametrize(
    ("timeout", "text"),
    [
        *((value, UNIT) for value in ("10", "", "1w", "1M", "1y", "abc", "5M", "5m ")),
        ("-2s", NEGATIVE),
        *((value, FRACTION) for value in ("1.5s", "1e3s", "1ds", "99999999999999999999s")),
        *((value, PLAIN) for value in ("s", "xs")),
    ],
)
async def test_time_values_that_are_not(client: Client, timeout: str, text: str) -> None:
    _, answered = await call(client, "PUT", PATH, sensor(timeout=timeout))
    assert deepest(answered) == {"type": ARGUMENT, "reason": text.format(timeout)}


@pytest.mark.parametrize("data", [b"", b"  \n"])
async def test_no_body_or_an_empty_one(client: Client, data: bytes) -> None:
    answer = error(400, "parse_exception", "request body is required")
    assert await call(client, "PUT", PATH, data=data, headers={"Content-Type": "application/json"}) == answer


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"cron": }', "[1:10] Unexpected character ('}' (code 125))"),
        (b'{"cron": "x"', "[1:13] Unexpected end-of-input"),
        (b'{"cron": "x", "cron": "y"}', "[1:15] Duplicate field 'cron'"),
        (b'{"cron": "\xff"}', "[1:11] Invalid UTF-8"),
        (b"[" * 10_000, "[1:66] Too many levels"),
        (b"[]", "[1:1] [xpack/rollup/jobconfig] Expected START_OBJECT but was: START_ARRAY"),
    ],
)
async def test_malformed_json(client: Client, data: bytes, reason: str) -> None:
    status, answered = await call(client, "PUT", PATH, data=data, headers={"Content-Type": "application/json"})
    assert (status, answered["error"]["type"]) == (400, PARSE)
    assert answered["error"]["reason"].startswith(reason)


async def test_parameters_are_refused(client: Client) -> None:
    reason = f"request [{PATH}] contains unrecognized parameter: [timeout]"
    assert await call(client, "PUT", f"{PATH}?timeout=1s", sensor()) == error(400, ARGUMENT, reason)


# The source


async def test_concrete_source_index_absent(client: Client, cluster: Cluster) -> None:
    answer = error(404, "index_not_found_exception", "no such index [weather]")
    assert await call(client, "PUT", PATH, sensor(index_pattern="weather")) == answer
    assert await call(client, "PUT", PATH, sensor(index_pattern="weather-*,weather")) == answer
    assert cluster.posted == []


VALIDATION = "rollup_action_request_validation_exception"
NO_FIELDS = "Validation Failed: 1: Could not find any fields in the index/index-pattern that were configured in job;"


async def test_wildcard_matches_nothing(client: Client) -> None:
    assert await call(client, "PUT", PATH, sensor(index_pattern="weather-*")) == error(400, VALIDATION, NO_FIELDS)


async def test_no_configured_field_anywhere(client: Client, cluster: Cluster) -> None:
    cluster.shelf.has = {"unrelated": SourceField(frozenset({"long"}))}
    assert await call(client, "PUT", PATH, sensor()) == error(400, VALIDATION, NO_FIELDS)


async def test_mapping_rules_are_joined(client: Client, cluster: Cluster) -> None:
    cluster.shelf.has = {"timestamp": SourceField(frozenset({"keyword"}))}
    status, answered = await call(client, "PUT", PATH, sensor())
    assert status == 400
    assert answered["error"]["reason"] == (
        "Validation Failed: "
        "1: The field referenced by a date_histo group must be one of type [date,date_nanos] across all indices in the "
        "index pattern.  Found: [keyword] for field [timestamp];"
        "2: Could not find a [numeric] or [keyword/text] field with name [node] in any of the indices matching the "
        "index pattern.;"
        "3: Could not find a [numeric] or [date,date_nanos] field with name [temperature] in any of the indices "
        "matching the index pattern.;"
    )


async def test_metric_on_the_date_of_the_groups(client: Client, cluster: Cluster) -> None:
    body = sensor(metrics=[{"field": "timestamp", "metrics": ["max", "avg"]}])
    assert await call(client, "PUT", PATH, body) == error(
        400,
        VALIDATION,
        "Validation Failed: 1: Only the metrics [max, min, value_count] are supported for [date] types, but "
        "unsupported metrics [avg] supplied for field [timestamp];",
    )


@pytest.mark.parametrize("failure", [ForbiddenSource("leads out of the folder"), StoreError("no Parquet file")])
async def test_a_source_that_cannot_be_read(client: Client, cluster: Cluster, failure: Exception) -> None:
    cluster.shelf.fail = failure
    assert await call(client, "PUT", PATH, sensor()) == error(400, VALIDATION, f"Validation Failed: 1: {failure};")


# The store


async def test_a_missing_store(client: Client, cluster: Cluster) -> None:
    cluster.shelves.clear()
    assert await call(client, "PUT", PATH, sensor()) == error(
        400, ARGUMENT, "No RollupStore named [default] exists in namespace [default]: create it, then the job"
    )


async def test_a_store_that_is_not_known_here_yet(client: Client, cluster: Cluster) -> None:
    cluster.shelves.clear()
    cluster.objects[stores_path("default", "default")] = {}
    status, answered = await call(client, "PUT", PATH, sensor())
    assert status == 503
    assert "nothing was changed" in answered["error"]["reason"]


async def test_a_store_that_is_down(client: Client, cluster: Cluster) -> None:
    cluster.shelf.fail = StoreUnavailable("locked by process 7")
    status, answered = await call(client, "PUT", PATH, sensor())
    assert status == 503
    assert answered["error"]["reason"] == "RollupStore [default]: locked by process 7; nothing was changed"
    assert cluster.posted == []


async def test_a_store_that_does_not_answer(client: Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: str, **__: object) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(source_check, "STORE_SECONDS", 0.05)
    monkeypatch.setattr(cluster.shelf, "fields", never)
    assert (await call(client, "PUT", PATH, sensor()))[0] == 503
    assert cluster.posted == []


# Ids that are taken


TASK_EXISTS = error(
    409, "status_exception", "Cannot create job [sensor] because it has already been created (task exists)"
)
METADATA_EXISTS = error(
    409,
    "status_exception",
    "Cannot create rollup job [sensor] because job was previously created (existing metadata).",
)


async def test_id_has_a_job_that_the_rollup_index_describes(client: Client, cluster: Cluster) -> None:
    cluster.create("another-name", jobId="sensor")
    assert await call(client, "PUT", PATH, sensor()) == METADATA_EXISTS
    assert cluster.posted == []


async def test_id_has_a_job_with_another_rollup_index(client: Client, cluster: Cluster) -> None:
    cluster.create("another-name", jobId="sensor", rollupIndex="elsewhere")
    assert await call(client, "PUT", PATH, sensor()) == TASK_EXISTS
    assert cluster.posted == []


async def test_id_is_taken_while_the_job_is_created(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor")
    cluster.known.clear()
    cluster.reads.clear()
    assert await call(client, "PUT", PATH, sensor()) == METADATA_EXISTS
    cluster.objects.clear()
    cluster.create("sensor", rollupIndex="elsewhere")
    cluster.known.clear()
    assert await call(client, "PUT", PATH, sensor()) == TASK_EXISTS


async def test_id_has_a_job_that_only_the_api_server_knows(client: Client, cluster: Cluster) -> None:
    await created(client, cluster)
    cluster.known.clear()
    assert (await call(client, "PUT", PATH, sensor()))[0] == 409


async def test_of_many_creations_at_once_one_succeeds(client: Client, cluster: Cluster) -> None:
    answers = await asyncio.gather(*(call(client, "PUT", PATH, sensor()) for _ in range(20)))
    assert sorted(status for status, _ in answers) == [200, *[409] * 19]
    assert len(cluster.objects) == 1


async def test_id_is_in_the_record_of_the_rollup_index(client: Client, cluster: Cluster) -> None:
    cluster.shelf.remember("sensor", {}, index="sensor_rollup")
    assert await call(client, "PUT", PATH, sensor()) == METADATA_EXISTS
    assert await call(client, "PUT", PATH, sensor(rollup_index="elsewhere")) == DONE


async def test_id_is_in_the_description_of_the_rollup_index(client: Client, cluster: Cluster) -> None:
    cluster.shelf.target = RollupIndex(frozenset({"sensor"}))
    assert (await call(client, "PUT", PATH, sensor()))[0] == 409
    cluster.shelf.target = RollupIndex(frozenset({"another"}))
    await created(client, cluster)


@pytest.mark.parametrize("lacks", ["_meta key", "rollup meta key [_rollup]"])
async def test_the_rollup_index_is_none(client: Client, cluster: Cluster, lacks: str) -> None:
    cluster.shelf.target = RollupIndex(frozenset(), lacks)
    assert await call(client, "PUT", PATH, sensor()) == error(
        500,
        "runtime_exception",
        "Rollup data cannot be added to existing indices that contain non-rollup data (expected to find "
        f"{lacks} in mapping of rollup index [sensor_rollup] but not found).",
    )
    assert cluster.posted == []


async def test_an_id_whose_documents_are_gone_can_be_used_again(client: Client, cluster: Cluster) -> None:
    cluster.shelf.remember("sensor", {}, index="sensor_rollup", documents=False)
    await created(client, cluster)


# What the API server may do


@pytest.mark.parametrize(
    ("failure", "status", "text"),
    [
        (Unreachable("connection refused", sent=False), 503, "nothing was changed"),
        (KubeError(429, "TooManyRequests", "later"), 503, "nothing was changed"),
        (KubeError(422, "Invalid", "spec.cron: Too long"), 400, "spec.cron: Too long"),
        (KubeError(400, "BadRequest", "denied by an admission webhook"), 400, "denied by an admission webhook"),
        (KubeError(403, "Forbidden", "exceeded quota"), 500, "Could not create rollup job [sensor]"),
        (NotFound(404, "NotFound", "no namespace"), 404, "Namespace [default] does not exist"),
    ],
)
async def test_a_creation_that_is_refused(
    client: Client, cluster: Cluster, failure: Exception, status: int, text: str
) -> None:
    cluster.fail_post = [failure]
    got, answered = await call(client, "PUT", PATH, sensor())
    assert (got, text in answered["error"]["reason"]) == (status, True)
    assert cluster.objects == {}


LOST = [
    Unreachable("connection reset", sent=True),
    KubeError(500, "InternalError", "etcdserver: request timed out"),
    KubeError(504, "Timeout", "slow"),
]


@pytest.mark.parametrize("failure", LOST)
async def test_a_lost_answer_is_found_to_be_ours(client: Client, cluster: Cluster, failure: KubeError) -> None:
    cluster.fail_post = [failure]
    await created(client, cluster)
    assert len(cluster.posted) == 1


async def test_a_lost_request_is_sent_again(client: Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create, "PAUSE", 0.001)
    post, lost = cluster.post, iter([True, True, False])

    async def sometimes(path: str, body: Any, *, manager: str = "") -> Any:
        if next(lost):
            raise Unreachable("connection reset", sent=True)
        return await post(path, body, manager=manager)

    monkeypatch.setattr(cluster, "post", sometimes)
    await created(client, cluster)
    assert len(cluster.objects) == 1


async def test_a_lost_answer_behind_which_another_has_made_the_job(
    client: Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def others(path: str, body: Any, *, manager: str = "") -> Any:
        cluster.create("sensor")
        raise Unreachable("connection reset", sent=True)

    monkeypatch.setattr(cluster, "post", others)
    assert (await call(client, "PUT", PATH, sensor()))[0] == 409


async def test_an_outcome_that_stays_unknown_until_the_timeout(
    client: Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(path: str, body: Any, *, manager: str = "") -> Any:
        cluster.fail_read = Unreachable("no answer", sent=True)
        raise Unreachable("no answer", sent=True)

    monkeypatch.setattr(cluster, "post", silent)
    status, answered = await call(client, "PUT", PATH, sensor(timeout="50ms"))
    reason = "Creation of task for Rollup Job ID [sensor] timed out after [50ms]"
    assert (status, answered["error"]["type"], answered["error"]["reason"]) == (500, "exception", reason)
    assert "It is not known whether the job was created" in answered["error"]["caused_by"]["reason"]


async def test_nothing_is_created_before_all_jobs_are_known(client: Client, cluster: Cluster) -> None:
    cluster.synced = False
    assert (await call(client, "PUT", PATH, sensor()))[0] == 503
    assert cluster.posted == []


@pytest.mark.parametrize("namespace", ["elsewhere", "..%2Fdefault"])
async def test_a_namespace_that_is_not_watched(cluster: Cluster, namespace: str) -> None:
    async with served(cluster, namespaces=("default",)) as client:
        status, answered = await call(client, "PUT", f"/namespaces/{namespace}{PATH}", sensor())
    assert (status, answered["error"]["type"]) == (404, "resource_not_found_exception")
    assert cluster.posted == []


# Who may


async def test_who_may_not_create_learns_nothing(cluster: Cluster) -> None:
    access = Anybody()
    access.denied = {(EndpointAction.CREATE, "sensor"), (EndpointAction.CREATE, "Sensor Data")}
    cluster.create("sensor")
    async with served(cluster, access) as client:
        for path in (PATH, "/_rollup/job/Sensor%20Data"):
            assert (await call(client, "PUT", path, sensor()))[0] == 403
        assert await call(client, "PUT", "/_rollup/job/free", sensor()) == DONE
    assert (EndpointAction.CREATE, "default", "free") in access.asked


async def test_the_right_is_asked_on_the_resource_that_has_the_id(cluster: Cluster) -> None:
    access = Anybody()
    cluster.create("another-name", jobId="sensor")
    async with served(cluster, access) as client:
        assert (await call(client, "PUT", PATH, sensor()))[0] == 409
    assert access.asked == [(EndpointAction.CREATE, "default", "another-name")]


# There and back


CONFIGURATIONS = [
    sensor(),
    sensor(groups=hourly(fixed_interval=None, calendar_interval="1M", time_zone="Europe/Berlin", delay="0ms")),
    sensor(groups=hourly() | {"histogram": {"fields": ["load"], "interval": 5}}, metrics=[], timeout="-1"),
    sensor(id="Sensor Data/1", page_size=1),
]


@pytest.mark.parametrize("body", CONFIGURATIONS)
async def test_what_is_shown_can_be_created_again(client: Client, cluster: Cluster, body: dict[str, Any]) -> None:
    assert await call(client, "PUT", PATH, body) == DONE
    [first] = (await call(client, "GET", "/_rollup/job/_all"))[1]["jobs"]
    defaults = {"id": "sensor", "timeout": "20s", "metrics": []}
    date = {"time_zone": "UTC"} | body["groups"]["date_histogram"]
    assert first["config"] == defaults | body | {"groups": body["groups"] | {"date_histogram": date}}
    cluster.objects.clear()
    cluster.known.clear()
    assert await call(client, "PUT", PATH, first["config"]) == DONE
    [second] = (await call(client, "GET", "/_rollup/job/_all"))[1]["jobs"]
    assert second == first
