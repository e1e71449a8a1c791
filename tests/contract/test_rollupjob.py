"""RollupJob's schema on the real API server: each rule accepted once and refused once."""

import copy

import pytest

from support import bodies
from support.api import Api, ApiError
from support.refusals import BY_BOTH, Refusal, date, metric

FULL = {
    "desiredState": "stopped",
    "jobId": "Flights of 2013",
    "storeRef": {"name": "other"},
    "indexPattern": "flights-*,more/2013?/*.parquet,more/*.CSV.gz",
    "rollupIndex": "hourly_flights.v1",
    "cron": "0 0/5 * ? * MON-FRI 2026-2030",
    "pageSize": 10_000,
    "drainTimeoutSeconds": 86_400,
    "groups": {
        "dateHistogram": {
            "field": "time_hour",
            "calendarInterval": "1M",
            "delay": "90m",
            "timeZone": "Europe/Berlin",
        },
        "histogram": {"fields": ["distance", "air_time"], "interval": 50},
        "terms": {"fields": ["carrier"]},
    },
    "metrics": [{"field": "distance", "metrics": ["min", "max", "sum", "avg", "value_count"]}],
    "start": "2024-01-01T00:00:00Z",
    "end": "2025-01-01T00:00:00+01:00",
    "lookback": "36h",
    "verify": {"cron": "0 30 3 ? * SAT", "lookback": "30d", "mode": "Counts"},
    "parallelism": 4,
    "rollupIndexSettings": {
        "numberOfShards": 3,
        "numberOfReplicas": 0,
        "codec": "best_compression",
        "refreshInterval": "-1",
        "sortByTime": True,
    },
    "csv": {
        "columns": [{"name": "carrier", "type": "VARCHAR"}, {"name": "distance", "type": "DOUBLE"}],
        "delimiter": "tab",
        "header": False,
        "nullText": "n/a",
        "timeFormat": "%d/%m/%Y",
    },
    "deletionPolicy": "Delete",
}


def refused(error: ApiError, field: str) -> bool:
    return error.code == 422 and any(place == field or place.startswith(f"{field}[") for place, _ in error.causes)


@pytest.fixture(scope="module")
def shared(control_plane):
    """A client for requests that leave nothing behind."""
    with Api(control_plane) as api:
        yield api


@pytest.mark.parametrize("case", BY_BOTH, ids=lambda case: case.name)
def test_a_wrong_field_is_refused_by_name(shared: Api, case: Refusal):
    with pytest.raises(ApiError) as error:
        shared.create(bodies.job(**case.spec))
    assert refused(error.value, case.field), error.value


