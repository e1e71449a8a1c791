"""How each page looks and reads: light, dark, on a phone, by keyboard, to axe."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import axe
from support.api import Api
from support.bodies import job, store
from support.browser import DESKTOP, PHONE, Browser, Keys, LogIn
from support.callers import Account
from support.data import end_of, trips_job, write_trips
from support.waiting import NEVER, WRONG_CRON, finished, request_run, status

LOOKS = {"light": (False, DESKTOP), "dark": (True, DESKTOP), "phone": (False, PHONE), "phone-dark": (True, PHONE)}


@pytest.fixture(scope="module")
def checker() -> str:
    return axe.source()


@pytest.fixture
def jobs(api: Api, folder: Path) -> None:
    """Jobs in several states, one with data."""
    write_trips(folder, hours=24 * 10)
    api.create(store())
    api.create(trips_job(cron=NEVER))
    api.create(job("stopped", desiredState="stopped"))
    api.create(job("never-started"))
    api.create(trips_job("wrong", cron=WRONG_CRON, rollupIndex="wrong"))
    request_run(api, "trips", "1")
    api.wait("trips", finished(end_of(24 * 10 - 1)), 30)


@pytest.mark.usefixtures("jobs")
def test_every_page_is_in_order_in_every_look(
    browser: Browser, log_in: LogIn, manager: Account, checker: str, screenshots: Path | None
) -> None:
    space = f"/ui/namespaces/{manager.namespace}/jobs"
    complaints = []
    for number, (page, path) in enumerate(pages(space)):
        if number == 1:
            browser.look()
            log_in(manager)
        for look, (dark, size) in LOOKS.items():
            browser.look(dark=dark, size=size)
            browser.open(path)
            browser.one("main h1")
            browser.until(lambda: not browser.all("[aria-busy=true]"), "all of the page")
            if browser.overflows():
                complaints.append(f"{page}, {look}: wider than its window")
            if look in ("light", "dark", "phone"):
                complaints += [f"{page}, {look}: {each}" for each in browser.complaints(checker)]
            if screenshots is not None:
                browser.picture(screenshots / f"{page}-{look}.png")
    assert complaints == []


def pages(space: str) -> Iterator[tuple[str, str]]:
    yield "login", "/ui/login"
    yield "list", space
    yield "job", f"{space}/trips"
    yield "data", f"{space}/trips/data"
    yield "verify", f"{space}/trips/verify"
    yield "new-job", f"{space.removesuffix('/jobs')}/new-job"
    yield "job-in-trouble", f"{space}/wrong"
    yield "not-found", f"{space}/no-such-job"


def test_a_job_is_found_and_stopped_by_keyboard_alone(log_in: LogIn, manager: Account, api: Api, folder: Path) -> None:
    write_trips(folder, hours=2)
    api.create(store())
    api.create(trips_job(cron=NEVER))
    api.wait_state("trips", "started")
    browser = log_in(manager)
    browser.run("document.activeElement.blur()")
    browser.press(Keys.TAB)
    assert browser.focused.get_attribute("class") == "skip"
    browser.press(Keys.ENTER)
    browser.until(lambda: browser.focused.get_attribute("id") == "main", "the content in focus")
    tab_to(browser, lambda: browser.focused.text == "trips")
    browser.press(Keys.ENTER)
    browser.until(lambda: browser.path.endswith("/jobs/trips"), "the job's page")
    browser.one("#state")
    tab_to(browser, lambda: browser.focused.text == "Stop")
    browser.press(Keys.ENTER)
    browser.until(lambda: browser.one("#state").get_attribute("data-state") == "stopped", "the stop")
    assert status(api.get("trips"))["state"] == "stopped"


def tab_to(browser: Browser, there: Callable[[], bool]) -> None:
    """Press Tab until something is in focus, which must be visible there."""
    for _ in range(60):
        browser.press(Keys.TAB)
        outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", browser.focused.get_attribute("outerHTML")
        if there():
            return
    raise AssertionError("no such element can be reached by keyboard")
