"""The page of one job: what it says, who sees it, and what can be done there."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from rollup_operator.explaining.explain import Seen
from rollup_operator.http.access.permits import EndpointAction
from rollup_operator.http.app import Endpoint
from rollup_operator.http.ui.job import LONGEST_MANIFEST, JobShown, commands, definition, manifest
from rollup_operator.http.ui.job_pages import OFFERED
from rollup_operator.kube.client import KubeError, Unreachable
from rollup_operator.kube.paths import jobs_path
from rollup_operator.model.job_view import JobView
from support.access_double import Anybody
from support.browsing import OWN, Browser, Page, browsing
from support.http_double import Cluster
from support.observed_job import NOW, at, conditions, observed_job, run_ended

JOB = "/ui/namespaces/default/jobs/sensor"
HOSTILE = "</code><img src=x onerror=alert(1)>"
SCRIPT = {"Accept": "application/json", **OWN}
ALL = {EndpointAction.START, EndpointAction.STOP, EndpointAction.RUN}


@pytest.fixture
async def browser(endpoint: Endpoint, cluster: Cluster) -> AsyncIterator[Browser]:
    cluster.create("sensor", desiredState="started")
    cluster.status("sensor", state="started", conditions=conditions("Running", "waits", ready=True, generation=1))
    async with browsing(endpoint) as browser:
        await browser.log_in()
        yield browser


def hears(cluster: Cluster, state: str) -> None:
    """Let an operator take in what is written."""
    cluster.after_write = lambda _: cluster.status("sensor", state=state)


def offered(page: Page) -> list[str]:
    """The forms that are there to be used."""
    forms = re.findall(r'<form id="(\w+)" method="post" action="[^"]*" data-change="[^"]*" *(hidden)?', page.text)
    return [name for name, hidden in forms if not hidden]


async def test_a_job_says_how_it_is(browser: Browser, cluster: Cluster) -> None:
    page = await browser.get(JOB)
    assert (page.status, "<h1>sensor</h1>" in page.text) == (200, True)
    assert 'data-state="started" data-desired="started"' in page.text
    assert page.words('class="big') == "started"
    assert "The job is started" in page.words('class="sentences"')
    assert page.words('class="conditions"').endswith(", Running Waits.")
    assert "kubectl rollup explain sensor -n default" in page.text
    assert len(page.text) < 100_000


async def test_the_part_that_is_kept_up_to_date_is_what_the_page_shows(browser: Browser, cluster: Cluster) -> None:
    url = re.findall(r'data-url="([^"]*)"', (await browser.get(JOB)).text)[0]
    cluster.status("sensor", state="indexing", progress={"percent": 57})
    part = await browser.get(url)
    assert (part.status, part.words('class="big'), "<html" in part.text) == (200, "running 57 %", False)


@pytest.mark.parametrize("job_id", ["nothing", "Sensor%2F..", "sensor%00"])
async def test_a_job_that_does_not_exist(browser: Browser, job_id: str) -> None:
    page = await browser.get(f"/ui/namespaces/default/jobs/{job_id}")
    assert (page.status, page.words('role="alert"')[:9]) == (404, "Not found")


async def test_who_may_not_see_a_job_learns_nothing(browser: Browser, cluster: Cluster, access: Anybody) -> None:
    access.denied = {(EndpointAction.GET, "sensor"), (EndpointAction.GET, "nothing")}
    for name in ("sensor", "nothing"):
        cluster.reads.clear()
        page = await browser.get(f"/ui/namespaces/default/jobs/{name}")
        assert (page.status, page.words('role="alert"')[:11]) == (403, "Not allowed")
        assert jobs_path("default", name) not in cluster.reads


async def test_what_tenants_write_is_text(browser: Browser, cluster: Cluster) -> None:
    cluster.create(
        "x", jobId=HOSTILE, indexPattern=HOSTILE, rollupIndex=HOSTILE, cron=HOSTILE, storeRef={"name": "../x"}
    )
    cluster.status("x", state="started", conditions=conditions("InvalidSpec", HOSTILE, stalled=True, generation=1))
    page = await browser.get("/ui/namespaces/default/jobs/%3C%2Fcode%3E%3Cimg%20src=x%20onerror=alert(1)%3E")
    assert page.status == 200
    assert "<img src=x" not in page.text


async def test_git_s_job_says_so(browser: Browser, cluster: Cluster) -> None:
    cluster.own("sensor", "argocd-controller")
    assert "Git owns spec.desiredState, by argocd-controller" in (await browser.get(JOB)).words('class="sentences"')


async def test_the_store_s_trouble_is_for_those_who_may_read_stores(
    browser: Browser, cluster: Cluster, access: Anybody
) -> None:
    assert "There is no RollupStore" in (await browser.get(JOB)).text
    access.reads_stores = False
    assert "RollupStore &#39;" not in (await browser.get(JOB)).text


# Events


def event(reason: str, message: str, version: int, **more: Any) -> dict[str, Any]:
    meta = {"name": f"sensor.{version}", "resourceVersion": str(version), "creationTimestamp": at(-90)}
    return {"type": "Warning", "reason": reason, "message": message, "metadata": meta, **more}


async def test_events_are_shown_with_what_to_do(browser: Browser, cluster: Cluster) -> None:
    normal = event("Started", "the next run is at noon", 9, type="Normal", series={"count": 1200})
    cluster.reported = [normal, event("StoreUnavailable", f"{HOSTILE} does not answer", 10)]
    page = await browser.get(JOB)
    uid = cluster.known[jobs_path("default", "sensor")].uid
    assert cluster.selected == [("/api/v1/namespaces/default/events", f"involvedObject.uid={uid}")]
    said = page.words('id="events"')
    assert page.text.index("StoreUnavailable") < page.text.index("The next run is at noon.")
    assert "1,200 times" in page.text
    assert "kubectl get rollupstore default" in page.text
    assert (HOSTILE in page.text, "StoreUnavailable" in said) == (False, True)
    [url] = re.findall(r'data-url="([^"]*part=events)"', page.text)
    part = await browser.get(url)
    assert (part.status, "<html" in part.text, "The next run is at noon." in part.text) == (200, False, True)
    assert len(cluster.selected) == 1  # who looks at the same time shares one answer


async def test_events_are_for_who_may_list_them(browser: Browser, cluster: Cluster, access: Anybody) -> None:
    cluster.reported = [event("StoreUnavailable", "secret", 10)]
    access.lists_events = False
    page = await browser.get(JOB)
    assert ("secret" in page.text, 'id="events"' in page.text) == (False, False)
    assert (await browser.get(f"{JOB}?part=events")).status == 403
    assert cluster.selected == []


async def test_a_page_does_without_events_that_cannot_be_read(browser: Browser, cluster: Cluster) -> None:
    cluster.fail_events = KubeError(403, "Forbidden", "events is forbidden")
    page = await browser.get(JOB)
    assert (page.status, "does not give the operator the events" in page.text) == (200, True)


async def test_all_that_is_asked_about_a_job_is_asked_at_once(
    browser: Browser, access: Anybody, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, all_asked, answered = 0, asyncio.Event(), Anybody.may

    async def slow(*of: Any) -> bool:
        nonlocal asked
        asked += 1
        if asked == len(OFFERED):
            all_asked.set()
        async with asyncio.timeout(10):
            await all_asked.wait()
        return await answered(*of)

    monkeypatch.setattr(Anybody, "may", slow)
    assert (await browser.get(JOB)).status == 200


# What can be done


async def test_forms_are_those_that_the_caller_may_use_and_the_state_allows(
    browser: Browser, cluster: Cluster, access: Anybody
) -> None:
    assert offered(await browser.get(JOB)) == ["run", "stop"]
    cluster.ask("sensor", "stopped")
    assert offered(await browser.get(JOB)) == ["start", "stop"]
    cluster.status("sensor", state="stopped")
    assert offered(await browser.get(JOB)) == ["start"]
    access.denied = {(action, "sensor") for action in ALL}
    assert 'id="actions"' not in (await browser.get(JOB)).text


@pytest.mark.parametrize("verb", ["start", "stop", "run"])
async def test_a_change_needs_the_right_and_the_token_of_the_form(
    browser: Browser, cluster: Cluster, access: Anybody, verb: str
) -> None:
    csrf = (await browser.get(JOB)).csrf
    for form in ({}, {"csrf": "x"}, {"csrf": csrf[::-1]}):
        assert (await browser.post(f"{JOB}/{verb}", form)).status == 403
    assert (await browser.post(f"{JOB}/{verb}", {"csrf": csrf}, Sec_Fetch_Site="cross-site")).status == 403
    assert (await browser.get(f"{JOB}/{verb}")).status == 405
    access.denied = {(action, "sensor") for action in ALL}
    page = await browser.post(f"{JOB}/{verb}", {"csrf": csrf})
    assert (page.status, page.words('role="alert"')[:11]) == (403, "Not allowed")
    assert (cluster.applied, cluster.patched) == ([], [])


@pytest.mark.parametrize("verb", ["start", "stop", "run"])
async def test_the_form_of_a_caller_without_the_right_is_not_read(browser: Browser, access: Anybody, verb: str) -> None:
    large = {"csrf": "x" * 20_000}
    assert (await browser.post(f"{JOB}/{verb}", large)).status == 413
    access.denied = {(action, "sensor") for action in ALL}
    assert (await browser.post(f"{JOB}/{verb}", large)).status == 403


async def test_start(browser: Browser, cluster: Cluster) -> None:
    cluster.ask("sensor", "stopped")
    cluster.status("sensor", state="stopped")
    hears(cluster, "started")
    done = await browser.post(f"{JOB}/start", {"csrf": (await browser.get(JOB)).csrf})
    assert (done.status, done.headers["Location"]) == (303, f"{JOB}?done=start")
    page = await browser.get(done.headers["Location"])
    assert page.words('id="progress"') == "Started: it runs at its next tick."
    assert cluster.objects[jobs_path("default", "sensor")]["spec"]["desiredState"] == "started"


async def test_a_stop_waits_until_the_job_is_quiet(browser: Browser, cluster: Cluster) -> None:
    cluster.status("sensor", state="indexing")
    hears(cluster, "stopping")
    csrf = (await browser.get(JOB)).csrf
    stop = asyncio.create_task(browser.post(f"{JOB}/stop", {"csrf": csrf, "timeout": "30s"}, **SCRIPT))
    await cluster.writes(1)
    part = await browser.get(f"{JOB}?part=live")
    assert part.words('class="big') == "stopping"
    assert "the page being written is finished and committed" in part.words('class="sentences"')
    assert not stop.done()
    cluster.status("sensor", state="stopped")
    done = await stop
    assert (done.status, json.loads(done.text)["message"][:34]) == (200, "Stopped: nothing of the job runs a")


async def test_a_stop_that_is_not_seen_in_time_says_what_is_going_on(
    browser: Browser, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollup_operator.http.ui.job_pages.TIMEOUTS", {"10ms": "a moment"})
    cluster.status("sensor", state="indexing")
    shown = conditions("DrainTimeout", "the bulk of page 3 has no answer", generation=2)
    cluster.after_write = lambda _: cluster.status("sensor", state="stopping", conditions=shown)
    csrf = (await browser.get(JOB)).csrf
    for headers in (SCRIPT, OWN):
        page = await browser.post(f"{JOB}/stop", {"csrf": csrf, "timeout": "10ms"}, **headers)
        assert page.status == 500
        assert "Timed out after [10ms] while waiting for rollup job [sensor] to stop" in page.text
        assert "and stands" in page.text
        assert "DrainTimeout" in page.text
    assert f'href="{JOB}"' in page.text


@pytest.mark.parametrize("timeout", ["", "0", "1h", "x"])
async def test_no_other_timeout_than_those_offered(browser: Browser, cluster: Cluster, timeout: str) -> None:
    page = await browser.post(f"{JOB}/stop", {"csrf": (await browser.get(JOB)).csrf, "timeout": timeout})
    assert (page.status, cluster.applied) == (400, [])


async def test_a_stop_of_git_s_job_warns(browser: Browser, cluster: Cluster) -> None:
    cluster.own("sensor", "argocd-controller")
    hears(cluster, "stopped")
    done = await browser.post(f"{JOB}/stop", {"csrf": (await browser.get(JOB)).csrf}, **SCRIPT)
    assert "is owned by [argocd-controller], which may undo this" in json.loads(done.text)["message"]
    assert "Warning" in done.headers


async def test_run_now(browser: Browser, cluster: Cluster) -> None:
    csrf = (await browser.get(JOB)).csrf
    for _ in range(2):
        assert (await browser.post(f"{JOB}/run", {"csrf": csrf})).headers["Location"] == f"{JOB}?done=run"
    asked = [body["metadata"]["annotations"]["rollup-operator.dev/run-requested-at"] for _, body in cluster.patched]
    assert len(set(asked)) == 2
    assert {body["manager"] for _, body in cluster.patched} == {"rollup-api"}
    assert {body["metadata"]["uid"] for _, body in cluster.patched} == {
        cluster.known[jobs_path("default", "sensor")].uid
    }


async def test_a_stopped_job_does_not_run(browser: Browser, cluster: Cluster) -> None:
    cluster.ask("sensor", "stopped")
    page = await browser.post(f"{JOB}/run", {"csrf": (await browser.get(JOB)).csrf}, **SCRIPT)
    assert (page.status, json.loads(page.text)["message"]) == (409, "rollup job [sensor] is stopped; start it first.")
    assert cluster.patched == []


@pytest.mark.parametrize(
    ("failure", "status", "says"),
    [
        (Unreachable("connection refused", sent=False), 503, "does not take the request"),
        (Unreachable("connection reset", sent=True), 500, "It is not known whether"),
        (KubeError(403, "Forbidden", "no"), 503, "does not take the request"),
        (KubeError(404, "NotFound", "gone"), 409, "was replaced meanwhile"),
    ],
)
async def test_a_run_that_cannot_be_requested(
    browser: Browser, cluster: Cluster, failure: Exception, status: int, says: str
) -> None:
    csrf = (await browser.get(JOB)).csrf
    cluster.fail_write = failure
    page = await browser.post(f"{JOB}/run", {"csrf": csrf}, **SCRIPT)
    assert (page.status, says in page.text) == (status, True)


async def test_an_ended_session_changes_nothing(browser: Browser, cluster: Cluster, access: Anybody) -> None:
    csrf = (await browser.get(JOB)).csrf
    access.gone.add("ann")
    page = await browser.post(f"{JOB}/stop", {"csrf": csrf}, **SCRIPT)
    assert (page.status, json.loads(page.text)) == (401, {"message": "Your session has ended."})
    assert cluster.applied == []


# What is shown, without a server


def shown(**changes: Any) -> JobShown:
    return JobShown.of(Seen(observed_job(**changes), store_known=False), NOW)


def test_figures() -> None:
    stats = {"documentsProcessed": 1203344, "rollupsIndexed": 3333, "triggerCount": 20, "indexFailures": 2}
    job = shown(watermark=at(-600), nextRunTime=at(240), lastRun=run_ended("Failed", "no answer"), stats=stats)
    assert {figure.label: (figure.value, figure.note) for figure in job.figures} == {
        "Rolled up until": ("10 minutes ago", "2030-01-01 11:50Z"),
        "Next run": ("in 4 minutes", "2030-01-01 12:04Z"),
        "Last run": ("failed", "30 seconds ago, took 5 seconds"),
        "Source documents": ("1,203,344", "summarised so far"),
        "Rolled-up documents": ("3,333", "in hourly"),
        "Runs": ("20", "2 failed"),
    }


async def test_what_the_last_run_did_is_said_unless_it_failed(browser: Browser, cluster: Cluster) -> None:
    cluster.status("sensor", state="started", lastRun=run_ended(message="1 document rewritten"))
    assert "The last run: 1 document rewritten." in (await browser.get(JOB)).words('id="state"')
    cluster.status("sensor", state="started", lastRun=run_ended("Failed", "no answer"))
    assert "The last run:" not in (await browser.get(JOB)).text


def test_a_condition_says_what_to_do() -> None:
    job = shown(conditions=conditions("StoreUnavailable", "store does not answer"))
    assert [(c.type, c.mood) for c in job.conditions] == [("Ready", "changing"), ("Reconciling", "changing")]
    assert "kubectl get rollupstore default" in job.conditions[0].cure
    verified = {**conditions("Equal", "all is equal", ready=True)[0], "type": "Verified"}
    assert [(c.mood, c.cure) for c in shown(conditions=[verified]).conditions] == [("good", "")]
    fine = shown(conditions=conditions("Running", "waits", ready=True)).conditions[0]
    assert (fine.cure, fine.mood, fine.message) == ("", "good", "Waits.")


@pytest.mark.parametrize(
    "spec", [{}, {"groups": 7, "metrics": {"a": 1}}, {"groups": {"terms": []}, "metrics": [None, {}]}]
)
def test_a_spec_that_cannot_be_read_is_shown_all_the_same(spec: dict[str, Any]) -> None:
    body = observed_job(spec=spec)
    assert {figure.label for figure in definition(JobView.of(body))} >= {"Schedule", "Source", "Buckets"}
    assert yaml.safe_load(manifest(body))["spec"]["cron"] == "0 0 * * * ?"


def test_a_definition_says_what_is_read_again_and_verified() -> None:
    spec = {"lookback": "6h", "verify": {"cron": "0 30 3 ? * SUN"}}
    facts = {figure.label: (figure.value, figure.note) for figure in definition(JobView.of(observed_job(spec=spec)))}
    assert facts["Lookback"] == ("6h", "each run reads so much again")
    assert facts["Verified"] == ("at 03:30 UTC on Sundays", "0 30 3 ? * SUN (UTC)")
    silent = definition(JobView.of(observed_job(spec={"verify": "never"})))
    assert not {"Lookback", "Verified"} & {figure.label for figure in silent}


def test_a_schedule_is_said_in_words() -> None:
    [schedule, *_] = definition(JobView.of(observed_job(spec={"cron": "0 */5 * * * ?"})))
    assert (schedule.value, schedule.note) == ("every 5 minutes", "0 */5 * * * ? (UTC)")


def test_a_manifest_can_be_applied() -> None:
    ours = {f"rollup-operator.dev/{name}": "x" for name in ("run-requested-at", "creation-id", "also-watched-by")}
    body = observed_job(annotations={"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b", **ours})
    read = yaml.safe_load(manifest(body))
    assert read["metadata"] == {"namespace": "team", "name": "flights", "annotations": {"a": "b"}}
    assert (read["kind"], "status" in read) == ("RollupJob", False)
    assert manifest(observed_job(spec={"x": "y" * LONGEST_MANIFEST})) == ""


def test_commands_cannot_be_led_astray() -> None:
    lines = dict(commands(JobView.of(observed_job(spec={"jobId": "a'; rm -rf ~ #$(x)"}))))
    curl = lines["The job by the HTTP API"]
    assert curl.endswith("'/namespaces/team/_rollup/job/a%27%3B%20rm%20-rf%20~%20%23%24%28x%29'")


def test_times_are_of_the_moment_that_is_given() -> None:
    later = JobShown.of(
        Seen(observed_job(nextRunTime=at(60)), store_known=False), datetime(2030, 1, 1, 12, 0, 30, tzinfo=UTC)
    )
    assert later.figures[1].value == "in 30 seconds"


@pytest.mark.parametrize("verb", ["stop", "run", "nothing"])
async def test_a_link_cannot_make_the_page_say_what_is_not_so(browser: Browser, cluster: Cluster, verb: str) -> None:
    if verb == "run":
        cluster.create("other", desiredState="stopped")
        page = await browser.get(f"/ui/namespaces/default/jobs/other?done={verb}")
    else:
        page = await browser.get(f"{JOB}?done={verb}")
    assert page.words('id="progress"') == ""


async def test_a_refused_form_leads_back_to_its_job(browser: Browser) -> None:
    page = await browser.post("/ui/namespaces/default/jobs/a%2F%25b/stop", {"csrf": ""}, Sec_Fetch_Site="cross-site")
    assert (page.status, 'href="/ui/namespaces/default/jobs/a%2F%25b"' in page.text) == (403, True)
