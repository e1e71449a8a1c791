"""A tenant whose patterns are as bad as they are accepted, beside everybody else. A whole operator, as users run it."""

import time
from pathlib import Path

import pytest

from support.api import Api, ApiError
from support.bodies import sensor, store
from support.data import trips_job, write_trips
from support.operator import Operator
from support.waiting import run_completed

WORST = "in/*a*a*a*a*a*a*a*b.parquet"
"""As many stars as a pattern may have, over names of which it fits to nearly all."""


@pytest.fixture(autouse=True)
def _names_that_nearly_fit(api: Api, folder: Path) -> None:
    (folder / "in").mkdir()
    for number in range(100, 200):
        (folder / "in" / f"{'a' * 200}{number}.parquet").touch()
    write_trips(folder)
    api.create(store())
    api.wait_condition("default", reason="Available", kind="RollupStore")


def longest_health_check(operator: Operator, seconds: float) -> float:
    """Ask for so long, again and again, whether the process lives; return the seconds of the slowest answer."""
    longest, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        assert operator.request("GET", "/healthz").status == 200
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.02)
    return longest


def test_a_job_with_the_worst_pattern_holds_nobody_up(operator: Operator, api: Api) -> None:
    api.create(trips_job("hostile", indexPattern=WORST, rollupIndex="nothing"))
    api.create(trips_job("other"))
    api.wait_condition("hostile", status="False", reason="SourceNotFound")
    api.wait("other", run_completed)
    assert longest_health_check(operator, 3.0) < 2.0
    for name in ("hostile", "other"):
        path = f"/namespaces/{api.namespace}/_rollup/job/{name}/_stop?wait_for_completion=true&timeout=10s"
        assert operator.request("POST", path).status == 200


def test_a_preview_with_the_worst_pattern_is_answered(operator: Operator, api: Api) -> None:
    path = f"/namespaces/{api.namespace}/_rollup/job/_preview"
    began = time.monotonic()
    answer = operator.request("POST", path, sensor(index_pattern=WORST))
    assert (answer.status, time.monotonic() - began < 5.0) == (400, True), answer


def test_a_pattern_of_stars_is_refused_by_the_api_server(api: Api) -> None:
    with pytest.raises(ApiError, match="too many stars: use at most 8 in one pattern"):
        api.create(trips_job("hostile", indexPattern=f"in/{'*' * 20}zz.parquet"))
