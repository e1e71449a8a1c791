from typing import Any

from rollup_operator.http.jobs.presentation import present
from rollup_operator.model.job_view import JobView

SPEC: dict[str, Any] = {
    "jobId": "Sensor",
    "indexPattern": "sensor-*",
    "rollupIndex": "sensor_rollup",
    "cron": "0 0 * * * ?",
    "pageSize": 500,
    "groups": {
        "dateHistogram": {"field": "timestamp", "calendarInterval": "1d", "delay": "7d", "timeZone": "Europe/Berlin"},
        "histogram": {"fields": ["load", "net"], "interval": 5},
        "terms": {"fields": ["node"]},
    },
    "metrics": [{"field": "temperature", "metrics": ["min", "max"]}],
}


def view(spec: dict[str, Any], status: dict[str, Any] | None = None) -> JobView:
    meta = {"uid": "u", "namespace": "default", "name": "sensor", "generation": 1, "resourceVersion": "1"}
    return JobView.of({"metadata": meta, "spec": spec, "status": status or {}})


def test_a_whole_job() -> None:
    status = {
        "observedGeneration": 1,
        "state": "indexing",
        "position": {"timestamp.date_histogram": 1_641_974_400_000, "node.terms": None},
        "stats": {"pagesProcessed": 3, "processingTimeInMs": 9},
    }
    assert present(view(SPEC, status)) == {
        "config": {
            "id": "Sensor",
            "index_pattern": "sensor-*",
            "rollup_index": "sensor_rollup",
            "cron": "0 0 * * * ?",
            "groups": {
                "date_histogram": {
                    "calendar_interval": "1d",
                    "field": "timestamp",
                    "delay": "7d",
                    "time_zone": "Europe/Berlin",
                },
                "histogram": {"interval": 5, "fields": ["load", "net"]},
                "terms": {"fields": ["node"]},
            },
            "metrics": [{"field": "temperature", "metrics": ["min", "max"]}],
            "timeout": "20s",
            "page_size": 500,
        },
        "status": {
            "job_state": "indexing",
            "current_position": {"timestamp.date_histogram": 1_641_974_400_000, "node.terms": None},
        },
        "stats": {
            "pages_processed": 3,
            "documents_processed": 0,
            "rollups_indexed": 0,
            "trigger_count": 0,
            "index_time_in_ms": 0,
            "index_total": 0,
            "index_failures": 0,
            "search_time_in_ms": 0,
            "search_total": 0,
            "search_failures": 0,
            "processing_time_in_ms": 9,
            "processing_total": 0,
        },
    }


def test_defaults_are_filled_and_a_new_job_is_stopped_without_a_position() -> None:
    groups = {"dateHistogram": {"field": "timestamp", "fixedInterval": "90m"}}
    shown = present(view({"indexPattern": "a", "rollupIndex": "b", "cron": "c", "groups": groups}))
    assert shown["config"]["id"] == "sensor"
    assert shown["config"]["groups"] == {
        "date_histogram": {"fixed_interval": "90m", "field": "timestamp", "time_zone": "UTC"}
    }
    assert shown["config"]["metrics"] == []
    assert shown["config"]["page_size"] == 5000
    assert shown["status"] == {"job_state": "stopped"}


def test_a_spec_that_cannot_be_used_is_shown_too() -> None:
    shown = present(view({"groups": [], "metrics": [7], "storeRef": "x"}, {"state": "not a state"}))
    assert shown["status"] == {"job_state": "stopped"}
    assert shown["config"]["id"] == "sensor"