SHOWN = {
    "unix-cron": ({"cron": "*/5 * * * *"}, "spec.cron", "cron has 6 or 7 fields, seconds first"),
    "nickname-cron": ({"cron": "@hourly"}, "spec.cron", "'0 */5 * * * ?' is every five minutes"),
    "eight-fields": ({"cron": "0 0 0 1 * ? 2020 1"}, "spec.cron", "cron has 6 or 7 fields"),
    "hour-25": ({"cron": "0 0 25 * * ?"}, "spec.cron", "minutes, 0 to 59, and hours, 0 to 23"),
    "minute-60": ({"cron": "0 0-60/5 * * * ?"}, "spec.cron", "seconds, 0 to 59, minutes, 0 to 59"),
    "cron-as-a-block": ({"cron": "0 0 * * * ?\n"}, "spec.cron", "a line break: remove it"),
    "zone-with-a-blank": ({"groups": date(timeZone="Europe Berlin")}, "spec.groups.dateHistogram.timeZone", "an IANA"),
    "zone-of-a-time": ({"groups": date(timeZone="05:30")}, "spec.groups.dateHistogram.timeZone", "such as +05:30"),
    "no-zone": ({"groups": date(timeZone="")}, "spec.groups.dateHistogram.timeZone", "such as Europe/Berlin"),
    "capital": ({"rollupIndex": "Flights_Hourly"}, "spec.rollupIndex", "rollupIndex must be in lower case"),
    "target-with-a-blank": ({"rollupIndex": "flights hourly"}, "spec.rollupIndex", "a blank, a control character or"),
    "target-with-a-colon": ({"rollupIndex": "a:b"}, "spec.rollupIndex", r'one of \ / * ? " < > | , # :'),
    "hidden-target": ({"rollupIndex": ".hourly"}, "spec.rollupIndex", "needs a letter or a digit"),
    "list-with-blanks": ({"indexPattern": "flights/*, other/*"}, "spec.indexPattern", "a list with commas alone"),
    "delay-in-words": ({"groups": date(delay="1 hour")}, "spec.groups.dateHistogram.delay", "as in 90m: nanos, micros"),
    "delay-bare": ({"groups": date(delay="10")}, "spec.groups.dateHistogram.delay", "a whole number and a unit"),
    "interval-bare": ({"groups": date(fixedInterval="5")}, "spec.groups.dateHistogram.fixedInterval", "as in 90m"),
    "interval-week": ({"groups": date(fixedInterval="1w")}, "spec.groups.dateHistogram.fixedInterval", "set calendar"),
    "lookback-months": ({"lookback": "1M"}, "spec.lookback", "as in 6h: ms, s, m, h or d"),
    "lookback-bare": ({"lookback": "6"}, "spec.lookback", "a whole number above 0 and a unit"),
    "refresh": (
        {"rollupIndexSettings": {"refreshInterval": "1 s"}},
        "spec.rollupIndexSettings.refreshInterval",
        "as in 30s: ms, s, m, h or d; or -1",
    ),
}
"""Common mistakes, each with the field that is named and words of its message."""


@pytest.mark.parametrize("name", SHOWN)
def test_a_mistake_is_told_in_words_and_not_as_a_regular_expression(shared: Api, name: str):
    spec, field, words = SHOWN[name]
    with pytest.raises(ApiError) as error:
        shared.create(bodies.job(**spec))
    [(place, message)] = error.value.causes
    assert place == field
    assert words in message
    assert "should match" not in message


