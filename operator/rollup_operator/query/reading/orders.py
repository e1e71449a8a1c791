"""Reads by what buckets are sorted. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from rollup_operator.query.aggregations import (
    Aggregation,
    FiltersAggregation,
    MetricAggregation,
    Order,
    PipelineAggregation,
)
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.reading.json_values import LONGEST_NAME, PARSING, shown, token

MOST: Final = 8
"""Orders of one aggregation."""

BY_KEY: Final = (Order("_key", True),)
BY_COUNT: Final = (Order("_count", False), Order("_key", True))

_OWN: Final = {"_key": "_key", "_term": "_key", "_time": "_key", "_count": "_count"}
_STATS: Final = frozenset({"count", "min", "max", "avg", "sum"})


def read_order(given: Any) -> tuple[Order, ...]:
    """Read one order or a list of them. Raises SearchRefused."""
    found = tuple(_orders(given))
    if not found:
        raise SearchRefused("Must specify at least one field for [order]", PARSING)
    if len(found) > MOST:
        raise SearchRefused(f"at most [{MOST}] orders are read")
    return found


def _orders(given: Any) -> Iterator[Order]:
    for one in given if isinstance(given, list) else [given]:
        if not isinstance(one, dict):
            raise SearchRefused(f"Unexpected token [{token(one)}] for [order]", PARSING)
        if not one:
            raise SearchRefused("Must specify at least one field for [order]", PARSING)
        for path, direction in one.items():
            if not isinstance(direction, str):
                raise SearchRefused(f"Unexpected token [{token(direction)}] for [order]", PARSING)
            if direction.lower() not in ("asc", "desc"):
                raise SearchRefused(f"Unknown order direction [{shown(direction)}]", PARSING)
            if len(path) > LONGEST_NAME:
                raise SearchRefused(f"an order path has at most [{LONGEST_NAME}] characters")
            yield Order(str(_OWN.get(path, path)), direction.lower() == "asc")


def checked_order(order: Sequence[Order], subs: Sequence[Aggregation]) -> tuple[Order, ...]:
    """Return the orders with one spelling of their paths. Raises SearchRefused where one leads to no number."""
    return tuple(
        one if one.path in ("_key", "_count") else Order(_checked_path(one.path, subs), one.ascending) for one in order
    )


def _checked_path(path: str, subs: Sequence[Aggregation]) -> str:
    def wrong(why: str) -> SearchRefused:
        return SearchRefused(f"Invalid aggregation order path [{shown(path)}]. {why}")

    names = path.split(">")
    if names and not names[-1] and len(names) > 1:
        names.pop()
    *above, last = names
    last, key = _value_key(last)
    if not last or key == "":
        raise SearchRefused(f"Invalid path element [{shown(names[-1])}] in path [{shown(path)}]")
    for name in above:
        found = _named(name, subs)
        if found is None:
            raise wrong(f"Cannot find aggregation named [{shown(name)}]")
        if isinstance(found.kind, MetricAggregation):
            raise wrong(f"Metrics aggregations cannot have sub-aggregations (at [>{shown(last)}]")
        if not (isinstance(found.kind, FiltersAggregation) and found.kind.single):
            raise wrong(f"Can't sort by a descendant of a [{found.type_name}] aggregation [{shown(name)}]")
        subs = found.subs
    found = _named(last, subs)
    if found is None:
        raise wrong(f"Cannot find aggregation named [{shown(last)}]")
    match found.kind:
        case MetricAggregation(kind="stats"):
            if key is None:
                raise wrong(f"Missing value key in [{shown(last)}] which refers to a multi-value metric aggregation")
            if key not in _STATS:
                raise wrong(
                    f"No enum constant org.elasticsearch.search.aggregations.metrics.InternalStats.Metrics.{shown(key)}"
                )
            return ">".join([*above, f"{last}.{key}"])
        case MetricAggregation():
            if key not in (None, "value"):
                raise wrong(
                    f"Unknown value key [{shown(str(key))}] for single-value metric aggregation [{shown(last)}]. "
                    "Either use [value] as key or drop the key all together"
                )
        case FiltersAggregation(single=True):
            if key not in (None, "doc_count"):
                raise wrong(
                    f"Unknown value key [{shown(str(key))}] for single-bucket aggregation [{shown(last)}]. Either use "
                    "[doc_count] as key or drop the key all together."
                )
        case PipelineAggregation():
            raise wrong(
                f"The provided aggregation [{shown(last)}] either does not exist, or is a pipeline aggregation and "
                "cannot be used to sort the buckets."
            )
        case _:
            raise wrong(f"Can't sort a [{found.type_name}] aggregation [{shown(last)}]")
    return ">".join([*above, last])


def _value_key(element: str) -> tuple[str, str | None]:
    """Cut `1.avg` and `1[avg]` into the aggregation's name and which of its values is meant."""
    if element.endswith("]") and "[" in element:
        name, _, key = element[:-1].rpartition("[")
        return name, key
    name, dot, key = element.rpartition(".")
    return (name, key) if dot else (element, None)


def _named(name: str, subs: Sequence[Aggregation]) -> Aggregation | None:
    return next((one for one in subs if one.name == name), None)
