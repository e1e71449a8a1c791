"""A status can be written whatever stands in the job or its source: a stop that cannot be shown is never over."""

from pathlib import Path

import duckdb
import pytest

from rollup_operator.stores.duckdb.statements.columns import LONGEST_TEXTS
from support.api import Api, condition
from support.bodies import store
from support.data import small_groups, trips_job, write_trips
from support.operator import Operator
from support.waiting import request_run, run_completed, status


@pytest.fixture(autouse=True)
def _store(api: Api) -> None:
    api.create(store())
    api.wait_condition("default", reason="Available", kind="RollupStore")


def stopped(operator: Operator, api: Api, name: str) -> None:
    path = f"/namespaces/{api.namespace}/_rollup/job/{name}/_stop?wait_for_completion=true&timeout=10s"
    assert operator.post(path, timeout=20).body == {"stopped": True}


def test_a_job_that_is_asked_to_run_by_a_long_value_is_stopped(operator: Operator, api: Api, folder: Path) -> None:
    write_trips(folder)
    api.create(trips_job(groups=small_groups()))
    api.wait_condition("trips", reason="Waiting")
    request_run(api, "trips", "now " * 50_000)
    body = api.wait("trips", lambda body: status(body).get("lastHandledRunRequest", "").startswith("now now"))
    assert len(status(body)["lastHandledRunRequest"]) == 256
    stopped(operator, api, "trips")


@pytest.mark.parametrize("length", [LONGEST_TEXTS, 4_000_000])
def test_a_job_whose_terms_are_huge_is_stopped(operator: Operator, api: Api, folder: Path, length: int) -> None:
    (folder / "in").mkdir()
    with duckdb.connect() as db:
        rows = f"SELECT TIMESTAMP '2024-03-01' AS picked_up, repeat('x', {length}) AS site, 1.0 AS size"
        db.execute(f"COPY ({rows}) TO '{folder / 'in' / 'a.parquet'}'")
    groups = small_groups() | {"terms": {"fields": ["site"]}}
    api.create(trips_job(indexPattern="in/*.parquet", groups=groups, metrics=[{"field": "size", "metrics": ["max"]}]))
    if length > LONGEST_TEXTS:
        api.wait_condition("trips", "Stalled", reason="SourceInvalid")
    else:
        body = api.wait("trips", run_completed)
        assert len(status(body)["position"]["site.terms"]) == 256
    stopped(operator, api, "trips")


def test_what_is_wrong_with_many_fields_is_shown(operator: Operator, api: Api, folder: Path) -> None:
    with duckdb.connect() as db:
        columns = ", ".join(f'{n} AS "{n}{"y" * 1_000}"' for n in range(100))
        (folder / "in").mkdir()
        db.execute(f"COPY (SELECT {columns}) TO '{folder / 'in' / 'a.parquet'}'")
    api.create(trips_job(indexPattern="in/*.parquet"))
    body = api.wait_condition("trips", "Stalled", reason="SourceInvalid")
    assert len((condition(body) or {})["message"]) == 4096
    stopped(operator, api, "trips")
