"""A search over rolled and live data is answered as the same search over all raw data, for random data and requests."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.query.aggregations import (
    Aggregation,
    DateHistogramAggregation,
    FiltersAggregation,
    HistogramAggregation,
    MetricAggregation,
    Order,
    PipelineAggregation,
    RangeBucket,
    RangesAggregation,
    TermsAggregation,
    TimeBounds,
)
from rollup_operator.query.clauses import (
    MATCH_ALL,
    BoolClause,
    Clause,
    ExistsClause,
    NotClause,
    PatternClause,
    RangeClause,
    TermClause,
)
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.planning.planner import plan
from rollup_operator.query.reading.request import SearchRequest
from rollup_operator.rollup.bounds import Bounds
from support.search_jobs import DAY, HOUR, answered, live_of, spec_of, tier_of
from support.search_reference import roll_up

BEGIN = 1_711_670_400_000  # 2024-03-29: the clocks of Berlin are changed on the 31st
DAYS = 5
END = BEGIN + 30 * DAY
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata")

_REASONS = ("Job [", "Field [", "Extended bounds", "between changes of clocks")

Tiers = list[tuple[str, RollupJobSpec, int, int]]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) or isinstance(b, float):
        return isinstance(a, int | float) and isinstance(b, int | float) and math.isclose(a, b, rel_tol=1e-12)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of a source, some of whose values are missing."""
    chance, count = random.Random(draw(st.integers(0, 2**32))), draw(st.integers(0, 120))

    def value(make: Callable[[], Any]) -> Any:
        return None if chance.random() < 0.15 else make()

    return [
        {
            "time": value(lambda: chance.randrange(BEGIN, BEGIN + DAYS * DAY)),
            "carrier": value(lambda: chance.choice(["AA", "B6", "DL", "UA"])),
            "code": value(lambda: chance.randint(-1, 2)),
            "distance": value(lambda: chance.randint(-4, 8) * 50.0),
            "delay": value(lambda: chance.randint(-20, 20) / 4),
        }
        for _ in range(count)
    ]


intervals = st.sampled_from(["1h", "30m", "6h", "1d", "hour", "day", "week"])


@st.composite
def tiers(draw: st.DrawFn) -> Tiers:
    """Jobs of one source, each rolled up for some stretch of time."""
    found: Tiers = []
    for i in range(draw(st.integers(1, 2))):
        spec = spec_of(draw(intervals), draw(st.sampled_from(ZONES[:2])), histogram=draw(st.booleans()))
        bounds = Bounds.of(spec.groups.date_histogram)
        first, last = sorted(draw(st.integers(BEGIN - DAY, BEGIN + (DAYS + 1) * DAY)) for _ in range(2))
        found.append((f"job{i}", spec, bounds.round_down(first), bounds.round_down(last)))
    return found


@st.composite
def ranges_of_time(draw: st.DrawFn) -> Clause:
    """Whole days by the clock of Berlin, which are whole hours everywhere: no end has to be rounded to them."""
    ends = [draw(st.none() | st.integers(-1, DAYS + 1)) for _ in range(2)]
    low, high = (None if e is None else BEGIN - HOUR + e * DAY for e in ends)
    return RangeClause("time", low, high, True, False)


leaves = st.one_of(
    st.just(TermClause("carrier", ("AA", "DL"), "terms")),
    st.just(TermClause("carrier", ("B6",), "term")),
    st.just(TermClause("code", (1, 2), "terms")),
    st.just(RangeClause("code", 0, 2, True, True)),
    st.just(RangeClause("distance", 0, 200)),
    st.just(RangeClause("distance", 50, 150)),
    st.just(PatternClause("carrier", "A*", "wildcard")),
    st.just(ExistsClause("code")),
    st.just(ExistsClause("time")),
    ranges_of_time(),
)
clauses = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(NotClause),
        st.builds(
            BoolClause,
            must=st.lists(inner, max_size=2).map(tuple),
            should=st.lists(inner, min_size=1, max_size=3).map(tuple),
            at_least=st.integers(0, 2),
        ),
    ),
    max_leaves=4,
)
queries = st.one_of(
    st.just(MATCH_ALL), ranges_of_time(), st.builds(lambda a, b: BoolClause((a, b)), clauses, ranges_of_time()), clauses
)
orders = st.sampled_from(
    [
        (Order("_count", False), Order("_key", True)),
        (Order("_key", False),),
        (Order("_count", True), Order("_key", True)),
        (Order("m0", False),),
        (Order("m0", True), Order("_key", True)),
    ]
)


