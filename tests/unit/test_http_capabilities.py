"""The capabilities: which jobs each call tells of, and what of each."""

from typing import Any

import pytest

from rollup_operator.concurrency.portions import in_portions
from rollup_operator.http.access.permits import EndpointAction
from rollup_operator.http.api.capabilities import Described, by_index, by_pattern
from rollup_operator.http.protocol.dialects import DIALECTS
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.query.sources import IndexOptions
from rollup_operator.stores.errors import StoreNotFound, StoreUnavailable
from support.access_double import Anybody
from support.http_calls import Client, call, error, served
from support.http_double import Cluster, Shelf
from support.portions import result, watched

GROUPS: dict[str, Any] = {
    "dateHistogram": {"field": "timestamp", "fixedInterval": "1h", "delay": "7d", "timeZone": "Europe/Berlin"},
    "histogram": {"fields": ["load", "net"], "interval": 5},
    "terms": {"fields": ["node"]},
}
METRICS = [{"field": "load", "metrics": ["min", "avg"]}, {"field": "temperature", "metrics": ["max"]}]
SPEC = {"indexPattern": "sensor-*", "rollupIndex": "sensor_rollup", "groups": GROUPS, "metrics": METRICS}


def entry(job_id: str = "sensor", index: str = "sensor_rollup", pattern: str = "sensor-*") -> dict[str, Any]:
    """What is told of a job with SPEC."""
    return {
        "job_id": job_id,
        "rollup_index": index,
        "index_pattern": pattern,
        "fields": {
            "timestamp": [
                {"agg": "date_histogram", "fixed_interval": "1h", "delay": "7d", "time_zone": "Europe/Berlin"}
            ],
            "load": [{"agg": "histogram", "interval": 5}, {"agg": "min"}, {"agg": "avg"}],
            "net": [{"agg": "histogram", "interval": 5}],
            "node": [{"agg": "terms"}],
            "temperature": [{"agg": "max"}],
        },
    }


async def ids(client: Client, path: str) -> dict[str, list[str]]:
    """Call, and return the ids under each key."""
    status, answer = await call(client, "GET", path)
    assert status == 200, answer
    return {key: [job["job_id"] for job in value["rollup_jobs"]] for key, value in answer.items()}


# By index pattern


@pytest.mark.parametrize("path", ["/_rollup/data/sensor-*", "/_xpack/rollup/data/sensor-%2A/", "/_rollup/data/_all"])
async def test_a_job_of_a_pattern(client: Client, cluster: Cluster, path: str) -> None:
    cluster.create("sensor", **SPEC)
    assert await call(client, "GET", path) == (200, {"sensor-*": {"rollup_jobs": [entry()]}})


@pytest.mark.parametrize("path", ["/_rollup/data", "/_rollup/data/", "/_xpack/rollup/data", "/_rollup/data/*"])
async def test_all_patterns(client: Client, cluster: Cluster, path: str) -> None:
    cluster.create("b", **SPEC)
    cluster.create("a", **SPEC)
    cluster.create("c", **SPEC | {"indexPattern": "flights,trips"})
    cluster.create("d", "other", **SPEC)
    assert await ids(client, path) == {"sensor-*": ["a", "b"], "flights,trips": ["c"]}
    assert await ids(client, f"/namespaces/other{path}") == {"sensor-*": ["d"]}


@pytest.mark.parametrize("pattern", ["sensor-1", "sensor", "s*", "flights"])
async def test_a_pattern_is_compared_as_it_was_written(client: Client, cluster: Cluster, pattern: str) -> None:
    cluster.create("sensor", **SPEC)
    cluster.create("list", **SPEC | {"indexPattern": "flights,trips"})
    assert await ids(client, f"/_rollup/data/{pattern}") == {}
    assert await ids(client, "/_rollup/data/flights,trips") == {"flights,trips": ["list"]}


async def test_jobs_come_in_order_of_their_ids(client: Client, cluster: Cluster) -> None:
    for name in ("c", "a", "b"):
        cluster.create(name, jobId={"c": "1", "a": "2", "b": "B"}[name], **SPEC)
    cluster.shelf.remember("15", SPEC, index="sensor_rollup")
    assert await ids(client, "/_rollup/data/_all") == {"sensor-*": ["1", "15", "2", "B"]}


async def test_version_6_tells_the_interval_in_its_words(cluster: Cluster) -> None:
    cluster.create("sensor", **SPEC)
    async with served(cluster, compat_version=6) as client:
        _, answer = await call(client, "GET", "/_xpack/rollup/data/_all")
    [shown] = answer["sensor-*"]["rollup_jobs"][0]["fields"]["timestamp"]
    assert shown == {"agg": "date_histogram", "interval": "1h", "delay": "7d", "time_zone": "Europe/Berlin"}


