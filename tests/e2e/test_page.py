"""The page, with tokens and rights of a real API server, a real operator and a real store."""

import asyncio
import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from support.api import Api
from support.bodies import store
from support.browsing import OWN, Browser, browsing
from support.callers import MANAGER, READER, VIEWER, Account, install_roles
from support.data import BEGIN, end_of, trips_job, write_trips
from support.operator import Operator
from support.waiting import NEVER, finished, request_run

SCRIPT = {"Accept": "application/json", **OWN}
SETTINGS = {"settings": {"allowed_cache_seconds": 0.5, "denied_cache_seconds": 0.1}}


@pytest.fixture
def job(operator: Operator, api: Api, folder: Path) -> str:
    """Two days are rolled up, and half a day is not; the path of the job's page."""
    install_roles(api)
    write_trips(folder, "a", hours=48)
    api.create(store())
    api.create(trips_job(cron=NEVER, end="2024-03-03T00:00:00Z"))
    request_run(api, "trips", "1")
    api.wait("trips", finished(end_of(47)), 20)
    write_trips(folder, "b", begin=BEGIN + timedelta(hours=48), hours=12)
    return f"/ui/namespaces/{api.namespace}/jobs/trips"


async def change(browser: Browser, job: str, verb: str, **form: str) -> tuple[int, str]:
    csrf = (await browser.get(job)).csrf
    page = await browser.post(f"{job}/{verb}", {"csrf": csrf, **form}, **SCRIPT)
    return page.status, json.loads(page.text)["message"]


async def test_a_manager_sees_stops_starts_and_runs_a_job(operator: Operator, api: Api, job: str) -> None:
    account = (
        Account(api)
        .bind(MANAGER)
        .bind(READER)
        .in_force("update", "rollupjobs/run")
        .in_force("get", "rollupjobs/search")
    )
    async with browsing(operator.url) as browser:
        await browser.log_in(account.token)
        assert (await browser.get("/ui/")).jobs == [f"{api.namespace}/trips"]
        page = await browser.get(job)
        assert page.words('id="user"') == account.user
        assert "There is no RollupStore" not in page.text
        assert await change(browser, job, "stop", timeout="30s") == (
            200,
            "Stopped: nothing of the job runs any more, and its position is saved.",
        )
        assert api.get("trips")["status"]["state"] == "stopped"
        assert (await change(browser, job, "run"))[0] == 409
        assert (await change(browser, job, "start"))[0] == 200
        assert (await change(browser, job, "run"))[0] == 200
        await asyncio.to_thread(api.wait, "trips", lambda body: body["status"]["stats"]["triggerCount"] == 2, 20)
    acts = [record for record in operator.records("audit") if record["user"] == account.user]
    assert [(record["action"], record["status"]) for record in acts] == [
        ("stop", 200), ("run", 409), ("start", 200), ("run", 200),
    ]  # fmt: skip


async def test_a_chart_has_what_a_search_finds(operator: Operator, api: Api, job: str) -> None:
    account = Account(api).bind(READER).bind(VIEWER).in_force("get", "rollupjobs/search").in_force("get")
    async with browsing(operator.url) as browser:
        await browser.log_in(account.token)
        page = await browser.get(f"{job}/data?period=7+days&interval=1d")
        assert page.status == 200, page.text
        # Forty rows an hour: two days are rolled up, the third one is live and has half of it.
        hints = re.findall(r"<title>(2024-03-0\d) 00:00Z\s+(\d+) documents", page.text)
        assert hints == [("2024-03-01", "960"), ("2024-03-02", "960"), ("2024-03-03", "480")]
        assert 'class="cut"' in page.text
        assert "rolled up" in page.words('id="timeline"')


async def test_a_viewer_has_no_buttons_and_no_data_and_is_refused(operator: Operator, api: Api, job: str) -> None:
    account = Account(api).bind(VIEWER).in_force("get")
    before = api.get("trips")["metadata"]["resourceVersion"]
    async with browsing(operator.url) as browser:
        await browser.log_in(account.token)
        page = await browser.get(job)
        assert (page.status, 'id="actions"' in page.text, "/data" in page.text) == (200, False, False)
        for verb in ("start", "stop", "run"):
            assert (await browser.post(f"{job}/{verb}", {"csrf": page.csrf})).status == 403
        assert (await browser.get(f"{job}/data")).status == 403
    assert api.get("trips")["metadata"]["resourceVersion"] == before


async def test_a_session_ends_with_its_account(operator: Operator, api: Api, job: str) -> None:
    account = Account(api).bind(VIEWER).in_force("get")
    async with browsing(operator.url) as browser:
        assert (await browser.post("/ui/login", {"token": account.token[:-4] + "AAAA"})).status == 401
        await browser.log_in(account.token)
        assert (await browser.get(job)).status == 200
        await asyncio.to_thread(api.delete, account.account, kind="ServiceAccount")
        async with asyncio.timeout(30):  # the API server itself keeps a token in mind for ten seconds
            while (await browser.get(job)).status == 200:  # noqa: ASYNC110  # nobody says so
                await asyncio.sleep(0.2)
        page = await browser.get(job)
        assert (page.status, page.headers["Location"].startswith("/ui/login?next=")) == (303, True)
