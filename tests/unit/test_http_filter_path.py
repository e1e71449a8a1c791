from typing import Any

import pytest

from rollup_operator.concurrency.portions import in_portions
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.protocol.filter_path import Filter
from support.portions import result, watched


def filtered(answer: dict[str, Any], filter_path: str) -> dict[str, Any]:
    return result(Filter(filter_path).applied(answer))


JOBS: dict[str, Any] = {
    "jobs": [
        {"config": {"id": "a", "cron": "x"}, "status": {"job_state": "stopped"}, "stats": {"pages_processed": 1}},
        {"config": {"id": "b", "cron": "y"}, "status": {"job_state": "started", "current_position": {"t.h": 7}}},
    ]
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", JOBS),
        ("jobs.config.id", {"jobs": [{"config": {"id": "a"}}, {"config": {"id": "b"}}]}),
        ("jobs.c*.i*", {"jobs": [{"config": {"id": "a"}}, {"config": {"id": "b"}}]}),
        ("**.job_state", {"jobs": [{"status": {"job_state": "stopped"}}, {"status": {"job_state": "started"}}]}),
        ("jobs.stats", {"jobs": [{"stats": {"pages_processed": 1}}]}),
        ("jobs.**.pages_processed", {"jobs": [{"stats": {"pages_processed": 1}}]}),
        (r"**.current_position.t\.h", {"jobs": [{"status": {"current_position": {"t.h": 7}}}]}),
        (
            "jobs.config.id, jobs.status.job_state",
            {
                "jobs": [
                    {"config": {"id": "a"}, "status": {"job_state": "stopped"}},
                    {"config": {"id": "b"}, "status": {"job_state": "started"}},
                ]
            },
        ),
        ("jobs.config,-**.cron", {"jobs": [{"config": {"id": "a"}}, {"config": {"id": "b"}}]}),
        (
            "-jobs.config,-**.stats,-**.current_position",
            {"jobs": [{"status": {"job_state": s}} for s in ("stopped", "started")]},
        ),
        (
            ".".join(["**"] * 200 + ["job_state"]),
            {"jobs": [{"status": {"job_state": s}} for s in ("stopped", "started")]},
        ),
        ("*", JOBS),
        ("**", JOBS),
        ("-**", {}),
        ("nothing", {}),
        ("jobs.config.id.deeper", {}),
        ("jobs.config.[i]d", {}),
    ],
)
def test_filter_path_keeps_what_it_names(path: str, expected: dict[str, Any]) -> None:
    assert filtered(JOBS, path) == expected


def test_falsy_values_are_values() -> None:
    assert filtered({"a": {"b": None, "c": 0, "d": ""}}, "a.*") == {"a": {"b": None, "c": 0, "d": ""}}


# What a filter may cost


NAMES = {f"name{i}": {"value": i} for i in range(20_000)}


@pytest.mark.parametrize("path", ["**.*a*", "-**.*a*", "a.**.b"])
def test_as_many_any_depths_as_a_filter_may_have(path: str) -> None:
    filtered(JOBS, ",".join([path] * 8))
    with pytest.raises(ApiError) as refused:
        filtered(JOBS, ",".join([path] * 9))
    assert (refused.value.status, refused.value.reason) == (
        400,
        "[filter_path] has [**] more than [8] times, which is the limit; "
        "write out the names that lead to what is wanted",
    )


def test_a_filter_of_an_answer_with_too_many_names_is_refused() -> None:
    with pytest.raises(ApiError) as refused:
        filtered(NAMES, ",".join(["*n" * 60] * 64))
    assert (refused.value.status, refused.value.reason) == (
        400,
        "[filter_path] takes more than [2000000] comparisons for this answer, which is the limit; "
        "give fewer paths, or paths with fewer wildcards",
    )


def test_names_that_come_again_are_compared_once() -> None:
    jobs = {"jobs": JOBS["jobs"] * 20_000}
    paths = ",".join(f"jobs.*{letter}*.*x{i}*" for letter in "aeiou" for i in range(12))
    assert filtered(jobs, paths) == {}


@pytest.mark.parametrize("path", ["**.*n*", "-**.*n*", ",".join(f"*x{i}*" for i in range(20))])
async def test_a_filter_holds_the_loop_for_a_portion_at_a_time(path: str) -> None:
    async with watched() as loop:
        await in_portions(Filter(path).applied({"jobs": JOBS["jobs"] * 5_000, **NAMES}))
    assert loop.longest < 0.05


def test_between_two_yields_lies_one_container_or_one_new_name() -> None:
    """Whatever the names are: an answer cannot make a step long."""
    assert sum(1 for _ in Filter("nothing").applied(NAMES)) >= len(NAMES)
    assert sum(1 for _ in Filter("jobs.nothing").applied({"jobs": JOBS["jobs"] * 1_000})) >= 2_000