async def test_defaults_are_answered(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", groups={"dateHistogram": {"field": "t", "calendarInterval": "1d"}})
    _, answer = await call(client, "GET", "/_rollup/data/_all")
    [job] = answer["sensor-*"]["rollup_jobs"]
    assert job["fields"] == {"t": [{"agg": "date_histogram", "calendar_interval": "1d", "time_zone": "UTC"}]}


async def test_a_job_that_cannot_be_used_hides_no_other(client: Client, cluster: Cluster) -> None:
    cluster.create("broken", indexPattern="x", groups=[], metrics=7)
    cluster.create("sensor", **SPEC)
    assert (await ids(client, "/_rollup/data/_all"))["sensor-*"] == ["sensor"]


# By rollup index


@pytest.fixture
def indices(cluster: Cluster) -> Cluster:
    """Two rollup indices: one of two jobs, one of a job that is deleted."""
    cluster.create("a", **SPEC)
    cluster.create("b", **SPEC | {"indexPattern": "flights"})
    cluster.shelf.remember("gone", SPEC | {"rollupIndex": "old_rollup"}, index="old_rollup")
    return cluster


NEW, OLD = {"sensor_rollup": ["a", "b"]}, {"old_rollup": ["gone"]}


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("sensor_rollup", NEW),
        ("old_rollup", OLD),
        ("sensor_rollup,old_rollup", NEW | OLD),
        ("*_rollup", NEW | OLD),
        ("sens*", NEW),
        ("_all", NEW | OLD),
        ("*", NEW | OLD),
        ("*,-old*", NEW),
        ("*_rollup,-sensor_rollup", OLD),
        ("nothing*", {}),
        ("old_rollup,nothing*", OLD),
        ("flights", {}),
        ("sensor-2024,old_rollup", OLD),
    ],
)
@pytest.mark.parametrize("base", ["_rollup", "_xpack/rollup"])
async def test_indices_that_are_named(
    client: Client, indices: Cluster, expression: str, found: dict[str, list[str]], base: str
) -> None:
    assert await ids(client, f"/{expression}/{base}/data") == found


@pytest.mark.parametrize("expression", ["missing", "sensor_rollup,missing", "-old_rollup", "*,missing"])
async def test_a_missing_concrete_index(client: Client, indices: Cluster, expression: str) -> None:
    missing = "-old_rollup" if expression.startswith("-") else "missing"
    path = f"/{expression}/_rollup/data"
    assert await call(client, "GET", path) == error(404, "index_not_found_exception", f"no such index [{missing}]")
    assert isinstance(await ids(client, f"{path}?ignore_unavailable=true"), dict)


@pytest.mark.parametrize(
    ("expression", "options", "found"),
    [
        ("missing,old_rollup", "ignore_unavailable=true", OLD),
        ("*", "expand_wildcards=open,hidden", NEW | OLD),
        ("*", "expand_wildcards=all&allow_no_indices=false", NEW | OLD),
        ("*", "expand_wildcards=none", {}),
        ("*", "expand_wildcards=closed&ignore_throttled=true", {}),
    ],
)
async def test_options(
    client: Client, indices: Cluster, expression: str, options: str, found: dict[str, list[str]]
) -> None:
    assert await ids(client, f"/{expression}/_rollup/data?{options}") == found


async def test_options_that_leave_nothing(client: Client, indices: Cluster) -> None:
    for path in (
        "/x*/_rollup/data?allow_no_indices=false",
        "/_all/_rollup/data?allow_no_indices=false&expand_wildcards=none",
    ):
        status, answer = await call(client, "GET", path)
        assert (status, answer["error"]["type"]) == (404, "index_not_found_exception")


async def test_options_that_cannot_be_used(client: Client) -> None:
    for query, reason in (
        ("expand_wildcards=some", "No valid expand wildcard value [some]"),
        ("ignore_unavailable=x", "Failed to parse value [x] as only [true] or [false] are allowed."),
    ):
        answer = await call(client, "GET", f"/x/_rollup/data?{query}")
        assert answer == error(400, "illegal_argument_exception", reason)


# What the stores remember


async def test_deleted_jobs_stay_known_as_long_as_their_documents(client: Client, cluster: Cluster) -> None:
    cluster.shelf.remember("kept", SPEC, index="sensor_rollup")
    cluster.shelf.remember("emptied", SPEC, index="sensor_rollup", documents=False)
    cluster.shelf.remember("of an early version", None, index="sensor_rollup")
    assert await call(client, "GET", "/_rollup/data/sensor-*") == (
        200,
        {"sensor-*": {"rollup_jobs": [entry("kept")]}},
    )


