"""Writes the answer to a search as Elasticsearch does, in the request's order. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollup_operator.concurrency.portions import Work
from rollup_operator.query.aggregations import (
    DateHistogramAggregation,
    FiltersAggregation,
    HistogramAggregation,
    RangesAggregation,
    TermsAggregation,
)
from rollup_operator.query.answering.heads import head_of
from rollup_operator.query.answering.merge import merge
from rollup_operator.query.answering.pipelines import add_pipelines
from rollup_operator.query.answering.results import Bucket, BucketAllowance, Measured, Result, Series, at_once_of
from rollup_operator.query.answering.tree import Tree
from rollup_operator.query.planning.planner import SearchPlan
from rollup_operator.query.times.dates import java_number
from rollup_operator.stores.search import Partials, Row


@dataclass(frozen=True, slots=True)
class Style:
    """How the caller wants the answer written."""

    typed_keys: bool = False
    total_as_int: bool = False
    partial: bool = True
    """It may lack sources whose store cannot be asked."""


def answer(
    plan: SearchPlan, parts: Sequence[Partials], style: Style, room: Callable[[int], None] = lambda _: None
) -> Work[dict[str, Any]]:
    """Return what the parts of a search say together: `hits`, `aggregations` and `_rollup`. Raises SearchRefused.

    The parts are the answers to the plan's fetches, in order. `room` is `BucketAllowance.room`.
    """
    merged = yield from merge(parts, plan.numbers, plan.shapes)
    del parts  # of ten thousands of buckets each form takes many megabytes: one goes before the next but one is made
    out: dict[str, Any] = {"hits": _hits(plan, merged[()].rows.get((), Row(0)).count, style)}
    if plan.request.aggregations:
        results = yield from Tree(plan, merged, BucketAllowance(room=room)).build()
        del merged
        yield from add_pipelines(plan.request.aggregations, results)
        out["aggregations"] = yield from _named(results, style)
    if plan.report is not None:
        out["_rollup"] = plan.report
    return out


def _hits(plan: SearchPlan, count: int, style: Style) -> dict[str, Any]:
    """Return that there are no documents to show, and how many met the query."""
    hits: dict[str, Any] = {"max_score": None, "hits": []}
    most = plan.request.counts_up_to
    if plan.request.door == "rollup_search":
        count = 0
    elif most is not None and most < 0:
        return hits
    over = most is not None and count > most and not style.total_as_int
    shown = most if over else count
    total = shown if style.total_as_int else {"value": shown, "relation": "gte" if over else "eq"}
    return {"total": total, **hits}


def _named(results: Mapping[str, Result], style: Style) -> Work[dict[str, Any]]:
    out: dict[str, Any] = {}
    for name, result in results.items():
        if isinstance(result, Measured):
            key, written = result.type_name, result.to_json()
        else:
            key, written = _type(result), (yield from _series(result, style))
        out[f"{key}#{name}" if style.typed_keys else name] = written
    return out


def _measures(results: Mapping[str, Result], style: Style) -> dict[str, Any]:
    """Return the results of a bucket that has no buckets within."""
    return {
        f"{result.type_name}#{name}" if style.typed_keys else name: result.to_json()
        for name, result in results.items()
        if isinstance(result, Measured)
    }


def _series(series: Series, style: Style) -> Work[dict[str, Any]]:
    a, buckets = series.aggregation, series.buckets
    out: dict[str, Any] = {} if a.meta is None else {"meta": a.meta}
    written: list[dict[str, Any]] = []
    plain, at_once, head = not series.shape.subs, at_once_of(a.subs), head_of(series)
    for place, bucket in enumerate(buckets, 1):
        out_of = head(bucket)
        out_of |= _measures(bucket.results, style) if plain else (yield from _named(bucket.results, style))
        written.append(out_of)
        bucket.results = {}
        if place % at_once == 0:
            yield
    match a.kind:
        case FiltersAggregation(single=True):
            return out | written[0]
        case FiltersAggregation(named=True):
            return out | {"buckets": {b.text: w for b, w in zip(buckets, written, strict=True)}}
        case TermsAggregation():
            out |= {"doc_count_error_upper_bound": 0, "sum_other_doc_count": series.others}
        case DateHistogramAggregation(keyed=True) | HistogramAggregation(keyed=True) | RangesAggregation(keyed=True):
            return out | {"buckets": {_keyed(b): w for b, w in zip(buckets, written, strict=True)}}
        case _:
            pass
    return out | {"buckets": written}


def _keyed(bucket: Bucket) -> str:
    return bucket.text if bucket.text is not None else java_number(float(bucket.key))


def _type(series: Series) -> str:
    """Return what `typed_keys` puts before the name."""
    match series.aggregation.kind:
        case DateHistogramAggregation():
            return "date_histogram"
        case HistogramAggregation():
            return "histogram"
        case FiltersAggregation(single=True):
            return "filter"
        case FiltersAggregation():
            return "filters"
        case RangesAggregation(of_dates=True):
            return "date_range"
        case RangesAggregation():
            return "range"
        case _:
            return {"keyword": "sterms", "double": "dterms"}.get(series.shape.kind or "", "lterms")
