"""`kubectl rollup ui`: the page without a login, with the rights of a token that the browser never has."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local_control_plane import ControlPlane
from support.api import Api
from support.bodies import store
from support.browser import Browser
from support.callers import MANAGER, Account
from support.data import trips_job
from support.operator import Operator
from support.plugin import Plugin, ended, interrupt
from support.waiting import NEVER, status


@pytest.fixture
def plugin(control_plane: ControlPlane, api: Api) -> Plugin:
    return Plugin(control_plane.kubeconfig, api.namespace)


@contextmanager
def served(plugin: Plugin, operator: Operator, *arguments: str) -> Iterator[str]:
    """The address that the command prints; at the end Ctrl-C ends it in order."""
    with plugin.begun("ui", "--url", operator.url, "--no-browser", "-n", plugin.namespace, *arguments) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("The page is at http://127.0.0.1:"), line + process.communicate()[1]
        yield line.removeprefix("The page is at ").strip()
        interrupt(process)
        assert ended(process).code == 0


def test_a_job_is_stopped_as_a_service_account_without_a_login(
    operator: Operator, browser: Browser, api: Api, manager: Account, plugin: Plugin
) -> None:
    api.create(store())
    api.create(trips_job(cron=NEVER))
    api.wait_state("trips", "started")
    with served(plugin, operator, "--service-account", manager.account) as address:
        browser.driver.get(address)
        assert browser.text("#user") == manager.user
        assert "key=" not in browser.driver.current_url
        assert "Log out" not in browser.buttons()
        browser.one("tr[data-job] a[href$='/trips']").click()
        browser.button("Stop").click()
        browser.until(lambda: browser.text("#progress").startswith("Stopped:"), "the end of the stop")
        assert status(api.get("trips"))["state"] == "stopped"
        (cookie,) = browser.driver.get_cookies()
        assert (cookie["name"].startswith("rollup_ui_"), cookie["httpOnly"]) == (True, True)


def test_the_kubeconfigs_own_token_is_used_where_there_is_one(
    operator: Operator, browser: Browser, plugin: Plugin
) -> None:
    with served(plugin, operator) as address:
        browser.driver.get(address)
        assert browser.text("#user") == "admin"


def test_without_a_token_the_command_says_what_to_do(
    operator: Operator, api: Api, plugin: Plugin, tmp_path: Path
) -> None:
    config = json.loads(plugin.kubeconfig.read_text())
    for user in config["users"]:
        user["user"].pop("token")
    anonymous = tmp_path / "config"
    anonymous.write_text(json.dumps(config))
    refused = Plugin(anonymous, api.namespace).of("ui", "--url", operator.url, "--no-browser")
    assert refused.code == 2
    assert "--service-account NAME" in refused.err

    missing = plugin.of("ui", "--url", operator.url, "--no-browser", "--service-account", "nobody")
    assert missing.code == 1
    assert 'no token for service account nobody: serviceaccounts "nobody" not found' in missing.err

    wrong = plugin("ui", "--url", operator.url, "--no-browser", ROLLUP_TOKEN="not.a.token")
    assert wrong.code == 1
    assert "does not accept the token" in wrong.err


def test_a_service_account_has_its_own_rights_and_no_more(
    operator: Operator, browser: Browser, api: Api, plugin: Plugin
) -> None:
    other = Account(api, "other").bind(MANAGER).in_force("get")
    with served(plugin, operator, "--service-account", f"{other.namespace}/{other.account}") as address:
        browser.driver.get(address)
        browser.one("#list")
        browser.driver.get(address[: address.index("/ui/")] + "/ui/namespaces/kube-system/jobs")
        assert "not allowed" in browser.text("main [role=alert]").lower()
