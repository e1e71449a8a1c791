"""Who logs in sees what their token may see, for as long as it is good."""

import pytest

from support.api import Api
from support.bodies import job, store
from support.browser import Browser, LogIn
from support.callers import VIEWER, Account
from support.operator import Operator


def test_a_session_begins_with_a_token_and_ends_with_the_button(
    browser: Browser, log_in: LogIn, manager: Account
) -> None:
    page = f"/ui/namespaces/{manager.namespace}/jobs"
    browser.open(page)
    assert browser.path.startswith("/ui/login?next=")
    browser.one("#token").send_keys("no.such.token")
    browser.button("Log in").click()
    assert "does not accept this token" in browser.text("[role=alert]")

    log_in(manager)
    assert browser.path == page
    assert manager.user in browser.text("#user")
    (cookie,) = browser.driver.get_cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/ui/")
    assert manager.token not in cookie["value"]
    assert browser.run("return document.cookie + JSON.stringify([localStorage, sessionStorage])") == "[{},{}]"

    browser.button("Log out").click()
    browser.one("form#login")
    browser.open(page)
    browser.one("form#login")


def test_a_session_ends_with_its_token(browser: Browser, log_in: LogIn, manager: Account, api: Api) -> None:
    api.create(job("flights"))
    log_in(manager)
    browser.open(f"/ui/namespaces/{api.namespace}/jobs/flights")
    api.delete(manager.account, kind="ServiceAccount")
    # Nobody touches the page: it finds out by itself.
    browser.one("form#login")
    assert "session has ended" in browser.text("main")


@pytest.mark.usefixtures("_roles")
def test_nobody_sees_jobs_of_a_namespace_that_they_may_not_read(
    operator: Operator, browser: Browser, log_in: LogIn, api: Api
) -> None:
    api.create(store())
    api.create(job("secret-plan"))
    stranger = Account(api, "stranger")
    viewer = Account(api, "viewer").bind(VIEWER).in_force("get")
    browser.open("/ui/login")
    browser.one("#token").send_keys(stranger.token)
    browser.button("Log in").click()
    browser.one("#user")
    for page in (f"/ui/namespaces/{api.namespace}/jobs", f"/ui/namespaces/{api.namespace}/jobs/secret-plan"):
        browser.open(page)
        assert "not allowed" in browser.text("main [role=alert]").lower()
        assert "secret-plan" not in browser.text("main").replace(page, "")
    browser.at(operator.url)
    log_in(viewer)
    assert browser.text("#count") == "1 job"
