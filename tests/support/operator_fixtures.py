"""Fixtures of tests with the operator as a process; a folder's conftest imports those that it wants."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local_control_plane import ControlPlane
from support.api import Api, ApiError
from support.operator import Operator
from support.rules import check_rules

StartOperator = Callable[..., Operator]


@pytest.fixture(scope="module")
def _shared(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Operator]:
    """One operator for all tests of a module, in all namespaces. The module's SETTINGS are its own."""
    settings: dict[str, Any] = getattr(request.module, "SETTINGS", {})
    process = Operator(control_plane.kubeconfig, tmp_path_factory.mktemp("operator"), **settings)
    try:
        yield process.start()
        process.stop()
    finally:
        process.kill()


@pytest.fixture
def operator(_shared: Operator, api: Api) -> Iterator[Operator]:
    """The module's operator. At the end the rules hold for every job of the test, and all can be deleted."""
    _shared.surprises()
    yield _shared
    check_rules(api)
    tidy(api)
    assert not (found := _shared.surprises()), "\n".join(found)


@pytest.fixture
def folder(request: pytest.FixtureRequest, namespace: str) -> Path:
    """The data folder of the test's namespace, with `operator`; with `start_operator` that of the first one started."""
    root = (
        request.getfixturevalue("_shared").data_root
        if "_shared" in request.fixturenames
        else request.getfixturevalue("tmp_path") / "data"
    )
    path: Path = root / namespace
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture
def start_operator(
    control_plane: ControlPlane, api: Api, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[StartOperator]:
    """Start operators for the test's namespace alone, all on one data root; ended, in order, with the test."""
    of_module = (item for item in request.session.items if item.path == request.path)
    mixed = [item.name for item in of_module if "_shared" in getattr(item, "fixturenames", ())]
    assert not mixed, f"the module's operator would act on this test's jobs, too: a file of their own for {mixed}"
    made: list[Operator] = []

    def start(*, ready: bool = True, kubeconfig: Path = control_plane.kubeconfig, **settings: Any) -> Operator:
        settings = {"namespaces": [api.namespace], "data_root": tmp_path / "data"} | settings
        process = Operator(kubeconfig, tmp_path / f"operator-{len(made)}", **settings)
        made.append(process)
        process.launch()
        return process.wait_ready() if ready else process

    try:
        yield start
        if any(process.running for process in made):
            check_rules(api)
            tidy(api)
        for process in made:
            process.stop()
    finally:
        for process in made:
            process.kill()
        strip(api)


def tidy(api: Api) -> None:
    """Delete every job and store of the namespace, so that no later test has them for company."""
    tidy_jobs(api)
    for item in api.list(kind="RollupStore"):
        api.delete(item["metadata"]["name"], kind="RollupStore")


def tidy_jobs(api: Api) -> None:
    """Delete every job of the namespace, and wait until all are gone."""
    names = [item["metadata"]["name"] for item in api.list()]
    for name in names:
        api.delete(name)
    for name in names:
        api.wait_gone(name, 20)


def strip(api: Api) -> None:
    """Delete what is left where no operator can."""
    for item in api.list():
        name = item["metadata"]["name"]
        try:
            api.delete(name)
            api.patch(name, {"metadata": {"finalizers": None}})
        except ApiError as error:
            if error.code != 404:
                raise
