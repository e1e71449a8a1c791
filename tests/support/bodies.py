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
