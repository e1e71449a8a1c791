from typing import Any

import pytest

from rollup_operator.http.filter_path import filtered

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
            ".".join(["**"] * 1000 + ["job_state"]),
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
