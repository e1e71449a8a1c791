"""The fixtures of these tests."""

from support.operator_fixtures import _shared, folder, operator, start_operator

__all__ = ["_shared", "folder", "operator", "start_operator"]