@st.composite
def grouping(draw: st.DrawFn) -> tuple[str, Any]:
    kind = draw(
        st.sampled_from(["date_histogram", "date_histogram", "terms", "terms", "histogram", "filters", "range"])
    )
    if kind == "date_histogram":
        fixed = draw(st.sampled_from([None, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY]))
        unit = draw(st.sampled_from(["1h", "1d", "1w", "1M"])) if fixed is None else None
        bounds = draw(st.sampled_from([None, TimeBounds(BEGIN - DAY, BEGIN + 3 * DAY + 5)]))
        return kind, DateHistogramAggregation(
            "time",
            fixed,
            unit,
            draw(st.sampled_from(ZONES)),
            draw(st.sampled_from([0, 0, HOUR, -6 * HOUR])),
            draw(st.sampled_from([None, "epoch_millis", "yyyy-MM-dd HH:mm"])),
            draw(st.booleans()) and fixed is not None and fixed >= DAY,
            draw(st.sampled_from([0, 0, 1, 2])),
            bounds if unit != "1h" else None,
            draw(st.sampled_from([None, None, TimeBounds(BEGIN, BEGIN + 3 * DAY)])),
            draw(st.sampled_from([None, None, BEGIN + DAY + 7])),
        )
    if kind == "terms":
        field = draw(st.sampled_from(["carrier", "code"]))
        missing = draw(st.sampled_from([None, "ZZ" if field == "carrier" else 9]))
        include = draw(st.sampled_from([None, None, "A.|[BD].*"])) if field == "carrier" else None
        exclude = draw(st.sampled_from([None, None, ("AA",) if field == "carrier" else (1,)]))
        size, least = draw(st.integers(1, 4)), draw(st.integers(1, 2))
        return kind, TermsAggregation(field, size, least, missing, include, exclude, draw(orders))
    if kind == "histogram":
        width, offset = draw(st.sampled_from([(100.0, 0.0), (200.0, 0.0), (300.0, 100.0)]))
        missing = draw(st.sampled_from([None, 500.0]))
        extended = draw(st.sampled_from([None, (-500.0, 500.0)]))
        return kind, HistogramAggregation(
            "distance", width, offset, False, draw(st.integers(0, 1)), extended, None, missing
        )
    if kind == "filters":
        inner = draw(st.lists(clauses, min_size=1, max_size=2))
        return kind, FiltersAggregation(
            tuple((f"f{i}", c) for i, c in enumerate(inner)), True, draw(st.sampled_from([None, "rest"]))
        )
    return kind, RangesAggregation(
        "code",
        (RangeBucket(None, None, 1), RangeBucket("some", 1, 2), RangeBucket(None, 0)),
        missing=draw(st.sampled_from([None, 1])),
    )


metrics = st.builds(
    MetricAggregation,
    st.sampled_from(["min", "max", "sum", "avg", "value_count", "stats"]),
    st.just("delay"),
    st.none() | st.just("0.00"),
    st.none() | st.just(2),
)
pipelines = st.sampled_from(
    [
        PipelineAggregation("derivative", {"buckets_path": "_count", "unit": "1h"}),
        PipelineAggregation("cumulative_sum", {"buckets_path": "_count"}),
        PipelineAggregation("serial_diff", {"buckets_path": "_count", "lag": 2}),
        PipelineAggregation(
            "moving_fn", {"buckets_path": "_count", "window": 3, "script": "MovingFunctions.unweightedAvg(values)"}
        ),
        PipelineAggregation("bucket_script", {"buckets_path": {"a": "_count"}, "script": "params.a * 2"}),
    ]
)


@st.composite
def trees(draw: st.DrawFn, depth: int = 0) -> tuple[Aggregation, ...]:
    found: list[Aggregation] = []
    for i in range(draw(st.integers(0 if depth else 1, 2))) if depth < 3 else ():
        kind, body = draw(grouping())
        first = Aggregation(
            "m0", MetricAggregation(draw(st.sampled_from(["avg", "sum", "max"])), "delay"), type_name="avg"
        )
        subs = (first, *draw(trees(depth + 1)))
        if isinstance(body, DateHistogramAggregation | HistogramAggregation) and draw(st.booleans()):
            subs = (*subs, Aggregation("p", draw(pipelines)))
        found.append(Aggregation(f"b{i}", body, subs, type_name=kind))
    for i in range(draw(st.integers(0, 2))):
        metric = draw(metrics)
        found.append(Aggregation(f"m{i + 1}", metric, type_name=metric.kind))
    return tuple(found)


@given(tables(), tiers(), queries, trees())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_rolled_and_live_data_answer_as_the_raw_data_alone(
    rows: list[dict[str, Any]], jobs: Tiers, query: Clause, aggregations: tuple[Aggregation, ...]
) -> None:
    request = SearchRequest(query=query, aggregations=aggregations)
    documents = {job: roll_up(job, spec, rows, begin, end) for job, spec, begin, end in jobs}
    live = live_of(jobs[0][1])
    try:
        made = plan(request, [tier_of(*job) for job in jobs], live, END)
    except SearchRefused as e:
        assert any(word in e.reason for word in _REASONS)  # noqa: PT017  # refusing is right, too
        return
    if any("rounded" in part for part in [made.report or {}]):
        return
    whole = answered(made, rows, documents)
    try:
        alone = plan(replace(made.request, query=query), [], live, END)
    except SearchRefused as e:
        assert "stretches between changes of clocks" in e.reason  # noqa: PT017  # in all of the time there are too many
        return
    raw = answered(alone, rows, {})
    assert same(whole["aggregations"], raw["aggregations"])
    assert whole["hits"] == raw["hits"]
