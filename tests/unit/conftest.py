"""The fixtures of these tests."""

from support.endpoint_fixtures import access, client, cluster, endpoint

__all__ = ["access", "client", "cluster", "endpoint"]
