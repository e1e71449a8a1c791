"""Which files of tests begin first where several workers share them, and which worker gets which.

A file is the work of one worker. One that takes minutes would otherwise begin last, alone, since pytest-xdist begins
with the files that have most tests. What is shared in a session, each worker starts for itself: five store nodes take
4 GB of memory, a Kubernetes node half a minute. So a worker goes on with files that need what it has, and leaves alone
those that need what others have, as long as there is something else.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

_TESTS = Path(__file__).resolve().parents[1]
_FIRST = (
    "cluster/test_duckdb.py",
    "stores/duckdb/test_truth.py",
    "security/test_two_tenants.py",
    "fuzz/",
    "stores/opensearch/test_search_oracle.py",
    "security/test_odd_answers.py",
    "simulation/",
    "cluster/",
    "faults/",
    "e2e/",
    "stores/opensearch/",
    "browser/",
    "upgrade/",
    "stores/duckdb/",
    "clients/",
    "contract/",
    "deploy/",
    "gitops/",
    "security/",
    "tools/",
)
"""Beginnings of their paths below tests/. The last ones are then many and short, so that all workers end together."""

_NEEDS: Mapping[str, tuple[str, ...]] = {
    "a Kubernetes node": ("cluster/",),
    "store nodes": (
        "e2e/test_bounds.py",
        "e2e/test_demo.py",
        "e2e/test_rollupstore",
        "faults/test_leadership_store.py",
        "faults/test_rounds.py",
        "faults/test_store_",
        "security/test_two_tenants.py",
        "stores/duckdb/test_search_oracle.py",
        "stores/opensearch/",
    ),
    "a browser": ("browser/",),
}
"""What takes long or much to start, and which files need it."""
_WORKERS = {"store nodes": 2}
"""How many workers start it, if more than one."""


def long_files_first(items: list[pytest.Item]) -> None:
    """Put the tests of long files first; those of a file stay in their order."""
    items.sort(key=lambda item: _rank(_name(item.path)))


def need(file: str) -> str | None:
    """What a file, by its path below tests/, needs of what takes long to start."""
    return next((what for what, prefixes in _NEEDS.items() if file.startswith(prefixes)), None)


def next_of(files: Sequence[str], had: Set[str], elsewhere: Set[str]) -> str:
    """Return which of these files a worker takes next, having started `had`, and leaving `elsewhere` to others.

    The first that needs what it has; else the first that needs nothing of others; else the first.
    """
    same = (file for file in files if need(file) in had)
    free = (file for file in files if need(file) not in elsewhere)
    return next(chain(same, free, files))


class FileSharing(LoadFileScheduling):
    """Hands out files as `next_of` says."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        self._had: dict[WorkerController, set[str]] = {}

    def remove_node(self, node: WorkerController) -> str | None:
        """Hand out again what a worker that died has not begun. Returns the test that it died in, if in any.

        Neither that test, which would end the next worker, nor a file that is done: a worker that waits for its next
        test would get none with it, and wait for ever.
        """
        work = self.assigned_work.pop(node)
        left = [(tests, test) for tests in work.values() for test, done in tests.items() if not done]
        if not left:
            return None
        tests, died_in = left[0]
        tests[died_in] = True
        self.workqueue.update({file: tests for file, tests in work.items() if not all(tests.values())})
        for other in self.assigned_work:
            self._reschedule(other)
        return died_in

    def _assign_work_unit(self, node: WorkerController) -> None:
        had = self._had.setdefault(node, set())
        started = Counter(chain.from_iterable(self._had.values()))
        elsewhere = {what for what, count in started.items() if count >= _WORKERS.get(what, 1)} - had
        scopes = {_name(self.config.rootpath / scope): scope for scope in self.workqueue}
        file = next_of(list(scopes), had, elsewhere)
        self.workqueue.move_to_end(scopes[file], last=False)
        had |= {what for what in (need(file),) if what}
        super()._assign_work_unit(node)


def _name(path: Path) -> str:
    return path.relative_to(_TESTS).as_posix() if path.is_relative_to(_TESTS) else path.as_posix()


def _rank(file: str) -> int:
    return next((rank for rank, prefix in enumerate(_FIRST) if file.startswith(prefix)), len(_FIRST))
