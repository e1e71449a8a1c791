"""The form for a new job: what it shows is what the job does, and what it writes can be applied."""

from pathlib import Path

import pytest
import yaml

from support import axe
from support.api import Api
from support.bodies import store
from support.browser import PHONE, LogIn
from support.callers import VIEWER, Account
from support.data import end_of, write_trips
from support.waiting import finished, request_run

FILLED = {
    "name": "trips-daily",
    "index_pattern": "trips/*.parquet",
    "rollup_index": "daily",
    "date_field": "picked_up",
    "terms": "site",
    "metrics": "size: min, max, avg",
}


def test_a_manifest_is_written_previewed_and_can_be_applied(
    log_in: LogIn, manager: Account, api: Api, folder: Path, screenshots: Path | None
) -> None:
    write_trips(folder, hours=48)
    api.create(store())
    api.wait_condition("default", kind="RollupStore")
    browser = log_in(manager)
    browser.one("a[href$='/new-job']").click()
    for name, text in FILLED.items():
        browser.one(f"#{name}").send_keys(text)
    browser.one("[name=started]").click()
    browser.button("Preview").click()
    browser.until(lambda: browser.all("#preview .figures"), "the preview")
    assert "1,920 documents" in browser.text("#preview .figures")
    assert "every hour" in browser.text("#preview .figures")
    assert "max:size" in browser.text("#buckets thead")
    assert "2024-03-01T00:00:00Z" in browser.text("#buckets tbody")
    browser.one("#documents summary").click()
    browser.until(lambda: "size.max.value" in browser.text("#documents"), "the documents as they are stored")
    assert browser.complaints(axe.source()) == []
    if screenshots is not None:
        browser.picture(screenshots / "new-job.png")
        browser.look(dark=True, size=PHONE)
        assert not browser.overflows()
        browser.picture(screenshots / "new-job-phone-dark.png")
        browser.look()
    copy = browser.one("button[aria-label='Copy the manifest']")
    copy.click()
    browser.until(lambda: copy.text == "Copied", "that the manifest is copied")
    assert browser.run("return getSelection().toString()").strip() == browser.text("#manifest").strip()
    assert api.list() == []
    manifest = yaml.safe_load(browser.text("#manifest"))
    api.create(manifest)
    request_run(api, "trips-daily", "1")
    api.wait("trips-daily", finished(end_of(47)), 30)


def test_what_is_wrong_is_said_and_what_was_written_stays(log_in: LogIn, manager: Account, api: Api) -> None:
    api.create(store())
    browser = log_in(manager)
    browser.open(f"/ui/namespaces/{api.namespace}/new-job")
    for name, text in (FILLED | {"date_field": "no_such_field"}).items():
        browser.one(f"#{name}").send_keys(text)
    browser.button("Preview").click()
    browser.until(lambda: browser.all("#preview [role=alert]"), "the problem")
    assert browser.one("#date_field").get_attribute("value") == "no_such_field"
    assert "kind: RollupJob" in browser.text("#manifest")


@pytest.mark.usefixtures("_roles")
def test_who_may_not_create_jobs_has_no_form(log_in: LogIn, api: Api) -> None:
    browser = log_in(Account(api, "viewer").bind(VIEWER).in_force("get"))
    assert browser.all("a[href$='/new-job']") == []
    browser.open(f"/ui/namespaces/{api.namespace}/new-job")
    assert "not allowed" in browser.text("main [role=alert]").lower()
