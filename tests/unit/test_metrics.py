"""What a scrape shows: every metric is documented, series are bounded and go with their job, numbers are right."""

import asyncio
import math
import re
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rollup_operator.model.job_view import JobView
from rollup_operator.observability import volume as volume_module
from rollup_operator.observability.figures import Figures
from rollup_operator.observability.metrics import Metrics
from rollup_operator.observability.telemetry import Telemetry
from rollup_operator.observability.volume import Volume
from support.portions import watched

PAGE = Path(__file__).parents[2] / "docs/metrics.md"
NOW = 1_760_000_000.0
LIBRARY = ("process_", "python_gc_")

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def view(name: str = "flights", *, spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None) -> JobView:
    meta = {"uid": f"uid-{name}", "namespace": "team", "name": name, "generation": 3, "resourceVersion": "7"}
    return JobView.of({"metadata": meta, "spec": spec or {}, "status": status or {}})


def running(name: str = "flights") -> JobView:
    return view(
        name,
        spec={
            "desiredState": "started",
            "groups": {"dateHistogram": {"field": "t", "fixedInterval": "1h", "delay": "30m"}},
        },
        status={
            "observedGeneration": 3,
            "state": "indexing",
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "Running"},
                {"type": "Verified", "status": "True", "reason": "Equal"},
            ],
            "watermark": "2025-10-09T06:00:00Z",
            "lastRun": {
                "startTime": "2025-10-09T08:00:00Z",
                "endTime": "2025-10-09T08:01:00Z",
                "outcome": "Completed",
            },
            "lastVerification": {
                "startTime": "2025-10-09T07:00:00Z",
                "endTime": "2025-10-09T07:00:30Z",
                "outcome": "Equal",
            },
            "nextRunTime": "2025-10-09T08:05:00Z",
            "stats": {
                "pagesProcessed": 4,
                "documentsProcessed": 900,
                "rollupsIndexed": 30,
                "triggerCount": 2,
                "indexFailures": 1,
                "searchFailures": 2,
            },
        },
    )


async def scraped(
    jobs: Iterable[JobView] = (), *, limit: int = 100, stores: Iterable[tuple[tuple[str, str], bool]] = ()
) -> Samples:
    return read(await Metrics().scrape(list(jobs), stores, limit=limit))


def read(text: bytes) -> Samples:
    """All samples, by name and labels; twice the same one is no valid text."""
    found: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def of_job(samples: Samples, name: str = "flights") -> dict[str, float]:
    labels = (("rollup_job", name), ("rollup_namespace", "team"))
    return {metric: value for (metric, given), value in samples.items() if given == labels}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


class Parts:
    """All that a watch shows, with one job and one store."""

    busy = runs = verifying = waiting = left = 0
    ends = size_bytes = available_bytes = math.nan

    async def measure(self) -> None:
        """Nothing to measure."""

    def views(self) -> list[JobView]:
        return [running()]

    def readiness(self) -> list[tuple[tuple[str, str], bool]]:
        return [(("team", "default"), True)]


def figures(
    metrics: Metrics | None = None,
    parts: Parts | None = None,
    *,
    leading: Callable[[], bool] = lambda: True,
    limit: int = 100,
) -> Figures:
    of = parts or Parts()
    return Figures(
        metrics or Metrics(),
        jobs=of,
        stores=of,
        worker=of,
        endpoint=of,
        certificate=of,
        volume=of,
        leading=leading,
        limit=limit,
    )


