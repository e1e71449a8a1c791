"""Of two mistakes in one creation the answer is about the one that Elasticsearch comes to first.

Each list is in that order; each pair of its entries is tried together, in both orders of the text where that matters.
"""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest

from rollup_operator.rollup.source_rules import SourceField
from rollup_operator.stores.base import RollupIndex
from support.bodies import hourly, sensor
from support.http_calls import Client, call, deepest
from support.http_double import Cluster

PATH = "/_rollup/job/sensor"


def written(*fields: str, **values: Any) -> dict[str, Any]:
    """A configuration with these fields written first, in this order."""
    whole = sensor(**values)
    return {name: whole[name] for name in fields} | whole


async def reason(client: Client, body: dict[str, Any]) -> tuple[int, str]:
    status, answer = await call(client, "PUT", PATH, body)
    return status, deepest(answer)["reason"]


# While the text is read, the first place counts

READING: dict[str, tuple[str, Any, str]] = {
    "unknown field": ("headers", {}, "unknown field [headers]"),
    "type": ("cron", 5, "cron doesn't support values of type: VALUE_NUMBER"),
    "no whole number": ("page_size", 1.5, "1.5 cannot be converted to Integer without data loss"),
    "timeout": ("timeout", "10", "failed to parse setting [timeout] with value [10] as a time value"),
    "unknown field within groups": ("groups", hourly(zone="UTC"), "unknown field [zone]"),
    "a rule within groups": (
        "groups",
        hourly() | {"histogram": {"fields": ["load"], "interval": 0}},
        "Interval must be a positive long",
    ),
    "missing within groups": ("groups", {"terms": {"fields": ["node"]}}, "Required [date_histogram]"),
    "a rule within metrics": (
        "metrics",
        [{"field": "load", "metrics": ["median"]}],
        "Unsupported metric [median]",
    ),
    "missing within metrics": ("metrics", [{"field": "load"}], "Required [metrics]"),
}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pair
        for one, other in combinations(READING, 2)
        for pair in ((one, other), (other, one))
        if READING[one][0] != READING[other][0]
    ],
)
async def test_of_what_is_wrong_in_the_text_the_first_place_counts(client: Client, first: str, second: str) -> None:
    (name, value, text), (other, beside, _) = READING[first], READING[second]
    status, answer = await reason(client, written(name, other, **{name: value, other: beside}))
    assert (status, answer.count(text)) == (400, 1), answer


# Then what is missing, then the rules for the whole, then ours, then the source, then the target, then the id

MISSING = "Required [index_pattern, rollup_index, cron, page_size]"


@pytest.mark.parametrize("name", READING)
async def test_what_is_wrong_in_the_text_comes_before_what_is_missing_from_it(client: Client, name: str) -> None:
    field, value, text = READING[name]
    assert text in (await reason(client, {field: value}))[1]
    assert text in (await reason(client, {"index_pattern": "", field: value}))[1]


@pytest.mark.parametrize("beside", [{}, {"metrics": []}, {"groups": hourly()}, {"id": ""}, {"timeout": "5s"}])
async def test_what_is_missing_is_listed(client: Client, beside: dict[str, Any]) -> None:
    assert await reason(client, beside) == (400, MISSING)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"page_size": None}, "Required [page_size]"),
    "id": ({"id": ""}, "Id must be a non-null, non-empty string"),
    "index_pattern": ({"index_pattern": ""}, "Index pattern must be a non-null, non-empty string"),
    "rollup_index": ({"rollup_index": ""}, "Rollup index must be a non-null, non-empty string"),
    "match-all": (
        {"index_pattern": "*"},
        "Index pattern must not match all indices (as it would match it's own rollup index",
    ),
    "cron": ({"cron": ""}, "Cron schedule must be a non-null, non-empty string"),
    "page_size": ({"page_size": 0}, "Page size is mandatory and  must be a positive long"),
    "nothing to roll up": ({"groups": None, "metrics": None}, "At least one grouping or metric must be configured"),
    "no groups": ({"groups": None}, "Required [groups]"),
    # Ours
    "id of all": ({"id": "_all"}, "Id must not be [_all], which means all jobs"),
    "cron of Unix": ({"cron": "00 14 * * *"}, "invalid cron expression [00 14 * * *]"),
    "large page": ({"page_size": 10_001}, "Page size is [10001], but must be at most [10000]"),
    "name of the target": ({"rollup_index": "Out"}, "must be in lower case: 'out' would do"),
    # The source
    "source": ({"index_pattern": "weather"}, "no such index [weather]"),
}


@pytest.mark.parametrize(("first", "second"), list(combinations(WRONG, 2)))
async def test_of_two_mistakes_the_first_is_reported(client: Client, cluster: Cluster, first: str, second: str) -> None:
    (one, text), (other, _) = WRONG[first], WRONG[second]
    if one.keys() & other.keys():
        pytest.skip("both cannot be made in one body")
    cluster.create("sensor")  # its id is looked at last of all
    status, answer = await reason(client, sensor(**other | one))
    assert (status, text in answer) == (404 if first == "source" else 400, True), answer
    assert cluster.posted == []


def no_store(cluster: Cluster) -> None:
    cluster.shelves.clear()


def no_source(cluster: Cluster) -> None:
    cluster.shelf.pattern = "weather-*"


def no_field(cluster: Cluster) -> None:
    cluster.shelf.has = cluster.shelf.has | {"temperature": SourceField(frozenset({"keyword"}))}


def no_rollup_index(cluster: Cluster) -> None:
    cluster.shelf.target = RollupIndex(frozenset(), "_meta key")


def described(cluster: Cluster) -> None:
    target = cluster.shelf.target
    cluster.shelf.target = RollupIndex(frozenset({"sensor"}), "" if target is None else target.lacks)


def remembered(cluster: Cluster) -> None:
    cluster.shelf.remember("sensor", {}, index="sensor_rollup")


def has_a_job(cluster: Cluster) -> None:
    cluster.create("sensor", rollupIndex="elsewhere")


OUTSIDE: list[tuple[Callable[[Cluster], None], int, str]] = [
    (no_store, 400, "No RollupStore named [default]"),
    (no_source, 400, "Validation Failed: 1: Could not find any fields"),
    (no_field, 400, "Validation Failed: 1: The field referenced by a metric group must be"),
    (no_rollup_index, 500, "Rollup data cannot be added to existing indices"),
    (described, 409, "job was previously created (existing metadata)"),
    (remembered, 409, "job was previously created (existing metadata)"),
    (has_a_job, 409, "it has already been created (task exists)"),
]


@pytest.mark.parametrize(
    ("first", "second"),
    list(combinations(OUTSIDE, 2)),
    ids=lambda case: case[0].__name__ if isinstance(case, tuple) else "",
)
async def test_of_two_things_outside_the_first_is_reported(
    client: Client,
    cluster: Cluster,
    first: tuple[Callable[[Cluster], None], int, str],
    second: tuple[Callable[[Cluster], None], int, str],
) -> None:
    for change in (second[0], first[0]) if first[0] is no_store else (first[0], second[0]):
        change(cluster)
    status, answer = await reason(client, sensor())
    assert (status, first[2] in answer) == (first[1], True), answer
    assert cluster.posted == []


async def test_the_rules_for_fields_are_reported_together(client: Client, cluster: Cluster) -> None:
    no_field(cluster)
    del cluster.shelf.has["node"]
    status, answer = await reason(client, sensor())
    assert status == 400
    assert "1: Could not find a [numeric] or [keyword/text] field with name [node]" in answer
    assert "2: The field referenced by a metric group must be a [numeric] or [date,date_nanos] type" in answer
