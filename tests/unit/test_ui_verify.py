"""Verify, repair and roll up again on the page of a job: who may, what is done, and what is shown of it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from rollup_operator.explaining.findings import to_repair
from rollup_operator.http import verify_calls
from rollup_operator.http.access.permits import EndpointAction
from rollup_operator.http.api.repair import RepairRun
from rollup_operator.http.api.run import Runs
from rollup_operator.http.api.verify import VerifyRequest
from rollup_operator.http.app import Endpoint
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.ui import rendering, verified, verify_page
from rollup_operator.http.ui.verified import LastFindings, SeenFindings, VerificationShown
from rollup_operator.model.job_view import JobView
from rollup_operator.rollup.bounds import HOUR
from support.access_double import Anybody
from support.browsing import OWN, Browser, Page, browsing
from support.http_double import Cluster, Comparison
from support.observed_job import observed_job, run_ended

JOB = "/ui/namespaces/default/jobs/sensor"
LINES = {"Accept": "application/x-ndjson, application/json", **OWN}
SCRIPT = {"Accept": "application/json", **OWN}
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
async def browser(endpoint: Endpoint, cluster: Cluster) -> AsyncIterator[Browser]:
    cluster.create("sensor", desiredState="started")
    cluster.status("sensor", state="started")
    async with browsing(endpoint) as browser:
        await browser.log_in()
        yield browser


@pytest.fixture
def store(browser: Browser, cluster: Cluster) -> Comparison:
    """The store of the started job sensor: 48 hours, of which those in `missing` have no document."""
    return cluster.shelf.comparison


async def send(browser: Browser, verb: str, headers: dict[str, str] = OWN, **form: str) -> Page:
    csrf = (await browser.get(JOB)).csrf
    return await browser.post(f"{JOB}/{verb}", {"csrf": csrf, **form}, **headers)


def requests(cluster: Cluster) -> list[str]:
    return [body["metadata"]["annotations"]["rollup-operator.dev/run-requested-at"] for _, body in cluster.patched]


# Who may


async def test_forms_are_there_for_those_who_may_use_them(browser: Browser, access: Anybody) -> None:
    page = await browser.get(JOB)
    assert ('action="' + JOB + '/verify"' in page.text, 'formaction="' + JOB + '/repair"' in page.text) == (True, True)
    assert f'action="{JOB}/again"' in page.text
    access.denied = {(EndpointAction.RUN, "sensor")}
    page = await browser.get(JOB)
    assert (f"{JOB}/verify" in page.text, f"{JOB}/repair" in page.text, f"{JOB}/again" in page.text) == (
        True,
        False,
        False,
    )
    access.denied = {(EndpointAction.VERIFY, "sensor")}
    page = await browser.get(JOB)
    assert (f"{JOB}/verify" in page.text, f"{JOB}/repair" in page.text, f"{JOB}/again" in page.text) == (
        False,
        False,
        True,
    )


@pytest.mark.parametrize(
    ("verb", "denied"),
    [
        ("verify", EndpointAction.VERIFY),
        ("repair", EndpointAction.VERIFY),
        ("repair", EndpointAction.RUN),
        ("again", EndpointAction.RUN),
    ],
)
async def test_each_takes_its_rights_before_its_form_is_read(
    browser: Browser, store: Comparison, cluster: Cluster, access: Anybody, verb: str, denied: EndpointAction
) -> None:
    access.denied = {(denied, "sensor")}
    for form in ({"from": "1970-01-01", "to": "1970-01-02"}, {"from": "x" * 20_000}):
        page = await send(browser, verb, **form)
        assert (page.status, page.words('role="alert"')[:11]) == (403, "Not allowed")
    assert (store.opened, cluster.patched) == ([], [])


@pytest.mark.parametrize("verb", ["verify", "repair", "again"])
async def test_each_takes_the_token_of_the_form(
    browser: Browser, store: Comparison, cluster: Cluster, verb: str
) -> None:
    form = {"from": "1970-01-01", "to": "1970-01-02"}
    for csrf in ("", "guess"):
        assert (await browser.post(f"{JOB}/{verb}", {"csrf": csrf, **form})).status == 403
    csrf = (await browser.get(JOB)).csrf
    page = await browser.post(f"{JOB}/{verb}", {"csrf": csrf, **form}, Sec_Fetch_Site="cross-site")
    assert (page.status, store.opened, cluster.patched) == (403, [], [])


# Verify


async def test_without_a_script_the_page_has_the_result(browser: Browser, store: Comparison) -> None:
    store.missing = {30, 31}
    page = await send(browser, "verify", **{"from": "1970-01-01", "to": "1970-01-03", "compare": "full"})
    assert page.status == 200
    assert page.words('class="mood bad"').startswith("Of 48 buckets compared, 2 are missing (from 1970-01-01T00:00:00Z")
    assert page.words('id="days"').endswith(" 1970-01-0224220200")
    assert "1970-01-02T06:00:00Z timestamp.date_histogram._countnone1" in page.words('id="findings"')
    command = "kubectl rollup verify sensor -n default --from 1970-01-01 --to 1970-01-03 --full"
    assert command in page.text
    assert 'value="1970-01-03"' in page.text
    assert len(page.text) < 100_000


async def test_the_fields_are_the_reader_s(browser: Browser, cluster: Cluster, store: Comparison) -> None:
    cluster.create("sensor", desiredState="started", metrics=[{"field": "load", "metrics": ["max"]}])
    page = await send(browser, "verify", fields="load, ")
    assert (page.status, store.opened[-1][1]) == (200, ["load"])
    assert ("--fields load" in page.text, 'value="load, "' in page.text) == (True, True)
    page = await send(browser, "verify", LINES, fields="load, speed")
    assert (page.status, "the job has no metrics of [speed]; it has those of [load]" in page.text) == (400, True)


async def test_a_stopped_job_has_no_repair(browser: Browser, cluster: Cluster) -> None:
    cluster.ask("sensor", "stopped")
    for path in (JOB, f"{JOB}/verify"):
        assert re.search(r'<button id="repair"[^>]* hidden>', (await browser.get(path)).text)


async def test_a_page_below_a_job_leads_back_to_it(browser: Browser) -> None:
    trail = (await browser.get(f"{JOB}/verify")).words('class="trail"')
    assert trail.split(" / ") == ["All jobs", "default", "sensor"]


async def test_what_is_well_says_so(browser: Browser, store: Comparison) -> None:
    page = await send(browser, "verify")
    assert page.words('class="mood good"').startswith("48 buckets of 2 days are equal")
    assert 'id="findings"' not in page.text


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"from": "yesterday"}, "[from] must be a date, as in 2024-01-31 or now-7d/d, and not [yesterday]"),
        ({"from": "1970-01-02", "to": "1970-01-01"}, "is not before"),
        ({"compare": "closely"}, "[compare] must be one of"),
    ],
)
async def test_what_cannot_be_meant_is_said(
    browser: Browser, store: Comparison, form: dict[str, str], says: str
) -> None:
    for headers in (OWN, LINES):
        page = await send(browser, "verify", headers, **form)
        assert (page.status, says in page.text) == (400, True)
    assert store.opened == []


async def test_a_script_hears_how_far_it_is_and_gets_the_result(
    browser: Browser, store: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_calls, "LINE_SECONDS", 0.01)
    store.gate, store.missing = asyncio.Event(), {30}
    sending = asyncio.ensure_future(send(browser, "verify", LINES))
    await store.compared.wait()
    await asyncio.sleep(0.1)
    store.gate.set()
    page = await sending
    assert (page.status, page.headers["Content-Type"]) == (200, "application/x-ndjson")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    *progress, last = [json.loads(line) for line in page.text.splitlines()]
    assert progress[-1]["progress"]["text"].startswith("comparing buckets")
    assert 0 < progress[-1]["progress"]["percent"] < 100
    assert "1 is missing" in last["html"]


async def test_what_was_found_is_shown_though_nobody_knows_by_then_who_may_repair(
    browser: Browser, store: Comparison, access: Anybody, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def may(*_: object) -> bool:
        raise ApiError(503, "exception", "the API server does not answer")

    csrf = (await browser.get(JOB)).csrf
    monkeypatch.setattr(access, "may", may)
    last = json.loads((await browser.post(f"{JOB}/verify", {"csrf": csrf}, **LINES)).text.splitlines()[-1])
    assert "48 buckets" in last["html"]


async def test_an_error_after_the_first_line_is_a_line(
    browser: Browser, store: Comparison, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_calls, "LINE_SECONDS", 0.01)
    store.gate = asyncio.Event()
    sending = asyncio.ensure_future(send(browser, "verify", LINES))
    await store.compared.wait()
    await asyncio.sleep(0.1)
    cluster.ask("sensor", "stopped")
    last = json.loads((await sending).text.splitlines()[-1])
    assert last == {"message": "Rollup job [sensor] was stopped while it was verified; verify it again."}


async def test_who_goes_away_ends_it(browser: Browser, store: Comparison) -> None:
    store.gate = asyncio.Event()
    sending = asyncio.ensure_future(send(browser, "verify", LINES))
    await store.compared.wait()
    sending.cancel()
    async with asyncio.timeout(5):
        while not store.ended:  # noqa: ASYNC110 - the double announces nothing
            await asyncio.sleep(0.01)


async def test_without_a_script_it_may_not_take_for_ever(
    browser: Browser, store: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_page, "WHOLE_SECONDS", 0.05)
    store.gate = asyncio.Event()
    page = await send(browser, "verify")
    assert (page.status, "compare less at a time" in page.text, store.ended) == (504, True, 1)


# RepairRun


def runs_then(cluster: Cluster, store: Comparison, outcome: str = "Completed") -> None:
    """Let an operator run what is requested, and rewrite what is missing."""

    def run() -> None:
        [asked] = requests(cluster)[-1:]
        cluster.status("sensor", state="indexing", lastHandledRunRequest=asked)
        store.missing = set()
        stats = {"triggerCount": len(cluster.patched)}
        last = run_ended(outcome, "2 documents rewritten")
        cluster.status("sensor", state="started", lastHandledRunRequest=asked, lastRun=last, stats=stats)

    cluster.after_write = lambda _: run()


async def test_a_repair_has_a_run_read_the_days_again_and_compares_once_more(
    browser: Browser, store: Comparison, cluster: Cluster
) -> None:
    store.missing = {30, 31}
    runs_then(cluster, store)
    page = await send(browser, "repair", LINES)
    [asked] = requests(cluster)
    assert asked.endswith("Z 1970-01-02T00:00:00Z/1970-01-03T00:00:00Z")
    html = json.loads(page.text.splitlines()[-1])["html"]
    assert "2 are missing before a run repaired it: 2 documents rewritten." in html
    assert "48 buckets of 2 days are equal" in html


async def test_a_repair_of_what_is_well_requests_nothing(browser: Browser, store: Comparison, cluster: Cluster) -> None:
    page = await send(browser, "repair")
    assert (page.status, requests(cluster)) == (200, [])


@pytest.mark.parametrize(("outcome", "says"), [("Failed", "did not come to its end"), ("Halted", "stopped meanwhile")])
async def test_a_run_that_does_not_repair_is_said(
    browser: Browser, store: Comparison, cluster: Cluster, outcome: str, says: str
) -> None:
    store.missing = {30}
    runs_then(cluster, store, outcome)
    page = await send(browser, "repair", SCRIPT)
    assert (page.status, says in page.text) == (409, True)


async def test_a_stopped_job_is_not_repaired(browser: Browser, store: Comparison, cluster: Cluster) -> None:
    store.missing = {30}
    cluster.ask("sensor", "stopped")
    page = await send(browser, "repair", SCRIPT)
    assert (page.status, "is stopped; start it first" in page.text, requests(cluster)) == (409, True, [])


async def test_a_repair_does_not_act_on_a_job_that_has_taken_the_name(
    browser: Browser, store: Comparison, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.missing = {30}
    request = Runs.run

    async def replaced(*args: Any, **how: Any) -> JobView:
        cluster.remove("sensor")
        cluster.create("sensor", desiredState="started")
        return await request(*args, **how)

    monkeypatch.setattr(Runs, "run", replaced)
    async with asyncio.timeout(10):
        page = await send(browser, "repair", SCRIPT)
    assert (page.status, "was replaced meanwhile" in page.text, requests(cluster)) == (409, True, [])


async def test_a_repair_ends_with_a_deletion_that_is_seen_before_the_answer_of_its_request(
    browser: Browser, store: Comparison, cluster: Cluster
) -> None:
    store.missing = {30}
    cluster.after_write = lambda _: cluster.remove("sensor")
    async with asyncio.timeout(10):
        page = await send(browser, "repair", SCRIPT)
    assert page.status == 404


# Roll up again


async def test_a_stretch_is_rolled_up_again(browser: Browser, cluster: Cluster) -> None:
    page = await send(browser, "again", SCRIPT, **{"from": "2024-03-01", "to": "2024-03-02T12:30"})
    assert (page.status, json.loads(page.text)["message"]) == (
        200,
        "A run is requested that rolls up again what is rolled up from 2024-03-01T00:00:00Z to 2024-03-02T13:00:00Z.",
    )
    assert requests(cluster)[0].endswith("Z 2024-03-01T00:00:00Z/2024-03-02T13:00:00Z")
    page = await send(browser, "again", **{"from": "2024-03-01", "to": "2024-03-02"})
    assert (page.status, page.headers["Location"]) == (303, f"{JOB}?done=again")
    assert "rolls up the stretch again" in (await browser.get(f"{JOB}?done=again")).words('id="progress"')


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({}, "From and To must both be dates"),
        ({"from": "2024-03-01"}, "From and To must both be dates"),
        ({"from": "2024-03-02", "to": "2024-03-01"}, "is not before"),
        ({"from": "now+1d", "to": "now+2d"}, "rolls up no bucket that begins in that time"),
        ({"from": "x", "to": "now"}, "[from] must be a date, as in 2024-01-31 or now-7d/d, and not [x]"),
    ],
)
async def test_a_stretch_that_cannot_be_meant(
    browser: Browser, cluster: Cluster, form: dict[str, str], says: str
) -> None:
    page = await send(browser, "again", SCRIPT, **form)
    assert (page.status, says in page.text, requests(cluster)) == (400, True, [])


# What is shown, without a server


def found(**changes: Any) -> dict[str, Any]:
    whole = {
        "verified": False,
        "range": {"gte": "2013-06-01T00:00:00Z", "lt": "2013-07-01T00:00:00Z"},
        "rolled_up_to": "2014-01-01T00:00:00Z",
        "full": True,
        "source_documents": 10_000,
        "days": {"total": 30, "compared": 30, "with_findings": 1},
        "buckets": {"compared": 3391, "differs": 1, "missing": 0, "extra": 0, "duplicate": 0},
        "by_day": [day(3, differs=1)],
        "examples": [],
        "notes": [],
    }
    return whole | changes


def day(number: int, **kinds: int) -> dict[str, Any]:
    counts = {"differs": 0, "missing": 0, "extra": 0, "duplicate": 0} | kinds
    gte, lt = f"2013-06-{number:02}T00:00:00Z", f"2013-06-{number + 1:02}T00:00:00Z"
    return {"gte": gte, "lt": lt, "source_documents": 988, "rolled_up_documents": 987, **counts}


def example(kind: str = "differs", **key: Any) -> dict[str, Any]:
    numbers = [{"field": f"{name}.max.value", "stored": 2454.0, "recomputed": None} for name in "abcde"]
    return {
        "kind": kind,
        "_id": "flights$1",
        "key": {"at.date_histogram": "2013-06-03T05:00:00Z", "carrier.terms": "UA", **key},
        "fields": numbers,
    }


JOB_VIEW = JobView.of(observed_job(spec={"jobId": "a'; rm -rf ~ #$(x)"}))
STOPPED_VIEW = JobView.of(observed_job(desired="stopped"))


def shown(**changes: Any) -> VerificationShown:
    return VerificationShown.of(JOB_VIEW, VerifyRequest(), found(**changes))


def test_a_finding_names_its_bucket_and_both_numbers() -> None:
    [bucket] = shown(examples=[example()]).buckets
    assert (bucket.kind, bucket.time, bucket.others) == ("differs", "2013-06-03T05:00:00Z", "carrier=UA")
    assert bucket.numbers[0] == ("a.max", "2,454", "none")
    assert (len(bucket.numbers), bucket.more) == (3, "and 2 more numbers")


def test_what_only_the_source_has_lost_is_no_fault_of_the_job() -> None:
    lost = shown(buckets=found()["buckets"] | {"differs": 0, "extra": 4}, by_day=[day(3, extra=4)])
    assert (lost.mood, lost.cure, "all that is left" in lost.notes[-1]) == ("changing", "", True)
    assert shown().mood == "bad"


def test_what_to_do_is_for_who_reads_it() -> None:
    def cure(*repairs: RepairRun, job: JobView = JOB_VIEW, may_repair: bool = False, **kinds: int) -> str:
        buckets = found()["buckets"] | {"differs": 0} | kinds
        answer = found(buckets=buckets, by_day=[day(3, **kinds)])
        return VerificationShown.of(job, VerifyRequest(), answer, repairs, may_repair=may_repair).cure

    once = RepairRun(found()["buckets"], "done")
    assert cure(differs=1, may_repair=True) == "A run can repair this: use “Verify and repair”."
    assert cure(job=STOPPED_VIEW, missing=1, may_repair=True).endswith(": start the job, then use “Verify and repair”.")
    assert cure(missing=1).endswith("a user who may run the job adds --repair to the command below.")
    assert "who else writes to the rollup index" in cure(once, differs=1, may_repair=True)
    assert "delete those with another _id than the one shown" in cure(once, duplicate=1, may_repair=True)
    assert cure(extra=1, may_repair=True) == ""


def test_of_several_documents_the_right_one_is_named() -> None:
    doubled = example("duplicate")
    doubled["fields"] = [{"field": "documents", "stored": 2, "recomputed": 1}]
    assert shown(examples=[doubled]).buckets[0].more == "the right one has the _id flights$1"
    older = shown(examples=[doubled | {"older_id": "flights$2"}]).buckets[0].more
    assert older == "the right one has the _id flights$1 or, if none has that, flights$2"


def test_names_of_fields_have_commas_between_or_within_them() -> None:
    job = JobView.of(observed_job(spec={"metrics": [{"field": "Amount, EUR", "metrics": ["sum"]}]}))
    assert verified.fields_of(job, " Amount, EUR ") == ["Amount, EUR"]
    assert verified.fields_of(job, "speed,  size,") == ["speed", "size"]
    assert verified.fields_of(job, " ") is None
    assert verified.fields_of(JobView.of(observed_job(spec={"metrics": "none"})), "a, b") == ["a", "b"]


def test_a_large_answer_makes_a_small_page() -> None:
    days = [day(1 + n % 29, missing=1) for n in range(1_000)]
    whole = shown(
        days={"total": 5_000, "compared": 5_000, "with_findings": 1_500},
        buckets=found()["buckets"] | {"missing": 70_000},
        by_day=days,
        examples=[example("missing") for _ in range(100)],
    )
    assert (len(whole.days), whole.more_days) == (verified.MOST_DAYS, 1_500 - verified.MOST_DAYS)
    assert (len(whole.buckets), whole.more_buckets) == (verified.MOST_BUCKETS, 70_001 - verified.MOST_BUCKETS)


def test_long_values_make_a_small_page() -> None:
    """The terms of a source may have any length."""
    long = example("missing", **{"carrier.terms": "<" * 1_000_000})
    long["fields"] = [{"field": f"{'f' * 50_000}.max.value", "stored": 1, "recomputed": 2}]
    whole = shown(buckets=found()["buckets"] | {"missing": 100}, examples=[long] * 100)
    assert len(rendering.render("verify_result.html", shown=whole, heads=verified.HEADS)) < 100_000


def test_commands_cannot_be_led_astray() -> None:
    asked = VerifyRequest("'; reboot", "now", ["a b", "c"], True)
    whole = VerificationShown.of(JOB_VIEW, asked, found(), [RepairRun(found()["buckets"], "done")])
    assert (
        whole.command
        == """kubectl rollup verify flights -n team --from ''"'"'; reboot' --to now --fields 'a b' --fields c --full"""
    )
    assert whole.call.endswith("'/namespaces/team/_rollup/job/a%27%3B%20rm%20-rf%20~%20%23%24%28x%29/_verify'")
    assert """-d '{"from":"'"'"'; reboot","to":"now","fields":["a b","c"],"full":true}'""" in whole.call
    assert whole.repairs == ["1 differs before a run repaired it: done."]


def test_findings_close_to_one_another_are_one_on_a_time_line() -> None:
    when = datetime(2030, 1, 1, tzinfo=UTC)
    days = [day(3, missing=1), day(4, missing=2, extra=1), day(9, missing=1), day(20, differs=1, duplicate=1)]
    seen = SeenFindings.of(found(by_day=days), when)
    assert [(begin.day, end.day, kind) for begin, end, kind in seen.stretches] == [
        (20, 21, "differs"), (3, 5, "missing"), (9, 10, "missing"), (4, 5, "extra"), (20, 21, "duplicate"),
    ]  # fmt: skip
    assert SeenFindings.of(found(range={"gte": None, "lt": None}, by_day=[]), when).stretches == []
    many = [day(1 + n % 2 * 14, missing=1) for n in range(2)]
    assert len(SeenFindings.of(found(by_day=many), when).stretches) == 2


def test_findings_are_remembered_for_who_has_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "REMEMBERED", 2)
    last, seen = LastFindings(), SeenFindings(datetime(2030, 1, 1, tzinfo=UTC), [])
    jobs = [JobView.of(observed_job(uid=f"uid-{n}")) for n in range(3)]
    for job in jobs:
        last.seen("ann", job, seen)
    assert [last.of("ann", job) for job in jobs] == [None, seen, seen]
    assert last.of("bob", jobs[2]) is None


def test_what_a_run_can_repair_leaves_out_what_the_source_has_lost() -> None:
    assert to_repair(found(by_day=[day(3, extra=1)])) == []
    assert len(to_repair(found(by_day=[day(3, extra=1), day(4, differs=1)]))) == 1


async def test_what_tenants_write_is_text(browser: Browser, cluster: Cluster, store: Comparison) -> None:
    cluster.create("x", jobId=HOSTILE, desiredState="started")
    page = f"{JOB.rpartition('/')[0]}/%3Cimg%20src=x%20onerror=alert(1)%3E"
    csrf = (await browser.get(page)).csrf
    store.missing = {HOUR // HOUR}
    answer = await browser.post(f"{page}/verify", {"csrf": csrf, "from": "1970-01-01", "to": "1970-01-03"})
    assert (answer.status, HOSTILE in answer.text) == (200, False)
    refused = await browser.post(f"{page}/verify", {"csrf": csrf, "from": HOSTILE})
    assert (refused.status, HOSTILE in refused.text) == (400, False)
