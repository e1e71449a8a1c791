"""Objects to begin with. Every call returns a new one."""

from typing import Any

API_VERSION = "rollup-operator.dev/v1alpha1"


def job(name: str = "flights", **spec: Any) -> dict[str, Any]:
    """A valid RollupJob; `spec` replaces whole fields, None leaves one out."""
    whole = {
        "indexPattern": "flights",
        "rollupIndex": f"{name}-rollup",
        "cron": "0 0 * * * ?",
        "groups": {
            "dateHistogram": {"field": "time_hour", "fixedInterval": "1h"},
            "terms": {"fields": ["carrier", "origin"]},
        },
        "metrics": [{"field": "distance", "metrics": ["min", "max", "sum", "avg", "value_count"]}],
    } | spec
    return {
        "apiVersion": API_VERSION,
        "kind": "RollupJob",
        "metadata": {"name": name},
        "spec": {field: value for field, value in whole.items() if value is not None},
    }


def store(name: str = "default", **spec: Any) -> dict[str, Any]:
    """A valid RollupStore, embedded unless `spec` says otherwise."""
    return {
        "apiVersion": API_VERSION,
        "kind": "RollupStore",
        "metadata": {"name": name},
        "spec": spec or {"duckdb": {}},
    }


def sensor(**fields: Any) -> dict[str, Any]:
    """A configuration as clients of Elasticsearch send it; `fields` replaces whole ones, None leaves one out."""
    whole = {
        "index_pattern": "sensor-*",
        "rollup_index": "sensor_rollup",
        "cron": "*/30 * * * * ?",
        "page_size": 1000,
        "groups": {
            "date_histogram": {"field": "timestamp", "fixed_interval": "1h", "delay": "7d"},
            "terms": {"fields": ["node"]},
        },
        "metrics": [{"field": "temperature", "metrics": ["min", "max", "sum"]}],
    } | fields
    return {field: value for field, value in whole.items() if value is not None}


def hourly(**date_histogram: Any) -> dict[str, Any]:
    """Groups of `sensor` with nothing but a date histogram; None leaves a field of it out."""
    whole = {"field": "timestamp", "fixed_interval": "1h"} | date_histogram
    return {"date_histogram": {field: value for field, value in whole.items() if value is not None}}
