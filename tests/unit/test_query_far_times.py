"""Times of requests that no clock reaches are answered or refused like others."""

from contextlib import suppress
from typing import Any

import pytest

from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.planning.planner import plan
from rollup_operator.query.reading.request import parse_request
from rollup_operator.stores.opensearch import search_body
from support.search_jobs import DAY, answered, live_of, spec_of, tier_of

FAR = [-(2**63), 2**63 - 1, 10**15, -9e18, "9999-12-31"]
CASES: list[tuple[tuple[str, str], dict[str, Any]]] = [
    (("1h", "UTC"), {"fixed_interval": "1h"}),
    (("day", "Europe/Berlin"), {"calendar_interval": "1d", "time_zone": "Europe/Berlin", "offset": "+90d"}),
    (("month", "America/New_York"), {"calendar_interval": "1M", "time_zone": "America/New_York"}),
]
"""A job's interval and zone, and the buckets that are asked for."""


def bodies(far: Any, grid: dict[str, Any]) -> list[dict[str, Any]]:
    histogram = {"field": "time", **grid}
    plain = {"a": {"date_histogram": histogram}}
    conditions = [{"range": {"time": {"gte": far}}}, {"range": {"time": {"lt": far}}}, {"term": {"time": far}}]
    bounds = [{"min": far, "max": far}, {"min": 0, "max": far}, {"min": far, "max": 0}, {"min": -9e18, "max": 9e18}]
    histograms = [{what: pair} for what in ("extended_bounds", "hard_bounds") for pair in bounds] + [{"missing": far}]
    return [
        *({"size": 0, "query": condition, "aggs": plain} for condition in conditions),
        *({"size": 0, "aggs": {"a": {"date_histogram": histogram | more}}} for more in histograms),
        {"size": 0, "aggs": {"a": {"date_range": {"field": "time", "ranges": [{"from": far}, {"to": far}]}}}},
    ]


@pytest.mark.parametrize(("job", "grid"), CASES, ids=str)
@pytest.mark.parametrize("far", FAR, ids=str)
def test_a_time_beyond_every_clock_is_no_mistake_of_ours(far: Any, grid: dict[str, Any], job: tuple[str, str]) -> None:
    spec = spec_of(*job)
    for body in bodies(far, grid):
        with suppress(SearchRefused):
            made = plan(
                parse_request(body), [tier_of("job", spec, 0, 1_577_836_800_000)], live_of(spec), 54 * 365 * DAY
            )
            for fetch in made.fetches:
                search_body.body(fetch)
            answered(made, [], {"job": []})
