"""Reads the aggregations that are computed from others, and checks that they stand where they can be. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from rollup_operator.model.time_values import parse_time_value
from rollup_operator.query.aggregations import (
    Aggregation,
    DateHistogramAggregation,
    HistogramAggregation,
    MetricAggregation,
    PipelineAggregation,
)
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.reading.json_values import LONGEST_NAME, PARSING, X_CONTENT, integer, shown, token

BESIDE: Final = frozenset({"avg_bucket", "max_bucket", "min_bucket", "stats_bucket", "sum_bucket"})
"""Computed of buckets beside them."""

OVER_TIME: Final = frozenset({"cumulative_sum", "derivative", "moving_fn", "serial_diff"})
"""Computed over the order of a histogram's buckets, within them."""

WITHIN: Final = frozenset({"bucket_script", "bucket_selector", "bucket_sort"})
"""Computed within the buckets of any aggregation."""

PIPELINES: Final = BESIDE | OVER_TIME | WITHIN

LONGEST_SCRIPT: Final = 4_096
MOST_PATHS: Final = 16

_OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "bucket_script": frozenset({"format", "gap_policy", "script"}),
    "bucket_selector": frozenset({"gap_policy", "script"}),
    "bucket_sort": frozenset({"from", "gap_policy", "size", "sort"}),
    "cumulative_sum": frozenset({"format"}),
    "derivative": frozenset({"format", "gap_policy", "unit"}),
    "moving_fn": frozenset({"format", "gap_policy", "script", "shift", "window"}),
    "serial_diff": frozenset({"format", "gap_policy", "lag"}),
}
_BESIDE_OPTIONS: Final = frozenset({"format", "gap_policy"})
_GAPS: Final = ("insert_zeros", "skip", "keep_values")
_OWN: Final = frozenset({"_count", "_key", "_bucket_count"})
_CALENDAR: Final = frozenset(
    {
        "second",
        "minute",
        "hour",
        "day",
        "week",
        "month",
        "quarter",
        "year",
        "1s",
        "1m",
        "1h",
        "1d",
        "1w",
        "1M",
        "1q",
        "1y",
    }
)
_VALIDATION: Final = "action_request_validation_exception"


def read_pipeline(kind: str, name: str, body: Mapping[str, Any]) -> PipelineAggregation:
    """Read a pipeline. Raises SearchRefused."""
    known = _OPTIONS.get(kind, _BESIDE_OPTIONS)
    options: dict[str, Any] = {}
    for option, value in body.items():
        if option not in known and (option != "buckets_path" or kind == "bucket_sort"):
            raise SearchRefused(f"[{kind}] unknown field [{shown(option)}]", X_CONTENT)
        try:
            options[option] = _checked(kind, option, value)
        except SearchRefused as e:
            raise SearchRefused(f"[{kind}] failed to parse field [{option}] in [{name}]: {e.reason}", e.kind) from e
    if kind != "bucket_sort" and "buckets_path" not in options:
        raise SearchRefused(f"Missing required field [buckets_path] for {kind} aggregation [{name}]", PARSING)
    for needed in {"bucket_script": ["script"], "bucket_selector": ["script"], "moving_fn": ["window", "script"]}.get(
        kind, []
    ):
        if needed not in options:
            raise SearchRefused(f"Missing required field [{needed}] for {kind} aggregation [{name}]", PARSING)
    if kind == "bucket_sort" and not options.keys() & {"sort", "size", "from"}:
        raise _invalid(
            f"[{name}] is configured to perform nothing. Please set either of [sort, size, from] to use bucket_sort"
        )
    return PipelineAggregation(kind, options)


def check_pipelines(aggregations: Sequence[Aggregation], parent: Aggregation | None) -> None:
    """Refuse pipelines that stand where they cannot be computed, or read what is not there."""
    names = {one.name: one for one in aggregations}
    for one in aggregations:
        if not isinstance(one.kind, PipelineAggregation):
            continue
        kind = one.kind.kind
        if kind in OVER_TIME:
            _check_histogram(kind, one.name, parent)
        elif kind in WITHIN and parent is None:
            raise _invalid(f"{kind} aggregation [{one.name}] must be declared inside of another aggregation")
        elif kind in WITHIN and parent is not None and getattr(parent.kind, "single", False):
            raise _invalid(
                f"{kind} aggregation [{one.name}] must be declared inside of an aggregation of several buckets, which "
                f"[{parent.name}] is not"
            )
        for path in paths(one.kind):
            first, *rest = path.split(">")
            target = _element(first, names)
            if target is None:
                raise _invalid(f"No aggregation found for path [{shown(path)}]")
            if kind in BESIDE:
                _check_beside(one, path, names.get(target), rest)


def paths(pipeline: PipelineAggregation) -> Iterator[str]:
    """Yield what a pipeline reads."""
    given = pipeline.options.get("buckets_path", ())
    if isinstance(given, str):
        yield given
    elif isinstance(given, Mapping):
        yield from given.values()
    else:
        yield from given
    for sort in pipeline.options.get("sort", ()):
        yield sort if isinstance(sort, str) else next(iter(sort))


