"""What is wrong with a source shows as soon as a job is started, however far its first run is."""

from pathlib import Path

from support.api import Api, Body, condition
from support.bodies import store
from support.data import small_groups, trips_job, write_trips
from support.operator import Operator
from support.waiting import NEVER, status


def message(body: Body) -> str:
    return str((condition(body) or {})["message"])


def test_a_source_that_is_not_there_shows_before_the_first_run_and_is_found_once_it_is(
    operator: Operator, api: Api, folder: Path
) -> None:
    api.create(store())
    api.create(trips_job(cron=NEVER, groups=small_groups()))
    body = api.wait_condition("trips", status="False", reason="SourceNotFound")
    assert status(body)["state"] == "started"
    assert "spec.indexPattern 'trips/*.parquet' matches no table" in message(body)
    assert (condition(body, "Reconciling") or {})["status"] == "True"
    assert api.wait_event("trips", "SourceNotFound")["type"] == "Warning"
    write_trips(folder)
    body = api.wait_condition("trips", status="True", timeout=60)  # the longest pause by then, and more
    assert "lastRun" not in status(body)
    assert "SourceNotFound is over" in api.wait_event("trips", "Recovered")["message"]


def test_a_wrong_field_stalls_a_job_before_its_first_run_until_the_spec_is_corrected(
    operator: Operator, api: Api, folder: Path
) -> None:
    write_trips(folder)
    api.create(store())
    metrics = [{"field": "Size", "metrics": ["max"]}, {"field": "site", "metrics": ["sum"]}]
    api.create(trips_job(cron=NEVER, groups=small_groups(), metrics=metrics))
    body = api.wait_condition("trips", "Stalled", reason="SourceInvalid")
    assert "lastRun" not in status(body)
    assert "spec.metrics: the source has no field 'Size': did you mean 'size'" in message(body)
    assert "spec.metrics: field 'site' is keyword: metrics need numbers or dates" in message(body)
    api.patch_job("trips", {"metrics": [{"field": "size", "metrics": ["max"]}]})
    body = api.wait_condition("trips", status="True")
    assert "lastRun" not in status(body)
