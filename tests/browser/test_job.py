"""One job's page: what is done there comes about, and is seen there."""

from pathlib import Path

import pytest

from support.api import Api
from support.backfill import assert_complete, begun
from support.bodies import store
from support.browser import Browser, LogIn
from support.callers import VIEWER, Account
from support.data import end_of, trips_job, write_trips
from support.waiting import NEVER, finished, runs, status


def state_is(browser: Browser, *states: str) -> None:
    browser.until(lambda: browser.one("#state").get_attribute("data-state") in states, f"state {' or '.join(states)}")


def test_a_run_is_stopped_in_its_middle_and_watched_until_it_is_quiet(
    log_in: LogIn, manager: Account, api: Api, folder: Path
) -> None:
    begun(api, folder)
    browser = log_in(manager)
    browser.open(f"/ui/namespaces/{api.namespace}/jobs/trips")
    state_is(browser, "indexing", "started")
    browser.run("window.sameDocument = true")
    browser.button("Stop").click()
    browser.until(lambda: browser.text("#progress").startswith("Stopped:"), "the end of the stop")
    body = api.get("trips")
    assert (status(body)["state"], status(body)["observedGeneration"]) == ("stopped", body["metadata"]["generation"])
    assert status(body)["lastRun"]["outcome"] == "Halted"
    state_is(browser, "stopped")
    assert "Stop" not in browser.buttons()

    browser.button("Start").click()
    browser.until(lambda: "Started" in browser.text("#progress"), "the start")
    assert_complete(api, folder)
    state_is(browser, "started")
    assert browser.run("return window.sameDocument") is True


def test_a_run_is_requested_and_its_result_is_shown(log_in: LogIn, manager: Account, api: Api, folder: Path) -> None:
    write_trips(folder, hours=24)
    api.create(store())
    api.create(trips_job(cron=NEVER))
    api.wait_state("trips", "started")
    browser = log_in(manager)
    browser.open(f"/ui/namespaces/{api.namespace}/jobs/trips")
    browser.button("Run now").click()
    body = api.wait("trips", finished(end_of(23)), 30)
    assert runs(body) == 1
    browser.until(lambda: "960" in browser.text("#live dl"), "the number of rows")


@pytest.mark.usefixtures("_roles")
def test_without_the_right_there_is_no_button_and_a_forged_request_is_refused(
    log_in: LogIn, api: Api, folder: Path
) -> None:
    write_trips(folder, hours=2)
    api.create(store())
    api.create(trips_job(cron=NEVER))
    api.wait_state("trips", "started")
    browser = log_in(Account(api, "viewer").bind(VIEWER).in_force("get"))
    page = f"/ui/namespaces/{api.namespace}/jobs/trips"
    browser.open(page)
    state_is(browser, "started")
    assert not {"Start", "Stop", "Run now"} & set(browser.buttons())
    assert browser.all("#actions form") == []
    generation = api.get("trips")["metadata"]["generation"]
    for verb in ("stop", "start", "run"):
        refused = browser.run(
            """
            const csrf = document.querySelector("[name=csrf]").value;
            return fetch(arguments[0], {method: "POST", body: new URLSearchParams({csrf, timeout: "10s"})})
                .then(answer => answer.status)
            """,
            f"{page}/{verb}",
        )
        assert refused == 403
    assert api.get("trips")["metadata"]["generation"] == generation
