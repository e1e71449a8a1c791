"""A browser for the tests of this folder. All share it: it is as fresh for each as a private window."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_browser import CHROMIUM, DRIVER, why_not
from local_control_plane import ControlPlane
from support.api import Api
from support.backfill import PAGE_SECONDS
from support.browser import Browser, LogIn
from support.callers import MANAGER, READER, Account, install_roles
from support.operator import Operator
from support.operator_fixtures import folder, operator

__all__ = ["folder", "operator"]


@pytest.fixture(scope="module")
def _shared(
    request: pytest.FixtureRequest, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """One operator for all tests of a module. It asks soon whether a right that it has seen still stands.

    Its pages are short, so that runs can be stopped in between, unless the module says otherwise.
    """
    process = Operator(
        control_plane.kubeconfig,
        tmp_path_factory.mktemp("operator"),
        page_seconds=getattr(request.module, "PAGE_SECONDS", PAGE_SECONDS),
        settings={"allowed_cache_seconds": 1},
    )
    try:
        yield process.start()
        process.stop()
    finally:
        process.kill()


@pytest.fixture(scope="session")
def _window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    reason = why_not()
    if reason is not None and os.environ.get("CI") != "true":
        pytest.skip(f"no browser on this machine: {reason}")
    assert reason is None, reason
    binary, driver = shutil.which(CHROMIUM), shutil.which(DRIVER)
    assert binary is not None
    assert driver is not None
    with Browser(binary, driver, tmp_path_factory.mktemp("profile")) as window:
        yield window


@pytest.fixture(scope="session")
def _roles(control_plane: ControlPlane) -> None:
    with Api(control_plane) as api:
        install_roles(api)


@pytest.fixture
def browser(_window: Browser, operator: Operator) -> Iterator[Browser]:
    """The browser, with the operator's page in it. Afterwards no script has failed and no policy was violated."""
    window = _window.at(operator.url)
    window.look()
    yield window
    assert window.surprises() == []
    window.driver.get("about:blank")


@pytest.fixture
def manager(api: Api, _roles: None) -> Account:
    """Somebody who may do everything with the jobs of the namespace, and read their data."""
    return (
        Account(api, "manager")
        .bind(MANAGER)
        .bind(READER)
        .in_force("update", "rollupjobs/stop")
        .in_force("get", "rollupjobs/search")
    )


@pytest.fixture
def log_in(browser: Browser) -> LogIn:
    """Log in as somebody, by the form, and arrive at the jobs of their namespace."""

    def begin(account: Account) -> Browser:
        browser.open(f"/ui/namespaces/{account.namespace}/jobs")
        browser.one("#token").send_keys(account.token)
        browser.button("Log in").click()
        browser.one("#list")
        return browser

    return begin


@pytest.fixture(scope="session")
def screenshots(request: pytest.FixtureRequest) -> Path | None:
    """The folder for pictures of all pages; None: nobody wants them."""
    return request.config.getoption("--screenshots")
