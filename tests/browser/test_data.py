"""The data of a job: the chart shows what a search answers, rolled up and live."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rollup_operator.http.ui.pictures.ticks import number_text
from support.api import Api
from support.bodies import store
from support.browser import Browser, LogIn
from support.callers import VIEWER, Account
from support.data import BEGIN, end_of, trips_job, write_trips
from support.operator import Operator
from support.waiting import NEVER, finished, request_run

DAYS = 7


@pytest.fixture
def rolled(api: Api, folder: Path) -> str:
    """The page of a job's data, of which a week is rolled up and three days are not."""
    write_trips(folder, "a", hours=24 * DAYS)
    api.create(store())
    api.create(trips_job(cron=NEVER, end=f"{BEGIN + timedelta(days=DAYS):%Y-%m-%dT%H:%M:%SZ}"))
    request_run(api, "trips", "1")
    api.wait("trips", finished(end_of(24 * DAYS - 1)), 60)
    write_trips(folder, "b", begin=BEGIN + timedelta(days=DAYS), hours=72)
    return f"/ui/namespaces/{api.namespace}/jobs/trips/data"


def hints(browser: Browser) -> dict[str, list[str]]:
    """What is shown to who points at the chart: time, and a line for each series."""
    found = browser.run("return [...document.querySelectorAll('.hint title')].map(each => each.textContent)")
    return {when: lines for when, *lines in (text.split("\n") for text in found)}


def title(browser: Browser) -> str:
    return str(browser.run("return document.querySelector('#chart figure title').textContent"))


def test_the_chart_shows_what_a_search_answers_and_where_its_rolled_part_ends(
    operator: Operator, log_in: LogIn, manager: Account, api: Api, rolled: str
) -> None:
    browser = log_in(manager)
    browser.open(f"{rolled}?metric=avg:size&group=site&interval=1d&period=30+days")
    browser.one("#chart figure")
    days = {"date_histogram": {"field": "picked_up", "fixed_interval": "1d"}, "aggs": {"1": {"avg": {"field": "size"}}}}
    body = {"size": 0, "aggs": {"groups": {"terms": {"field": "site"}, "aggs": {"times": days}}}}
    answer = operator.request("POST", f"/namespaces/{api.namespace}/hourly/_search", body)
    expected: dict[str, list[str]] = {}
    for group in answer.body["aggregations"]["groups"]["buckets"]:
        for bucket in group["times"]["buckets"]:
            line = f"{group['key']}: {number_text(bucket['1']['value'])} avg of size"
            expected.setdefault(moment(bucket), []).append(line)
    assert len(expected) == DAYS + 3
    assert {when: sorted(lines) for when, lines in hints(browser).items()} == {
        when: sorted(lines) for when, lines in expected.items()
    }
    assert [text.text for text in browser.all("#chart .cut ~ .label") if text.text in ("rolled up", "live")]
    assert len(browser.all("#chart .line.live")) == len(browser.all("#chart .line:not(.live)")) == 4
    (at,) = browser.run("return [...document.querySelectorAll('#chart .cut')].map(each => each.getAttribute('x1'))")
    assert float(at.rstrip("%")) == pytest.approx(100 * DAYS / (DAYS + 3), abs=0.1)
    legend = browser.text("#timeline .legend")
    assert "rolled up" in legend
    assert "not rolled up yet" in legend


def test_another_metric_is_chosen_in_the_form(log_in: LogIn, manager: Account, rolled: str) -> None:
    browser = log_in(manager)
    browser.open(rolled.removesuffix("/data"))
    browser.one("#metric option[value='max:size']").click()
    browser.until(lambda: title(browser).startswith("max of size"), "the chart of another metric")
    assert browser.all("#chart .bars") == []
    browser.one("#metric option[value='count']").click()
    browser.until(lambda: browser.all("#chart .bars"), "the chart of the number of documents")


@pytest.mark.usefixtures("_roles")
def test_who_may_not_search_sees_no_data(log_in: LogIn, api: Api, rolled: str) -> None:
    browser = log_in(Account(api, "viewer").bind(VIEWER).in_force("get"))
    browser.open(rolled)
    assert "not allowed" in browser.text("main [role=alert]").lower()
    assert browser.all("figure") == []


def moment(bucket: dict[str, Any]) -> str:
    return f"{datetime.fromtimestamp(bucket['key'] / 1000, UTC):%Y-%m-%d %H:%MZ}"
