"""The list of jobs: a thousand of them, found, sorted and kept up to date without a reload."""

from concurrent.futures import ThreadPoolExecutor

from support.api import Api
from support.bodies import job, store
from support.browser import LogIn
from support.callers import Account
from support.operator import Operator

JOBS = 1_000


def test_a_thousand_jobs_are_found_sorted_and_kept_up_to_date(
    operator: Operator, log_in: LogIn, manager: Account, api: Api
) -> None:
    api.create(store())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: api.create(labelled(f"job-{number:04}")), range(JOBS)))
    api.wait_state(f"job-{JOBS - 1:04}", "stopped", 60)
    browser = log_in(manager)
    browser.until(lambda: browser.text("#count") == f"{JOBS:,} jobs", "all jobs")
    rows = [row.get_attribute("data-job") for row in browser.all("tr[data-job]")]
    assert rows == [f"{api.namespace}/job-{number:04}" for number in range(len(rows))]
    assert browser.run("return document.documentElement.outerHTML.length") < 100_000
    browser.run("window.sameDocument = true")

    browser.one("#q").send_keys("0421")
    browser.until(lambda: browser.text("#count") == f"1 of {JOBS:,} jobs", "the job that was searched for")
    assert [row.get_attribute("data-job") for row in browser.all("tr[data-job]")] == [f"{api.namespace}/job-0421"]
    assert browser.text("tr[data-job] td.state").startswith("never started")

    # Somebody else starts it; the page says so.
    api.create(job("other"))
    api.stop("job-0421")
    browser.until(lambda: browser.text("tr[data-job] td.state").startswith("stopped"), "the new state")
    assert browser.run("return window.sameDocument") is True

    browser.open(f"/ui/namespaces/{api.namespace}/jobs?sort=-name")
    browser.until(lambda: browser.all("tr[data-job]")[0].get_attribute("data-job").endswith("/other"), "the last name")
    api.delete_all("many=yes")


def labelled(name: str) -> dict[str, object]:
    body = job(name)
    body["metadata"]["labels"] = {"many": "yes"}
    return body
