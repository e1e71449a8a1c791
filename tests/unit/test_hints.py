"""What is said in place of a name that there is not."""

import pytest

from rollup_operator.model.hints import instead, near, series


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("@timestamp", ["timestamp"]),
        ("Time_Hour", ["time_hour"]),
        ("time-hour", ["time_hour"]),
        ("arr_dely", ["arr_delay"]),
        ("timestmp", ["timestamp"]),
        ("delay", ["dep_delay", "arr_delay"]),
        ("colour", []),
        ("", []),
    ],
)
def test_a_name_means_those_that_are_written_alike(name: str, meant: list[str]) -> None:
    assert near(name, ["arr_delay", "carrier", "dep_delay", "time_hour", "timestamp"]) == meant


def test_what_there_is_is_listed_behind_what_is_meant() -> None:
    assert instead("flight/*.parquet", ["flights/*.parquet", "trips/*.csv"]) == (
        "did you mean 'flights/*.parquet'? There are 'flights/*.parquet', 'trips/*.csv'"
    )
    assert instead("x", ["flights"]) == "there is 'flights'"
    assert instead("flight", ["flights"]) == "did you mean 'flights'?"
    assert instead("x", []) == ""
    assert instead("zzz", [f"a{i}" for i in range(12)]).endswith("'a9' and 2 more")


def test_names_that_differ_in_numbers_are_one_series() -> None:
    names = ["logs-2024.01.02", "logs-2024.01.01", "trips-1", "flights", "a7b", "a8b"]
    assert series(names) == ["a7b", "a8b", "flights", "logs-*", "trips-1"]


def test_only_so_much_is_compared() -> None:
    there = [f"{'ab' * 200}{i}" for i in range(3000)]
    assert near("ab" * 100_000, there) == there[:1]  # by the beginning of each
    assert near("last", [*there, "last"]) == []