def documented() -> dict[str, tuple[str, list[str]]]:
    """Type and labels of each metric, as the page tells them."""
    rows = re.findall(r"^\| `(\w+)` \| (gauge|counter|histogram) \| (.*?) ?\| ", PAGE.read_text(), re.MULTILINE)
    return {name: (kind, sorted(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


async def exposed() -> dict[str, tuple[str, list[str]]]:
    """Type and labels of each metric, as a process shows them that has been through everything once."""
    metrics = Metrics()
    shown = figures(metrics)
    metrics.turned("success", 0.1)
    metrics.verified("Equal", 0.1)
    metrics.api_request("GET", 200, 0.1)
    metrics.event("Normal", "posted")
    metrics.reviewed("token", "allowed", True)
    metrics.answered("stop", 200, 0.1)
    metrics.stop_answered("stopped", 0.1)
    metrics.stopped(0.1)
    metrics.ran("Completed", 1.0)
    found: dict[str, tuple[str, list[str]]] = {}
    text = await shown.scrape()
    for family in text_string_to_metric_families(text.decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if not name.startswith(LIBRARY):
            labels = {label for sample in family.samples for label in sample.labels}
            found[name] = (family.type, sorted(labels - {"le"}))
    return found


async def test_every_metric_is_documented_with_its_type_and_labels():
    found = await exposed()
    # No job is unready there, nor unverified.
    unready = {
        "rollup_jobs_unready": ("gauge", ["reason"]),
        "rollup_job_unready": ("gauge", ["reason", "rollup_job", "rollup_namespace"]),
        "rollup_job_unverified": ("gauge", ["reason", "rollup_job", "rollup_namespace"]),
    }
    assert documented() == found | unready


def test_no_label_is_one_that_a_scrape_gives_its_target():
    given = {"job", "instance", "namespace", "pod", "container", "service", "endpoint", "node"}
    taken = {name: given.intersection(labels) for name, (_, labels) in documented().items()}
    assert {name: labels for name, labels in taken.items() if labels} == {}


async def test_every_metric_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    class Moving(Parts):
        def __init__(self) -> None:
            self.jobs = [running(), view("beyond the limit")]
            self.ready = True

        def views(self) -> list[JobView]:
            return self.jobs

        def readiness(self) -> list[tuple[tuple[str, str], bool]]:
            return [(("team", "default"), self.ready)]

    leads, now = True, NOW
    monkeypatch.setattr(time, "time", lambda: now)
    watch, parts = Telemetry("test", leading=lambda: leads), Moving()
    shown = figures(watch.metrics, parts, leading=lambda: leads, limit=1)
    before = read(await shown.scrape())
    body = running()
    stats = {name: count + 1 for name, count in body.raw_status["stats"].items()}
    ended = {"startTime": "2025-10-09T09:00:00Z", "endTime": "2025-10-09T09:01:00Z", "outcome": "Completed"}
    stalled = [
        {"type": "Ready", "status": "False", "reason": "SourceInvalid"},
        {"type": "Stalled", "status": "True", "reason": "SourceInvalid"},
        {"type": "Verified", "status": "False", "reason": "DocumentsDiffer"},
    ]
    verified = {"endTime": "2025-10-09T09:00:30Z", "outcome": "DocumentsDiffer"}
    status = {
        **body.raw_status,
        "state": "started",
        "conditions": stalled,
        "watermark": "2025-10-09T07:00:00Z",
        "lastRun": ended,
        "lastVerification": verified,
        "nextRunTime": "2025-10-09T09:10:00Z",
        "stats": stats,
    }
    parts.jobs = [view("flights", spec={**body.raw_spec, "desiredState": "stopped"}, status=status)]
    parts.ready, parts.busy, parts.runs, parts.waiting, parts.ends = False, 3, 1, 2, NOW
    parts.size_bytes, parts.available_bytes, parts.left, parts.verifying = 100.0, 7.0, 4, 1
    now += 60
    metrics = watch.metrics
    metrics.turned("error", 0.1)
    metrics.api_request("GET", 200, 0.1)
    metrics.event("Warning", "dropped")
    metrics.reviewed("token", "denied", False)
    metrics.answered("stop", 200, 0.1)
    metrics.stop_answered("timeout", 0.1)
    metrics.stopped(0.1)
    metrics.ran("Failed", 1.0)
    metrics.verified("DocumentsDiffer", 1.0)
    metrics.reverted()
    metrics.lagged(0.1)
    tasks = [asyncio.create_task(asyncio.sleep(60)) for _ in range(3)]
    after = read(await shown.scrape())
    leads = False
    led = read(await shown.scrape())
    for task in tasks:
        task.cancel()

    def of(samples: Samples, name: str, kind: str) -> set[tuple[Any, float]]:
        ends = {f"{name}_count", f"{name}_sum"} if kind == "histogram" else {name}
        return {(key, value) for key, value in samples.items() if key[0] in ends}

    still = {
        name
        for name, (kind, _) in documented().items()
        if of(before, name, kind) == of(after, name, kind) == of(led, name, kind)
    }
    assert still == {"rollup_operator_build_info"}  # always 1


@pytest.mark.usefixtures("clock")
async def test_a_job_is_shown_by_what_its_newest_body_says():
    samples = await scraped([running()])
    now, midnight = NOW, 1_759_968_000.0
    assert of_job(samples) == {
        "rollup_job_desired_started": 1,
        "rollup_job_ready": 1,
        "rollup_job_stalled": 0,
        "rollup_job_watermark_timestamp_seconds": midnight + 6 * 3600,
        "rollup_job_lag_seconds": now - midnight - 6 * 3600,
        "rollup_job_usual_lag_seconds": 3600 + 1800 + 300,
        "rollup_job_last_success_timestamp_seconds": midnight + 8 * 3600 + 60,
        "rollup_job_last_run_timestamp_seconds": midnight + 8 * 3600 + 60,
        "rollup_job_next_run_timestamp_seconds": midnight + 8 * 3600 + 300,
        "rollup_job_verified": 1,
        "rollup_job_last_verification_timestamp_seconds": midnight + 7 * 3600 + 30,
        "rollup_job_runs_total": 2,
        "rollup_job_pages_total": 4,
        "rollup_job_documents_total": 900,
        "rollup_job_rollups_total": 30,
        "rollup_job_failures_total": 3,
    }
    states = {dict(labels)["state"]: value for (name, labels), value in samples.items() if name == "rollup_job_state"}
    assert states == {"stopped": 0, "started": 0, "indexing": 1, "stopping": 0, "aborting": 0}


async def test_ready_of_an_older_generation_is_not_ready():
    body = running()
    old = view("flights", spec=body.raw_spec, status={**body.raw_status, "observedGeneration": 2})
    samples = await scraped([old])
    assert of_job(samples)["rollup_job_ready"] == 0
    assert samples["rollup_jobs_unready", (("reason", "Running"),)] == 1


async def test_a_job_that_is_not_ready_is_shown_with_its_reason_and_one_that_is_has_no_such_series():
    away = [{"type": "Ready", "status": "False", "reason": "StoreUnavailable"}]
    failing = view("late", status={"observedGeneration": 3, "state": "started", "conditions": away})
    samples = await scraped([running(), failing])
    shown = {labels: value for (name, labels), value in samples.items() if name == "rollup_job_unready"}
    assert shown == {(("reason", "StoreUnavailable"), ("rollup_job", "late"), ("rollup_namespace", "team")): 1}


@pytest.mark.parametrize(
    ("status", "reason", "verified"),
    [("False", "DocumentsDiffer", {0.0}), ("Unknown", "VerificationFailed", set()), ("Unknown", "NotVerified", set())],
)
async def test_a_job_that_is_not_verified_is_shown_with_its_reason(status: str, reason: str, verified: set[float]):
    conditions = [{"type": "Verified", "status": status, "reason": reason}]
    last = {"endTime": "2025-10-09T09:00:30Z", "outcome": reason}
    samples = await scraped([view(status={"conditions": conditions, "lastVerification": last})])
    shown = {labels: value for (name, labels), value in samples.items() if name == "rollup_job_unverified"}
    assert shown == {(("reason", reason), ("rollup_job", "flights"), ("rollup_namespace", "team")): 1}
    assert {value for name, value in of_job(samples).items() if name == "rollup_job_verified"} == verified
    has_ended = "rollup_job_last_verification_timestamp_seconds" in of_job(samples)
    assert has_ended is (reason != "VerificationFailed")


async def test_a_volume_is_measured_where_there_is_one(tmp_path: Path):
    volume = Volume(tmp_path)
    await volume.measure()
    assert 0 < volume.available_bytes <= volume.size_bytes
    nowhere = Volume(tmp_path / "none")
    await nowhere.measure()
    assert math.isnan(nowhere.size_bytes)
    assert math.isnan(nowhere.available_bytes)


async def test_two_scrapes_at_once_take_one_answer_of_the_volume(tmp_path: Path):
    volume = Volume(tmp_path)
    await asyncio.gather(volume.measure(), volume.measure())
    assert volume.available_bytes > 0


async def test_a_volume_that_hangs_holds_up_no_scrape(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    answers, asked = threading.Event(), []

    def hang(folder: Path) -> tuple[float, float]:
        asked.append(folder)
        answers.wait(60)
        return 10.0, 3.0

    monkeypatch.setattr(volume_module, "_bytes", hang)
    monkeypatch.setattr(volume_module, "PATIENCE", 0.01)
    volume = Volume(tmp_path)
    try:
        await volume.measure()
        await volume.measure()
        assert math.isnan(volume.available_bytes)
        assert len(asked) <= 1  # no thread after the other
    finally:
        answers.set()
    monkeypatch.setattr(volume_module, "PATIENCE", 60)
    await volume.measure()
    assert (volume.size_bytes, volume.available_bytes) == (10.0, 3.0)


async def test_a_job_without_a_status_has_the_series_that_are_known():
    samples = await scraped([view()])
    assert of_job(samples) == {"rollup_job_desired_started": 0, "rollup_job_ready": 0, "rollup_job_stalled": 0}
    assert samples["rollup_jobs", (("state", "none"),)] == 1


@pytest.mark.parametrize(
    "status",
    [
        {"conditions": ["x"], "watermark": 5, "lastRun": "no", "stats": [1], "state": ["stopped"]},
        {"conditions": 7, "watermark": "soon", "lastRun": {"startTime": "2025"}, "stats": {"triggerCount": "many"}},
        {"conditions": [{"type": "Ready", "status": "False", "reason": {"a": 1}}], "state": "flying"},
    ],
)
async def test_nonsense_in_a_body_costs_its_own_series_only(status: dict[str, Any]):
    odd = view("odd", status=status, spec={"groups": {"dateHistogram": {"fixedInterval": 3, "delay": "x"}}})
    samples = await scraped([odd, running()])
    assert of_job(samples)["rollup_job_ready"] == 1
    assert set(of_job(samples, "odd")) <= {
        "rollup_job_desired_started",
        "rollup_job_ready",
        "rollup_job_stalled",
    }
    assert sum(value for (name, _), value in samples.items() if name == "rollup_jobs") == 2


@pytest.mark.parametrize(("calendar", "seconds"), [("1M", 31 * 86_400), ("day", 86_400), ("1q", 92 * 86_400)])
async def test_the_usual_lag_of_a_calendar_interval_is_its_longest_bucket(calendar: str, seconds: int):
    job = view(spec={"groups": {"dateHistogram": {"field": "t", "calendarInterval": calendar}}})
    assert of_job(await scraped([job]))["rollup_job_usual_lag_seconds"] == seconds


async def test_the_limit_bounds_the_series_and_not_the_totals():
    jobs = [running(f"job-{n}") for n in range(76)]
    samples = await scraped(jobs, limit=5, stores=[(("team", f"store-{n}"), n == 0) for n in range(9)])
    named = {dict(labels).get("rollup_job") for (_, labels) in samples} - {None}
    assert named == {f"job-{n}" for n in range(5)}
    assert samples["rollup_jobs", (("state", "indexing"),)] == len(jobs)
    assert samples["rollup_jobs_without_series", ()] == len(jobs) - 5
    assert [value for (name, _), value in samples.items() if name == "rollup_store_ready"] == [1, 0, 0, 0, 0]


async def test_no_series_at_all_still_counts_the_jobs():
    samples = await scraped([running()], limit=0)
    assert of_job(samples) == {}
    assert samples["rollup_jobs", (("state", "indexing"),)] == 1


async def test_a_name_is_escaped():
    samples = await scraped([], stores=[(('a"b', "c\\d\n"), True)])
    assert samples["rollup_store_ready", (("rollup_namespace", 'a"b'), ("rollup_store", "c\\d\n"))] == 1


async def test_scrapes_at_a_time_are_made_once() -> None:
    class Many(Parts):
        asked = 0

        def views(self) -> list[JobView]:
            self.asked += 1
            return [running(f"job-{n}") for n in range(75)]

    parts = Many()
    shown = figures(parts=parts)
    texts = await asyncio.gather(*(shown.scrape() for _ in range(50)))
    assert parts.asked == 1
    assert len(set(texts)) == 1
    await shown.scrape()
    assert parts.asked == 2


async def test_a_large_scrape_holds_the_loop_for_a_portion_at_a_time():
    jobs = [running(f"job-{n}") for n in range(2_000)]
    async with watched() as loop:
        await Metrics().scrape(jobs, (), limit=len(jobs))
    assert loop.longest < 0.05


async def test_a_replica_that_does_not_lead_shows_no_jobs():
    leads = False
    shown = figures(leading=lambda: leads)
    samples = read(await shown.scrape())
    assert samples["rollup_operator_leader", ()] == 0
    assert not any("namespace" in dict(labels) for _, labels in samples)
    leads = True
    samples = read(await shown.scrape())
    assert samples["rollup_operator_leader", ()] == 1
    assert of_job(samples)["rollup_job_ready"] == 1
