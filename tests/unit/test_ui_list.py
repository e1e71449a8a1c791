"""The list of jobs: whose, in which order, and how long it takes."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rollup_operator.http.access.permits import EndpointAction
from rollup_operator.http.app import Endpoint
from rollup_operator.http.ui.listing import JOBS_OF_A_PAGE, Group, KnownFacts, ListQuery, find
from rollup_operator.http.ui.recent_runs import RUNS, RecentRuns
from rollup_operator.http.ui.rows import row
from rollup_operator.model.job_view import JobView
from support.access_double import Anybody
from support.browsing import Browser, browsing
from support.http_double import Cluster
from support.observed_job import NOW, at, conditions, observed_job, run_ended
from support.portions import result, watched
from support.serving import served

RUNNING = conditions("Running", "waiting for the next tick of spec.cron", ready=True)
DOWN = conditions("StoreUnavailable", "store 'default' does not answer")
HOSTILE = "<img src=x onerror=alert(1)>\"'&"


@pytest.fixture
async def browser(endpoint: Endpoint) -> AsyncIterator[Browser]:
    async with browsing(endpoint, Authorization="Bearer ann") as browser:
        yield browser


def some_jobs(cluster: Cluster) -> None:
    for namespace, name, state, shown in (
        ("a", "running", "indexing", RUNNING),
        ("a", "fine", "started", RUNNING),
        ("b", "down", "started", DOWN),
        ("b", "quiet", "stopped", conditions("Stopped", "nothing is in flight", ready=True)),
    ):
        cluster.create(name, namespace, desiredState="stopped" if state == "stopped" else "started")
        cluster.status(name, namespace, state=state, conditions=[{**c, "observedGeneration": 1} for c in shown])


async def test_all_jobs_of_the_namespaces_that_the_caller_may_see(
    browser: Browser, cluster: Cluster, access: Anybody
) -> None:
    some_jobs(cluster)
    assert (await browser.get("/ui/")).jobs == ["a/fine", "a/running", "b/down", "b/quiet"]
    access.hidden = {"a"}
    page = await browser.get("/ui/")
    assert page.jobs == ["b/down", "b/quiet"]
    assert "running" not in page.words('id="count"')
    assert page.words('aria-label="State"').startswith("All 2 ")


@pytest.mark.parametrize("path", ["/ui/", "/ui/namespaces/a/jobs"])
async def test_a_list_that_has_not_been_read_yet_is_not_shown_as_empty(
    browser: Browser, cluster: Cluster, path: str
) -> None:
    cluster.synced = False
    page = await browser.get(path)
    assert (page.status, "has not been read yet" in page.words('role="alert"')) == (503, True)


async def test_a_caller_with_rights_to_some_jobs_sees_those_of_the_namespace(
    browser: Browser, cluster: Cluster, access: Anybody
) -> None:
    some_jobs(cluster)
    access.denied = {(EndpointAction.GET, ""), (EndpointAction.GET, "fine")}
    assert (await browser.get("/ui/")).jobs == []
    assert (await browser.get("/ui/namespaces/a/jobs")).jobs == ["a/running"]
    access.denied.add((EndpointAction.GET, "running"))
    assert (await browser.get("/ui/namespaces/a/jobs")).status == 403
    assert (await browser.get("/ui/namespaces/nowhere/jobs")).status == 403


@pytest.mark.parametrize(
    ("query", "jobs"),
    [
        ("state=trouble", ["b/down"]),
        ("state=running", ["a/running"]),
        ("state=stopped", ["b/quiet"]),
        ("q=NI", ["a/running"]),
        ("q=i&state=started", ["a/fine"]),
        ("q=SENSOR-*", ["a/fine", "a/running", "b/down", "b/quiet"]),
        ("sort=-name", ["b/quiet", "b/down", "a/running", "a/fine"]),
        ("sort=state", ["b/down", "a/running", "a/fine", "b/quiet"]),
        ("sort=nonsense&state=x&page=-7&page=x", ["a/fine", "a/running", "b/down", "b/quiet"]),
    ],
)
async def test_search_filter_and_sort(browser: Browser, cluster: Cluster, query: str, jobs: list[str]) -> None:
    some_jobs(cluster)
    for path in ("/ui/", "/ui/?part=list"):
        assert (await browser.get(f"{path}{'&' if '?' in path else '?'}{query}")).jobs == jobs


async def test_the_part_that_is_kept_up_to_date_is_what_the_page_shows(browser: Browser, cluster: Cluster) -> None:
    some_jobs(cluster)
    whole = await browser.get("/ui/?q=n&sort=-name")
    url = re.findall(r'data-url="([^"]*)"', whole.text)[0].replace("&amp;", "&")
    part = await browser.get(url)
    assert part.text in whole.text
    assert "<html" not in part.text


async def test_what_tenants_write_is_text(browser: Browser, cluster: Cluster) -> None:
    cluster.create("x", jobId=HOSTILE, indexPattern=HOSTILE, rollupIndex=HOSTILE)
    shown = conditions("StoreUnavailable", f"{HOSTILE}</td><script>1</script>", generation=1)
    cluster.status("x", state="started", conditions=shown)
    for path in ("/ui/", "/ui/namespaces/default/jobs", "/ui/?q=%3Cscript%3E"):
        page = await browser.get(path)
        assert page.status == 200
        assert "<img src=x" not in page.text
        assert "<script>" not in page.text


async def test_an_error_shows_the_path_as_text(browser: Browser) -> None:
    page = await browser.get("/ui/%3Cscript%3Ealert(1)%3C/script%3E")
    assert page.status == 404
    assert "<script>alert" not in page.text


async def test_a_list_that_is_not_complete_says_so(browser: Browser, cluster: Cluster) -> None:
    some_jobs(cluster)
    cluster.synced = False
    page = await browser.get("/ui/")
    assert (page.status, "has not been read yet" in page.words('role="alert"')) == (503, True)


def view(**changes: Any) -> JobView:
    return JobView.of(observed_job(**changes))


def test_a_row_says_how_a_job_is() -> None:
    shown = row(
        view(
            conditions=DOWN,
            watermark=at(-600),
            nextRunTime=at(240),
            lastRun=run_ended("Failed", "no answer"),
            name="flights",
        ),
        NOW,
    )
    assert (shown.key, shown.url) == ("team/flights", "/ui/namespaces/team/jobs/flights")
    assert (shown.state, shown.mood, shown.reason) == ("retrying: StoreUnavailable", "changing", "")
    assert shown.sentence == "Store 'default' does not answer."
    assert (shown.lag, shown.next_run, shown.last_run, shown.outcome) == ("10m", "in 4m", "30s ago", "failed")
    assert (shown.watermark, shown.outcome_mood) == ("2030-01-01 11:50Z", "bad")


def test_a_row_says_a_reason_once() -> None:
    stopping = row(view(state="stopping", conditions=conditions("Stopping", "a page is written")), NOW)
    assert (stopping.state, stopping.reason, stopping.sentence) == ("stopping", "", "A page is written.")


def test_a_job_that_nobody_has_seen_has_a_row_too() -> None:
    shown = row(view(state=None, observed=-1, desired=None), NOW)
    assert (shown.lag, shown.watermark, shown.next_run, shown.last_run) == ("-", "", "-", "-")
    assert shown.state == "new, not seen yet"


def test_an_id_cannot_leave_its_place_in_an_address() -> None:
    assert row(view(spec={"jobId": "../a?b#c%2f/d"}), NOW).url == "/ui/namespaces/team/jobs/..%2Fa%3Fb%23c%252f%2Fd"


def many(count: int) -> list[JobView]:
    found = []
    for n in range(count):
        when = (NOW - timedelta(minutes=n % 997)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        shown = DOWN if n % 100 == 0 else RUNNING
        found.append(
            view(
                uid=f"uid-{n}",
                name=f"job-{n:05}",
                conditions=shown,
                watermark=when,
                nextRunTime=when,
                lastRun=run_ended(),
                stats={"documentsProcessed": n, "triggerCount": 3},
            )
        )
    return found


def test_pages_have_all_jobs_once() -> None:
    jobs, known = many(120), KnownFacts()
    pages = [result(find(jobs, ListQuery(page=n), known)) for n in (1, 2, 3)]
    assert [len(page.jobs) for page in pages] == [JOBS_OF_A_PAGE, JOBS_OF_A_PAGE, 20]
    assert [job.name for page in pages for job in page.jobs] == [f"job-{n:05}" for n in range(120)]
    beyond = result(find(jobs, ListQuery(page=99), known))
    assert (beyond.page, beyond.pages, beyond.matching, beyond.total) == (3, 3, 120, 120)
    assert beyond.counts[Group.TROUBLE] == 2


@pytest.mark.parametrize("sort", ["name", "state", "lag", "next", "last"])
def test_a_list_backwards_is_the_same_list(sort: str) -> None:
    jobs, known = many(40), KnownFacts()
    there = result(find(jobs, ListQuery(sort=sort), known)).jobs
    back = result(find(jobs, ListQuery(sort=sort, backwards=True), known)).jobs
    assert list(there) == list(reversed(back))
    if sort == "lag":
        assert there[0].name == "job-00039"


def test_a_newer_version_of_a_job_is_read_again() -> None:
    known = KnownFacts()
    assert known.of(view(version=100)).group is Group.STARTED
    assert known.of(view(version=101, state="indexing")).group is Group.RUNNING


async def test_ten_thousand_jobs_hold_the_loop_for_a_portion_at_a_time(cluster: Cluster, access: Anybody) -> None:
    for job in many(10_000):
        cluster.known[job.name] = job
    async with served(cluster, access=access) as endpoint, browsing(endpoint, Authorization="Bearer ann") as browser:
        await browser.get("/ui/login")  # templates are compiled once in the life of a process
        for path in (
            "/ui/",
            "/ui/?sort=lag&page=50",
            "/ui/?q=job-01&sort=-state",
            "/ui/namespaces/team/jobs?part=list",
        ):
            async with watched() as loop:
                page = await browser.get(path)
            assert (page.status, len(page.jobs)) == (200, JOBS_OF_A_PAGE)
            assert len(page.text) < 100_000
            assert loop.longest < 0.06


def test_times_are_of_the_moment_that_is_given() -> None:
    assert row(view(nextRunTime=at(-30)), datetime(2030, 1, 1, 12, 1, tzinfo=UTC)).next_run == "90s late"


def ended(number: int, documents: int, **more: Any) -> JobView:
    """The job after its run of that number."""
    return view(lastRun=run_ended(ended=-1000 + number), stats={"documentsProcessed": documents}, **more)


def test_runs_are_remembered_as_they_end() -> None:
    runs = RecentRuns()
    for number, documents in enumerate((100, 130, 130, 200)):
        runs.seen(ended(number, documents))
        runs.seen(ended(number, documents, version=101, state="indexing"))  # nothing has ended
    assert list(runs.of(ended(3, 200))) == [30, 0, 70]
    for number in range(4, 60):
        runs.seen(ended(number, 200 + number))
    assert (len(runs.of(ended(0, 0))), runs.of(ended(0, 0))[-1]) == (RUNS, 1)
    runs.gone(ended(0, 0))
    assert list(runs.of(ended(0, 0))) == []


@pytest.mark.parametrize(
    "status", [{}, {"lastRun": 7}, {"lastRun": {"endTime": 7}}, {"lastRun": run_ended(), "stats": []}]
)
def test_a_status_that_cannot_be_read_is_no_run(status: dict[str, Any]) -> None:
    runs = RecentRuns()
    runs.seen(view(**status))
    assert list(runs.of(view())) == []


def test_a_row_shows_runs_only_where_some_are_known() -> None:
    assert row(view(), NOW).runs == ""
    shown = row(view(), NOW, [1200, 30])
    assert 'aria-label="Documents of the last 2 runs: at most 1,200, 30 at last"' in shown.runs
