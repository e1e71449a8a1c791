"""The control plane that tests share. Whoever asks for it gets a real API server with the CRDs in place."""

import atexit
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog
import yaml

from local_control_plane import ControlPlane
from support import store_choice
from support.api import Api
from support.file_order import FileSharing, long_files_first
from support.loop_guard import LoopGuard
from support.store_choice import pytest_generate_tests
from support.store_nodes import (
    elasticsearch,
    elasticsearch7_node,
    elasticsearch8_node,
    elasticsearch9_node,
    node,
    opensearch,
    opensearch2_node,
    opensearch3,
    opensearch3_node,
)

__all__ = [
    "elasticsearch",
    "elasticsearch7_node",
    "elasticsearch8_node",
    "elasticsearch9_node",
    "node",
    "opensearch",
    "opensearch2_node",
    "opensearch3",
    "opensearch3_node",
    "pytest_generate_tests",
]

# Rich tracebacks take a third of a second each, of the event loop too. The operator's own logs have none.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)

ROOT = Path(__file__).resolve().parent.parent
_numbers = itertools.count(1)

# Several workers share the processors: how long one example takes says nothing.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what a node lacks, and begin with what takes long."""
    store_choice.skip_what_nodes_lack(items)
    long_files_first(items)


@pytest.hookimpl(optionalhook=True)  # where pytest-xdist is on
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileSharing | None:
    """Share files among workers, whatever they have started."""
    return FileSharing(config, log) if config.getoption("dist") == "loadfile" else None


@atexit.register
def be_quiet_after_the_summary() -> None:
    """DuckDB's binding tells of leaked functions when the interpreter ends, after pytest's last word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-examples", type=int, default=150, help="calls that are made up for each call of the API")
    parser.addoption("--takeovers", type=int, default=2, help="how often a leading replica is killed")
    parser.addoption("--rounds", type=int, default=2, help="rounds of users and faults with two replicas")
    parser.addoption("--schedules", type=int, default=10, help="random schedules of runs and faults on a store node")
    parser.addoption("--screenshots", type=Path, help="folder for pictures of the page, of tests/browser")
    store_choice.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    store_choice.record(config)


@pytest.fixture(autouse=True)
def _loops_are_free(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test is about: nothing of the operator may hold an event loop for long."""
    held: list[str] = []
    # The loops of the simulation have a clock of their own, and thousands of schedules.
    if "simulation" in request.path.parts or request.node.get_closest_marker("holds_loop"):
        yield
        return
    with LoopGuard(held.append).on_guard():
        yield
    assert not held, "\n".join(held)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A control plane of this test session, with crds/ applied and established."""
    with ControlPlane.start() as plane, Api(plane) as api:
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            api.install(yaml.safe_load(path.read_text()))
        yield plane


@pytest.fixture(scope="session")
def _session_api(control_plane: ControlPlane) -> Iterator[Api]:
    with Api(control_plane) as api:
        yield api


@pytest.fixture
def namespace(_session_api: Api, request: pytest.FixtureRequest) -> str:
    """A fresh namespace. It stays: nothing in a bare API server would empty it."""
    word = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].strip("-")
    name = f"{word}-{next(_numbers)}"
    _session_api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


@pytest.fixture
def api(_session_api: Api, namespace: str) -> Iterator[Api]:
    """The admin's client in the test's own namespace."""
    with Api(_session_api.plane, namespace) as api:
        yield api


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Tell whoever runs the tests something at once, for what takes long."""
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    capture = request.config.pluginmanager.get_plugin("capturemanager")

    def line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            if terminal is None:  # one of several workers, whose stderr is everybody's
                print(text, file=sys.stderr, flush=True)
            else:
                terminal.ensure_newline()
                terminal.write_line(text)

    return line
