"""The fixtures of these tests."""

from support.libraries import library, speaker
from support.operator_fixtures import _shared, folder, operator, start_operator

__all__ = ["_shared", "folder", "library", "operator", "speaker", "start_operator"]
