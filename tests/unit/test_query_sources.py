"""Which sources the names of a search mean."""

from dataclasses import replace

import pytest

from rollup_operator.model.job import RollupJobSpec
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.reading.request import Door
from rollup_operator.query.sources import Catalog, IndexOptions, NoSuchIndex, SearchedJob
from support.portions import result


def job(index: str, job_id: str, pattern: str, store: str = "default") -> SearchedJob:
    return SearchedJob(index, job_id, store, pattern, _no_spec)


def _no_spec() -> RollupJobSpec:
    raise AssertionError("nobody reads a spec in order to find a name")


HOURLY = job("flights-hourly", "h", "flights-*")
DAILY = job("flights-daily", "d", "flights-*")
SENSORS = job("sensors", "s", "sensor-a,sensor-b")
ELSEWHERE = job("flights-elsewhere", "e", "flights-*", "other")
ALL = [HOURLY, DAILY, SENSORS]

FLIGHTS_WHOLE = [("flights-*", {"h", "d"}, "flights-*")]
SENSORS_WHOLE = [("sensor-a,sensor-b", {"s"}, "sensor-a,sensor-b")]


def means(
    names: str, door: Door = "search", jobs: list[SearchedJob] = ALL, **options: bool
) -> list[tuple[str, set[str], str | None]]:
    catalog = result(Catalog().take_in(jobs))
    found = result(catalog.resolve([n for n in names.split(",") if n], IndexOptions(**options), door))
    return [(of.index_pattern, {j.job_id for j in of.jobs}, of.live) for of in found]


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        ("flights-hourly", FLIGHTS_WHOLE),
        ("flights-*", FLIGHTS_WHOLE),
        ("flights-hourly,flights-daily,flights-*", FLIGHTS_WHOLE),
        ("flights*", FLIGHTS_WHOLE),
        ("sensor-a,sensor-b", SENSORS_WHOLE),
        ("sensors", SENSORS_WHOLE),
        ("", FLIGHTS_WHOLE + SENSORS_WHOLE),
        ("_all", FLIGHTS_WHOLE + SENSORS_WHOLE),
        ("*", FLIGHTS_WHOLE + SENSORS_WHOLE),
        ("*,-sens*", FLIGHTS_WHOLE),
        ("*,-sensors,-sensor-a*", FLIGHTS_WHOLE),
        ("nothing*", []),
    ],
)
def test_a_rollup_index_and_its_source_are_one_index(names: str, meant: object) -> None:
    assert means(names) == meant


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        ("flights-hourly", [("flights-*", {"h"}, None)]),
        ("flights-hourly,flights-daily", [("flights-*", {"h", "d"}, None)]),
        ("flights-hourly,flights-2024", [("flights-*", {"h"}, "flights-2024")]),
        ("flights-hourly,flights-2023,flights-2024", [("flights-*", {"h"}, "flights-2023,flights-2024")]),
        ("flights-hourly,flights-*", [("flights-*", {"h"}, "flights-*")]),
        ("flights-2024", [("flights-*", set(), "flights-2024")]),
    ],
)
def test_rollup_search_reads_what_is_named_and_no_more(names: str, meant: object) -> None:
    assert means(names, "rollup_search") == meant


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("trips/*.parquet", "trips/private/a.parquet"),  # a star stands for characters within one name
        ("trips/*.parquet", "trips/.a.parquet"),  # and finds nothing that is hidden
        ("*-logs", ".security-logs"),
        ("*-logs", "-logs-logs"),
        ("*-logs", "other:a-logs"),  # of another cluster
        ("logs*", "logs:secret"),
        ("*>", "<a-{now/d}>"),
        ("trips*", "trips/a.parquet"),
        ("trips*", "trips.parquet"),  # a table's pattern names no files
        ("trips*", "trips.CSV.gz"),
    ],
)
def test_a_single_name_is_none_that_its_sources_pattern_does_not_find(pattern: str, name: str) -> None:
    with pytest.raises(NoSuchIndex):
        means(name, "rollup_search", [job("rolled", "j", pattern)])


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("trips/*.parquet", "trips/a.parquet"),
        ("*/*.csv", "trips/a.csv"),
        ("other:logs-*", "other:logs-2024"),
        (".hidden-*", ".hidden-1"),
        ("sensor-a,sensor-b", "sensor-a"),
        ("trips*", "trips.2024-a_b+c"),
    ],
)
def test_a_single_name_that_its_sources_pattern_finds_is_read(pattern: str, name: str) -> None:
    assert means(name, "rollup_search", [job("rolled", "j", pattern)]) == [(pattern, set(), name)]


