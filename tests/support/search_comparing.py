"""What a node is asked in place of a search, and how its answer and ours are compared."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from rollup_operator.query.aggregations import Aggregation, DateHistogramAggregation
from rollup_operator.query.times.dates import DateReader, zone_of
from rollup_operator.rollup.bounds import Bounds
from support.random_worlds import TIME
from support.rounding import ms

Body = dict[str, Any]
SIZED = ("delay", "price")
SIZE = "~"
"""Begins the names of fields with the absolute values of `SIZED`, and of aggregations that sum them up."""


@dataclass(frozen=True)
class Answered:
    """How a search was answered."""

    aggregations: Sequence[Aggregation]
    """With the intervals that are answered."""
    report: Mapping[str, Any]
    """The answer's `_rollup`."""
    bounds: Bounds
    """Those of the job that answers."""
    places: Mapping[Sequence[str], Sequence[tuple[int, int]]] = field(default_factory=dict)
    """The indices of each source, if there are several, and which time of it is answered by what is rolled up."""

    def rounded(self) -> set[int]:
        """Return the times that are rounded."""
        return {ms(each["time"].rstrip("Z")) for each in self.report.get("rounded", ())}

    def rounded_by_place(self) -> dict[Sequence[str], set[int]]:
        """Return which of them are rounded in each source. Where rows are read, none is."""
        times, next_edge = self.rounded(), self.bounds.next_edge
        return {
            names: {t for t in times if any(a <= t < next_edge(b - 1) for a, b in stretches)}
            for names, stretches in self.places.items()
        }


def as_answered(body: Body, how: Answered) -> Body | None:
    """Return the body with the intervals that are answered, and with the ends of ranges where a bucket begins.

    None: the keys of a date_range are told by such ends, a text has them, or an interval is answered in a zone by which
    some nodes would move other numbers of the request.
    """
    found = _whole(body)
    rounded = how.rounded()
    if rounded and (f"{TIME}:" in str(body) or not rounded.isdisjoint(_ends_of_ranges(body))):
        return None
    if rounded:
        found = _rounded(found, how)
    if "interval" in how.report:
        if _moved_by_a_zone(found["aggs"]):
            return None
        found["aggs"] = _widened(found["aggs"], how.aggregations)
    return found


def also(body: Body, **clauses: Sequence[Body]) -> Body:
    """Return the body with more conditions, given as those of a `bool`."""
    must = [*([body["query"]] if "query" in body else []), *clauses.get("must", ())]
    return {**body, "query": {"bool": {**clauses, "must": must}}}


def _ends_of_ranges(node: Any) -> Iterator[int]:
    if isinstance(node, list):
        for each in node:
            yield from _ends_of_ranges(each)
    elif isinstance(node, dict):
        if isinstance(node.get("date_range"), dict):
            yield from (end for part in node["date_range"]["ranges"] for end in part.values())
        for each in node.values():
            yield from _ends_of_ranges(each)


def _whole(node: Any) -> Any:
    """Return it with each shard asked for all terms: it drops those below `min_doc_count` after cutting, otherwise."""
    if isinstance(node, list):
        return [_whole(each) for each in node]
    if not isinstance(node, dict):
        return node
    out = {name: _whole(each) for name, each in node.items()}
    if "order" in out and "min_doc_count" in out and "interval" not in "".join(out):
        out["shard_size"] = 10_000
    return out


def _moved_by_a_zone(aggs: Body) -> bool:
    """Whether it has numbers that OpenSearch and Elasticsearch 7 move by a zone, and later nodes do not."""
    return any(
        "missing" in (k := a.get("date_histogram", {}))
        or (k.get("format") == "epoch_second" and k.keys() & {"extended_bounds", "hard_bounds"})
        or _moved_by_a_zone(a.get("aggs", {}))
        for a in aggs.values()
    )


def _widened(aggs: Body, of: Sequence[Aggregation]) -> Body:
    out: Body = {}
    for a in of:
        body = dict(aggs[a.name])
        if isinstance(a.kind, DateHistogramAggregation):
            own = {k: v for k, v in body["date_histogram"].items() if "interval" not in k}
            interval = (
                {"fixed_interval": f"{a.kind.fixed_ms}ms"}
                if a.kind.fixed_ms is not None
                else {"calendar_interval": a.kind.calendar_unit}
            )
            body["date_histogram"] = {**own, **interval, "time_zone": a.kind.time_zone}
        if "aggs" in body:
            body["aggs"] = _widened(body["aggs"], a.subs)
        out[a.name] = body
    return out


