"""A stopped job shows why the last check of its source failed, whatever happens to the operator."""

from pathlib import Path

from support.api import Api, Body, condition
from support.bodies import store
from support.data import small_groups, trips_job, write_trips
from support.operator_fixtures import StartOperator
from support.waiting import NEVER, assert_silent, status


def message(body: Body) -> str:
    return str((condition(body) or {})["message"])


def test_a_stopped_job_goes_on_to_say_why_its_last_check_failed_until_one_succeeds(
    start_operator: StartOperator, api: Api, folder: Path
) -> None:
    operator = start_operator()
    api.create(store())
    api.create(trips_job(cron=NEVER, groups=small_groups()))
    api.wait_condition("trips", status="False", reason="SourceNotFound")
    api.stop("trips")
    body = api.wait_condition("trips", status="True", reason="Stopped")
    no_table = "the last check of its source failed: spec.indexPattern 'trips/*.parquet' matches no table"
    assert no_table in message(body)
    assert status(body)["failedCheck"]["reason"] == "SourceNotFound"
    operator.stop()
    operator.start()
    assert_silent(api, body, 1.5)
    write_trips(folder)
    api.start("trips")
    body = api.wait_condition("trips", status="True", reason="Waiting")
    assert "failedCheck" not in status(body)
    api.stop("trips")
    assert message(api.wait_condition("trips", reason="Stopped")) == "no queries or writes are running"
