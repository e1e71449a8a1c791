"""What is computed of the results of other aggregations, once rolled and live buckets are one. Pure.

    within buckets, over their order     derivative, cumulative_sum, serial_diff, moving_fn
    within buckets, one by one           bucket_script, bucket_selector, bucket_sort
    beside buckets, over all of them     avg_bucket, min_bucket, max_bucket, sum_bucket, stats_bucket

As in Elasticsearch: those within deeper buckets first, and each after those whose results it reads.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollup_operator.concurrency.portions import Work, sorted_by
from rollup_operator.model.time_values import parse_time_value
from rollup_operator.query.aggregations import (
    Aggregation,
    FiltersAggregation,
    PipelineAggregation,
    RangesAggregation,
)
from rollup_operator.query.answering.moving import moving_function
from rollup_operator.query.answering.results import Bucket, Measured, Result, Series
from rollup_operator.query.answering.scripts import script
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.times.formats import number_printer

MOST_READ = 2_000_000
"""Values that the pipelines of a search read together: a few seconds."""

BESIDE = frozenset({"avg_bucket", "min_bucket", "max_bucket", "sum_bucket", "stats_bucket"})

_CALENDAR_MS = {
    "1s": 1_000,
    "1m": 60_000,
    "1h": 3_600_000,
    "1d": 86_400_000,
    "1w": 604_800_000,
    "1M": 2_629_746_000,
    "1q": 7_889_238_000,
    "1y": 31_556_952_000,
}
_WORDS = {"second": "1s", "minute": "1m", "hour": "1h", "day": "1d", "week": "1w", "month": "1M", "quarter": "1q"}
_WORDS |= {"year": "1y"}


@dataclass(slots=True)
class _Reads:
    """How many values the pipelines of an answer may still read."""

    left: int = MOST_READ

    def take(self, count: int) -> None:
        """Take some. Raises SearchRefused."""
        self.left -= count
        if self.left < 0:
            raise SearchRefused(
                f"the pipelines of a search may read [{MOST_READ}] values at most: ask for fewer of them, or for fewer "
                "buckets"
            )


def add_pipelines(aggregations: Sequence[Aggregation], results: dict[str, Result]) -> Work[None]:
    """Add the results of pipelines to those that they are computed of. Raises SearchRefused."""
    reads = _Reads()
    for a in aggregations:
        if isinstance(found := results.get(a.name), Series):
            yield from _within(found, reads)
    ordered = _ordered(aggregations)
    for a in ordered:
        if _kind(a).kind not in BESIDE:
            raise SearchRefused(
                f"{_kind(a).kind} aggregation [{a.name}] must be declared inside of another aggregation"
            )
        reads.take(len(_read_beside(a, results).buckets))
    for a in ordered:
        results[a.name] = yield from _beside(a, results)
        yield


def _within(series: Series, reads: _Reads) -> Work[None]:
    subs = series.aggregation.subs
    if not any(isinstance(s.kind, PipelineAggregation) or s.subs for s in subs):
        return
    for bucket in series.buckets:
        for s in subs:
            if s.subs and isinstance(found := bucket.results.get(s.name), Series):
                yield from _within(found, reads)
        yield
    ordered = _ordered(subs)
    count = sum(len(_paths(a)) + len(_kind(a).options.get("sort", ())) for a in ordered)
    reads.take(count * max(1, len(series.buckets)))
    for a in ordered:
        if _kind(a).kind in BESIDE:
            for bucket in series.buckets:
                reads.take(len(_read_beside(a, bucket.results).buckets))
                bucket.results[a.name] = yield from _beside(a, bucket.results)
                yield
        else:
            yield from _over(a, series)
    names = {a.name: i for i, a in enumerate(subs)}
    for bucket in series.buckets:
        bucket.results = dict(sorted(bucket.results.items(), key=lambda r: names[r[0]]))
        yield


def _over(a: Aggregation, series: Series) -> Work[None]:
    kind = _kind(a)
    match kind.kind:
        case "derivative":
            yield from _derivative(a, series)
        case "cumulative_sum":
            total = 0.0
            for bucket in series.buckets:
                value = _value(bucket, _path(a), "insert_zeros")
                total += 0.0 if value is None or math.isnan(value) else value
                bucket.results[a.name] = _simple(a, total)
                yield
        case "serial_diff":
            yield from _serial_diff(a, series)
        case "moving_fn":
            yield from _moving(a, series)
        case "bucket_script":
            yield from _script(a, series)
        case "bucket_selector":
            yield from _selector(a, series)
        case "bucket_sort":
            yield from _sort(a, series)
        case _:
            raise SearchRefused(f"[{kind.kind}] aggregation [{a.name}] is not supported")
    yield


def _derivative(a: Aggregation, series: Series) -> Work[None]:
    unit = _kind(a).options.get("unit")
    per = None if unit is None else _unit_ms(unit)
    last: tuple[float, float] | None = None
    for bucket in series.buckets:
        yield
        value = _value(bucket, _path(a), _gap(a))
        if value is None:
            last = None
            continue
        key = float(bucket.key)
        if last is not None:
            found = _simple(a, value - last[1], "derivative")
            if per is not None and (length := (key - last[0]) / per) > 0:
                found.values["normalized_value"] = found.values["value"] / length
                found.printed = ("value", "normalized_value")
            bucket.results[a.name] = found
        last = key, value


def _serial_diff(a: Aggregation, series: Series) -> Work[None]:
    lag = _whole(a, "lag", 1, least=1)
    values: list[float] = []
    for i, bucket in enumerate(series.buckets):
        value = _value(bucket, _path(a), _gap(a))
        values.append(math.nan if value is None else value)
        if i >= lag and not math.isnan(values[i]) and not math.isnan(values[i - lag]):
            bucket.results[a.name] = _simple(a, values[i] - values[i - lag])
        yield


def _moving(a: Aggregation, series: Series) -> Work[None]:
    options = _kind(a).options
    function = moving_function(options.get("script"))
    window, shift = _whole(a, "window", None, least=1), _whole(a, "shift", 0)
    found: list[tuple[Bucket, float]] = []
    for bucket in series.buckets:
        value = _value(bucket, _path(a), _gap(a))
        if value is not None and not math.isnan(value):
            found.append((bucket, value))
        yield
    values = [value for _, value in found]
    if len(values) * min(window, len(values)) > 5_000_000:
        raise SearchRefused(f"moving_fn aggregation [{a.name}] has too wide a window for so many buckets")
    for i, (bucket, _) in enumerate(found):
        begin, end = (max(0, min(len(values), at)) for at in (i - window + shift, i + shift))
        bucket.results[a.name] = _simple(a, function(values[begin:end]))
        yield


def _script(a: Aggregation, series: Series) -> Work[None]:
    compute, params = script(_kind(a).options.get("script"))
    for bucket in series.buckets:
        names = _names(a, bucket)
        if names is not None:
            value = compute({**params, **names})
            if value is not None:
                bucket.results[a.name] = _simple(a, float(value))
        yield


def _selector(a: Aggregation, series: Series) -> Work[None]:
    compute, params = script(_kind(a).options.get("script"))
    kept = []
    for bucket in series.buckets:
        names = {name: _value(bucket, path, _gap(a)) for name, path in _paths(a).items()}
        if compute({**params, **{n: math.nan if v is None else v for n, v in names.items()}}):
            kept.append(bucket)
        yield
    series.buckets = kept


def _sort(a: Aggregation, series: Series) -> Work[None]:
    sorts, begin = list(_sorts(a)), _whole(a, "from", 0, least=0)
    size = _whole(a, "size", len(series.buckets), least=1) if series.buckets else 0
    skips = _gap(a) == "skip"
    # The keys of filters and ranges are their names.
    named = isinstance(series.aggregation.kind, FiltersAggregation | RangesAggregation)
    if begin >= len(series.buckets):
        series.buckets = []
        return
    if not sorts:
        series.buckets = series.buckets[begin : begin + size]
        return
    found: list[tuple[Bucket, list[Any]]] = []
    for bucket in series.buckets:
        values: list[Any] = []
        for path, _ in sorts:
            key = bucket.name if named else bucket.key
            value = key if path == "_key" else _value(bucket, path, _gap(a))
            none = value is None or (skips and isinstance(value, float) and math.isnan(value))
            values.append(None if none else value)
        if any(v is not None for v in values):
            found.append((bucket, values))
        yield
    for i in reversed(range(len(sorts))):
        there = [f for f in found if f[1][i] is not None]
        if not sorts[i][1]:  # backwards twice, so that equal ones stay in order
            there.reverse()
        there = yield from sorted_by(there, lambda f, i=i: f[1][i])  # type: ignore[misc]  # binds this turn's place
        if not sorts[i][1]:
            there.reverse()
        found = there + [f for f in found if f[1][i] is None]
    series.buckets = [bucket for bucket, _ in found[begin : begin + size]]


def _sorts(a: Aggregation) -> Iterator[tuple[str, bool]]:
    """Yield by what to sort, and whether from the least on."""
    given = _kind(a).options.get("sort", [])
    for one in given if isinstance(given, list | tuple) else [given]:
        if isinstance(one, str):
            yield one, True
        elif isinstance(one, dict) and len(one) == 1:
            ((path, how),) = one.items()
            order = how.get("order", "asc") if isinstance(how, dict) else how
            yield path, str(order).lower() != "desc"
        else:
            raise SearchRefused(f"bucket_sort aggregation [{a.name}] has a sort that is no field with its order")


def _read_beside(a: Aggregation, results: Mapping[str, Result]) -> Series:
    """Return the buckets that a pipeline beside them reads. Raises SearchRefused."""
    series = results.get(_elements(_path(a))[0])
    if not isinstance(series, Series):
        raise SearchRefused(
            f"Validation Failed: 1: buckets_path aggregation does not exist for aggregation [{a.name}]: {_path(a)};",
            "action_request_validation_exception",
        )
    return series


def _beside(a: Aggregation, results: Mapping[str, Result]) -> Work[Measured]:
    kind, series = _kind(a), _read_beside(a, results)
    rest = _elements(_path(a))[1:]
    found: list[tuple[Bucket, float]] = []
    for bucket in series.buckets:
        value = _resolve(bucket, rest, _gap(a))
        if value is not None and not math.isnan(value):
            found.append((bucket, value))
        yield
    values = [value for _, value in found]
    match kind.kind:
        case "avg_bucket":
            return _simple(a, sum(values) / len(values) if values else math.nan)
        case "sum_bucket":
            return _simple(a, float(sum(values)))
        case "stats_bucket":
            stats: dict[str, float | int] = {
                "count": len(values),
                "min": min(values, default=math.inf),
                "max": max(values, default=-math.inf),
                "avg": sum(values) / len(values) if values else math.nan,
                "sum": float(sum(values)),
            }
            printed = ("min", "max", "avg", "sum") if values else ()
            return Measured("stats_bucket", stats, _printer(a), printed, meta=a.meta)
    best = min(values, default=math.inf) if kind.kind == "min_bucket" else max(values, default=-math.inf)
    keys = {"keys": [bucket.name for bucket, value in found if value == best]}
    return Measured("bucket_metric_value", {"value": best}, _printer(a), ("value",), keys, a.meta)


def _simple(a: Aggregation, value: float, type_name: str = "simple_value") -> Measured:
    return Measured(type_name, {"value": value}, _printer(a), ("value",), meta=a.meta)


def _printer(a: Aggregation) -> Any:
    pattern = _kind(a).options.get("format")
    return number_printer(pattern) if isinstance(pattern, str) and pattern else None


def _kind(a: Aggregation) -> PipelineAggregation:
    assert isinstance(a.kind, PipelineAggregation)
    return a.kind


def _gap(a: Aggregation) -> str:
    return str(_kind(a).options.get("gap_policy", "skip")).lower()


def _whole(a: Aggregation, name: str, default: int | None, least: int | None = None) -> int:
    given: Any = _kind(a).options.get(name, default)
    try:
        value = int(given)
    except (TypeError, ValueError) as e:
        raise SearchRefused(f"[{name}] of aggregation [{a.name}] has to be a whole number") from e
    if least is not None and value < least:
        raise SearchRefused(f"[{name}] of aggregation [{a.name}] has to be at least [{least}]")
    return value


def _unit_ms(unit: Any) -> float:
    text = str(unit)
    if (known := _CALENDAR_MS.get(_WORDS.get(text, text))) is not None:
        return known
    try:
        return parse_time_value(text, "unit").milliseconds
    except ValueError as e:
        raise SearchRefused(str(e)) from e


def _path(a: Aggregation) -> str:
    paths = list(_paths(a).values())
    if len(paths) != 1:
        raise SearchRefused(f"buckets_path of aggregation [{a.name}] must name one aggregation")
    return paths[0]


def _paths(a: Aggregation) -> dict[str, str]:
    """Return what is read, by the names that scripts have for it."""
    given = _kind(a).options.get("buckets_path", {})
    if isinstance(given, str):
        return {"_value": given}
    if isinstance(given, list):
        return {f"_value{i}": str(path) for i, path in enumerate(given)}
    return {str(name): str(path) for name, path in given.items()} if isinstance(given, dict) else {}


def _names(a: Aggregation, bucket: Bucket) -> dict[str, float] | None:
    """Return the values that a script reads of a bucket; None: one is missing, and the bucket is left as it is."""
    names: dict[str, float] = {}
    for name, path in _paths(a).items():
        value = _value(bucket, path, _gap(a))
        if _gap(a) == "skip" and (value is None or math.isnan(value)):
            return None
        names[name] = math.nan if value is None else value
    return names


def _ordered(aggregations: Sequence[Aggregation]) -> list[Aggregation]:
    """Return the pipelines among them, each after those that it reads. Raises SearchRefused where they read in turn."""
    pipelines = {a.name: a for a in aggregations if isinstance(a.kind, PipelineAggregation)}
    reads = {name: {r for r in _read_by(a) if r in pipelines and r != name} for name, a in pipelines.items()}
    read_by: dict[str, list[str]] = {}
    for name, others in reads.items():
        for other in others:
            read_by.setdefault(other, []).append(name)
    waits_for = {name: len(others) for name, others in reads.items()}
    ready = deque(name for name, count in waits_for.items() if not count)
    done: dict[str, Aggregation] = {}
    while ready:
        name = ready.popleft()
        done[name] = pipelines[name]
        for other in read_by.get(name, ()):
            waits_for[other] -= 1
            if not waits_for[other]:
                ready.append(other)
    if len(done) < len(pipelines):
        raise SearchRefused(
            f"Cyclical dependency found with pipeline aggregator {next(n for n in reads if n not in done)}"
        )
    return list(done.values())


def _read_by(a: Aggregation) -> Iterator[str]:
    paths = [path for path, _ in _sorts(a)] if _kind(a).kind == "bucket_sort" else list(_paths(a).values())
    for path in paths:
        yield _elements(path)[0]
        yield path


def _elements(path: str) -> list[str]:
    """Return the parts of a path: `a>b.avg` is a, b, avg."""
    *through, last = path.split(">")
    name, dot, part = last.rpartition(".")
    return [*through, name, part] if dot and "]" not in part else [*through, last]


def _value(bucket: Bucket, path: str, gap: str) -> float | None:
    if path in bucket.results or ("." in path and ">" not in path and _elements(path)[0] not in bucket.results):
        return _resolve(bucket, [path], gap)
    return _resolve(bucket, _elements(path), gap)


def _resolve(bucket: Bucket, elements: Sequence[str], gap: str) -> float | None:
    """Return the number that a path leads to, gaps filled as asked for; None: the bucket has no such result."""
    value = _property(bucket, elements)
    if value is None:
        return None
    none = not math.isfinite(value)
    if none or (bucket.count == 0 and list(elements) != ["_count"]):
        if gap == "insert_zeros":
            return 0.0
        return value if gap == "keep_values" and not none else math.nan
    return float(value)


def _property(bucket: Bucket, elements: Sequence[str]) -> float | int | None:
    place = bucket
    for i, element in enumerate(elements):
        last = i == len(elements) - 1
        if element == "_count" and last:
            return place.count
        if element == "_key" and last and isinstance(place.key, int | float):
            return place.key
        name, key = _with_key(element)
        found = place.results.get(name)
        if found is None:
            return None
        if isinstance(found, Measured):
            return _of_measured(found, elements[i + 1 :], name)
        rest = elements[i + 1 :]
        if list(rest) == ["_bucket_count"]:
            return len(found.buckets)
        if key is None and not _is_single(found):
            raise _not_a_number(name)
        inner = next(iter(found.buckets), None) if key is None else found.named(key)
        if inner is None:
            return None
        place = inner
    raise _not_a_number(elements[-1] if elements else "")


def _of_measured(found: Measured, rest: Sequence[str], name: str) -> float | int:
    if len(rest) <= 1 and (part := rest[0] if rest else "value") in found.values:
        return found.values[part]
    if len(rest) == 1 and rest[0] == "normalized_value" and "value" in found.values:
        return found.values["value"]
    if not rest:
        raise SearchRefused(
            "buckets_path must reference either a number value or a single value numeric metric aggregation, but "
            f"[{name}] contains multiple values. Please specify which to use.",
            "aggregation_execution_exception",
        )
    raise SearchRefused(f"path not supported for [{name}]: [{', '.join(rest)}]")


def _not_a_number(name: str) -> SearchRefused:
    return SearchRefused(
        "buckets_path must reference either a number value or a single value numeric metric aggregation, got: buckets "
        f"at aggregation [{name}]",
        "aggregation_execution_exception",
    )


def _is_single(series: Series) -> bool:
    return bool(getattr(series.aggregation.kind, "single", False))


def _with_key(element: str) -> tuple[str, str | None]:
    """Return the name and the key of `name['key']`."""
    at = element.find("[")
    if at <= 0 or not element.endswith("]"):
        return element, None
    return element[:at], element[at + 1 : -1].strip("'\"")
