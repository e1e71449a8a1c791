"""The fixtures of these tests."""

from support.endpoint_fixtures import access, client, cluster, endpoint
from support.operator_fixtures import _shared, folder, operator, start_operator

__all__ = ["_shared", "access", "client", "cluster", "endpoint", "folder", "operator", "start_operator"]
