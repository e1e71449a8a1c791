"""The fixtures of these tests."""

from support.operator_fixtures import folder, start_operator

__all__ = ["folder", "start_operator"]
