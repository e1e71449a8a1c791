"""On which kinds of nodes a test runs, which it cannot run on, and a record of both.

| test | without `--stores` | with it |
| --- | --- | --- |
| asks for `node` | on each of `USUAL` | on each kind that is named |
| asks for `opensearch` | on OpenSearch 2 | likewise |
| is marked `newest_stores` | also on each of `NEWEST` | likewise |

`--stores` names kinds with commas, or `all`. `--store-record` names a file that is to say what ran where.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from local_stores import KINDS
from support.store_lacks import LACKS

USUAL = ("opensearch2", "elasticsearch7", "opensearch3")
NEWEST = ("elasticsearch8", "elasticsearch9")

_BY_FIXTURE: Mapping[str, Sequence[str]] = {"node": USUAL, "opensearch": ("opensearch2",)}
_SECURED = "secured"
"""A fixture, parametrized by kind, of tests that start their own nodes."""
_KIND = "store kind"


def add_options(parser: pytest.Parser) -> None:
    """For a conftest's `pytest_addoption`."""
    parser.addoption("--stores", default="", help=f"kinds of store nodes, of {', '.join(KINDS)}, or all")
    parser.addoption("--store-record", type=Path, help="file that is to say what ran on which kind of node")


def named(config: pytest.Config) -> Sequence[str]:
    """Return the kinds that the option names; none: it was not given."""
    text: str = config.getoption("--stores")
    kinds = tuple(KINDS) if text == "all" else tuple(word for word in text.replace(",", " ").split())
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise pytest.UsageError(f"--stores: {unknown[0]!r} is none of {', '.join(KINDS)}")
    return kinds


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test its nodes."""
    for fixture, usual in _BY_FIXTURE.items():
        if fixture not in metafunc.fixturenames:
            continue
        newest = NEWEST if metafunc.definition.get_closest_marker("newest_stores") else ()
        kinds = named(metafunc.config) or (*usual, *newest)
        if kinds != ("opensearch2",) or named(metafunc.config):
            metafunc.parametrize(fixture, kinds, indirect=True)


def skip_what_nodes_lack(items: list[pytest.Item]) -> None:
    """Note the kind of each test's node, and skip those tests that it cannot run."""
    for item in items:
        if (kind := _kind_of(item)) is None:
            continue
        item.user_properties.append((_KIND, kind))
        name = getattr(item, "originalname", item.name)
        lacks, last = LACKS.get(kind, {}), item.name.rstrip("]").rpartition("-")[2]
        if (reason := lacks.get(name) or lacks.get(f"{name}-{last}")) is not None:
            item.add_marker(pytest.mark.skip(reason=f"{KINDS[kind].title} as it is here: {reason}"))


def _kind_of(item: pytest.Item) -> str | None:
    params: Mapping[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
    for fixture in (*_BY_FIXTURE, _SECURED):
        if fixture in getattr(item, "fixturenames", ()):
            return str(params.get(fixture, "opensearch2"))
    return None


class Record:
    """What ran on which kind of node, of a session and all its workers."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._results: dict[str, dict[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test, or a part of it, ended."""
        kind = dict(report.user_properties).get(_KIND)
        if kind is None or (report.passed and report.when != "call"):
            return
        results = self._results.setdefault(str(kind), {})
        said = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
        before = results.get(report.nodeid)
        results[report.nodeid] = "failed" if before == "failed" or report.failed else said or report.outcome

    def pytest_sessionfinish(self) -> None:
        """Write the file anew, all but the kinds that did not run."""
        known: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}
        for kind, results in self._results.items():
            skipped = {
                name: said.removeprefix("Skipped: ")
                for name, said in results.items()
                if said not in ("passed", "failed")
            }
            known[kind] = {
                "release": KINDS[kind].title,
                "passed": sum(said == "passed" for said in results.values()),
                "failed": sorted(name for name, said in results.items() if said == "failed"),
                "skipped": dict(sorted(_by_test(skipped))),
            }
        self._file.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n")


def _by_test(skipped: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield a test and the reason, once for all its parameters."""
    for name, said in skipped.items():
        yield name.partition("[")[0], said.partition(" as it is here: ")[2] or said


def record(config: pytest.Config) -> None:
    """For a conftest's `pytest_configure`: keep the record that was asked for, not in a worker."""
    file: Path | None = config.getoption("--store-record")
    if file is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Record(file), "store-record")
