"""What a bucket of an answer says of itself, beside what it holds. Pure."""

from collections.abc import Callable
from typing import Any

from rollup_operator.query.aggregations import FiltersAggregation, RangesAggregation, TermsAggregation
from rollup_operator.query.answering.results import Bucket, Series
from rollup_operator.query.answering.tree import edge_printer


def head_of(series: Series) -> Callable[[Bucket], dict[str, Any]]:
    """Return what writes what a bucket says of itself."""
    match series.aggregation.kind:
        case FiltersAggregation():
            return lambda bucket: {"doc_count": bucket.count}
        case RangesAggregation() as k:
            return _range_head(series, k)
        case TermsAggregation(shows_error=True):
            return lambda bucket: {**_plain_head(bucket), "doc_count_error_upper_bound": 0}
        case _:
            return _plain_head


def _range_head(series: Series, k: RangesAggregation) -> Callable[[Bucket], dict[str, Any]]:
    dates = k.of_dates or series.shape.kind == "date"
    write = edge_printer(series.shape, k) if dates or k.format is not None else None

    def head(bucket: Bucket) -> dict[str, Any]:
        _, low, high = series.shape.ranges[int(bucket.key)]
        out: dict[str, Any] = {} if k.keyed else {"key": bucket.text}
        for name, edge in (("from", low), ("to", high)):
            if edge is not None:
                out[name] = float(edge)
                if write is not None:
                    out[f"{name}_as_string"] = write(edge)
        out["doc_count"] = bucket.count
        return out

    return head


def _plain_head(bucket: Bucket) -> dict[str, Any]:
    if bucket.text is None:
        return {"key": bucket.key, "doc_count": bucket.count}
    return {"key_as_string": bucket.text, "key": bucket.key, "doc_count": bucket.count}