ACCEPTED = {
    "everything": FULL,
    "started": {"desiredState": "started"},
    "no-metrics": {"metrics": None},
    "no-terms": {"groups": date()},
    "longest-names": {"jobId": "x" * 512, "storeRef": {"name": "x" * 253}, "rollupIndex": "x" * 200},
    "id-of-a-call": {"jobId": "_search"},
    "id-like-a-list": {"jobId": "_all,a"},
    "id-like-a-pattern": {"jobId": "a*"},
    "longest-pattern": {"indexPattern": "ü" * 1024},
    "pattern-beside-target": {"indexPattern": "logs-*", "rollupIndex": "hourly-logs"},
    "pattern-with-signs": {"indexPattern": "a.b+c(d)[e]{f}$^|*", "rollupIndex": "axb"},
    "dot-is-a-dot": {"indexPattern": "a.b*", "rollupIndex": "axbc"},
    "question-mark-is-one": {"indexPattern": "log?", "rollupIndex": "logs"},
    "most-stars": {"indexPattern": f"{'*a' * 8},in/{'*' * 8}"},
    "files-at-the-top": {"indexPattern": "*.parquet", "rollupIndex": "hourly"},
    "files-in-a-folder": {"indexPattern": "flights/**/*.parquet", "rollupIndex": "flights-hourly"},
    "smallest-page": {"pageSize": 1, "drainTimeoutSeconds": 1},
    "seven-fields": {"cron": "0 0 22-2/2,12 ? NOV-FEB MON#1 2026/2"},
    "steps-and-lists": {"cron": "/10 */90,59 00,023 LW * ?"},
    "blanks-between-fields": {"cron": " 0  0   * * * ? "},
    "offset-of-a-zone": {"groups": date(timeZone="UTC-08:00")},
    "offset-without-a-colon": {"groups": date(timeZone="-0330")},
    "fixed-days": {"groups": date(fixedInterval="7d")},
    "fixed-milliseconds": {"groups": date(fixedInterval="250ms")},
    "calendar-word": {"groups": date(fixedInterval=None, calendarInterval="quarter")},
    "delay-zero": {"groups": date(delay="0")},
    "delay-zero-seconds": {"groups": date(delay="0s")},
    "offset": {"groups": date(timeZone="+05:30")},
    "same-field-in-two-groups": {
        "groups": date() | {"terms": {"fields": ["a"]}, "histogram": {"fields": ["a"], "interval": 1}}
    },
    "most-terms": {"groups": date() | {"terms": {"fields": [f"f{i}" for i in range(64)]}}},
    "most-metrics": {"metrics": [{"field": f"f{i}", "metrics": ["min"]} for i in range(256)]},
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_right_spec_is_accepted(shared: Api, name: str):
    shared.create(bodies.job(name, **ACCEPTED[name]))
    shared.delete(name)


def test_defaults(api: Api):
    spec = api.create(bodies.job(metrics=None))["spec"]
    assert spec["storeRef"] == {"name": "default"}
    assert spec["groups"]["dateHistogram"]["timeZone"] == "UTC"
    assert (spec["pageSize"], spec["drainTimeoutSeconds"], spec["deletionPolicy"]) == (5000, 30, "Retain")
    assert spec["metrics"] == []
    assert "desiredState" not in spec
    assert "jobId" not in spec


def test_unknown_fields_are_dropped(api: Api):
    body = bodies.job(colour="red")
    body["spec"]["groups"]["dateHistogram"]["interval"] = "1h"
    spec = api.create(body)["spec"]
    assert "colour" not in spec
    assert "interval" not in spec["groups"]["dateHistogram"]


# Each field by its path, with the value that it has and another one.
IMMUTABLE = {
    ("jobId",): ("a", "b"),
    ("storeRef", "name"): ("other", "another"),
    ("storeRef",): ({"name": "other"}, {"name": "another"}),
    ("rollupIndex",): ("hourly", "daily"),
}
FIXED_ONCE_ROLLED_UP = {
    ("indexPattern",): ("flights", "trains"),
    ("metrics",): (metric(), metric(metrics=["max"])),
    ("rollupIndexSettings",): ({"numberOfShards": 1}, {"numberOfShards": 2}),
    ("groups", "dateHistogram", "field"): ("a", "b"),
    ("groups", "dateHistogram", "fixedInterval"): ("1h", "2h"),
    ("groups", "dateHistogram", "calendarInterval"): ("1d", "1M"),
    ("groups", "dateHistogram", "timeZone"): ("Europe/Berlin", "Europe/Rome"),
    ("groups", "histogram"): ({"fields": ["x"], "interval": 5}, {"fields": ["x"], "interval": 6}),
    ("groups", "terms"): ({"fields": ["x"]}, {"fields": ["x", "y"]}),
}
ROLLED_UP = {"position": {"time_hour.date_histogram": 1641974400000}, "state": "started"}
EMPTY_SOURCE = {"watermark": "2026-01-02T03:00:00Z", "state": "started"}


def with_value(path: tuple[str, ...], value: object) -> dict:
    """A valid spec whose field at `path` has that value, or is missing for None."""
    spec = copy.deepcopy(bodies.job(rollupIndex="hourly")["spec"])
    date_histogram = spec["groups"]["dateHistogram"]
    if path[-1] == "calendarInterval":
        del date_histogram["fixedInterval"]
    at = spec
    for step in path[:-1]:
        at = at.setdefault(step, {})
    at.pop(path[-1], None)
    if value is not None:
        at[path[-1]] = value
    return spec


def body_of(name: str, path: tuple[str, ...], value: object) -> dict:
    return bodies.job(name) | {"spec": with_value(path, value)}


INTERVALS = ("fixedInterval", "calendarInterval")
OPTIONAL = [path for path in FIXED_ONCE_ROLLED_UP if path[-1] not in ("indexPattern", "field", *INTERVALS)]


def names(path: tuple[str, ...]) -> str:
    return ".".join(path)


def test_no_immutable_field_is_forgotten():
    open_to_change = {"desiredState", "cron", "pageSize", "drainTimeoutSeconds", "groups", "deletionPolicy"}
    open_to_change |= {"start", "end", "lookback", "parallelism", "csv", "verify"}
    assert {path[0] for path in (*IMMUTABLE, *FIXED_ONCE_ROLLED_UP)} | open_to_change == set(FULL)


@pytest.mark.parametrize("path", IMMUTABLE, ids=names)
def test_an_immutable_field_cannot_be_changed(api: Api, path: tuple[str, ...]):
    first, second = IMMUTABLE[path]
    made = api.create(body_of("job", path, first))
    again = made | {"spec": with_value(path, first)}
    again = api.replace(again)  # the same once more is no change
    with pytest.raises(ApiError, match="immutable: delete the job and create it again") as error:
        api.replace(again | {"spec": with_value(path, second)})
    assert "Its documents stay with deletionPolicy Retain, and go with Delete" in error.value.message
    assert any(
        place.startswith("spec." + names(path)) or names(path).startswith(place[5:]) for place, _ in error.value.causes
    )
    if path[-1] != "rollupIndex":
        with pytest.raises(ApiError, match="immutable"):
            api.replace(again | {"spec": with_value(path, None)})


def test_a_job_id_cannot_be_added(api: Api):
    api.create(bodies.job())
    with pytest.raises(ApiError, match="jobId is immutable"):
        api.patch_job("flights", {"jobId": "a"})


@pytest.mark.parametrize("path", FIXED_ONCE_ROLLED_UP, ids=names)
def test_a_field_can_be_changed_until_anything_is_rolled_up(api: Api, path: tuple[str, ...]):
    first, second = FIXED_ONCE_ROLLED_UP[path]
    made = api.create(body_of("job", path, first))
    api.replace(made | {"spec": with_value(path, second)})
    for shown in (ROLLED_UP, EMPTY_SOURCE | {"position": None}):
        api.patch_status("job", shown)
        with pytest.raises(ApiError) as error:
            api.replace(api.get("job") | {"spec": with_value(path, first)})
        [(place, message)] = error.value.causes
        assert place == "spec"
        assert path[0] in message
        assert "cannot change once anything is rolled up: old and new documents would not fit" in message
        assert "To keep the documents, create another job with another rollupIndex." in message
        assert "To replace them, set deletionPolicy to Delete, delete this job, which deletes its documents" in message


@pytest.mark.parametrize("state", ["indexing", "stopping", "aborting"])
def test_nothing_of_what_a_run_reads_changes_under_it(api: Api, state: str):
    api.create(bodies.job())
    api.patch_status("flights", {"state": state})
    with pytest.raises(ApiError, match="metrics cannot change while a run is under way: try again when it is over"):
        api.patch_job("flights", {"metrics": metric(metrics=["max"])})
    api.patch_job("flights", {"pageSize": 5, "groups": {"dateHistogram": {"delay": "1h"}}})
    api.patch_status("flights", {"state": "started"})
    api.patch_job("flights", {"metrics": metric(metrics=["max"])})


@pytest.mark.parametrize("path", OPTIONAL, ids=names)
def test_a_field_can_be_added_and_removed_until_anything_is_rolled_up(api: Api, path: tuple[str, ...]):
    value, _ = FIXED_ONCE_ROLLED_UP[path]
    made = api.create(body_of("job", path, value))
    made = api.replace(made | {"spec": with_value(path, None)})
    made = api.replace(made | {"spec": with_value(path, value)})
    made = api.patch_status("job", ROLLED_UP)
    with pytest.raises(ApiError, match="cannot change once anything is rolled up"):
        api.replace(made | {"spec": with_value(path, None)})
    api.patch_status("job", {"position": None})
    api.replace(api.get("job") | {"spec": with_value(path, None)})
    made = api.patch_status("job", ROLLED_UP)
    with pytest.raises(ApiError, match="cannot change once anything is rolled up"):
        api.replace(made | {"spec": with_value(path, value)})


def test_one_kind_of_interval_replaces_the_other_until_anything_is_rolled_up(api: Api):
    api.create(bodies.job())
    change = {"groups": {"dateHistogram": {"fixedInterval": None, "calendarInterval": "1h"}}}
    back = {"groups": {"dateHistogram": {"fixedInterval": "1h", "calendarInterval": None}}}
    api.patch_job("flights", change)
    api.patch_job("flights", back)
    api.patch_status("flights", ROLLED_UP)
    with pytest.raises(ApiError, match="groups, all but delay, cannot change once"):
        api.patch_job("flights", change)


def test_a_corrected_source_may_not_cover_the_target_either(api: Api):
    api.create(bodies.job())
    for pattern in ("flights*", "*", "flights-rollup"):
        with pytest.raises(ApiError, match="rollupIndex"):
            api.patch_job("flights", {"indexPattern": pattern})


def test_the_other_fields_can_be_changed(api: Api):
    api.create(bodies.job())
    change = {
        "desiredState": "started",
        "cron": "0 0 0 * * ?",
        "pageSize": 5,
        "drainTimeoutSeconds": 5,
        "deletionPolicy": "Delete",
        "start": "2024-01-01T00:00:00Z",
        "end": "2025-01-01T00:00:00Z",
        "lookback": "1d",
        "parallelism": 2,
        "groups": {"dateHistogram": {"delay": "1h"}},
    }
    api.patch_job("flights", change)
    api.patch_job("flights", {"groups": {"dateHistogram": {"delay": "2h"}}})
    body = api.patch_job("flights", {"groups": {"dateHistogram": {"delay": None}}})
    assert body["metadata"]["generation"] == 4


def test_a_list_in_another_order_is_the_same(api: Api):
    api.create(bodies.job(groups=date() | {"terms": {"fields": ["a", "b"]}}))
    api.patch_job("flights", {"groups": {"terms": {"fields": ["b", "a"]}}})


GONE = {"desiredState": None}


class TestDroppingDesiredState:
    """A state that was asked for is kept until the operator has recorded it, or a stop would be lost."""

    def test_too_early_is_refused(self, api: Api):
        api.create(bodies.job(desiredState="stopped"))
        with pytest.raises(ApiError, match=r"status\.desiredState has recorded it: try again") as error:
            api.patch_job("flights", GONE)
        assert refused(error.value, "spec.desiredState")

    def test_another_state_recorded_is_refused(self, api: Api):
        api.create(bodies.job(desiredState="started"))
        api.patch_status("flights", {"desiredState": "started"})
        api.stop("flights")
        with pytest.raises(ApiError, match="try again"):
            api.patch_job("flights", GONE)

    def test_once_recorded_is_accepted(self, api: Api):
        api.create(bodies.job(desiredState="stopped"))
        api.patch_status("flights", {"desiredState": "stopped"})
        assert "desiredState" not in api.patch_job("flights", GONE)["spec"]

    def test_an_applier_that_leaves_the_field_out_is_refused_until_then(self, api: Api):
        api.apply(bodies.job(desiredState="stopped"), manager="git")
        with pytest.raises(ApiError, match="try again"):
            api.apply(bodies.job(), manager="git")
        api.patch_status("flights", {"desiredState": "stopped"})
        assert "desiredState" not in api.apply(bodies.job(), manager="git")["spec"]

    def test_never_set_is_accepted(self, api: Api):
        api.create(bodies.job())
        api.patch_job("flights", {"pageSize": 7})

    def test_status_can_be_written_while_spec_is_silent(self, api: Api):
        api.create(bodies.job())
        api.patch_status("flights", {"desiredState": "stopped", "state": "stopped"})
        api.patch_status("flights", {"desiredState": "started"})


def test_two_appliers_share_the_job(api: Api):
    """Git applies everything but the state, the HTTP API applies the state alone."""
    api.apply(bodies.job(), manager="git")
    state = {"apiVersion": bodies.API_VERSION, "kind": "RollupJob", "metadata": {"name": "flights"}}
    api.apply(state | {"spec": {"desiredState": "stopped"}}, manager="rollup-api", force=True)
    body = api.apply(bodies.job(pageSize=9), manager="git")
    assert (body["spec"]["desiredState"], body["spec"]["pageSize"]) == ("stopped", 9)
