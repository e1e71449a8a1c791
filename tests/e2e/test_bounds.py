"""A job that begins and ends where it is told to, says how far it is, looks back for late rows, and is previewed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.api import Api, Body
from support.backfill import PAGE_SECONDS, begin
from support.bodies import store
from support.data import end_of, exported, results_of, rolled_up_small, small_groups, trips_job, write_trips
from support.operator import Operator
from support.store_http import StoreHttp
from support.waiting import NEVER, finished, handled, request_run, run_completed, runs, status

SETTINGS = {"page_seconds": PAGE_SECONDS}


def text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def run_after(before: Body) -> Callable[[Body], bool]:
    """Whether a later run has come to its end. While one is under way, lastRun is the one before."""
    return lambda body: runs(body) > runs(before) and run_completed(body) and status(body)["state"] != "indexing"


def test_a_backfill_keeps_to_its_bounds(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder, hours=48)
    api.create(store())
    start, end = end_of(10), end_of(30)
    api.create(trips_job(groups=small_groups(), start=text(start), end=text(end)))
    body = api.wait("trips", finished(end_of(29)), 20)
    assert status(body)["watermark"] == text(end)
    whole = rolled_up_small(folder)
    mine = [row for row in whole[1:] if start <= row[0].replace(tzinfo=UTC) < end]
    assert exported(folder)[1:] == mine
    assert len(mine) == 20

    # It has nothing to do from then on, and says so; a job that starts there leaves no gap.
    body = api.wait("trips", run_after(body))
    assert status(body)["lastRun"]["message"] == f"everything before {text(end)}, which is spec.end, is rolled up"
    api.create(trips_job("rest", groups=small_groups(), start=text(end)))
    api.wait("rest", finished(end_of(47)), 20)
    assert exported(folder, "rest")[1:] == [row for row in whole[1:] if row[0].replace(tzinfo=UTC) >= end]

    # The end may be moved on; what is written then follows.
    api.patch_job("trips", {"end": text(end_of(40))})
    api.wait("trips", finished(end_of(39)))
    assert len(exported(folder)[1:]) == 30


def test_a_start_to_come_is_waited_for(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.create(trips_job(start="2999-01-01T00:00:00Z", groups=small_groups()))
    found = status(api.wait("trips", run_completed))
    assert found["lastRun"]["message"].startswith("nothing is due before the bucket of 2999-01-01T00:00:00Z is over")
    assert "watermark" not in found


def test_bounds_that_cannot_be_are_reported(operator: Operator, api: Api) -> None:
    api.create(store())
    api.create(trips_job(start="1960-01-01T00:00:00Z"))
    body = api.wait_condition("trips", status="False", reason="InvalidSpec")
    assert "spec.start: '1960-01-01T00:00:00Z' is before 1970" in body["status"]["conditions"][0]["message"]


def test_a_long_run_says_how_far_it_is(operator: Operator, api: Api, folder: Path) -> None:
    begin(api, folder, hours=3000)
    found = status(api.wait_state("trips", "indexing"))
    assert 0 <= found["progress"]["percent"] < 100
    api.stop("trips")
    stopped = api.wait_state("trips", "stopped")
    assert "progress" not in status(stopped)


@pytest.mark.parametrize("lookback", ["12h", None])
def test_rows_that_come_late(operator: Operator, api: Api, folder: Path, lookback: str | None) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    begin_at = hour - timedelta(hours=24)
    write_trips(folder, "a", begin=begin_at, hours=20)
    api.create(store())
    api.create(trips_job(groups=small_groups(), cron=NEVER, lookback=lookback))
    api.wait_condition("trips", reason="Waiting")
    request_run(api, "trips", "one")
    before = api.wait("trips", lambda body: handled("one")(body) and run_completed(body), 20)
    on_time = exported(folder)
    # Within the last twelve hours, and before them: only the former are looked at.
    write_trips(folder, "b", begin=begin_at + timedelta(hours=16), hours=2)
    request_run(api, "trips", "two")
    body = api.wait("trips", run_after(before))
    last = status(body)["lastRun"]
    if lookback is None:
        assert "rewritten" not in last
        assert exported(folder) == on_time
        return
    assert last["rewritten"] == 2
    assert "2 documents rewritten after late rows" in last["message"]
    assert exported(folder) == rolled_up_small(folder)

    # A source that shrinks is no late row: the documents stay, and it is told.
    (folder / "trips" / "b.parquet").unlink()
    kept = exported(folder)
    request_run(api, "trips", "three")
    body = api.wait("trips", lambda body: "kept" in status(body)["lastRun"])
    assert (status(body)["lastRun"]["kept"], exported(folder)) == (2, kept)
    event = api.wait_event("trips", "SourceShrunk")
    assert "2 documents kept, since the source holds fewer rows" in event["message"]


def test_a_preview_shows_what_the_job_then_makes(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(store())
    api.wait_condition("default", reason="Available", kind="RollupStore")
    manifest = trips_job(groups=small_groups(), start=text(end_of(10)))
    answer = operator.request("POST", f"/namespaces/{api.namespace}/_rollup/job/_preview", manifest)
    assert answer.status == 200, answer
    preview = answer.body
    assert preview["range"]["gte"] == text(end_of(10))
    assert preview["estimate"]["source_documents"] == 38 * 40
    assert preview["preview"][0]["_source"]["picked_up.date_histogram.timestamp"] == end_of(10).timestamp() * 1000
    assert api.list() == []
    assert not (results_of(folder) / "hourly").exists()
    api.create(manifest)
    api.wait("trips", finished(end_of(47)), 20)
    assert len(exported(folder)[1:]) == 38


def test_the_same_on_a_cluster(operator: Operator, api: Api, opensearch: StoreHttp) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    opensearch.create("trips", {"picked_up": "date", "size": "double"})

    def ride(first: int, hours: int) -> None:
        begin = hour - timedelta(hours=first)
        opensearch.load(
            "trips", [{"picked_up": text(begin + timedelta(minutes=10 * i)), "size": 0.25} for i in range(6 * hours)]
        )

    ride(24, 24)
    api.create(store(**{opensearch.distribution: {"hosts": [opensearch.url]}}))
    api.wait_condition("default", reason="Available", kind="RollupStore")
    manifest = trips_job(
        indexPattern="trips",
        groups=small_groups(),
        cron=NEVER,
        lookback="12h",
        start=text(hour - timedelta(hours=20)),
        metrics=[{"field": "size", "metrics": ["sum", "value_count"]}],
    )
    answer = operator.request("POST", f"/namespaces/{api.namespace}/_rollup/job/_preview", manifest)
    assert answer.status == 200, answer
    assert answer.body["estimate"]["source_documents"] == 120
    assert answer.body["estimate"]["buckets"] == 20
    previewed = {shown["_id"]: shown["_source"] for shown in answer.body["preview"]}
    assert not opensearch.exists("hourly")

    api.create(manifest)
    api.wait_condition("trips", reason="Waiting")
    request_run(api, "trips", "one")
    before = api.wait("trips", lambda body: handled("one")(body) and run_completed(body), 20)
    documents = opensearch.documents("hourly")
    assert len(documents) == 20
    assert previewed.items() <= documents.items()

    ride(8, 2)
    ride(18, 2)  # too late
    request_run(api, "trips", "two")
    body = api.wait("trips", run_after(before), 20)
    assert status(body)["lastRun"]["rewritten"] == 2
    counts = sorted(source["picked_up.date_histogram._count"] for source in opensearch.documents("hourly").values())
    assert counts == [6] * 18 + [12] * 2
