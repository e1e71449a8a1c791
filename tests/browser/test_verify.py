"""Documents of a job against its source: a planted fault is found, repaired and gone; what the source lost stays."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from support import axe
from support.api import Api
from support.bodies import store
from support.browser import PHONE, Browser, LogIn
from support.callers import VIEWER, Account
from support.data import BEGIN, end_of, trips_job, write_trips
from support.database import opened
from support.searcher import two_days_of_three
from support.waiting import NEVER, finished, request_run

PAGE_SECONDS = 1.0
"""As of an operator at work: two days are one page."""

Plant = Callable[[str], None]


@pytest.fixture
def plant(folder: Path) -> Plant:
    """Change the result as somebody who opens the database can."""

    def change(statement: str) -> None:
        with opened(folder) as db:
            ((target,),) = db.execute("SELECT target FROM _rollup.claims").fetchall()
            db.execute(statement.replace("result", f'_rollup."result_{target}"'))

    return change


def page_of(api: Api) -> str:
    return f"/ui/namespaces/{api.namespace}/jobs/trips"


def headline(browser: Browser) -> str:
    """What a verification says that has ended; empty: none has."""
    return next((element.text for element in browser.all("#found .verdict > .mood")), "")


def legend(browser: Browser) -> str:
    return browser.text("#timeline .legend")


def test_a_planted_fault_is_found_repaired_and_gone(
    log_in: LogIn, manager: Account, api: Api, folder: Path, plant: Plant, screenshots: Path | None
) -> None:
    two_days_of_three(api, folder)
    plant("DELETE FROM result WHERE rowid = 5")
    plant('UPDATE result SET "size.max" = 1e9 WHERE rowid = 150')
    browser = log_in(manager)
    browser.open(page_of(api))
    browser.one("#timeline")
    assert "missing" not in legend(browser)
    browser.run("window.sameDocument = true")

    browser.one("#verify-fields").send_keys("weight")
    browser.button("Verify").click()
    browser.until(lambda: "1 is missing" in headline(browser), "what was found of one field")
    assert "differs" not in headline(browser)
    browser.one("#verify-fields").clear()
    browser.button("Verify").click()
    browser.until(lambda: "differs" in headline(browser), "what was found")
    assert browser.text("#found .cure") == "A run can repair this: use “Verify and repair”."
    browser.until(lambda: not browser.one("#verifying").is_displayed(), "no word of progress beside the result")
    assert "1 differs, 1 is missing" in headline(browser)
    findings = browser.text("#findings")
    assert "2024-03-01T" in findings
    assert "size.max" in findings
    assert "1,000,000,000" in findings
    assert browser.text("#days").count("2024-03-01") == 1
    browser.until(lambda: "missing" in legend(browser), "the missing bucket on the time line")
    assert "differs" in legend(browser)
    browser.one("#found details summary").click()
    assert f"kubectl rollup verify trips -n {api.namespace}" in browser.text("#found details")
    assert "/_rollup/job/trips/_verify" in browser.text("#found details")
    assert browser.complaints(axe.source()) == []
    if screenshots is not None:
        browser.picture(screenshots / "verify-found.png")
        browser.look(dark=True, size=PHONE)
        assert not browser.overflows()
        browser.picture(screenshots / "verify-found-phone-dark.png")
        browser.look()

    browser.button("Verify and repair").click()
    browser.until(lambda: "are equal" in headline(browser), "the repair")
    assert "1 differs, 1 is missing before a run repaired it" in browser.text("#found")
    browser.until(lambda: "missing" not in legend(browser), "the time line without the faults")
    assert api.get("trips")["status"]["lastRun"]["message"].count("2 documents rewritten") == 1
    assert browser.run("return window.sameDocument") is True


def test_what_the_source_has_lost_is_told_from_what_is_wrong(
    log_in: LogIn, manager: Account, api: Api, folder: Path, screenshots: Path | None
) -> None:
    first = write_trips(folder, "a", hours=24)
    write_trips(folder, "b", begin=BEGIN + timedelta(hours=24), hours=24)
    api.create(store())
    api.create(trips_job(cron=NEVER))
    request_run(api, "trips", "1")
    api.wait("trips", finished(end_of(47)), 30)
    first.unlink()
    browser = log_in(manager)
    browser.open(page_of(api))
    browser.until(lambda: "raw data gone" in legend(browser), "what is gone on the time line")
    assert "missing" not in legend(browser)
    browser.button("Verify").click()
    browser.until(lambda: "are extra" in headline(browser), "what was found")
    assert "all that is left" in browser.text("#found")
    if screenshots is not None:
        browser.picture(screenshots / "raw-data-gone.png")


def test_a_stretch_is_rolled_up_again(log_in: LogIn, manager: Account, api: Api, folder: Path, plant: Plant) -> None:
    two_days_of_three(api, folder)
    plant("DELETE FROM result WHERE rowid = 5")
    browser = log_in(manager)
    browser.open(page_of(api))
    browser.one("#again-part summary").click()
    browser.one("#again-from").send_keys("2024-03-01")
    browser.one("#again-to").send_keys("2024-03-02")
    browser.button("Roll up again").click()
    browser.until(lambda: "rolls up again" in browser.text("#again-says"), "that the run is requested")
    request = api.get("trips")["metadata"]["annotations"]["rollup-operator.dev/run-requested-at"]
    assert request.endswith("Z 2024-03-01T00:00:00Z/2024-03-02T00:00:00Z")
    browser.until(lambda: "1 document rewritten" in browser.text("#state"), "what the run did")
    assert "in no document" not in browser.text("#state")
    browser.button("Verify").click()
    browser.until(lambda: "are equal" in headline(browser), "that all is well")
    assert browser.all("#found .cure") == []


def test_a_stopped_job_offers_no_repair(log_in: LogIn, manager: Account, api: Api, folder: Path) -> None:
    two_days_of_three(api, folder)
    browser = log_in(manager)
    browser.open(page_of(api))
    browser.one("#timeline")
    assert "Verify and repair" in browser.buttons()
    api.stop("trips")
    browser.until(lambda: "Verify and repair" not in browser.buttons(), "the button gone")
    api.start("trips")
    browser.until(lambda: "Verify and repair" in browser.buttons(), "the button again")


def test_a_verification_is_cancelled(log_in: LogIn, manager: Account, api: Api, folder: Path) -> None:
    two_days_of_three(api, folder)
    browser = log_in(manager)
    browser.open(page_of(api))
    browser.one("#timeline")
    slow = {"offline": False, "latency": 20_000, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.driver.execute_cdp_cmd("Network.enable", {})
    browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
    try:
        browser.button("Verify").click()
        browser.button("Cancel").click()
        browser.until(lambda: "Cancelled" in browser.text("#verifying"), "the end")
        assert "Cancel" not in browser.buttons()
    finally:
        browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow | {"latency": 0})
        browser.driver.execute_cdp_cmd("Network.disable", {})


@pytest.mark.usefixtures("_roles")
def test_without_the_right_there_is_no_form_and_a_forged_request_is_refused(
    log_in: LogIn, api: Api, folder: Path
) -> None:
    two_days_of_three(api, folder)
    browser = log_in(Account(api, "viewer").bind(VIEWER).in_force("get"))
    browser.open(page_of(api))
    assert browser.all("#verify, #again, #events") == []
    generation = api.get("trips")["metadata"]["resourceVersion"]
    for verb in ("verify", "repair", "again"):
        refused = browser.run(
            """
            const csrf = document.querySelector("[name=csrf]").value;
            const form = {csrf, from: "2024-03-01", to: "2024-03-02"};
            return fetch(arguments[0], {method: "POST", body: new URLSearchParams(form)}).then(answer => answer.status)
            """,
            f"{page_of(api)}/{verb}",
        )
        assert refused == 403
    assert api.get("trips")["metadata"]["resourceVersion"] == generation


@pytest.mark.usefixtures("_roles")
def test_events_are_seen_by_who_may_list_them(log_in: LogIn, api: Api, folder: Path) -> None:
    two_days_of_three(api, folder)
    api.wait_event("trips", "Started")
    reader = Account(api, "reader").bind(VIEWER).allow("list", "events", group="").in_force("get")
    browser = log_in(reader)
    browser.open(page_of(api))
    browser.until(lambda: "Started" in browser.text("#events"), "the event")