def test_what_an_index_says_of_its_source_leads_to_no_row() -> None:
    doors: tuple[Door, ...] = ("search", "rollup_search")
    history = replace(job("history", "old", "secret-*"), has_rows=False)  # Elasticsearch made it
    for door in doors:
        for names in ("history", "*", "history,secret-*"):
            assert means(names, door, [history]) == [("secret-*", {"old"}, None)]
        assert means("secret-*", door, [history]) == []
        with pytest.raises(NoSuchIndex, match="secret-1"):
            means("history,secret-1", door, [history])


def test_candidates_are_all_jobs_that_a_name_may_mean() -> None:
    catalog = result(Catalog().take_in([*ALL, ELSEWHERE]))

    def of(*names: str) -> set[str]:
        return {found.job_id for found in result(catalog.candidates(names))}

    assert of("flights-daily") == {"d", "h", "e"}  # one of the same source may answer, and of one that may find it
    assert of("flights-*") == {"d", "h", "e"}
    assert of("flights-2024") == {"d", "h", "e"}
    assert of("sensor-a", "nothing") == {"s"}
    assert of("nothing") == set()


def test_a_name_that_means_nothing_is_not_found() -> None:
    for names in ("weather", "flights-hourly,weather"):
        with pytest.raises(NoSuchIndex, match="weather"):
            means(names)
    assert means("weather,sensors", ignore_unavailable=True) == SENSORS_WHOLE
    with pytest.raises(NoSuchIndex, match="nothing"):
        means("nothing*", allow_no_indices=False)
    assert means("flights*", expands=False) == []


def test_a_part_of_a_source_is_refused_where_what_is_rolled_up_belongs_to_all_of_it() -> None:
    with pytest.raises(SearchRefused, match=r"\[sensor-a\] is a part of the source \[sensor-a,sensor-b\] of job \[s\]"):
        means("sensor-a")


@pytest.mark.parametrize(
    ("patterns", "apart"),
    [
        (("logs-*", "logs-2024-*"), False),
        (("logs-*", "logs-1"), False),
        (("logs-*-eu", "logs-1*"), False),
        (("logs-*-eu", "logs-*-us"), True),
        (("logs-*", "metrics-*"), True),
        (("logs-1", "logs-2"), True),
    ],
)
def test_sources_that_may_share_rows_are_not_added(patterns: tuple[str, str], apart: bool) -> None:
    jobs = [job(f"r{i}", "x", pattern) for i, pattern in enumerate(patterns)]
    if apart:
        assert len(means("r0,r1", jobs=jobs)) == 2
    else:
        with pytest.raises(SearchRefused, match="would count twice"):
            means("r0,r1", jobs=jobs)


def test_sources_of_two_stores_are_two_sources() -> None:
    assert len(means("flights-*", jobs=[HOURLY, ELSEWHERE])) == 2


OTHERS = [
    job("flights-2024", "o", "secret"),  # a rollup index that is called as a part of a source is
    job("other", "p", "flights-2024"),
    job("other", "q", "flights-hourly,flights-2024"),
    job("other", "r", "flights*"),
]


@pytest.mark.parametrize("names", ["flights-2024", "flights-hourly,flights-2024", "flights*", "flights-*", "f*,-o*"])
@pytest.mark.parametrize("door", ["search", "rollup_search"])
def test_jobs_that_the_caller_may_not_search_change_nothing(names: str, door: Door) -> None:
    every = result(Catalog().take_in([HOURLY, *OTHERS]))
    mine = [one for one in result(every.candidates(names.split(","))) if one is HOURLY]

    def answered(jobs: list[SearchedJob]) -> object:
        try:
            return means(names, door, jobs)
        except SearchRefused as e:
            return e.reason

    assert mine == [HOURLY]
    assert answered(mine) == answered([HOURLY])


@pytest.mark.parametrize("count", [1, 3_000])
def test_what_a_request_may_name_says_nothing_of_how_many_jobs_there_are(count: int) -> None:
    jobs = [job(f"index-{i}", str(i), f"source-{i}-*") for i in range(count)]
    catalog = result(Catalog().take_in(jobs))
    for names in (["nothing"] * 400, ["*n*o*t*h*"] * 16):
        assert result(catalog.candidates(names)) == []
    for names, why in ((["nothing"] * 401, r"\[401\] names"), (["*n*o*t*h*"] * 20, r"wildcards of \[120\] parts")):
        with pytest.raises(SearchRefused, match=why):
            result(catalog.candidates(names))
    if count > 1:
        with pytest.raises(SearchRefused, match=r"means \[3000\] sources"):
            means("*", jobs=jobs)
