"""Reads the tree of aggregations of a request. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from rollup_operator.query.aggregations import (
    Aggregation,
    DateHistogramAggregation,
    HistogramAggregation,
    Kind,
    MetricAggregation,
    PipelineAggregation,
    TermsAggregation,
)
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.reading.bucket_reader import METRICS, BucketReader
from rollup_operator.query.reading.json_values import LONGEST_NAME, PARSING, RequestBudget, shown, token
from rollup_operator.query.reading.orders import checked_order
from rollup_operator.query.reading.pipeline_reader import PIPELINES, check_pipelines, read_pipeline

DEEPEST: Final = 20
"""Aggregations within each other."""

_DISTINCT: Final = (
    "distinct values of buckets cannot be added up: group by the field with [terms] and count its buckets"
)
_SPREAD: Final = "summaries keep no distribution of values: use [min], [max], [avg], or a [histogram] on a group field"
_SQUARES: Final = "summaries keep no squares of values: use [stats]"
_DOCUMENTS: Final = "summaries keep no single documents"
_PLACES: Final = "summaries keep no places"
_NESTED: Final = "summaries keep no documents within documents"
_SCORES: Final = "summaries keep no documents to compare or to sample"
_OTHER_WAY: Final = "use [date_histogram], [histogram], [terms], [filters], [filter], [range] or [date_range]"

_REASONS: Final[Mapping[str, str]] = {
    "adjacency_matrix": "use [filters]",
    "auto_date_histogram": "use [date_histogram]",
    "boxplot": _SPREAD,
    "bucket_correlation": _SPREAD,
    "bucket_count_ks_test": _SPREAD,
    "cardinality": _DISTINCT,
    "categorize_text": _DOCUMENTS,
    "change_point": _SPREAD,
    "children": _NESTED,
    "composite": "use [terms] within [date_histogram]",
    "cumulative_cardinality": _DISTINCT,
    "diversified_sampler": _SCORES,
    "extended_stats": _SQUARES,
    "extended_stats_bucket": "use [stats_bucket]",
    "frequent_item_sets": _DOCUMENTS,
    "geo_bounds": _PLACES,
    "geo_centroid": _PLACES,
    "geo_distance": _PLACES,
    "geo_line": _PLACES,
    "geohash_grid": _PLACES,
    "geohex_grid": _PLACES,
    "geotile_grid": _PLACES,
    "global": _OTHER_WAY,
    "inference": _OTHER_WAY,
    "ip_prefix": _OTHER_WAY,
    "ip_range": _OTHER_WAY,
    "matrix_stats": _SQUARES,
    "median_absolute_deviation": _SPREAD,
    "missing": "use [filter] with a [bool] query whose [must_not] is [exists]",
    "moving_avg": "use [moving_fn]",
    "moving_percentiles": _SPREAD,
    "multi_terms": "use [terms] within [terms]",
    "nested": _NESTED,
    "normalize": "use [bucket_script]",
    "parent": _NESTED,
    "percentile_ranks": _SPREAD,
    "percentiles": _SPREAD,
    "percentiles_bucket": "use [stats_bucket]",
    "random_sampler": _SCORES,
    "rare_terms": "use [terms] with an order of [_count] and a high [size]",
    "rate": "use [sum] or the count of [date_histogram], which are per bucket",
    "reverse_nested": _NESTED,
    "sampler": _SCORES,
    "scripted_metric": "use [bucket_script] over other aggregations",
    "significant_terms": _SCORES,
    "significant_text": _SCORES,
    "string_stats": _DOCUMENTS,
    "t_test": _SQUARES,
    "time_series": _OTHER_WAY,
    "top_hits": _DOCUMENTS,
    "top_metrics": _DOCUMENTS,
    "variable_width_histogram": "use [histogram]",
    "weighted_avg": "summaries keep no products of values: use [avg]",
}
"""Why summaries cannot answer an aggregation that Elasticsearch knows, or what can be used instead."""

_IN_ROLLUP_SEARCH: Final = frozenset(
    {"date_histogram", "histogram", "terms", "min", "max", "sum", "avg", "value_count"}
)
_BADLY_NAMED: Final = frozenset("[]>")


def read_aggregations(given: Any, budget: RequestBudget, *, rollup_search: bool = False) -> tuple[Aggregation, ...]:
    """Read the aggregations of a request. Raises SearchRefused."""
    found = _Trees(budget, rollup_search).read(given, 0)
    check_pipelines(found, None)
    return found


class _Trees:
    """Reads the aggregations of one request."""

    def __init__(self, budget: RequestBudget, rollup_search: bool) -> None:
        self._budget, self._rollup_search = budget, rollup_search
        self._buckets = BucketReader(budget)

    def read(self, given: Mapping[str, Any], depth: int) -> tuple[Aggregation, ...]:
        """Read the aggregations of one level."""
        if depth > DEEPEST:
            raise SearchRefused(f"at most [{DEEPEST}] aggregations within each other are read")
        return tuple(self._one(name, body, depth) for name, body in given.items())

    def _one(self, name: str, body: Any, depth: int) -> Aggregation:
        self._budget.take_aggregation()
        if not name or not _BADLY_NAMED.isdisjoint(name):
            raise SearchRefused(
                f"Invalid aggregation name [{shown(name)}]. Aggregation names can contain any character except '[', "
                "']', and '>'",
                PARSING,
            )
        if len(name) > LONGEST_NAME:
            raise SearchRefused(f"an aggregation's name has at most [{LONGEST_NAME}] characters")
        if not isinstance(body, dict):
            raise SearchRefused(
                f"Aggregation definition for [{name} starts with a [{token(body)}], expected a [START_OBJECT].", PARSING
            )
        kind: Kind | None = None
        type_name, meta = "", None
        subs: tuple[Aggregation, ...] | None = None
        for part, value in body.items():
            if not isinstance(value, dict):
                raise SearchRefused(
                    f"Expected [START_OBJECT] under [{shown(part)}], but got a [{token(value)}] in [{name}]", PARSING
                )
            if part == "meta":
                meta = value
            elif part in ("aggs", "aggregations"):
                if subs is not None:
                    raise SearchRefused(f"Found two sub aggregation definitions under [{name}]", PARSING)
                subs = self.read(value, depth + 1)
            elif kind is not None:
                raise SearchRefused(
                    f"Found two aggregation type definitions in [{name}]: [{type_name}] and [{shown(part)}]", PARSING
                )
            else:
                kind, type_name = self._kind(part, name, value), part
        if kind is None:
            raise SearchRefused(f"Missing definition for aggregation [{name}]", PARSING)
        return _checked(Aggregation(name, kind, subs or (), meta, type_name))

    def _kind(self, kind: str, name: str, body: Mapping[str, Any]) -> Kind:
        reader = self._buckets.readers.get(kind)
        known = reader is not None or kind in METRICS or kind in PIPELINES
        if not known and kind not in _REASONS:
            raise SearchRefused(f"Unknown aggregation type [{shown(kind)}]", PARSING)
        if self._rollup_search and kind not in _IN_ROLLUP_SEARCH and kind not in PIPELINES:
            class_name = "".join(part.capitalize() for part in kind.split("_")) + "AggregationBuilder"
            raise SearchRefused(
                f"Unable to translate aggregation tree into Rollup.  Aggregation [{name}] is of type [{class_name}] "
                "which is currently unsupported."
            )
        if not known:
            raise SearchRefused(
                f"aggregation [{name}] of type [{kind}] cannot be answered over rolled-up data: {_REASONS[kind]}"
            )
        if kind in PIPELINES:
            return read_pipeline(kind, name, body)
        return self._buckets.metric(kind, name, body) if reader is None else reader(name, body)


def _checked(found: Aggregation) -> Aggregation:
    """Check what an aggregation and those within it say of each other."""
    match found.kind:
        case MetricAggregation() if found.subs:
            raise SearchRefused(f"Aggregator [{found.name}] of type [{found.type_name}] cannot accept sub-aggregations")
        case PipelineAggregation() if found.subs:
            raise SearchRefused(f"Aggregation [{found.name}] cannot define sub-aggregations")
        case TermsAggregation() | DateHistogramAggregation() | HistogramAggregation():
            order = checked_order(found.kind.order, found.subs)
            if order != found.kind.order:
                found = replace(found, kind=replace(found.kind, order=order))
    check_pipelines(found.subs, found)
    return found
