"""Which files of tests begin first where several workers share them: those that take longest.

A file is the work of one worker. One of a single test that takes minutes would otherwise begin last, alone, since
pytest-xdist begins with the files that have most tests.
"""

from pathlib import Path

import pytest

_TESTS = Path(__file__).resolve().parents[1]
_FIRST = (
    "stores/duckdb/test_truth.py",
    "cluster/test_duckdb.py",
    "fuzz/",
    "security/test_odd_answers.py",
    "cluster/",
    "security/test_two_tenants.py",
    "faults/",
    "e2e/",
    "stores/opensearch/",
)


def long_files_first(items: list[pytest.Item]) -> None:
    """Put the tests of long files first; those of a file stay in their order."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    name = item.path.relative_to(_TESTS).as_posix() if item.path.is_relative_to(_TESTS) else ""
    return next((rank for rank, prefix in enumerate(_FIRST) if name.startswith(prefix)), len(_FIRST))