def _rounded(node: Any, how: Answered) -> Any:
    if isinstance(node, list):
        return [_rounded(each, how) for each in node]
    if not isinstance(node, dict):
        return node
    if not (isinstance(ends := node.get("range"), dict) and isinstance(ends.get(TIME), dict)):
        return {name: _rounded(each, how) for name, each in node.items()}
    if not how.places:
        return {"range": {TIME: _ends(ends[TIME], how.rounded(), how.bounds)}}
    each_place = [
        {
            "bool": {
                "filter": [{"terms": {"_index": list(names)}}, {"range": {TIME: _ends(ends[TIME], times, how.bounds)}}]
            }
        }
        for names, times in how.rounded_by_place().items()
    ]
    return {"bool": {"should": each_place}}


def _ends(ends: Body, rounded: set[int], bounds: Bounds) -> Body:
    out: Body = {"format": "epoch_millis"}
    zone = zone_of(ends["time_zone"]) if "time_zone" in ends else UTC
    reader = DateReader(int(time.time() * 1000), ends.get("format"), zone)
    for name, value in ends.items():
        if name in ("gte", "gt"):
            low = reader.read(value, rounds_up=name == "gt") + (name == "gt")
            out["gte"] = bounds.round_down(low) if low in rounded else low
        elif name in ("lt", "lte"):
            high = reader.read(value, rounds_up=name == "lte") + (name == "lte")
            out["lt"] = bounds.next_edge(high) if high in rounded else high
    return out


def counting_all(body: Body) -> Body:
    """Return the body with all hits counted.

    A node that counts up to five need not find out whether there is a sixth, and may say `eq` or `gte` of five hits.
    """
    return {**body, "track_total_hits": True} if _limit(body) is not None else body


def counted(body: Body, hits: Body) -> Body:
    """Return the hits of `counting_all`, as they are to be answered where the body counts up to a number only."""
    most = _limit(body)
    if most is None or hits["total"]["value"] <= most:
        return hits
    return {**hits, "total": {"value": most, "relation": "gte"}}


def _limit(body: Body) -> int | None:
    most = body.get("track_total_hits")
    return None if most is None or isinstance(most, bool) else int(most)


def with_sizes(body: Body) -> Body:
    """Return the body with the sum of absolute values, as `Copy` has them, asked beside each sum and average.

    An `interval` of time gets its newer name, since not every node knows the old one.
    """
    aggs: Body = {}
    for name, a in body.get("aggs", {}).items():
        aggs[name] = with_sizes(a)
        if "interval" in (times := a.get("date_histogram", {})):
            times = {("fixed_interval" if k == "interval" else k): v for k, v in times.items()}
            aggs[name] |= {"date_histogram": times}
        for kind in ("sum", "avg", "stats"):
            if kind in a and a[kind]["field"] in SIZED:
                of = {"field": f"{SIZE}{a[kind]['field']}"}
                missing = {"missing": abs(a[kind]["missing"])} if "missing" in a[kind] else {}
                aggs[f"{SIZE}{name}"] = {"sum": of | missing}
    return {**body, "aggs": aggs} if aggs else body


def differences(ours: Any, theirs: Any, tolerance: float, at: str = "") -> list[str]:
    """Return where two answers differ, a line each; numbers that are no more apart than the tolerance are alike.

    In sums and averages, the tolerance is that of the bucket: 1e-12 of the sum of its absolute values.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        sizes = {k: v["value"] for k, v in theirs.items() if k.rpartition("#")[2].startswith(SIZE)}
        if sizes:
            theirs = {k: v for k, v in theirs.items() if k not in sizes}
            sizes = {k.rpartition("#")[2].removeprefix(SIZE): 1e-12 * v for k, v in sizes.items()}
        if not theirs.get("meta", True):  # OpenSearch 3 writes an empty one where a filter was asked for
            theirs = {k: v for k, v in theirs.items() if k != "meta"}
        found = [f"{at}.{k}: missing in {'theirs' if k in ours else 'ours'}" for k in ours.keys() ^ theirs.keys()]
        if at.endswith("buckets") and list(ours) != list(theirs) and not found:
            found.append(f"{at}: order {list(ours)} / {list(theirs)}")
        for k in ours.keys() & theirs.keys():
            found += differences(ours[k], theirs[k], sizes.get(k.rpartition("#")[2], tolerance), f"{at}.{k}")
        return found
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            heads = [[b.get("key") if isinstance(b, dict) else b for b in x] for x in (ours, theirs)]
            return [f"{at}: {heads[0]} / {heads[1]}"]
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, tolerance, f"{at}[{i}]")]
    if isinstance(ours, float) or isinstance(theirs, float):
        same = _is_number(ours) and _is_number(theirs) and math.isclose(ours, theirs, rel_tol=1e-12, abs_tol=tolerance)
        return [] if same else [f"{at}: {ours!r} / {theirs!r}"]
    return [] if ours == theirs and type(ours) is type(theirs) else [f"{at}: {ours!r} / {theirs!r}"]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