def _check_histogram(kind: str, name: str, parent: Aggregation | None) -> None:
    told = f"{kind} aggregation [{name}] must have a histogram, date_histogram or auto_date_histogram as parent"
    if parent is None:
        raise _invalid(f"{told} but doesn't have a parent")
    if not isinstance(parent.kind, DateHistogramAggregation | HistogramAggregation):
        raise _invalid(told)
    if parent.kind.min_doc_count != 0:
        raise _invalid(f"parent histogram of {kind} aggregation [{name}] must have min_doc_count of 0")


def _check_beside(one: Aggregation, path: str, found: Aggregation | None, rest: Sequence[str]) -> None:
    if found is None or isinstance(found.kind, MetricAggregation | PipelineAggregation):
        raise _invalid(
            "Unable to find unqualified multi-bucket aggregation in buckets_path. Path must include a multi-bucket "
            f"aggregation for aggregation [{one.name}] for buckets path: {shown(path)}"
        )
    if rest and _element(rest[0], {sub.name for sub in found.subs}) is None:
        raise _invalid(f"No aggregation [{shown(rest[0])}] found for path [{shown(path)}]")


def _element(element: str, names: Collection[str]) -> str | None:
    """Return the aggregation that an element of a path is about; None: there is none."""
    if element in names or element in _OWN:
        return element
    for name in (element.rpartition(".")[0], element.partition("[")[0]):
        if name in names or name in _OWN:
            return name
    return None


def _checked(kind: str, option: str, value: Any) -> Any:
    match option:
        case "buckets_path":
            return _buckets_path(kind, value)
        case "format":
            return _text(value)
        case "gap_policy":
            if (policy := _text(value)) not in _GAPS:
                raise SearchRefused(
                    f"Invalid gap policy: [{shown(policy)}], accepted values: [{', '.join(_GAPS)}]", PARSING
                )
            return policy
        case "unit":
            return _unit(_text(value))
        case "lag" | "window" | "size":
            if (number := integer(value)) < 1:
                raise SearchRefused(f"[{option}] must be a positive, non-zero integer: [{number}]")
            return number
        case "shift":
            return integer(value)
        case "from":
            if (number := integer(value)) < 0:
                raise SearchRefused(f"[from] must be a non-negative integer: [{number}]")
            return number
        case "sort":
            return _sorts(value)
    return _script(value)


def _buckets_path(kind: str, value: Any) -> Any:
    if isinstance(value, str):
        return _short(value)
    takes_names = kind in ("bucket_script", "bucket_selector")
    if isinstance(value, list) and len(value) <= MOST_PATHS and (takes_names or len(value) == 1):
        found = [_short(_text(one)) for one in value]
        return found if takes_names else found[0]
    if isinstance(value, dict) and takes_names and len(value) <= MOST_PATHS:
        return {
            _short(name): _short(str(path) if isinstance(path, int | float) else _text(path))
            for name, path in value.items()
        }
    raise SearchRefused(f"Unexpected token {token(value)}", PARSING)


def _sorts(value: Any) -> tuple[Any, ...]:
    """Read by what buckets are sorted: names, or objects of a name and how."""
    given = value if isinstance(value, list) else [value]
    if len(given) > MOST_PATHS or isinstance(value, str):
        raise SearchRefused(f"sort doesn't support values of type: {token(value)}", X_CONTENT)
    found: list[Any] = []
    for one in given:
        if isinstance(one, str):
            found.append(_short(one))
            continue
        if not isinstance(one, dict):
            raise SearchRefused(f"sort doesn't support values of type: {token(one)}", X_CONTENT)
        for path, how in one.items():
            order = how.get("order", "asc") if isinstance(how, dict) else how
            if not isinstance(order, str) or order.lower() not in ("asc", "desc"):
                raise SearchRefused(
                    f"No enum constant org.elasticsearch.search.sort.SortOrder.{shown(str(order).upper())}"
                )
            found.append({_short(path): {"order": order.lower()}})
    return tuple(found)


def _script(value: Any) -> Any:
    source = value
    if isinstance(value, dict):
        source = value.get("source", value.get("inline"))
        if not isinstance(value.get("params", {}), dict) or len(value.get("params", {})) > MOST_PATHS:
            raise SearchRefused("[params] of a script has to be an object")
        if "id" in value:
            raise SearchRefused("stored scripts cannot be answered here: give their [source]")
    if not isinstance(source, str):
        raise SearchRefused(f"script doesn't support values of type: {token(source)}", X_CONTENT)
    if len(source) > LONGEST_SCRIPT:
        raise SearchRefused(f"a script has at most [{LONGEST_SCRIPT}] characters, this one has [{len(source)}]")
    return value


def _unit(value: str) -> str:
    if value not in _CALENDAR:
        try:
            if parse_time_value(value[:64], "DerivativePipelineAggregationBuilder.unit").milliseconds <= 0:
                raise SearchRefused("Zero or negative time interval not supported")
        except ValueError as e:
            raise SearchRefused(str(e)) from e
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise SearchRefused(f"Unexpected token {token(value)}", PARSING)
    return _short(value)


def _short(value: str) -> str:
    if len(value) > LONGEST_NAME:
        raise SearchRefused(f"[{shown(value)}] is longer than [{LONGEST_NAME}] characters")
    return value


def _invalid(reason: str) -> SearchRefused:
    return SearchRefused(f"Validation Failed: 1: {reason};", _VALIDATION)