async def test_of_a_job_that_exists_the_resource_tells(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", **SPEC)
    cluster.shelf.remember("sensor", SPEC | {"metrics": []}, index="sensor_rollup")
    cluster.shelf.remember("sensor", SPEC | {"rollupIndex": "before"}, index="before")
    assert await call(client, "GET", "/sensor_rollup/_rollup/data") == (
        200,
        {"sensor_rollup": {"rollup_jobs": [entry()]}},
    )
    assert await ids(client, "/_all/_rollup/data") == {"sensor_rollup": ["sensor"], "before": ["sensor"]}


async def test_every_store_of_the_namespace_is_asked(client: Client, cluster: Cluster) -> None:
    second = cluster.shelves["default", "second"] = Shelf()
    elsewhere = cluster.shelves["other", "default"] = Shelf()
    for shelf, index in ((cluster.shelf, "one"), (second, "two"), (elsewhere, "three")):
        shelf.remember("job", SPEC | {"rollupIndex": index}, index=index)
    assert await ids(client, "/_all/_rollup/data") == {"one": ["job"], "two": ["job"]}


async def test_a_store_that_is_down_is_reported_instead_of_half_an_answer(client: Client, cluster: Cluster) -> None:
    cluster.create("sensor", **SPEC)
    cluster.shelf.fail = StoreUnavailable("locked by process 7")
    status, answer = await call(client, "GET", "/_rollup/data/_all")
    assert (status, answer["error"]["reason"]) == (503, "RollupStore [default]: locked by process 7")
    cluster.shelf.fail = StoreNotFound("deleted")
    assert await ids(client, "/_rollup/data/_all") == {"sensor-*": ["sensor"]}


# Who may


async def test_only_what_may_be_read_is_answered(cluster: Cluster) -> None:
    access = Anybody()
    access.denied = {(EndpointAction.GET, ""), (EndpointAction.GET, "a")}
    cluster.create("a", **SPEC | {"rollupIndex": "secret"})
    cluster.create("b", **SPEC)
    cluster.shelf.remember("gone", SPEC, index="sensor_rollup")
    async with served(cluster, access) as client:
        assert await ids(client, "/_rollup/data/_all") == {"sensor-*": ["b"]}
        assert await ids(client, "/_all/_rollup/data") == {"sensor_rollup": ["b"]}
        assert (await call(client, "GET", "/secret/_rollup/data"))[0] == 404
        assert (await call(client, "GET", "/_xpack/usage"))[1]["rollup"]["number_of_rollup_jobs"] == 1


# What names may cost


LIMIT = (
    "[index] takes more than [2000000] comparisons with the names of the jobs' indices, which is the limit; "
    "give fewer names, or names with fewer wildcards"
)


def many(count: int) -> list[Described]:
    """Jobs with an index and a source of their own each."""
    specs = ({**SPEC, "rollupIndex": f"rollup-{n}", "indexPattern": f"source-{n}-*"} for n in range(count))
    return [Described.remembered(f"job-{n}", spec) for n, spec in enumerate(specs)]


def resolved(jobs: list[Described], expression: str, **options: bool) -> set[str]:
    return set(result(by_index(jobs, expression, IndexOptions(**options), DIALECTS[8])))


@pytest.mark.parametrize(
    "expression", [",".join(f"*a{n}*" for n in range(80)), "a*" * 250, ",".join(f"source-7-{n}" for n in range(110))]
)
def test_names_that_take_too_many_comparisons_are_refused(expression: str) -> None:
    assert resolved(many(100), expression) == set()
    with pytest.raises(ApiError) as refused:
        resolved(many(10_000), expression)
    assert (refused.value.status, refused.value.reason) == (400, LIMIT)


def test_names_without_wildcards_take_none() -> None:
    jobs = many(10_000)
    assert len(resolved(jobs, ",".join(f"rollup-{n}" for n in range(800)))) == 800
    assert len(resolved(jobs, ",".join(f"absent-{n}" for n in range(800)), ignore_unavailable=True)) == 0
    assert len(resolved(jobs, "_all")) == 10_000


async def test_names_hold_the_loop_for_a_portion_at_a_time() -> None:
    jobs = many(5_000)
    for expression in (",".join(f"*a{n}*" for n in range(50)), "a*" * 300, "rollup-*", "source-7-x,source-8-y"):
        async with watched() as loop:
            await in_portions(by_index(jobs, expression, IndexOptions(), DIALECTS[8]))
        assert loop.longest < 0.05
    async with watched() as loop:
        await in_portions(by_pattern(jobs, "_all", DIALECTS[8]))
    assert loop.longest < 0.05
