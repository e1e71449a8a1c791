"""What the endpoint says about itself: `GET /`, by which clients identify the server, and the usage call."""

from importlib.metadata import version
from typing import Any

from rollup_operator.http.protocol.dialects import Dialect

UNKNOWN_DATE = "1970-01-01T00:00:00.000Z"
"""When this was built. Nothing records it, and typed clients fail without a date."""


def version_information(cluster: str, dialect: Dialect) -> dict[str, Any]:
    """Return the answer; `cluster` is the name of this cluster."""
    return {
        "name": "rollup-operator",
        "cluster_name": cluster,
        "cluster_uuid": "_na_",
        "version": {
            "number": dialect.number,
            "build_flavor": "default",
            "build_type": "rollup-operator",
            "build_hash": version("rollup-operator"),
            "build_date": UNKNOWN_DATE,
            "build_snapshot": False,
            "lucene_version": dialect.lucene,
            "minimum_wire_compatibility_version": dialect.minimum_wire,
            "minimum_index_compatibility_version": dialect.minimum_index,
        },
        "tagline": "You Know, for Search",
    }


def usage(jobs: int, dialect: Dialect) -> dict[str, Any]:
    """Return the answer for a namespace with that many jobs."""
    rollup: dict[str, Any] = {"available": True, "enabled": True}
    if dialect.counts_jobs:
        rollup["number_of_rollup_jobs"] = jobs
    return {"rollup": rollup}
