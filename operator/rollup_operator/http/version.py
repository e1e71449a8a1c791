"""What `GET /` tells: clients look there for whom they speak to."""

from importlib.metadata import version
from typing import Any

ELASTICSEARCH_VERSION = "8.17.0"
"""The version whose rollup API is spoken."""


def version_information(cluster: str) -> dict[str, Any]:
    """Return the answer; `cluster` is the name of this cluster."""
    return {
        "name": "rollup-operator",
        "cluster_name": cluster,
        "cluster_uuid": "_na_",
        "version": {
            "number": ELASTICSEARCH_VERSION,
            "build_flavor": "default",
            "build_type": "rollup-operator",
            "build_hash": version("rollup-operator"),
            "build_snapshot": False,
            "minimum_wire_compatibility_version": "7.17.0",
            "minimum_index_compatibility_version": "7.0.0",
        },
        "tagline": "You Know, for Search",
    }
